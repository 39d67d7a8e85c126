//! `/api/v1/retention`: for how long things are kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use covey_api::{Retention, RetentionChange, RetentionRun};
use covey_core::retention::RetentionClass;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Authenticated;
use crate::docs::{BodyProblems, GuardProblems};
use crate::extract::RawBody;
use crate::problem::Problem;
use crate::wire::{Whole, json};
use covey_core::access::Caller;

/// The routes of retention.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    let router = with_slash(OpenApiRouter::default(), routes!(retention_get, retention_put));
    with_slash(router, routes!(retention_run))
}

async fn view(api: &Api, caller: &Caller) -> Result<Retention, Problem> {
    let days = api.engine.retention_default();
    let default = RetentionClass::NAMES.iter().map(|(kept, name, _)| (Cow::Borrowed(*name), days.of(*kept)));
    let default: BTreeMap<_, _> = default.collect();
    let own = api.engine.for_caller(caller).retention_own().await?;
    let own: BTreeMap<_, _> = own.iter().map(|own| (Cow::Borrowed(own.kept.name()), own.days)).collect();
    let in_force = default.iter().chain(&own).map(|(name, days)| (name.clone(), *days)).collect();
    Ok(Retention { in_force, default, own })
}

/// For how long things of the caller's organisation are kept
#[utoipa::path(
    get, path = "/api/v1/retention", tag = "operation",
    responses((status = 200, description = "The days.", body = Retention), GuardProblems)
)]
async fn retention_get(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &view(&api, &caller).await?))
}

/// Sets for how long things of the caller's organisation are kept
#[utoipa::path(
    put, path = "/api/v1/retention", tag = "operation",
    request_body(content = RetentionChange, content_type = "application/json", example = json!({"events": 30})),
    responses(
        (status = 200, description = "The days from now on.", body = Retention),
        BodyProblems, GuardProblems,
    )
)]
async fn retention_put(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    body: RawBody,
) -> Result<Response, Problem> {
    let RetentionChange { tasks, events, records, twin_history } = body.read()?;
    let mut days = Vec::new();
    for (kept, change) in [
        (RetentionClass::Tasks, tasks),
        (RetentionClass::Events, events),
        (RetentionClass::Records, records),
        (RetentionClass::TwinHistory, twin_history),
    ] {
        let Some(change) = change else { continue };
        let number = change.map(|Whole(days)| u32::try_from(days)).transpose();
        days.push((kept, number.map_err(|_| Problem::invalid(kept.name(), "must be 0 to 36500"))?));
    }
    api.engine.for_caller(&caller).retention_put(days).await?;
    Ok(json(StatusCode::OK, &view(&api, &caller).await?))
}

/// Forgets what is too old now, of all organisations: a bounded amount
///
/// The server does so by itself; this is for those who do not want to wait. Ask again while `is_more` is true.
#[utoipa::path(
    post, path = "/api/v1/retention/run", tag = "operation",
    responses((status = 200, description = "What was forgotten.", body = RetentionRun), GuardProblems)
)]
async fn retention_run(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
) -> Result<Response, Problem> {
    let (counts, is_more) = api.engine.for_caller(&caller).retention_run().await?;
    let forgotten = counts.into_iter().map(|(kept, count)| (Cow::Borrowed(kept.name()), count)).collect();
    Ok(json(StatusCode::OK, &RetentionRun { forgotten, is_more }))
}
