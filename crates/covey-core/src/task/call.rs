//! A task that is made for somebody who waits for its end.

use std::future::poll_fn;
use std::sync::Arc;

use crate::error::{Error, Result, StorageFault};
use crate::operation::Answer;
use crate::task::{CreatedTask, TaskCreate, TaskDetail};
use crate::watch::Watch;

/// A task that is being made, and whose end is waited for.
///
/// Who waits is woken once, by the end: that the task was made is news only if the time is up before.
pub struct Call {
    watch: Watch,
    answer: Answer<TaskCreate, ()>,
}

impl Call {
    pub(crate) fn new(watch: Watch, answer: Answer<TaskCreate, ()>) -> Self {
        Self { watch, answer }
    }

    /// Waits until the task is final; none as soon as it is known that no new task is made, of which
    /// [`Self::created`] tells more.
    pub async fn ended(&self) -> Option<Arc<TaskDetail>> {
        poll_fn(|context| self.watch.poll_end(context)).await
    }

    /// What came of the creation, after its commit.
    ///
    /// # Errors
    /// As of [`task_create`](crate::engine::ForCaller::task_create).
    pub async fn created(self) -> Result<CreatedTask> {
        let answer = self.answer.await.unwrap_or(Err(Error::from(StorageFault::Stopped)));
        answer.map(|(created, ())| created)
    }
}
