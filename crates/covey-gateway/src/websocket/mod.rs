//! WebSocket nodes: each connection is a node, which is new when the socket opens and out the moment it closes. It has a
//! uid of its own each time, unless it reports an `id` or a `name`.

mod http;
mod origin;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use covey_net::listener::{self, Established, Life};
use covey_net::{ByteStream, Files, Refusal, Refused};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::{HOST, ORIGIN};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::{Gateway, Protocol};
use crate::node::{Answer, Confirmation, Gone, Habits, Heard};
use crate::port::Port;
use crate::value::{json_of, text_of};
pub use origin::Origins;

/// What a node is asked when its socket opens: clients compare it letter by letter.
const DISCOVER: &str = r#"{"request": "discover"}"#;
/// How long it is waited for a name before a node joins without one, in milliseconds.
/// Limit for each node: it joins as a passing one.
const NAME_MS_MAX: u64 = 2_000;
/// How long a node may take to say what a value is that was written, in milliseconds.
const CONFIRM_MS: u64 = 5_000;
/// How many connections of nodes there may be.
/// Limit for the listener: a new one is closed.
const CONNECTIONS_MAX: usize = 20_000;
/// Largest message of a node, in bytes.
/// Limit for each message: the connection is closed (1009).
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How many resources a node may report at once.
/// Limit for each message: the connection is closed (1008).
const RESOURCES_MAX: usize = 256;
/// How many messages wait for a node.
/// Limit for each connection: it is closed.
const OUTGOING_MAX: usize = 64;
/// How long a node may take no byte, in milliseconds.
/// Limit for each connection: it is closed.
const STALL_MS_MAX: u64 = 10_000;
/// How long a node is not read that says more than it may, in milliseconds.
const TOO_MUCH_MS: u64 = 500;
/// Longest name that a node gives itself, in bytes.
/// Limit for each node: with a longer one it is a passing one.
const NAME_BYTES_MAX: usize = 128;

/// How WebSocket nodes behave.
pub const HABITS: Habits = Habits {
    silence_ms_max: None,
    confirmation: Confirmation::Report { ms_max: CONFIRM_MS },
    reports_are_life: true,
    together_ms: 0,
};

/// The gateway of WebSocket nodes.
pub struct WebSocketNodes<P: Port> {
    gateway: Arc<Gateway<P>>,
    origins: Origins,
    /// The sockets of the nodes that are here.
    by_uid: DashMap<Arc<str>, Socket>,
    /// Those that came over the server's HTTP listeners.
    sockets: TaskTracker,
    stop: CancellationToken,
}

struct Socket {
    outgoing: mpsc::Sender<Message>,
    cut: Cut,
    is_passing: bool,
}

/// What cuts a connection off; the end of the server does, too.
#[derive(Clone)]
struct Cut {
    token: CancellationToken,
    is_revoked: Arc<AtomicBool>,
}

impl Cut {
    /// The node does not take what waits for it.
    fn stalled(&self) {
        self.token.cancel();
    }

    /// The node may no longer take part.
    fn revoked(&self) {
        self.is_revoked.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Why the connection is cut off.
    fn why(&self, is_stopping: bool) -> Closed {
        if self.is_revoked.load(Ordering::Acquire) {
            let reason = "the node may not take part now";
            Closed { code: CloseCode::Policy, reason, why: Gone::Revoked }
        } else if is_stopping {
            Closed { code: CloseCode::Restart, reason: "the gateway ends", why: Gone::Stopped }
        } else {
            Closed::at_fault(CloseCode::Policy, "it does not take what waits for it")
        }
    }
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl<P: Port> WebSocketNodes<P> {
    /// One that runs until `stop`, and is heard nowhere yet.
    #[must_use]
    pub fn open(gateway: Arc<Gateway<P>>, origins: Origins, stop: CancellationToken) -> Arc<Self> {
        let (sockets, tasks) = (DashMap::new(), TaskTracker::new());
        let nodes = Arc::new(Self { gateway, origins, by_uid: sockets, sockets: tasks, stop });
        nodes.gateway.speak(&nodes);
        nodes
    }

    /// Serves nodes on a listener, and waits until all is over.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, files: Option<Files>) {
        let limits =
            listener::Limits { connections_max: CONNECTIONS_MAX, files, ..listener::Limits::default() };
        let (gateway, stop) = (Arc::clone(&self.gateway), self.stop.clone());
        let serving =
            listener::serve(listener, None, limits, Arc::new(Listener(Arc::clone(&self))), stop.clone());
        tokio::join!(serving, gateway.run(stop));
        self.sockets.close();
        self.sockets.wait().await;
    }
}

struct Listener<P: Port>(Arc<WebSocketNodes<P>>);

impl<P: Port> listener::Protocol for Listener<P> {
    async fn begin(&self, established: Established) -> Result<Option<Life>, Refused> {
        let Established { transport, early, address, .. } = established;
        transport.watch_for_death();
        let stream = ByteStream::new(transport, early);
        let socket = match upgrade(stream, &self.0.origins).await {
            Ok(socket) => socket,
            Err(Error::Http(_)) => {
                return Err(Refused::Protocol("the WebSocket handshake was refused".to_owned()));
            }
            Err(error) => return Err(Refused::Protocol(format!("no WebSocket handshake: {error}"))),
        };
        let nodes = Arc::clone(&self.0);
        Ok(Some(Box::pin(async move { nodes.connection(socket, address).await })))
    }

