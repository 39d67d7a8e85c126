//! Where a server keeps what its last look found, for whoever asks.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::finding::Report;
use crate::id::UnixMs;

/// The last report of a server; none before its first look.
#[derive(Debug, Default)]
pub struct Board {
    last: Mutex<Option<Arc<Report>>>,
    /// When looking began.
    begun_at: OnceLock<UnixMs>,
}

impl Board {
    /// Notes when looking began, once.
    pub fn begin(&self, at: UnixMs) {
        let _ = self.begun_at.set(at);
    }

    /// How many milliseconds ago it was looked, or looking began if no look has ended; none if it has not begun.
    #[must_use]
    pub fn age_ms(&self, now: UnixMs) -> Option<i64> {
        let at = self.last().map(|last| last.at).or_else(|| self.begun_at.get().copied())?;
        Some(now.0.saturating_sub(at.0))
    }

    /// Puts up what a look found, in the place of what was there.
    pub fn put_up(&self, report: Report) {
        // A poisoned lock holds a whole report all the same: it is replaced in one step.
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(report));
    }

    /// What the last look found.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Report>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Measures;

    #[test]
    fn a_look_that_does_not_end_is_as_old_as_its_begin() {
        let board = Board::default();
        assert_eq!(board.age_ms(UnixMs(5)), None);
        board.begin(UnixMs(10));
        assert_eq!(board.age_ms(UnixMs(70)), Some(60));
        board.put_up(Report::new(UnixMs(50), Vec::new(), Measures::default()));
        assert_eq!(board.age_ms(UnixMs(70)), Some(20));
    }
}
