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
    /// Whether the fault is that no room is left. It is asked for before each write.
    is_full: AtomicBool,
    /// Whether something was found that cannot be read. No write that succeeds mends it.
    is_damaged: AtomicBool,
}

impl WriteState {
    /// Keeps an outcome. A change goes to the log.
    pub(crate) fn set(&self, fault: Option<StorageFault>) {
        self.is_full.store(fault == Some(StorageFault::Full), Ordering::Relaxed);
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

    /// Whoever reads, or writes beside the writer, has met a fault. Damage is kept until the store is opened anew.
    pub(crate) fn met(&self, fault: StorageFault) {
        if fault == StorageFault::Full {
            self.set(Some(fault));
        }
        if fault == StorageFault::Damaged && !self.is_damaged.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "database is damaged; start anew to see whether the disk can be read again, else restore a backup"
            );
        }
    }

    /// Whether no room is left. A write that succeeds does not end that, since a small one may where no other does:
    /// a look does.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// A group was written.
    pub(crate) fn written(&self) {
        if !self.is_full() {
            self.set(None);
        }
    }

    /// What the last write has met.
    pub(crate) fn of_writes(&self) -> Option<StorageFault> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fault(&self) -> Option<StorageFault> {
        if self.is_damaged.load(Ordering::Relaxed) {
            return Some(StorageFault::Damaged);
        }
        self.of_writes()
    }
}
