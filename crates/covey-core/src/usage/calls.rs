//! What is asked of what was used.

use crate::access::Rights;
use crate::engine::{ForCaller, ForDevice, ForServer};
use crate::error::{Error, Result};
use crate::id::OrgId;
use crate::port::ReadKind;
use crate::usage::{
    USAGE_DAYS_MAX, USAGE_SPAN_DAYS, USAGE_SPAN_DAYS_MAX, Usage, UsageDay, UsageForget, UsageHeard,
    UsageReport, UsageSettle, day_of,
};

/// How many devices one transaction counts at most that were heard on days that are over.
/// Limit for each transaction: the rest follows soon.
const SETTLE_MAX: u32 = 1_000;
/// How many rows of days that are too old one transaction forgets at most.
/// Limit for each transaction: the rest follows soon.
const FORGET_MAX: u32 = 1_000;
/// The last day that can be asked for: that of the end of the year 9999.
const LAST_DAY: i64 = 2_932_896;

impl ForCaller<'_> {
    /// What an organisation has used between two days, both included: the caller's own, with the right orgs:admin any.
    /// Without a last day it is today; without a first one there are [`USAGE_SPAN_DAYS`].
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], days out of range, or the store's.
    pub async fn usage(self, org: Option<OrgId>, from: Option<i64>, to: Option<i64>) -> Result<UsageReport> {
        self.caller.require(Rights::AUDIT_READ)?;
        let org = match org.filter(|org| *org != self.caller.org) {
            Some(other) => self.org_of_others(other).await?,
            None => self.caller.org,
        };
        let to = to.unwrap_or_else(|| day_of(self.engine.now()));
        let from = from.unwrap_or(to - USAGE_SPAN_DAYS + 1);
        let is_known = |day| (0..=LAST_DAY).contains(&day);
        if !is_known(to) {
            return Err(Error::invalid("to", "must be a day from 1970-01-01 to 9999-12-31"));
        }
        if !is_known(from) || from > to || to - from >= USAGE_SPAN_DAYS_MAX {
            return Err(Error::invalid("from", "must be a day up to 399 days before `to`, and not after it"));
        }
        let _scan = self.begin_read(ReadKind::Usage)?;
        let found = self.engine.parts.store.usage_of_every_org(org, from, to).await?;
        let mut found = found.into_iter().peekable();
        let days = (from..=to).map(|day| {
            let usage = found.next_if(|one| one.day == day).map_or_else(Usage::default, |one| one.usage);
            UsageDay { day, usage }
        });
        Ok(UsageReport { org, days: days.collect() })
    }

    /// An organisation that is not the caller's.
    async fn org_of_others(self, org: OrgId) -> Result<OrgId> {
        let missing = Error::not_found("organisation");
        if !self.caller.rights.contains(Rights::ORGS_ADMIN) {
            return Err(missing);
        }
        let wanted = crate::token::OrgWanted::Number(org);
        let found = self.engine.parts.store.org_of_every_org(wanted).await?;
        found.map(|found| found.id).ok_or(missing)
    }
}

impl ForDevice<'_> {
    /// The device was heard. It is noted before what it brings, since jobs of an organisation are run in their order.
    pub(crate) fn heard(self) {
        let engine = self.engine;
        let (device, now_us) = (self.device.device, engine.parts.clock.monotonic_us());
        if !engine.after_commit.heard.is_news(device, day_of(engine.now()), now_us) {
            return;
        }
        let operation = UsageHeard { device: self.device.clone() };
        // Nobody waits for it.
        let submitted = engine.submit(operation, move |after, day| after.heard.noted(device, *day));
        if submitted.is_err() {
            engine.after_commit.heard.not_noted(device);
        }
    }
}

impl ForServer<'_> {
    /// Counts devices of days that are over, and forgets days that are too old: a bounded number. Answers whether there
    /// may be more.
    ///
    /// # Errors
    /// The store's.
    pub async fn usage_step(self) -> Result<bool> {
        let today = day_of(self.engine.now());
        // Other servers' clocks may be behind.
        let settle = UsageSettle { before: today - 1, limit: SETTLE_MAX };
        let settled = self.engine.execute(settle).await?;
        let forget = UsageForget { before: today - USAGE_DAYS_MAX + 1, limit: FORGET_MAX };
        let forgotten = self.engine.execute(forget).await?;
        Ok(settled >= u64::from(SETTLE_MAX) || forgotten >= u64::from(FORGET_MAX))
    }
}
