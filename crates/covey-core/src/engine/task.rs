//! What can be asked of tasks.

use std::sync::Arc;

use crate::access::{Rights, Scope};
use crate::device::DeviceIdentity;
use crate::engine::{Engine, SWEEP_MAX};
use crate::error::{Error, Result};
use crate::id::TaskId;
use crate::operation::{
    CreatedTask, FinishedTask, IdempotencyKey, TaskAck, TaskCreate, TaskDelete, TaskFinish, TaskNext,
    TaskSweep,
};
use crate::port::{Announcement, Event, PageRequest, Step, TaskPage};
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
    /// A missing right, a field out of range, an unknown device, a limit, or
    /// the store's.
    pub async fn task_create(
        &self,
        scope: Scope,
        id: TaskId,
        spec: TaskSpec,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<CreatedTask> {
        scope.require(Rights::TASKS_WRITE)?;
        spec.validate()?;
        let began_us = self.parts.clock.monotonic_us();
        let limits = self.parts.limits;
        let created = self.execute(TaskCreate { org: scope.org, id, spec, idempotency, limits }).await?;
        self.took_since(Step::Create, began_us);
        if !created.replayed {
            self.announce_opened(&created.task);
        }
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
        self.watchers.watch(id)
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
        let detail = self.execute(TaskDelete { org: scope.org, id }).await?;
        self.tell_finished(&detail);
        Ok(detail)
    }

    /// A device acknowledges an announcement.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a task that is not this device's, or the store's.
    pub async fn task_ack(&self, device: &DeviceIdentity, id: TaskId) -> Result<()> {
        self.execute(TaskAck { device: device.clone(), id }).await.map(drop)
    }

    /// A device asks for a task: a named one, or the next one. None means
    /// that there is nothing to do.
    ///
    /// # Errors
    /// The store's.
    pub async fn task_next(&self, device: &DeviceIdentity, id: Option<TaskId>) -> Result<Option<Arc<Task>>> {
        let began_us = self.parts.clock.monotonic_us();
        let limits = self.parts.limits;
        let taken = self.execute(TaskNext { device: device.clone(), id, limits }).await?;
        self.took_since(Step::Take, began_us);
        match (&taken, id) {
            (Some(task), _) => {
                self.announcer.answered(device.device, task.id);
                if task.deliveries == 1 {
                    self.took_between(Step::Wait, task.created_at, task.locked_at.unwrap_or(task.created_at));
                }
            }
            // What a device asked for and did not get needs no announcement any more.
            (None, Some(id)) => self.announcer.answered(device.device, id),
            (None, None) => {}
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
        let outcome = self.execute(operation).await?;
        self.took_since(Step::Finish, began_us);
        if outcome.duplicate {
            self.count(Event::DuplicateResult);
        }
        self.announcer.answered(device.device, id);
        if let Some(detail) = &outcome.finished {
            let now = self.now();
            self.took_between(Step::Call, detail.task.created_at, now);
            if let Some(locked_at) = detail.task.locked_at {
                self.took_between(Step::Run, locked_at, now);
            }
            self.tell_finished(detail);
        }
        Ok(outcome)
    }

    /// Stores what time has done: tasks expire, and tasks whose lease ran out
    /// are announced again. Answers whether there is more to do at once.
    ///
    /// # Errors
    /// The store's.
    pub async fn task_sweep(&self) -> Result<bool> {
        let now = self.now();
        let mut is_more = false;
        if self.parts.store.task_overdue_of_every_org(now).await? {
            let limits = self.parts.limits;
            let swept = self.execute(TaskSweep { limit: SWEEP_MAX, limits }).await?;
            swept.expired.iter().for_each(|detail| self.tell_finished(detail));
            is_more = swept.expired.len() >= SWEEP_MAX as usize;
        }
        let after = *self.lapses_seen_until();
        let lapsed = self.parts.store.task_lapsed_of_every_org(after, now, SWEEP_MAX).await?;
        let seen_until = match lapsed.last() {
            Some(last) if lapsed.len() >= SWEEP_MAX as usize => last.lease_until.unwrap_or(now),
            _ => now,
        };
        is_more |= lapsed.len() >= SWEEP_MAX as usize && seen_until > after;
        *self.lapses_seen_until() = seen_until;
        lapsed.into_iter().for_each(|task| self.announce_opened(&Arc::new(task)));
        Ok(is_more)
    }

    /// Waits until devices have room for more announcements, and makes them.
    ///
    /// # Errors
    /// The store's; the devices concerned are looked at again on the next call.
    pub async fn task_announce(&self) -> Result<()> {
        let due = self.announcer.due().await;
        let mut failure = None;
        for (device, wanted) in due {
            let found = self.parts.store.task_announceable(device, self.now(), wanted).await;
            match found {
                Ok(tasks) => {
                    let tasks = tasks.into_iter().map(Arc::new).collect();
                    let now = self.announcer.refill(device, wanted, tasks);
                    now.into_iter().for_each(|task| self.announce(task));
                }
                Err(error) => {
                    self.announcer.retry(device);
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn announce_opened(&self, task: &Announcement) {
        if self.announcer.opened(task) {
            self.announce(Arc::clone(task));
        }
    }

    fn announce(&self, task: Announcement) {
        self.count(Event::Announced);
        self.parts.link.announce(task);
    }

    fn tell_finished(&self, detail: &Arc<TaskDetail>) {
        self.announcer.answered(detail.task.device, detail.task.id);
        self.watchers.finished(detail);
    }
}
