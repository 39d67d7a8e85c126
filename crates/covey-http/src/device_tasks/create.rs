//! `POST /api/v1/device-tasks`: makes a task, and waits for its end if asked to.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use covey_api::{Task, TaskCreated, TaskNewSchema};
use covey_core::access::Rights;
use covey_core::task::{IDEMPOTENCY_KEY_BYTES_MAX, IdempotencyKey, TaskDetail, TaskResults, TaskSpec};
use sha2::{Digest, Sha256};

use crate::auth::Asked;
use crate::device_tasks::answer::with_task;
use crate::device_tasks::request::into_spec;
use crate::device_tasks::wait::{self, Wait, WaitQuery, state_now};
use crate::docs::{BodyProblems, GuardProblems, NotFoundProblem};
use crate::extract::{Parameters, RawBody};
use crate::problem::{Answer, Problem};
use crate::wire::json;

/// The header under whose value a request is carried out once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header that tells that an earlier request did it.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The value of `Idempotency-Key`, if there is one.
pub(super) struct KeyOfRequest(Option<String>);

impl<S: Sync> FromRequestParts<S> for KeyOfRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(IDEMPOTENCY_KEY) else { return Ok(Self(None)) };
        let key = value.to_str().ok().filter(|key| {
            (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
        });
        match key {
            Some(key) => Ok(Self(Some(key.to_owned()))),
            None => {
                let problem = format!("must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters");
                Err(Problem::invalid("Idempotency-Key", &problem))
            }
        }
    }
}

/// Makes a task for a device
///
/// It is stored when the answer comes, and announced to the device if that is connected. With `wait` the
/// answer comes when the task is final, as `GET /api/v1/device-tasks/{id}` would give it (for which the key
/// needs the right tasks:read as well), or as 202 with its state when the time is up.
#[utoipa::path(
    post, path = "/api/v1/device-tasks", tag = "tasks",
    params(
        WaitQuery,
        ("Idempotency-Key" = inline(Option<String>), Header, nullable = false,
            min_length = 1, max_length = 255, pattern = "^[!-~]+$",
            description = "Carries the request out once: the same key with the same body gives the same task \
                for 24 hours; with another body 422."),
    ),
    request_body(content = TaskNewSchema, content_type = "application/json", example = json!({
        "ext_task_id": "lamp-1", "device_id": 1, "method_code": 20, "priority": 5, "ttl": 10,
        "payload": {"dt": [{"cl": 5}]}
    })),
    responses(
        (status = 200, description = "The task is stored; with `wait`, the task is final.",
            body = inline(view_or_created::Either),
            headers(("Idempotent-Replayed" = String, description = "`true` if an earlier request made it."))),
        (status = 202, description = "The time to wait is up and the task is not final, or there is no room for its \
            results now: its state, and where to ask again.",
            body = Task,
            headers(
                ("Location" = String, description = "Where to ask again."),
                ("Idempotent-Replayed" = String, description = "`true` if an earlier request made it."),
            )),
        BodyProblems, NotFoundProblem, GuardProblems,
    )
)]
pub(super) async fn task_create(
    asked: Asked,
    Parameters(query): Parameters<WaitQuery>,
    KeyOfRequest(key): KeyOfRequest,
    body: RawBody,
) -> Answer {
    let spec = into_spec(body.read()?)?;
    let idempotency = key.map(|key| IdempotencyKey { key, request_digest: Sha256::digest(&body.0).into() });
    let Some(wait) = query.wait else {
        let created = asked.engine().task_create(asked.api.engine.task_id(), spec, idempotency).await?;
        let task = TaskCreated { id: created.task.id.0, created_at: created.task.created_at.seconds() };
        return Ok(marked(json(StatusCode::OK, &task), created.replayed));
    };
    // Not kept while its caller waits.
    drop(body);
    create_and_wait(&asked, spec, idempotency, wait).await
}

async fn create_and_wait(
    asked: &Asked,
    spec: TaskSpec,
    idempotency: Option<IdempotencyKey>,
    wait: Wait,
) -> Answer {
    // Before a place among those who wait is taken.
    asked.caller.require_some(Rights::TASKS_READ)?;
    let _waiting = wait::begin(asked)?;
    let engine = asked.engine();
    let call = engine.task_call(asked.api.engine.task_id(), spec, idempotency)?;
    let shutdown = &asked.api.shutdown;
    if let Some(detail) = wait.for_end(call.ended(), shutdown).await.flatten() {
        return with_task(asked, StatusCode::OK, &detail).await;
    }
    // The time is up, or it is the task of an earlier request.
    let created = call.created().await?;
    let mut last = TaskDetail::of(Arc::unwrap_or_clone(created.task), TaskResults::default());
    if !created.replayed {
        return state_now(asked, last).await;
    }
    let watch = engine.task_watch(last.task.id);
    last = engine.task_get(last.task.id).await?;
    let now = asked.api.engine.now();
    if last.task.status_at(now).is_final() {
        return Ok(marked(with_task(asked, StatusCode::OK, &last).await?, true));
    }
    let response = match wait.for_end(watch, shutdown).await {
        Some(detail) => with_task(asked, StatusCode::OK, &detail).await?,
        None => state_now(asked, last).await?,
    };
    Ok(marked(response, true))
}

fn marked(mut response: Response, replayed: bool) -> Response {
    if replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The schema of the answer: either of two forms.
mod view_or_created {
    use utoipa::openapi::schema::AnyOfBuilder;
    use utoipa::openapi::schema::Schema;
    use utoipa::openapi::{Ref, RefOr};
    use utoipa::{PartialSchema, ToSchema};

    use super::{Task, TaskCreated};

    pub(super) struct Either;

    impl PartialSchema for Either {
        fn schema() -> RefOr<Schema> {
            let of = AnyOfBuilder::new()
                .item(Ref::from_schema_name(Task::name()))
                .item(Ref::from_schema_name(TaskCreated::name()));
            RefOr::T(Schema::AnyOf(of.build()))
        }
    }

    impl ToSchema for Either {
        fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
            schemas.push((TaskCreated::name().into_owned(), TaskCreated::schema()));
            TaskCreated::schemas(schemas);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::Request;

    use super::*;

    #[tokio::test]
    async fn an_idempotency_key_is_visible_ascii() {
        let read = async |value: &[u8]| {
            let request = Request::builder().header(IDEMPOTENCY_KEY, value).body(()).unwrap();
            KeyOfRequest::from_request_parts(&mut request.into_parts().0, &()).await.map(|key| key.0)
        };
        assert_eq!(read(b"order-7").await.unwrap().as_deref(), Some("order-7"));
        for (length, is_good) in [(1, true), (255, true), (256, false)] {
            assert_eq!(read(&vec![b'x'; length]).await.is_ok(), is_good, "{length}");
            let of_core = IdempotencyKey { key: "x".repeat(length), request_digest: [0; 32] };
            assert_eq!(of_core.validate().is_ok(), is_good, "{length}");
        }
        for bad in [b"".as_slice(), b"a b", b"\xc3\xbc", &[b'x'; 256]] {
            assert_eq!(read(bad).await.unwrap_err().field.as_deref(), Some("Idempotency-Key"), "{bad:?}");
        }
    }
}
