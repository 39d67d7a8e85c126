//! The properties of a packet (MQTT 5 §2.2.2): checked once when the packet is read, looked at as often as
//! wanted without a copy; and a list to write them with.

use super::property::{Property, id};
use super::reader::Reader;
use super::writer::{REMAINING_LENGTH_MAX, Sink, put_variable_byte_integer, variable_byte_integer_size};
use super::{ProtocolVersion, ReasonCode, Violation};

/// A packet that has properties or a reason code, and from which side, where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of MQTT 5, section 2.1.2")]
pub enum Place {
    Connect,
    /// The will in a CONNECT (MQTT 5 §3.1.3.2).
    Will,
    ConnAck,
    PublishFromClient,
    PublishFromServer,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    DisconnectFromClient,
    DisconnectFromServer,
    AuthFromClient,
    AuthFromServer,
}

const fn set(ids: &[u8]) -> u64 {
    let (mut set, mut place) = (1 << id::USER_PROPERTY, 0);
    while place < ids.len() {
        set |= 1 << ids[place];
        place += 1;
    }
    set
}

const OF_A_MESSAGE: &[u8] = &[
    id::PAYLOAD_FORMAT_INDICATOR,
    id::MESSAGE_EXPIRY_INTERVAL,
    id::CONTENT_TYPE,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
];

impl Place {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Connect,
        Self::Will,
        Self::ConnAck,
        Self::PublishFromClient,
        Self::PublishFromServer,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::DisconnectFromClient,
        Self::DisconnectFromServer,
        Self::AuthFromClient,
        Self::AuthFromServer,
    ];

    /// The properties that may stand there (MQTT 5 table 2-4), as a set of their identifiers.
    const fn allowed(self) -> u64 {
        match self {
            Self::Connect => set(&[
                id::SESSION_EXPIRY_INTERVAL,
                id::AUTHENTICATION_METHOD,
                id::AUTHENTICATION_DATA,
                id::REQUEST_PROBLEM_INFORMATION,
                id::REQUEST_RESPONSE_INFORMATION,
                id::RECEIVE_MAXIMUM,
                id::TOPIC_ALIAS_MAXIMUM,
                id::MAXIMUM_PACKET_SIZE,
            ]),
            Self::Will => set(OF_A_MESSAGE) | set(&[id::WILL_DELAY_INTERVAL]),
            Self::ConnAck => set(&[
                id::SESSION_EXPIRY_INTERVAL,
                id::ASSIGNED_CLIENT_IDENTIFIER,
                id::SERVER_KEEP_ALIVE,
                id::AUTHENTICATION_METHOD,
                id::AUTHENTICATION_DATA,
                id::RESPONSE_INFORMATION,
                id::SERVER_REFERENCE,
                id::REASON_STRING,
                id::RECEIVE_MAXIMUM,
                id::TOPIC_ALIAS_MAXIMUM,
                id::MAXIMUM_QOS,
                id::RETAIN_AVAILABLE,
                id::MAXIMUM_PACKET_SIZE,
                id::WILDCARD_SUBSCRIPTION_AVAILABLE,
                id::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
                id::SHARED_SUBSCRIPTION_AVAILABLE,
            ]),
            Self::PublishFromClient => set(OF_A_MESSAGE) | set(&[id::TOPIC_ALIAS]),
            Self::PublishFromServer => {
                set(OF_A_MESSAGE) | set(&[id::TOPIC_ALIAS, id::SUBSCRIPTION_IDENTIFIER])
            }
            Self::Subscribe => set(&[id::SUBSCRIPTION_IDENTIFIER]),
            Self::Unsubscribe => set(&[]),
            Self::PubAck | Self::PubRec | Self::PubRel | Self::PubComp | Self::SubAck | Self::UnsubAck => {
                set(&[id::REASON_STRING])
            }
            Self::DisconnectFromClient => set(&[id::SESSION_EXPIRY_INTERVAL, id::REASON_STRING]),
            Self::DisconnectFromServer => set(&[id::SERVER_REFERENCE, id::REASON_STRING]),
            Self::AuthFromClient | Self::AuthFromServer => {
                set(&[id::AUTHENTICATION_METHOD, id::AUTHENTICATION_DATA, id::REASON_STRING])
            }
        }
    }

    /// Adds a property to those seen, if it may stand there, and stand there again.
    fn admit(self, seen: u64, property: u8) -> Result<u64, Violation> {
        let bit = 1_u64 << property;
        if self.allowed() & bit == 0 {
            return Err(self.refusal(property));
        }
        let may_repeat = property == id::USER_PROPERTY
            || (property == id::SUBSCRIPTION_IDENTIFIER && self == Self::PublishFromServer);
        if seen & bit != 0 && !may_repeat {
            return Err(Violation::protocol("MQTT 5 §2.2.2.2", "a property occurs more than once"));
        }
        Ok(seen | bit)
    }

    /// What is wrong with a property that may not stand there.
    fn refusal(self, property: u8) -> Violation {
        match (self, property) {
            (Self::PublishFromClient, id::SUBSCRIPTION_IDENTIFIER) => {
                Violation::protocol("MQTT-3.3.4-6", "a client's PUBLISH has a Subscription Identifier")
            }
            (Self::DisconnectFromServer, id::SESSION_EXPIRY_INTERVAL) => {
                Violation::protocol("MQTT-3.14.2-2", "a server's DISCONNECT has a Session Expiry Interval")
            }
            (Self::DisconnectFromClient, id::SERVER_REFERENCE) => {
                Violation::protocol("MQTT 5 §3.14.2.2.5", "a client's DISCONNECT has a Server Reference")
            }
            _ => Violation::malformed("MQTT 5 §2.2.2.2", "a property is not allowed in this packet"),
        }
    }
}

