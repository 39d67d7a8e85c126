//! Operations on tasks.

use std::sync::Arc;

use crate::access::{Caller, Matter, Rights, demand};
use crate::audit::{AuditAction, AuditEntry};
use crate::device::DeviceIdentity;
use crate::engine::after_commit::AfterCommit;
use crate::error::{Error, Result};
use crate::id::{DeviceKey, ResultId, TaskId};
use crate::limits::Limits;
use crate::operation::{Abort, Operation};
use crate::port::{Need, ReadSet, Room, Transaction, Turn};
use crate::quota::DayKept;
use crate::record::NewRecord;
use crate::retention::RetentionClass;
use crate::task::{
    Idempotency, NewResult, RESULT_BYTES_MAX, Target, Task, TaskDetail, TaskResult, TaskResults, TaskSpec,
    Verdict,
};
use crate::usage::Usage;

/// Makes a task, once for each idempotency key.
pub struct TaskCreate {
    /// Who asks.
    pub caller: Caller,
    /// The id that the task gets if it is made.
    pub id: TaskId,
    /// What is asked for, validated.
    pub spec: TaskSpec,
    /// The caller's idempotency key with the digest of the request.
    pub idempotency: Option<IdempotencyKey>,
    /// How long it lives, in milliseconds, if not for as many minutes as are asked for.
    pub life_ms: Option<i64>,
    /// Whether the caller will read what becomes of it.
    pub is_read: bool,
    /// The limits in force.
    pub limits: Limits,
    /// Who knows how much the device keeps.
    pub(crate) after_commit: Arc<AfterCommit>,
}

/// A key under which a request is carried out once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key that the caller chose.
    pub key: String,
    /// A digest of the request.
    pub request_digest: [u8; 32],
}

/// Longest idempotency key, in bytes.
/// Limit for each request: 422.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

impl IdempotencyKey {
    /// Checks the key against its range.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `Idempotency-Key`.
    pub fn validate(&self) -> Result<()> {
        if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&self.key.len()) {
            Ok(())
        } else {
            Err(Error::invalid("Idempotency-Key", "must be 1 to 255 bytes"))
        }
    }
}

/// The answer to a creation.
#[derive(Clone, Debug)]
pub struct CreatedTask {
    /// The task.
    pub task: Arc<Task>,
    /// Whether an earlier request with the same key had made it.
    pub replayed: bool,
}

impl Operation for TaskCreate {
    type Output = CreatedTask;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn bytes(&self) -> usize {
        self.spec.payload.as_ref().map_or(0, |payload| payload.len())
    }

    fn read_set(&self, reads: &mut ReadSet) {
        let counted_to = self.limits.live_tasks_per_device_max;
        reads.targets.push((self.caller.org, self.spec.device.clone(), counted_to));
        reads.idempotency.extend(self.idempotency.iter().map(|key| (self.caller.org, key.key.clone())));
        reads.tasks_new += 1;
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<CreatedTask, Abort> {
        if let Some(replayed) = self.replay(tx)? {
            return Ok(replayed);
        }
        let target = self.target(tx, &[])?;
        self.make(tx, target)
    }

    fn entries(&self, created: &CreatedTask) -> Vec<AuditEntry> {
        if created.replayed { Vec::new() } else { vec![self.entry(&created.task)] }
    }
}

/// What the audit log is told of a task.
fn entry_of(caller: &Caller, action: AuditAction, task: &Task) -> AuditEntry {
    let entry = AuditEntry::of(caller, action, format!("task {}", task.id));
    let entry = entry.device_of(task.device_id.0, task.sn.as_str());
    let entry = match &task.method {
        Some(method) => entry.detail("method", method),
        None => entry.detail("method_code", &task.method_code.to_string()),
    };
    entry.detail("ext_task_id", &task.ext_task_id)
}

impl TaskCreate {
    fn entry(&self, task: &Task) -> AuditEntry {
        let entry = entry_of(&self.caller, AuditAction::TaskCreate, task);
        match &task.payload {
            Some(payload) => entry.json("payload", payload),
            None => entry,
        }
    }

    fn demand(&self, tx: &mut dyn Transaction, device: DeviceKey, matter: Matter<'_>) -> Result<(), Abort> {
        demand(tx, &self.caller, Rights::TASKS_WRITE, device, matter, "device")?;
        match self.is_read {
            true => demand(tx, &self.caller, Rights::TASKS_READ, device, matter, "device"),
            false => Ok(()),
        }
    }

