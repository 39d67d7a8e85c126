//! The REST API of Covey: axum routes over the engine of [`covey_core`].
//!
//! A handler reads the wire form, calls one method of the engine, and writes
//! the wire form of its answer. This crate holds no rules of the domain and no
//! storage. The OpenAPI document ([`openapi`]) says what the API promises.
//!
//! A request passes a listener ([`serve_http`], [`serve_https`]), the request
//! middleware (id, limits, measurement), the extractor that finds the caller
//! by its credential, and the handler of the resource.

mod access;
mod accounts;
mod answer;
mod answers;
mod api;
mod api_keys;
mod app;
mod arriving;
mod asked_by;
mod audit;
mod auth;
mod auth_tokens;
mod certificates;
mod claims;
mod client_certificate;
mod compression;
mod connection;
mod cors;
mod device_events;
mod device_tasks;
mod devices;
mod docs;
mod door;
mod ended;
mod est;
mod extract;
mod findings;
mod gauges;
mod health;
mod http2;
mod limits;
mod metrics;
mod microcontrollers;
mod nodes;
mod orgs;
mod outgoing;
mod people;
mod pki;
mod pki_forms;
mod prefixes;
mod problem;
mod rate;
mod request_id;
mod request_middleware;
mod retention;
mod server;
mod shares;
mod stalled_write;
mod stream;
mod units;
mod unknown_names;
mod unread_body;
mod usage;
mod webhooks;
mod whoami;
mod wire;

pub use api::Api;
pub use app::{App, openapi, router, router_with};
pub use auth::key_digest;
pub use auth::tokens::Tokens;
pub use client_certificate::{HANDED_ON_HEADER, PROXY_NAME};
pub use cors::AllowedOrigins;
pub use covey_net::listener::bind;
pub use covey_net::{Files, SharedFiles};
pub use door::{Door, Held, Visitor};
pub use est::{EstClient, EstRequest};
pub use metrics::Metrics;
pub use microcontrollers::{
    Hosts as MicrocontrollerHosts, Key as MicrocontrollerKey, Options as MicrocontrollerOptions,
};
pub use people::{LOGINS_MAX as OIDC_LOGINS_MAX, OidcLogin, OidcLogins, OidcRoles, PublicUrl};
pub use pki::{CrlSpan, RevocationAuthority};
pub use pki_forms::{Credentials, CredentialsDer, PkiForms};
pub use server::{CONNECTIONS_MAX, SHUTDOWN_GRACE_MS, serve_http, serve_https};
