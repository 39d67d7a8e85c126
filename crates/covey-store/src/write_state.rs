//! Whether writes succeed, for those who ask without writing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use covey_core::error::StorageFault;

/// How long a store has nothing to commit before it looks whether it could.
pub(crate) const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// What the last commit, or the last look, has met. Its thread writes it once a
/// group, so the lock is free whenever someone asks.
#[derive(Default)]
pub(crate) struct WriteState(Mutex<Option<StorageFault>>);

impl WriteState {
    /// Keeps an outcome. A change goes to the log.
    pub(crate) fn set(&self, fault: Option<StorageFault>) {
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), fault);
        match (before, fault) {
            (before, Some(fault)) if before != Some(fault) => {
                tracing::error!(%fault, "store refuses writes")
            }
            (Some(_), None) => tracing::info!("store accepts writes again"),
            _ => {}
        }
    }

    pub(crate) fn fault(&self) -> Option<StorageFault> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
