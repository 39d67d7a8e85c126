//! How much an organisation and each device keep in the store, and how much they may.
//!
//! | what | bytes | kept until |
//! | --- | --- | --- |
//! | task | of its parameters, and [`ROW_BYTES`] | tasks are forgotten; the parameters until it is deleted |
//! | result | of its body, and [`ROW_BYTES`] | the same |
//! | event | of its body, and [`ROW_BYTES`] | events are forgotten |
//! | value that a twin reports | of the value, and [`ROW_BYTES`] | earlier values are forgotten |
//! | message of a webhook that waits or was given up | [`ROW_BYTES`], of the organisation alone | it is gone |
//!
//! Gauges and the present values of a twin replace what was there, so that their number bounds them.
//!
//! It is counted in memory after each commit ([`Holdings`]), by days, and written once in a while
//! ([`FLUSH_MS`]), so that no commit has more to do for it. What was stored in a day is kept until the day
//! is too old, which needs no counting when it is forgotten. A server that is killed has not counted what came
//! since it wrote last; that is forgotten with its day like everything else.

mod calls;
mod holdings;
mod operation;
mod port;

pub use operation::{KeptAdd, KeptForget};
pub use port::{OrgDay, QuotaReader, QuotaSteps};

pub(crate) use holdings::{Holder, Holdings};

use crate::id::{OrgId, UnixMs};
use crate::retention::{Prune, RetentionClass};

/// What a row weighs beside its body: its other columns, its entries in indexes, and its record.
pub const ROW_BYTES: usize = 256;
/// How often what was counted is written, in milliseconds; a server that is killed forgets as much.
pub(crate) const FLUSH_MS: u64 = 60_000;
/// How much of a device is counted in memory alone at most, in bytes, but for what comes within a second.
const UNWRITTEN_BYTES_MAX: u64 = 1024 * 1024;

/// What was stored of a kind in a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayKept {
    /// By what it is forgotten.
    pub class: RetentionClass,
    /// Days since the Unix epoch.
    pub day: i64,
    /// How many bytes; fewer than none where something was taken back.
    pub bytes: i64,
}

/// A day, in milliseconds.
const DAY_MS: i64 = 24 * 3_600_000;

/// The day of an instant.
fn day_of(at: UnixMs) -> i64 {
    at.0.div_euclid(DAY_MS)
}

/// The first day of which something is kept, of each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstDays([i64; RetentionClass::NAMES.len()]);

impl FirstDays {
    /// By when each class is forgotten; none is for ever.
    fn new(before: impl Fn(RetentionClass) -> Option<UnixMs>) -> Self {
        Self(RetentionClass::NAMES.map(|(class, ..)| before(class).map_or(i64::MIN, day_of)))
    }

    /// Of what devices keep: tasks, events, earlier values of twins.
    #[must_use]
    pub fn of_devices(&self) -> [i64; 3] {
        [RetentionClass::Tasks, RetentionClass::Events, RetentionClass::TwinHistory]
            .map(|class| self.of(class))
    }

    /// Of one class.
    #[must_use]
    pub fn of(&self, class: RetentionClass) -> i64 {
        self.0[usize::from(class.number())]
    }
}

/// The same of all that is to be forgotten.
fn first_days(prunes: &[Prune], org: OrgId) -> FirstDays {
    FirstDays::new(|class| {
        prunes.iter().find(|prune| prune.kept == class).and_then(|prune| prune.before_of(org))
    })
}