/// The properties of one packet, as they stand on the wire, and found to be right.
#[derive(Clone, Copy, Debug, Default)]
pub struct Properties<'a> {
    bytes: &'a [u8],
    place: Option<Place>,
}

impl<'a> Properties<'a> {
    /// None at all.
    pub const NONE: Self = Self { bytes: &[], place: None };

    /// Reads the Property Length and the properties (MQTT 5 §2.2.2).
    pub(super) fn read(reader: &mut Reader<'a>, place: Place) -> Result<Self, Violation> {
        let length = reader.variable_byte_integer()?;
        let bytes = reader.take(length as usize)?;
        let mut properties = Reader::new(bytes);
        let mut seen = 0;
        while !properties.is_empty() {
            seen = place.admit(seen, Property::read(&mut properties)?.id())?;
        }
        check_authentication(place, seen)?;
        Ok(Self { bytes, place: Some(place) })
    }

    /// Reads them where the version has properties; 3.1.1 has none.
    pub(super) fn read_in(
        version: ProtocolVersion,
        reader: &mut Reader<'a>,
        place: Place,
    ) -> Result<Self, Violation> {
        match version {
            ProtocolVersion::V5 => Self::read(reader, place),
            ProtocolVersion::V311 => Ok(Self::NONE),
        }
    }

    /// Those whose bytes have been checked, or put together, as properties of such a packet.
    pub(super) const fn checked(bytes: &'a [u8], place: Place) -> Self {
        Self { bytes, place: Some(place) }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// As they stand on the wire, without their length.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// One after the other, as they stand.
    pub fn iter(self) -> impl Iterator<Item = Property<'a>> {
        let mut reader = Reader::new(self.bytes);
        // They have been read before, so that no error is passed over here.
        std::iter::from_fn(move || (!reader.is_empty()).then(|| Property::read(&mut reader).ok())?)
    }

    /// The first that `look` finds something in.
    pub fn find<T>(self, look: impl Fn(Property<'a>) -> Option<T>) -> Option<T> {
        self.iter().find_map(look)
    }

    /// Names and values of the user properties, in their order.
    pub fn user_properties(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// Correlation Data of a message.
    #[must_use]
    pub fn correlation_data(self) -> Option<&'a [u8]> {
        self.find(|property| match property {
            Property::CorrelationData(bytes) => Some(bytes),
            _ => None,
        })
    }

    /// Message Expiry Interval, in seconds.
    #[must_use]
    pub fn message_expiry_interval(self) -> Option<u32> {
        self.find(|property| match property {
            Property::MessageExpiryInterval(seconds) => Some(seconds),
            _ => None,
        })
    }

    /// Session Expiry Interval, in seconds.
    #[must_use]
    pub fn session_expiry_interval(self) -> Option<u32> {
        self.find(|property| match property {
            Property::SessionExpiryInterval(seconds) => Some(seconds),
            _ => None,
        })
    }

    /// Topic Alias.
    #[must_use]
    pub fn topic_alias(self) -> Option<u16> {
        self.find(|property| match property {
            Property::TopicAlias(alias) => Some(alias),
            _ => None,
        })
    }

    /// Reason String.
    #[must_use]
    pub fn reason_string(self) -> Option<&'a str> {
        self.find(|property| match property {
            Property::ReasonString(text) => Some(text),
            _ => None,
        })
    }

