//! Where a packet ends in a stream of bytes (MQTT 5 §2.1): the fixed header, and how much is missing.

use super::writer::variable_byte_integer_size;
use super::{ReasonCode, Violation};

/// The kinds of packets (MQTT 5 §2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of MQTT 5, section 2.1.2")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// All of them, by their number.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The kind that the first byte of a packet names, if its flags are as they must be.
    fn of(first: u8) -> Result<Self, Violation> {
        let place = usize::from(first >> 4).wrapping_sub(1);
        let Some(packet_type) = Self::ALL.get(place).copied() else {
            return Err(Violation::malformed("MQTT 5 §2.1.2", "the packet type 0 is forbidden"));
        };
        if packet_type == Self::Publish || first & 0x0F == packet_type.flags() {
            return Ok(packet_type);
        }
        let rule = match packet_type {
            Self::PubRel => "MQTT-3.6.1-1",
            Self::Subscribe => "MQTT-3.8.1-1",
            Self::Unsubscribe => "MQTT-3.10.1-1",
            Self::Disconnect => "MQTT-3.14.1-1",
            Self::Auth => "MQTT-3.15.1-1",
            _ => "MQTT-2.1.3-1",
        };
        Err(Violation::malformed(rule, "the reserved flags of the fixed header are not as they must be"))
    }

    /// The flags of the fixed header, of all but PUBLISH (MQTT 5 §2.1.3).
    const fn flags(self) -> u8 {
        match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// The first byte of a packet of this kind; of a PUBLISH without its flags.
    pub(super) const fn first_byte(self) -> u8 {
        (self as u8) << 4 | self.flags()
    }
}

/// One packet as it stands in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    packet_type: PacketType,
    flags: u8,
    size: usize,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The kind of the packet.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        self.packet_type
    }

    /// The packet's size with its fixed header, in bytes: so much is to be taken off the stream.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The low half of the first byte.
    pub(super) const fn flags(&self) -> u8 {
        self.flags
    }

    /// What follows the fixed header.
    pub(super) const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// That the Remaining Length has no byte too many. 3.1.1 does not ask for it (3.1.1 §2.2.3).
    pub(super) fn check_shortest(&self) -> Result<(), Violation> {
        if self.size == 1 + variable_byte_integer_size(self.body.len()) + self.body.len() {
            return Ok(());
        }
        Err(Violation::malformed("MQTT-1.5.5-1", "the remaining length is longer than it need be"))
    }
}

/// What stands at the front of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing<'a> {
    /// Not yet a packet: nothing can be said before the buffer holds so many bytes in all.
    Need(usize),
    /// A whole packet.
    Frame(Frame<'a>),
}

/// Looks for a packet at the front of `buffer`.
///
/// # Errors
/// The packet type or its flags are not allowed, the Remaining Length has more than four bytes, or the
/// packet is larger than `packet_bytes_max`, its fixed header included (0x95); all of it as soon as it can be
/// seen, so that nobody waits, or keeps room, for what will be refused.
pub fn frame(buffer: &[u8], packet_bytes_max: usize) -> Result<Framing<'_>, Violation> {
    let Some((first, rest)) = buffer.split_first() else { return Ok(Framing::Need(2)) };
    let packet_type = PacketType::of(*first)?;
    let mut remaining = 0;
    for place in 0..4 {
        let Some(digit) = rest.get(place) else { return Ok(Framing::Need(place + 2)) };
        remaining |= usize::from(digit & 0x7F) << (7 * place);
        if digit & 0x80 == 0 {
            let header = place + 2;
            let size = header + remaining;
            if size > packet_bytes_max {
                let text = "the packet is larger than the receiver takes";
                return Err(Violation::new(ReasonCode::PacketTooLarge, "MQTT 5 §3.2.2.3.6", text));
            }
            return Ok(match buffer.get(header..size) {
                Some(body) => Framing::Frame(Frame { packet_type, flags: first & 0x0F, size, body }),
                None => Framing::Need(size),
            });
        }
    }
    Err(Violation::malformed("MQTT 5 §2.1.4", "the remaining length has more than four bytes"))
}
