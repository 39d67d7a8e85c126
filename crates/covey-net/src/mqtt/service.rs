//! What the owner of MQTT connections decides, and what it is told.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use covey_wire::mqtt::session::{Arrived, Outcome, Subscription, WillMessage};
use covey_wire::mqtt::{Connect, ProtocolVersion, Qos, ReasonCode, Violation};

use crate::certificate::PeerCertificate;
use crate::refusal::Refusal;

/// Something that is known later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The number of a connection among all of a [`Hub`](super::Hub), counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Who asks to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// What the client says.
    pub connect: &'a Connect<'a>,
    /// Whose certificate it has shown; none without TLS.
    pub certificate: Option<&'a PeerCertificate>,
    /// Where it comes from.
    pub address: SocketAddr,
    /// How long its session is to stay without a connection, in seconds; 0: it ends with it.
    pub expiry_s: u32,
}

/// Somebody who is let in.
pub struct Admitted<C> {
    /// What the owner knows of the client; handed back with all that is about it.
    pub client: Arc<C>,
    /// A client identifier, for one that asks for it by an empty one \[MQTT-3.1.3-6\].
    pub assigned_client_id: Option<Box<str>>,
    /// What the owner has kept of its session.
    pub session: KeptSession,
}

/// What an owner has kept of a client's session ([`Service::keep`]), which may be newer than what the
/// [`Hub`](super::Hub) remembers: another server may have had the client since, and this one may have begun
/// anew.
#[derive(Clone, Debug, Default)]
pub struct KeptSession {
    /// Its revision when the owner looked; 0: none was ever kept.
    pub found: u64,
    /// Its revision now: another one where the owner has kept what this CONNECT changes of it.
    pub revision: u64,
    /// What it was when the owner looked.
    pub state: KeptState,
}

/// What was kept of a session.
#[derive(Clone, Debug, Default)]
pub enum KeptState {
    /// None, or one that was ended.
    #[default]
    None,
    /// One whose client was away for too long.
    Over,
    /// One that goes on with these subscriptions.
    Alive(Vec<Subscription>),
}

/// What an owner is to keep of a client's session.
#[derive(Clone, Debug)]
pub struct SessionToKeep {
    /// The revision that this follows.
    pub before: u64,
    /// Its subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// How long it stays without a connection, in seconds; 0: it has ended.
    pub expiry_s: u32,
}

/// Somebody who is not.
#[derive(Clone, Debug)]
pub struct Denied {
    /// The reason code of the CONNACK; in 3.1.1 the return code that corresponds to it.
    pub reason: ReasonCode,
    /// Why, for the client (Reason String); may be empty.
    pub text: Cow<'static, str>,
}

/// A connection that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// Which one.
    pub connection: ConnectionId,
    /// The client identifier under which the [`Hub`](super::Hub) knows the client.
    pub client_id: &'a str,
    /// Where it comes from.
    pub address: SocketAddr,
    /// In which version.
    pub version: ProtocolVersion,
    /// Whether it goes on with an earlier session, its subscriptions included.
    pub is_resumed: bool,
}

/// Whose message it is.
#[derive(Clone, Copy)]
pub struct Publisher<'a, C> {
    /// The client.
    pub client: &'a Arc<C>,
    /// Its connection.
    pub connection: ConnectionId,
    /// In 3.1.1 there are no reason codes, and no properties.
    pub version: ProtocolVersion,
}

/// What became of a message: the reason code of its PUBACK or PUBREC (MQTT 5 §3.4.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The reason.
    pub reason: ReasonCode,
    /// Why, for the client (Reason String); may be empty.
    pub text: Cow<'static, str>,
    /// The connection must end, so that the client sends the message again. A 3.1.1 client gets no
    /// PUBACK then, since that would say that the message is safe.
    pub must_close: bool,
}

impl Answer {
    /// It is done.
    pub const SUCCESS: Self =
        Self { reason: ReasonCode::Success, text: Cow::Borrowed(""), must_close: false };
}

