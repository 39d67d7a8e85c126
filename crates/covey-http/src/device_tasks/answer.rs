//! A task as the answer: with its results, which may be large.

use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use covey_api::Task;
use covey_core::id::{ResultId, TaskId};
use covey_core::task::TaskDetail;

use crate::auth::Asked;
use crate::problem::{Answer, Kind};
use crate::wire::json;

/// A task as it is now, with its newest results, or the newest of those before one.
pub(super) async fn with_task_now(asked: &Asked, id: TaskId, before: Option<ResultId>) -> Answer {
    let read = || async {
        let detail = asked.engine().task_get_before(id, before).await?;
        Ok(json(StatusCode::OK, &Task::of(&detail, asked.api.engine.now())))
    };
    asked.large(read).await
}

/// A task that is there, whatever else: if there is no room for its results, the answer is 202 without them,
/// and says where they are.
pub(super) async fn with_task(asked: &Asked, status: StatusCode, detail: &TaskDetail) -> Answer {
    let now = asked.api.engine.now();
    let written = json(status, &Task::of(detail, now));
    if let Ok(response) = asked.api.answers.keep(asked.caller.org, written).await {
        return Ok(response);
    }
    match with_task_now(asked, detail.task.id, None).await {
        Ok(mut response) => {
            *response.status_mut() = status;
            Ok(response)
        }
        Err(problem) if problem.kind == Kind::Unavailable => {
            let results_next = detail.results.first().map(|newest| ResultId(newest.id.0 + 1));
            let bare = TaskDetail { task: detail.task.clone(), results: Vec::new(), results_next };
            Ok(pointed_to(json(StatusCode::ACCEPTED, &Task::of(&bare, now)), bare.task.id))
        }
        Err(problem) => Err(problem),
    }
}

/// An answer that says where to ask again.
pub(super) fn pointed_to(mut response: Response, id: TaskId) -> Response {
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/device-tasks/{id}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
