//! MQTT nodes: plain MQTT 3.1.1 or 5 on a listener of its own, in the topics of the field. A node is known by the id that
//! it says, not by its connection: it may have a new client id each time, and be away between two messages.

mod access;
mod listeners;
pub(crate) mod said;
pub(crate) mod topic;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use covey_net::mqtt::{
    Admitted, Answer as Acknowledged, Claim, ConnectionId, Denied, End, Endpoint, Handled, Hub, KeptSession,
    Later, MqttLimits, Opened, Publisher, Service,
};
use covey_net::{Files, Refusal, listener};
use covey_wire::mqtt::session::{Arrived, Message, Outcome, Sent, WillMessage};
use covey_wire::mqtt::{Properties, Qos, ReasonCode};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::gateway::{Gateway, Protocol};
use crate::node::{Answer, Confirmation, Habits, Heard, Seen};
use crate::port::Port;
use crate::value::{json_of, text_of};
pub use access::{Access, Passwords, tls};
use listeners::{Listeners, Listening};
use said::{Refused, Said};

/// How often nodes are asked who is there, in milliseconds.
const CHECK_MS: u64 = 30_000;
/// How long a node may take to say what a value is that was written, in milliseconds.
const CONFIRM_MS: u64 = 5_000;
/// How many connections of nodes there may be.
/// Limit for the listener: a new one is refused.
const CONNECTIONS_MAX: usize = 20_000;
/// Largest packet of a node, in bytes.
/// Limit for each packet: the connection is closed (0x95).
const PACKET_BYTES_MAX: u32 = 64 * 1024;
/// How long a node waits for the answer that it says more than it may, in milliseconds.
const TOO_MUCH_MS: u64 = 500;
/// How much may be kept for nodes that do not take it, in bytes, over all of them.
/// Limit for the listener: those for whom most is kept are cut off.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How MQTT nodes behave, silent for so long at most.
#[must_use]
pub const fn habits(silence: Duration) -> Habits {
    Habits {
        silence_ms_max: Some(silence.as_millis() as u64),
        confirmation: Confirmation::Report { ms_max: CONFIRM_MS },
        reports_are_life: true,
        together_ms: 0,
    }
}

/// A connection, which may speak for more than one node.
pub struct Connection {
    client_id: Box<str>,
    /// With whose password it came.
    user: Option<Box<str>>,
    address: SocketAddr,
    since: Instant,
    listening: Listening,
}

impl PartialEq for Connection {
    /// Who comes under the same client id, as the same user, goes on with its session: nodes are told apart by what they say.
    fn eq(&self, other: &Self) -> bool {
        self.client_id == other.client_id && self.user == other.user
    }
}

/// What became of a message for whoever listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handed {
    /// It has been sent to somebody, or will be.
    Over,
    /// Nobody has subscribed to it.
    ToNobody,
    /// Who has subscribed cannot take it now.
    Not,
}

/// The gateway of MQTT nodes.
pub struct MqttNodes<P: Port> {
    gateway: Arc<Gateway<P>>,
    hub: OnceLock<Weak<Hub<Nodes<P>>>>,
    /// By which connection a node was heard last.
    by: DashMap<Arc<str>, Box<str>>,
    listeners: Listeners,
    /// The number of the last connection.
    last_connection: AtomicU64,
    access: Access,
}

/// What the network side asks and tells.
struct Nodes<P: Port>(Arc<MqttNodes<P>>);

