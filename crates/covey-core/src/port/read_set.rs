//! What jobs will read, told before they run.

use crate::event::EventKey;
use crate::id::{DeviceKey, OrgId, TaskId};
use crate::task::DeviceRef;

/// What a group of jobs will ask its transaction for. A store with a network
/// between itself and its database fetches it in one go; a hint, no promise: a
/// job may ask for more, or for less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSet {
    /// Tasks by their id.
    pub tasks: Vec<(OrgId, TaskId)>,
    /// Devices whose best eligible task is wanted, one entry a request.
    pub best: Vec<(OrgId, DeviceKey)>,
    /// Devices that a caller names, with the number of open tasks up to which
    /// theirs are to be counted.
    pub targets: Vec<(OrgId, DeviceRef, u32)>,
    /// Idempotency keys.
    pub idempotency: Vec<(OrgId, String)>,
    /// Events of which it is to be known whether they are stored.
    pub events: Vec<(DeviceKey, EventKey)>,
    /// The same of events that get the transaction's instant as their time,
    /// with their numbers.
    pub events_of_now: Vec<(DeviceKey, u32)>,
    /// How many tasks may be stored.
    pub tasks_new: u32,
    /// How many results may be stored.
    pub results_new: u32,
}
