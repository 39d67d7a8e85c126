//! Where a server keeps what its last look found, for whoever asks.

use std::sync::{Arc, Mutex, PoisonError};

use crate::finding::Report;

/// The last report of a server; none before its first look.
#[derive(Debug, Default)]
pub struct Board(Mutex<Option<Arc<Report>>>);

impl Board {
    /// Puts up what a look found, in the place of what was there.
    pub fn put_up(&self, report: Report) {
        // A poisoned lock holds a whole report all the same: it is replaced in one step.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(report));
    }

    /// What the last look found.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Report>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
