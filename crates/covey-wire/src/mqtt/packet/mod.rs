//! The packets of MQTT (MQTT 5 §3), one file for each group, and what chooses between them.

mod ack;
mod connack;
mod connect;
mod disconnect;
mod publish;
mod suback;
mod subscribe;

use std::num::NonZeroU16;

pub use ack::Ack;
pub use connack::ConnAck;
pub use connect::{Connect, Will, version_to_refuse_in};
pub use disconnect::{Auth, Disconnect};
pub use publish::{Delivery, Publish};
pub use suback::{ReasonCodes, SubAck, UnsubAck};
pub use subscribe::{
    RetainHandling, Subscribe, SubscribeFilters, SubscribeList, SubscriptionOptions, Unsubscribe,
    UnsubscribeFilters, UnsubscribeList,
};

use super::reader::Reader;
use super::writer::{REMAINING_LENGTH_MAX, put_variable_byte_integer, variable_byte_integer_size};
use super::{Frame, PacketType, Place, ReasonCode, Sink, Violation};

/// A Packet Identifier (MQTT 5 §2.2.1); never 0.
pub type PacketId = NonZeroU16;

/// The version of MQTT that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolVersion {
    /// 3.1.1 (protocol level 4), and 3.1 (level 3), which is taken as 3.1.1.
    V311,
    /// 5 (protocol level 5).
    V5,
}

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// A client: the reader is a server.
    Client,
    /// A server: the reader is a client.
    Server,
}

/// The quality of service (MQTT 5 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Qos {
    /// 0.
    AtMostOnce = 0,
    /// 1.
    AtLeastOnce = 1,
    /// 2.
    ExactlyOnce = 2,
}

impl Qos {
    /// The QoS of two bits; none for 3.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The reason code by which a SUBACK grants it (MQTT 5 §3.9.3).
    #[must_use]
    pub const fn granted(self) -> ReasonCode {
        match self {
            Self::AtMostOnce => ReasonCode::Success,
            Self::AtLeastOnce => ReasonCode::GrantedQos1,
            Self::ExactlyOnce => ReasonCode::GrantedQos2,
        }
    }
}

