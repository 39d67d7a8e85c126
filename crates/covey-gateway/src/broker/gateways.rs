//! `/gw`: gateways that are programs of their own. All that share a key file are one gateway to the engine; each node
//! belongs to the socket that announced it.
//!
//! A gateway says of a node what web clients are to hear: a uid, and values. A uid that is new each time the node appears
//! (a UUID4, of MQTT and WebSocket nodes) would make a new device each time. So such a node is known by the `id` that it
//! says, or the `name` of a WebSocket node, where it says one at once; web clients know it by the uid that was announced.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use covey_core::twin;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use crate::broker::messages::{self, FromGateway, NoMessage, UID_BYTES_MAX, from_gateway};
use crate::broker::{Audience, say_goodbye, send_all};
use crate::engine::Announced;
use crate::gateway::{Gateway, Protocol};
use crate::node::{
    Answer, Confirmation, Gone, Habits, Heard, Seen, VALUES_WAITING_BYTES_MAX, VALUES_WAITING_MAX,
};
use crate::port::Port;
use crate::value::text_of;

/// How many nodes a gateway may announce.
/// Limit for each connection of a gateway: what is said of a further one is dropped, and logged.
const NODES_MAX: usize = 20_000;
/// How many values of a gateway may be on their way into the store: as many as may wait of one node, so that none is lost.
/// Limit for each connection of a gateway: it is not read until one is there.
const HEARINGS_MAX: usize = VALUES_WAITING_MAX;
/// How many bytes they may take.
/// Limit for each connection of a gateway: it is not read until one is there.
const HEARING_BYTES_MAX: usize = VALUES_WAITING_BYTES_MAX / 2;
/// How many messages wait for a gateway.
/// Limit for each connection of a gateway: it is closed.
const OUTGOING_MAX: usize = 1_024;
/// How many messages are sent to a gateway in one write.
/// Limit for each write: the rest follows at once.
const WRITTEN_MAX: usize = 256;
/// How long it is waited for a node's name that has a new uid each time, in milliseconds.
/// Limit for each node: it joins without a name.
const NAME_MS_MAX: u64 = 250;
/// How many values of such a node are kept meanwhile.
/// Limit for each node: what follows is dropped, and logged.
const UNNAMED_VALUES_MAX: usize = 256;
/// How many bytes they may take.
/// Limit for each node: what follows is dropped, and logged.
const UNNAMED_BYTES_MAX: usize = 64 * 1024;
/// How long a gateway may take to say what a value is that was written, in milliseconds.
const CONFIRM_MS: u64 = 5_000;
/// How often a gateway is asked for all of its nodes by the broker itself, in milliseconds, at most.
const ASK_MS: u64 = 1_000;
/// How many web clients' questions are passed on to a gateway in a second.
/// Limit for each connection of a gateway: the client is told what the broker knows, as any is.
const ASKED_MAX: u32 = 10;
/// How long what is for one web client waits, in milliseconds: the same may be on its way through the store to all.
const ANSWER_MS: u64 = 100;
/// How much may wait so.
/// Limit for each connection of a gateway: what follows is dropped, and logged.
const ANSWERS_MAX: usize = 1_024;
/// After how long a silence a gateway gives up a node to another that announces it, in milliseconds: two signs of life are
/// missing.
const SILENT_MS: u64 = 65_000;

/// How nodes behave for which a program of its own speaks.
pub const HABITS: Habits = Habits {
    silence_ms_max: None,
    confirmation: Confirmation::Report { ms_max: CONFIRM_MS },
    reports_are_life: true,
    together_ms: 0,
};

/// The nodes of all who share a key file.
pub(super) struct GatewayNodes<P: Port> {
    gateway: Arc<Gateway<P>>,
    /// As which the broker itself is a client.
    uid: Arc<str>,
    announced: Announced,
    audience: Arc<Audience>,
    nodes: DashMap<Arc<str>, Held>,
    sockets: Mutex<HashMap<u64, Arc<Socket>>>,
    last_socket: AtomicU64,
    began: Instant,
    stop: CancellationToken,
}

