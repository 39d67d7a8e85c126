//! Gateways that are spoken to on the server's own HTTP listeners: they give routes, and ask a [`Door`] for what belongs to
//! the server. `crates/covey` brings both together, so that no adapter knows another.

pub mod owners;
pub mod upgrade;

use std::any::Any;
use std::net::SocketAddr;

use axum::http::Extensions;
use axum::http::request::Parts;
use axum::response::Response;
use covey_core::access::Caller;
use futures_util::future::BoxFuture;

/// Something that is counted for a caller for as long as it is kept.
pub type Held = Box<dyn Any + Send + Sync>;

/// What the server that serves the routes does for them. Each error is the answer to the request.
pub trait Door: Send + Sync + 'static {
    /// The caller of a request by its credential, and its place among the requests that run. A WebSocket of a browser,
    /// which has no headers, may have the key in its query.
    fn visitor<'a>(
        &'a self,
        parts: &'a mut Parts,
        is_socket: bool,
    ) -> BoxFuture<'a, Result<(Caller, Held), Response>>;

    /// Where a request comes from: its client, or a proxy in front of it.
    fn address(&self, extensions: &Extensions) -> Option<SocketAddr>;

    /// A place among the requests that run, of a caller that the request names in another way.
    ///
    /// # Errors
    /// The answer where its share is taken.
    fn request(&self, caller: &Caller) -> Result<Held, Box<Response>>;

    /// A place among the streams of a caller.
    ///
    /// # Errors
    /// The answer where its share is taken.
    fn stream(&self, caller: &Caller) -> Result<Held, Box<Response>>;
}
