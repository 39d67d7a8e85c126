//! What devices are sent (device-rpc "Messages", device-events "eva").

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::envelope::DownlinkEnvelope;
use crate::uplink::EventHead;
use crate::{Downlink, property};

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

/// What `tsk` and `rsp` say of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task<'a> {
    /// Its id.
    pub id: Uuid,
    /// The application's own id for the task.
    pub ext_task_id: &'a str,
    /// The device's number for applications.
    pub device_id: i64,
    /// What is to be done, as a number.
    pub method_code: u16,
    /// What is to be done, as a name.
    pub method: Option<&'a str>,
    /// 0 to 9, higher first.
    pub priority: u8,
    /// The parameters as JSON text.
    pub payload: Option<&'a str>,
    /// When it was created, in Unix milliseconds.
    pub created_at_ms: i64,
    /// When it expires, in Unix milliseconds.
    pub expires_at_ms: i64,
    /// What is left of its life now, in milliseconds.
    pub left_ms: i64,
    /// Its state, as the number of the contract (device-rpc "States").
    pub status: u8,
    /// When the device acknowledged it, in Unix milliseconds.
    pub pending_at_ms: Option<i64>,
    /// When the device took it, in Unix milliseconds.
    pub locked_at_ms: Option<i64>,
}

/// What the body of an `rsp` with a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseForm {
    /// The task's parameters, verbatim.
    #[default]
    Payload,
    /// The task, with its parameters as `payload`: for firmware that was written against servers
    /// which send that.
    Envelope,
}

impl Task<'_> {
    /// In whole seconds, rounded up: a message with none would not be delivered.
    fn expiry_s(&self) -> u32 {
        u32::try_from((self.left_ms.max(1).saturating_add(999)) / 1_000).unwrap_or(u32::MAX)
    }

    /// In whole minutes, rounded up.
    fn ttl_minutes(&self) -> i64 {
        self.left_ms.max(0).saturating_add(59_999) / 60_000
    }

    fn header(&self) -> TaskHeader<'_> {
        TaskHeader {
            ext_task_id: self.ext_task_id,
            device_id: self.device_id,
            method_code: self.method_code,
            priority: self.priority,
            ttl: self.ttl_minutes(),
        }
    }

    fn in_envelope(&self) -> String {
        let parameters = self.payload.unwrap_or(NO_PARAMETERS);
        let body = ResponseBody {
            id: self.id.to_string(),
            created_at: seconds(self.created_at_ms),
            header: self.header(),
            status: self.status,
            pending_at: self.pending_at_ms.map(seconds),
            locked_at: self.locked_at_ms.map(seconds),
            payload: serde_json::from_str(parameters).unwrap_or(RawValue::NULL),
        };
        // Strings, numbers and JSON that was checked always serialise.
        serde_json::to_string(&body).unwrap_or_default()
    }
}

/// A message to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownlinkMessage {
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
    /// Whether it has no user properties.
    is_bare: bool,
    /// Whether user properties that say what a property of MQTT says are left out.
    says_once: bool,
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
    header: TaskHeader<'a>,
}

/// The body of an `rsp` as an envelope.
#[derive(Serialize)]
struct ResponseBody<'a> {
    id: String,
    created_at: i64,
    header: TaskHeader<'a>,
    status: u8,
    pending_at: Option<i64>,
    locked_at: Option<i64>,
    payload: &'a RawValue,
}

#[derive(Serialize)]
struct TaskHeader<'a> {
    ext_task_id: &'a str,
    device_id: i64,
    method_code: u16,
    priority: u8,
    ttl: i64,
}

impl DownlinkMessage {
    /// `tsk`: a task is waiting.
    #[must_use]
    pub fn announcement(task: &Task<'_>) -> Self {
        let body = AnnouncementBody {
            id: task.id.to_string(),
            created_at: seconds(task.created_at_ms),
            header: task.header(),
        };
        // Strings and numbers always serialise.
        let body = serde_json::to_string(&body).unwrap_or_default();
        Self::about(task, Downlink::Tsk, body)
    }

