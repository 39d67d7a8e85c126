//! Bounds how many requests are served at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many requests may be served at a time. The next one is answered with 503.
const REQUESTS_MAX: usize = 10_000;

/// Counts the requests that are being served.
#[derive(Default)]
pub(crate) struct RequestSlots(AtomicUsize);

/// The slot of one request, until it is dropped.
pub(crate) struct RequestSlot<'a>(&'a RequestSlots);

impl RequestSlots {
    /// Takes a slot, if one is free.
    pub(crate) fn take(&self) -> Option<RequestSlot<'_>> {
        // Dropping it gives the count back if there is none.
        let slot = RequestSlot(self);
        (self.0.fetch_add(1, Ordering::Relaxed) < REQUESTS_MAX).then_some(slot)
    }
}

impl Drop for RequestSlot<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn slots_are_bounded_and_given_back() {
        let slots = RequestSlots::default();
        let taken: Vec<_> = (0..REQUESTS_MAX).map(|_| slots.take().unwrap()).collect();
        assert!(slots.take().is_none());
        drop(taken);
        assert_eq!(slots.0.load(Ordering::Relaxed), 0);
    }
}
