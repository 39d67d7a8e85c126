//! `/api/v1/retention`: for how long things are kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use covey_api::{Retention, RetentionChange, RetentionRun};
use covey_core::retention::RetentionClass;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{BodyProblems, GuardProblems};
use crate::extract::RawBody;
use crate::problem::{Answer, Problem};
use crate::wire::{Whole, json};

/// The routes of retention.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(retention_get, retention_put), routes!(retention_run)])
}

async fn view(asked: &Asked) -> Result<Retention, Problem> {
    let days = asked.api.engine.retention_default();
    let default = RetentionClass::NAMES.iter().map(|(kept, name, _)| (Cow::Borrowed(*name), days.of(*kept)));
    let default: BTreeMap<_, _> = default.collect();
    let own = asked.engine().retention_own().await?;
    let own: BTreeMap<_, _> = own.iter().map(|own| (Cow::Borrowed(own.kept.name()), own.days)).collect();
    let in_force = default.iter().chain(&own).map(|(name, days)| (name.clone(), *days)).collect();
    Ok(Retention { in_force, default, own })
}

/// For how long things of the caller's organisation are kept
#[utoipa::path(
    get, path = "/api/v1/retention", tag = "operation",
    responses((status = 200, description = "The days.", body = Retention), GuardProblems)
)]
async fn retention_get(asked: Asked) -> Answer {
    Ok(json(StatusCode::OK, &view(&asked).await?))
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
async fn retention_put(asked: Asked, body: RawBody) -> Answer {
    let RetentionChange { tasks, events, records, twin_history, audit } = body.read()?;
    let mut days = Vec::new();
    for (kept, change) in [
        (RetentionClass::Tasks, tasks),
        (RetentionClass::Events, events),
        (RetentionClass::Records, records),
        (RetentionClass::TwinHistory, twin_history),
        (RetentionClass::Audit, audit),
    ] {
        let Some(change) = change else { continue };
        let number = change.map(|Whole(days)| u32::try_from(days)).transpose();
        days.push((kept, number.map_err(|_| Problem::invalid(kept.name(), "must be 0 to 36500"))?));
    }
    asked.engine().retention_put(days).await?;
    Ok(json(StatusCode::OK, &view(&asked).await?))
}

/// Forgets what is too old now, of all organisations: a bounded amount
///
/// The server does so by itself; this is for those who do not want to wait. Ask again while `is_more` is true.
#[utoipa::path(
    post, path = "/api/v1/retention/run", tag = "operation",
    responses((status = 200, description = "What was forgotten.", body = RetentionRun), GuardProblems)
)]
async fn retention_run(asked: Asked) -> Answer {
    let (counts, is_more) = asked.engine().retention_run().await?;
    let forgotten = counts.into_iter().map(|(kept, count)| (Cow::Borrowed(kept.name()), count)).collect();
    Ok(json(StatusCode::OK, &RetentionRun { forgotten, is_more }))
}
