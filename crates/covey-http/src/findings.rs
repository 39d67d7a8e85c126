//! `GET /api/v1/health/findings`: what is wrong around the server, and what to do. Needs the right metrics:read, as
//! whoever watches a server has. What names files and addresses of the server is told to keys with orgs:admin alone, what is
//! about a webhook to those and to its organisation; the others are told the codes, as by `/metrics`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use covey_api::Findings;
use covey_core::access::Rights;
use covey_core::finding;
use covey_core::id::UnixMs;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::GuardProblems;
use crate::problem::Answer;
use crate::wire::json;

/// The route of findings.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(findings)])
}

/// What is wrong around the server, and what to do
///
/// The server looks every 5 seconds: at clocks, certificates, modes of files, its store, its link, its disk, the last backup and
/// webhooks. Needs the right metrics:read; what is about files and addresses of the server, or about webhooks of other
/// organisations, is told without details where the key does not have orgs:admin as well. `covey doctor` asks for it and
/// looks at what a server cannot see of itself.
#[utoipa::path(
    get, path = "/api/v1/health/findings", tag = "operation",
    responses((status = 200, description = "What the last look found.", body = Findings), GuardProblems)
)]
async fn findings(asked: Asked) -> Answer {
    asked.caller.require(Rights::METRICS_READ)?;
    let (report, now) = (asked.api.findings.last(), own_time());
    let mut found = report.as_deref().map_or_else(Vec::new, |report| report.findings.clone());
    found.extend(asked.api.findings.age_ms(now).and_then(|age_ms| finding::stale("this server", age_ms)));
    let told = finding::told(&found, &asked.caller);
    Ok(json(StatusCode::OK, &Findings::of(report.map(|report| report.at), &told, now)))
}

/// What the clock of this machine shows: that of the engine is the database's.
pub(crate) fn own_time() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
