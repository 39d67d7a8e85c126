//! What the server allows every session, and what a device said of its connection.

use super::super::{
    Disconnect, Packet, Place, Properties, Property, PropertyList, ProtocolVersion, ReasonCode,
};

/// What the server allows, one for all sessions. What a device is told of it stands in the CONNACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest packet that a device may send, with its fixed header, in bytes: Maximum Packet Size.
    /// Whoever reads gives the same to [`frame`](super::super::frame()).
    pub packet_bytes_max: u32,
    /// How many messages of QoS 1 and 2 a device may send ahead of their answers; not 0. Beyond it: 0x93.
    pub receive_max: u16,
    /// How many topic aliases a device may use; 0: none. Beyond it: 0x94. Each keeps a topic, of 65,535 bytes
    /// at most, as long as the connection stays.
    /// Limit for each device: 0x94.
    pub topic_aliases_in_max: u16,
    /// How many topic aliases are used to a device at most, if it offers them.
    pub topic_aliases_out_max: u16,
    /// How many messages of QoS 1 and 2 are sent to a device ahead of its acknowledgements, if its Receive
    /// Maximum is not lower; not 0. What is beyond waits.
    pub in_flight_max: u16,
    /// How many messages wait for a device at most. Beyond it: [`Sent::Full`](super::Sent::Full).
    pub waiting_messages_max: usize,
    /// How many bytes of bodies and topics wait for a device at most. Beyond it: `Full`.
    pub waiting_bytes_max: usize,
    /// How many bytes are kept for a device that is away at most: what waits for it, and what it has not
    /// acknowledged. Beyond it: `Full`.
    pub away_bytes_max: usize,
    /// How many messages of QoS 2 a device may leave unreleased. Beyond it: 0x97.
    /// Limit for each device: 0x97.
    pub unreleased_max: usize,
    /// How many subscriptions a device may have. Beyond it: 0x97 in the SUBACK.
    pub subscriptions_max: usize,
    /// How many bytes the topic filters of a device may have in all. Beyond it: 0x97 in the SUBACK.
    pub subscription_bytes_max: usize,
    /// The longest time that a session stays without a connection, in seconds; `u32::MAX`: for ever.
    pub session_expiry_s_max: u32,
    /// The longest keep alive, in seconds; 0: whatever the device says, also none. 3.1.1 cannot be told.
    pub keep_alive_s_max: u16,
    /// Whether the owner keeps retained messages. If not: 0x9A to who sends one with MQTT 5.
    pub retain_available: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 1 << 20,
            receive_max: 32,
            topic_aliases_in_max: 8,
            topic_aliases_out_max: 8,
            in_flight_max: 32,
            waiting_messages_max: 256,
            waiting_bytes_max: 4 << 20,
            away_bytes_max: 1 << 20,
            unreleased_max: 256,
            subscriptions_max: 32,
            subscription_bytes_max: 4_096,
            session_expiry_s_max: 3_600,
            keep_alive_s_max: 0,
            retain_available: false,
        }
    }
}

/// What holds for one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it speaks.
    pub version: ProtocolVersion,
    /// Whether it wants reason strings in packets other than CONNACK and DISCONNECT \[MQTT-3.1.2-29\].
    pub wants_problem_information: bool,
    /// The largest packet that it takes, in bytes.
    pub packet_bytes_max: u32,
    /// How many messages of QoS 1 and 2 it takes ahead of its acknowledgements; never 0.
    pub receive_max: u16,
    /// How many topic aliases it takes.
    pub topic_alias_max: u16,
    /// How many topic aliases it was offered.
    pub topic_alias_offered: u16,
    /// After one and a half times of it without a packet the connection is over; in seconds; 0: never.
    pub keep_alive_s: u16,
}

impl Peer {
    /// Writes a DISCONNECT, with the text if it fits. Nothing to 3.1.1: its servers only close.
    /// A connection that was taken over says so itself, with what it was told when it began.
    pub fn disconnect(&self, reason: ReasonCode, text: &str, out: &mut Vec<u8>) {
        if self.version == ProtocolVersion::V311 {
            return;
        }
        let mut list = PropertyList::new(Place::DisconnectFromServer);
        // A text that is too long for a string is left out as one that does not fit.
        if !text.is_empty() {
            let _ = list.push(Property::ReasonString(text));
        }
        let packet = |properties| Packet::Disconnect(Disconnect { reason, properties });
        let with_text = packet(list.properties());
        // [MQTT-3.14.2-3]; a bare one always fits, since a CONNACK did.
        let chosen = if self.fits(&with_text) { with_text } else { packet(Properties::NONE) };
        // A reason that no DISCONNECT has: the connection is closed without one.
        let _ = chosen.encode(self.version, out);
    }

    /// Whether the device takes a packet of this size \[MQTT-3.1.2-24\].
    pub(super) fn fits(&self, packet: &Packet<'_>) -> bool {
        packet.size(self.version) <= self.packet_bytes_max as usize
    }
}