    fn refused(&self, refusal: Refusal) {
        let Refusal { address, why, count } = refusal;
        tracing::warn!(address = %address.ip(), count, "connection of a node refused: {why}");
    }

    fn shutdown(&self) {
        self.0.stop.cancel();
    }
}

#[expect(clippy::result_large_err, reason = "a refusal is what the library says that it is")]
async fn upgrade(stream: ByteStream, origins: &Origins) -> Result<WebSocketStream<ByteStream>, Error> {
    let check = |request: &Request, response: Response| {
        let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
        if origins.allow(text(ORIGIN), text(HOST)) {
            return Ok(response);
        }
        let mut refused = ErrorResponse::new(Some("pages of this origin may not connect\n".to_owned()));
        *refused.status_mut() = StatusCode::FORBIDDEN;
        Err(refused)
    };
    accept_hdr_async_with_config(stream, check, Some(config())).await
}

/// How a WebSocket of a node is set up.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MESSAGE_BYTES_MAX)
}

/// Why a connection is closed by the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Closed {
    code: CloseCode,
    reason: &'static str,
    /// As which the node is gone.
    why: Gone,
}

impl Closed {
    /// The other end does not do what it must.
    const fn at_fault(code: CloseCode, reason: &'static str) -> Self {
        Self { code, reason, why: Gone::Lost }
    }
}

impl<P: Port> WebSocketNodes<P> {
    async fn connection<S>(&self, mut socket: WebSocketStream<S>, address: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let ip = address.ip().to_canonical();
        let cut = Cut { token: self.stop.child_token(), is_revoked: Arc::default() };
        let mut node = Connected { nodes: self, ip, uid: None, cut: cut.clone() };
        let (sender, mut outgoing) = mpsc::channel(OUTGOING_MAX);
        let asked = timeout(Duration::from_millis(STALL_MS_MAX), socket.send(Message::text(DISCOVER))).await;
        if !matches!(asked, Ok(Ok(()))) {
            return;
        }
        let named_by = Instant::now() + Duration::from_millis(NAME_MS_MAX);
        let closed = loop {
            let is_named = node.uid.is_some();
            tokio::select! {
                biased;
                () = cut.token.cancelled() => break Some(cut.why(self.stop.is_cancelled())),
                Some(message) = outgoing.recv() => {
                    let sent = timeout(Duration::from_millis(STALL_MS_MAX), socket.send(message)).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        break None;
                    }
                }
                _ = timeout_at(named_by, std::future::pending::<()>()), if !is_named => node.join(None, &sender),
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        if let Err(closed) = node.hear(text.as_bytes(), &sender).await {
                            break Some(closed);
                        }
                    }
                    Some(Ok(Message::Binary(_))) => {
                        break Some(Closed::at_fault(CloseCode::Unsupported, "not a text message"));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(Error::Capacity(_))) => {
                        break Some(Closed::at_fault(CloseCode::Size, "a message has at most 64 KiB"));
                    }
                    Some(Err(_)) | None => break None,
                }
            }
        };
        node.leave(closed.map_or(Gone::Lost, |closed| closed.why));
        if let Some(Closed { code, reason, .. }) = closed {
            tracing::warn!(address = %address.ip(), code = u16::from(code), "connection of a node closed: {reason}");
            let frame = CloseFrame { code, reason: reason.into() };
            let _ = timeout(Duration::from_millis(STALL_MS_MAX), socket.close(Some(frame))).await;
        }
    }

    fn send(&self, uid: &str, text: String) -> bool {
        let Some(socket) = self.by_uid.get(uid) else { return false };
        let is_sent = socket.outgoing.try_send(Message::text(text)).is_ok();
        if !is_sent {
            // It does not take what waits for it.
            socket.cut.stalled();
        }
        is_sent
    }
}

/// A node that is connected.
struct Connected<'a, P: Port> {
    nodes: &'a WebSocketNodes<P>,
    ip: IpAddr,
    /// Under which it has joined.
    uid: Option<Arc<str>>,
    cut: Cut,
}

