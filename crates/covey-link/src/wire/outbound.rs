//! What devices are sent (device-rpc "Messages", device-events "eva").

use covey_core::id::{ResultId, TaskId, UnixMs};
use covey_core::task::Task;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::wire::envelope::OutboundEnvelope;
use crate::wire::{Downlink, EventHead};

/// Quality of service (MQTT 5 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// At most once.
    AtMostOnce,
    /// At least once.
    AtLeastOnce,
}

/// How long "nothing to do" is worth sending, in seconds (device-rpc "Messages").
const NOTHING_EXPIRY_S: u32 = 180;
/// How long "the result is stored" is worth sending, in seconds.
const COMMITTED_EXPIRY_S: u32 = 3 * 3600;
/// How long "the event is stored" is worth sending, in seconds (device-events "eva").
const EVENT_ANSWER_EXPIRY_S: u32 = 180;
/// The body of `rsp` when the task has no parameters.
const NO_PARAMETERS: &str = "{}";

/// A message to a device, its fields laid open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// On which topic.
    pub downlink: Downlink,
    /// How reliably.
    pub qos: Qos,
    /// For how many seconds it is worth sending.
    pub expiry_s: u32,
    /// The correlation, 36 characters.
    pub correlation: String,
    method_code: Option<i64>,
    method: Option<String>,
    expires_at_s: Option<i64>,
    result_id: Option<i64>,
    ext_id: Option<i64>,
    event_type_code: Option<i64>,
    dev_event_id: Option<u32>,
    body: String,
}

/// What a device is told of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStatus {
    /// It is stored.
    Success,
    /// It is not stored.
    Error,
}

#[derive(Serialize)]
struct AnnouncementBody<'a> {
    id: String,
    created_at: i64,
    header: AnnouncementHeader<'a>,
}

#[derive(Serialize)]
struct AnnouncementHeader<'a> {
    ext_task_id: &'a str,
    device_id: i64,
    method_code: u16,
    priority: u8,
    ttl: i64,
}

impl Outbound {
    /// `tsk`: a task is waiting.
    #[must_use]
    pub fn announcement(task: &Task, now: UnixMs) -> Self {
        let body = AnnouncementBody {
            id: task.id.to_string(),
            created_at: task.created_at.seconds(),
            header: AnnouncementHeader {
                ext_task_id: &task.ext_task_id,
                device_id: task.device_id.0,
                method_code: task.method_code,
                priority: task.priority,
                ttl: task.ttl_minutes_left(now),
            },
        };
        // Strings and numbers always serialise.
        let body = serde_json::to_string(&body).unwrap_or_default();
        Self::about(task, Downlink::Tsk, body, now)
    }

    /// `rsp`: a task's method and parameters.
    #[must_use]
    pub fn response(task: &Task, now: UnixMs) -> Self {
        let body = task.payload.as_deref().unwrap_or(NO_PARAMETERS).to_owned();
        Self::about(task, Downlink::Rsp, body, now)
    }

    /// `rsp`: there is nothing to do.
    #[must_use]
    pub fn nothing_to_do() -> Self {
        Self {
            method_code: Some(0),
            ..Self::bare(
                Downlink::Rsp,
                Qos::AtMostOnce,
                NOTHING_EXPIRY_S,
                TaskId::NIL,
                r#"{"method_code":0}"#,
            )
        }
    }

    /// `cmt`: a result is stored.
    #[must_use]
    pub fn committed(task: TaskId, result: ResultId, ext_id: i64) -> Self {
        let body = r#"{"message":"committed"}"#;
        Self {
            result_id: Some(result.0),
            ext_id: Some(ext_id),
            ..Self::bare(Downlink::Cmt, Qos::AtLeastOnce, COMMITTED_EXPIRY_S, task, body)
        }
    }

    /// `eva`: an event is stored, or is not.
    #[must_use]
    pub fn event_answer(event: &EventHead, status: EventStatus) -> Self {
        let body = match status {
            EventStatus::Success => r#"{"status":"success"}"#,
            EventStatus::Error => r#"{"status":"error"}"#,
        };
        let correlation = event.correlation.unwrap_or(Uuid::nil()).hyphenated();
        Self {
            event_type_code: Some(event.type_code),
            dev_event_id: Some(event.dev_event_id),
            ..Self::bare(Downlink::Eva, Qos::AtMostOnce, EVENT_ANSWER_EXPIRY_S, correlation, body)
        }
    }

    fn about(task: &Task, downlink: Downlink, body: String, now: UnixMs) -> Self {
        let left_ms = task.expires_at.since_ms(now).max(1);
        let expiry_s = u32::try_from((left_ms + 999) / 1000).unwrap_or(u32::MAX);
        Self {
            method_code: Some(task.method_code.into()),
            method: task.method.clone(),
            expires_at_s: Some(task.expires_at.seconds()),
            ..Self::bare(downlink, Qos::AtLeastOnce, expiry_s, task.id, body)
        }
    }

    /// A message without anything that only some have.
    fn bare(
        downlink: Downlink,
        qos: Qos,
        expiry_s: u32,
        correlation: impl std::fmt::Display,
        body: impl Into<String>,
    ) -> Self {
        Self {
            downlink,
            qos,
            expiry_s,
            correlation: correlation.to_string(),
            method_code: None,
            method: None,
            expires_at_s: None,
            result_id: None,
            ext_id: None,
            event_type_code: None,
            dev_event_id: None,
            body: body.into(),
        }
    }

    /// The MQTT 5 user properties.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'static str, String)> {
        let number = |name, value: Option<i64>| value.map(|value| (name, value.to_string()));
        [
            number("method_code", self.method_code),
            self.method.clone().map(|method| ("method", method)),
            number("result_id", self.result_id),
            number("ext_id", self.ext_id),
            number("event_type_code", self.event_type_code),
            number("dev_event_id", self.dev_event_id.map(i64::from)),
            Some(("correlationData", self.correlation.clone())),
            number("expires_at", self.expires_at_s),
        ]
        .into_iter()
        .flatten()
    }

    /// The body for a client that has properties.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The body for an MQTT 3.1.1 client, the properties inside.
    #[must_use]
    pub fn enveloped_body(&self) -> String {
        let envelope = OutboundEnvelope {
            correlation_data: &self.correlation,
            method_code: self.method_code,
            method: self.method.as_deref(),
            expires_at: self.expires_at_s,
            result_id: self.result_id,
            ext_id: self.ext_id,
            event_type_code: self.event_type_code,
            dev_event_id: self.dev_event_id,
            payload: serde_json::from_str::<&RawValue>(&self.body).ok(),
        };
        // Strings, numbers and JSON that was checked always serialise.
        serde_json::to_string(&envelope).unwrap_or_default()
    }
}
