//! What can be asked of tasks.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::access::{Matter, Rights};
use crate::budget::Weight;
use crate::device::TagsOf;
use crate::engine::after_commit::AfterCommit;
use crate::engine::{Engine, ForCaller, ForDevice, ForServer, KEYS_SWEEP_MS, SWEEP_MAX, SWEEP_TASKS_MIN};
use crate::error::{Error, Result};
use crate::id::{DeviceKey, ResultId, TaskId};
use crate::port::{Event, PageRequest, ReadKind, Step};
use crate::retention::RetentionClass;
use crate::task::{
    Call, CreatedTask, DeletedTask, FinishedTask, IdempotencyKey, NewResult, Task, TaskAck, TaskCreate,
    TaskCreateAll, TaskDelete, TaskDetail, TaskFilter, TaskFinish, TaskNext, TaskPage, TaskSpec, TaskSweep,
    TaskTooLarge, Verdict,
};
use crate::watch::Watch;

impl Engine {
    /// An id for a task that is to be made. Taken beforehand, so that its
    /// maker can [watch](ForCaller::task_watch) before there is anything to miss.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.parts.ids.task_id()
    }
}

impl ForCaller<'_> {
    /// Makes a task and announces it to its device.
    ///
    /// # Errors
    /// A missing right, a field out of range, an unknown device, a limit, a
    /// link that is blocked, or the store's.
    pub async fn task_create(
        self,
        id: TaskId,
        spec: TaskSpec,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<CreatedTask> {
        let began_us = self.engine.parts.clock.monotonic_us();
        let operation = self.creation(id, spec, None, idempotency)?;
        let then = move |after: &AfterCommit, created: &CreatedTask| created_then(after, created, began_us);
        self.engine.execute_then(operation, then).await
    }

    /// Makes several tasks in their order, all of them or none, and announces them.
    ///
    /// # Errors
    /// As of [`Self::task_create`]: then there is none of them.
    pub async fn task_create_all(self, specs: Vec<TaskSpec>) -> Result<Vec<CreatedTask>> {
        let began_us = self.engine.parts.clock.monotonic_us();
        let tasks = specs.into_iter().map(|spec| self.creation(self.engine.task_id(), spec, None, None));
        let operation = TaskCreateAll { caller: self.caller.clone(), tasks: tasks.collect::<Result<_>>()? };
        let then = move |after: &AfterCommit, created: &Vec<CreatedTask>| {
            created.iter().for_each(|created| created_then(after, created, began_us));
        };
        self.engine.execute_then(operation, then).await
    }

    /// Makes a task, for somebody who waits for its end and may read it.
    ///
    /// # Errors
    /// As of [`Self::task_create`]; those of the store also come from the call.
    pub fn task_call(self, id: TaskId, spec: TaskSpec, idempotency: Option<IdempotencyKey>) -> Result<Call> {
        // Before anything is made: the answer is one for which this right is needed.
        self.caller.require_some(Rights::TASKS_READ)?;
        let mut operation = self.creation(id, spec, None, idempotency)?;
        operation.is_read = true;
        self.call(operation)
    }

    /// The same of a task that lives for so many milliseconds.
    pub(crate) fn task_call_within(self, id: TaskId, spec: TaskSpec, life_ms: i64) -> Result<Call> {
        let operation = self.creation(id, spec, Some(life_ms), None)?;
        self.call(operation)
    }

    fn call(self, operation: TaskCreate) -> Result<Call> {
        let began_us = self.engine.parts.clock.monotonic_us();
        // Watched before it is made, so that there is nothing to miss.
        let watch = self.task_watch(operation.id);
        let unless_made = watch.unless_made();
        let then = move |after: &AfterCommit, created: &CreatedTask| {
            if !created.replayed {
                unless_made.made();
            }
            created_then(after, created, began_us);
        };
        Ok(Call::new(watch, self.engine.submit(operation, then)?))
    }

    fn creation(
        self,
        id: TaskId,
        spec: TaskSpec,
        life_ms: Option<i64>,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<TaskCreate> {
        self.caller.require_some(Rights::TASKS_WRITE)?;
        spec.validate()?;
        idempotency.as_ref().map_or(Ok(()), IdempotencyKey::validate)?;
        self.charge(Weight::task(spec.payload.as_ref().map_or(0, |payload| payload.len())))?;
        if self.engine.parts.links.are_blocked() {
            return Err(Error::Blocked);
        }
        Ok(TaskCreate {
            caller: self.caller.clone(),
            id,
            spec,
            idempotency,
            life_ms,
            is_read: false,
            limits: self.engine.limits_for(self.caller.org),
            after_commit: Arc::clone(&self.engine.after_commit),
        })
    }

    /// A task with its newest results.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn task_get(self, id: TaskId) -> Result<TaskDetail> {
        self.task_get_before(id, None).await
    }

    /// A task with the newest of its results before this one.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn task_get_before(self, id: TaskId, before: Option<ResultId>) -> Result<TaskDetail> {
        self.caller.require_some(Rights::TASKS_READ)?;
        let found = self.engine.parts.store.task_get(self.caller, id, before).await?;
        let found = found.ok_or(Error::not_found("task"))?;
        self.demand(Rights::TASKS_READ, TagsOf::Key(found.task.device), Matter::of(&found.task), "task")
            .await?;
        Ok(found)
    }

    /// Begins to wait for a task to become final. Begin before looking at it.
    #[must_use]
    pub fn task_watch(self, id: TaskId) -> Watch {
        self.engine.after_commit.watchers.watch(id)
    }

    /// A page of tasks, newest first.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn task_list(self, filter: TaskFilter, page: PageRequest) -> Result<TaskPage> {
        self.caller.require_some(Rights::TASKS_READ)?;
        let page = page.validate()?;
        let kind = ReadKind::of_tasks(&filter, page).within(self.caller.is_bound(Rights::TASKS_READ));
        let _scan = self.begin_read(kind)?;
        self.engine.parts.store.task_list(self.caller, filter, page).await
    }

    /// Deletes a task, whatever its state.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn task_delete(self, id: TaskId) -> Result<Arc<TaskDetail>> {
        self.caller.require_some(Rights::TASKS_WRITE)?;
        self.charge_relief(Weight::WRITE)?;
        let operation = TaskDelete { caller: self.caller.clone(), id };
        let then = |after: &AfterCommit, deleted: &DeletedTask| {
            let task = &deleted.detail.task;
            after.freed((task.org, task.device), &deleted.freed);
            after.finished(&deleted.detail);
        };
        Ok(self.engine.execute_then(operation, then).await?.detail)
    }
}