/// A packet (MQTT 5 §2.1.2). Fields that 3.1.1 does not have are empty there, and are left out when they
/// are written for 3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of MQTT 5, section 2.1.2")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// Reads a packet. A CONNECT says its version itself, so that `version` does not matter for it.
///
/// # Errors
/// The first rule of the standard that the packet breaks.
pub fn decode(frame: Frame<'_>, version: ProtocolVersion, sender: Sender) -> Result<Packet<'_>, Violation> {
    if version == ProtocolVersion::V5 && frame.packet_type() != PacketType::Connect {
        frame.check_shortest()?;
    }
    let mut reader = Reader::new(frame.body());
    let body = &mut reader;
    let packet = match (frame.packet_type(), sender) {
        (PacketType::Connect, Sender::Client) => {
            let connect = Connect::read(body)?;
            if connect.version == ProtocolVersion::V5 {
                frame.check_shortest()?;
            }
            Packet::Connect(connect)
        }
        (PacketType::ConnAck, Sender::Server) => Packet::ConnAck(ConnAck::read(body, version)?),
        (PacketType::Publish, _) => {
            return Ok(Packet::Publish(Publish::read(frame.flags(), reader, version, sender)?));
        }
        (PacketType::PubAck, _) => Packet::PubAck(Ack::read(body, version, Place::PubAck)?),
        (PacketType::PubRec, _) => Packet::PubRec(Ack::read(body, version, Place::PubRec)?),
        (PacketType::PubRel, _) => Packet::PubRel(Ack::read(body, version, Place::PubRel)?),
        (PacketType::PubComp, _) => Packet::PubComp(Ack::read(body, version, Place::PubComp)?),
        (PacketType::Subscribe, Sender::Client) => Packet::Subscribe(Subscribe::read(body, version)?),
        (PacketType::SubAck, Sender::Server) => Packet::SubAck(SubAck::read(body, version)?),
        (PacketType::Unsubscribe, Sender::Client) => Packet::Unsubscribe(Unsubscribe::read(body, version)?),
        (PacketType::UnsubAck, Sender::Server) => Packet::UnsubAck(UnsubAck::read(body, version)?),
        (PacketType::PingReq, Sender::Client) => Packet::PingReq,
        (PacketType::PingResp, Sender::Server) => Packet::PingResp,
        (PacketType::Disconnect, Sender::Server) if version == ProtocolVersion::V311 => {
            return Err(Violation::protocol("3.1.1 §3.14", "a 3.1.1 server sends no DISCONNECT"));
        }
        (PacketType::Disconnect, _) => Packet::Disconnect(Disconnect::read(body, version, sender)?),
        (PacketType::Auth, _) if version == ProtocolVersion::V311 => {
            return Err(Violation::malformed("3.1.1 §2.2.1", "the packet type 15 is forbidden in 3.1.1"));
        }
        (PacketType::Auth, _) => Packet::Auth(Auth::read(body, sender)?),
        _ => return Err(Violation::protocol("MQTT 5 §2.1.2", "the other side sends packets of this type")),
    };
    reader.end()?;
    Ok(packet)
}

impl Packet<'_> {
    /// Its kind.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// The exact size with the fixed header, in bytes: what a Maximum Packet Size is about
    /// (MQTT 5 §3.1.2.11.4).
    #[must_use]
    pub fn size(&self, version: ProtocolVersion) -> usize {
        let remaining = self.remaining_length(version);
        1 + variable_byte_integer_size(remaining) + remaining
    }

    /// Appends the packet to `out` and answers its size in bytes. A CONNECT is written in the version that
    /// it names itself.
    ///
    /// # Errors
    /// The packet breaks a rule, so that the other side would refuse it; nothing is written.
    pub fn encode(&self, version: ProtocolVersion, out: &mut impl Sink) -> Result<usize, Violation> {
        self.check(version)?;
        let remaining = self.remaining_length(version);
        if remaining > REMAINING_LENGTH_MAX {
            let text = "the packet is longer than 268,435,455 bytes";
            return Err(Violation::new(ReasonCode::PacketTooLarge, "MQTT 5 §2.1.4", text));
        }
        let size = 1 + variable_byte_integer_size(remaining) + remaining;
        out.make_room(size);
        let flags = if let Self::Publish(publish) = self { publish.flags() } else { 0 };
        out.put(&[self.packet_type().first_byte() | flags]);
        put_variable_byte_integer(remaining, out);
        self.write(version, out);
        Ok(size)
    }

    fn remaining_length(&self, version: ProtocolVersion) -> usize {
        match self {
            Self::Connect(connect) => connect.size(),
            Self::ConnAck(connack) => connack.size(version),
            Self::Publish(publish) => publish.size(version),
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => {
                ack.size(version)
            }
            Self::Subscribe(subscribe) => subscribe.size(version),
            Self::SubAck(suback) => suback.size(version),
            Self::Unsubscribe(unsubscribe) => unsubscribe.size(version),
            Self::UnsubAck(unsuback) => unsuback.size(version),
            Self::PingReq | Self::PingResp => 0,
            Self::Disconnect(disconnect) => disconnect.size(version),
            Self::Auth(auth) => auth.size(),
        }
    }

    /// That the other side would take it.
    pub(in crate::mqtt) fn check(&self, version: ProtocolVersion) -> Result<(), Violation> {
        match self {
            Self::Connect(connect) => connect.check(),
            Self::ConnAck(connack) => connack.check(),
            Self::Publish(publish) => publish.check(version),
            Self::PubAck(ack) => ack.check(Place::PubAck),
            Self::PubRec(ack) => ack.check(Place::PubRec),
            Self::PubRel(ack) => ack.check(Place::PubRel),
            Self::PubComp(ack) => ack.check(Place::PubComp),
            Self::Subscribe(subscribe) => subscribe.check(version),
            Self::SubAck(suback) => suback.check(),
            Self::Unsubscribe(unsubscribe) => unsubscribe.check(version),
            Self::UnsubAck(unsuback) => unsuback.check(),
            Self::PingReq | Self::PingResp => Ok(()),
            Self::Disconnect(disconnect) => disconnect.check(),
            Self::Auth(_) if version == ProtocolVersion::V311 => {
                Err(Violation::malformed("3.1.1 §2.2.1", "3.1.1 has no AUTH"))
            }
            Self::Auth(auth) => auth.check(),
        }
    }

    fn write(&self, version: ProtocolVersion, out: &mut impl Sink) {
        match self {
            Self::Connect(connect) => connect.write(out),
            Self::ConnAck(connack) => connack.write(version, out),
            Self::Publish(publish) => publish.write(version, out),
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => {
                ack.write(version, out);
            }
            Self::Subscribe(subscribe) => subscribe.write(version, out),
            Self::SubAck(suback) => suback.write(version, out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.write(version, out),
            Self::UnsubAck(unsuback) => unsuback.write(version, out),
            Self::PingReq | Self::PingResp => {}
            Self::Disconnect(disconnect) => disconnect.write(version, out),
            Self::Auth(auth) => auth.write(out),
        }
    }
}

/// Reads a reason code that must be one of those of its packet.
fn reason_code(reader: &mut Reader<'_>, place: Place, rule: &'static str) -> Result<ReasonCode, Violation> {
    let code = reader.byte()?;
    ReasonCode::from_code(code)
        .filter(|reason| reason.is_allowed_in(place))
        .ok_or(Violation::protocol(rule, "the reason code is not one of this packet"))
}

/// That a packet to be written has one of its reason codes.
fn check_reason_code(reason: ReasonCode, place: Place, rule: &'static str) -> Result<(), Violation> {
    if reason.is_allowed_in(place) {
        return Ok(());
    }
    Err(Violation::protocol(rule, "the reason code is not one of this packet"))
}
