//! The messages of the device contract: topics, decoding of what the server sends, and the
//! properties of what the device sends. No I/O.

use std::borrow::Cow;

use bytes::Bytes;
use rumqttc::{Publish, PublishProperties};
use serde::Deserialize;
use uuid::Uuid;

use crate::correlation::parse_correlation;
use crate::events::Event;

/// Longest life of a task, taken when a message does not say how long it lives: 31 days.
const TASK_LIFE_MAX_S: u64 = 31 * 24 * 3600;

/// The topics of one device.
#[derive(Debug)]
pub(crate) struct Topics {
    /// `srv/<SN>/`, what every inbound topic starts with.
    inbound_prefix: String,
    pub(crate) ack: String,
    pub(crate) req: String,
    pub(crate) res: String,
    pub(crate) evt: String,
}

impl Topics {
    pub(crate) fn new(sn: &str) -> Self {
        Self {
            inbound_prefix: format!("srv/{sn}/"),
            ack: format!("dev/{sn}/ack"),
            req: format!("dev/{sn}/req"),
            res: format!("dev/{sn}/res"),
            evt: format!("dev/{sn}/evt"),
        }
    }

    /// What to subscribe to. `tsk` comes last: the server announces as soon as it is
    /// subscribed, and the answers must have somewhere to go by then.
    pub(crate) fn subscriptions(&self, announcements: bool) -> impl Iterator<Item = String> {
        let last = announcements.then_some("tsk");
        ["rsp", "cmt", "eva"].into_iter().chain(last).map(|name| format!("{}{name}", self.inbound_prefix))
    }
}

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inbound {
    /// `tsk`: a task is waiting.
    Announced(Announcement),
    /// `rsp` with a task.
    Parameters(Parameters),
    /// `rsp` without one.
    Nothing,
    /// `cmt`: a result is stored.
    Committed(Commit),
    /// `eva`: an event is stored, or is not.
    EventTold(EventTold),
    /// Not of the contract; the reason is for the log.
    Unknown(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) task_id: Uuid,
    pub(crate) priority: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub(crate) task_id: Uuid,
    pub(crate) method_code: u16,
    pub(crate) method: Option<Box<str>>,
    /// As the server said it, in Unix seconds of its clock.
    pub(crate) expires_at: Option<u64>,
    /// Until when to remember the task, in Unix seconds of this device's clock.
    pub(crate) keep_until: u64,
    pub(crate) payload: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) task_id: Uuid,
    pub(crate) ext_id: Option<i64>,
    pub(crate) result_id: Option<i64>,
}

/// What an `eva` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventTold {
    pub(crate) number: u32,
    pub(crate) type_code: Option<u32>,
    pub(crate) is_stored: bool,
}

#[derive(Deserialize)]
struct EventToldBody<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
}

/// The parts of an announcement's body that this crate looks at.
#[derive(Deserialize)]
struct AnnouncementBody {
    header: AnnouncementHeader,
}

#[derive(Deserialize)]
struct AnnouncementHeader {
    priority: Option<u8>,
}

/// Decodes a message from the server. `now` is this device's clock in Unix seconds.
pub(crate) fn decode(topics: &Topics, publish: Publish, now: u64) -> Inbound {
    let Some(name) = publish.topic.strip_prefix(topics.inbound_prefix.as_bytes()) else {
        return Inbound::Unknown("the topic is not of this device");
    };
    let properties = publish.properties.unwrap_or_default();
    match name {
        b"tsk" => decode_announcement(&properties, &publish.payload),
        b"rsp" => decode_response(properties, publish.payload, now),
        b"cmt" => decode_commit(&properties),
        b"eva" => decode_event_told(&properties, &publish.payload),
        _ => Inbound::Unknown("the topic is not of the contract"),
    }
}

fn decode_announcement(properties: &PublishProperties, body: &[u8]) -> Inbound {
    let Some(task_id) = correlation(properties) else {
        return Inbound::Unknown("an announcement without a task id");
    };
    let priority =
        serde_json::from_slice::<AnnouncementBody>(body).ok().and_then(|body| body.header.priority);
    Inbound::Announced(Announcement { task_id, priority })
}

