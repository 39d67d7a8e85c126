//! Tasks: what an application asks of a device, and what became of it.

mod operation;
mod request;

use covey_api::TaskCreated;
pub use operation::WAIT_SECONDS_MAX;
pub use request::{PageRequest, TaskFilter, TaskRequest};

/// A task with its results.
pub type Task = covey_api::Task<'static>;
/// What was asked for.
pub type TaskHeader = covey_api::TaskHeader<'static>;
/// A result that a device sent.
pub type TaskResult = covey_api::TaskResult<'static>;
/// A task in a list.
pub type TaskRow = covey_api::TaskItem<'static>;

/// A page of a list.
pub type TaskPage = covey_api::TaskPage<'static>;

/// A task that was just created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// The task.
    pub task: TaskCreated,
    /// Whether an earlier request with the same idempotency key did it.
    pub is_replayed: bool,
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
