//! How much memory the changes take that wait for receivers: those of one
//! endpoint, and those of all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes of changes may wait for one endpoint; those of one look come on
/// top of it.
/// Limit for each webhook: nothing more is read for it until some is delivered.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many bytes of changes may wait for all webhooks. Beyond it each still has one look at a time.
/// Limit for the server: each webhook has one look at a time.
const ALL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What one endpoint has of it, until it is dropped.
pub(crate) struct Share {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    pub(crate) fn of(all: Arc<AtomicUsize>) -> Self {
        Self { all, bytes: 0 }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn remove(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether more may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes == 0 || (self.bytes < BYTES_MAX && self.all.load(Ordering::Relaxed) < ALL_BYTES_MAX)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_reads_on_while_it_has_little_and_all_together_have_room() {
        let all = Arc::default();
        let (mut one, mut other) = (Share::of(Arc::clone(&all)), Share::of(Arc::clone(&all)));
        one.add(BYTES_MAX - 1);
        assert!(one.has_room());
        one.add(1);
        assert!(!one.has_room());
        one.remove(1);
        other.add(ALL_BYTES_MAX);
        assert!(!one.has_room());
        one.remove(BYTES_MAX - 1);
        assert!(one.has_room(), "one look at a time");
        one.add(1);
        drop(other);
        assert!(one.has_room());
        assert_eq!(all.load(Ordering::Relaxed), 1);
    }
}
