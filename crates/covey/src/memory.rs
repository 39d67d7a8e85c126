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
