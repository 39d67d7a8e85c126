//! MQTT 5 reason codes by which the server tells a device what became of its message
//! (MQTT 5 §3.4.2.1), and what a device does about each.

/// The reason code of a PUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The message is stored, or did what it was sent for.
    Success = 0x00,
    /// The device may publish there, and nobody listens.
    NoMatchingSubscribers = 0x10,
    /// The server failed; the message may be sent again.
    Unspecified = 0x80,
    /// The task that the message is about is not the device's, or is not there.
    ImplementationSpecific = 0x83,
    /// The device may not publish to this topic.
    NotAuthorized = 0x87,
    /// The topic has a wildcard or a NUL.
    TopicNameInvalid = 0x90,
    /// The message is larger than the server takes.
    PacketTooLarge = 0x95,
    /// A limit is reached; the message may be sent again later.
    QuotaExceeded = 0x97,
    /// The message cannot be understood, now or later.
    PayloadFormatInvalid = 0x99,
}

impl Reason {
    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Whether a device gives an event up that was acknowledged with this code: the server will
/// never be able to read it. After any other refusal it sends the event again later.
#[must_use]
pub const fn ends_an_event(code: u8) -> bool {
    code == Reason::PayloadFormatInvalid.code() || code == Reason::TopicNameInvalid.code()
}
