//! The messages of MQTT-SN 1.2 as bytes, in both directions and without state (§5): [`decode`] reads a datagram, [`Packet::encode`] writes one.
//!
//! What is read borrows from the datagram, and nothing is allocated. Names are bytes here, so that a message whose
//! name is no text can still be answered: [`Name::text`], [`Name::topic`] and [`Name::filter`] say whether it is one.
//!
//! ```
//! use covey_wire::mqtt_sn::{Packet, decode};
//!
//! assert_eq!(decode(&[0x02, 0x16]), Ok(Packet::PingReq(None)));
//! assert_eq!(decode(&[0x03, 0x16]).unwrap_err().section, "5.2.1");
//! ```

mod name;
mod read;
mod violation;
mod write;

pub use name::{CLIENT_ID_CHARACTERS_MAX, Name};
pub use read::decode;
pub use violation::Violation;

/// The port on which MQTT-SN is expected in the field; no port is registered for it.
pub const PORT: u16 = 1885;
/// The only protocol id of 1.2 (§5.3.8).
pub const PROTOCOL_ID: u8 = 1;

/// The kinds of messages (§5.2.2).
mod kind {
    pub const ADVERTISE: u8 = 0x00;
    pub const SEARCHGW: u8 = 0x01;
    pub const GWINFO: u8 = 0x02;
    pub const CONNECT: u8 = 0x04;
    pub const CONNACK: u8 = 0x05;
    pub const WILLTOPICREQ: u8 = 0x06;
    pub const WILLTOPIC: u8 = 0x07;
    pub const WILLMSGREQ: u8 = 0x08;
    pub const WILLMSG: u8 = 0x09;
    pub const REGISTER: u8 = 0x0A;
    pub const REGACK: u8 = 0x0B;
    pub const PUBLISH: u8 = 0x0C;
    pub const PUBACK: u8 = 0x0D;
    pub const PUBCOMP: u8 = 0x0E;
    pub const PUBREC: u8 = 0x0F;
    pub const PUBREL: u8 = 0x10;
    pub const SUBSCRIBE: u8 = 0x12;
    pub const SUBACK: u8 = 0x13;
    pub const UNSUBSCRIBE: u8 = 0x14;
    pub const UNSUBACK: u8 = 0x15;
    pub const PINGREQ: u8 = 0x16;
    pub const PINGRESP: u8 = 0x17;
    pub const DISCONNECT: u8 = 0x18;
    pub const WILLTOPICUPD: u8 = 0x1A;
    pub const WILLTOPICRESP: u8 = 0x1B;
    pub const WILLMSGUPD: u8 = 0x1C;
    pub const WILLMSGRESP: u8 = 0x1D;
    pub const ENCAPSULATED: u8 = 0xFE;
}

/// The bits of the flags (§5.3.4).
mod flag {
    pub const DUP: u8 = 0x80;
    pub const QOS: u8 = 0x60;
    pub const RETAIN: u8 = 0x10;
    pub const WILL: u8 = 0x08;
    pub const CLEAN_SESSION: u8 = 0x04;
    pub const TOPIC_ID_TYPE: u8 = 0x03;
}

/// The quality of service (§5.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Qos {
    /// 0.
    AtMostOnce,
    /// 1.
    AtLeastOnce,
    /// 2.
    ExactlyOnce,
    /// −1: a message of somebody who need not be connected (§6.8).
    WithoutConnection,
}

impl Qos {
    const fn of(flags: u8) -> Self {
        match flags & flag::QOS {
            0x00 => Self::AtMostOnce,
            0x20 => Self::AtLeastOnce,
            0x40 => Self::ExactlyOnce,
            _ => Self::WithoutConnection,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::AtMostOnce => 0x00,
            Self::AtLeastOnce => 0x20,
            Self::ExactlyOnce => 0x40,
            Self::WithoutConnection => 0x60,
        }
    }
}

/// Whether something was accepted, and if not why (§5.3.10). What is not in the table is reserved and not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReturnCode(pub u8);

impl ReturnCode {
    /// Accepted.
    pub const ACCEPTED: Self = Self(0);
    /// Rejected: congestion. The client may try again after `T_WAIT`, more than 5 minutes (§7.2).
    pub const CONGESTION: Self = Self(1);
    /// Rejected: invalid topic id.
    pub const INVALID_TOPIC_ID: Self = Self(2);
    /// Rejected: not supported.
    pub const NOT_SUPPORTED: Self = Self(3);
}

/// What names a topic in a PUBLISH (§5.3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// By an id that one side has told the other in this connection.
    Normal(u16),
    /// By an id that both sides know beforehand (§6.7).
    Predefined(u16),
    /// By a name of two bytes (§6.7).
    Short([u8; 2]),
}