/// A node that is here.
#[derive(Clone)]
struct Held {
    socket: Arc<Socket>,
    announced: Arc<str>,
    is_passing: bool,
}

/// A gateway's connection, as others see it.
struct Socket {
    number: u64,
    outgoing: mpsc::Sender<Message>,
    cut: CancellationToken,
    /// Whether it announces all of its nodes unasked, and need not be asked.
    is_ours: bool,
    heard_ms: AtomicU64,
    /// Since when questions of web clients are counted, and how many there were.
    asked: Mutex<(Option<Instant>, u32)>,
    /// Nodes of which something was not heard.
    missed: Mutex<HashSet<Arc<str>>>,
    miss: Notify,
}

impl Socket {
    fn send(&self, message: String) -> bool {
        let is_sent = self.outgoing.try_send(Message::text(message)).is_ok();
        if !is_sent {
            // It does not take what waits for it.
            self.cut.cancel();
        }
        is_sent
    }

    /// Whether one more question of a web client is passed on.
    fn may_ask(&self) -> bool {
        let mut asked = locked(&self.asked);
        let now = Instant::now();
        if asked.0.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            *asked = (Some(now), 0);
        }
        asked.1 += 1;
        asked.1 <= ASKED_MAX
    }
}

/// What such a mutex guards is whole at every moment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P: Port> GatewayNodes<P> {
    pub(super) fn new(
        gateway: Arc<Gateway<P>>,
        uid: Arc<str>,
        announced: Announced,
        audience: Arc<Audience>,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            gateway,
            uid,
            announced,
            audience,
            nodes: DashMap::new(),
            sockets: Mutex::default(),
            last_socket: AtomicU64::new(0),
            began: Instant::now(),
            stop: stop.child_token(),
        })
    }

    /// A web client wants to know all nodes: gateways are asked as in the field, and may answer to it alone.
    pub(super) fn ask(&self, client: &str) {
        for socket in locked(&self.sockets).values().filter(|socket| !socket.is_ours && socket.may_ask()) {
            socket.send(messages::ask(client));
        }
    }

    /// A gateway, from its first message to its last.
    pub(super) async fn connection<S>(
        &self,
        mut stream: WebSocketStream<S>,
        address: SocketAddr,
        is_ours: bool,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (sender, mut outgoing) = mpsc::channel(OUTGOING_MAX);
        let socket = Arc::new(Socket {
            number: self.last_socket.fetch_add(1, Ordering::Relaxed),
            outgoing: sender,
            cut: self.stop.child_token(),
            is_ours,
            heard_ms: AtomicU64::new(self.now_ms()),
            asked: Mutex::default(),
            missed: Mutex::default(),
            miss: Notify::new(),
        });
        locked(&self.sockets).insert(socket.number, Arc::clone(&socket));
        tracing::info!(address = %address.ip(), "a gateway has connected to the node broker");
        let mut connected = Connected {
            nodes: self,
            socket: Arc::clone(&socket),
            ip: address.ip().to_canonical().to_string(),
            known: HashMap::new(),
            unnamed: VecDeque::new(),
            hearings: FuturesUnordered::new(),
            hearing_bytes: 0,
            answering: HashSet::new(),
            answers: VecDeque::new(),
        };
        let (mut ask_at, mut asked_at): (Option<Instant>, Option<Instant>) = (None, None);
        let closed = loop {
            let (name_by, ask) = (connected.unnamed.front().map(|(by, _)| *by), ask_at);
            let answer_at = connected.answers.front().map(|(at, _)| *at);
            tokio::select! {
                () = socket.cut.cancelled() => {
                    let is_end = self.stop.is_cancelled();
                    break is_end.then_some((CloseCode::Restart, "the broker ends"));
                }
                Some(message) = outgoing.recv() => {
                    let mut messages = vec![message];
                    while messages.len() < WRITTEN_MAX && let Ok(message) = outgoing.try_recv() {
                        messages.push(message);
                    }
                    let sent = tokio::select! {
                        biased;
                        sent = send_all(&mut stream, messages.into_iter()) => sent,
                        // What it has not taken is not waited for.
                        () = socket.cut.cancelled() => continue,
                    };
                    if !sent {
                        break None;
                    }
                }
                () = until(name_by) => connected.name_due(Instant::now()),
                () = until(answer_at) => connected.answer_due(Instant::now()),
                () = socket.miss.notified(), if ask_at.is_none() => {
                    let soonest = asked_at.map(|at| at + Duration::from_millis(ASK_MS));
                    ask_at = Some(soonest.unwrap_or_else(Instant::now));
                }
                () = until(ask) => {
                    (ask_at, asked_at) = (None, Some(Instant::now()));
                    connected.answering.extend(locked(&socket.missed).drain());
                    socket.send(messages::ask(&self.uid));
                }
                Some((heard, bytes)) = connected.hearings.next(), if !connected.hearings.is_empty() => {
                    connected.hearing_bytes -= bytes;
                    if heard != Heard::Done {
                        tracing::warn!(address = %address.ip(), "a value that a gateway told was not stored");
                    }
                }
                message = stream.next(), if connected.may_hear() => match message {
                    Some(Ok(Message::Text(text))) => connected.hear(&text),
                    Some(Ok(Message::Binary(_))) => break Some((CloseCode::Unsupported, "not a text message")),
                    Some(Ok(_)) => {}
                    Some(Err(Error::Capacity(_))) => break Some((CloseCode::Size, "a message has at most 64 KiB")),
                    Some(Err(_)) | None => break None,
                }
            }
        };
        locked(&self.sockets).remove(&socket.number);
        connected.leave(if closed.is_some() { Gone::Stopped } else { Gone::Lost });
        match closed {
            Some((code, reason)) => {
                tracing::warn!(address = %address.ip(), code = u16::from(code), "the connection of a gateway is closed: {reason}");
                say_goodbye(&mut stream, code, reason).await;
            }
            None => tracing::info!(address = %address.ip(), "a gateway has left the node broker"),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A node that a gateway has announced.
enum Known {
    /// It has no name yet that stays.
    Unnamed { values: Vec<(String, Arc<str>)>, bytes: usize },
    /// It is this node.
    Named(Arc<str>),
    /// Another connection has announced it.
    Foreign,
}

/// What a node is to be known by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    uid: String,
    is_passing: bool,
}

/// A connection of a gateway.
struct Connected<'a, P: Port> {
    nodes: &'a GatewayNodes<P>,
    socket: Arc<Socket>,
    ip: String,
    known: HashMap<Arc<str>, Known>,
    /// Those without a name, and by when they are to have one.
    unnamed: VecDeque<(Instant, Arc<str>)>,
    /// Values on their way into the store, with their bytes.
    hearings: FuturesUnordered<BoxFuture<'static, (Heard, usize)>>,
    hearing_bytes: usize,
    /// Those whose values are heard although they are told to the broker alone.
    answering: HashSet<Arc<str>>,
    /// What is for one web client, and when it is passed on.
    answers: VecDeque<(Instant, ToOne)>,
}

