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
//! It is counted in memory after each commit (`Holdings`), by days, and written once in a while
//! (`FLUSH_MS`), so that no commit has more to do for it. What was stored in a day is kept until the day
//! is too old, which needs no counting when it is forgotten.
//!
//! What a server had counted and not written when it was killed is counted again from the outbox, which has a
//! record of everything that is counted, in the order of the commits: with what was counted stands the number of the
//! record up to which it is ([`Counted`]). Nothing is counted twice or not at all, however a server ends.

mod calls;
mod holdings;
mod operation;
mod port;

pub use operation::{KeptAdd, KeptForget, KeptLeave, KeptMark, KeptRecount};
pub use port::{Counted, LeftBehind, OrgDay, QuotaReader, QuotaSteps, Uncounted};

pub(crate) use holdings::{Holder, Holdings};

use crate::id::{DeviceKey, OrgId, UnixMs};
use crate::retention::{Prune, RetentionClass};

/// What a row weighs beside its body: its other columns, its entries in indexes, and its record.
pub const ROW_BYTES: usize = 256;
/// How often what was counted is written, in milliseconds.
pub(crate) const FLUSH_MS: u64 = 60_000;

/// In how many parts devices are counted, by their numbers. The store has it of how many of them it was told, so a change
/// of this number needs a migration.
pub const PARTS: u8 = 64;
/// All parts, and organisations after them.
pub const PARTS_ALL: u8 = PARTS + 1;

/// The part in which a device is counted.
#[must_use]
pub fn part_of(device: DeviceKey) -> u8 {
    // It is less than `PARTS`.
    u8::try_from(device.0.rem_euclid(i64::from(PARTS))).unwrap_or(0)
}

/// What was stored of a kind in a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayKept {
    /// By what it is forgotten.
    pub class: RetentionClass,
    /// Days since the Unix epoch.
    pub day: i64,
    /// How many bytes; fewer than none where something was taken back. A day whose sum is fewer than none, because of what
    /// was stored before there was any counting, counts as nothing.
    pub bytes: i64,
}

/// A day, in milliseconds.
const DAY_MS: i64 = 24 * 3_600_000;

impl DayKept {
    /// What was stored at an instant.
    #[must_use]
    pub fn at(class: RetentionClass, at: UnixMs, bytes: i64) -> Self {
        Self { class, day: day_of(at), bytes }
    }
}

/// The day of an instant.
fn day_of(at: UnixMs) -> i64 {
    at.0.div_euclid(DAY_MS)
}

/// The first day of which something is kept, of each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstDays([i64; RetentionClass::NAMES.len()]);

impl FirstDays {
    /// Everything is kept.
    pub const EVER: Self = Self([i64::MIN; RetentionClass::NAMES.len()]);

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
