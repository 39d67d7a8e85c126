//! Tasks: what an application asks of a device, and what became of it.

mod operation;
mod request;
mod status;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

pub use operation::WAIT_SECONDS_MAX;
pub use request::{PageRequest, TaskFilter, TaskRequest};
pub use status::TaskStatus;

/// A task that was just created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Its id.
    pub id: Uuid,
    /// When it was created, in Unix seconds.
    pub created_at: i64,
    /// Whether it was created by an earlier request with the same idempotency key.
    #[serde(skip)]
    pub is_replayed: bool,
}

/// A task that was just deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Its id.
    pub id: Uuid,
    /// When it was deleted, in Unix seconds.
    pub deleted_at: i64,
}

/// A task with its results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: Uuid,
    /// When it was created, in Unix seconds.
    pub created_at: i64,
    /// What was asked for.
    pub header: TaskHeader,
    /// What is to be done, as a name.
    #[serde(default)]
    pub method: Option<String>,
    /// The serial number of its device.
    #[serde(default)]
    pub device_sn: Option<String>,
    /// Its state.
    pub status: TaskStatus,
    /// Its state, by name.
    #[serde(default)]
    pub status_name: String,
    /// When it expires, in Unix seconds.
    #[serde(default)]
    pub expires_at: Option<i64>,
    /// How often it was given to the device.
    #[serde(default)]
    pub deliveries: u32,
    /// When the device acknowledged it, in Unix seconds.
    #[serde(default)]
    pub pending_at: Option<i64>,
    /// When the device took it, in Unix seconds.
    #[serde(default)]
    pub locked_at: Option<i64>,
    /// Its results, newest first.
    #[serde(default)]
    pub results: Vec<TaskResult>,
    /// Its states, oldest first.
    #[serde(default)]
    pub timeline: Vec<Change>,
    /// The name of the API key that made it, if that is known.
    #[serde(default)]
    pub created_by: Option<String>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHeader {
    /// The application's own id for the task.
    #[serde(default)]
    pub ext_task_id: String,
    /// The number of its device.
    pub device_id: i64,
    /// What is to be done, as a number.
    pub method_code: i64,
    /// 0 to 9, higher first.
    pub priority: i64,
    /// What is left of its life, in minutes, rounded up.
    pub ttl: i64,
}

/// A result that a device sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskResult {
    /// Its number.
    pub id: i64,
    /// The device's own number for it.
    #[serde(default)]
    pub ext_id: i64,
    /// 206 for a partial one, below 400 for success, from 400 on for failure.
    pub status_code: i64,
    /// The result as JSON text; one that is no object comes as `{"value": …}`.
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
}

impl TaskResult {
    /// Whether more is to come (device-rpc "res").
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.status_code == 206
    }
}

/// One entry of a task's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When it happened, in RFC 3339.
    pub at: String,
    /// The state that the task was then in.
    pub status: TaskStatus,
    /// Why: `created`, `acknowledged`, `taken`, `progress`, `result`,
    /// `timed_out` or `deleted`.
    #[serde(default)]
    pub cause: String,
}

/// A task in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRow {
    /// Its id.
    pub id: Uuid,
    /// The application's own id for the task.
    #[serde(default)]
    pub ext_task_id: String,
    /// The number of its device.
    pub device_id: i64,
    /// The serial number of its device.
    #[serde(default)]
    pub device_sn: Option<String>,
    /// What is to be done, as a number.
    pub method_code: i64,
    /// What is to be done, as a name.
    #[serde(default)]
    pub method: Option<String>,
    /// 0 to 9, higher first.
    pub priority: i64,
    /// What is left of its life, in minutes, rounded up.
    pub ttl: i64,
    /// Its state.
    pub status: TaskStatus,
    /// Its state, by name.
    #[serde(default)]
    pub status_name: String,
    /// When it was created, in RFC 3339.
    pub created_at: String,
    /// When the device acknowledged it, in RFC 3339.
    #[serde(default)]
    pub pending_at: Option<String>,
    /// When the device took it, in RFC 3339.
    #[serde(default)]
    pub locked_at: Option<String>,
    /// When it expires, in RFC 3339.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// The name of the API key that made it, if that is known.
    #[serde(default)]
    pub created_by: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// How many there are in all.
    pub total: u64,
    /// Its number, from 1.
    pub page: u64,
    /// How many a page holds.
    pub size: u64,
    /// How many pages there are.
    pub pages: u64,
}

/// What became of a task for which somebody waited.
#[derive(Clone, Debug)]
pub struct TaskOutcome {
    /// The task when the wait ended.
    pub task: Task,
    /// Whether it was created by an earlier request with the same idempotency key.
    pub is_replayed: bool,
}

impl TaskOutcome {
    /// Whether the task is final. If not, the wait ended first.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.task.status.is_final()
    }
}
