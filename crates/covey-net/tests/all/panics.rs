//! Whether a task has panicked: a server catches that and goes on, which must not hide it from a test.

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

static HOOK: Once = Once::new();
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// How many there were since this was first called, in this process.
pub fn count() -> usize {
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            usual(what);
        }));
    });
    PANICS.load(Ordering::SeqCst)
}

/// Numbers that look random and are the same each time.
pub fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Changes some of the bytes, or cuts them off.
pub fn mutate(bytes: &mut Vec<u8>, random: &mut impl FnMut() -> u64) {
    for _ in 0..random() % 6 {
        if bytes.is_empty() {
            return;
        }
        let place = (random() % bytes.len() as u64) as usize;
        match random() % 4 {
            0 => bytes[place] = random() as u8,
            1 => bytes[place] ^= 1 << (random() % 8),
            2 => bytes.insert(place, random() as u8),
            _ => bytes.truncate(place.max(1)),
        }
    }
}
