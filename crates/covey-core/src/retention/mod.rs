//! For how long things are kept.

mod calls;
mod operation;
mod port;

pub use operation::{RetentionPut, RetentionRun};
pub use port::{RetentionReader, RetentionSteps};

use crate::error::{Error, Result};
use crate::id::{OrgId, UnixMs};

/// What is kept for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RetentionClass {
    /// Tasks that are final, with their results.
    Tasks,
    /// Events.
    Events,
    /// Records of the outbox: how far back a stream or a webhook can go.
    Records,
    /// What devices reported of their resources.
    TwinHistory,
    /// Entries of the audit log.
    Audit,
}

impl RetentionClass {
    /// Each with the name under which it is stored and shown, and for how many
    /// days it is kept unless told otherwise. The place is its number: new ones come last.
    pub const NAMES: [(Self, &'static str, u32); 5] = [
        (Self::Tasks, "tasks", 90),
        (Self::Events, "events", 90),
        (Self::Records, "records", 7),
        (Self::TwinHistory, "twin_history", 90),
        (Self::Audit, "audit", 365),
    ];

    /// The number under which it is stored where there are many.
    #[must_use]
    pub fn number(self) -> u8 {
        let place = Self::NAMES.iter().position(|(kept, ..)| *kept == self);
        // There are few.
        place.and_then(|place| u8::try_from(place).ok()).unwrap_or_default()
    }

    /// What has this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::NAMES.get(usize::from(number)).map(|(kept, ..)| *kept)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kept, ..)| *kept == self).map_or("", |(_, name, _)| name)
    }

    /// What has this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known, _)| *known == name).map(|(kept, ..)| *kept)
    }
}

/// The longest time that something may be kept for, in days: a hundred years.
/// Limit for each kind: the server does not start, 422 over REST.
pub const DAYS_MAX: u32 = 36_500;

/// For how many days at least entries of the audit log are kept: who has stolen a key must not wipe out what was done
/// with it.
/// Limit for the server and each organisation: the server does not start, 422 over REST.
pub const AUDIT_DAYS_MIN: u32 = 30;

/// For how many days things are kept; 0 means for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionDays(Vec<(RetentionClass, u32)>);

impl Default for RetentionDays {
    fn default() -> Self {
        Self(RetentionClass::NAMES.iter().map(|(kept, _, days)| (*kept, *days)).collect())
    }
}

impl RetentionDays {
    /// For how many days something is kept.
    #[must_use]
    pub fn of(&self, kept: RetentionClass) -> u32 {
        self.0.iter().find(|(known, _)| *known == kept).map_or(0, |(_, days)| *days)
    }

    /// Sets for how many days something is kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than [`DAYS_MAX`].
    pub fn set(&mut self, kept: RetentionClass, days: u32) -> Result<()> {
        if days > DAYS_MAX {
            return Err(Error::invalid("days", "must be 0 to 36500"));
        }
        self.0.retain(|(known, _)| *known != kept);
        self.0.push((kept, days));
        Ok(())
    }
}

/// That an organisation keeps something for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrgRetention {
    /// The organisation.
    pub org: OrgId,
    /// What.
    pub kept: RetentionClass,
    /// For how many days; 0 means for ever.
    pub days: u32,
}

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prune {
    /// What.
    pub kept: RetentionClass,
    /// What is older than this, of organisations that are not named; nothing if none.
    pub before: Option<UnixMs>,
    /// What is older than this, of these organisations; nothing of those with none.
    pub of_orgs: Vec<(OrgId, Option<UnixMs>)>,
    /// The instant by which that was reckoned.
    pub now: UnixMs,
    /// Where the call before has ended.
    pub after: i64,
}

/// A day, in milliseconds.
pub(crate) const DAY_MS: i64 = 24 * 3_600_000;

impl Prune {
    /// What is to be forgotten at `now`.
    #[must_use]
    pub fn at(kept: RetentionClass, days: &RetentionDays, of_orgs: &[OrgRetention], now: UnixMs) -> Self {
        let before = |days: u32| (days > 0).then(|| now.plus_ms(-i64::from(days) * DAY_MS));
        let own = of_orgs.iter().filter(|own| own.kept == kept);
        Self {
            kept,
            before: before(days.of(kept)),
            of_orgs: own.map(|own| (own.org, before(own.days))).collect(),
            now,
            after: 0,
        }
    }

    /// What of an organisation is forgotten: all before this.
    #[must_use]
    pub fn before_of(&self, org: OrgId) -> Option<UnixMs> {
        self.of_orgs.iter().find(|(known, _)| *known == org).map_or(self.before, |(_, before)| *before)
    }

    /// Nothing that is younger is forgotten of any organisation; none if
    /// nothing is.
    #[must_use]
    pub fn youngest(&self) -> Option<UnixMs> {
        self.of_orgs.iter().map(|(_, before)| *before).chain([self.before]).flatten().max()
    }

    /// All that is older is forgotten of every organisation; none if some keep
    /// everything.
    #[must_use]
    pub fn oldest(&self) -> Option<UnixMs> {
        self.of_orgs.iter().map(|(_, before)| *before).chain([self.before]).min().flatten()
    }
}

/// What was expired data deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many.
    pub count: u64,
    /// Where to go on, if there may be more that can be forgotten now.
    pub next: Option<i64>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_organisation_of_its_own_mind_is_not_pruned_with_the_others() {
        let now = UnixMs(100 * DAY_MS);
        let mut days = RetentionDays::default();
        let own = |org, days| OrgRetention { org: OrgId(org), kept: RetentionClass::Events, days };
        let prune = Prune::at(RetentionClass::Events, &days, &[own(1, 10), own(2, 0)], now);
        assert_eq!(prune.before_of(OrgId(1)), Some(UnixMs(90 * DAY_MS)));
        assert_eq!(prune.before_of(OrgId(2)), None);
        assert_eq!(prune.before_of(OrgId(3)), Some(UnixMs(10 * DAY_MS)));
        assert_eq!((prune.youngest(), prune.oldest()), (Some(UnixMs(90 * DAY_MS)), None));

        days.set(RetentionClass::Events, 0).unwrap();
        let prune = Prune::at(RetentionClass::Events, &days, &[], now);
        assert_eq!((prune.youngest(), prune.oldest(), prune.before_of(OrgId(1))), (None, None, None));
        assert!(days.set(RetentionClass::Events, DAYS_MAX + 1).is_err());
    }
}
