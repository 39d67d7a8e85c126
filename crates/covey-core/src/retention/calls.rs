//! What can be asked of how long things are kept.

use crate::access::Rights;
use crate::budget::Weight;
use crate::engine::{Engine, ForCaller, ForServer};
use crate::error::{Error, Result};
use crate::retention::{
    AUDIT_DAYS_MIN, DAYS_MAX, OrgRetention, Prune, RetentionClass, RetentionDays, RetentionPut, RetentionRun,
};

impl Engine {
    /// For how many days things are kept of organisations that say nothing else.
    #[must_use]
    pub fn retention_default(&self) -> &RetentionDays {
        &self.parts.retention
    }
}

impl ForCaller<'_> {
    /// What the caller's organisation keeps for a time of its own.
    ///
    /// # Errors
    /// A missing right, or the store's.
    pub async fn retention_own(self) -> Result<Vec<OrgRetention>> {
        self.caller.require(Rights::KEYS_WRITE)?;
        let mut own = self.engine.parts.store.retention_of_every_org().await?;
        own.retain(|own| own.org == self.caller.org);
        Ok(own)
    }

    /// Sets for how many days the caller's organisation keeps things: 0 means
    /// for ever, none as long as all others.
    ///
    /// # Errors
    /// A missing right, a number out of range, or the store's.
    pub async fn retention_put(self, days: Vec<(RetentionClass, Option<u32>)>) -> Result<()> {
        self.caller.require(Rights::KEYS_WRITE)?;
        let too_long = days.iter().find(|(_, days)| days.is_some_and(|days| days > DAYS_MAX));
        if let Some((kept, _)) = too_long {
            return Err(Error::invalid(kept.name(), "must be 0 to 36500"));
        }
        let is_too_short = |(kept, days): &(RetentionClass, Option<u32>)| {
            *kept == RetentionClass::Audit && days.is_some_and(|days| (1..AUDIT_DAYS_MIN).contains(&days))
        };
        if days.iter().any(is_too_short) {
            return Err(Error::invalid("audit", "must be 0, or 30 to 36500"));
        }
        // Who keeps its entries for longer than others keeps those of the others, too, which follow in the same chains.
        let default = self.engine.parts.retention.of(RetentionClass::Audit);
        let is_longer = |(kept, days): &(RetentionClass, Option<u32>)| {
            *kept == RetentionClass::Audit
                && default > 0
                && days.is_some_and(|days| days == 0 || days > default)
        };
        if days.iter().any(is_longer) {
            self.caller.require(Rights::ORGS_ADMIN)?;
        }
        // It may make room.
        self.charge_relief(Weight::WRITE)?;
        self.engine.execute(RetentionPut { caller: self.caller.clone(), days }).await.map(drop)
    }

    /// Forgets what is too old, for a caller who does not want to wait for the
    /// next time: a bounded amount. Answers how much, and whether there is more.
    ///
    /// # Errors
    /// A missing right, a budget that is used up, or the store's.
    pub async fn retention_run(self) -> Result<(Vec<(RetentionClass, u64)>, bool)> {
        self.caller.require(Rights::KEYS_WRITE)?;
        // Whatever it forgets, it leaves an entry.
        self.charge(Weight::WRITE)?;
        self.engine.execute(RetentionRun { caller: self.caller.clone() }).await?;
        self.engine.server().prune().await
    }
}

impl ForServer<'_> {
    /// Forgets what is too old: a bounded amount. Answers how much, and whether there is more.
    ///
    /// # Errors
    /// The store's.
    pub async fn prune(self) -> Result<(Vec<(RetentionClass, u64)>, bool)> {
        let of_orgs = self.engine.parts.store.retention_of_every_org().await?;
        let now = self.engine.now();
        let (mut counts, mut is_more) = (Vec::new(), false);
        for (kept, ..) in RetentionClass::NAMES {
            let after = self.engine.pruned(kept);
            let what = Prune { after, ..Prune::at(kept, &self.engine.parts.retention, &of_orgs, now) };
            if what.youngest().is_none() {
                continue;
            }
            let pruned = self.engine.parts.store.prune(what).await?;
            self.engine.set_pruned(kept, pruned.next.unwrap_or(0));
            if kept == RetentionClass::Events && pruned.count > 0 {
                self.engine.series.forget();
            }
            is_more |= pruned.next.is_some();
            counts.push((kept, pruned.count));
        }
        Ok((counts, is_more))
    }
}
