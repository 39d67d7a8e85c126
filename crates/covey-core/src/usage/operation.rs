//! Operations on what was used.

use crate::audit::AuditEntry;
use crate::device::DeviceIdentity;
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};
use crate::usage::day_of;

/// Notes that a device was heard.
pub struct UsageHeard {
    /// The device.
    pub device: DeviceIdentity,
}

impl Operation for UsageHeard {
    /// The day for which it is noted.
    type Output = i64;

    fn turn(&self) -> Turn {
        Turn::Org(self.device.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<i64, Abort> {
        tx.usage_heard(self.device.org, self.device.device)?;
        Ok(day_of(tx.now()))
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Counts the devices of days that are over.
pub struct UsageSettle {
    /// Of days before this one.
    pub before: i64,
    /// How many devices at most.
    pub limit: u32,
}

impl Operation for UsageSettle {
    /// How many there were.
    type Output = u64;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<u64, Abort> {
        Ok(tx.usage_settle_of_every_org(self.before, self.limit)?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Forgets days that are too old.
pub struct UsageForget {
    /// Those before this one.
    pub before: i64,
    /// How many rows at most.
    pub limit: u32,
}

impl Operation for UsageForget {
    /// How many there were.
    type Output = u64;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<u64, Abort> {
        Ok(tx.usage_forget_of_every_org(self.before, self.limit)?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}
