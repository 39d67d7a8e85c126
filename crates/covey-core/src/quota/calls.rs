//! What is asked of what is kept.

use crate::Engine;
use crate::engine::ForServer;
use crate::error::Result;
use crate::id::{OrgId, UnixMs};
use crate::quota::holdings::Unwritten;
use crate::quota::{FLUSH_MS, KeptAdd, KeptForget, day_of, first_days};
use crate::retention::{OrgRetention, Prune, RetentionClass};

/// Of how many devices the store is asked at once.
const DEVICES_MAX: usize = 256;
/// How many rows one transaction forgets at most.
const FORGET_MAX: u32 = 1_000;

impl Engine {
    fn prunes(&self, of_orgs: &[OrgRetention], now: UnixMs) -> Vec<Prune> {
        let prune = |(class, ..)| Prune::at(class, &self.parts.retention, of_orgs, now);
        RetentionClass::NAMES.map(prune).into()
    }

    fn monotonic_ms(&self) -> u64 {
        self.parts.clock.monotonic_us() / 1_000
    }
}

impl ForServer<'_> {
    /// Writes what was counted, and asks the store for those of whom nothing is known. Answers whether there is
    /// more to do at once.
    ///
    /// # Errors
    /// The store's.
    pub async fn quota_step(self) -> Result<bool> {
        let engine = self.engine;
        let now_ms = engine.monotonic_ms();
        let counted_at_ms = engine.swept().counted_at_ms;
        let is_due = counted_at_ms.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= FLUSH_MS);
        self.write(is_due).await?;
        let holdings = &engine.after_commit.holdings;
        if !is_due && !holdings.is_any_wanted() {
            return Ok(false);
        }
        let of_orgs = engine.parts.store.retention_of_every_org().await?;
        let prunes = engine.prunes(&of_orgs, engine.now());
        if is_due {
            let days = engine.parts.store.kept_of_orgs_of_every_org().await?;
            holdings.set_orgs(days, |day| {
                day.class.is_none_or(|class| day.day >= first_days(&prunes, day.org).of(class))
            });
            self.forget_days(&prunes).await?;
            holdings.forget_silent(now_ms);
            engine.swept().counted_at_ms = Some(now_ms);
        }
        let wanted = holdings.wanted(DEVICES_MAX);
        if wanted.is_empty() {
            return Ok(false);
        }
        let is_more = wanted.len() == DEVICES_MAX;
        let asked = wanted.iter().map(|(device, org)| (*device, first_days(&prunes, *org))).collect();
        let stored = engine.parts.store.kept_of_devices_of_every_org(asked).await?;
        for ((device, _), stored) in wanted.into_iter().zip(stored) {
            holdings.set_device(device, stored, now_ms);
        }
        Ok(is_more)
    }

    /// Writes all that was counted, for a server that stops.
    ///
    /// # Errors
    /// The store's.
    pub async fn quota_flush(self) -> Result<()> {
        self.write(true).await
    }

    /// What each organisation keeps, by its name, in bytes.
    #[must_use]
    pub fn kept_by_org(self) -> Vec<(String, u64)> {
        self.engine.after_commit.holdings.of_orgs()
    }

    async fn write(self, is_due: bool) -> Result<()> {
        let holdings = &self.engine.after_commit.holdings;
        loop {
            let unwritten = holdings.take_unwritten(is_due);
            if unwritten.is_empty() {
                return Ok(());
            }
            let Unwritten { of_devices, of_orgs } = unwritten.clone();
            let of_devices = of_devices.into_iter().map(|(device, _, kept)| (device, kept)).collect();
            if let Err(error) = self.engine.execute(KeptAdd { of_devices, of_orgs }).await {
                holdings.put_back(unwritten);
                return Err(error);
            }
        }
    }

    /// Forgets days that are over for everybody.
    async fn forget_days(self, prunes: &[Prune]) -> Result<()> {
        for prune in prunes {
            let Some(oldest) = prune.oldest() else { continue };
            let (class, before_day) = (prune.kept, day_of(oldest));
            self.engine.execute(KeptForget { class, before_day, limit: FORGET_MAX }).await?;
        }
        Ok(())
    }
}
