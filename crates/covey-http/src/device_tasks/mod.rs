//! `/api/v1/device-tasks`: making tasks, looking at them, waiting for them,
//! deleting them (rest-api "Tasks").

mod answer;
mod create;
mod list;
mod request;
mod wait;

use std::str::FromStr;
use std::sync::Arc;

use axum::http::StatusCode;
use covey_core::id::ResultId;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::{Parameters, Segment};
use crate::problem::Answer;
use crate::wire::{from_text, json};
use answer::{with_task, with_task_now};
use covey_api::{Task, TaskDeleted};
use request::TaskNumber;
use wait::Wait;

/// The routes of tasks.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(create::task_create, list::task_list), routes!(task_get, task_delete)])
}

/// How a task is asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TaskQuery {
    /// Wait for the task to be final, for at most so many seconds.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = f64, required = false, minimum = 0, maximum = 60, example = 30)]
    wait: Option<Wait>,
    /// The results before those that were given: `results_next` of that answer. They are there, so nothing is
    /// waited for.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = String, required = false, pattern = "^before-[1-9][0-9]{0,17}$")]
    results_cursor: Option<ResultCursor>,
}

/// A place among the results of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ResultCursor(ResultId);

impl FromStr for ResultCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits =
            text.strip_prefix("before-").filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.and_then(|digits| digits.parse().ok()).filter(|number| *number > 0);
        number
            .map(|number| Self(ResultId(number)))
            .ok_or("was never issued; begin without it and go on with results_next")
    }
}

/// One task with its results
///
/// With `wait` the answer comes when the task is final, or as 202 with its state when the time is up. Of its
/// results it has the newest ones, at most 100 and together at most 1 MiB; `results_next` is the `results_cursor` with
/// which the same request gives those before them.
#[utoipa::path(
    get, path = "/api/v1/device-tasks/{id}", tag = "tasks",
    params(("id" = Uuid, Path, description = "The task's id."), TaskQuery),
    responses(
        (status = 200, description = "The task.", body = Task),
        (status = 202, description = "The time to wait is up and the task is not final, or there is no room for its \
            results now: its state, and where to ask again.",
            body = Task, headers(("Location" = String, description = "Where to ask again."))),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn task_get(
    asked: Asked,
    Segment(TaskNumber(id)): Segment<TaskNumber>,
    Parameters(query): Parameters<TaskQuery>,
) -> Answer {
    let before = query.results_cursor.map(|ResultCursor(before)| before);
    let (Some(wait), None) = (query.wait, before) else {
        return with_task_now(&asked, id, before).await;
    };
    // Watched before it is looked at, so that its end is not missed in between.
    let watch = asked.engine().task_watch(id);
    let detail = asked.engine().task_get(id).await?;
    if detail.task.status_at(asked.api.engine.now()).is_final() {
        return with_task(&asked, StatusCode::OK, &detail).await;
    }
    let waiting = wait::begin(&asked)?;
    let end = wait.for_end(watch, &asked.api.shutdown).await;
    drop(waiting);
    match end {
        Some(detail) => with_task(&asked, StatusCode::OK, &detail).await,
        None => wait::state_now(&asked, detail).await,
    }
}

/// Deletes a task, whatever its state
///
/// A device that asks for it afterwards gets "nothing to do". Deleting it again changes nothing.
#[utoipa::path(
    delete, path = "/api/v1/device-tasks/{id}", tag = "tasks",
    params(("id" = Uuid, Path, description = "The task's id.")),
    responses(
        (status = 200, description = "The task is deleted.", body = TaskDeleted),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn task_delete(asked: Asked, Segment(TaskNumber(id)): Segment<TaskNumber>) -> Answer {
    let detail = asked.engine().task_delete(id).await?;
    let deleted_at = detail.task.deleted_at().unwrap_or_else(|| asked.api.engine.now()).seconds();
    Ok(json(StatusCode::OK, &TaskDeleted { id: id.0, deleted_at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cursors_that_were_issued_are_read() {
        assert_eq!("before-17".parse(), Ok(ResultCursor(ResultId(17))));
        for bad in ["", "17", "before-", "before-0", "before--1", "before-+1", "before-99999999999999999999"]
        {
            assert!(bad.parse::<ResultCursor>().is_err(), "{bad}");
        }
    }
}
