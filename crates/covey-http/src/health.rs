//! `GET /healthz` and `GET /readyz`: whether the process lives, and whether it can
//! do its work. No key is needed, because a load balancer has none; so nothing here
//! names an address or repeats what a broker or a database said.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use covey_api::{Health, Readiness, ServerPart};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Api;
use crate::docs::{InternalProblem, UnavailableProblem};
use crate::problem::{Answer, Kind, Lists, Problem};
use crate::request_middleware::Logged;
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
/// It can while its store takes writes (also while the disk is `short`), at least one of its links to devices is up, and it is not stopping. A link
/// that was up may be away for 5 seconds. The answer names every part with its state, and why it is not up.
#[utoipa::path(
    get, path = "/readyz", tag = "operation", security(()),
    responses(
        (status = 200, description = "It can do its work.", body = Readiness),
        InternalProblem, UnavailableProblem,
    )
)]
async fn readyz(State(api): State<Arc<Api>>) -> Response {
    match ready(&api).await {
        Ok(readiness) => {
            api.readiness_log.ready();
            readiness
        }
        Err(problem) => {
            api.readiness_log.not_ready(&problem.detail);
            let mut response = problem.into_response();
            response.extensions_mut().insert(Logged);
            response
        }
    }
}

async fn ready(api: &Api) -> Answer {
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

/// What of readiness goes to the log: that the server is not ready, once, however often it is
/// probed, and that it is again.
#[derive(Debug, Default)]
pub(crate) struct ReadinessLog {
    has_told: AtomicBool,
}

impl ReadinessLog {
    /// A probe was answered so; tells whether that was news.
    fn not_ready(&self, problem: &str) -> bool {
        let is_news = !self.has_told.swap(true, Ordering::Relaxed);
        if is_news {
            tracing::info!(problem, "not ready");
        }
        is_news
    }

    /// The same of a probe that was answered well.
    fn ready(&self) -> bool {
        let is_news = self.has_told.swap(false, Ordering::Relaxed);
        if is_news {
            tracing::info!("ready again");
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_logged_once_however_often_it_is_probed_and_so_is_its_end() {
        let log = ReadinessLog::default();
        assert!(!log.ready(), "nothing was wrong");
        for _ in 0..2 {
            assert!(log.not_ready("link amqp: no connection to the broker"));
            assert!((0..100).all(|_| !log.not_ready("link amqp: no connection to the broker")));
            assert!(log.ready());
            assert!(!log.ready());
        }
    }
}