/// What a gateway answers to one web client.
struct ToOne {
    dst: String,
    uid: String,
    resource: String,
    json: Arc<str>,
}

impl<P: Port> Connected<'_, P> {
    fn hear(&mut self, message: &str) {
        self.socket.heard_ms.store(self.nodes.now_ms(), Ordering::Relaxed);
        match from_gateway(message) {
            Ok(FromGateway::Alive) => {}
            Ok(FromGateway::New { uid, .. }) => self.announce(&uid),
            Ok(FromGateway::Update { uid, endpoint, data, dst }) => {
                self.update(&uid, endpoint, data, dst.as_deref())
            }
            Ok(FromGateway::Reset { uid }) => match self.known.get_mut(&*uid) {
                Some(Known::Named(node)) => self.nodes.gateway.reset(node),
                Some(Known::Unnamed { values, bytes }) => (*values, *bytes) = (Vec::new(), 0),
                Some(Known::Foreign) | None => {}
            },
            Ok(FromGateway::Out { uid }) => {
                if let Some(Known::Named(node)) = self.known.remove(&*uid) {
                    self.release(&node, Gone::Clean);
                }
            }
            // One node whose value is no JSON must not cut off the others.
            Err(NoMessage(why)) => self.dropped(why),
        }
    }

    fn dropped(&self, why: &str) {
        tracing::warn!(address = %self.ip, "a message of a gateway is dropped: {why}");
    }

    /// A gateway says that a node is there.
    fn announce(&mut self, uid: &str) {
        match self.known.get(uid) {
            Some(Known::Named(node)) => {
                self.nodes.gateway.seen(node, &self.ip);
                return;
            }
            Some(Known::Unnamed { .. }) => return,
            Some(Known::Foreign) => {}
            None if self.known.len() >= NODES_MAX => {
                return self.dropped("it has announced as many nodes as it may");
            }
            None => {}
        }
        let uid: Arc<str> = Arc::from(uid);
        if uuid::Uuid::parse_str(&uid).is_ok_and(|uuid| uuid.get_version_num() == 4) {
            let by = Instant::now() + Duration::from_millis(NAME_MS_MAX);
            self.unnamed.push_back((by, Arc::clone(&uid)));
            self.known.insert(uid, Known::Unnamed { values: Vec::new(), bytes: 0 });
        } else {
            self.enter(&uid, Name { uid: uid.as_ref().to_owned(), is_passing: false }, Vec::new());
        }
    }

    /// A gateway says what a resource of a node is.
    fn update(&mut self, uid: &str, resource: String, json: Arc<str>, dst: Option<&str>) {
        if let Err(error) = twin::validate(&resource, &json) {
            return self.dropped(&error.to_string());
        }
        match self.known.get_mut(uid) {
            None => self.dropped("it is about a node that it has not announced"),
            Some(Known::Unnamed { values, bytes }) => {
                let more = *bytes + resource.len() + json.len();
                if values.len() >= UNNAMED_VALUES_MAX || more > UNNAMED_BYTES_MAX {
                    return self.dropped("too much was said of a node before it had a name");
                }
                values.push((resource, json));
                *bytes = more;
                let name = name_of(uid, values, false);
                if let Some(name) = name {
                    self.named(uid, name);
                }
            }
            Some(Known::Foreign) => {
                // Whoever had it may be gone meanwhile.
                self.announce(uid);
                if let Some(Known::Named(node)) = self.known.get(uid) {
                    locked(&self.socket.missed).insert(Arc::clone(node));
                    self.socket.miss.notify_one();
                }
            }
            Some(Known::Named(node)) => {
                let node = Arc::clone(node);
                match dst {
                    None => self.say(&node, &resource, json),
                    Some(dst) if *dst == *self.nodes.uid => {
                        if self.answering.contains(&node) {
                            self.say(&node, &resource, json);
                        }
                    }
                    Some(dst) if self.nodes.audience.knows(uid, &resource, &json) => {
                        // It was told so when it asked.
                        tracing::trace!(dst, "an answer says nothing new");
                    }
                    Some(dst) if self.answers.len() < ANSWERS_MAX => {
                        let (dst, uid) = (dst.to_owned(), uid.to_owned());
                        let at = Instant::now() + Duration::from_millis(ANSWER_MS);
                        self.answers.push_back((at, ToOne { dst, uid, resource, json }));
                    }
                    Some(_) => self.dropped("too many answers for one client are on their way"),
                }
            }
        }
    }

    fn say(&mut self, node: &Arc<str>, resource: &str, json: Arc<str>) {
        // One that might not join may now.
        self.nodes.gateway.seen(node, &self.ip);
        self.begin_saying(node, resource, json);
    }

    fn begin_saying(&mut self, node: &Arc<str>, resource: &str, json: Arc<str>) {
        let bytes = resource.len() + json.len();
        let heard = self.nodes.gateway.begin_saying(node, resource, json);
        self.hearing_bytes += bytes;
        self.hearings.push(Box::pin(async move { (heard.await.unwrap_or(Heard::Later), bytes) }));
    }

    fn may_hear(&self) -> bool {
        self.hearings.len() < HEARINGS_MAX && self.hearing_bytes < HEARING_BYTES_MAX
    }

    /// Gives their names to those who have waited for one long enough.
    fn name_due(&mut self, now: Instant) {
        while let Some((_, uid)) = self.unnamed.pop_front_if(|(by, _)| *by <= now) {
            if let Some(Known::Unnamed { values, .. }) = self.known.get(&uid)
                && let Some(name) = name_of(&uid, values, true)
            {
                self.named(&uid, name);
            }
        }
    }

    /// Passes on what is for one web client.
    fn answer_due(&mut self, now: Instant) {
        while let Some((_, ToOne { dst, uid, resource, json })) =
            self.answers.pop_front_if(|(at, _)| *at <= now)
        {
            self.nodes.audience.answer(&dst, &uid, &resource, &json);
        }
    }

    fn named(&mut self, uid: &str, name: Name) {
        let Some((uid, Known::Unnamed { values, .. })) = self.known.remove_entry(uid) else { return };
        self.enter(&uid, name, values);
    }

    /// A node joins under its name, or as passing one where another has that.
    fn enter(&mut self, uid: &Arc<str>, name: Name, values: Vec<(String, Arc<str>)>) {
        let mut node: Arc<str> = Arc::from(name.uid);
        let mut is_entered = self.take(&node, uid, name.is_passing);
        if !is_entered && *node != **uid {
            tracing::warn!(address = %self.ip, %uid, %node, "a node has the name of another that is here");
            node = Arc::clone(uid);
            is_entered = self.take(&node, uid, true);
        }
        if !is_entered {
            self.known.insert(Arc::clone(uid), Known::Foreign);
            return self.dropped("another connection has announced the node");
        }
        self.known.insert(Arc::clone(uid), Known::Named(Arc::clone(&node)));
        if self.nodes.gateway.seen(&node, &self.ip) == Seen::NoRoom {
            self.known.remove(uid);
            self.release(&node, Gone::Revoked);
            return self.dropped("there are as many nodes as there may be");
        }
        for (resource, json) in values {
            self.begin_saying(&node, &resource, json);
        }
    }

    /// Takes the name of a node that no other connection has, or one that is silent.
    fn take(&self, node: &Arc<str>, announced: &Arc<str>, is_passing: bool) -> bool {
        let nodes = self.nodes;
        let held = Held { socket: Arc::clone(&self.socket), announced: Arc::clone(announced), is_passing };
        {
            let is_taken = match nodes.nodes.entry(Arc::clone(node)) {
                Entry::Vacant(free) => {
                    free.insert(held);
                    true
                }
                Entry::Occupied(mut other) => {
                    let heard_ms = other.get().socket.heard_ms.load(Ordering::Relaxed);
                    let is_silent = nodes.now_ms().saturating_sub(heard_ms) > SILENT_MS;
                    let is_taken = is_silent && other.get().socket.number != self.socket.number;
                    if is_taken {
                        other.get().socket.cut.cancel();
                        other.insert(held);
                    }
                    is_taken
                }
            };
            if !is_taken {
                return false;
            }
        }
        nodes.announced.insert(Arc::clone(node), Arc::clone(announced));
        true
    }

    /// A node is gone, if it is still that of this connection.
    fn release(&self, node: &Arc<str>, why: Gone) {
        let nodes = self.nodes;
        let held = nodes.nodes.remove_if(node, |_, held| held.socket.number == self.socket.number);
        if held.is_some() {
            nodes.gateway.gone(node, why);
            nodes.announced.remove(node);
            locked(&self.socket.missed).remove(node);
        }
    }

    fn leave(mut self, why: Gone) {
        for known in std::mem::take(&mut self.known).into_values() {
            if let Known::Named(node) = known {
                self.release(&node, why);
            }
        }
    }
}