    /// The device that gets the task, which may have one more beside those that are about to be made for these.
    fn target(&self, tx: &mut dyn Transaction, before: &[Target]) -> Result<Target, Abort> {
        let target =
            tx.device_target(self.caller.org, &self.spec.device)?.ok_or(Error::not_found("device"))?;
        self.demand(tx, target.device, Matter::asked(&self.spec))?;
        self.after_commit.demand_quota(self.caller.org, Some(target.device))?;
        let before = before.iter().filter(|other| other.device == target.device).count();
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let counted_to = self.limits.live_tasks_per_device_max.saturating_sub(before);
        if tx.tasks_live_reach(self.caller.org, target.device, counted_to)? {
            return Err(Error::Exhausted { limit: "the device has too many open tasks" }.into());
        }
        Ok(target)
    }

    fn make(&self, tx: &mut dyn Transaction, target: Target) -> Result<CreatedTask, Abort> {
        let now = tx.now();
        let mut task = self.spec.clone().into_task(self.id, target, &self.caller, &self.limits, now);
        if let Some(life_ms) = self.life_ms {
            task.expires_at = now.plus_ms(life_ms);
        }
        tx.task_insert(&mut task)?;
        record_changes(tx, &task, 0)?;
        if let Some(IdempotencyKey { key, request_digest }) = &self.idempotency {
            let entry = Idempotency { request_digest: *request_digest, task: self.id, created_at: now };
            tx.idempotency_put(self.caller.org, key, &entry)?;
        }
        Ok(CreatedTask { task: Arc::new(task), replayed: false })
    }

    fn replay(&self, tx: &mut dyn Transaction) -> Result<Option<CreatedTask>, Abort> {
        let Some(IdempotencyKey { key, request_digest }) = &self.idempotency else { return Ok(None) };
        let Some(entry) = tx.idempotency(self.caller.org, key)? else { return Ok(None) };
        if tx.now().since_ms(entry.created_at) >= self.limits.idempotency_ms {
            return Ok(None);
        }
        if entry.request_digest != *request_digest {
            return Err(Error::contradiction("Idempotency-Key", "was used with another body").into());
        }
        let task = tx.task(self.caller.org, entry.task)?;
        if let Some(task) = &task {
            self.demand(tx, task.device, Matter::of(task))?;
        }
        Ok(task.map(|task| CreatedTask { task: Arc::new(task), replayed: true }))
    }
}

/// Makes several tasks of one organisation in their order, all of them or none; without idempotency keys.
pub struct TaskCreateAll {
    /// Who asks.
    pub caller: Caller,
    /// What is asked for.
    pub tasks: Vec<TaskCreate>,
}

impl Operation for TaskCreateAll {
    type Output = Vec<CreatedTask>;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn bytes(&self) -> usize {
        self.tasks.iter().map(TaskCreate::bytes).sum()
    }

    fn read_set(&self, reads: &mut ReadSet) {
        self.tasks.iter().for_each(|task| task.read_set(reads));
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Vec<CreatedTask>, Abort> {
        // All are looked at before the first is written.
        let mut targets = Vec::with_capacity(self.tasks.len());
        for task in &self.tasks {
            let target = task.target(tx, &targets)?;
            targets.push(target);
        }
        self.tasks.iter().zip(targets).map(|(task, target)| task.make(tx, target)).collect()
    }

    fn entries(&self, created: &Vec<CreatedTask>) -> Vec<AuditEntry> {
        self.tasks.iter().zip(created).map(|(task, created)| task.entry(&created.task)).collect()
    }
}

/// A device acknowledges an announcement (device-rpc "ack").
pub struct TaskAck {
    /// The device.
    pub device: DeviceIdentity,
    /// The task.
    pub id: TaskId,
}

impl Operation for TaskAck {
    type Output = Verdict;

    fn turn(&self) -> Turn {
        Turn::Org(self.device.org)
    }

