//! Queues to the threads of a store: bounded, and refusing rather than waiting.

use covey_core::error::StorageFault;
use crossbeam_channel::{Sender, TrySendError};

/// Puts something into a queue; there is none once the store is stopped.
pub(crate) fn put<T>(queue: Option<&Sender<T>>, what: T) -> Result<(), StorageFault> {
    queue.ok_or(StorageFault::Stopped)?.try_send(what).map_err(|error| match error {
        TrySendError::Full(_) => StorageFault::Overloaded,
        TrySendError::Disconnected(_) => StorageFault::Stopped,
    })
}
