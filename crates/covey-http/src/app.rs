//! The API put together: its parts, its router and its OpenAPI document.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::MethodRouter;
use covey_core::Engine;
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::auth::Callers;
use crate::client_certificate::ProxyTrust;
use crate::envelope::{RequestIds, Running, envelope};
use crate::metrics::Metrics;
use crate::problem::{Kind, Problem};
use crate::stream::Streams;
use crate::{
    api_keys, device_events, device_tasks, devices, docs, gauges, health, metrics, retention, stream,
    webhooks, whoami,
};

/// What the handlers work with.
pub struct Api {
    pub(crate) engine: Arc<Engine>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) callers: Callers,
    /// Which connections come from a proxy that may hand client certificates on.
    pub(crate) proxies: Option<ProxyTrust>,
    pub(crate) request_ids: RequestIds,
    pub(crate) running: Running,
    pub(crate) streams: Arc<Streams>,
}

impl Api {
    /// The API over an engine. Give it the token that stops the listeners:
    /// callers that wait for a task are then answered at once.
    #[must_use]
    pub fn new(engine: Arc<Engine>, metrics: Arc<Metrics>, shutdown: CancellationToken) -> Self {
        Self {
            engine,
            metrics,
            shutdown,
            callers: Callers::default(),
            proxies: None,
            request_ids: RequestIds::new(),
            running: Running::default(),
            streams: Arc::default(),
        }
    }

    /// Lets a proxy hand on the certificates of its clients in the header
    /// `X-Covey-Client-Cert`: one that shows a certificate of its own with the
    /// common name [`PROXY_NAME`](crate::PROXY_NAME), issued under `root` for
    /// TLS clients. On every other connection the header means nothing.
    ///
    /// # Errors
    /// A root that is no certificate.
    pub fn trusting_proxies_of(mut self, root: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        self.proxies = Some(ProxyTrust::under(root)?);
        Ok(self)
    }
}

/// The routes of the resources, with their part of the document.
fn resources() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(docs::frame())
        .merge(device_tasks::router())
        .merge(devices::router())
        .merge(device_events::router())
        .merge(gauges::router())
        .merge(stream::router())
        .merge(webhooks::router())
        .merge(retention::router())
        .merge(api_keys::router())
        .merge(whoami::router())
        .merge(health::router())
        .merge(metrics::router())
}

/// The OpenAPI document of the whole API, the same on each call.
#[must_use]
pub fn openapi() -> OpenApi {
    docs::complete(resources().into_openapi())
}

/// The router of the whole API, ready to be served.
pub fn router(api: Api) -> Router {
    let api = Arc::new(api);
    let (router, document) = resources().split_for_parts();
    router
        .merge(docs::router(&docs::complete(document)))
        .fallback(async || Problem::new(Kind::NotFound, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(Kind::MethodNotAllowed, "the header Allow names the methods of this path")
        })
        .layer(from_fn_with_state(Arc::clone(&api), envelope))
        .with_state(api)
}

/// Adds routes under their path with and without a slash at the end
/// (rest-api, introduction). The document shows the one without.
pub(crate) fn with_slash(
    router: OpenApiRouter<Arc<Api>>,
    routes: UtoipaMethodRouter<Arc<Api>>,
) -> OpenApiRouter<Arc<Api>> {
    let paths: Vec<String> = routes.1.paths.keys().map(|path| format!("{path}/")).collect();
    let handlers: MethodRouter<Arc<Api>> = routes.2.clone();
    let router = router.routes(routes);
    paths.into_iter().fold(router, |router, path| router.route(&path, handlers.clone()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_document_is_the_same_on_each_call_and_whole() {
        let document = openapi();
        assert_eq!(document.to_json().unwrap(), openapi().to_json().unwrap());
        let text = document.to_json().unwrap();
        let components = document.components.unwrap();
        for reference in text.split("\"$ref\":\"#/components/").skip(1) {
            let (kind, name) = reference.split('"').next().unwrap().split_once('/').unwrap();
            let is_known = match kind {
                "schemas" => components.schemas.contains_key(name),
                "responses" => components.responses.contains_key(name),
                _ => false,
            };
            assert!(is_known, "{kind}/{name} is referred to and not there");
        }
    }
}
