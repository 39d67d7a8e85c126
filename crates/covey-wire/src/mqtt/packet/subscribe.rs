//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5 §3.8, §3.10, 3.1.1 §3.8, §3.10).

use super::super::reader::Reader;
use super::super::topic::{check_topic_filter, shared_subscription};
use super::super::writer::{check_text, put_binary};
use super::super::{Place, Properties, Sink, Violation};
use super::{PacketId, ProtocolVersion, Qos};

/// Which retained messages a subscription asks for (MQTT 5 §3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: those that are there.
    #[default]
    Send = 0,
    /// 1: those that are there, if the subscription is new.
    SendIfNew = 1,
    /// 2: none.
    DoNotSend = 2,
}

/// The Subscription Options (MQTT 5 §3.8.3.1); 3.1.1 has only the QoS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest QoS that is wanted.
    pub qos: Qos,
    /// Whether the client does not want its own messages.
    pub no_local: bool,
    /// Whether messages keep their retain flag.
    pub retain_as_published: bool,
    /// Which retained messages are wanted.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// A QoS, and all else as in 3.1.1.
    #[must_use]
    pub const fn qos(qos: Qos) -> Self {
        Self { qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Send }
    }

    fn from_byte(byte: u8, version: ProtocolVersion) -> Result<Self, Violation> {
        let qos = Qos::from_bits(byte & 3)
            .ok_or(Violation::protocol("MQTT 5 §3.8.3.1", "the QoS of a subscription is 3"))?;
        if version == ProtocolVersion::V311 {
            if byte & 0xFC != 0 {
                let text = "reserved bits of a requested QoS are set";
                return Err(Violation::malformed("3.1.1 MQTT-3.8.3-4", text));
            }
            return Ok(Self::qos(qos));
        }
        if byte & 0xC0 != 0 {
            let text = "reserved bits of subscription options are set";
            return Err(Violation::malformed("MQTT-3.8.3-5", text));
        }
        let retain_handling = match byte >> 4 & 3 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(Violation::protocol("MQTT 5 §3.8.3.1", "the Retain Handling is 3")),
        };
        Ok(Self { qos, no_local: byte & 4 != 0, retain_as_published: byte & 8 != 0, retain_handling })
    }

    fn byte(self, version: ProtocolVersion) -> u8 {
        let qos = self.qos as u8;
        match version {
            ProtocolVersion::V311 => qos,
            ProtocolVersion::V5 => {
                qos | u8::from(self.no_local) << 2
                    | u8::from(self.retain_as_published) << 3
                    | (self.retain_handling as u8) << 4
            }
        }
    }
}

fn check_subscription(
    filter: &str,
    options: SubscriptionOptions,
    version: ProtocolVersion,
) -> Result<(), Violation> {
    check_topic_filter(filter, version)?;
    if version == ProtocolVersion::V5 && options.no_local && shared_subscription(filter).is_some() {
        return Err(Violation::protocol("MQTT-3.8.3-4", "No Local is set on a shared subscription"));
    }
    Ok(())
}

/// The topic filters of a SUBSCRIBE with their options, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeFilters<'a> {
    bytes: &'a [u8],
    version: ProtocolVersion,
}

impl<'a> SubscribeFilters<'a> {
    fn read(reader: &mut Reader<'a>, version: ProtocolVersion) -> Result<Self, Violation> {
        let bytes = reader.take(reader.left())?;
        let mut filters = Reader::new(bytes);
        if filters.is_empty() {
            return Err(NO_SUBSCRIPTION);
        }
        while !filters.is_empty() {
            let filter = filters.text()?;
            check_subscription(filter, SubscriptionOptions::from_byte(filters.byte()?, version)?, version)?;
        }
        Ok(Self { bytes, version })
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, SubscriptionOptions)> {
        let mut reader = Reader::new(self.bytes);
        // They have been read before, so that no error is passed over here.
        std::iter::from_fn(move || {
            let filter = reader.text().ok()?;
            Some((filter, SubscriptionOptions::from_byte(reader.byte().ok()?, self.version).ok()?))
        })
    }
}

/// The topic filters of a SUBSCRIBE that is put together.
#[derive(Clone, Debug)]
pub struct SubscribeList {
    bytes: Vec<u8>,
    version: ProtocolVersion,
}

impl SubscribeList {
    /// An empty list; a SUBSCRIBE needs at least one \[MQTT-3.8.3-2\].
    #[must_use]
    pub const fn new(version: ProtocolVersion) -> Self {
        Self { bytes: Vec::new(), version }
    }

    /// Appends a topic filter.
    ///
    /// # Errors
    /// The filter is not valid; the list is as before.
    pub fn push(&mut self, filter: &str, options: SubscriptionOptions) -> Result<(), Violation> {
        check_text(filter)?;
        check_subscription(filter, options, self.version)?;
        put_binary(filter.as_bytes(), &mut self.bytes);
        self.bytes.push(options.byte(self.version));
        Ok(())
    }

