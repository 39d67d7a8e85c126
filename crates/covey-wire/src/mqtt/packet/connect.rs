//! CONNECT (MQTT 5 §3.1, 3.1.1 §3.1), with its will.

use super::super::reader::Reader;
use super::super::topic::check_topic_name;
use super::super::writer::{binary_size, check_binary, check_text, put_binary};
use super::super::{Frame, Place, Properties, ReasonCode, Sink, Violation};
use super::{ProtocolVersion, Qos};

/// What a client publishes through its server when its connection ends (MQTT 5 §3.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Where to; a valid topic name.
    pub topic: &'a str,
    /// The body, at most 65,535 bytes.
    pub payload: &'a [u8],
    /// With which quality of service.
    pub qos: Qos,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Its properties, Will Delay Interval among them; none in 3.1.1.
    pub properties: Properties<'a>,
}

/// The first packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// In which version the connection goes on.
    pub version: ProtocolVersion,
    /// Clean Start; in 3.1.1 Clean Session, which also ends the session with the connection.
    pub clean_start: bool,
    /// Keep Alive in seconds; 0: none.
    pub keep_alive_s: u16,
    /// The client identifier; empty if the server is to assign one.
    pub client_id: &'a str,
    /// The will, if there is one.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub user_name: Option<&'a str>,
    /// The password; in 3.1.1 only with a user name.
    pub password: Option<&'a [u8]>,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
}

mod flag {
    pub const RESERVED: u8 = 0x01;
    pub const CLEAN_START: u8 = 0x02;
    pub const WILL: u8 = 0x04;
    pub const WILL_QOS: u8 = 0x18;
    pub const WILL_RETAIN: u8 = 0x20;
    pub const PASSWORD: u8 = 0x40;
    pub const USER_NAME: u8 = 0x80;
}

/// In which version a CONNECT that cannot be taken is to be answered: in that of MQTT 5 if its protocol
/// level is 5 or above, else in that of 3.1.1 (MQTT 5 §3.1.2.2, 3.1.1 §3.1.2.2).
#[must_use]
pub fn version_to_refuse_in(connect: Frame<'_>) -> ProtocolVersion {
    let mut reader = Reader::new(connect.body());
    match reader.binary().and_then(|_| reader.byte()) {
        // The highest bit marks a bridge for some brokers; it is no part of a level.
        Ok(level) if level & 0x7F >= 5 => ProtocolVersion::V5,
        _ => ProtocolVersion::V311,
    }
}

fn protocol_version(reader: &mut Reader<'_>) -> Result<ProtocolVersion, Violation> {
    let unsupported = |rule, text| Err(Violation::new(ReasonCode::UnsupportedProtocolVersion, rule, text));
    match (reader.binary()?, reader.byte()?) {
        (b"MQTT", 5) => Ok(ProtocolVersion::V5),
        (b"MQTT", 4) | (b"MQIsdp", 3) => Ok(ProtocolVersion::V311),
        (b"MQTT", _) => unsupported("MQTT-3.1.2-2", "the protocol version is neither 3.1.1 nor 5"),
        _ => unsupported("MQTT-3.1.2-1", "the protocol name is not MQTT"),
    }
}

fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(), Violation> {
    if flags & flag::RESERVED != 0 {
        return Err(Violation::malformed("MQTT-3.1.2-3", "the reserved flag of CONNECT is set"));
    }
    if flags & flag::WILL == 0 && flags & flag::WILL_QOS != 0 {
        return Err(Violation::malformed("MQTT-3.1.2-11", "Will QoS is set and there is no will"));
    }
    if flags & flag::WILL == 0 && flags & flag::WILL_RETAIN != 0 {
        return Err(Violation::malformed("MQTT-3.1.2-13", "Will Retain is set and there is no will"));
    }
    if flags & flag::WILL_QOS == flag::WILL_QOS {
        return Err(Violation::malformed("MQTT-3.1.2-12", "Will QoS is 3"));
    }
    if version == ProtocolVersion::V311 && flags & (flag::USER_NAME | flag::PASSWORD) == flag::PASSWORD {
        return Err(PASSWORD_ALONE);
    }
    Ok(())
}

const PASSWORD_ALONE: Violation =
    Violation::malformed("3.1.1 MQTT-3.1.2-22", "a password comes without a user name");
