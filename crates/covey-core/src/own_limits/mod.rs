//! Limits of an organisation's own, and of a key's own: each takes the place of what holds for all. What has none keeps
//! what holds for all.
//!
//! | name | what | of an organisation | of a key |
//! | --- | --- | --- | --- |
//! | `requests_per_s` | requests a second, on each server; as many at once after a silence | yes | yes |
//! | `requests` | requests that run, on each server | yes | yes |
//! | `waiting` | callers that wait for the end of a task, on each server | yes | yes |
//! | `streams` | open streams, on each server | yes | yes |
//! | `work_per_s` | work a second, on each server: an event is one, a task two ([`crate::budget`]) | yes | yes |
//! | `bytes_per_s` | bytes a second that are to be stored, on each server | yes | yes |
//! | `kept_bytes` | bytes that are kept ([`crate::quota`]) | yes | no |
//! | `open_tasks` | tasks of a device that are not final | yes | no |
//!
//! They are kept in the store. Each server looks once a second whether any has changed, and has all of them in memory.

mod calls;
mod operation;
mod port;
mod table;

pub use operation::{KeyLimitsPut, OrgLimitsPut};
pub use port::{LimitsReader, LimitsStamp, LimitsSteps};

pub(crate) use table::LimitTable;

use crate::error::{Error, Result};
use crate::id::{CallerId, OrgId};
use crate::named::named;

/// The largest number that a limit may be, where nothing else bounds it: a pebibyte.
/// Limit for each limit that is set: 422.
pub const OWN_LIMIT_MAX: u64 = 1 << 50;
/// The most requests a second that may be set.
/// Limit for each organisation and each key: 422.
pub const REQUEST_RATE_MAX: u64 = 1_000_000;

named! {
    /// What is limited.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum LimitName {
        /// Requests a second.
        RequestsPerS => "requests_per_s",
        /// Requests that run.
        Requests => "requests",
        /// Callers that wait for the end of a task.
        Waiting => "waiting",
        /// Open streams.
        Streams => "streams",
        /// Work a second.
        WorkPerS => "work_per_s",
        /// Bytes a second that are to be stored.
        BytesPerS => "bytes_per_s",
        /// Bytes that are kept.
        KeptBytes => "kept_bytes",
        /// Tasks of a device that are not final.
        OpenTasks => "open_tasks",
    }
}

impl LimitName {
    const COUNT: usize = 8;

    /// Whether a key may have one of its own.
    #[must_use]
    pub const fn is_of_keys(self) -> bool {
        !matches!(self, Self::KeptBytes | Self::OpenTasks)
    }

    const fn max(self) -> u64 {
        match self {
            Self::RequestsPerS => REQUEST_RATE_MAX,
            Self::OpenTasks => u32::MAX as u64,
            _ => OWN_LIMIT_MAX,
        }
    }
}

/// Whose limits they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitHolder {
    /// An organisation.
    Org(OrgId),
    /// A key.
    Key(CallerId),
}

/// Limits of one's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnLimits([Option<u64>; LimitName::COUNT]);

impl OwnLimits {
    /// The limit of this name, if there is one.
    #[must_use]
    pub const fn of(&self, name: LimitName) -> Option<u64> {
        self.0[name as usize]
    }

    /// The same with another limit of this name, or without one.
    #[must_use]
    pub const fn with(mut self, name: LimitName, limit: Option<u64>) -> Self {
        self.0[name as usize] = limit;
        self
    }

    /// Those that there are.
    pub fn set(&self) -> impl Iterator<Item = (LimitName, u64)> + '_ {
        LimitName::NAMES.iter().filter_map(|(name, _)| Some((*name, self.of(*name)?)))
    }

    /// Whether each is in its range.
    fn validate(&self) -> Result<()> {
        match self.set().find(|(name, limit)| !(1..=name.max()).contains(limit)) {
            None => Ok(()),
            Some((name, _)) => {
                let problem = match name {
                    LimitName::RequestsPerS => "must be 1 to 1000000",
                    LimitName::OpenTasks => "must be 1 to 4294967295",
                    _ => "must be 1 to 1125899906842624",
                };
                Err(Error::invalid(name.name(), problem))
            }
        }
    }

    /// Whether a key of an organisation with these limits may have those.
    fn require(&self, of_key: &Self) -> Result<()> {
        let above = of_key.set().find(|(name, limit)| self.of(*name).is_some_and(|own| *limit > own));
        match above {
            None => Ok(()),
            Some((name, _)) => {
                Err(Error::invalid(name.name(), "must be no more than the key's organisation has"))
            }
        }
    }

    /// As text: `streams=5 requests_per_s=100`.
    #[must_use]
    pub fn text(&self) -> String {
        let set = self.set().map(|(name, limit)| format!("{}={limit}", name.name()));
        set.collect::<Vec<_>>().join(" ")
    }

    /// What such a text says. What is not known is of a later version, and passed over.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let mut limits = Self::default();
        for (name, limit) in text.split(' ').filter_map(|part| part.split_once('=')) {
            if let (Some(name), Ok(limit)) = (LimitName::from_name(name), limit.parse()) {
                limits = limits.with(name, Some(limit));
            }
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn limits_come_back_as_they_were_stored(all in prop::array::uniform8(prop::option::of(any::<u64>()))) {
            let limits = OwnLimits(all);
            prop_assert_eq!(OwnLimits::of_text(&limits.text()), limits);
        }
    }

    #[test]
    fn what_a_later_version_has_stored_is_passed_over() {
        let limits = OwnLimits::of_text("moon=7 streams=5 requests=many");
        assert_eq!(limits.set().collect::<Vec<_>>(), [(LimitName::Streams, 5)]);
        assert_eq!(OwnLimits::of_text(""), OwnLimits::default());
    }

    #[test]
    fn a_key_has_no_more_than_its_organisation() {
        let of = |limit| OwnLimits::default().with(LimitName::Streams, Some(limit));
        assert!(of(5).require(&of(5)).is_ok() && OwnLimits::default().require(&of(6)).is_ok());
        assert!(of(5).require(&OwnLimits::default()).is_ok());
        assert!(of(5).require(&of(6)).is_err());
        assert!(of(0).validate().is_err() && of(OWN_LIMIT_MAX + 1).validate().is_err());
    }
}