/// A method code of 0 alone does not mean "nothing to do": 0 is a method code like any other.
/// The zero correlation does.
fn decode_response(properties: PublishProperties, payload: Bytes, now: u64) -> Inbound {
    let Some(task_id) = correlation(&properties) else {
        return Inbound::Nothing;
    };
    let Some(method_code) = user_property(&properties, "method_code").and_then(|code| code.parse().ok())
    else {
        return Inbound::Unknown("a task without an integer method_code");
    };
    let method = user_property(&properties, "method").map(Box::from);
    let expires_at = user_property(&properties, "expires_at").and_then(|at| at.parse().ok());
    Inbound::Parameters(Parameters {
        task_id,
        method_code,
        method,
        expires_at,
        keep_until: keep_until(expires_at, properties.message_expiry_interval, now),
        payload,
    })
}

/// The message's remaining life is right whatever this device's clock says; `expires_at` is
/// right if it agrees with the server's. The later one counts: remembering too long is harmless.
fn keep_until(expires_at: Option<u64>, message_expiry_s: Option<u32>, now: u64) -> u64 {
    let by_life = message_expiry_s.map(|left| now.saturating_add(u64::from(left)));
    expires_at.max(by_life).unwrap_or_else(|| now.saturating_add(TASK_LIFE_MAX_S))
}

fn decode_commit(properties: &PublishProperties) -> Inbound {
    let Some(task_id) = correlation(properties) else {
        return Inbound::Unknown("a commit without a task id");
    };
    let integer = |name| user_property(properties, name).and_then(|value| value.parse().ok());
    Inbound::Committed(Commit { task_id, ext_id: integer("ext_id"), result_id: integer("result_id") })
}

/// Anything but "success" is none.
fn decode_event_told(properties: &PublishProperties, body: &[u8]) -> Inbound {
    let integer = |name| user_property(properties, name).and_then(|value| value.parse().ok());
    let Some(number) = integer("dev_event_id") else {
        return Inbound::Unknown("an eva without an integer dev_event_id");
    };
    let is_stored =
        serde_json::from_slice::<EventToldBody<'_>>(body).is_ok_and(|body| body.status == "success");
    Inbound::EventTold(EventTold { number, type_code: integer("event_type_code"), is_stored })
}

/// Native Correlation Data goes before the user property; zero and unreadable count as none.
fn correlation(properties: &PublishProperties) -> Option<Uuid> {
    properties
        .correlation_data
        .as_deref()
        .and_then(parse_correlation)
        .or_else(|| {
            user_property(properties, "correlationData").and_then(|text| parse_correlation(text.as_bytes()))
        })
        .filter(|id| !id.is_nil())
}

fn user_property<'a>(properties: &'a PublishProperties, name: &str) -> Option<&'a str> {
    properties.user_properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Properties of `req` and `ack`: the correlation alone.
pub(crate) fn request_properties(task_id: Uuid) -> PublishProperties {
    PublishProperties { correlation_data: Some(correlation_text(task_id)), ..PublishProperties::default() }
}

/// Properties of `res`.
pub(crate) fn result_properties(task_id: Uuid, status: u16, ext_id: i64) -> PublishProperties {
    PublishProperties {
        correlation_data: Some(correlation_text(task_id)),
        user_properties: vec![
            ("status_code".to_owned(), status.to_string()),
            ("ext_id".to_owned(), ext_id.to_string()),
            ("correlationData".to_owned(), task_id.to_string()),
        ],
        ..PublishProperties::default()
    }
}

/// Properties of `evt`.
pub(crate) fn event_properties(event: &Event) -> PublishProperties {
    let mut user_properties = vec![
        ("event_type_code".to_owned(), event.type_code.to_string()),
        ("dev_event_id".to_owned(), event.number.to_string()),
        ("dev_timestamp".to_owned(), event.time_s.to_string()),
    ];
    if let Some(id) = event.correlation {
        user_properties.push(("correlation_id".to_owned(), id.to_string()));
    }
    PublishProperties { user_properties, ..PublishProperties::default() }
}

fn correlation_text(task_id: Uuid) -> Bytes {
    let mut text = Uuid::encode_buffer();
    Bytes::copy_from_slice(task_id.hyphenated().encode_lower(&mut text).as_bytes())
}

#[cfg(test)]
mod tests;