/// Serves nodes until `stop`.
pub async fn serve<P: Port>(
    gateway: Arc<Gateway<P>>,
    listener: TcpListener,
    access: Access,
    files: Option<Files>,
    stop: CancellationToken,
) {
    let nodes = Arc::new(MqttNodes {
        gateway: Arc::clone(&gateway),
        hub: OnceLock::new(),
        by: DashMap::new(),
        listeners: Listeners::default(),
        last_connection: AtomicU64::new(0),
        access: access.clone(),
    });
    gateway.speak(&nodes);
    let mut limits =
        MqttLimits { sessions_max: CONNECTIONS_MAX, held_bytes_max: HELD_BYTES_MAX, ..MqttLimits::default() };
    limits.session.packet_bytes_max = PACKET_BYTES_MAX;
    let hub = Hub::new(Nodes(Arc::clone(&nodes)), limits);
    // It is set once, here.
    let _ = nodes.hub.set(Arc::downgrade(&hub));
    let limits = listener::Limits { connections_max: CONNECTIONS_MAX, files, ..listener::Limits::default() };
    let endpoint = Endpoint { listener, tls: access.tls, limits };
    let serving = covey_net::mqtt::serve(hub, vec![endpoint], stop.clone());
    tokio::join!(serving, gateway.run(stop.clone()), nodes.check(stop));
}

impl<P: Port> MqttNodes<P> {
    /// Asks who is there, again and again.
    async fn check(&self, stop: CancellationToken) {
        let mut again = interval(Duration::from_millis(CHECK_MS));
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(again.tick()).await.is_some() {
            self.publish(topic::CHECK_LEVEL, topic::CHECK, "");
        }
    }

    /// Publishes to all who have subscribed to topics of this second level, which most often is the id of the node that
    /// they are.
    fn publish(&self, level: &str, topic: &str, body: &str) -> Handed {
        let Some(hub) = self.hub.get().and_then(Weak::upgrade) else { return Handed::Not };
        let message = Message {
            token: 0,
            topic,
            qos: Qos::AtLeastOnce,
            expiry_s: None,
            properties: Properties::NONE,
            payload: body.as_bytes(),
        };
        let mut handed = Handed::ToNobody;
        for client in self.listeners.of(level) {
            match hub.send(&client, &message) {
                Some(Sent::Written | Sent::Waiting) => handed = Handed::Over,
                Some(Sent::NotSubscribed) | None => {}
                Some(_) if handed == Handed::ToNobody => handed = Handed::Not,
                Some(_) => {}
            }
        }
        handed
    }

