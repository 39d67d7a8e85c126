//! Gateways on the server's HTTP listeners: what the server offers to routes of others, as gateways ask for it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::Extensions;
use axum::http::request::Parts;
use axum::response::Response;
use covey_core::access::Caller;
use covey_core::port::BoxFuture;
use covey_gateway::broker::NodeBroker;
use covey_gateway::engine::EnginePort;
use covey_gateway::pusher::Pusher;
use covey_gateway::web::{Door, Held};
use covey_gateway::websocket::WebSocketNodes;

/// The door of the HTTP server, as gateways know it.
struct HttpDoor(covey_http::Door);

impl Door for HttpDoor {
    fn visitor<'a>(
        &'a self,
        parts: &'a mut Parts,
        is_socket: bool,
    ) -> BoxFuture<'a, Result<(Caller, Held), Response>> {
        Box::pin(async move {
            let covey_http::Visitor { caller, running } = self.0.visitor(parts, is_socket).await?;
            Ok((caller, running))
        })
    }

    fn address(&self, extensions: &Extensions) -> Option<SocketAddr> {
        self.0.address(extensions)
    }

    fn request(&self, caller: &Caller) -> Result<Held, Box<Response>> {
        self.0.request(caller)
    }

    fn stream(&self, caller: &Caller) -> Result<Held, Box<Response>> {
        self.0.stream(caller)
    }
}

/// The gateways that are spoken to on the HTTP listeners, too.
#[derive(Default)]
pub struct OnHttp {
    /// Pusher Channels.
    pub pusher: Option<Arc<Pusher>>,
    /// The node broker.
    pub broker: Option<Arc<NodeBroker>>,
    /// WebSocket nodes.
    pub nodes: Option<Arc<WebSocketNodes<EnginePort>>>,
}

impl OnHttp {
    /// Their routes.
    pub fn routes(&self, door: covey_http::Door) -> Router {
        let door: Arc<dyn Door> = Arc::new(HttpDoor(door));
        let pusher = self.pusher.as_ref().map(|pusher| pusher.routes(Arc::clone(&door)));
        let broker = self.broker.as_ref().map(|broker| broker.routes(Arc::clone(&door)));
        let nodes = self.nodes.as_ref().map(|nodes| nodes.routes(door));
        [pusher, broker, nodes].into_iter().flatten().fold(Router::new(), Router::merge)
    }
}
