//! An event of a device (device-events): its type, number and time from the
//! properties or, where one is missing there, from the body.

use std::borrow::Cow;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::Correlation;
use crate::json::levels;
use crate::uplink::event_body::{EnvelopeMembers, LEVELS_MAX, Members, Reported, scalar};
use crate::uplink::event_time;
use crate::uplink::malformed::Malformed;
use crate::uplink::received::{Carrier, Received};

/// Highest type code of an event.
pub const EVENT_TYPE_CODE_MAX: i64 = i32::MAX as i64;
/// The body of a message that has none.
const NO_BODY: &str = "{}";

/// An event as a device sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its type; 0 if the device gives none.
    pub type_code: i64,
    /// Its number on the device; 0 if the device does not count.
    pub dev_event_id: u32,
    /// Its time by the device in Unix milliseconds, if the device gives one that can be read.
    pub dev_timestamp_ms: Option<i64>,
    /// What it belongs to.
    pub correlation: Option<Uuid>,
    /// The JSON object that the device sent, exactly so.
    pub payload: &'a str,
    /// Values of the device's resources that it reports.
    pub reported: Vec<Reported<'a>>,
}

/// What the answer to an event repeats of it (device-events "eva").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHead {
    /// Its type.
    pub type_code: i64,
    /// Its number on the device.
    pub dev_event_id: u32,
    /// What it belongs to.
    pub correlation: Option<Uuid>,
}

impl Event<'_> {
    /// What the answer repeats of it.
    #[must_use]
    pub fn head(&self) -> EventHead {
        let Self { type_code, dev_event_id, correlation, .. } = *self;
        EventHead { type_code, dev_event_id, correlation }
    }
}

/// An event that cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Why.
    pub malformed: Malformed,
    /// Which event it is, if that much was understood.
    pub head: Option<EventHead>,
}

/// The fields of an event that are beside its body, each if it is given.
#[derive(Debug, Default)]
struct Given<'a> {
    type_code: Option<Cow<'a, str>>,
    dev_event_id: Option<Cow<'a, str>>,
    dev_timestamp: Option<Cow<'a, str>>,
    correlation: Option<Uuid>,
}

/// Reads an event.
///
/// # Errors
/// [`Unread`] for a type or a number that is out of its range, or beside the
/// body no integer, and for a body that is no JSON object or nested too deeply.
pub fn read_event(received: Received<'_>) -> Result<Event<'_>, Unread> {
    match received.carrier {
        Carrier::Properties(properties) => {
            let given = Given {
                type_code: properties.event_type_code.map(Cow::Borrowed),
                dev_event_id: properties.dev_event_id.map(Cow::Borrowed),
                dev_timestamp: properties.dev_timestamp.map(Cow::Borrowed),
                correlation: properties
                    .correlation_id
                    .map(str::as_bytes)
                    .into_iter()
                    .chain(properties.correlations())
                    .find_map(correlation),
            };
            given.with_body(text(received.body))
        }
        Carrier::Envelope | Carrier::Unknown => without_properties(received.body),
    }
}

/// An event without properties: an object with a member `payload` that is an
/// object is an envelope, anything else is the event.
fn without_properties(body: &[u8]) -> Result<Event<'_>, Unread> {
    let body = text(body);
    let members = body.and_then(Members::parse);
    match members.as_ref().map(|members| members.enveloped().map(|payload| (&members.envelope, payload))) {
        Ok(Some((envelope, payload))) => Given::in_envelope(envelope)?.with_body(Ok(payload)),
        Ok(None) | Err(_) => Given::default().with_members(body, members),
    }
}

fn text(body: &[u8]) -> Result<&str, Malformed> {
    if body.is_empty() {
        return Ok(NO_BODY);
    }
    std::str::from_utf8(body).map_err(|_| Malformed::NotObject)
}

