//! Names of channels, and what may be done in which (Pusher, "Channels: Naming conventions").

use std::fmt;
use std::sync::Arc;

use covey_core::id::Sn;

/// Longest name of a Pusher channel, in bytes.
/// Limit for each channel: it cannot be subscribed to (4009) or published in (400).
pub const CHANNEL_BYTES_MAX: usize = 200;
/// The channel in which a dashboard asks for writes of units.
pub const REQUESTS: &str = "private-requests";
/// What the channels begin with in which Covey tells of a device.
pub const OF_DEVICE: &str = "private-device-";

/// Who may subscribe to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whoever connects.
    Public,
    /// Who shows a signature.
    Private,
    /// Who shows a signature; the others are told who it is.
    Presence,
}

/// A channel by its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(Arc<str>);

/// Not the name of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoChannel;

impl Channel {
    /// A channel by its name: 1 to 200 of `A-Z a-z 0-9 _ - = @ , . ;`.
    ///
    /// # Errors
    /// [`NoChannel`].
    pub fn parse(name: &str) -> Result<Self, NoChannel> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-=@,.;".contains(&byte);
        let is_name = (1..=CHANNEL_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_allowed);
        if is_name { Ok(Self(Arc::from(name))) } else { Err(NoChannel) }
    }

    /// The channel in which Covey tells of a device.
    #[must_use]
    pub fn of_device(sn: &Sn) -> Self {
        Self(Arc::from(format!("{OF_DEVICE}{}", sn.as_str())))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Who may subscribe to it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.0.starts_with("private-") {
            Kind::Private
        } else if self.0.starts_with("presence-") {
            Kind::Presence
        } else {
            Kind::Public
        }
    }

    /// Whether Covey alone writes it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.0.starts_with(OF_DEVICE)
    }

    /// The device of which Covey tells in it; none if it is none of those, or no device can be called so.
    #[must_use]
    pub fn device(&self) -> Option<Sn> {
        Sn::parse(self.0.strip_prefix(OF_DEVICE)?).ok()
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_says_who_may_subscribe_and_who_writes() {
        for (name, kind, device) in [
            ("news", Kind::Public, None),
            ("private-requests", Kind::Private, None),
            ("presence-room;1=@,.", Kind::Presence, None),
            ("private-device-lamp_2e-1", Kind::Private, Some("lamp_2e-1")),
            ("private-device-a.b", Kind::Private, None),
            ("privately", Kind::Public, None),
        ] {
            let channel = Channel::parse(name).unwrap();
            let found = channel.device();
            assert_eq!((channel.kind(), found.as_ref().map(Sn::as_str)), (kind, device), "{name}");
            assert_eq!(channel.is_ours(), name.starts_with(OF_DEVICE), "{name}");
        }
        for bad in ["", "a b", "#server-to-user-1", "ä", "a/b", "a:b", &"x".repeat(CHANNEL_BYTES_MAX + 1)] {
            assert_eq!(Channel::parse(bad), Err(NoChannel), "{bad}");
        }
    }
}
