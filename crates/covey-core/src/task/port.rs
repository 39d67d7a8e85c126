//! What operations and callers ask the store of tasks.

use crate::access::Caller;
use crate::id::{DeviceKey, OrgId, ResultId, TaskId, UnixMs};
use crate::node::WaitingTask;
use crate::port::{Found, Page, PageRequest, TxResult};
use crate::task::{NewResult, Task, TaskDetail, TaskFilter, TaskResults, TaskStatus};

/// A page of tasks.
pub type TaskPage = Page<Task>;

/// What an idempotency key was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The digest of the request that used it first.
    pub request_digest: [u8; 32],
    /// The task that this request made.
    pub task: TaskId,
    /// When that was.
    pub created_at: UnixMs,
}

/// How many tasks are in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskCount {
    /// The state.
    pub status: TaskStatus,
    /// How many tasks are in it.
    pub count: u64,
}

/// A lease that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lapse {
    /// When it did.
    pub lease_until: UnixMs,
    /// The `seq` of the task that was leased.
    pub seq: i64,
    /// The device that had taken the task.
    pub device: DeviceKey,
}

/// The steps on tasks inside a transaction.
pub trait TaskSteps {
    /// A task of an organisation.
    fn task(&mut self, org: OrgId, id: TaskId) -> TxResult<Option<Task>>;
    /// The eligible task of a device that comes first in the selection order
    /// ([`Task::rank`], [`Task::is_eligible`]).
    fn task_best(&mut self, org: OrgId, device: DeviceKey) -> TxResult<Option<Task>>;
    /// Tasks of any organisation whose time ran out, soonest expiry first.
    fn tasks_overdue_of_every_org(&mut self, limit: u32) -> TxResult<Vec<Task>>;
    /// Whether a device has at least this many tasks that are not final.
    fn tasks_live_reach(&mut self, org: OrgId, device: DeviceKey, count: u32) -> TxResult<bool>;
    /// The tasks of a device whose time has not run out, whatever its state, that nobody else is about to change; no
    /// more than `limit`.
    fn tasks_open(&mut self, org: OrgId, device: DeviceKey, limit: u32) -> TxResult<Vec<Task>>;
    /// What is open of a device: first what was taken, whether or not its lease is over, then the others, each in the
    /// selection order ([`Task::rank`]). Up to `limit`, and as many as have parameters of `bytes_max` in all, but the
    /// first in any case. Reading changes nothing, so another may take one.
    fn tasks_waiting(
        &mut self,
        org: OrgId,
        device: DeviceKey,
        limit: u32,
        bytes_max: usize,
    ) -> TxResult<Vec<WaitingTask>>;
    /// The open ones among these tasks that nobody else is about to change, in the order of `ids`.
    fn tasks_hold(&mut self, org: OrgId, ids: &[TaskId]) -> TxResult<Vec<Task>>;
    /// Stores a new task and sets its `seq`.
    fn task_insert(&mut self, task: &mut Task) -> TxResult<()>;
    /// Stores a task that was read in this transaction and has changed since. The
    /// parameters of one that is deleted are forgotten.
    fn task_update(&mut self, task: &Task) -> TxResult<()>;
    /// The result of this task that equals the given one, if there is one.
    fn result_equal(&mut self, task: &Task, result: &NewResult) -> TxResult<Option<ResultId>>;
    /// Stores a result.
    fn result_insert(&mut self, task: &Task, result: &NewResult) -> TxResult<ResultId>;
    /// The newest results of a task.
    fn results(&mut self, task: &Task) -> TxResult<TaskResults>;
    /// What an idempotency key of an organisation was used for.
    fn idempotency(&mut self, org: OrgId, key: &str) -> TxResult<Option<Idempotency>>;
    /// Remembers what a key is used for, in place of what it was used for before.
    fn idempotency_put(&mut self, org: OrgId, key: &str, entry: &Idempotency) -> TxResult<()>;
    /// Forgets keys of any organisation that were used before `before`; answers how many.
    fn idempotency_prune(&mut self, before: UnixMs, limit: u32) -> TxResult<usize>;
}

/// The reads of tasks.
pub trait TaskReader {
    /// A task of the caller's organisation with its newest results, or with the newest of those
    /// before this one.
    fn task_get(
        &self,
        caller: &Caller,
        id: TaskId,
        before: Option<ResultId>,
    ) -> Found<'_, Option<TaskDetail>>;

    /// Tasks of the caller's organisation, newest first.
    fn task_list(&self, caller: &Caller, filter: TaskFilter, page: PageRequest) -> Found<'_, TaskPage>;

    /// The tasks of a device that may be announced at `now`, in selection order.
    fn task_announceable(&self, device: DeviceKey, now: UnixMs, limit: u32) -> Found<'_, Vec<Task>>;

    /// The leases that ran out not after `now`, oldest lapse first, then
    /// by `seq`; those that come after the lapse and the `seq` of `after`.
    fn task_lapsed_of_every_org(
        &self,
        after: (UnixMs, i64),
        now: UnixMs,
        limit: u32,
    ) -> Found<'_, Vec<Lapse>>;

    /// Whether any task's time has run out without that being stored.
    fn task_overdue_of_every_org(&self, now: UnixMs) -> Found<'_, bool>;

    /// Which of these devices have tasks that may be announced at `now`.
    fn task_waiting_of_every_org(&self, devices: Vec<DeviceKey>, now: UnixMs) -> Found<'_, Vec<DeviceKey>>;

    /// Those of these tasks that are final, with their newest results.
    fn task_final_of_every_org(&self, ids: Vec<TaskId>) -> Found<'_, Vec<TaskDetail>>;

    /// How many tasks are in each state.
    fn task_counts_of_every_org(&self) -> Found<'_, Vec<TaskCount>>;
}
