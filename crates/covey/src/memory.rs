//! Giving memory back that is not needed any more.
//!
//! The allocator has a heap for each thread. It looks what of it can be given back after so many calls of that thread, and
//! gives pages back when somebody takes or frees one: so after a busy minute a server that has nothing to do would keep
//! for hours what that minute took. Each thread makes these calls itself, before it sleeps.

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// How often a thread looks.
const EVERY: Duration = Duration::from_secs(1);
/// After how many calls the allocator looks through the heap of a thread (mimalloc, `generic_collect`): that takes about
/// a third of a millisecond.
const CALLS: usize = 10_000;
/// What is above a kilobyte counts as such a call.
const CALL_BYTES: usize = 2 * 1024;
/// What is so large has a page of its own. It is not touched.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

thread_local! {
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Has the allocator look, if it has not for a while. To be called by each thread that is about to sleep.
pub fn give_back() {
    let now = Instant::now();
    if LOOKED.get().is_some_and(|looked| now.duration_since(looked) < EVERY) {
        return;
    }
    LOOKED.set(Some(now));
    for _ in 0..CALLS {
        drop(black_box(Vec::<u8>::with_capacity(CALL_BYTES)));
    }
    drop(black_box(Vec::<u8>::with_capacity(PAGE_BYTES)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BLOCKS: usize = 65_536;
    const BLOCK_BYTES: usize = 1_024;
    /// How long it is waited for the system to have it, and how often that is looked at.
    const PATIENCE: Duration = Duration::from_secs(60);
    const PAUSE: Duration = Duration::from_millis(20);

    fn resident_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1_024
    }

    #[test]
    fn a_thread_looks_if_it_has_not_for_a_while_and_not_before() {
        let now = Instant::now();
        // One that is to come is later than any at which it is asked.
        let later = now.checked_add(Duration::from_secs(3_600));
        for (looked, is_due) in [(None, true), (now.checked_sub(EVERY), true), (later, false)] {
            LOOKED.set(looked);
            give_back();
            assert_eq!(LOOKED.get() != looked, is_due, "{looked:?}");
        }
    }

    #[test]
    fn what_a_thread_has_freed_the_system_has_again() {
        let before = resident_bytes();
        let blocks: Vec<_> = (0..BLOCKS).map(|_| black_box(vec![1_u8; BLOCK_BYTES])).collect();
        let taken = resident_bytes() - before;
        assert!(taken >= BLOCKS * BLOCK_BYTES / 2, "{taken} bytes");
        drop(blocks);
        let until = Instant::now() + PATIENCE;
        // The allocator keeps for a moment what has just become free.
        while resident_bytes() > before + taken / 4 {
            assert!(Instant::now() < until, "{} bytes are kept, of {taken}", resident_bytes() - before);
            std::thread::sleep(PAUSE);
            LOOKED.set(None);
            give_back();
        }
    }
}
