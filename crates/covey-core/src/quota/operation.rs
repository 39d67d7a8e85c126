//! Operations on what is kept.

use crate::error::Result;
use crate::id::{DeviceKey, OrgId};
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};
use crate::quota::DayKept;
use crate::retention::RetentionClass;

/// Writes what was counted.
pub struct KeptAdd {
    /// Of devices.
    pub of_devices: Vec<(DeviceKey, DayKept)>,
    /// Of organisations.
    pub of_orgs: Vec<(OrgId, DayKept)>,
}

impl Operation for KeptAdd {
    type Output = ();

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        Ok(tx.kept_add(&self.of_devices, &self.of_orgs)?)
    }
}

/// Forgets days that are over.
pub struct KeptForget {
    /// Of what.
    pub class: RetentionClass,
    /// Those before this one.
    pub before_day: i64,
    /// How many rows at most.
    pub limit: u32,
}

impl Operation for KeptForget {
    type Output = u64;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<u64, Abort> {
        Ok(tx.kept_forget_of_every_org(self.class, self.before_day, self.limit)?)
    }
}