impl<'a> Given<'a> {
    /// What an envelope has beside its payload. A member that is neither a
    /// number nor a string is there and is no integer; one that is null is not there.
    fn in_envelope(envelope: &EnvelopeMembers<'a>) -> Result<Self, Unread> {
        let is_there = |value: &&RawValue| value.get() != "null";
        let field = |value: Option<&'a RawValue>| {
            value.filter(is_there).map(|value| scalar(value).unwrap_or_default())
        };
        let id = |value: Option<&'a RawValue>| correlation(scalar(value?)?.as_bytes());
        Ok(Self {
            type_code: field(envelope.event_type_code),
            dev_event_id: field(envelope.dev_event_id),
            dev_timestamp: field(envelope.dev_timestamp),
            correlation: id(envelope.correlation_id).or_else(|| id(envelope.correlation_data)),
        })
    }

    fn with_body<'b>(self, body: Result<&'b str, Malformed>) -> Result<Event<'b>, Unread> {
        self.with_members(body, body.and_then(Members::parse))
    }

    /// Takes from the body what is not given beside it.
    fn with_members<'b>(
        self,
        body: Result<&'b str, Malformed>,
        members: Result<Members<'b>, Malformed>,
    ) -> Result<Event<'b>, Unread> {
        let unread = |malformed| Unread { malformed, head: None };
        let type_code = self.type_code.map(|text| type_code(&text).ok_or(unread(Malformed::EventTypeCode)));
        let dev_event_id = self.dev_event_id.map(|text| number(&text).ok_or(unread(Malformed::DevEventId)));
        let (type_code, dev_event_id) = (type_code.transpose()?, dev_event_id.transpose()?);
        let correlation = self.correlation;
        let refused = |malformed, type_code: Option<i64>, dev_event_id: Option<u32>| Unread {
            malformed,
            head: type_code
                .zip(dev_event_id)
                .map(|(type_code, dev_event_id)| EventHead { type_code, dev_event_id, correlation })
                .filter(|head| head.type_code != 0 && head.dev_event_id != 0),
        };
        let (payload, members) = body
            .and_then(|body| Ok((body, members?)))
            .map_err(|malformed| refused(malformed, type_code, dev_event_id))?;
        let type_code = match type_code {
            None => in_body(members.type_code, self::type_code).ok_or(unread(Malformed::EventTypeCode))?,
            given => given,
        };
        let dev_event_id = match dev_event_id {
            None => in_body(members.number, number).ok_or(unread(Malformed::DevEventId))?,
            given => given,
        };
        if levels(payload) > LEVELS_MAX {
            return Err(refused(Malformed::TooDeep, type_code, dev_event_id));
        }
        let reported = members.reported().map_err(|malformed| refused(malformed, type_code, dev_event_id))?;
        Ok(Event {
            type_code: type_code.unwrap_or(0),
            dev_event_id: dev_event_id.unwrap_or(0),
            dev_timestamp_ms: time_ms(self.dev_timestamp).or_else(|| time_ms(members.time.and_then(scalar))),
            correlation,
            payload,
            reported,
        })
    }
}

/// A number in the body, where a value of another kind is as good as none.
/// Answers none for a whole number out of its range.
fn in_body<T>(member: Option<&RawValue>, read: fn(&str) -> Option<T>) -> Option<Option<T>> {
    let Some(text) = member.and_then(scalar) else { return Some(None) };
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match read(&text) {
        None if is_whole => None,
        number => Some(number),
    }
}

fn type_code(text: &str) -> Option<i64> {
    text.parse().ok().filter(|code| (0..=EVENT_TYPE_CODE_MAX).contains(code))
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn time_ms(text: Option<Cow<'_, str>>) -> Option<i64> {
    event_time::parse_ms(&text?)
}

/// What an event belongs to. One that is no UUID is left out: the event is
/// worth more.
fn correlation(bytes: &[u8]) -> Option<Uuid> {
    Correlation::parse(bytes)?.task()
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
