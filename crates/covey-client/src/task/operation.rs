//! Creating, following, listing and deleting tasks.

use std::time::{Duration, Instant};

use covey_api::TaskDeleted;
use reqwest::{Method, StatusCode};
use uuid::Uuid;

use crate::client::Client;
use crate::error::Result;
use crate::task::{Created, PageRequest, Task, TaskFilter, TaskOutcome, TaskPage, TaskRequest};

/// How long one request may wait (rest-api "Tasks"); a longer wait takes several.
pub const WAIT_SECONDS_MAX: u64 = 60;
/// How long to pause between two requests that wait.
const WAIT_PAUSE: Duration = Duration::from_millis(50);

const TASKS: [&str; 3] = ["api", "v1", "device-tasks"];

impl Client {
    /// Creates a task and waits for its end, for at most `wait`.
    ///
    /// # Errors
    /// A refusal, or the transport's. After [`crate::Error::Interrupted`] the
    /// task may exist; calling again with the same idempotency key finds it.
    pub async fn call(&self, request: &TaskRequest, wait: Duration) -> Result<TaskOutcome> {
        let until = Instant::now() + wait;
        let Some(wait_s) = wait_seconds(wait) else {
            let created = self.task_create(request).await?;
            let task = self.task_get(created.task.id).await?;
            return Ok(TaskOutcome { task, is_replayed: created.is_replayed });
        };
        let answer = self
            .request(Method::POST, &TASKS)
            .json(&request.task)
            .idempotency_key(request.idempotency_key.as_deref())
            .wait(wait_s)
            .send()
            .await?;
        let task: Task = answer.json()?;
        let outcome = TaskOutcome { task, is_replayed: answer.is_replayed };
        if answer.status != StatusCode::ACCEPTED {
            return Ok(outcome);
        }
        // It is not final, or its results were too large to come at once.
        let task = self.task_wait(outcome.task.id, until.saturating_duration_since(Instant::now())).await?;
        Ok(TaskOutcome { task, ..outcome })
    }

    /// Creates a task. It is stored durably when this returns.
    ///
    /// # Errors
    /// A refusal, or the transport's. After [`crate::Error::Interrupted`] the
    /// task may exist; creating it again with the same idempotency key finds it.
    pub async fn task_create(&self, request: &TaskRequest) -> Result<Created> {
        let answer = self
            .request(Method::POST, &TASKS)
            .json(&request.task)
            .idempotency_key(request.idempotency_key.as_deref())
            .send()
            .await?;
        Ok(Created { task: answer.json()?, is_replayed: answer.is_replayed })
    }

    /// A task with its newest results; [`Self::task_results_before`] gives the others.
    ///
    /// # Errors
    /// A refusal (404 if there is no such task), or the transport's.
    pub async fn task_get(&self, id: Uuid) -> Result<Task> {
        self.request(Method::GET, &task_path(&id.to_string())).send().await?.json()
    }

    /// The same task with results before those that were given: `results_next` of that answer is the cursor.
    ///
    /// # Errors
    /// A refusal (404 if there is no such task), or the transport's.
    pub async fn task_results_before(&self, id: Uuid, cursor: &str) -> Result<Task> {
        let id = id.to_string();
        self.request(Method::GET, &task_path(&id)).query("results_cursor", cursor).send().await?.json()
    }

    /// A task with its results as soon as it is final, or as it is after `wait`.
    ///
    /// # Errors
    /// A refusal (404 if there is no such task), or the transport's.
    pub async fn task_wait(&self, id: Uuid, wait: Duration) -> Result<Task> {
        let until = Instant::now() + wait;
        let id_text = id.to_string();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Some(wait_s) = wait_seconds(left) else { return self.task_get(id).await };
            let task: Task =
                self.request(Method::GET, &task_path(&id_text)).wait(wait_s).send().await?.json()?;
            if task.status.is_final() || Instant::now() >= until {
                return Ok(task);
            }
            // A server that is stopping answers before the time is up.
            tokio::time::sleep(WAIT_PAUSE).await;
        }
    }

    /// A page of tasks, newest first.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn task_list(&self, filter: &TaskFilter, page: PageRequest) -> Result<TaskPage> {
        page.add_to(filter.add_to(self.request(Method::GET, &TASKS))).send().await?.json()
    }

    /// Deletes a task, in whatever state it is.
    ///
    /// # Errors
    /// A refusal (404 if there is no such task), or the transport's.
    pub async fn task_delete(&self, id: Uuid) -> Result<TaskDeleted> {
        self.request(Method::DELETE, &task_path(&id.to_string())).send().await?.json()
    }
}

fn task_path(id: &str) -> [&str; 4] {
    [TASKS[0], TASKS[1], TASKS[2], id]
}

/// How long the next request is to wait: whole seconds, at least one, at most
/// [`WAIT_SECONDS_MAX`]; none when there is no time left.
fn wait_seconds(left: Duration) -> Option<u64> {
    let rounded_up = left.as_millis().div_ceil(1000);
    u64::try_from(rounded_up).ok().filter(|seconds| *seconds > 0).map(|seconds| seconds.min(WAIT_SECONDS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_asked_for_in_whole_seconds_within_the_limit() {
        assert_eq!(wait_seconds(Duration::ZERO), None);
        assert_eq!(wait_seconds(Duration::from_micros(1)), None);
        assert_eq!(wait_seconds(Duration::from_millis(1)), Some(1));
        assert_eq!(wait_seconds(Duration::from_millis(30_001)), Some(31));
        assert_eq!(wait_seconds(Duration::from_secs(3600)), Some(60));
    }
}
