//! `GET /healthz` and `GET /readyz`: whether the process lives, and whether it
//! can serve. No key is needed, because a load balancer has none.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use covey_api::Health;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Api;
use crate::docs::{InternalProblem, UnavailableProblem};
use crate::problem::{Kind, Problem};
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

/// Whether the server can serve: its store answers and it is not stopping (no key needed)
#[utoipa::path(
    get, path = "/readyz", tag = "operation", security(()),
    responses((status = 200, description = "It can serve.", body = Health), InternalProblem, UnavailableProblem)
)]
async fn readyz(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    if api.shutdown.is_cancelled() {
        return Err(Problem::new(Kind::Unavailable, "the server is stopping"));
    }
    // The cheapest read there is: a look-up of a key that nobody has.
    api.engine.server().api_key_check("").await?;
    Ok(json(StatusCode::OK, &Health { status: Cow::Borrowed("ok") }))
}
