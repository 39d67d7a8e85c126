//! `GET /metrics`: everything that is measured, for Prometheus. No key is
//! needed, because a scraper has none and nothing here names a tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, VARY};
use axum::response::IntoResponse;
use prometheus_client::encoding::text;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Api;
use crate::docs::InternalProblem;
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

/// Measurements, for Prometheus (no key needed)
///
/// In the text format 0.0.4 of Prometheus, or as OpenMetrics 1.0 to those who prefer that in `Accept`.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", security(()),
    responses(
        (status = 200, description = "All measurements.",
            content((String = "text/plain"), (String = "application/openmetrics-text"))),
        InternalProblem,
    )
)]
async fn metrics(State(api): State<Arc<Api>>, headers: HeaderMap) -> Answer {
    // Without a store there are no new numbers of tasks; the rest is all the more wanted.
    match api.engine.server().task_counts_of_every_org().await {
        Ok(counts) => api.metrics.set_tasks(&counts),
        Err(error) => tracing::warn!(%error, "tasks not counted for this scrape"),
    }
    match tokio::try_join!(
        api.engine.server().webhook_states_of_every_org(),
        api.engine.server().record_span_of_every_org()
    ) {
        Ok((states, span)) => api.metrics.webhook_states.set(&states, span.settled),
        Err(error) => tracing::warn!(%error, "webhooks not read for this scrape"),
    }
    api.metrics.parts.set(&api.engine.server().health());
    api.metrics.set_unsent(api.outgoing.bytes());
    api.metrics.set_streams(api.shares.count(shares::Kind::Streams));
    let format = Format::wanted(&headers);
    let page = api.metrics.page(format, api.engine.server().watchers().count());
    let page = page.map_err(|_| Problem::new(Kind::Internal, "the measurements could not be written"))?;
    Ok(([(CONTENT_TYPE, format.content_type()), (VARY, "accept")], page).into_response())
}
