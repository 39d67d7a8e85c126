//! Assembles the API: the resources, what every request passes, and the OpenAPI document.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::api::Api;
use crate::compression::compression;
use crate::door::{Door, with_body};
use crate::prefixes::with_prefix;
use crate::problem::{Kind, Problem};
use crate::request_middleware::{request_middleware, with_request_id};
use crate::unknown_names::KnownParameters;
use crate::{
    access, accounts, api_keys, audit, auth_tokens, certificates, claims, device_events, device_tasks,
    devices, docs, est, findings, gauges, health, limits, metrics, nodes, orgs, people, pki, retention,
    stream, units, usage, webhooks, whoami,
};

/// The routes of all resources, with their parts of the OpenAPI document.
fn resources() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(docs::frame())
        .merge(device_tasks::router())
        .merge(devices::router())
        .merge(certificates::router())
        .merge(nodes::router())
        .merge(units::router())
        .merge(device_events::router())
        .merge(gauges::router())
        .merge(stream::router())
        .merge(webhooks::router())
        .merge(retention::router())
        .merge(api_keys::router())
        .merge(access::router())
        .merge(orgs::router())
        .merge(limits::router())
        .merge(people::router())
        .merge(claims::router())
        .merge(audit::router())
        .merge(usage::router())
        .merge(auth_tokens::router())
        .merge(accounts::router())
        .merge(whoami::router())
        .merge(health::router())
        .merge(findings::router())
        .merge(metrics::page::router())
}

/// The OpenAPI document of the whole API, the same on each call.
#[must_use]
pub fn openapi() -> OpenApi {
    docs::complete(resources().into_openapi())
}

/// The whole API, for any number of listeners.
#[derive(Clone)]
pub struct App {
    pub(crate) router: Router,
    pub(crate) api: Arc<Api>,
}

impl App {
    /// Health and measurements alone, for a listener of their own.
    #[must_use]
    pub fn measurements(&self) -> Self {
        let (router, _) =
            OpenApiRouter::default().merge(health::router()).merge(metrics::page::router()).split_for_parts();
        Self { router: assembled(router, &self.api), api: Arc::clone(&self.api) }
    }
}

/// Makes the whole API.
pub fn router(api: Api) -> App {
    router_with(api, |_| Router::new())
}

/// Makes the whole API, with routes of others beside it. They pass what every request passes, their bodies are bounded as
/// those of the API are, and they are not in the OpenAPI document. What they need of the server they ask the [`Door`].
///
/// # Panics
/// Routes that the API has, too.
pub fn router_with(api: Api, others: impl FnOnce(Door) -> Router) -> App {
    let (router, document) = resources().split_for_parts();
    let api = Arc::new(Api { parameters: KnownParameters::of(&document), ..api });
    let others = others(Door::of(&api));
    let router =
        router.merge(docs::router(&docs::complete(document))).merge(pki::router()).merge(people::pages());
    let router = if api.est.is_some() { router.merge(est::router()) } else { router };
    let router = if others.has_routes() {
        router.merge(others.route_layer(from_fn(with_body)).with_state(()))
    } else {
        router
    };
    App { router: assembled(router, &api), api }
}

/// Routes, with what every request passes.
fn assembled(routes: Router<Arc<Api>>, api: &Arc<Api>) -> Router {
    let router = routes
        .fallback(async || Problem::new(Kind::NotFound, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(Kind::MethodNotAllowed, "the header Allow names the methods of this path")
        })
        .layer(from_fn_with_state(Arc::clone(api), request_middleware))
        .layer(compression());
    let router = match api.origins.layer() {
        // Outermost, so that a page can read every refusal.
        Some(cors) => router.layer(cors).layer(from_fn_with_state(Arc::clone(api), with_request_id)),
        None => router,
    };
    // Around all routes, since it is decided before a route is found.
    let routes = router.with_state(Arc::clone(api));
    Router::new().fallback_service(routes).layer(map_request(async |request| with_prefix(request)))
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
                "headers" => components.headers.contains_key(name),
                "parameters" => components.parameters.contains_key(name),
                "responses" => components.responses.contains_key(name),
                _ => false,
            };
            assert!(is_known, "{kind}/{name} is referred to and not there");
        }
    }
}
