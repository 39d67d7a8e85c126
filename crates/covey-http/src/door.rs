//! Routes of others, such as a gateway's, on the listeners of the API: they pass what every request passes, and ask here
//! who calls and for what is counted.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::Extensions;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use covey_core::access::Caller;

use crate::api::Api;
use crate::auth;
use crate::extract::RawBody;
use crate::shares::Kind;
use crate::stream::caller::take_key_of_query;

/// What routes of others can ask of the server.
#[derive(Clone)]
pub struct Door(Arc<Api>);

/// Where the other end of a connection is: a client, or a proxy in front of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// Something that is counted for a caller for as long as it is kept.
pub type Held = Box<dyn Any + Send + Sync>;

/// Who calls a route of others.
pub struct Visitor {
    /// The caller, by the credential of the request.
    pub caller: Caller,
    /// Its place among the requests that run.
    pub running: Held,
}

impl Door {
    pub(crate) fn of(api: &Arc<Api>) -> Self {
        Self(Arc::clone(api))
    }

    /// The caller of a request: by a key in its headers or the certificate of its client; a browser's WebSocket, which
    /// has no headers, may have the key in its query (`api_key`).
    ///
    /// # Errors
    /// The answer for who has no valid credential, or too many requests that run.
    pub async fn visitor(&self, parts: &mut Parts, is_socket: bool) -> Result<Visitor, Response> {
        if is_socket {
            take_key_of_query(parts);
        }
        let (caller, slot) = auth::visitor(parts, &self.0).await.map_err(IntoResponse::into_response)?;
        Ok(Visitor { caller, running: Box::new(slot) })
    }

    /// Where a request comes from: its client, or a proxy in front of it. None if it came over no listener.
    #[must_use]
    pub fn address(&self, extensions: &Extensions) -> Option<SocketAddr> {
        extensions.get::<PeerAddress>().map(|address| address.0)
    }

    /// A place among the requests that run, of a caller that the request names in another way.
    ///
    /// # Errors
    /// The answer where its share is taken.
    pub fn request(&self, caller: &Caller) -> Result<Held, Box<Response>> {
        self.take(caller, Kind::Requests)
    }

    /// A place among the streams of a caller, such as a WebSocket has.
    ///
    /// # Errors
    /// The answer where its share is taken.
    pub fn stream(&self, caller: &Caller) -> Result<Held, Box<Response>> {
        self.take(caller, Kind::Streams)
    }

    fn take(&self, caller: &Caller, kind: Kind) -> Result<Held, Box<Response>> {
        let slot = auth::take_of(&self.0, caller, kind);
        Ok(Box::new(slot.map_err(|problem| Box::new(problem.into_response()))?))
    }
}

/// Reads the body of a request for a route of others, within the bounds that bodies have here, and counted as they are.
pub(crate) async fn with_body(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let mut whole = Request::new(body);
    whole.extensions_mut().clone_from(&parts.extensions);
    match RawBody::from_request(whole, &()).await {
        Ok(body) => next.run(Request::from_parts(parts, Body::from(body.bytes()))).await,
        Err(problem) => problem.into_response(),
    }
}