    /// What the SUBSCRIBE is written with.
    #[must_use]
    pub fn filters(&self) -> SubscribeFilters<'_> {
        SubscribeFilters { bytes: &self.bytes, version: self.version }
    }
}

/// A client's wish to get messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// What the SUBACK will name.
    pub packet_id: PacketId,
    /// The topic filters.
    pub filters: SubscribeFilters<'a>,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
}

const NO_SUBSCRIPTION: Violation = Violation::protocol("MQTT-3.8.3-2", "a SUBSCRIBE has no topic filter");
const OTHER_VERSION: Violation =
    Violation::protocol("MQTT 5 §3.8.3", "the topic filters are those of another version");

impl<'a> Subscribe<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, version: ProtocolVersion) -> Result<Self, Violation> {
        let packet_id = reader.packet_id()?;
        let properties = Properties::read_in(version, reader, Place::Subscribe)?;
        Ok(Self { packet_id, filters: SubscribeFilters::read(reader, version)?, properties })
    }

    pub(super) fn check(&self, version: ProtocolVersion) -> Result<(), Violation> {
        if self.filters.bytes.is_empty() {
            return Err(NO_SUBSCRIPTION);
        }
        if self.filters.version != version {
            return Err(OTHER_VERSION);
        }
        self.properties.check(&[Place::Subscribe])
    }

    pub(super) fn size(&self, version: ProtocolVersion) -> usize {
        2 + self.properties.size_in(version) + self.filters.bytes.len()
    }

    pub(super) fn write(&self, version: ProtocolVersion, out: &mut impl Sink) {
        out.put(&self.packet_id.get().to_be_bytes());
        self.properties.write_in(version, out);
        out.put(self.filters.bytes);
    }
}

/// The topic filters of an UNSUBSCRIBE, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubscribeFilters<'a> {
    bytes: &'a [u8],
    version: ProtocolVersion,
}

impl<'a> UnsubscribeFilters<'a> {
    fn read(reader: &mut Reader<'a>, version: ProtocolVersion) -> Result<Self, Violation> {
        let bytes = reader.take(reader.left())?;
        let mut filters = Reader::new(bytes);
        if filters.is_empty() {
            return Err(NO_FILTER);
        }
        while !filters.is_empty() {
            check_topic_filter(filters.text()?, version)?;
        }
        Ok(Self { bytes, version })
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || reader.text().ok())
    }
}

/// The topic filters of an UNSUBSCRIBE that is put together.
#[derive(Clone, Debug)]
pub struct UnsubscribeList {
    bytes: Vec<u8>,
    version: ProtocolVersion,
}

impl UnsubscribeList {
    /// An empty list; an UNSUBSCRIBE needs at least one \[MQTT-3.10.3-2\].
    #[must_use]
    pub const fn new(version: ProtocolVersion) -> Self {
        Self { bytes: Vec::new(), version }
    }

    /// Appends a topic filter.
    ///
    /// # Errors
    /// The filter is not valid; the list is as before.
    pub fn push(&mut self, filter: &str) -> Result<(), Violation> {
        check_text(filter)?;
        check_topic_filter(filter, self.version)?;
        put_binary(filter.as_bytes(), &mut self.bytes);
        Ok(())
    }

    /// What the UNSUBSCRIBE is written with.
    #[must_use]
    pub fn filters(&self) -> UnsubscribeFilters<'_> {
        UnsubscribeFilters { bytes: &self.bytes, version: self.version }
    }
}

/// A client's wish to get messages no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// What the UNSUBACK will name.
    pub packet_id: PacketId,
    /// The topic filters.
    pub filters: UnsubscribeFilters<'a>,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
}

const NO_FILTER: Violation = Violation::protocol("MQTT-3.10.3-2", "an UNSUBSCRIBE has no topic filter");

impl<'a> Unsubscribe<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, version: ProtocolVersion) -> Result<Self, Violation> {
        let packet_id = reader.packet_id()?;
        let properties = Properties::read_in(version, reader, Place::Unsubscribe)?;
        Ok(Self { packet_id, filters: UnsubscribeFilters::read(reader, version)?, properties })
    }

    pub(super) fn check(&self, version: ProtocolVersion) -> Result<(), Violation> {
        if self.filters.bytes.is_empty() {
            return Err(NO_FILTER);
        }
        if self.filters.version != version {
            return Err(OTHER_VERSION);
        }
        self.properties.check(&[Place::Unsubscribe])
    }

    pub(super) fn size(&self, version: ProtocolVersion) -> usize {
        2 + self.properties.size_in(version) + self.filters.bytes.len()
    }

    pub(super) fn write(&self, version: ProtocolVersion, out: &mut impl Sink) {
        out.put(&self.packet_id.get().to_be_bytes());
        self.properties.write_in(version, out);
        out.put(self.filters.bytes);
    }
}
