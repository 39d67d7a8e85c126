//! How much an organisation has used on each day, by UTC: counted in the transactions that store it.
//!
//! | what | counts |
//! | --- | --- |
//! | tasks created | each task, also one by which a device hears of a desired value |
//! | tasks finished | each task that has become final, whichever way: done, failed, expired or deleted |
//! | events | each event that was stored; no gauge, and nothing that the server itself tells of a device |
//! | bytes in | of the parameters of tasks, the bodies of results and those of events, as they were stored |
//! | active devices | each device that was heard that day, once: it connected, or sent something, be it a sign of life |
//!
//! What an organisation has used is one row a day (with several servers one a day of each), which a commit changes once,
//! however much is in it. A device is noted once a day: that it was heard is stored before, or with, the first thing of
//! that day which is. Devices are told apart until the day after is over; then their number alone is kept.

mod calls;
mod heard;
mod operation;
mod port;

pub use operation::{UsageForget, UsageHeard, UsageSettle};
pub use port::{UsageReader, UsageSteps};

pub(crate) use heard::Heard;

use std::ops::AddAssign;

use crate::id::UnixMs;
use crate::record::NewRecord;
use crate::task::{Cause, Task};

/// For how many days it is kept what was used on a day, that day included.
/// Limit for each organisation: earlier days are forgotten.
pub const USAGE_DAYS_MAX: i64 = 400;
/// How many days an answer has.
/// Limit for each request: 422.
pub const USAGE_SPAN_DAYS_MAX: i64 = USAGE_DAYS_MAX;
/// How many days an answer has unless asked for otherwise.
pub const USAGE_SPAN_DAYS: i64 = 30;

/// A day, in milliseconds.
const DAY_MS: i64 = 24 * 3_600_000;

/// The day of an instant: days since the Unix epoch, by UTC.
#[must_use]
pub const fn day_of(at: UnixMs) -> i64 {
    at.0.div_euclid(DAY_MS)
}

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many tasks were made.
    pub tasks_created: i64,
    /// How many tasks have become final.
    pub tasks_finished: i64,
    /// How many events were stored.
    pub events: i64,
    /// How many bytes came: parameters of tasks, bodies of results and events.
    pub bytes_in: i64,
    /// How many devices were heard. A sum over days counts a device once for each of them.
    pub active_devices: i64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, more: Self) {
        self.tasks_created = self.tasks_created.saturating_add(more.tasks_created);
        self.tasks_finished = self.tasks_finished.saturating_add(more.tasks_finished);
        self.events = self.events.saturating_add(more.events);
        self.bytes_in = self.bytes_in.saturating_add(more.bytes_in);
        self.active_devices = self.active_devices.saturating_add(more.active_devices);
    }
}

impl Usage {
    fn bytes(bytes: usize) -> Self {
        Self { bytes_in: i64::try_from(bytes).unwrap_or(i64::MAX), ..Self::default() }
    }

    /// An event with a body of so many bytes.
    pub(crate) fn event(bytes: usize) -> Self {
        Self { events: 1, ..Self::bytes(bytes) }
    }

    /// A result with a body of so many bytes.
    pub(crate) fn result(bytes: usize) -> Self {
        Self::bytes(bytes)
    }

    /// What a record of a change of a task's state tells.
    pub(crate) fn change(task: &Task, record: &NewRecord) -> Self {
        let NewRecord::Task { status, cause, .. } = record else { return Self::default() };
        let made = match cause {
            Cause::Created => {
                let bytes = task.payload.as_ref().map_or(0, |payload| payload.len());
                Self { tasks_created: 1, ..Self::bytes(bytes) }
            }
            _ => Self::default(),
        };
        Self { tasks_finished: i64::from(status.is_final()), ..made }
    }
}

/// What was used on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageDay {
    /// Days since the Unix epoch, by UTC.
    pub day: i64,
    /// What was used.
    pub usage: Usage,
}

/// What an organisation has used on each of some days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageReport {
    /// The organisation's number.
    pub org: crate::id::OrgId,
    /// Each day, the earliest first, also those on which nothing was used.
    pub days: Vec<UsageDay>,
}

impl UsageReport {
    /// What was used on all of them.
    #[must_use]
    pub fn total(&self) -> Usage {
        let mut total = Usage::default();
        self.days.iter().for_each(|day| total += day.usage);
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_by_utc() {
        assert_eq!([-1, 0, DAY_MS - 1, DAY_MS].map(|ms| day_of(UnixMs(ms))), [-1, 0, 0, 1]);
    }
}