impl<P: Port> Connected<'_, P> {
    /// Takes a message of the node.
    async fn hear(&mut self, text: &[u8], outgoing: &mpsc::Sender<Message>) -> Result<(), Closed> {
        let unsupported = |reason| Closed::at_fault(CloseCode::Unsupported, reason);
        let said: Said<'_> =
            serde_json::from_slice(text).map_err(|_| unsupported("not a JSON object with a type"))?;
        match &*said.kind {
            "update" => {}
            "new" | "out" | "reset" => return Ok(()),
            _ => return Err(unsupported("the type is not update, new, out or reset")),
        }
        let data = said.data.ok_or_else(|| unsupported("an update has no data"))?;
        let data: BTreeMap<String, &RawValue> = serde_json::from_str(data.get())
            .map_err(|_| unsupported("the data of an update is no object"))?;
        if data.len() > RESOURCES_MAX {
            return Err(Closed::at_fault(CloseCode::Policy, "an update has at most 256 resources"));
        }
        let name = ["id", "name"].into_iter().find_map(|name| name_of(data.get(name)?));
        self.join(name.as_deref(), outgoing);
        let Some(uid) = &self.uid else { return Ok(()) };
        let gateway = &self.nodes.gateway;
        let begin =
            |(resource, value): (String, &RawValue)| gateway.begin_saying(uid, &resource, value.get().into());
        let heard: Vec<_> = data.into_iter().map(begin).collect();
        // Nothing more is read until this is stored.
        let mut is_too_much = false;
        for one in heard {
            is_too_much |= one.await.is_ok_and(|heard| heard == Heard::Later);
        }
        if is_too_much {
            sleep(Duration::from_millis(TOO_MUCH_MS)).await;
        }
        Ok(())
    }

    /// The node joins, if it has not; under its name, if it has one that is free.
    fn join(&mut self, name: Option<&str>, outgoing: &mpsc::Sender<Message>) {
        let is_passing = |uid: &Arc<str>| self.nodes.by_uid.get(uid).is_some_and(|socket| socket.is_passing);
        match &self.uid {
            Some(uid) if name.is_none() || !is_passing(uid) => return,
            _ => {}
        }
        let named = name.and_then(|name| self.enter(Arc::from(name), false, outgoing));
        let uid = match (named, &self.uid) {
            (Some(uid), _) => uid,
            (None, Some(_)) => return,
            (None, None) => {
                let uid = Arc::from(uuid::Uuid::new_v4().to_string());
                let Some(uid) = self.enter(uid, true, outgoing) else { return };
                uid
            }
        };
        if self.uid.is_some() {
            // Known by its name from now on, it says again what it has.
            self.leave(Gone::Clean);
            let _ = outgoing.try_send(Message::text(DISCOVER));
        }
        self.nodes.gateway.seen(&uid, &self.ip.to_string());
        self.nodes.gateway.said(&uid, "protocol", json_of("WebSocket"));
        self.uid = Some(uid);
    }

    /// Takes a uid that no other socket has.
    fn enter(&self, uid: Arc<str>, is_passing: bool, outgoing: &mpsc::Sender<Message>) -> Option<Arc<str>> {
        let socket = Socket { outgoing: outgoing.clone(), cut: self.cut.clone(), is_passing };
        match self.nodes.by_uid.entry(Arc::clone(&uid)) {
            Entry::Vacant(free) => drop(free.insert(socket)),
            Entry::Occupied(_) => {
                tracing::warn!(address = %self.ip, %uid, "a node has the name of another that is connected");
                return None;
            }
        }
        Some(uid)
    }

    fn leave(&mut self, why: Gone) {
        if let Some(uid) = self.uid.take() {
            self.nodes.gateway.gone(&uid, why);
            self.nodes.by_uid.remove(&uid);
        }
    }
}

/// A name that a node gives itself.
fn name_of(value: &RawValue) -> Option<String> {
    let name = text_of(value.get());
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    let is_scalar = !value.get().starts_with(['{', '[']) && !matches!(value.get(), "null" | "true" | "false");
    (is_name && is_scalar).then(|| name.into_owned())
}

impl<P: Port> Protocol for WebSocketNodes<P> {
    fn discover(&self, uid: &Arc<str>, is_missed: bool) {
        // It was asked when its socket opened.
        if is_missed {
            self.send(uid, DISCOVER.to_owned());
        }
    }

    fn set(&self, uid: &Arc<str>, number: u64, resource: &str, value: &Arc<str>) {
        let resource = json_of(resource);
        self.gateway.sent(uid, number);
        if !self.send(uid, format!(r#"{{"endpoint": {resource}, "payload": {value}}}"#)) {
            self.gateway.written(uid, number, Answer::None);
        }
    }

    fn forget(&self, _: &Arc<str>) {
        // It is forgotten when its socket ends.
    }

    fn close(&self, uid: &Arc<str>) {
        if let Some(socket) = self.by_uid.get(uid) {
            socket.cut.revoked();
        }
    }

    fn is_passing(&self, uid: &Arc<str>) -> bool {
        self.by_uid.get(uid).is_some_and(|socket| socket.is_passing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_revoked_alone_if_it_may_no_longer_take_part() {
        let cut = || Cut { token: CancellationToken::new(), is_revoked: Arc::default() };
        let (ends, stalled, revoked) = (cut(), cut(), cut());
        stalled.stalled();
        revoked.revoked();
        assert!(stalled.token.is_cancelled() && revoked.token.is_cancelled());
        assert_eq!((ends.why(true).why, ends.why(true).code), (Gone::Stopped, CloseCode::Restart));
        assert_eq!((stalled.why(false).why, stalled.why(false).code), (Gone::Lost, CloseCode::Policy));
        for is_stopping in [false, true] {
            assert_eq!(revoked.why(is_stopping).why, Gone::Revoked);
        }
    }
}
