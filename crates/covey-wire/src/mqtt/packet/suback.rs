//! SUBACK and UNSUBACK (MQTT 5 §3.9, §3.11, 3.1.1 §3.9, §3.11).

use super::super::reader::Reader;
use super::super::{Place, Properties, ReasonCode, Sink, Violation};
use super::{PacketId, ProtocolVersion};

/// One reason code for each topic filter of the request, in its order \[MQTT-3.9.3-1, MQTT-3.11.3-1\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonCodes<'a>(&'a [u8]);

impl<'a> ReasonCodes<'a> {
    /// The codes of a SUBACK or an UNSUBACK.
    ///
    /// # Errors
    /// One of them is not allowed there.
    pub fn new(codes: &'a [u8], place: Place) -> Result<Self, Violation> {
        let is_allowed =
            |code: &u8| ReasonCode::from_code(*code).is_some_and(|reason| reason.is_allowed_in(place));
        if codes.iter().all(is_allowed) {
            return Ok(Self(codes));
        }
        let rule = if place == Place::SubAck { "MQTT-3.9.3-2" } else { "MQTT-3.11.3-2" };
        Err(Violation::protocol(rule, "a reason code is not one of this packet"))
    }

    /// The reasons in their order. They have been checked, so that none is left out.
    pub fn iter(self) -> impl Iterator<Item = ReasonCode> + 'a {
        self.0.iter().filter_map(|code| ReasonCode::from_code(*code))
    }

    /// The codes as they stand on the wire.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// The server's answer to a SUBSCRIBE. To 3.1.1 every failure is written as 0x80.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// That of the SUBSCRIBE \[MQTT-3.8.4-2\].
    pub packet_id: PacketId,
    /// For each filter the QoS granted, or why not.
    pub reasons: ReasonCodes<'a>,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
}

/// The server's answer to an UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// That of the UNSUBSCRIBE \[MQTT-3.10.4-5\].
    pub packet_id: PacketId,
    /// For each filter what became of it; 3.1.1 does not say it.
    pub reasons: ReasonCodes<'a>,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
}

const NO_REASON: Violation = Violation::protocol("MQTT-3.8.4-6", "a SUBACK has no reason code");

impl<'a> SubAck<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, version: ProtocolVersion) -> Result<Self, Violation> {
        let packet_id = reader.packet_id()?;
        let properties = Properties::read_in(version, reader, Place::SubAck)?;
        let codes = reader.take(reader.left())?;
        if codes.is_empty() {
            return Err(NO_REASON);
        }
        if version == ProtocolVersion::V311 && codes.iter().any(|code| !matches!(code, 0..=2 | 0x80)) {
            return Err(Violation::protocol("3.1.1 MQTT-3.9.3-2", "a return code of SUBACK is reserved"));
        }
        Ok(Self { packet_id, reasons: ReasonCodes::new(codes, Place::SubAck)?, properties })
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        if self.reasons.0.is_empty() {
            return Err(NO_REASON);
        }
        ReasonCodes::new(self.reasons.0, Place::SubAck)?;
        self.properties.check(&[Place::SubAck])
    }

    pub(super) fn size(&self, version: ProtocolVersion) -> usize {
        2 + self.properties.size_in(version) + self.reasons.0.len()
    }

    pub(super) fn write(&self, version: ProtocolVersion, out: &mut impl Sink) {
        out.put(&self.packet_id.get().to_be_bytes());
        self.properties.write_in(version, out);
        match version {
            ProtocolVersion::V5 => out.put(self.reasons.0),
            ProtocolVersion::V311 => {
                for code in self.reasons.0 {
                    out.put(&[(*code).min(0x80)]);
                }
            }
        }
    }
}

impl<'a> UnsubAck<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, version: ProtocolVersion) -> Result<Self, Violation> {
        let packet_id = reader.packet_id()?;
        let properties = Properties::read_in(version, reader, Place::UnsubAck)?;
        // 3.1.1 has no codes; whatever follows is refused by the caller.
        let codes = match version {
            ProtocolVersion::V5 => reader.take(reader.left())?,
            ProtocolVersion::V311 => &[],
        };
        if version == ProtocolVersion::V5 && codes.is_empty() {
            return Err(Violation::protocol("MQTT 5 §3.11.3", "an UNSUBACK has no reason code"));
        }
        Ok(Self { packet_id, reasons: ReasonCodes::new(codes, Place::UnsubAck)?, properties })
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        ReasonCodes::new(self.reasons.0, Place::UnsubAck)?;
        self.properties.check(&[Place::UnsubAck])
    }

    pub(super) fn size(&self, version: ProtocolVersion) -> usize {
        let reasons = if version == ProtocolVersion::V5 { self.reasons.0.len() } else { 0 };
        2 + self.properties.size_in(version) + reasons
    }

    pub(super) fn write(&self, version: ProtocolVersion, out: &mut impl Sink) {
        out.put(&self.packet_id.get().to_be_bytes());
        if version == ProtocolVersion::V5 {
            self.properties.write(out);
            out.put(self.reasons.0);
        }
    }
}