    /// For how long the connection has been there that speaks for a node, in milliseconds.
    fn connected_ms(&self, uid: &str) -> Option<u64> {
        let hub = self.hub.get().and_then(Weak::upgrade)?;
        let client = self.by.get(uid)?.clone();
        let since = hub.with(&client, |client| client.is_connected().then(|| client.client().since))??;
        Some(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// A connection listens to a filter that it did not: what waited for it is written.
    fn listens(&self, connection: &Connection, filter: &str) {
        self.listeners.subscribed(&connection.listening, filter);
        match topic::listened(filter) {
            topic::ANY_LEVEL => self.gateway.all_listen(),
            uid => self.gateway.listen([uid]),
        }
    }

    /// A node was heard by a connection. Whoever says an id first has it, until that connection is over.
    fn heard(&self, uid: &str, connection: &Connection) -> Result<(), Refused> {
        match self.by.entry(Arc::from(uid)) {
            Entry::Occupied(mut by) if **by.get() != *connection.client_id => {
                let is_connected = |client: &str| {
                    let hub = self.hub.get().and_then(Weak::upgrade);
                    hub.and_then(|hub| hub.with(client, |client| client.is_connected())).unwrap_or_default()
                };
                if is_connected(by.get()) {
                    return Err(Refused::Foreign);
                }
                by.insert(connection.client_id.clone());
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(free) => drop(free.insert(connection.client_id.clone())),
        }
        match self.gateway.seen(uid, &connection.address.ip().to_canonical().to_string()) {
            Seen::New => {
                self.gateway.said(uid, "id", json_of(uid));
                self.gateway.said(uid, "protocol", json_of("MQTT"));
            }
            Seen::Known => {}
            Seen::NoRoom => {
                self.by.remove(uid);
                return Err(Refused::NoRoom);
            }
        }
        Ok(())
    }

    /// With whose password a client comes, if it needs one.
    async fn user(&self, claim: &Claim<'_>) -> Result<Option<Box<str>>, Denied> {
        if self.access.is_open() || claim.certificate.is_some() {
            return Ok(None);
        }
        let denied = |reason, text: &'static str| Denied { reason, text: text.into() };
        let (Some(user), Some(password)) = (claim.connect.user_name, claim.connect.password) else {
            return Err(denied(
                ReasonCode::NotAuthorized,
                "it needs a user name and a password, or a certificate",
            ));
        };
        let (user, password) = (Box::<str>::from(user), password.to_vec());
        let checked = match self.access.passwords.clone() {
            // Hashing is work for a thread of its own: all others are heard meanwhile.
            Some(passwords) => spawn_blocking(move || passwords.are(&user, &password).then_some(user)).await,
            None => Ok(None),
        };
        match checked {
            Ok(Some(user)) => Ok(Some(user)),
            _ => Err(denied(ReasonCode::BadUserNameOrPassword, "its user name or password is wrong")),
        }
    }

    /// Takes a message of a node; what waits to be stored is told, if anybody waits to hear of it.
    fn take(
        &self,
        connection: &Connection,
        topic: &str,
        payload: &[u8],
        is_awaited: bool,
    ) -> Result<Option<Hearing>, Refused> {
        let said = Said::read(topic, payload)?;
        self.heard(said.uid(), connection)?;
        match said {
            Said::Check { .. } => Ok(None),
            Said::Resources { uid } => {
                // One question for all: the node then says them one by one.
                self.publish(uid, &topic::discover(uid), "values");
                Ok(None)
            }
            Said::Value { uid, resource, value } if is_awaited => {
                Ok(Some(self.gateway.begin_saying(uid, resource, value)))
            }
            Said::Value { uid, resource, value } => {
                self.gateway.said(uid, resource, value);
                Ok(None)
            }
        }
    }
}

type Hearing = tokio::sync::oneshot::Receiver<Heard>;

/// The reason code of a message that was not taken.
const fn reason(refused: Refused) -> ReasonCode {
    match refused {
        Refused::Topic => ReasonCode::TopicNameInvalid,
        Refused::Body => ReasonCode::PayloadFormatInvalid,
        Refused::Foreign => ReasonCode::NotAuthorized,
        Refused::NoRoom => ReasonCode::QuotaExceeded,
    }
}

impl<P: Port> Protocol for MqttNodes<P> {
    fn discover(&self, uid: &Arc<str>, _: bool) {
        self.publish(uid, &topic::discover(uid), "resources");
    }

    fn set(&self, uid: &Arc<str>, number: u64, resource: &str, value: &Arc<str>) {
        self.gateway.sent(uid, number);
        let answer = match self.publish(uid, &topic::set(uid, resource), &text_of(value)) {
            Handed::Over => return,
            Handed::ToNobody => Answer::NotListening { connected_ms: self.connected_ms(uid) },
            Handed::Not => Answer::None,
        };
        self.gateway.written(uid, number, answer);
    }

    fn forget(&self, uid: &Arc<str>) {
        self.by.remove(uid);
    }

    fn close(&self, _: &Arc<str>) {
        // Its connection may speak for others: what it says is not heard any more.
    }

    fn is_passing(&self, _: &Arc<str>) -> bool {
        false
    }
}

impl<P: Port> Service for Nodes<P> {
    type Client = Connection;

    async fn admit(&self, claim: Claim<'_>) -> Result<Admitted<Connection>, Denied> {
        let user = self.0.user(&claim).await.inspect_err(|denied| {
            tracing::warn!(address = %claim.address.ip(), "connection of a node refused: {}", denied.text);
        })?;
        let given = claim.connect.client_id;
        let assigned = given.is_empty().then(|| uuid::Uuid::new_v4().simple().to_string().into_boxed_str());
        let client_id = assigned.clone().unwrap_or_else(|| Box::from(given));
        let number = self.0.last_connection.fetch_add(1, Ordering::Relaxed);
        let listening = Listening::new(client_id.clone(), number);
        let (address, since) = (claim.address, Instant::now());
        let client = Arc::new(Connection { client_id, user, address, since, listening });
        Ok(Admitted { client, assigned_client_id: assigned, session: KeptSession::default() })
    }

    fn connected(&self, connection: &Arc<Connection>, opened: Opened<'_>) {
        if !opened.is_resumed {
            return;
        }
        // Subscriptions that go on are not told again.
        let filters = self.0.hub.get().and_then(Weak::upgrade).and_then(|hub| {
            hub.with(&connection.client_id, |client| {
                client.subscriptions().map(|(filter, _)| filter.to_owned()).collect::<Vec<_>>()
            })
        });
        for filter in filters.unwrap_or_default() {
            self.0.listens(connection, &filter);
        }
    }

    fn disconnected(&self, connection: &Arc<Connection>, _: ConnectionId, end: &End) {
        self.0.listeners.gone(&connection.listening);
        // Nodes come and go with each message: a node is out when it is silent.
        if let End::Violation(violation) = end {
            tracing::warn!(address = %connection.address.ip(), %violation, "connection of a node closed");
        }
    }

    fn publish(&self, publisher: Publisher<'_, Connection>, message: &Arrived<'_>) -> Handled {
        let connection = publisher.client;
        let is_awaited = message.qos != Qos::AtMostOnce;
        match self.0.take(connection, &message.topic, message.payload, is_awaited) {
            Ok(None) => Handled::Now(Acknowledged::SUCCESS),
            Ok(Some(hearing)) => Handled::Later(Box::pin(async move {
                match hearing.await.unwrap_or(Heard::Later) {
                    Heard::Done => Acknowledged::SUCCESS,
                    Heard::Refused => refused(ReasonCode::QuotaExceeded, "more than may be kept", false),
                    Heard::Later => {
                        sleep(Duration::from_millis(TOO_MUCH_MS)).await;
                        refused(ReasonCode::QuotaExceeded, "not now", true)
                    }
                }
            })),
            Err(why) => {
                tracing::warn!(address = %connection.address.ip(), "message of a node refused: {}", why.text());
                Handled::Now(refused(reason(why), why.text(), false))
            }
        }
    }

    fn will(&self, connection: &Arc<Connection>, will: WillMessage) -> Later<()> {
        if let Err(why) = self.0.take(connection, &will.topic, &will.payload, false) {
            tracing::warn!(address = %connection.address.ip(), "will of a node refused: {}", why.text());
        }
        Box::pin(std::future::ready(()))
    }

    fn may_subscribe(&self, connection: &Arc<Connection>, filter: &str) -> Result<Qos, ReasonCode> {
        if topic::may_subscribe(filter) {
            return Ok(Qos::AtLeastOnce);
        }
        tracing::warn!(address = %connection.address.ip(), filter, "subscription of a node refused");
        Err(ReasonCode::NotAuthorized)
    }

    fn subscribed(&self, connection: &Arc<Connection>, filter: &str, _: Qos, is_new: bool) {
        if is_new {
            self.0.listens(connection, filter);
        }
    }

    fn unsubscribed(&self, connection: &Arc<Connection>, filter: &str) {
        self.0.listeners.unsubscribed(&connection.listening, filter);
    }

    fn settled(&self, _: &Arc<Connection>, _: Outcome) {}

    fn refused(&self, refusal: Refusal) {
        let Refusal { address, why, count } = refusal;
        tracing::warn!(address = %address.ip(), count, "connection of a node refused: {why}");
    }
}

/// A message that was not taken. Where a 3.1.1 client must say it again it is closed: there is no other way to tell.
fn refused(reason: ReasonCode, text: &'static str, must_close: bool) -> Acknowledged {
    Acknowledged { reason, text: text.into(), must_close }
}