/// A creation that began at this monotonic instant is committed.
fn created_then(after: &AfterCommit, created: &CreatedTask, began_us: u64) {
    if !created.replayed {
        after.kept_task(&created.task);
        after.opened(&created.task);
    }
    after.took_since(Step::Create, began_us);
}

impl ForDevice<'_> {
    /// A device acknowledges an announcement.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a task that is not this device's, or the store's.
    pub async fn task_ack(self, id: TaskId) -> Result<()> {
        let operation = TaskAck { device: self.device.clone(), id };
        let done = self.engine.execute_then(operation, |after, _| after.recorded()).await;
        if !matches!(done, Ok(Verdict::Changed)) {
            self.charge_after(Weight::IDLE_STEP);
        }
        done.map(drop)
    }

    /// A device asks for a task: a named one, or the next one. None means
    /// that there is nothing to do.
    ///
    /// # Errors
    /// The store's.
    pub async fn task_next(self, id: Option<TaskId>) -> Result<Option<Arc<Task>>> {
        let began_us = self.engine.parts.clock.monotonic_us();
        let limits = self.engine.parts.limits;
        let key = self.device.device;
        let operation = TaskNext { device: self.device.clone(), id, limits };
        let then = move |after: &AfterCommit, taken: &Option<Arc<Task>>| {
            // What a device asked for and did not get needs no announcement any more.
            if let Some(id) = taken.as_ref().map(|task| task.id).or(id) {
                after.answered(key, id);
            }
            after.took_since(Step::Take, began_us);
            taken.iter().for_each(|task| after.taken(task));
        };
        let taken = self.engine.execute_then(operation, then).await;
        if !matches!(taken, Ok(Some(_))) {
            self.charge_after(Weight::IDLE_STEP);
        }
        if let (Err(Error::Unavailable { .. }), Some(id)) = (&taken, id) {
            self.engine.after_commit.announcer.unanswered(key, id);
        }
        taken
    }

    /// A device sends a result.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a task that is not this device's, a limit, or
    /// the store's.
    pub async fn task_finish(self, id: TaskId, result: NewResult) -> Result<FinishedTask> {
        let began_us = self.engine.parts.clock.monotonic_us();
        let limits = self.engine.parts.limits;
        let room = self.engine.parts.store.room();
        let bytes = result.body.text().len();
        let after_commit = Arc::clone(&self.engine.after_commit);
        let operation = TaskFinish { device: self.device.clone(), id, result, limits, room, after_commit };
        let (key, of) = (self.device.device, (self.device.org, self.device.device));
        let then = move |after: &AfterCommit, outcome: &FinishedTask| {
            if !outcome.duplicate && outcome.not_stored.is_none() {
                after.kept(of, RetentionClass::Tasks, bytes, 1);
            }
            match &outcome.finished {
                Some(detail) => after.finished(detail),
                None => after.answered(key, id),
            }
            after.took_since(Step::Finish, began_us);
            if outcome.duplicate {
                after.count(Event::DuplicateResult);
            }
            if let Some(detail) = &outcome.finished {
                let now = after.clock.now();
                after.took_between(Step::Call, detail.task.created_at, now);
                if let Some(locked_at) = detail.task.locked_at {
                    after.took_between(Step::Run, locked_at, now);
                }
            }
        };
        let done = self.engine.execute_then(operation, then).await;
        let is_new = |outcome: &FinishedTask| !outcome.duplicate && outcome.not_stored.is_none();
        if !done.as_ref().is_ok_and(is_new) {
            self.charge_after(Weight::IDLE_STEP);
        }
        done
    }

    /// A task that the device asked for is larger than any message that the device takes.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a task that is not this device's, or the store's.
    pub async fn task_too_large(self, id: TaskId) -> Result<()> {
        let operation = TaskTooLarge { device: self.device.clone(), id };
        let then = |after: &AfterCommit, ended: &Option<Arc<TaskDetail>>| {
            ended.iter().for_each(|detail| after.finished(detail));
        };
        self.engine.execute_then(operation, then).await.map(drop)
    }
}

