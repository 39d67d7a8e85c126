//! WebSocket nodes on the server's own HTTP listeners, at `/node`. They show no credential there either: who may join is
//! decided as for those of the listener of nodes.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{HOST, ORIGIN};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

use super::{WebSocketNodes, config};
use crate::port::Port;
use crate::web::{Door, upgrade};

/// How many WebSocket nodes may be connected over the server's HTTP listeners.
/// Limit for the server: 503.
const NODES_OVER_HTTP_MAX: usize = 2_000;

struct Shared<P: Port> {
    nodes: Arc<WebSocketNodes<P>>,
    door: Arc<dyn Door>,
    places: Arc<Semaphore>,
}

impl<P: Port> WebSocketNodes<P> {
    /// The routes, for a server's HTTP listeners.
    pub fn routes(self: &Arc<Self>, door: Arc<dyn Door>) -> Router {
        let places = Arc::new(Semaphore::new(NODES_OVER_HTTP_MAX));
        let shared = Arc::new(Shared { nodes: Arc::clone(self), door, places });
        Router::new().route("/node", get(connect::<P>)).with_state(shared)
    }
}

async fn connect<P: Port>(State(shared): State<Arc<Shared<P>>>, request: Request) -> Response {
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    if !shared.nodes.origins.allow(text(ORIGIN), text(HOST)) {
        return (StatusCode::FORBIDDEN, "pages of this origin may not connect\n").into_response();
    }
    let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many nodes are connected\n").into_response();
    };
    let address = shared.door.address(request.extensions());
    let address = address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    let nodes = Arc::clone(&shared.nodes);
    upgrade::accept(request, config(), &shared.nodes.sockets, async move |socket| {
        nodes.connection(socket, address).await;
        drop(place);
    })
}
