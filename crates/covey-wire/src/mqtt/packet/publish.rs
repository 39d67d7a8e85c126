//! PUBLISH (MQTT 5 §3.3, 3.1.1 §3.3).

use super::super::reader::Reader;
use super::super::topic::check_topic_name;
use super::super::writer::{binary_size, check_text, put_binary};
use super::super::{Place, Properties, Sink, Violation};
use super::{PacketId, ProtocolVersion, Qos, Sender};

/// The quality of service with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// QoS 0: no packet identifier \[MQTT-2.2.1-2\], and never a repetition \[MQTT-3.3.1-2\].
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// What the PUBACK will name.
        packet_id: PacketId,
        /// Whether it may be a repetition (DUP).
        is_repeated: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// What PUBREC, PUBREL and PUBCOMP will name.
        packet_id: PacketId,
        /// Whether it may be a repetition (DUP).
        is_repeated: bool,
    },
}

impl Delivery {
    /// The quality of service alone.
    #[must_use]
    pub const fn qos(self) -> Qos {
        match self {
            Self::AtMostOnce => Qos::AtMostOnce,
            Self::AtLeastOnce { .. } => Qos::AtLeastOnce,
            Self::ExactlyOnce { .. } => Qos::ExactlyOnce,
        }
    }

    /// The packet identifier, of QoS 1 and 2.
    #[must_use]
    pub const fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce { packet_id, .. } | Self::ExactlyOnce { packet_id, .. } => Some(packet_id),
        }
    }

    /// Whether the packet may be a repetition (DUP).
    #[must_use]
    pub const fn is_repeated(self) -> bool {
        match self {
            Self::AtMostOnce => false,
            Self::AtLeastOnce { is_repeated, .. } | Self::ExactlyOnce { is_repeated, .. } => is_repeated,
        }
    }
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// How it is delivered.
    pub delivery: Delivery,
    /// Whether it is, or is to be, retained.
    pub retain: bool,
    /// Where to: a topic name, or empty if the properties have a Topic Alias.
    pub topic: &'a str,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
    /// The body.
    pub payload: &'a [u8],
}

mod flag {
    pub const RETAIN: u8 = 0x01;
    pub const DUP: u8 = 0x08;
}

impl<'a> Publish<'a> {
    pub(super) fn read(
        flags: u8,
        mut reader: Reader<'a>,
        version: ProtocolVersion,
        sender: Sender,
    ) -> Result<Self, Violation> {
        let is_repeated = flags & flag::DUP != 0;
        let qos = Qos::from_bits(flags >> 1 & 3)
            .ok_or(Violation::malformed("MQTT-3.3.1-4", "the QoS of a PUBLISH is 3"))?;
        if is_repeated && qos == Qos::AtMostOnce {
            return Err(Violation::malformed("MQTT-3.3.1-2", "DUP is set with QoS 0"));
        }
        let topic = reader.text()?;
        let delivery = match qos {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id: reader.packet_id()?, is_repeated },
            Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id: reader.packet_id()?, is_repeated },
        };
        let properties = match (version, sender) {
            (ProtocolVersion::V311, _) => Properties::NONE,
            (_, Sender::Client) => Properties::read(&mut reader, Place::PublishFromClient)?,
            (_, Sender::Server) => Properties::read(&mut reader, Place::PublishFromServer)?,
        };
        check_topic(topic, properties)?;
        Ok(Self { delivery, retain: flags & flag::RETAIN != 0, topic, properties, payload: reader.rest() })
    }

    pub(super) fn check(&self, version: ProtocolVersion) -> Result<(), Violation> {
        check_text(self.topic)?;
        let properties = match version {
            ProtocolVersion::V5 => self.properties,
            ProtocolVersion::V311 => Properties::NONE,
        };
        check_topic(self.topic, properties)?;
        properties.check(&[Place::PublishFromClient, Place::PublishFromServer])
    }

    /// The low half of the first byte (MQTT 5 §3.3.1).
    pub(super) const fn flags(&self) -> u8 {
        let dup = if self.delivery.is_repeated() { flag::DUP } else { 0 };
        let retain = if self.retain { flag::RETAIN } else { 0 };
        dup | (self.delivery.qos() as u8) << 1 | retain
    }

    pub(super) fn size(&self, version: ProtocolVersion) -> usize {
        let packet_id = if self.delivery.packet_id().is_some() { 2 } else { 0 };
        let properties = self.properties.size_in(version);
        binary_size(self.topic.as_bytes()) + packet_id + properties + self.payload.len()
    }

    pub(super) fn write(&self, version: ProtocolVersion, out: &mut impl Sink) {
        put_binary(self.topic.as_bytes(), out);
        if let Some(packet_id) = self.delivery.packet_id() {
            out.put(&packet_id.get().to_be_bytes());
        }
        self.properties.write_in(version, out);
        out.put(self.payload);
    }
}

/// An empty topic name needs a Topic Alias (MQTT 5 §3.3.2.3.4).
fn check_topic(topic: &str, properties: Properties<'_>) -> Result<(), Violation> {
    if !topic.is_empty() {
        return check_topic_name(topic);
    }
    if properties.topic_alias().is_some() {
        return Ok(());
    }
    Err(Violation::protocol("MQTT 5 §3.3.2.3.4", "the topic name is empty and there is no Topic Alias"))
}
