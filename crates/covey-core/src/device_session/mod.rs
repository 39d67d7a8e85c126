//! What is kept of devices' sessions: a device that comes back after a restart, or to another server of the
//! deployment, hears what it had asked to hear (`docs/adr/0018-sessions-in-the-store.md`).

mod calls;
mod operation;
mod port;

pub use operation::SessionPut;
pub use port::{SessionReader, SessionSteps};

use crate::device::{DeviceIdentity, DeviceKind};
use crate::error::{Error, Result};
use crate::id::UnixMs;

/// How many subscriptions a session may have.
/// Limit for each device: 0x97 in the SUBACK.
pub const SUBSCRIPTIONS_MAX: usize = 16;
/// How many bytes the filters of a session may have in all.
/// Limit for each device: 0x97 in the SUBACK.
pub const SUBSCRIPTION_BYTES_MAX: usize = 4_096;
/// How long a session is kept of a device that is away, in seconds.
/// Limit for each device: the CONNACK tells this time in place of the one asked for.
pub const SESSION_EXPIRY_S_MAX: u32 = 3_600;

/// What a device has asked to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Which topics.
    pub filter: String,
    /// The highest quality of service that was granted: 0, 1 or 2.
    pub qos: u8,
    /// The number that comes back with each message; 0: none.
    pub identifier: u32,
}

/// What a link wants to be kept of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionContent {
    /// In the order in which they were made.
    pub subscriptions: Vec<Subscription>,
    /// How long it stays when the device is away, in seconds. 0: it has ended.
    pub expiry_s: u32,
}

impl SessionContent {
    /// A session that has ended.
    pub const ENDED: Self = Self { subscriptions: Vec::new(), expiry_s: 0 };

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming what is beyond its bound.
    pub fn validate(&self) -> Result<()> {
        let bytes: usize = self.subscriptions.iter().map(|one| one.filter.len()).sum();
        if self.subscriptions.len() > SUBSCRIPTIONS_MAX || bytes > SUBSCRIPTION_BYTES_MAX {
            return Err(Error::invalid("subscriptions", "must be at most 16, with 4096 bytes of filters"));
        }
        if self.expiry_s > SESSION_EXPIRY_S_MAX {
            return Err(Error::invalid("expiry_s", "must be at most 3600"));
        }
        Ok(())
    }
}

/// A device's session as it was kept last. There is one for each device that ever had any: an ended one keeps
/// its revision, by which a server knows that what it remembers is out of date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// Counts what was kept of this device's sessions, from 1.
    pub revision: i64,
    /// What was kept.
    pub content: SessionContent,
    /// Since when the device is away; none while it is connected.
    pub away_since: Option<UnixMs>,
}

impl StoredSession {
    /// Whether the device's time to come back is over.
    #[must_use]
    pub fn is_over(&self, now: UnixMs) -> bool {
        let expiry_ms = i64::from(self.content.expiry_s) * 1_000;
        self.content.expiry_s == 0 || self.away_since.is_some_and(|since| now.since_ms(since) >= expiry_ms)
    }
}

/// A device that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Who it is.
    pub identity: DeviceIdentity,
    /// What it speaks.
    pub kind: DeviceKind,
    /// What was kept of its session.
    pub session: Option<StoredSession>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A session stays as long as its device is connected, and after that for its time and not longer.
        #[test]
        fn a_session_is_over_at_its_instant(expiry_s in 0..=SESSION_EXPIRY_S_MAX, away_ms in 0..4_000_000_i64) {
            let since = UnixMs(1_700_000_000_000);
            let content = SessionContent { expiry_s, ..SessionContent::default() };
            let mut session = StoredSession { revision: 1, content, away_since: Some(since) };
            let now = since.plus_ms(away_ms);
            prop_assert_eq!(session.is_over(now), away_ms >= i64::from(expiry_s) * 1_000);
            session.away_since = None;
            prop_assert_eq!(session.is_over(now), expiry_s == 0);
        }
    }
}
