//! How often a key may be told that a serial number is taken. A serial number is unique in a deployment, so that
//! answer tells of devices of other organisations; a few a minute are what an application needs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::id::{CallerId, UnixMs};

/// How many such answers a key gets in a minute. Requests that are under way count, since each may become one.
const TOLD_MAX: u32 = 300;
/// How long a count lasts, in milliseconds.
const WINDOW_MS: i64 = 60_000;
/// How many keys are remembered before those are forgotten whose count is over.
const REMEMBERED: usize = 4_096;

/// The counts of all keys.
#[derive(Debug, Default)]
pub(crate) struct TakenNames(Mutex<HashMap<CallerId, Count>>);

#[derive(Clone, Copy, Debug)]
struct Count {
    since: UnixMs,
    told: u32,
}

impl TakenNames {
    /// Whether a key may ask for one more; it counts as told until [`not_taken`](Self::not_taken) is called.
    pub(crate) fn ask(&self, key: CallerId, now: UnixMs) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back ends a count as well.
        let is_over = |count: &Count| !(0..WINDOW_MS).contains(&now.since_ms(count.since));
        if counts.len() >= REMEMBERED {
            counts.retain(|_, count| !is_over(count));
        }
        let count = counts.entry(key).or_insert(Count { since: now, told: 0 });
        if is_over(count) {
            *count = Count { since: now, told: 0 };
        }
        let may = count.told < TOLD_MAX;
        count.told += u32::from(may);
        may
    }

    /// What a key asked for was not taken.
    pub(crate) fn not_taken(&self, key: CallerId) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&key) {
            count.told = count.told.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_so_often_a_minute_and_what_was_free_does_not_count() {
        let names = TakenNames::default();
        let (one, other, now) = (CallerId(1), CallerId(2), UnixMs(1_000_000));
        for _ in 0..10 * TOLD_MAX {
            assert!(names.ask(one, now));
            names.not_taken(one);
        }
        assert!((0..TOLD_MAX).all(|_| names.ask(one, now)));
        assert!(!names.ask(one, now.plus_ms(WINDOW_MS - 1)));
        assert!(names.ask(other, now));
        assert!(names.ask(one, now.plus_ms(WINDOW_MS)));
    }

    #[test]
    fn keys_are_forgotten_when_their_minute_is_over() {
        let names = TakenNames::default();
        for number in 0..3 * REMEMBERED as i64 {
            assert!(names.ask(CallerId(number), UnixMs(number * WINDOW_MS / 100)));
        }
        let remembered = names.0.lock().map_or(0, |counts| counts.len());
        assert!(remembered <= REMEMBERED, "{remembered}");
    }
}
