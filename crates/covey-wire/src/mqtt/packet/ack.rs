//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5 §3.4 to §3.7, 3.1.1 §3.4 to §3.7).

use super::super::reader::Reader;
use super::super::{Place, Properties, ReasonCode, Sink, Violation};
use super::{PacketId, ProtocolVersion, check_reason_code, reason_code};

/// A step in the acknowledgement of a PUBLISH.
///
/// Success without properties is written in two bytes, as the standard lets one do: some clients do not
/// understand a property length of 0 there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// That of the PUBLISH \[MQTT-2.2.1-5\].
    pub packet_id: PacketId,
    /// How it went; 3.1.1 has no word for a failure here, so that a refused message is acknowledged too.
    pub reason: ReasonCode,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
}

/// The statement that lists the reason codes.
const fn rule(place: Place) -> &'static str {
    match place {
        Place::PubAck => "MQTT-3.4.2-1",
        Place::PubRec => "MQTT-3.5.2-1",
        Place::PubRel => "MQTT-3.6.2-1",
        _ => "MQTT-3.7.2-1",
    }
}

impl<'a> Ack<'a> {
    /// Success, without properties.
    #[must_use]
    pub const fn success(packet_id: PacketId) -> Self {
        Self::with_reason(packet_id, ReasonCode::Success)
    }

    /// A reason, without properties.
    #[must_use]
    pub const fn with_reason(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, properties: Properties::NONE }
    }

    pub(super) fn read(
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        place: Place,
    ) -> Result<Self, Violation> {
        let packet_id = reader.packet_id()?;
        // 3.1.1 has no more than this; whatever follows is refused by the caller.
        if version == ProtocolVersion::V311 || reader.is_empty() {
            return Ok(Self::success(packet_id));
        }
        let reason = reason_code(reader, place, rule(place))?;
        // Below a Remaining Length of 4 there is no property length (MQTT 5 §3.4.2.2.1).
        let properties = if reader.is_empty() { Properties::NONE } else { Properties::read(reader, place)? };
        Ok(Self { packet_id, reason, properties })
    }

    pub(super) fn check(&self, place: Place) -> Result<(), Violation> {
        check_reason_code(self.reason, place, rule(place))?;
        self.properties.check(&[place])
    }

    pub(super) fn size(&self, version: ProtocolVersion) -> usize {
        match version {
            ProtocolVersion::V311 => 2,
            ProtocolVersion::V5 if !self.properties.is_empty() => 3 + self.properties.size(),
            ProtocolVersion::V5 if self.reason != ReasonCode::Success => 3,
            ProtocolVersion::V5 => 2,
        }
    }

    pub(super) fn write(&self, version: ProtocolVersion, out: &mut impl Sink) {
        out.put(&self.packet_id.get().to_be_bytes());
        let size = self.size(version);
        if size > 2 {
            out.put(&[self.reason.code()]);
        }
        if size > 3 {
            self.properties.write(out);
        }
    }
}