const NAMELESS: Violation = Violation::new(
    ReasonCode::ClientIdentifierNotValid,
    "3.1.1 MQTT-3.1.3-8",
    "the client identifier is empty and Clean Session is 0",
);

impl<'a> Connect<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Violation> {
        let version = protocol_version(reader)?;
        let flags = reader.byte()?;
        check_flags(flags, version)?;
        let keep_alive_s = reader.two_bytes()?;
        let properties = Properties::read_in(version, reader, Place::Connect)?;
        // The fields of the payload stand in this order [MQTT-3.1.3-1].
        let client_id = reader.text()?;
        let clean_start = flags & flag::CLEAN_START != 0;
        if version == ProtocolVersion::V311 && client_id.is_empty() && !clean_start {
            return Err(NAMELESS);
        }
        let will = if flags & flag::WILL == 0 { None } else { Some(Will::read(reader, flags, version)?) };
        let user_name = if flags & flag::USER_NAME == 0 { None } else { Some(reader.text()?) };
        let password = if flags & flag::PASSWORD == 0 { None } else { Some(reader.binary()?) };
        Ok(Self { version, clean_start, keep_alive_s, client_id, will, user_name, password, properties })
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        check_text(self.client_id)?;
        self.properties.check(&[Place::Connect])?;
        if let Some(will) = &self.will {
            will.check()?;
        }
        self.user_name.map_or(Ok(()), check_text)?;
        self.password.map_or(Ok(()), check_binary)?;
        if self.version == ProtocolVersion::V5 {
            return Ok(());
        }
        if self.password.is_some() && self.user_name.is_none() {
            return Err(PASSWORD_ALONE);
        }
        if self.client_id.is_empty() && !self.clean_start {
            return Err(NAMELESS);
        }
        Ok(())
    }

    pub(super) fn size(&self) -> usize {
        let is_v5 = self.version == ProtocolVersion::V5;
        let will = self.will.map_or(0, |will| {
            let properties = if is_v5 { will.properties.size() } else { 0 };
            properties + binary_size(will.topic.as_bytes()) + binary_size(will.payload)
        });
        10 + if is_v5 { self.properties.size() } else { 0 }
            + binary_size(self.client_id.as_bytes())
            + will
            + self.user_name.map_or(0, |name| binary_size(name.as_bytes()))
            + self.password.map_or(0, binary_size)
    }

    fn flags(&self) -> u8 {
        let mut flags = if self.clean_start { flag::CLEAN_START } else { 0 };
        if let Some(will) = &self.will {
            flags |= flag::WILL | (will.qos as u8) << 3;
            flags |= if will.retain { flag::WILL_RETAIN } else { 0 };
        }
        flags |= if self.user_name.is_some() { flag::USER_NAME } else { 0 };
        flags | if self.password.is_some() { flag::PASSWORD } else { 0 }
    }

    pub(super) fn write(&self, out: &mut impl Sink) {
        let is_v5 = self.version == ProtocolVersion::V5;
        put_binary(b"MQTT", out);
        out.put(&[if is_v5 { 5 } else { 4 }, self.flags()]);
        out.put(&self.keep_alive_s.to_be_bytes());
        if is_v5 {
            self.properties.write(out);
        }
        put_binary(self.client_id.as_bytes(), out);
        if let Some(will) = &self.will {
            if is_v5 {
                will.properties.write(out);
            }
            put_binary(will.topic.as_bytes(), out);
            put_binary(will.payload, out);
        }
        if let Some(user_name) = self.user_name {
            put_binary(user_name.as_bytes(), out);
        }
        if let Some(password) = self.password {
            put_binary(password, out);
        }
    }
}

impl<'a> Will<'a> {
    fn read(reader: &mut Reader<'a>, flags: u8, version: ProtocolVersion) -> Result<Self, Violation> {
        let properties = Properties::read_in(version, reader, Place::Will)?;
        let topic = reader.text()?;
        check_topic_name(topic)?;
        let payload = reader.binary()?;
        // QoS 3 has been refused with the flags.
        let qos = Qos::from_bits((flags & flag::WILL_QOS) >> 3).unwrap_or(Qos::ExactlyOnce);
        Ok(Self { topic, payload, qos, retain: flags & flag::WILL_RETAIN != 0, properties })
    }

    fn check(&self) -> Result<(), Violation> {
        check_text(self.topic)?;
        check_topic_name(self.topic)?;
        check_binary(self.payload)?;
        self.properties.check(&[Place::Will])
    }
}
