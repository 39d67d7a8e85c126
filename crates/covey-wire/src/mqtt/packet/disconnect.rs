//! DISCONNECT (MQTT 5 §3.14, 3.1.1 §3.14) and AUTH (MQTT 5 §3.15).

use super::super::reader::Reader;
use super::super::{Place, Properties, ReasonCode, Sink, Violation};
use super::{ProtocolVersion, Sender, check_reason_code, reason_code};

/// The last packet of a connection. A 3.1.1 server sends none: it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why; in 3.1.1 always Success.
    pub reason: ReasonCode,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
}

const DISCONNECT_REASON: &str = "MQTT-3.14.2-1";
const AUTH_REASON: &str = "MQTT-3.15.2-1";

impl<'a> Disconnect<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        sender: Sender,
    ) -> Result<Self, Violation> {
        // 3.1.1 has no more; whatever follows is refused by the caller.
        if version == ProtocolVersion::V311 || reader.is_empty() {
            return Ok(Self { reason: ReasonCode::Success, properties: Properties::NONE });
        }
        let place = match sender {
            Sender::Client => Place::DisconnectFromClient,
            Sender::Server => Place::DisconnectFromServer,
        };
        let reason = reason_code(reader, place, DISCONNECT_REASON)?;
        // Below a Remaining Length of 2 there is no property length (MQTT 5 §3.14.2.2.1).
        let properties = if reader.is_empty() { Properties::NONE } else { Properties::read(reader, place)? };
        Ok(Self { reason, properties })
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        let places = [Place::DisconnectFromClient, Place::DisconnectFromServer];
        self.properties.check(&places)?;
        if places.iter().any(|place| self.reason.is_allowed_in(*place)) {
            return Ok(());
        }
        check_reason_code(self.reason, Place::DisconnectFromServer, DISCONNECT_REASON)
    }

    pub(super) fn size(&self, version: ProtocolVersion) -> usize {
        match version {
            ProtocolVersion::V311 => 0,
            ProtocolVersion::V5 => short_size(self.reason, self.properties),
        }
    }

    pub(super) fn write(&self, version: ProtocolVersion, out: &mut impl Sink) {
        write_short(self.size(version), self.reason, self.properties, out);
    }
}

/// A step of an extended authentication (MQTT 5 §4.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// What the step is.
    pub reason: ReasonCode,
    /// The properties: an Authentication Method, except in the short form of Success.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, sender: Sender) -> Result<Self, Violation> {
        let place = match sender {
            Sender::Client => Place::AuthFromClient,
            Sender::Server => Place::AuthFromServer,
        };
        // Nothing at all means Success without properties (MQTT 5 §3.15.2.1), which only a server says.
        if reader.is_empty() && sender == Sender::Server {
            return Ok(Self { reason: ReasonCode::Success, properties: Properties::NONE });
        }
        if reader.is_empty() {
            return Err(Violation::protocol(AUTH_REASON, "a client's AUTH says Success"));
        }
        let reason = reason_code(reader, place, AUTH_REASON)?;
        let properties = Properties::read(reader, place)?;
        Ok(Self { reason, properties })
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        let places = [Place::AuthFromClient, Place::AuthFromServer];
        self.properties.check(&places)?;
        if self.reason != ReasonCode::Success && self.properties.is_empty() {
            return Err(Violation::protocol("MQTT 5 §3.15.2.2.2", "AUTH has no Authentication Method"));
        }
        if places.iter().any(|place| self.reason.is_allowed_in(*place)) {
            return Ok(());
        }
        check_reason_code(self.reason, Place::AuthFromServer, AUTH_REASON)
    }

    pub(super) fn size(&self) -> usize {
        short_size(self.reason, self.properties)
    }

    pub(super) fn write(&self, out: &mut impl Sink) {
        write_short(self.size(), self.reason, self.properties, out);
    }
}

/// How long a reason code with properties is: nothing, if they say nothing. A property length of 0 is
/// written behind every other reason, although DISCONNECT could do without: some clients do not read that
/// form.
fn short_size(reason: ReasonCode, properties: Properties<'_>) -> usize {
    if properties.is_empty() && reason == ReasonCode::Success { 0 } else { 1 + properties.size() }
}

fn write_short(size: usize, reason: ReasonCode, properties: Properties<'_>, out: &mut impl Sink) {
    if size > 0 {
        out.put(&[reason.code()]);
        properties.write(out);
    }
}