/// What a node with a new uid each time is to be known by, from what it has said; none if it may say more in time.
fn name_of(uid: &str, values: &[(String, Arc<str>)], is_due: bool) -> Option<Name> {
    let text = |wanted: &str| {
        let value = values.iter().rev().find(|(resource, _)| resource == wanted);
        value.map(|(_, json)| text_of(json).into_owned())
    };
    let is_name = |name: &String| {
        (1..=UID_BYTES_MAX).contains(&name.len())
            && !name.chars().any(char::is_control)
            && !name.starts_with(['{', '[', '@'])
            && !matches!(&**name, "null" | "true" | "false")
    };
    let (id, name) = (text("id").filter(is_name), text("name").filter(is_name));
    let as_announced = |is_passing| Some(Name { uid: uid.to_owned(), is_passing });
    let known_by = |uid| Name { uid, is_passing: false };
    match text("protocol").as_deref() {
        _ if text("ip").is_some() => as_announced(false),
        Some("CoAP") => as_announced(false),
        Some("MQTT") if id.is_some() => id.map(known_by),
        Some("WebSocket") if id.is_some() || name.is_some() => id.or(name).map(known_by),
        Some("MQTT" | "WebSocket") | None => match (is_due, id) {
            (true, Some(id)) => Some(known_by(id)),
            (true, None) => as_announced(true),
            (false, _) => None,
        },
        Some(_) => as_announced(false),
    }
}

