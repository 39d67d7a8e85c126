//! One property of MQTT 5 (§2.2.2): its identifier, its type, and the values that it may have.

use super::reader::Reader;
use super::topic::has_wildcard;
use super::writer::{
    REMAINING_LENGTH_MAX, Sink, binary_size, check_binary, check_text, put_binary, put_variable_byte_integer,
    variable_byte_integer_size,
};
use super::{ReasonCode, Violation};

/// Identifiers (MQTT 5 §2.2.2.2). All are below 64, which the set of those seen relies on.
pub(super) mod id {
    pub const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1A;
    pub const SERVER_REFERENCE: u8 = 0x1C;
    pub const REASON_STRING: u8 = 0x1F;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

/// A property with its value; times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of MQTT 5, section 2.2.2.2")]
pub enum Property<'a> {
    /// Whether the payload is UTF-8 text.
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    /// 1 to 268,435,455.
    SubscriptionIdentifier(u32),
    /// `u32::MAX`: the session does not expire.
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    /// Not 0.
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    /// Not 0.
    TopicAlias(u16),
    /// False: QoS 0; true: QoS 1.
    MaximumQos(bool),
    RetainAvailable(bool),
    UserProperty(&'a str, &'a str),
    /// In bytes; not 0.
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    /// The identifier on the wire.
    #[must_use]
    pub const fn id(&self) -> u8 {
        match self {
            Self::PayloadFormatIndicator(_) => id::PAYLOAD_FORMAT_INDICATOR,
            Self::MessageExpiryInterval(_) => id::MESSAGE_EXPIRY_INTERVAL,
            Self::ContentType(_) => id::CONTENT_TYPE,
            Self::ResponseTopic(_) => id::RESPONSE_TOPIC,
            Self::CorrelationData(_) => id::CORRELATION_DATA,
            Self::SubscriptionIdentifier(_) => id::SUBSCRIPTION_IDENTIFIER,
            Self::SessionExpiryInterval(_) => id::SESSION_EXPIRY_INTERVAL,
            Self::AssignedClientIdentifier(_) => id::ASSIGNED_CLIENT_IDENTIFIER,
            Self::ServerKeepAlive(_) => id::SERVER_KEEP_ALIVE,
            Self::AuthenticationMethod(_) => id::AUTHENTICATION_METHOD,
            Self::AuthenticationData(_) => id::AUTHENTICATION_DATA,
            Self::RequestProblemInformation(_) => id::REQUEST_PROBLEM_INFORMATION,
            Self::WillDelayInterval(_) => id::WILL_DELAY_INTERVAL,
            Self::RequestResponseInformation(_) => id::REQUEST_RESPONSE_INFORMATION,
            Self::ResponseInformation(_) => id::RESPONSE_INFORMATION,
            Self::ServerReference(_) => id::SERVER_REFERENCE,
            Self::ReasonString(_) => id::REASON_STRING,
            Self::ReceiveMaximum(_) => id::RECEIVE_MAXIMUM,
            Self::TopicAliasMaximum(_) => id::TOPIC_ALIAS_MAXIMUM,
            Self::TopicAlias(_) => id::TOPIC_ALIAS,
            Self::MaximumQos(_) => id::MAXIMUM_QOS,
            Self::RetainAvailable(_) => id::RETAIN_AVAILABLE,
            Self::UserProperty(..) => id::USER_PROPERTY,
            Self::MaximumPacketSize(_) => id::MAXIMUM_PACKET_SIZE,
            Self::WildcardSubscriptionAvailable(_) => id::WILDCARD_SUBSCRIPTION_AVAILABLE,
            Self::SubscriptionIdentifierAvailable(_) => id::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
            Self::SharedSubscriptionAvailable(_) => id::SHARED_SUBSCRIPTION_AVAILABLE,
        }
    }

