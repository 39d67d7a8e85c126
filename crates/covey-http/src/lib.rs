//! The REST API of Covey: axum routes over the engine of [`covey_core`].
//!
//! A handler reads the wire form, calls one method of the engine, and writes
//! the wire form of its answer. There are no rules of the domain here and no
//! storage; what the API promises is in the OpenAPI document ([`openapi`]).
//!
//! The way of a request: a listener ([`serve_http`], [`serve_https`]), the
//! envelope that every request gets (id, limits, measurement), the caller by
//! its credential, the handler of the resource.

mod api_keys;
mod app;
mod auth;
mod carry_out;
mod client_certificate;
mod device_events;
mod device_tasks;
mod devices;
mod docs;
mod envelope;
mod extract;
mod first_byte;
mod gauges;
mod health;
mod metrics;
mod problem;
mod retention;
mod server;
mod stalled_write;
mod stream;
mod unread_body;
mod webhooks;
mod whoami;
mod wire;

pub use app::{Api, openapi, router};
pub use auth::key_digest;
pub use client_certificate::{HANDED_ON_HEADER, PROXY_NAME};
pub use metrics::Metrics;
pub use server::{SHUTDOWN_GRACE_MS, serve_http, serve_https};