impl<P: Port> Protocol for GatewayNodes<P> {
    fn discover(&self, uid: &Arc<str>, is_missed: bool) {
        // What a gateway knows it has said already.
        let socket = self.nodes.get(uid).filter(|_| is_missed).map(|held| Arc::clone(&held.socket));
        if let Some(socket) = socket {
            locked(&socket.missed).insert(Arc::clone(uid));
            socket.miss.notify_one();
        }
    }

    fn set(&self, uid: &Arc<str>, number: u64, resource: &str, value: &Arc<str>) {
        let held = self.nodes.get(uid).map(|held| held.value().clone());
        let set = |held: Held| held.socket.send(messages::set(&held.announced, resource, value, &self.uid));
        self.gateway.sent(uid, number);
        if !held.is_some_and(set) {
            self.gateway.written(uid, number, Answer::None);
        }
    }

    fn forget(&self, _: &Arc<str>) {
        // It is forgotten when its gateway says so, or leaves.
    }

    fn close(&self, _: &Arc<str>) {
        // Its gateway speaks for others: what it says of this node is not heard any more.
    }

    fn is_passing(&self, uid: &Arc<str>) -> bool {
        self.nodes.get(uid).is_some_and(|held| held.is_passing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::json_of;

    #[test]
    fn a_node_is_known_by_what_stays() {
        let uid = "4f6a1c9e-2f3b-4c7a-9a57-0d5d6a3d7a11";
        let name = |values: &[(&str, &str)], is_due| {
            let values: Vec<_> =
                values.iter().map(|(name, text)| ((*name).to_owned(), json_of(text))).collect();
            name_of(uid, &values, is_due).map(|name| (name.uid, name.is_passing))
        };
        let (stays, passes) = (Some((uid.to_owned(), false)), Some((uid.to_owned(), true)));
        let known_by = |name: &str| Some((name.to_owned(), false));
        assert_eq!(name(&[], false), None);
        assert_eq!(name(&[], true), passes);
        assert_eq!(name(&[("ip", "::1")], false), stays);
        assert_eq!(name(&[("protocol", "CoAP")], false), stays);
        assert_eq!(name(&[("id", "lamp")], false), None, "the protocol may follow");
        assert_eq!(name(&[("id", "lamp"), ("protocol", "MQTT")], false), known_by("lamp"));
        assert_eq!(name(&[("protocol", "MQTT")], false), None);
        assert_eq!(name(&[("id", "lamp")], true), known_by("lamp"));
        assert_eq!(name(&[("protocol", "WebSocket"), ("os", "riot")], false), None);
        assert_eq!(name(&[("protocol", "WebSocket"), ("name", "n1")], false), known_by("n1"));
        assert_eq!(name(&[("protocol", "WebSocket"), ("name", "")], true), passes);
        assert_eq!(name(&[("protocol", "LoRa")], false), stays);
    }
}
