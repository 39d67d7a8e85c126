//! What is asked of what is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Engine;
use crate::engine::ForServer;
use crate::error::Result;
use crate::id::{OrgId, UnixMs};
use crate::quota::{FLUSH_MS, KeptForget, KeptLeave, KeptMark, KeptRecount, OrgDay, first_days};
use crate::retention::{OrgRetention, Prune, RetentionClass};

/// Of how many devices the store is asked at once.
/// Limit for each look: the rest follows at once.
const DEVICES_MAX: usize = 256;
/// How many rows one transaction forgets at most.
/// Limit for each transaction: the rest follows at once.
const FORGET_MAX: u32 = 1_000;
/// How many records one transaction counts again at most.
/// Limit for each transaction: the rest follows at once.
const RECOUNT_MAX: u32 = 1_000;

impl Engine {
    fn prunes(&self, of_orgs: &[OrgRetention], now: UnixMs) -> Vec<Prune> {
        let prune = |class| Prune::at(class, &self.parts.retention, of_orgs, now);
        RetentionClass::NAMES.iter().map(|(class, ..)| prune(*class)).collect()
    }

    fn monotonic_ms(&self) -> u64 {
        self.parts.clock.monotonic_us() / 1_000
    }
}

impl ForServer<'_> {
    /// Writes what was counted, if it is time, and asks the store for those of whom nothing is known. Answers whether
    /// there is more to do at once.
    ///
    /// # Errors
    /// The store's.
    pub async fn quota_step(self) -> Result<bool> {
        let engine = self.engine;
        let now_ms = engine.monotonic_ms();
        let counted_at_ms = engine.swept().counted_at_ms;
        let is_due = counted_at_ms.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= FLUSH_MS);
        let holdings = &engine.after_commit.holdings;
        if !is_due && !holdings.is_any_wanted() {
            return Ok(false);
        }
        if is_due {
            // Before this server has marked a place of its own: where there is one at a time, the place of the
            // one before is that of this one, too.
            self.recount().await?;
            self.write().await?;
        }
        let of_orgs = engine.parts.store.retention_of_every_org().await?;
        let prunes = engine.prunes(&of_orgs, engine.now());
        if is_due {
            let days = engine.parts.store.kept_of_orgs_of_every_org().await?;
            let is_over =
                |day: &OrgDay| day.class.filter(|class| day.day < first_days(&prunes, day.org).of(*class));
            let mut over: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for day in &days {
                if let Some(class) = is_over(day) {
                    over.entry((class, day.day)).or_default().push(day.org);
                }
            }
            holdings.set_orgs(days, |day| is_over(day).is_none());
            self.forget_days(over).await?;
            holdings.forget_silent(now_ms);
            engine.swept().counted_at_ms = Some(now_ms);
        }
        let wanted = holdings.wanted(DEVICES_MAX);
        if wanted.is_empty() {
            return Ok(false);
        }
        let asked = wanted.iter().map(|(org, device)| (*device, first_days(&prunes, *org))).collect();
        let stored = engine.parts.store.kept_of_devices_of_every_org(asked).await?;
        for ((_, device), stored) in wanted.into_iter().zip(stored) {
            holdings.set_device(device, stored, now_ms);
        }
        Ok(holdings.is_any_wanted())
    }

    /// Writes all that was counted, for a server that stops.
    ///
    /// # Errors
    /// The store's.
    pub async fn quota_flush(self) -> Result<()> {
        if self.engine.swept().counted_at_ms.is_none() {
            // What the server before it has left was not counted yet; the next one counts both.
            return Ok(());
        }
        self.write().await?;
        self.engine.execute(KeptLeave).await
    }

    /// What each organisation keeps, by its name, in bytes.
    #[must_use]
    pub fn kept_by_org(self) -> Vec<(String, u64)> {
        self.engine.after_commit.holdings.of_orgs()
    }

    /// Counts what servers have stored that were killed before they wrote what they had counted.
    async fn recount(self) -> Result<()> {
        for left in self.engine.parts.store.kept_left_of_every_org().await? {
            while self.engine.execute(KeptRecount { left, limit: RECOUNT_MAX }).await? {}
        }
        Ok(())
    }

    async fn write(self) -> Result<()> {
        let holdings = &self.engine.after_commit.holdings;
        if !holdings.is_writing() {
            // Jobs of a group are completed in the order in which they ran, before the next group begins.
            self.engine.execute_then(KeptMark, |after, ()| after.holdings.begin_writing()).await?;
        }
        while let Some(rows) = holdings.next_rows() {
            let to = rows.to;
            self.engine.execute(rows).await?;
            holdings.written(to);
        }
        Ok(())
    }

    /// Forgets days that are over, each for some organisations: others may keep longer, or for ever.
    async fn forget_days(self, over: BTreeMap<(RetentionClass, i64), Vec<OrgId>>) -> Result<()> {
        for ((class, day), orgs) in over {
            let orgs: Arc<[OrgId]> = orgs.into();
            let forget = || KeptForget { class, day, orgs: Arc::clone(&orgs), limit: FORGET_MAX };
            while self.engine.execute(forget()).await? >= u64::from(FORGET_MAX) {}
        }
        Ok(())
    }
}
