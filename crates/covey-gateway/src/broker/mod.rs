//! The node broker, for web clients and gateways that others wrote: web clients at `/ws`, gateways at `/gw`
//! (`docs/gateways-broker.md`, `docs/adr/0028-the-node-broker-follows-the-outbox.md`).
//!
//! ```text
//!  gateway ──/gw──▶ gateways.rs ──▶ Gateway<EnginePort> ──▶ engine ──outbox──▶ watch.rs ──▶ board.rs ──▶ clients.rs ──/ws──▶ page
//!  gateway ◀──/gw── gateways.rs ◀── Gateway<EnginePort> ◀── a task ◀─────────────────────────────────── clients.rs ◀──/ws── page
//! ```
//!
//! The other side of `/gw`, for gateways of Covey that are programs of their own, is `remote.rs`, which is a
//! [`Port`](crate::port::Port) as the engine is one.

pub mod board;
mod clients;
pub(crate) mod dial;
pub mod fernet;
mod gateways;
mod http;
pub mod messages;
pub mod remote;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use covey_core::access::{Caller, Rights};
use covey_core::device::DeviceIdentity;
use covey_core::error::Error as CoreError;
use covey_core::id::OrgId;
use covey_core::task::{DeviceRef, TaskSpec};
use covey_net::listener::{self, Established, Life};
use covey_net::{ByteStream, Files, Refusal, Refused};
use dashmap::DashMap;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::{
    HOST, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL, USER_AGENT,
};
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::board::Board;
use crate::broker::fernet::Keys;
use crate::engine::{Announced, EnginePort};
use crate::gateway::Gateway;
use crate::value::json_of;
use crate::websocket::Origins;
pub use dial::{Dial, DialError};
use gateways::GatewayNodes;
pub use gateways::HABITS;
pub use watch::{Key, Watch};

/// How many connections there may be, those of web clients and those of gateways together.
/// Limit for the node broker: a new one is closed.
const CONNECTIONS_MAX: usize = 10_000;
/// Largest message of a web client or of a gateway, in bytes.
/// Limit for each message: the connection is closed (1009).
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How much is written at once, in bytes.
const WRITE_BYTES: usize = 16 * 1024;
/// How long a web client or a gateway may take no byte, in milliseconds.
/// Limit for each connection: it is closed.
const STALL_MS_MAX: u64 = 30_000;
/// How long one who is closed may take for the last words to it, in milliseconds.
/// Limit for each connection that is closed: it is cut.
pub(crate) const GOODBYE_MS_MAX: u64 = 1_000;
/// How much of what such a one still sends is thrown away, in bytes.
/// Limit for each connection that is closed: it is cut.
const GOODBYE_BYTES_MAX: usize = 1024 * 1024;
/// Longest reason of a close, in bytes.
const CLOSE_REASON_BYTES: usize = 123;
/// The method by which a resource of a node is set.
const SET_METHOD: &str = "set";
/// Its number, for those who know methods by their numbers: that of a task which names none.
const SET_METHOD_CODE: i64 = 20;
/// As urgent as a task that does not say.
const SET_PRIORITY: i64 = 0;
/// The one subprotocol that is said in answer; the other is the token.
const TOKEN: &str = "token";
/// How gateways of Covey call themselves, which announce their nodes unasked.
pub(crate) const OUR_GATEWAY: &str = concat!("covey-gateway/", env!("CARGO_PKG_VERSION"));

/// What is needed to serve.
pub struct Parts {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The organisation whose nodes are shown.
    pub org: OrgId,
    /// How long a task lives that a web client's `update` becomes, in minutes.
    pub ttl_minutes: i64,
    /// Which pages may connect.
    pub origins: Origins,
    /// Those who may connect as gateways.
    pub realms: Vec<Realm>,
}

/// A key file, and the gateway that all who have it are together.
pub struct Realm {
    /// What they share.
    pub keys: Keys,
    /// Their gateway.
    pub gateway: Arc<Gateway<EnginePort>>,
    /// How they have announced their nodes: the same as its port's.
    pub announced: Announced,
}

/// Whoever hears of nodes at this server.
pub struct Audience {
    board: Arc<Board<Key>>,
    /// The web clients by their uids: the numbers under which they follow the board.
    clients: DashMap<Arc<str>, u64>,
}

