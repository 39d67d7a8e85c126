//! Tasks: what an application asks of a device, and what became of it.

mod call;
mod calls;
mod hand_out;
mod operation;
mod port;
mod result;
mod rules;
mod spec;

pub use call::Call;
pub(crate) use hand_out::{Refused, hand_out, held, refuse};
pub use operation::{
    CreatedTask, DeletedTask, FinishedTask, IDEMPOTENCY_KEY_BYTES_MAX, IdempotencyKey, ResultNotStored,
    SweptTasks, TaskAck, TaskCreate, TaskCreateAll, TaskDelete, TaskFinish, TaskNext, TaskSweep,
    TaskTooLarge,
};
pub(crate) use operation::{ended_with, parameters_gone, receive, record_changes, results_of};
pub use port::{Idempotency, Lapse, TaskCount, TaskPage, TaskReader, TaskSteps};

use std::sync::Arc;

use crate::device::DeviceIdentity;
use crate::id::{DeviceId, DeviceKey, OrgId, ResultId, Sn, TaskId, UnixMs};
use crate::named::named;

pub use result::{
    NewResult, PARTIAL_STATUS_CODE, RESULT_BYTES_MAX, RESULTS_BYTES_MAX, RESULTS_MAX, ResultBody, TaskResult,
    TaskResults,
};
pub use rules::{Rank, Verdict};
pub use spec::Target;
pub use spec::{
    DeviceRef, EXT_TASK_ID_CHARS_MAX, METHOD_CHARS_MAX, METHOD_CODE_MAX, PAYLOAD_BYTES_MAX, PRIORITY_MAX,
    TTL_MINUTES_MAX, TaskSpec,
};

named! {
    /// The state of a task, with the numbers of the contract (device-rpc "States").
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    #[repr(u8)]
    pub enum TaskStatus {
        /// Stored, not yet acknowledged by the device.
        Ready = 0 => "READY",
        /// The device has acknowledged the announcement.
        Pending = 1 => "PENDING",
        /// The device has taken the task.
        Lock = 2 => "LOCK",
        /// Finished with a status code below 400.
        Done = 3 => "DONE",
        /// Its time ran out.
        Expired = 4 => "EXPIRED",
        /// Deleted by an application.
        Deleted = 5 => "DELETED",
        /// Finished with a status code of 400 or more.
        Failed = 6 => "FAILED",
        /// Never produced; kept so that the numbers stay.
        Undefined = 7 => "UNDEFINED",
    }
}

impl TaskStatus {
    /// The state with this number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        usize::try_from(number).ok().and_then(|index| Self::ALL.get(index).copied())
    }

    /// The number of the state.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether nothing but a deletion can follow (device-rpc "States").
    #[must_use]
    pub const fn is_final(self) -> bool {
        self as u8 >= Self::Done as u8
    }
}

named! {
    /// Why a task's state changed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Cause {
        /// An application created the task.
        Created => "created",
        /// The device acknowledged the announcement.
        Acknowledged => "acknowledged",
        /// The device asked for the task and got it.
        Taken => "taken",
        /// The device sent a partial result without having asked for the task.
        Progress => "progress",
        /// The device sent a result.
        Result => "result",
        /// The task's time ran out.
        TimedOut => "timed_out",
        /// An application deleted the task.
        Deleted => "deleted",
        /// A newer value is wanted of the same resource.
        Superseded => "superseded",
        /// The device asked for the task, and takes no message as large as it.
        TooLargeForDevice => "too_large_for_device",
        /// The device sent a result that is larger than any may be.
        ResultTooLarge => "result_too_large",
        /// The device was a node that has gone for good.
        DeviceGone => "device_gone",
    }
}

/// One entry of a task's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When it happened.
    pub at: UnixMs,
    /// The state that the task was then in.
    pub to: TaskStatus,
    /// Why.
    pub cause: Cause,
}

/// A task as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The number of its creation; later tasks have larger ones. 0 until stored.
    pub seq: i64,
    /// The organisation that owns it.
    pub org: OrgId,
    /// The registration of the device that it is for.
    pub device: DeviceKey,
    /// That device's number for applications.
    pub device_id: DeviceId,
    /// That device's serial number.
    pub sn: Sn,
    /// The application's own id for the task.
    pub ext_task_id: String,
    /// What is to be done, as a number.
    pub method_code: u16,
    /// What is to be done, as a name.
    pub method: Option<String>,
    /// 0 to 9, higher first.
    pub priority: u8,
    /// The parameters, as the JSON text that the application sent.
    pub payload: Option<Arc<str>>,
    /// Whether it is never polled (created with ttl 0).
    pub push_only: bool,
    /// When it was created.
    pub created_at: UnixMs,
    /// When it expires.
    pub expires_at: UnixMs,
    /// Its state.
    pub status: TaskStatus,
    /// When the device acknowledged it.
    pub pending_at: Option<UnixMs>,
    /// When the device first took it.
    pub locked_at: Option<UnixMs>,
    /// Until when the device that took it has it to itself.
    pub lease_until: Option<UnixMs>,
    /// How often it was given to the device.
    pub deliveries: u32,
    /// How many results it has.
    pub results: u32,
    /// How many of them came when it was final.
    pub late_results: u32,
    /// The bodies of its results, in bytes.
    pub result_bytes: u64,
    /// Its states, oldest first.
    pub timeline: Vec<Change>,
    /// The name of the API key that made it; none of tasks that are older than
    /// this field.
    pub created_by: Option<Arc<str>>,
}

impl Task {
    /// The state at `now`: a task whose time ran out is expired from that
    /// instant on, whether or not a sweep has stored that yet.
    #[must_use]
    pub fn status_at(&self, now: UnixMs) -> TaskStatus {
        if self.is_overdue(now) { TaskStatus::Expired } else { self.status }
    }

    /// The device that it is for.
    #[must_use]
    pub fn device_identity(&self) -> DeviceIdentity {
        let Self { org, device, device_id, ref sn, .. } = *self;
        DeviceIdentity { org, device, device_id, sn: sn.clone() }
    }

    /// What is left of its life in whole minutes, rounded up; 0 when it ran
    /// out (rest-api "Tasks").
    #[must_use]
    pub fn ttl_minutes_left(&self, now: UnixMs) -> i64 {
        let left_ms = self.expires_at.since_ms(now).max(0);
        left_ms.saturating_add(59_999) / 60_000
    }

    /// When it was deleted, if it was.
    #[must_use]
    pub fn deleted_at(&self) -> Option<UnixMs> {
        self.timeline.iter().rev().find(|change| change.to == TaskStatus::Deleted).map(|change| change.at)
    }
}

/// A task with its newest results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDetail {
    /// The task.
    pub task: Task,
    /// Its results, newest first, as many as are given at once ([`TaskResults`]).
    pub results: Vec<TaskResult>,
    /// There are others before this one; none if these are all.
    pub results_next: Option<ResultId>,
}

impl TaskDetail {
    /// A task with some of its results.
    #[must_use]
    pub fn of(task: Task, results: TaskResults) -> Self {
        Self { task, results: results.results, results_next: results.next }
    }
}

/// Which tasks a caller wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Those of the device with this number.
    pub device_id: Option<DeviceId>,
    /// Those in this state.
    pub status: Option<TaskStatus>,
    /// Those with this id of the application.
    pub ext_task_id: Option<String>,
    /// Those created at or after this instant.
    pub created_after: Option<UnixMs>,
    /// Those created before this instant.
    pub created_before: Option<UnixMs>,
}
