//! Why a connection of a device ended.

use covey_core::device::Connection;
use covey_core::presence::Reason;

/// Why a connection ended, as far as a link can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DisconnectReason {
    /// One side sent DISCONNECT.
    ByDeviceOrServer,
    /// The device sent DISCONNECT.
    ByDevice,
    /// The device sent nothing for longer than its keep-alive.
    KeepAlive,
    /// The device sent no message for longer than `contact_s`; nothing else is known of it.
    Silent,
    /// Another connection of the same device took its place.
    TakenOver,
    /// The device is no longer authorised.
    NotAuthorised,
    /// The network connection broke.
    ConnectionLost,
    /// Reading or writing took too long.
    TimedOut,
    /// The device broke the rules of MQTT (MQTT 5 §4.13).
    ProtocolError,
    /// The broker does not say.
    Unknown,
}

impl DisconnectReason {
    /// The text for applications, and the reason in the core.
    const fn entry(self) -> (&'static str, Reason) {
        match self {
            Self::ByDeviceOrServer => ("disconnected by the device or the server", Reason::Clean),
            Self::ByDevice => ("disconnected by the device", Reason::Clean),
            Self::KeepAlive => ("keep-alive timed out", Reason::KeepAlive),
            Self::Silent => ("not heard of for a while", Reason::KeepAlive),
            Self::TakenOver => ("taken over by another connection", Reason::TakenOver),
            Self::NotAuthorised => ("not authorised", Reason::Revoked),
            Self::ConnectionLost => ("connection lost", Reason::Lost),
            Self::TimedOut => ("timed out", Reason::Lost),
            Self::ProtocolError => ("protocol error", Reason::Violation),
            Self::Unknown => ("disconnected", Reason::Unknown),
        }
    }

    /// A connection that ended for this reason; `session` names it among those of its device.
    pub(crate) fn end(self, session: String) -> Connection {
        let (text, reason) = self.entry();
        let details = vec![("reason".to_owned(), text.to_owned())];
        Connection { session, reason, details, ..Connection::default() }
    }
}