    /// `rsp`: a task's method and parameters.
    #[must_use]
    pub fn response(task: &Task<'_>, form: ResponseForm) -> Self {
        let body = match form {
            ResponseForm::Payload => task.payload.unwrap_or(NO_PARAMETERS).to_owned(),
            ResponseForm::Envelope => task.in_envelope(),
        };
        Self::about(task, Downlink::Rsp, body)
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
                Uuid::nil(),
                r#"{"method_code":0}"#,
            )
        }
    }

    /// `cmt`: a result is stored.
    #[must_use]
    pub fn committed(task: Uuid, result_id: i64, ext_id: i64) -> Self {
        let body = r#"{"message":"committed"}"#;
        Self {
            result_id: Some(result_id),
            ext_id: Some(ext_id),
            ..Self::bare(Downlink::Cmt, Qos::AtLeastOnce, COMMITTED_EXPIRY_S, task, body)
        }
    }

    /// `cmt`: a result is not stored and never will be, so that the device need not send it again.
    #[must_use]
    pub fn not_stored(task: Uuid, ext_id: i64) -> Self {
        let body = r#"{"message":"not stored"}"#;
        Self {
            result_id: Some(0),
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
        let correlation = event.correlation.unwrap_or(Uuid::nil());
        Self {
            event_type_code: Some(event.type_code),
            dev_event_id: Some(event.dev_event_id),
            ..Self::bare(Downlink::Eva, Qos::AtMostOnce, EVENT_ANSWER_EXPIRY_S, correlation, body)
        }
    }

    fn about(task: &Task<'_>, downlink: Downlink, body: String) -> Self {
        Self {
            method_code: Some(task.method_code.into()),
            method: task.method.map(str::to_owned),
            expires_at_s: Some(seconds(task.expires_at_ms)),
            ..Self::bare(downlink, Qos::AtLeastOnce, task.expiry_s(), task.id, body)
        }
    }

    /// A message without anything that only some have.
    fn bare(downlink: Downlink, qos: Qos, expiry_s: u32, correlation: Uuid, body: impl Into<String>) -> Self {
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
            is_bare: false,
            says_once: false,
            body: body.into(),
        }
    }

    /// The same with less, for a device that cannot take so much (MQTT 5 §3.1.2.11.4): first without
    /// the body, then with nothing but the native Correlation Data. An `rsp` is for its method and body; it
    /// goes without the user properties that Correlation Data and Message Expiry Interval say as well. None
    /// if there is no less.
    #[must_use]
    pub fn smaller(mut self) -> Option<Self> {
        if self.downlink == Downlink::Rsp {
            let has_less = !self.says_once;
            self.says_once = true;
            return has_less.then_some(self);
        }
        if self.is_bare {
            return None;
        }
        if self.body.is_empty() {
            self.is_bare = true;
        } else {
            self.body = String::new();
        }
        Some(self)
    }

    /// The MQTT 5 user properties.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'static str, String)> {
        let number = |name, value: Option<i64>| value.map(|value| (name, value.to_string()));
        let all = [
            number(property::METHOD_CODE, self.method_code),
            self.method.clone().map(|method| (property::METHOD, method)),
            number(property::RESULT_ID, self.result_id),
            number(property::EXT_ID, self.ext_id),
            number(property::EVENT_TYPE_CODE, self.event_type_code),
            number(property::DEV_EVENT_ID, self.dev_event_id.map(i64::from)),
            Some((property::CORRELATION_DATA, self.correlation.clone())).filter(|_| !self.says_once),
            number(property::EXPIRES_AT, self.expires_at_s.filter(|_| !self.says_once)),
        ];
        all.into_iter().flatten().filter(|_| !self.is_bare)
    }

    /// The body for a client that has properties.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The body for an MQTT 3.1.1 client, the properties inside. Of a task that waits it says no more than
    /// a client with a buffer of 128 bytes can take: the protocol has no way to ask how much that is.
    #[must_use]
    pub fn enveloped_body(&self) -> String {
        let is_announcement = self.downlink == Downlink::Tsk;
        let payload = || serde_json::from_str(&self.body).unwrap_or(RawValue::NULL);
        let envelope = DownlinkEnvelope {
            correlation_data: &self.correlation,
            method_code: self.method_code,
            method: self.method.as_deref().filter(|_| !is_announcement),
            expires_at: self.expires_at_s,
            result_id: self.result_id,
            ext_id: self.ext_id,
            event_type_code: self.event_type_code,
            dev_event_id: self.dev_event_id,
            payload: (!is_announcement).then(payload),
        };
        // Strings, numbers and JSON that was checked always serialise.
        serde_json::to_string(&envelope).unwrap_or_default()
    }
}

/// Whole Unix seconds, rounded down.
const fn seconds(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(1_000)
}
