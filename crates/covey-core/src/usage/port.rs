//! What operations and callers ask the store of what was used.

use crate::id::{DeviceKey, OrgId};
use crate::port::{Found, TxResult};
use crate::usage::{Usage, UsageDay};

/// The steps on what was used inside a transaction.
pub trait UsageSteps {
    /// Adds to what an organisation has used on the day of this transaction; [`Usage::active_devices`] is none of it.
    fn usage_add(&mut self, org: OrgId, usage: Usage) -> TxResult<()>;

    /// Notes that a device was heard on the day of this transaction.
    fn usage_heard(&mut self, org: OrgId, device: DeviceKey) -> TxResult<()>;

    /// Counts the devices that were heard on days before this one, and forgets which they were: so many at most. Answers
    /// how many; none while another server does it.
    fn usage_settle_of_every_org(&mut self, before: i64, limit: u32) -> TxResult<u64>;

    /// Forgets what was used on days before this one: so many rows at most. Answers how many.
    fn usage_forget_of_every_org(&mut self, before: i64, limit: u32) -> TxResult<u64>;
}

/// The reads of what was used.
pub trait UsageReader {
    /// What an organisation has used between two days, both included: those days on which it has used something, the
    /// earliest first.
    fn usage_of_every_org(&self, org: OrgId, from: i64, to: i64) -> Found<'_, Vec<UsageDay>>;
}
