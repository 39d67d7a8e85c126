//! `GET /healthz` and `GET /readyz`: whether the process lives, and whether it can
//! do its work. No key is needed, because a load balancer has none; so nothing here
//! names an address or repeats what a broker or a database said.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use covey_api::{Health, Readiness, ServerPart};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Api;
use crate::docs::{InternalProblem, UnavailableProblem};
use crate::problem::{Kind, Lists, Problem};
use crate::wire::json;

/// The routes of health.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default().routes(routes!(healthz)).routes(routes!(readyz))
}

/// Whether the process lives (no key needed)
#[utoipa::path(
    get, path = "/healthz", tag = "operation", security(()),
    responses((status = 200, description = "It lives.", body = Health), InternalProblem)
)]
async fn healthz() -> Response {
    json(StatusCode::OK, &Health { status: Cow::Borrowed("ok") })
}

/// Whether the server can do its work (no key needed)
///
/// It can while its store takes writes, at least one of its links to devices is up, and it is not stopping. A link
/// that was up may be away for 5 seconds. The answer names every part with its state, and why it is not up.
#[utoipa::path(
    get, path = "/readyz", tag = "operation", security(()),
    responses(
        (status = 200, description = "It can do its work.", body = Readiness),
        InternalProblem, UnavailableProblem,
    )
)]
async fn readyz(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    if api.shutdown.is_cancelled() {
        return Err(Problem::new(Kind::Unavailable, "the server is stopping"));
    }
    let health = api.engine.server().health_look().await?;
    if health.is_ready() {
        return Ok(json(StatusCode::OK, &Readiness::of(&health)));
    }
    let problems = health.problems().collect::<Vec<_>>().join("; ");
    let lists = Lists { parts: ServerPart::all_of(&health), ..Lists::default() };
    Err(Problem { lists: Some(Box::new(lists)), ..Problem::new(Kind::Unavailable, problems) })
}