    /// Reads one property and checks its value.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Violation> {
        let identifier = u8::try_from(reader.variable_byte_integer()?).unwrap_or(0);
        let property = match identifier {
            id::PAYLOAD_FORMAT_INDICATOR => Self::PayloadFormatIndicator(boolean(reader)?),
            id::MESSAGE_EXPIRY_INTERVAL => Self::MessageExpiryInterval(reader.four_bytes()?),
            id::CONTENT_TYPE => Self::ContentType(reader.text()?),
            id::RESPONSE_TOPIC => Self::ResponseTopic(reader.text()?),
            id::CORRELATION_DATA => Self::CorrelationData(reader.binary()?),
            id::SUBSCRIPTION_IDENTIFIER => Self::SubscriptionIdentifier(reader.variable_byte_integer()?),
            id::SESSION_EXPIRY_INTERVAL => Self::SessionExpiryInterval(reader.four_bytes()?),
            id::ASSIGNED_CLIENT_IDENTIFIER => Self::AssignedClientIdentifier(reader.text()?),
            id::SERVER_KEEP_ALIVE => Self::ServerKeepAlive(reader.two_bytes()?),
            id::AUTHENTICATION_METHOD => Self::AuthenticationMethod(reader.text()?),
            id::AUTHENTICATION_DATA => Self::AuthenticationData(reader.binary()?),
            id::REQUEST_PROBLEM_INFORMATION => Self::RequestProblemInformation(boolean(reader)?),
            id::WILL_DELAY_INTERVAL => Self::WillDelayInterval(reader.four_bytes()?),
            id::REQUEST_RESPONSE_INFORMATION => Self::RequestResponseInformation(boolean(reader)?),
            id::RESPONSE_INFORMATION => Self::ResponseInformation(reader.text()?),
            id::SERVER_REFERENCE => Self::ServerReference(reader.text()?),
            id::REASON_STRING => Self::ReasonString(reader.text()?),
            id::RECEIVE_MAXIMUM => Self::ReceiveMaximum(reader.two_bytes()?),
            id::TOPIC_ALIAS_MAXIMUM => Self::TopicAliasMaximum(reader.two_bytes()?),
            id::TOPIC_ALIAS => Self::TopicAlias(reader.two_bytes()?),
            id::MAXIMUM_QOS => Self::MaximumQos(boolean(reader)?),
            id::RETAIN_AVAILABLE => Self::RetainAvailable(boolean(reader)?),
            id::USER_PROPERTY => Self::UserProperty(reader.text()?, reader.text()?),
            id::MAXIMUM_PACKET_SIZE => Self::MaximumPacketSize(reader.four_bytes()?),
            id::WILDCARD_SUBSCRIPTION_AVAILABLE => Self::WildcardSubscriptionAvailable(boolean(reader)?),
            id::SUBSCRIPTION_IDENTIFIER_AVAILABLE => Self::SubscriptionIdentifierAvailable(boolean(reader)?),
            id::SHARED_SUBSCRIPTION_AVAILABLE => Self::SharedSubscriptionAvailable(boolean(reader)?),
            _ => return Err(Violation::malformed("MQTT 5 §2.2.2.2", "a property is unknown")),
        };
        property.check_value()?;
        Ok(property)
    }

    /// That the value is in its range.
    fn check_value(&self) -> Result<(), Violation> {
        let violation = match *self {
            Self::ReceiveMaximum(0) => Violation::protocol("MQTT 5 §3.1.2.11.3", "Receive Maximum is 0"),
            Self::MaximumPacketSize(0) => {
                Violation::protocol("MQTT 5 §3.1.2.11.4", "Maximum Packet Size is 0")
            }
            Self::TopicAlias(0) => {
                Violation::new(ReasonCode::TopicAliasInvalid, "MQTT-3.3.2-8", "a Topic Alias is 0")
            }
            Self::SubscriptionIdentifier(0) => {
                Violation::protocol("MQTT 5 §3.8.2.1.2", "a Subscription Identifier is 0")
            }
            Self::ResponseTopic(topic) if has_wildcard(topic) => {
                Violation::protocol("MQTT-3.3.2-14", "the Response Topic has a wildcard character")
            }
            Self::ResponseTopic("") => Violation::protocol("MQTT-4.7.3-1", "the Response Topic is empty"),
            _ => return Ok(()),
        };
        Err(violation)
    }

    /// That it can be sent.
    pub(super) fn check(&self) -> Result<(), Violation> {
        self.check_value()?;
        match *self {
            Self::SubscriptionIdentifier(number) if number as usize > REMAINING_LENGTH_MAX => Err(
                Violation::protocol("MQTT 5 §3.8.2.1.2", "a Subscription Identifier is above 268,435,455"),
            ),
            _ => match self.value() {
                Value::Text(text) => check_text(text),
                Value::Binary(bytes) => check_binary(bytes),
                Value::Pair(name, value) => check_text(name).and_then(|()| check_text(value)),
                Value::Byte(_) | Value::TwoBytes(_) | Value::FourBytes(_) | Value::Variable(_) => Ok(()),
            },
        }
    }

    /// How many bytes it takes, with its identifier.
    #[must_use]
    pub fn size(&self) -> usize {
        1 + match self.value() {
            Value::Byte(_) => 1,
            Value::TwoBytes(_) => 2,
            Value::FourBytes(_) => 4,
            Value::Variable(number) => variable_byte_integer_size(number as usize),
            Value::Text(text) => binary_size(text.as_bytes()),
            Value::Binary(bytes) => binary_size(bytes),
            Value::Pair(name, value) => binary_size(name.as_bytes()) + binary_size(value.as_bytes()),
        }
    }

    /// Writes it; [`check`](Self::check) has passed.
    pub(super) fn write(&self, out: &mut impl Sink) {
        out.put(&[self.id()]);
        match self.value() {
            Value::Byte(byte) => out.put(&[byte]),
            Value::TwoBytes(number) => out.put(&number.to_be_bytes()),
            Value::FourBytes(number) => out.put(&number.to_be_bytes()),
            Value::Variable(number) => put_variable_byte_integer(number as usize, out),
            Value::Text(text) => put_binary(text.as_bytes(), out),
            Value::Binary(bytes) => put_binary(bytes, out),
            Value::Pair(name, value) => {
                put_binary(name.as_bytes(), out);
                put_binary(value.as_bytes(), out);
            }
        }
    }

    const fn value(&self) -> Value<'a> {
        match *self {
            Self::PayloadFormatIndicator(is_set)
            | Self::RequestProblemInformation(is_set)
            | Self::RequestResponseInformation(is_set)
            | Self::MaximumQos(is_set)
            | Self::RetainAvailable(is_set)
            | Self::WildcardSubscriptionAvailable(is_set)
            | Self::SubscriptionIdentifierAvailable(is_set)
            | Self::SharedSubscriptionAvailable(is_set) => Value::Byte(is_set as u8),
            Self::ServerKeepAlive(number)
            | Self::ReceiveMaximum(number)
            | Self::TopicAliasMaximum(number)
            | Self::TopicAlias(number) => Value::TwoBytes(number),
            Self::MessageExpiryInterval(number)
            | Self::SessionExpiryInterval(number)
            | Self::WillDelayInterval(number)
            | Self::MaximumPacketSize(number) => Value::FourBytes(number),
            Self::SubscriptionIdentifier(number) => Value::Variable(number),
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientIdentifier(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => Value::Text(text),
            Self::CorrelationData(bytes) | Self::AuthenticationData(bytes) => Value::Binary(bytes),
            Self::UserProperty(name, value) => Value::Pair(name, value),
        }
    }
}

/// The data types that properties have (MQTT 5 §2.2.2.2).
enum Value<'a> {
    Byte(u8),
    TwoBytes(u16),
    FourBytes(u32),
    Variable(u32),
    Text(&'a str),
    Binary(&'a [u8]),
    Pair(&'a str, &'a str),
}

fn boolean(reader: &mut Reader<'_>) -> Result<bool, Violation> {
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Violation::protocol("MQTT 5 §2.2.2.2", "a property that is 0 or 1 has another value")),
    }
}