impl Topic {
    /// The two bytes that stand in the message.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Normal(id) | Self::Predefined(id) => id,
            Self::Short(name) => u16::from_be_bytes(name),
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Normal(_) => 0,
            Self::Predefined(_) => 1,
            Self::Short(_) => 2,
        }
    }
}

/// What names topics in a SUBSCRIBE or an UNSUBSCRIBE (§5.4.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter<'a> {
    /// A name, which may have wildcards.
    Name(Name<'a>),
    /// The id of a predefined topic.
    Predefined(u16),
    /// A short name.
    Short([u8; 2]),
}

impl Filter<'_> {
    const fn bits(&self) -> u8 {
        match self {
            Self::Name(_) => 0,
            Self::Predefined(_) => 1,
            Self::Short(_) => 2,
        }
    }
}

/// CONNECT (§5.4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Whether the gateway is to ask for a will.
    pub has_will: bool,
    /// Whether the client begins without what is kept of an earlier connection.
    pub is_clean: bool,
    /// [`PROTOCOL_ID`] in 1.2.
    pub protocol_id: u8,
    /// The keep-alive time in seconds.
    pub keep_alive_s: u16,
    /// The client id, of 1 to 23 characters (§5.3.1): [`Name::client_id`] looks at it.
    pub client_id: Name<'a>,
}

/// The topic of a will (§5.4.7, §5.4.22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WillTopic<'a> {
    /// How the will is to be published.
    pub qos: Qos,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Where.
    pub name: Name<'a>,
}

/// REGACK or PUBACK (§5.4.11, §5.4.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The topic id of the message that is acknowledged; in a REGACK the one that was assigned.
    pub topic_id: u16,
    /// The id of that message.
    pub msg_id: u16,
    /// Whether it was accepted.
    pub code: ReturnCode,
}

/// PUBLISH (§5.4.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether it is sent again (DUP).
    pub is_repeated: bool,
    /// How it is delivered.
    pub qos: Qos,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Where to.
    pub topic: Topic,
    /// What the answer will name; 0 without an answer. RIOT's emcute counts from 0xFFFF to 0, so that 0 is an id as
    /// any other.
    pub msg_id: u16,
    /// The body.
    pub payload: &'a [u8],
}

/// SUBSCRIBE (§5.4.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Whether it is sent again (DUP).
    pub is_repeated: bool,
    /// The QoS that is asked for.
    pub qos: Qos,
    /// What the SUBACK will name.
    pub msg_id: u16,
    /// What is subscribed.
    pub filter: Filter<'a>,
}

/// SUBACK (§5.4.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// The QoS that is granted.
    pub qos: Qos,
    /// The id under which the topic's messages will come; 0 where the filter names no single topic, and for short names.
    pub topic_id: u16,
    /// That of the SUBSCRIBE.
    pub msg_id: u16,
    /// Whether it was accepted.
    pub code: ReturnCode,
}

/// A message (§5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of MQTT-SN 1.2, section 5.4")]
pub enum Packet<'a> {
    Advertise {
        gateway_id: u8,
        /// Until the next one.
        duration_s: u16,
    },
    SearchGw {
        radius: u8,
    },
    GwInfo {
        gateway_id: u8,
        /// Empty if the gateway itself says it.
        address: &'a [u8],
    },
    Connect(Connect<'a>),
    ConnAck(ReturnCode),
    WillTopicReq,
    /// Without a topic: there shall be no will.
    WillTopic(Option<WillTopic<'a>>),
    WillMsgReq,
    WillMsg(&'a [u8]),
    Register {
        /// 0 if a client asks for an id.
        topic_id: u16,
        msg_id: u16,
        name: Name<'a>,
    },
    RegAck(Ack),
    Publish(Publish<'a>),
    PubAck(Ack),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck),
    Unsubscribe {
        msg_id: u16,
        filter: Filter<'a>,
    },
    UnsubAck(u16),
    /// With a client id: a sleeping client asks for its messages (§6.14).
    PingReq(Option<Name<'a>>),
    PingResp,
    /// With a duration in seconds: the client goes to sleep.
    Disconnect(Option<u16>),
    WillTopicUpd(Option<WillTopic<'a>>),
    WillTopicResp(ReturnCode),
    WillMsgUpd(&'a [u8]),
    WillMsgResp(ReturnCode),
    /// What a forwarder has put around the message of a node (§5.5).
    Encapsulated {
        radius: u8,
        node: &'a [u8],
        message: &'a [u8],
    },
}
