//! Records of changes, as streams and webhooks tell them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{DeviceEvent, TaskStatus, Time};

/// A change. Which of the last five is there follows from its kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Record<'a> {
    /// Its number, and the cursor after it.
    pub id: i64,
    /// Its kind.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RecordKindName))]
    pub kind: Cow<'static, str>,
    /// When the change was made.
    pub at: Time,
    /// The device's number.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub device_id: i64,
    /// The device's serial number.
    pub sn: Cow<'a, str>,
    /// The task's state after the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskStateChange<'a>>,
    /// The result that came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultChange<'a>>,
    /// The event that came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<DeviceEvent<'a>>,
    /// Whether the device is connected now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<PresenceChange>,
    /// The value of the twin that changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin: Option<TwinChange<'a>>,
}

impl Record<'_> {
    /// The change as JSON, as each stream and each webhook sends it.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, numbers and JSON that was checked always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A task's state after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskStateChange<'a> {
    /// The task's id.
    pub id: Uuid,
    /// The application's own id for it.
    pub ext_task_id: Cow<'a, str>,
    /// What the device is to do, as a number.
    pub method_code: u16,
    /// What the device is to do, as a name.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub method: Option<Cow<'a, str>>,
    /// Its state, as a number.
    pub status: TaskStatus,
    /// Its state, as a name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::TaskStatusName))]
    pub status_name: Cow<'static, str>,
    /// Why it changed.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::TaskCause))]
    pub cause: Cow<'static, str>,
    /// The name of the API key that made it; null if that was not stored yet.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub created_by: Option<Cow<'a, str>>,
}

/// A result.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResultChange<'a> {
    /// The id of its task.
    pub task_id: Uuid,
    /// The application's own id for the task.
    pub ext_task_id: Cow<'a, str>,
    /// What the device was to do, as a number.
    pub method_code: u16,
    /// Its number.
    pub id: i64,
    /// The device's own number for it.
    pub ext_id: i64,
    /// How it went, on the scale of HTTP.
    pub status_code: i64,
    /// What the device sent; null if nothing. What is no object comes as `{"value": …}`.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<Object>))]
    pub result: Option<Cow<'a, RawValue>>,
    /// When it was received.
    pub received_at: Time,
    /// The name of the API key that made the task; null if that was not stored yet.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub created_by: Option<Cow<'a, str>>,
}

/// Whether a device is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PresenceChange {
    /// Whether it is.
    pub online: bool,
    /// Why it went, or what its coming ended.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::ReasonName))]
    pub reason: Cow<'static, str>,
}

/// A value of a twin that changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TwinChange<'a> {
    /// `reported` or `desired`.
    pub side: Cow<'static, str>,
    /// The resource.
    pub resource: Cow<'a, str>,
    /// Its value; null if it was removed.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<serde_json::Value>))]
    pub value: Option<Cow<'a, RawValue>>,
    /// The version of that side.
    pub version: i64,
}

/// The last message of a stream that the server ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// Why: `too_slow`, `unavailable`, `unauthorized` or `shutdown`.
    pub reason: Cow<'static, str>,
    /// What to do.
    pub detail: Cow<'static, str>,
    /// Go on after this record.
    pub cursor: i64,
}

impl StreamEnd {
    /// The message as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
