//! CONNACK (MQTT 5 §3.2, 3.1.1 §3.2).

use super::super::reader::Reader;
use super::super::{Place, Properties, ReasonCode, Sink, Violation};
use super::{ProtocolVersion, check_reason_code, reason_code};

/// The server's answer to a CONNECT. To 3.1.1 the reason is written as the return code that says it best:
/// what has none of its own is 3, Server unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the session of an earlier connection goes on.
    pub session_present: bool,
    /// How it went.
    pub reason: ReasonCode,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
}

const PRESENT_AND_REFUSED: Violation =
    Violation::protocol("MQTT-3.2.2-6", "a CONNACK that refuses says Session Present");

impl<'a> ConnAck<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, version: ProtocolVersion) -> Result<Self, Violation> {
        let flags = reader.byte()?;
        if flags & 0xFE != 0 {
            return Err(Violation::malformed("MQTT-3.2.2-1", "a reserved flag of CONNACK is set"));
        }
        let session_present = flags == 1;
        let (reason, properties) = match version {
            ProtocolVersion::V5 => {
                let reason = reason_code(reader, Place::ConnAck, "MQTT-3.2.2-8")?;
                (reason, Properties::read(reader, Place::ConnAck)?)
            }
            ProtocolVersion::V311 => {
                let reason = ReasonCode::from_return_code(reader.byte()?)
                    .ok_or(Violation::protocol("3.1.1 §3.2.2.3", "the return code is reserved"))?;
                (reason, Properties::NONE)
            }
        };
        if session_present && reason != ReasonCode::Success {
            return Err(PRESENT_AND_REFUSED);
        }
        Ok(Self { session_present, reason, properties })
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        check_reason_code(self.reason, Place::ConnAck, "MQTT-3.2.2-8")?;
        if self.session_present && self.reason != ReasonCode::Success {
            return Err(PRESENT_AND_REFUSED);
        }
        self.properties.check(&[Place::ConnAck])
    }

    pub(super) fn size(&self, version: ProtocolVersion) -> usize {
        2 + self.properties.size_in(version)
    }

    pub(super) fn write(&self, version: ProtocolVersion, out: &mut impl Sink) {
        match version {
            ProtocolVersion::V5 => {
                out.put(&[self.session_present.into(), self.reason.code()]);
                self.properties.write(out);
            }
            ProtocolVersion::V311 => out.put(&[self.session_present.into(), self.reason.return_code()]),
        }
    }
}
