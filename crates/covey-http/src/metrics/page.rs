//! `GET /metrics`: everything that is measured, for Prometheus. Over plain HTTP, which
//! is for this machine and for a listener of its own (`--metrics`), no key is needed.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, VARY};
use axum::http::request::Parts;
use axum::response::IntoResponse;
use covey_core::access::Rights;
use prometheus_client::encoding::text;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Api;
use crate::auth;
use crate::connection::Connection;
use crate::docs::GuardProblems;
use crate::findings::own_time;
use crate::metrics::Metrics;
use crate::metrics::exposition::{self, Format};
use crate::problem::{Answer, Kind, Problem};
use crate::shares;

/// The route of the metrics.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default().routes(routes!(metrics))
}

impl Metrics {
    /// All measurements as text.
    pub(super) fn page(&self, format: Format, waiting_callers: usize) -> Result<String, std::fmt::Error> {
        self.waiting.set(i64::try_from(waiting_callers).unwrap_or(i64::MAX));
        let mut page = String::with_capacity(16 * 1024);
        text::encode(&mut page, &self.registry)?;
        Ok(match format {
            Format::OpenMetrics => page,
            Format::Prometheus => exposition::prometheus(&page),
        })
    }
}

/// How many may read the measurements at a time, and how long one waits for his turn: as long as Prometheus
/// waits for a page.
/// Limit for the server: further ones wait.
const SCRAPES_MAX: usize = 8;
/// How long one who wants to read the measurements waits for his turn.
/// Limit for each look at `/metrics`: 503.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Who reads the measurements. It is of nobody's share, so that it is seen how a server is that has none
/// left.
pub(crate) struct Scrapes(Semaphore);

impl Default for Scrapes {
    fn default() -> Self {
        Self(Semaphore::new(SCRAPES_MAX))
    }
}

impl Scrapes {
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let turn = timeout(WAIT_MAX, self.0.acquire()).await.ok().and_then(Result::ok);
        turn.ok_or_else(|| Problem::new(Kind::Unavailable, "many read the measurements; try again later"))
    }
}

/// Who may read the measurements: over plain HTTP anybody, over HTTPS a caller with the right.
struct Scraper;

impl FromRequestParts<Arc<Api>> for Scraper {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let connection = parts.extensions.get::<Arc<Connection>>();
        if connection.is_none_or(|connection| connection.is_tls) {
            auth::caller(parts, api).await?.require(Rights::METRICS_READ)?;
        }
        Ok(Self)
    }
}

/// Measurements, for Prometheus
///
/// Over plain HTTP no key is needed, over HTTPS one with the right metrics:read. In the text format 0.0.4 of Prometheus, or as OpenMetrics 1.0 to those who prefer that in `Accept`.
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    security((), ("api_key" = []), ("bearer" = []), ("cookie" = []), ("client_certificate" = [])),
    responses(
        (status = 200, description = "All measurements.",
            content((String = "text/plain"), (String = "application/openmetrics-text"))),
        GuardProblems,
    )
)]
async fn metrics(_: Scraper, State(api): State<Arc<Api>>, headers: HeaderMap) -> Answer {
    let _turn = api.scrapes.turn().await?;
    // Without a store there are no new numbers of tasks; the rest is all the more wanted.
    match api.engine.server().task_counts_of_every_org().await {
        Ok(counts) => api.metrics.set_tasks(&counts),
        Err(error) => tracing::warn!(%error, "tasks not counted for this scrape"),
    }
    match api.engine.server().node_counts_of_every_org().await {
        Ok(counts) => api.metrics.set_nodes(&counts),
        Err(error) => tracing::warn!(%error, "nodes not counted for this scrape"),
    }
    match tokio::try_join!(
        api.engine.server().webhook_states_of_every_org(),
        api.engine.server().record_span_of_every_org()
    ) {
        Ok((states, span)) => api.metrics.webhook_states.set(&states, span.settled),
        Err(error) => tracing::warn!(%error, "webhooks not read for this scrape"),
    }
    api.metrics.parts.set(&api.engine.server().health());
    if let Some(report) = api.findings.last() {
        api.metrics.findings.set(&report);
    }
    if let Some(age_ms) = api.findings.age_ms(own_time()) {
        api.metrics.findings.set_age(age_ms);
    }
    api.metrics.parts.count(api.engine.server().link_counts());
    for issuer in api.tokens.issuers() {
        api.metrics.tokens.set(issuer.name(), issuer.state());
    }
    api.metrics.set_kept(api.engine.server().kept_by_org());
    api.metrics.set_unsent(api.outgoing.bytes());
    api.metrics.set_streams(api.shares.count(shares::Kind::Streams));
    let format = Format::wanted(&headers);
    let page = api.metrics.page(format, api.engine.server().watchers().count());
    let page = page.map_err(|_| Problem::new(Kind::Internal, "the measurements could not be written"))?;
    Ok(([(CONTENT_TYPE, format.content_type()), (VARY, "accept")], page).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_read_the_measurements_at_a_time_and_the_others_wait_for_their_turn() {
        let scrapes = Scrapes::default();
        let mut held = Vec::new();
        for _ in 0..SCRAPES_MAX {
            held.extend(scrapes.turn().await);
        }
        assert_eq!(held.len(), SCRAPES_MAX);
        assert_eq!(scrapes.turn().await.err().map(|problem| problem.kind), Some(Kind::Unavailable));
        let (turn, ()) = tokio::join!(scrapes.turn(), async { held.clear() });
        assert!(turn.is_ok());
    }
}