impl Audience {
    /// One without nodes and clients.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { board: Arc::new(Board::new()), clients: DashMap::new() })
    }

    /// What is known of nodes.
    #[must_use]
    pub fn board(&self) -> &Arc<Board<Key>> {
        &self.board
    }

    /// A node has begun anew.
    pub fn reset(&self, node: &DeviceIdentity) {
        self.board.change().reset(&Key::of(node));
    }

    /// Whether web clients know already what a resource of a node is.
    fn knows(&self, uid: &str, resource: &str, json: &str) -> bool {
        let Some(key) = self.board.key_of(uid) else { return false };
        self.board.change().value(&key, resource).as_deref() == Some(json)
    }

    /// Passes on what a gateway has answered to one client, unless that client was told so already.
    fn answer(&self, dst: &str, uid: &str, resource: &str, json: &str) {
        let follower = self.clients.get(dst).map(|follower| *follower);
        let (Some(follower), Some(key)) = (follower, self.board.key_of(uid)) else { return };
        let mut change = self.board.change();
        if change.value(&key, resource).as_deref() != Some(json) {
            change.tell_one(follower, &key, |uid| messages::update(uid, resource, json, dst));
        }
    }
}

/// Who carries out what web clients set.
pub trait Wishes: Send + Sync + 'static {
    /// Sets a resource of a node to this JSON text. The future is polled first in the order in which it was made.
    fn set(&self, node: Key, resource: &str, json: &str) -> BoxFuture<'static, Result<(), CoreError>>;
}

/// The broker.
struct Broker {
    wishes: Box<dyn Wishes>,
    origins: Origins,
    audience: Arc<Audience>,
    realms: Vec<(Keys, Arc<GatewayNodes<EnginePort>>)>,
    stop: CancellationToken,
}

/// The broker with what it needs to run.
pub struct NodeBroker {
    broker: Arc<Broker>,
    engine: Arc<Engine>,
    org: OrgId,
    /// The gateways of the key files, and what follows the outbox.
    tasks: TaskTracker,
    /// Connections that came over the server's HTTP listeners.
    sockets: TaskTracker,
}

impl NodeBroker {
    /// One that runs until `stop`, and is heard nowhere yet.
    #[must_use]
    pub fn open(parts: Parts, audience: Arc<Audience>, stop: CancellationToken) -> Arc<Self> {
        let Parts { engine, org, ttl_minutes, origins, realms } = parts;
        let watch = Watch::new(Arc::clone(&engine), org, Arc::clone(&audience.board));
        let (tasks, uid): (_, Arc<str>) = (TaskTracker::new(), uuid::Uuid::new_v4().to_string().into());
        let realms = realms.into_iter().map(|Realm { keys, gateway, announced }| {
            let nodes = GatewayNodes::new(
                Arc::clone(&gateway),
                Arc::clone(&uid),
                announced,
                Arc::clone(&audience),
                &stop,
            );
            gateway.speak(&nodes);
            let stop = stop.clone();
            tasks.spawn(async move { gateway.run(stop).await });
            (keys, nodes)
        });
        let realms = realms.collect();
        let wishes = Tasks {
            engine: Arc::clone(&engine),
            writer: watch::caller(org, Rights::TASKS_WRITE),
            ttl_minutes,
        };
        let broker = Arc::new(Broker { wishes: Box::new(wishes), origins, realms, audience, stop });
        tasks.spawn(watch.run(broker.stop.clone()));
        Arc::new(Self { broker, engine, org, tasks, sockets: TaskTracker::new() })
    }

    /// Serves web clients and gateways on a listener, and waits until all is over.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, files: Option<Files>) {
        listen(Arc::clone(&self.broker), listener, files).await;
        self.tasks.close();
        self.sockets.close();
        tokio::join!(self.tasks.wait(), self.sockets.wait());
    }
}

/// Serves web clients alone, of an audience that somebody else tells, until `stop`.
pub async fn serve_clients(
    audience: Arc<Audience>,
    wishes: Box<dyn Wishes>,
    listener: TcpListener,
    stop: CancellationToken,
) {
    let broker = Broker { wishes, origins: Origins::default(), realms: Vec::new(), audience, stop };
    listen(Arc::new(broker), listener, None).await;
}

