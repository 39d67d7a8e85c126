//! What is wrong with a packet: the reason code to close with, the rule that was broken, and a short text.

use super::ReasonCode;

/// A rule of the standard that a packet breaks.
///
/// Whoever receives such a packet closes the connection, with [`reason`](Self::reason) in a DISCONNECT
/// (or in the CONNACK, if the packet is the CONNECT) where the protocol has one \[MQTT-4.13.1-1\].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} [{rule}]")]
pub struct Violation {
    /// The MQTT 5 reason code; always 0x80 or above.
    pub reason: ReasonCode,
    /// The numbered statement (`MQTT-3.1.2-3`, of MQTT 5 unless it says 3.1.1), or the section where the
    /// standard gives no number.
    pub rule: &'static str,
    /// What is wrong, for the log and for a Reason String; it quotes nothing of the packet.
    pub text: &'static str,
}

impl Violation {
    pub(super) const fn new(reason: ReasonCode, rule: &'static str, text: &'static str) -> Self {
        Self { reason, rule, text }
    }

    /// A packet that cannot be parsed (MQTT 5 §1.2 "Malformed Packet").
    pub(super) const fn malformed(rule: &'static str, text: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, rule, text)
    }

    /// A packet that says what the protocol does not allow (MQTT 5 §1.2 "Protocol Error").
    pub(super) const fn protocol(rule: &'static str, text: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, rule, text)
    }
}
