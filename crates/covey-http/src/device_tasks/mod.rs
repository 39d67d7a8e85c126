//! `/api/v1/device-tasks`: making tasks, looking at them, waiting for them,
//! deleting them (rest-api "Tasks").

mod create;
mod list;
mod request;
mod wait;

use std::sync::Arc;

use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::{Parameters, Segment};
use crate::problem::Answer;
use crate::wire::json;
use covey_api::{Task, TaskDeleted};
use request::TaskNumber;
use wait::WaitQuery;

/// The routes of tasks.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(create::task_create, list::task_list), routes!(task_get, task_delete)])
}

/// One task with its results
///
/// With `wait` the answer comes when the task is final, or as 202 with its state when the time is up.
#[utoipa::path(
    get, path = "/api/v1/device-tasks/{id}", tag = "tasks",
    params(("id" = Uuid, Path, description = "The task's id."), WaitQuery),
    responses(
        (status = 200, description = "The task.", body = Task),
        (status = 202, description = "The time to wait is up and the task is not final: its state now.",
            body = Task, headers(("Location" = String, description = "Where to ask again."))),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn task_get(
    asked: Asked,
    Segment(TaskNumber(id)): Segment<TaskNumber>,
    Parameters(query): Parameters<WaitQuery>,
) -> Answer {
    let Some(wait) = query.wait else {
        let detail = asked.engine().task_get(id).await?;
        return Ok(json(StatusCode::OK, &Task::of(&detail, asked.api.engine.now())));
    };
    // Watched before it is looked at, so that its end is not missed in between.
    let watch = asked.engine().task_watch(id);
    let detail = asked.engine().task_get(id).await?;
    if detail.task.status_at(asked.api.engine.now()).is_final() {
        return Ok(json(StatusCode::OK, &Task::of(&detail, asked.api.engine.now())));
    }
    Ok(match wait.for_end(watch, &asked.api.shutdown).await {
        Some(detail) => json(StatusCode::OK, &Task::of(&detail, asked.api.engine.now())),
        None => wait::state_now(&asked, detail).await,
    })
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