async fn listen(broker: Arc<Broker>, listener: TcpListener, files: Option<Files>) {
    let limits = listener::Limits { connections_max: CONNECTIONS_MAX, files, ..listener::Limits::default() };
    let stop = broker.stop.clone();
    listener::serve(listener, None, limits, Arc::new(Listener(broker)), stop).await;
}

/// What web clients set becomes a task, so it waits for a node that is away.
struct Tasks {
    engine: Arc<Engine>,
    writer: Caller,
    ttl_minutes: i64,
}

impl Wishes for Tasks {
    fn set(&self, node: Key, resource: &str, json: &str) -> BoxFuture<'static, Result<(), CoreError>> {
        let spec = TaskSpec {
            device: DeviceRef::Id(node.id),
            ext_task_id: String::new(),
            method_code: SET_METHOD_CODE,
            method: Some(SET_METHOD.to_owned()),
            priority: SET_PRIORITY,
            ttl_minutes: self.ttl_minutes,
            payload: Some(format!("{{{}:{json}}}", json_of(resource)).into()),
        };
        let (engine, writer, id) = (Arc::clone(&self.engine), self.writer.clone(), self.engine.task_id());
        Box::pin(async move { engine.for_caller(&writer).task_create(id, spec, None).await.map(drop) })
    }
}

struct Listener(Arc<Broker>);

/// Who has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Client,
    /// With which of the key files, and whether it is one of Covey's.
    Gateway {
        realm: usize,
        is_ours: bool,
    },
}

/// Why somebody may not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NotLetIn {
    status: StatusCode,
    why: &'static str,
}

impl listener::Protocol for Listener {
    async fn begin(&self, established: Established) -> Result<Option<Life>, Refused> {
        let Established { transport, early, address, .. } = established;
        transport.watch_for_death();
        let stream = ByteStream::new(transport, early);
        let mut peer = None;
        #[expect(clippy::result_large_err, reason = "it is what the library asks for")]
        let check = |request: &Request, mut response: Response| {
            let let_in = self.0.let_in(request);
            peer = Some(let_in);
            match let_in {
                Ok(Peer::Client) => Ok(response),
                Ok(Peer::Gateway { .. }) => {
                    // Browsers and Node fail without one of those that they offer.
                    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(TOKEN));
                    Ok(response)
                }
                Err(NotLetIn { status, why }) => {
                    let mut refused = ErrorResponse::new(Some(format!("{why}\n")));
                    *refused.status_mut() = status;
                    Err(refused)
                }
            }
        };
        let upgraded = accept_hdr_async_with_config(stream, check, Some(config())).await;
        let socket = match (upgraded, peer) {
            (Ok(socket), Some(Ok(peer))) => (socket, peer),
            (_, Some(Err(NotLetIn { why, .. }))) => return Err(Refused::Protocol(why.to_owned())),
            (Err(error), _) => return Err(Refused::Protocol(format!("no WebSocket handshake: {error}"))),
            (Ok(_), None) => return Ok(None),
        };
        let broker = Arc::clone(&self.0);
        Ok(Some(match socket {
            (socket, Peer::Client) => {
                // Nobody's key is asked for here.
                let never = CancellationToken::new();
                Box::pin(clients::connection(broker, socket, address, never))
            }
            (socket, Peer::Gateway { realm, is_ours }) => {
                let Some((_, nodes)) = broker.realms.get(realm) else { return Ok(None) };
                let nodes = Arc::clone(nodes);
                Box::pin(async move { nodes.connection(socket, address, is_ours).await })
            }
        }))
    }

    fn refused(&self, refusal: Refusal) {
        let Refusal { address, why, count } = refusal;
        tracing::warn!(address = %address.ip(), count, "connection to the node broker refused: {why}");
    }

    fn shutdown(&self) {
        self.0.stop.cancel();
    }
}

/// How a WebSocket of the broker is set up.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .read_buffer_size(4 * 1024)
        .write_buffer_size(WRITE_BYTES)
        .max_write_buffer_size(4 * board::WAITING_BYTES_MAX)
}

impl Broker {
    /// Decides who is let in, before the upgrade.
    fn let_in(&self, request: &Request) -> Result<Peer, NotLetIn> {
        self.let_in_at(request.uri().path(), request.headers())
    }

