//! The port to the devices that are connected.

use std::sync::Arc;

use crate::id::Sn;
use crate::task::Task;

/// A task that is to be announced.
pub type Announcement = Arc<Task>;

/// The way to devices. Both are called from a thread of the store, outside any
/// runtime, between a commit and the answers to it: they must not block, and
/// must not panic. Nothing here waits: a message to a device that has just
/// gone is dropped, because the store still knows what it was about and the
/// device is told again when it connects.
pub trait Link: Send + Sync + 'static {
    /// Tells a device that a task is waiting (`tsk`).
    fn announce(&self, task: Announcement);
    /// Closes a device's connection because it is no longer authorised.
    fn revoke(&self, sn: &Sn);
}
