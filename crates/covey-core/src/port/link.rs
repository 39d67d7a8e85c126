//! The port to the devices that are connected.

use std::sync::Arc;

use crate::id::Sn;
use crate::port::BoxFuture;
use crate::task::Task;

/// A task that is to be announced.
pub type Announcement = Arc<Task>;

/// The way to devices. [`announce`](Self::announce) and [`revoke`](Self::revoke) are called from a thread of the store, outside any
/// runtime, between a commit and the answers to it: they must not block, and
/// must not panic. Nothing here waits: a message to a device that has just
/// gone is dropped, because the store still knows what it was about and the
/// device is told again when it connects.
pub trait Link: Send + Sync + 'static {
    /// Tells a device that a task is waiting (`tsk`).
    fn announce(&self, task: Announcement);
    /// Closes a device's connection because it is no longer authorised.
    fn revoke(&self, sn: &Sn);

    /// Makes it possible for a device that was just registered to connect. A
    /// link that cannot do so now says so in the log and goes on trying: the
    /// device is registered all the same, and a key that was made for it is
    /// told only once.
    fn admit(&self, sn: &Sn) -> BoxFuture<'_, ()>;

    /// Whether no message to devices can leave now, so that new tasks would
    /// only pile up.
    fn is_blocked(&self) -> bool {
        false
    }

    /// Whether every server of a deployment reaches every device through this
    /// link, as with a broker that they share.
    fn is_shared(&self) -> bool;
}
