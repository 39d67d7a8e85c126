//! What can be asked of tasks.

use std::sync::Arc;

use crate::access::{Rights, Scope};
use crate::device::DeviceIdentity;
use crate::engine::{Engine, KEYS_SWEEP_MS, SWEEP_MAX};
use crate::error::{Error, Result};
use crate::id::TaskId;
use crate::operation::{
    CreatedTask, FinishedTask, IdempotencyKey, TaskAck, TaskCreate, TaskDelete, TaskFinish, TaskNext,
    TaskSweep,
};
use crate::port::{Event, PageRequest, Step, TaskPage};
use crate::task::{NewResult, Task, TaskDetail, TaskFilter, TaskSpec};
use crate::watch::Watch;

impl Engine {
    /// An id for a task that is to be made. Taken beforehand, so that its
    /// maker can [watch](Self::task_watch) before there is anything to miss.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.parts.ids.task_id()
    }

    /// Makes a task and announces it to its device.
    ///
    /// # Errors
    /// A missing right, a field out of range, an unknown device, a limit, a
    /// link that is blocked, or the store's.
    pub async fn task_create(
        &self,
        scope: Scope,
        id: TaskId,
        spec: TaskSpec,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<CreatedTask> {
        scope.require(Rights::TASKS_WRITE)?;
        spec.validate()?;
        idempotency.as_ref().map_or(Ok(()), IdempotencyKey::validate)?;
        if self.parts.link.is_blocked() {
            return Err(Error::Blocked);
        }
        let began_us = self.parts.clock.monotonic_us();
        let limits = self.parts.limits;
        let operation = TaskCreate { org: scope.org, id, spec, idempotency, limits };
        let created = self.execute_then(operation, |outlet, created| {
            if !created.replayed {
                outlet.opened(&created.task);
            }
        });
        let created = created.await?;
        self.took_since(Step::Create, began_us);
        Ok(created)
    }

    /// A task with its results.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn task_get(&self, scope: Scope, id: TaskId) -> Result<TaskDetail> {
        scope.require(Rights::TASKS_READ)?;
        self.parts.store.task_get(scope, id).await?.ok_or(Error::not_found("task"))
    }

    /// Begins to wait for a task to become final. Begin before looking at it.
    #[must_use]
    pub fn task_watch(&self, id: TaskId) -> Watch {
        self.outlet.watchers.watch(id)
    }

    /// A page of tasks, newest first.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn task_list(&self, scope: Scope, filter: TaskFilter, page: PageRequest) -> Result<TaskPage> {
        scope.require(Rights::TASKS_READ)?;
        self.parts.store.task_list(scope, filter, page.validate()?).await
    }

    /// Deletes a task, whatever its state.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn task_delete(&self, scope: Scope, id: TaskId) -> Result<Arc<TaskDetail>> {
        scope.require(Rights::TASKS_WRITE)?;
        let operation = TaskDelete { org: scope.org, id };
        self.execute_then(operation, |outlet, detail| outlet.finished(detail)).await
    }

    /// A device acknowledges an announcement.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a task that is not this device's, or the store's.
    pub async fn task_ack(&self, device: &DeviceIdentity, id: TaskId) -> Result<()> {
        let operation = TaskAck { device: device.clone(), id };
        self.execute_then(operation, |outlet, _| outlet.recorded()).await.map(drop)
    }

    /// A device asks for a task: a named one, or the next one. None means
    /// that there is nothing to do.
    ///
    /// # Errors
    /// The store's.
    pub async fn task_next(&self, device: &DeviceIdentity, id: Option<TaskId>) -> Result<Option<Arc<Task>>> {
        let began_us = self.parts.clock.monotonic_us();
        let limits = self.parts.limits;
        let key = device.device;
        let operation = TaskNext { device: device.clone(), id, limits };
        let taken = self.execute_then(operation, move |outlet, taken| {
            // What a device asked for and did not get needs no announcement any more.
            if let Some(id) = taken.as_ref().map(|task| task.id).or(id) {
                outlet.answered(key, id);
            }
        });
        let taken = taken.await;
        if let (Err(Error::Unavailable { .. }), Some(id)) = (&taken, id) {
            self.outlet.announcer.unanswered(key, id);
        }
        let taken = taken?;
        self.took_since(Step::Take, began_us);
        if let Some(task) = taken.as_ref().filter(|task| task.deliveries == 1) {
            self.took_between(Step::Wait, task.created_at, task.locked_at.unwrap_or(task.created_at));
        }
        Ok(taken)
    }

    /// A device sends a result.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a task that is not this device's, a limit, or
    /// the store's.
    pub async fn task_finish(
        &self,
        device: &DeviceIdentity,
        id: TaskId,
        result: NewResult,
    ) -> Result<FinishedTask> {
        let began_us = self.parts.clock.monotonic_us();
        let limits = self.parts.limits;
        let operation = TaskFinish { device: device.clone(), id, result, limits };
        let key = device.device;
        let outcome = self.execute_then(operation, move |outlet, outcome| match &outcome.finished {
            Some(detail) => outlet.finished(detail),
            None => outlet.answered(key, id),
        });
        let outcome = outcome.await?;
        self.took_since(Step::Finish, began_us);
        if outcome.duplicate {
            self.count(Event::DuplicateResult);
        }
        if let Some(detail) = &outcome.finished {
            let now = self.now();
            self.took_between(Step::Call, detail.task.created_at, now);
            if let Some(locked_at) = detail.task.locked_at {
                self.took_between(Step::Run, locked_at, now);
            }
        }
        Ok(outcome)
    }

    /// Stores what time has done: tasks expire, and tasks whose lease ran out
    /// are announced again. Answers whether there is more to do at once.
    ///
    /// # Errors
    /// The store's.
    pub async fn task_sweep(&self) -> Result<bool> {
        let is_more_overdue = self.sweep_overdue().await?;
        let is_more_lapsed = self.sweep_lapsed().await?;
        Ok(is_more_overdue || is_more_lapsed)
    }

    async fn sweep_overdue(&self) -> Result<bool> {
        let now = self.now();
        let keys_age_ms = now.since_ms(self.swept().keys_at);
        let are_keys_due = !(0..KEYS_SWEEP_MS).contains(&keys_age_ms);
        if !are_keys_due && !self.parts.store.task_overdue_of_every_org(now).await? {
            return Ok(false);
        }
        let operation = TaskSweep { limit: SWEEP_MAX, limits: self.parts.limits };
        let swept = self.execute_then(operation, |outlet, swept| {
            swept.expired.iter().for_each(|detail| outlet.finished(detail));
        });
        let swept = swept.await?;
        let are_keys_left = swept.keys_forgotten >= SWEEP_MAX as usize;
        if !are_keys_left {
            self.swept().keys_at = now;
        }
        Ok(are_keys_left || swept.expired.len() >= SWEEP_MAX as usize)
    }

    async fn sweep_lapsed(&self) -> Result<bool> {
        let now = self.now();
        let all_until_now = (now, i64::MAX);
        // Should the clock have been set back, leases end earlier than what was seen.
        let after = self.swept().lapse.min(all_until_now);
        let lapsed = self.parts.store.task_lapsed_of_every_org(after, now, SWEEP_MAX).await?;
        let is_more = lapsed.len() >= SWEEP_MAX as usize;
        self.swept().lapse = match lapsed.last() {
            Some(last) if is_more => (last.lease_until.unwrap_or(now), last.seq),
            _ => all_until_now,
        };
        lapsed.iter().for_each(|task| self.outlet.announcer.reopened(task.device));
        Ok(is_more)
    }

    /// Waits until devices have room for more announcements, and makes them.
    ///
    /// # Errors
    /// The store's; the devices concerned are looked at again on the next call.
    pub async fn task_announce(&self) -> Result<()> {
        let due = self.outlet.announcer.due().await;
        let mut failure = None;
        for (device, wanted) in due {
            let found = self.parts.store.task_announceable(device, self.now(), wanted).await;
            match found {
                Ok(tasks) => {
                    let tasks = tasks.into_iter().map(Arc::new).collect();
                    let now = self.outlet.announcer.refill(device, wanted, tasks);
                    now.into_iter().for_each(|task| self.outlet.announce(task));
                }
                Err(error) => {
                    self.outlet.announcer.retry(device);
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}
