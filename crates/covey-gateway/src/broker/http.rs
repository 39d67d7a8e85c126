//! `/ws` and `/gw` on the server's own HTTP listeners. Other machines reach these, so a web client shows an API key there;
//! a gateway shows its token, as everywhere.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use covey_core::access::{Caller, Rights};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio_util::sync::CancellationToken;

use crate::broker::{NodeBroker, NotLetIn, Peer, TOKEN, clients, config};
use crate::web::owners::Owners;
use crate::web::{Door, upgrade};

/// How many gateways may be connected over the server's HTTP listeners.
/// Limit for the server: 503.
const GATEWAYS_OVER_HTTP_MAX: usize = 1_000;
/// What a web client's key must have: it sees nodes, and sets their values.
const NEEDED: [Rights; 2] = [Rights::DEVICES_READ, Rights::TASKS_WRITE];

struct Shared {
    broker: Arc<NodeBroker>,
    door: Arc<dyn Door>,
    owners: Owners,
    gateways: Arc<Semaphore>,
}

impl NodeBroker {
    /// The routes, for a server's HTTP listeners.
    pub fn routes(self: &Arc<Self>, door: Arc<dyn Door>) -> Router {
        let shared = Shared {
            broker: Arc::clone(self),
            door,
            owners: Owners::new(Arc::clone(&self.engine)),
            gateways: Arc::new(Semaphore::new(GATEWAYS_OVER_HTTP_MAX)),
        };
        let router = Router::new().route("/ws", get(connect)).route("/gw", get(connect));
        router.with_state(Arc::new(shared))
    }
}

fn refused(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

async fn connect(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let address = shared.door.address(&head.extensions);
    let address = address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    let peer = match shared.broker.broker.let_in_at(head.uri.path(), &head.headers) {
        Ok(peer) => peer,
        Err(NotLetIn { status, why }) => {
            tracing::warn!(address = %address.ip(), "connection to the node broker refused: {why}");
            return refused(status, why);
        }
    };
    match peer {
        Peer::Client => {
            let (caller, _running) = match shared.door.visitor(&mut head, true).await {
                Ok(visitor) => visitor,
                Err(response) => return response,
            };
            client(&shared, caller, Request::from_parts(head, body), address)
        }
        Peer::Gateway { realm, is_ours } => {
            gateway(&shared, realm, is_ours, Request::from_parts(head, body), address)
        }
    }
}

/// A web client, as one of the streams of its key; it is closed when that is revoked.
fn client(shared: &Arc<Shared>, caller: Caller, request: Request, address: SocketAddr) -> Response {
    if caller.org != shared.broker.org {
        return refused(StatusCode::FORBIDDEN, "the nodes are those of another organisation");
    }
    if let Some(Err(error)) = NEEDED.map(|right| caller.require(right)).into_iter().find(Result::is_err) {
        return refused(StatusCode::FORBIDDEN, &error.to_string());
    }
    let held = match shared.door.stream(&caller) {
        Ok(held) => held,
        Err(response) => return *response,
    };
    let (broker, sharing) = (Arc::clone(&shared.broker.broker), Arc::clone(shared));
    upgrade::accept(request, config(), &shared.broker.sockets, async move |socket| {
        let revoked = CancellationToken::new();
        let watching = async {
            sharing.owners.until_revoked(&caller).await;
            revoked.cancel();
            std::future::pending().await
        };
        tokio::select! {
            () = clients::connection(broker, socket, address, revoked.clone()) => {}
            () = watching => {}
        }
        drop(held);
    })
}

fn gateway(
    shared: &Arc<Shared>,
    realm: usize,
    is_ours: bool,
    request: Request,
    address: SocketAddr,
) -> Response {
    let Some((_, nodes)) = shared.broker.broker.realms.get(realm) else {
        return refused(StatusCode::NOT_FOUND, "there is no such gateway");
    };
    let Ok(place) = Arc::clone(&shared.gateways).try_acquire_owned() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "too many gateways are connected");
    };
    let nodes = Arc::clone(nodes);
    let serve = async move |socket| {
        nodes.connection(socket, address, is_ours).await;
        drop(place);
    };
    let mut response = upgrade::accept(request, config(), &shared.broker.sockets, serve);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Browsers and Node fail without one of those that they offer.
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(TOKEN));
    }
    response
}