    fn read_set(&self, reads: &mut ReadSet) {
        reads.tasks.push((self.device.org, self.id));
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Verdict, Abort> {
        let now = tx.now();
        let mut task = own_task(tx, &self.device, self.id)?;
        let told = task.timeline.len();
        let verdict = task.acknowledge(now);
        if verdict == Verdict::Changed {
            tx.task_update(&task)?;
            record_changes(tx, &task, told)?;
        }
        Ok(verdict)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// A device asks for a named task, or for the next one (device-rpc "req").
pub struct TaskNext {
    /// The device.
    pub device: DeviceIdentity,
    /// The task it names, or none for a poll.
    pub id: Option<TaskId>,
    /// The limits in force.
    pub limits: Limits,
}

impl Operation for TaskNext {
    type Output = Option<Arc<Task>>;

    fn turn(&self) -> Turn {
        Turn::Org(self.device.org)
    }

    fn read_set(&self, reads: &mut ReadSet) {
        match self.id {
            Some(id) => reads.tasks.push((self.device.org, id)),
            None => reads.best.push((self.device.org, self.device.device)),
        }
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Option<Arc<Task>>, Abort> {
        let now = tx.now();
        let found = match self.id {
            Some(id) => tx.task(self.device.org, id)?.filter(|task| task.belongs_to(self.device.device)),
            None => tx.task_best(self.device.org, self.device.device)?,
        };
        let Some(mut task) = found else { return Ok(None) };
        let told = task.timeline.len();
        if task.take(self.limits.lease_ms, now) == Verdict::Unchanged {
            return Ok(None);
        }
        tx.task_update(&task)?;
        record_changes(tx, &task, told)?;
        Ok(Some(Arc::new(task)))
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// A device sends a result (device-rpc "res").
pub struct TaskFinish {
    /// The device.
    pub device: DeviceIdentity,
    /// The task.
    pub id: TaskId,
    /// The result.
    pub result: NewResult,
    /// The limits in force.
    pub limits: Limits,
    /// How much room there is.
    pub room: Room,
    /// Who knows how much the device keeps.
    pub(crate) after_commit: Arc<AfterCommit>,
}

/// The answer to a result.
#[derive(Clone, Debug)]
pub struct FinishedTask {
    /// The number of the result: of the one stored now, or of the equal one
    /// stored before; 0 if it was not stored.
    pub result_id: ResultId,
    /// Whether an equal result had been stored before.
    pub duplicate: bool,
    /// Why it was not stored. There is nothing that its sender can do about it.
    pub not_stored: Option<ResultNotStored>,
    /// The task with its results, if this result made it final.
    pub finished: Option<Arc<TaskDetail>>,
}

/// Why a result was not stored, now and for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultNotStored {
    /// It has more than [`RESULT_BYTES_MAX`] bytes.
    TooLarge,
    /// The task is final, and has as many results as may be kept of it.
    Late,
}

impl FinishedTask {
    fn not_stored(why: ResultNotStored, finished: Option<Arc<TaskDetail>>) -> Self {
        Self { result_id: ResultId(0), duplicate: false, not_stored: Some(why), finished }
    }
}

impl Operation for TaskFinish {
    type Output = FinishedTask;

    fn turn(&self) -> Turn {
        Turn::Org(self.device.org)
    }

    fn bytes(&self) -> usize {
        self.result.body.text().len()
    }

    fn read_set(&self, reads: &mut ReadSet) {
        reads.tasks.push((self.device.org, self.id));
        reads.results_new += 1;
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<FinishedTask, Abort> {
        let now = tx.now();
        let mut task = own_task(tx, &self.device, self.id)?;
        if self.result.body.bytes() > RESULT_BYTES_MAX as u64 {
            let finished = end(tx, task, |task| task.fail_by_result(now))?;
            return Ok(FinishedTask::not_stored(ResultNotStored::TooLarge, finished));
        }
        if task.results > 0
            && let Some(result_id) = tx.result_equal(&task, &self.result)?
        {
            // A partial result is a sign of life even if it says nothing new.
            if task.renew(&self.result, self.limits.lease_ms, now) == Verdict::Changed {
                tx.task_update(&task)?;
            }
            return Ok(FinishedTask { result_id, duplicate: true, not_stored: None, finished: None });
        }
        let was_live = task.is_live(now);
        if task.is_full_for(&self.result, &self.limits, now) {
            if !was_live {
                return Ok(FinishedTask::not_stored(ResultNotStored::Late, None));
            }
            return Err(Error::Exhausted { limit: "the task has too many results" }.into());
        }
        // What is told of a call that has ended is new: nobody waits for it.
        if !was_live {
            if let Some(fault) = self.room.refuses(Need::New) {
                return Err(Error::from(fault).into());
            }
            self.after_commit.demand_quota(self.device.org, Some(self.device.device))?;
        }
        // A task that is overdue stays so for the sweep, which tells those who wait.
        let result_id = receive(tx, &mut task, &self.result, self.limits.lease_ms)?;
        let finished = match was_live && task.status.is_final() {
            true => Some(ended_with(tx, task, result_id, &self.result)?),
            false => None,
        };
        Ok(FinishedTask { result_id, duplicate: false, not_stored: None, finished })
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Stores a result that a task was not sent before; answers its number.
pub(crate) fn receive(
    tx: &mut dyn Transaction,
    task: &mut Task,
    result: &NewResult,
    lease_ms: i64,
) -> Result<ResultId, Abort> {
    let told = task.timeline.len();
    task.receive(result, lease_ms, tx.now());
    let result_id = tx.result_insert(task, result)?;
    tx.usage_add(task.org, Usage::result(result.body.text().len()))?;
    tx.task_update(task)?;
    tx.record(&task.device_identity(), &NewRecord::Result { task: task.id, result: result_id })?;
    record_changes(tx, task, told)?;
    Ok(result_id)
}

/// A task that has just become final, with its results, of which this is the newest.
pub(crate) fn ended_with(
    tx: &mut dyn Transaction,
    task: Task,
    id: ResultId,
    result: &NewResult,
) -> Result<Arc<TaskDetail>, Abort> {
    let results = match task.results {
        1 => {
            let only = TaskResult { id, result: result.clone(), received_at: tx.now() };
            TaskResults::of(vec![only], false)
        }
        _ => tx.results(&task)?,
    };
    Ok(Arc::new(TaskDetail::of(task, results)))
}

/// A device can be sent no message as large as a task that it asked for.
pub struct TaskTooLarge {
    /// The device.
    pub device: DeviceIdentity,
    /// The task.
    pub id: TaskId,
}

impl Operation for TaskTooLarge {
    /// The task with its results, if this ended it.
    type Output = Option<Arc<TaskDetail>>;

    fn turn(&self) -> Turn {
        Turn::Org(self.device.org)
    }

    fn read_set(&self, reads: &mut ReadSet) {
        reads.tasks.push((self.device.org, self.id));
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Option<Arc<TaskDetail>>, Abort> {
        let now = tx.now();
        let task = own_task(tx, &self.device, self.id)?;
        end(tx, task, |task| task.fail_as_too_large(now))
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Ends a task by a rule; answers it with its results if that changed it.
fn end(
    tx: &mut dyn Transaction,
    mut task: Task,
    rule: impl FnOnce(&mut Task) -> Verdict,
) -> Result<Option<Arc<TaskDetail>>, Abort> {
    let told = task.timeline.len();
    if rule(&mut task) == Verdict::Unchanged {
        return Ok(None);
    }
    tx.task_update(&task)?;
    record_changes(tx, &task, told)?;
    let results = results_of(tx, &task)?;
    Ok(Some(Arc::new(TaskDetail::of(task, results))))
}

/// What is taken off what is kept when a task's parameters are no longer.
pub(crate) fn parameters_gone(task: &Task) -> DayKept {
    let bytes = task.payload.as_ref().map_or(0, |payload| payload.len());
    DayKept::at(RetentionClass::Tasks, task.created_at, -i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// A task that was deleted.
#[derive(Clone, Debug)]
pub struct DeletedTask {
    /// The task with its results.
    pub detail: Arc<TaskDetail>,
    /// Whether it was deleted now, and not before.
    pub is_new: bool,
    /// What is no longer kept.
    pub freed: DayKept,
}

/// An application deletes a task.
pub struct TaskDelete {
    /// Who asks.
    pub caller: Caller,
    /// The task.
    pub id: TaskId,
}

impl Operation for TaskDelete {
    type Output = DeletedTask;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn read_set(&self, reads: &mut ReadSet) {
        reads.tasks.push((self.caller.org, self.id));
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<DeletedTask, Abort> {
        let now = tx.now();
        let mut task = tx.task(self.caller.org, self.id)?.ok_or(Error::not_found("task"))?;
        demand(tx, &self.caller, Rights::TASKS_WRITE, task.device, Matter::of(&task), "task")?;
        let freed = parameters_gone(&task);
        let told = task.timeline.len();
        let is_new = task.delete(now) == Verdict::Changed;
        if is_new {
            tx.task_update(&task)?;
            record_changes(tx, &task, told)?;
            if freed.bytes < 0 {
                tx.kept_add(&[(task.device, freed)], &[(task.org, freed)])?;
            }
        }
        let results = results_of(tx, &task)?;
        Ok(DeletedTask { detail: Arc::new(TaskDetail::of(task, results)), is_new, freed })
    }

    fn entries(&self, deleted: &DeletedTask) -> Vec<AuditEntry> {
        let task = deleted.is_new.then_some(&deleted.detail.task);
        task.map(|task| entry_of(&self.caller, AuditAction::TaskDelete, task)).into_iter().collect()
    }
}

/// How many bytes of payloads and results one sweep reads at most, but for those of the last task.
/// Limit for each sweep: the rest follows at once.
const SWEEP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Stores that the time of tasks ran out, and forgets idempotency keys that
/// are too old; a bounded number of each.
pub struct TaskSweep {
    /// How many tasks at most.
    pub tasks_max: u32,
    /// How many keys at most.
    pub keys_max: u32,
    /// The limits in force.
    pub limits: Limits,
}

/// What a sweep found.
#[derive(Clone, Debug, Default)]
pub struct SweptTasks {
    /// The tasks that expired, with their results.
    pub expired: Vec<Arc<TaskDetail>>,
    /// Whether others may have expired, too, and are left for the next sweep.
    pub is_more: bool,
    /// How many tasks like these one sweep can take in.
    pub tasks_fitting: u32,
    /// How many idempotency keys were forgotten.
    pub keys_forgotten: usize,
}

impl Operation for TaskSweep {
    type Output = SweptTasks;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<SweptTasks, Abort> {
        let now = tx.now();
        let mut swept = SweptTasks::default();
        let (mut count, mut bytes) = (0, 0);
        let overdue = tx.tasks_overdue_of_every_org(self.tasks_max)?;
        swept.is_more = overdue.len() >= self.tasks_max as usize;
        for mut task in overdue {
            if bytes >= SWEEP_BYTES_MAX {
                swept.is_more = true;
                break;
            }
            count += 1;
            bytes += size_of::<TaskDetail>() + task.payload.as_ref().map_or(0, |payload| payload.len());
            let told = task.timeline.len();
            if task.expire(now) == Verdict::Changed {
                tx.task_update(&task)?;
                record_changes(tx, &task, told)?;
                let results = results_of(tx, &task)?;
                bytes += results.bytes();
                swept.expired.push(Arc::new(TaskDetail::of(task, results)));
            }
        }
        let fitting = (count * SWEEP_BYTES_MAX).checked_div(bytes);
        swept.tasks_fitting = fitting.map_or(0, |fitting| u32::try_from(fitting).unwrap_or(u32::MAX));
        let oldest = now.plus_ms(-self.limits.idempotency_ms);
        swept.keys_forgotten = tx.idempotency_prune(oldest, self.keys_max)?;
        Ok(swept)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// The newest results of a task, if it has any.
pub(crate) fn results_of(tx: &mut dyn Transaction, task: &Task) -> Result<TaskResults, Abort> {
    Ok(if task.results == 0 { TaskResults::default() } else { tx.results(task)? })
}

/// Writes a record of each change of a task's state that is not told yet.
pub(crate) fn record_changes(tx: &mut dyn Transaction, task: &Task, told: usize) -> Result<(), Abort> {
    let device = task.device_identity();
    for change in task.timeline.iter().skip(told) {
        let record = NewRecord::Task { id: task.id, status: change.to, cause: change.cause };
        tx.usage_add(task.org, Usage::change(task, &record))?;
        tx.record(&device, &record)?;
    }
    Ok(())
}

/// The task, if it is this device's. Whether it exists for another device is
/// not told (device-rpc "What each step does").
fn own_task(tx: &mut dyn Transaction, device: &DeviceIdentity, id: TaskId) -> Result<Task, Abort> {
    let task = tx.task(device.org, id)?.filter(|task| task.belongs_to(device.device));
    task.ok_or_else(|| Error::not_found("task").into())
}