    fn let_in_at(&self, path: &str, headers: &HeaderMap) -> Result<Peer, NotLetIn> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
        if !self.origins.allow(text(ORIGIN), text(HOST)) {
            return Err(NotLetIn {
                status: StatusCode::FORBIDDEN,
                why: "pages of this origin may not connect",
            });
        }
        match path {
            "/ws" => Ok(Peer::Client),
            "/gw" => {
                let realm = token(headers)
                    .and_then(|token| self.realms.iter().position(|(keys, _)| keys.open(token)));
                let why = "a gateway must show a token that was made with the key file of this broker";
                let realm = realm.ok_or(NotLetIn { status: StatusCode::UNAUTHORIZED, why })?;
                Ok(Peer::Gateway { realm, is_ours: text(USER_AGENT) == Some(OUR_GATEWAY) })
            }
            _ => Err(NotLetIn {
                status: StatusCode::NOT_FOUND,
                why: "web clients connect to /ws, gateways to /gw",
            }),
        }
    }
}

/// The token that a gateway offers as its second subprotocol, if these are the two of the protocol.
fn token(headers: &HeaderMap) -> Option<&str> {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().map(HeaderValue::to_str);
    let offered: Vec<&str> = offered.collect::<Result<Vec<_>, _>>().ok()?;
    let mut offered = offered.iter().flat_map(|offered| offered.split(',')).map(str::trim);
    match (offered.next(), offered.next(), offered.next()) {
        (Some(TOKEN), Some(token), None) => Some(token),
        _ => None,
    }
}

/// Sends messages in as few writes as there can be. Answers whether that was done in time. One who stops waiting for it may
/// send something else: no message is cut in the middle, and those that were not begun are left out.
pub(crate) async fn send_all<S>(
    socket: &mut WebSocketStream<S>,
    messages: impl Iterator<Item = Message>,
) -> bool
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    send_within(socket, Duration::from_millis(STALL_MS_MAX), messages).await
}

/// Sends the last message before a connection is closed. Answers whether that was done in time.
pub(crate) async fn send_last<S>(socket: &mut WebSocketStream<S>, message: Message) -> bool
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    send_within(socket, Duration::from_millis(GOODBYE_MS_MAX), std::iter::once(message)).await
}

async fn send_within<S>(
    socket: &mut WebSocketStream<S>,
    time: Duration,
    messages: impl Iterator<Item = Message>,
) -> bool
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    use futures_util::SinkExt;
    let sending = async {
        for message in messages {
            socket.feed(message).await?;
        }
        socket.flush().await
    };
    let sent: Result<Result<(), Error>, _> = tokio::time::timeout(time, sending).await;
    matches!(sent, Ok(Ok(())))
}

/// Answers the close that the other side has sent (RFC 6455 §5.5.1): the library has the answer ready, and sends it with the
/// next flush.
pub(crate) async fn answer_close<S>(socket: &mut WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    use futures_util::SinkExt;
    use tokio::io::AsyncWriteExt;
    let answering = async {
        if socket.flush().await.is_ok() {
            let _ = socket.get_mut().shutdown().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(GOODBYE_MS_MAX), answering).await;
}

/// Closes a connection, and reads what was on its way meanwhile: with that unread the close would be a reset, which may
/// overtake the reason.
pub(crate) async fn say_goodbye<S>(socket: &mut WebSocketStream<S>, code: CloseCode, reason: &str)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    use tokio::io::AsyncReadExt;
    let saying = async {
        // It is 123 bytes at most (RFC 6455 §5.5).
        let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES)];
        let frame = CloseFrame { code, reason: reason.into() };
        if socket.close(Some(frame)).await.is_err() {
            return;
        }
        let (mut unread, mut left) = ([0; 4 * 1024], GOODBYE_BYTES_MAX);
        while let Ok(count @ 1..) = socket.get_mut().read(&mut unread).await
            && left > 0
        {
            left = left.saturating_sub(count);
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(GOODBYE_MS_MAX), saying).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_second_of_two_subprotocols() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value));
            }
            token(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(of(&["token, abc"]).as_deref(), Some("abc"));
        assert_eq!(of(&["token", "abc"]).as_deref(), Some("abc"));
        for bad in
            [&[][..], &["token"], &["abc, token"], &["token, abc, def"], &["mqtt, abc"], &["token abc"]]
        {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }
}
