//! Tasks: what an application asks of a device, and what became of it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::Time;

/// The state of a task, a number on the wire (device-rpc "States").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
#[repr(u8)]
pub enum TaskStatus {
    /// Stored, not yet acknowledged by the device.
    Ready = 0,
    /// The device has acknowledged the announcement.
    Pending = 1,
    /// The device has taken the task.
    Lock = 2,
    /// Finished with a status code below 400.
    Done = 3,
    /// Its time ran out.
    Expired = 4,
    /// Deleted by an application.
    Deleted = 5,
    /// Finished with a status code of 400 or more.
    Failed = 6,
    /// Any number that this program does not know.
    Undefined = 7,
}

impl TaskStatus {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Ready,
        Self::Pending,
        Self::Lock,
        Self::Done,
        Self::Expired,
        Self::Deleted,
        Self::Failed,
        Self::Undefined,
    ];

    /// The number of the state.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name of the state, as the contract spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Pending => "PENDING",
            Self::Lock => "LOCK",
            Self::Done => "DONE",
            Self::Expired => "EXPIRED",
            Self::Deleted => "DELETED",
            Self::Failed => "FAILED",
            Self::Undefined => "UNDEFINED",
        }
    }

    /// Whether nothing but a deletion can follow (device-rpc "States").
    #[must_use]
    pub const fn is_final(self) -> bool {
        self as u8 >= Self::Done as u8
    }
}

impl From<u8> for TaskStatus {
    fn from(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Undefined)
    }
}

impl From<TaskStatus> for u8 {
    fn from(status: TaskStatus) -> Self {
        status.number()
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// By name, in any case, or by number.
impl FromStr for TaskStatus {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().filter(|status| *status != Self::Undefined);
        let mut named =
            known.filter(|s| s.name().eq_ignore_ascii_case(text) || s.number().to_string() == text);
        named
            .next()
            .ok_or("states are ready, pending, lock, done, expired, deleted, failed, or their numbers 0 to 6")
    }
}

/// A task with its results.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Task<'a> {
    /// The task's id.
    pub id: Uuid,
    /// When it was made, in Unix seconds.
    #[cfg_attr(feature = "openapi", schema(example = 1_770_091_506))]
    pub created_at: i64,
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub header: TaskHeader<'a>,
    /// Its state, as a number.
    pub status: TaskStatus,
    /// Its state, as a name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::TaskStatusName))]
    pub status_name: Cow<'static, str>,
    /// When the device acknowledged it, in Unix seconds.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub pending_at: Option<i64>,
    /// When the device first took it, in Unix seconds.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub locked_at: Option<i64>,
    /// When it expires, in Unix seconds.
    pub expires_at: i64,
    /// What the device is to do, as a name.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub method: Option<Cow<'a, str>>,
    /// The device's serial number.
    pub device_sn: Cow<'a, str>,
    /// The name of the API key that made it; null if that was not stored yet.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub created_by: Option<Cow<'a, str>>,
    /// How often it was given to the device.
    pub deliveries: u32,
    /// Its results, newest first: at most 100, and fewer if they are large.
    #[cfg_attr(feature = "openapi", schema(max_items = 100))]
    pub results: Vec<TaskResult<'a>>,
    /// The `results_cursor` of the results before these; null if there are none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true, example = "before-17"))]
    pub results_next: Option<Cow<'a, str>>,
    /// Its states, oldest first.
    pub timeline: Vec<TaskChange>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskHeader<'a> {
    /// The application's own id for the task.
    pub ext_task_id: Cow<'a, str>,
    /// The device's number.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub device_id: i64,
    /// What the device is to do, as a number.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 65_534))]
    pub method_code: u16,
    /// A task of higher priority is taken first.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 9))]
    pub priority: u8,
    /// What is left of its life in minutes, rounded up.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub ttl: i64,
}

/// A result of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskResult<'a> {
    /// Its number.
    pub id: i64,
    /// The device's own number of it; 0 if it gave none.
    pub ext_id: i64,
    /// How it went, on the scale of HTTP: 206 more to come, below 400 done, 400 and up failed.
    pub status_code: i64,
    /// What the device sent. What is no JSON object comes as `{"value": …}`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>, required = true))]
    pub result: Option<Cow<'a, RawValue>>,
}

impl TaskResult<'_> {
    /// Whether more is to come (device-rpc "res").
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.status_code == 206
    }
}

/// A state that a task came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskChange {
    /// When.
    pub at: Time,
    /// The state, as a number.
    pub status: TaskStatus,
    /// The state, as a name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::TaskStatusName))]
    pub status_name: Cow<'static, str>,
    /// Why.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::TaskCause))]
    pub cause: Cow<'static, str>,
}

/// A page of tasks, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskPage<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub items: Vec<TaskItem<'a>>,
    /// How many tasks there are on all pages.
    pub total: u64,
    /// The number of this page.
    pub page: u32,
    /// How many tasks a page has.
    pub size: u32,
    /// How many pages there are.
    pub pages: u64,
}

/// A task in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskItem<'a> {
    /// The task's id.
    pub id: Uuid,
    /// The application's own id for the task.
    pub ext_task_id: Cow<'a, str>,
    /// The device's number.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub device_id: i64,
    /// The device's serial number.
    pub device_sn: Cow<'a, str>,
    /// What the device is to do, as a number.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 65_534))]
    pub method_code: u16,
    /// What the device is to do, as a name.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub method: Option<Cow<'a, str>>,
    /// A task of higher priority is taken first.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 9))]
    pub priority: u8,
    /// What is left of its life in minutes, rounded up.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub ttl: i64,
    /// Its state, as a number.
    pub status: TaskStatus,
    /// Its state, as a name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::TaskStatusName))]
    pub status_name: Cow<'static, str>,
    /// When it was made.
    pub created_at: Time,
    /// When the device acknowledged it.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub pending_at: Option<Time>,
    /// When the device first took it.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub locked_at: Option<Time>,
    /// When it expires.
    pub expires_at: Time,
    /// The organisation that owns it.
    pub org_id: i64,
    /// The name of the API key that made it; null if that was not stored yet.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub created_by: Option<Cow<'a, str>>,
}

/// A task that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskCreated {
    /// The task's id.
    pub id: Uuid,
    /// When it was made, in Unix seconds.
    #[cfg_attr(feature = "openapi", schema(example = 1_770_091_506))]
    pub created_at: i64,
}

/// A task that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskDeleted {
    /// The task's id.
    pub id: Uuid,
    /// When it was deleted, in Unix seconds.
    #[cfg_attr(feature = "openapi", schema(example = 1_770_091_506))]
    pub deleted_at: i64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn states_keep_their_numbers_on_the_wire_and_their_names_for_people() {
        for (number, status) in TaskStatus::ALL.into_iter().enumerate() {
            assert_eq!(serde_json::to_string(&status).unwrap(), number.to_string());
            assert_eq!(serde_json::from_str::<TaskStatus>(&number.to_string()).unwrap(), status);
            assert_eq!(status.is_final(), number >= 3);
        }
        assert_eq!(serde_json::from_str::<TaskStatus>("99").unwrap(), TaskStatus::Undefined);
        assert_eq!("done".parse(), Ok(TaskStatus::Done));
        assert_eq!("6".parse(), Ok(TaskStatus::Failed));
        for bad in ["", "7", "-1", "03", "finished", "undefined"] {
            assert!(bad.parse::<TaskStatus>().is_err(), "{bad:?}");
        }
    }
}