impl ForServer<'_> {
    /// Stores what time has done: tasks expire, and tasks whose lease ran out
    /// are announced again. Answers whether there is more to do at once.
    ///
    /// # Errors
    /// The store's.
    pub async fn task_sweep(self) -> Result<bool> {
        let is_more_overdue = self.sweep_overdue().await?;
        let is_more_lapsed = self.sweep_lapsed().await?;
        Ok(is_more_overdue || is_more_lapsed)
    }

    async fn sweep_overdue(self) -> Result<bool> {
        let now = self.engine.now();
        let keys_age_ms = now.since_ms(self.engine.swept().keys_at);
        let are_keys_due = !(0..KEYS_SWEEP_MS).contains(&keys_age_ms);
        if !are_keys_due && !self.engine.parts.store.task_overdue_of_every_org(now).await? {
            return Ok(false);
        }
        // As many as the last sweep could take in, so that those that it cannot are not read.
        let tasks_max = self.engine.swept().tasks_fitting.clamp(SWEEP_TASKS_MIN, SWEEP_MAX);
        let operation = TaskSweep { tasks_max, keys_max: SWEEP_MAX, limits: self.engine.parts.limits };
        let swept = self.engine.execute_then(operation, |after, swept| {
            swept.expired.iter().for_each(|detail| after.finished(detail));
        });
        let swept = swept.await?;
        self.engine.swept().tasks_fitting = swept.tasks_fitting;
        let are_keys_left = swept.keys_forgotten >= SWEEP_MAX as usize;
        if !are_keys_left {
            self.engine.swept().keys_at = now;
        }
        Ok(are_keys_left || swept.is_more)
    }

    async fn sweep_lapsed(self) -> Result<bool> {
        let now = self.engine.now();
        let all_until_now = (now, i64::MAX);
        // Should the clock have been set back, leases end earlier than what was seen.
        let after = self.engine.swept().lapse.min(all_until_now);
        let lapsed = self.engine.parts.store.task_lapsed_of_every_org(after, now, SWEEP_MAX).await?;
        let is_more = lapsed.len() >= SWEEP_MAX as usize;
        self.engine.swept().lapse = match lapsed.last() {
            Some(last) if is_more => (last.lease_until, last.seq),
            _ => all_until_now,
        };
        lapsed.iter().for_each(|lapse| self.engine.after_commit.announcer.reopened(lapse.device));
        Ok(is_more)
    }

    /// Waits until devices have room for more announcements, and makes them.
    ///
    /// # Errors
    /// The store's; the devices concerned are looked at again on the next call.
    pub async fn task_announce(self) -> Result<()> {
        let due = self.engine.after_commit.announcer.due().await;
        let (store, now) = (&self.engine.parts.store, self.engine.now());
        // Together: where thousands come back at once, each would wait for all before it, and its calls with it.
        let mut looks: Vec<_> = due
            .into_iter()
            .map(|(device, wanted)| (device, wanted, store.task_announceable(device, now, wanted)))
            .collect();
        let mut failure = None;
        let all_looked = poll_fn(|context| {
            looks.retain_mut(|(device, wanted, look)| {
                let Poll::Ready(found) = look.as_mut().poll(context) else { return true };
                failure = self.announce_found(*device, *wanted, found).err().or(failure.take());
                false
            });
            if looks.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        all_looked.await;
        failure.map_or(Ok(()), Err)
    }

    /// Announces what a look-up has found, as far as there is room.
    fn announce_found(self, device: DeviceKey, wanted: u32, found: Result<Vec<Task>>) -> Result<()> {
        let after_commit = &self.engine.after_commit;
        match found {
            Ok(tasks) => {
                let tasks = tasks.into_iter().map(Arc::new).collect();
                let now = after_commit.announcer.refill(device, wanted, tasks);
                now.into_iter().for_each(|(link, task)| after_commit.announce(link, task));
                Ok(())
            }
            Err(error) => {
                after_commit.announcer.retry(device);
                Err(error)
            }
        }
    }
}
