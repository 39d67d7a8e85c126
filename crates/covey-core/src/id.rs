//! Identifiers, each a type of its own, so that none is taken for another.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::error::Error;

/// A task's id: a UUID that travels through every step of the protocol
/// (device-rpc "Correlation").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub Uuid);

impl TaskId {
    /// The zero UUID, which devices use to say "poll".
    pub const NIL: Self = Self(Uuid::nil());
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An organisation: the boundary between tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrgId(pub i64);

/// The internal key of one registration of a device.
///
/// A device that is retired and registered anew gets a new key, so that the
/// new one inherits neither tasks nor certificates of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceKey(pub i64);

/// The number by which applications name a device, unique in its organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub i64);

/// The number of a stored result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResultId(pub i64);

/// The number of a record in the outbox. Of two changes of which one was made in
/// knowledge of the other, the later one has a larger number; those that servers
/// make beside each other may have theirs in either order. Numbers are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordNumber(pub i64);

/// The number of a node that a gateway has heard of, or that was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub i64);

/// The number of a person, whichever its organisations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonId(pub i64);

/// The number of a unit that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(pub i64);

/// The number of a claim, by which devices enrol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimId(pub i64);

/// Who calls, as long as its credential lives: for what the server keeps for a
/// caller, such as how far it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId(pub i64);

impl CallerId {
    /// From here on are the numbers of those who have no API key.
    const DIGESTS_FROM: i64 = 1 << 62;

    /// The number of who is known by a digest: none that an API key can have.
    #[must_use]
    pub const fn of_digest(digest: u64) -> Self {
        // The upper two bits are 01, so it is positive.
        Self(Self::DIGESTS_FROM | (digest >> 2).cast_signed())
    }

    /// Whether it is the number of an API key, as small numbers are that the store has given.
    #[must_use]
    pub const fn is_of_key(self) -> bool {
        self.0 > 0 && self.0 < Self::DIGESTS_FROM
    }
}

/// Longest serial number in bytes (device-rpc "Identity").
/// Limit for each device: 422.
pub const SN_BYTES_MAX: usize = 64;

/// A device's serial number: 1 to 64 characters of `[A-Za-z0-9_-]`.
///
/// It is the certificate's CommonName, the MQTT client id and a level of every
/// topic, so no other character may ever get in (device-rpc "Identity").
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sn(Arc<str>);

impl Sn {
    /// Checks the alphabet and the length.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field `sn`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if Self::is_valid(text) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(Error::invalid("sn", "must be 1 to 64 characters of A-Z a-z 0-9 _ -"))
        }
    }

    /// Whether `text` is a serial number.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        (1..=SN_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    }

    /// What was made in such a way that it is valid.
    pub(crate) fn of_valid(text: String) -> Self {
        debug_assert!(Self::is_valid(&text), "{text:?} is no serial number");
        Self(Arc::from(text))
    }

    /// The serial number as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Sn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An instant in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// The instant `ms` milliseconds later.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; negative if it is later.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole Unix seconds, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_serial_number_holds_only_what_a_topic_level_may_hold() {
        for good in ["a", "a3b0000000c10221d290825", "A_b-9", &"x".repeat(64)] {
            assert_eq!(Sn::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a.b", "a b", "+", "#", "ü", "a\0", &"x".repeat(65)] {
            assert!(Sn::parse(bad).is_err(), "{bad:?}");
        }
    }
}
