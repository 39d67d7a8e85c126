//! A task as the answer: with its results, which may be large.

use axum::http::StatusCode;
use covey_api::Task;
use covey_core::id::{ResultId, TaskId};
use covey_core::task::TaskDetail;

use crate::answers::SMALL_BYTES;
use crate::auth::Asked;
use crate::problem::Answer;
use crate::wire::json;

/// A task as it was read. If its results are large, the answer waits until there is room for it.
pub(super) async fn with_task(asked: &Asked, status: StatusCode, detail: &TaskDetail) -> Answer {
    let now = asked.api.engine.now();
    let bytes = detail.result_bytes();
    if bytes <= SMALL_BYTES {
        return Ok(json(status, &Task::of(detail, now)));
    }
    // The bodies, and the same as JSON.
    let room = asked.room(2 * bytes).await?;
    Ok(room.json(status, &Task::of(detail, now)))
}

/// A task as it is now, with its newest results, or the newest of those before one. What is large is not held
/// while it waits, but read again.
pub(super) async fn with_task_now(asked: &Asked, id: TaskId, before: Option<ResultId>) -> Answer {
    let detail = asked.engine().task_get_before(id, before).await?;
    let bytes = detail.result_bytes();
    if bytes <= SMALL_BYTES {
        return Ok(json(StatusCode::OK, &Task::of(&detail, asked.api.engine.now())));
    }
    let (room, detail) = match asked.api.answers.try_room(asked.caller.org, 2 * bytes) {
        Some(room) => (room, detail),
        None => {
            drop(detail);
            let room = asked.room(2 * bytes).await?;
            (room, asked.engine().task_get_before(id, before).await?)
        }
    };
    Ok(room.json(StatusCode::OK, &Task::of(&detail, asked.api.engine.now())))
}
