//! How often the keys of an organisation may be told that a serial number is taken. A serial number is unique
//! in a deployment, so that answer tells of devices of other organisations; a few a minute are what an
//! application needs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::id::{OrgId, UnixMs};

/// How many answers a key gets in a minute that a serial number is taken. Requests that are
/// under way count, since each may become one.
/// Limit for each key: 429 until the minute is over.
const TOLD_MAX: u32 = 300;
/// Said of one more.
pub(crate) const ASKED_TOO_MANY: Error =
    Error::Exhausted { limit: "too many serial numbers that are taken were asked for" };
/// How long a count lasts, in milliseconds.
const WINDOW_MS: i64 = 60_000;
/// How many organisations are remembered before those are forgotten whose count is over.
const REMEMBERED: usize = 4_096;

/// The counts of all organisations.
#[derive(Debug, Default)]
pub(crate) struct TakenNames(Mutex<HashMap<OrgId, Count>>);

#[derive(Clone, Copy, Debug)]
struct Count {
    since: UnixMs,
    told: u32,
}

impl TakenNames {
    /// Whether an organisation may ask for one more: it counts as told unless what is answered is dropped.
    pub(crate) fn ask(&self, org: OrgId, now: UnixMs) -> Option<AskedName<'_>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back ends a count as well.
        let is_over = |count: &Count| !(0..WINDOW_MS).contains(&now.since_ms(count.since));
        if counts.len() >= REMEMBERED {
            counts.retain(|_, count| !is_over(count));
        }
        let count = counts.entry(org).or_insert(Count { since: now, told: 0 });
        if is_over(count) {
            *count = Count { since: now, told: 0 };
        }
        if count.told >= TOLD_MAX {
            return None;
        }
        count.told += 1;
        Some(AskedName { names: self, org, since: count.since })
    }
}

/// A serial number that was asked for. Dropped, it was not told that it is taken: it was not, or whoever
/// asked has gone.
pub(crate) struct AskedName<'a> {
    names: &'a TakenNames,
    org: OrgId,
    since: UnixMs,
}

impl AskedName<'_> {
    /// It is taken, and that is told.
    pub(crate) fn told(self) {
        std::mem::forget(self);
    }
}

impl Drop for AskedName<'_> {
    fn drop(&mut self) {
        let mut counts = self.names.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A count that began later did not have it.
        if let Some(count) = counts.get_mut(&self.org).filter(|count| count.since == self.since) {
            count.told = count.told.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organisation_is_told_so_often_a_minute_and_what_was_free_does_not_count() {
        let names = TakenNames::default();
        let (one, other, now) = (OrgId(1), OrgId(2), UnixMs(1_000_000));
        for _ in 0..10 * TOLD_MAX {
            assert!(names.ask(one, now).is_some());
        }
        let early = names.ask(one, now);
        for _ in 1..TOLD_MAX {
            names.ask(one, now).into_iter().for_each(AskedName::told);
        }
        assert!(names.ask(one, now.plus_ms(WINDOW_MS - 1)).is_none());
        assert!(names.ask(other, now).is_some());
        let later = now.plus_ms(WINDOW_MS);
        names.ask(one, later).into_iter().for_each(AskedName::told);
        drop(early);
        assert_eq!(names.0.lock().map_or(0, |counts| counts[&one].told), 1, "of this minute");
    }

    #[test]
    fn organisations_are_forgotten_when_their_minute_is_over() {
        let names = TakenNames::default();
        for number in 0..3 * REMEMBERED as i64 {
            assert!(names.ask(OrgId(number), UnixMs(number * WINDOW_MS / 100)).is_some());
        }
        let remembered = names.0.lock().map_or(0, |counts| counts.len());
        assert!(remembered <= REMEMBERED, "{remembered}");
    }
}