    /// How many bytes they take with their length.
    pub(super) const fn size(self) -> usize {
        variable_byte_integer_size(self.bytes.len()) + self.bytes.len()
    }

    /// The same where the version has properties, and nothing in 3.1.1.
    pub(super) const fn size_in(self, version: ProtocolVersion) -> usize {
        match version {
            ProtocolVersion::V5 => self.size(),
            ProtocolVersion::V311 => 0,
        }
    }

    /// That they were made for that packet.
    pub(super) fn check(self, places: &[Place]) -> Result<(), Violation> {
        if self.bytes.is_empty() || self.place.is_some_and(|place| places.contains(&place)) {
            return Ok(());
        }
        Err(Violation::malformed("MQTT 5 §2.2.2.2", "the properties are those of another packet"))
    }

    /// Writes them with their length; none are written as a length of 0 \[MQTT-2.2.2-1\].
    pub(super) fn write(self, out: &mut impl Sink) {
        put_variable_byte_integer(self.bytes.len(), out);
        out.put(self.bytes);
    }

    /// Writes them where the version has properties, and nothing in 3.1.1.
    pub(super) fn write_in(self, version: ProtocolVersion, out: &mut impl Sink) {
        if version == ProtocolVersion::V5 {
            self.write(out);
        }
    }
}

impl PartialEq for Properties<'_> {
    /// Whether they say the same on the wire.
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Properties<'_> {}

/// Authentication Data needs a method (MQTT 5 §3.1.2.11.10), and AUTH always has one (§3.15.2.2.2).
fn check_authentication(place: Place, seen: u64) -> Result<(), Violation> {
    if seen & (1 << id::AUTHENTICATION_METHOD) != 0 {
        return Ok(());
    }
    if matches!(place, Place::AuthFromClient | Place::AuthFromServer) {
        return Err(Violation::protocol("MQTT 5 §3.15.2.2.2", "AUTH has no Authentication Method"));
    }
    if seen & (1 << id::AUTHENTICATION_DATA) != 0 {
        let text = "Authentication Data comes without an Authentication Method";
        return Err(Violation::protocol("MQTT 5 §3.1.2.11.10", text));
    }
    Ok(())
}

/// Properties that are put together for one packet; what it may not have is refused at once.
#[derive(Clone, Debug)]
pub struct PropertyList {
    place: Place,
    seen: u64,
    bytes: Vec<u8>,
}

impl PropertyList {
    /// An empty list for such a packet.
    #[must_use]
    pub const fn new(place: Place) -> Self {
        Self { place, seen: 0, bytes: Vec::new() }
    }

    /// Appends a property.
    ///
    /// # Errors
    /// It may not stand in this packet, or not twice; its value is out of range or too long. The list is as
    /// before.
    pub fn push(&mut self, property: Property<'_>) -> Result<(), Violation> {
        property.check()?;
        let seen = self.place.admit(self.seen, property.id())?;
        if self.bytes.len() + property.size() > REMAINING_LENGTH_MAX {
            let text = "the properties are longer than 268,435,455 bytes";
            return Err(Violation::new(ReasonCode::PacketTooLarge, "MQTT 5 §2.2.2.1", text));
        }
        self.seen = seen;
        property.write(&mut self.bytes);
        Ok(())
    }

    /// Appends as [`push`](Self::push), and gives the list back.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    pub fn with(mut self, property: Property<'_>) -> Result<Self, Violation> {
        self.push(property)?;
        Ok(self)
    }

    /// Empties the list and keeps its room, for another packet of the same kind.
    pub fn clear(&mut self) {
        self.seen = 0;
        self.bytes.clear();
    }

    /// What the packet is written with.
    #[must_use]
    pub fn properties(&self) -> Properties<'_> {
        Properties { bytes: &self.bytes, place: Some(self.place) }
    }
}
