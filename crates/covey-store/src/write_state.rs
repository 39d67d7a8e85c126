//! Whether writes succeed, for those who ask without writing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use covey_core::error::StorageFault;

/// How long a store has nothing to commit before it looks whether it could.
pub(crate) const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// What the last commit, or the last look, has met. Its thread writes it once a
/// group, so the lock is free whenever someone asks.
#[derive(Default)]
pub(crate) struct WriteState {
    fault: Mutex<Option<StorageFault>>,
    /// Whether something was found that cannot be read. No write that succeeds mends it.
    is_damaged: AtomicBool,
}

impl WriteState {
    /// Keeps an outcome. A change goes to the log.
    pub(crate) fn set(&self, fault: Option<StorageFault>) {
        let before =
            std::mem::replace(&mut *self.fault.lock().unwrap_or_else(PoisonError::into_inner), fault);
        match (before, fault) {
            (before, Some(fault)) if before != Some(fault) => {
                tracing::error!(%fault, "store refuses writes")
            }
            (Some(_), None) => tracing::info!("store accepts writes again"),
            _ => {}
        }
    }

    /// Whoever reads or writes has met a fault. Damage is kept until the store is opened anew.
    pub(crate) fn met(&self, fault: StorageFault) {
        if fault == StorageFault::Damaged && !self.is_damaged.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "database is damaged; start anew to see whether the disk can be read again, else restore a backup"
            );
        }
    }

    pub(crate) fn fault(&self) -> Option<StorageFault> {
        if self.is_damaged.load(Ordering::Relaxed) {
            return Some(StorageFault::Damaged);
        }
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
