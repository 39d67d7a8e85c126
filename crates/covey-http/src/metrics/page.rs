//! `GET /metrics`: everything that is measured, for Prometheus. No key is
//! needed, because a scraper has none and nothing here names a tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Api;
use crate::docs::InternalProblem;
use crate::metrics::Metrics;
use crate::problem::{Kind, Problem};

/// OpenMetrics 1.0 §"Content Type".
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The route of the metrics.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default().routes(routes!(metrics))
}

impl Metrics {
    /// All measurements as OpenMetrics text.
    pub(super) fn page(&self, waiting_callers: usize) -> Result<String, std::fmt::Error> {
        self.waiting.set(i64::try_from(waiting_callers).unwrap_or(i64::MAX));
        let mut page = String::with_capacity(16 * 1024);
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// Measurements, for Prometheus (no key needed)
#[utoipa::path(
    get, path = "/metrics", tag = "operation", security(()),
    responses(
        (status = 200, description = "All measurements as OpenMetrics text.", body = String,
            content_type = "application/openmetrics-text"),
        InternalProblem,
    )
)]
async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    // Without a store there are no new numbers of tasks; the rest is all the more wanted.
    match api.engine.server().task_counts_of_every_org().await {
        Ok(counts) => api.metrics.set_tasks(&counts),
        Err(error) => tracing::warn!(%error, "the tasks could not be counted for a scrape"),
    }
    match tokio::try_join!(
        api.engine.server().webhook_states_of_every_org(),
        api.engine.server().record_span_of_every_org()
    ) {
        Ok((states, span)) => api.metrics.webhook_states.set(&states, span.settled),
        Err(error) => tracing::warn!(%error, "the webhooks could not be looked at for a scrape"),
    }
    api.metrics.set_streams(api.streams.count());
    let page = api.metrics.page(api.engine.server().watchers().count());
    let page = page.map_err(|_| Problem::new(Kind::Internal, "the measurements could not be written"))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], page).into_response())
}