/// What the owner makes of a message.
pub enum Handled {
    /// It is known already.
    Now(Answer),
    /// It is known later. Meanwhile other messages of the client are handled, up to
    /// [`MqttLimits::under_way_max`](super::MqttLimits::under_way_max); they are begun, that is polled
    /// for the first time, in the order in which they came. The future goes on to its end when the
    /// connection is over.
    Later(Later<Answer>),
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The client said DISCONNECT, with this reason.
    ByClient(ReasonCode),
    /// It closed the connection without that, or the connection was lost.
    Lost(String),
    /// Nothing came from it for one and a half times its Keep Alive \[MQTT-3.1.2-22\].
    KeepAlive,
    /// Another connection of the same client took its place \[MQTT-3.1.4-3\].
    TakenOver,
    /// It broke a rule of the protocol.
    Violation(Violation),
    /// The owner closed it.
    Closed {
        /// The reason code that the client was told.
        reason: ReasonCode,
        /// Why.
        text: Cow<'static, str>,
    },
    /// It did not take what was sent to it.
    NotReading,
    /// The server shuts down.
    ShuttingDown,
}

/// The owner's side of MQTT. What is not asynchronous here must not wait for anything; all of it
/// may use the [`Hub`](super::Hub).
pub trait Service: Send + Sync + 'static {
    /// What the owner knows of a client. Where it is not equal to that of an earlier connection with
    /// the same client identifier, somebody else has come, who gets nothing of the earlier session; what
    /// became of that one's messages is not told.
    type Client: PartialEq + Send + Sync + 'static;

    /// Whether a client is let in. Dropped when it takes too long or the client's time is over.
    fn admit(&self, claim: Claim<'_>) -> impl Future<Output = Result<Admitted<Self::Client>, Denied>> + Send;

    /// A client is connected. From now on the [`Hub`](super::Hub) finds it. The end of a connection
    /// that this one took the place of may be told after it.
    fn connected(&self, client: &Arc<Self::Client>, opened: Opened<'_>);

    /// A connection is over: told once for each that was told as connected.
    fn disconnected(&self, client: &Arc<Self::Client>, connection: ConnectionId, end: &End);

    /// A client has published a message.
    fn publish(&self, publisher: Publisher<'_, Self::Client>, message: &Arrived<'_>) -> Handled;

    /// A client's will is due (MQTT 5 §3.1.2.5): it goes the way of a message that nobody waits for.
    fn will(&self, client: &Arc<Self::Client>, will: WillMessage) -> Later<()>;

    /// With which quality of service a client may subscribe to a filter at most.
    ///
    /// # Errors
    /// Why it may not: the reason code of the SUBACK (MQTT 5 §3.9.3); in 3.1.1 it says 0x80.
    fn may_subscribe(&self, client: &Arc<Self::Client>, filter: &str) -> Result<Qos, ReasonCode>;

    /// Keeps the subscriptions of a session that outlives its connection, so that it also outlives the server.
    /// Asked when they have changed; the client has its answer when this is done, and meanwhile nothing is read
    /// from it. Goes on to its end when the connection is over. Answers the new revision. An owner that keeps
    /// nothing leaves this as it is.
    ///
    /// # Errors
    /// The end of the connection: the session was not kept, and the client is to try again.
    fn keep(&self, _: &Arc<Self::Client>, session: SessionToKeep) -> Later<Result<u64, End>> {
        Box::pin(std::future::ready(Ok(session.before)))
    }

    /// A client has subscribed; `is_new` unless it had subscribed to the same filter before.
    fn subscribed(&self, client: &Arc<Self::Client>, filter: &str, qos: Qos, is_new: bool);

    /// A client has unsubscribed from a filter that it had subscribed to.
    fn unsubscribed(&self, client: &Arc<Self::Client>, filter: &str);

    /// A client has sent PINGREQ; as of [`hold`](Self::hold), for what has no answer that says why.
    fn pinged(&self, _: &Arc<Self::Client>) -> Option<Later<()>> {
        None
    }

    /// Whether nothing is to be read from a client for a while, since it has sent too much: asked after each
    /// packet that brings something, which acknowledgements do not. Its Keep Alive is not looked at meanwhile.
    /// An owner that bears everything leaves this as it is.
    fn hold(&self, _: &Arc<Self::Client>) -> Option<Later<()>> {
        None
    }

    /// What became of a message that was sent to a client, by its token.
    fn settled(&self, client: &Arc<Self::Client>, outcome: Outcome);

    /// Connections were not let in, or did not get as far as a session.
    fn refused(&self, refusal: Refusal);
}
