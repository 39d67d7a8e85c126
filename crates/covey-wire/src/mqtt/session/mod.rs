//! A device's MQTT session as its server keeps it: a state machine without sockets, tasks and clocks.
//!
//! A [`Session`] outlives connections. Its owner keeps it with the device behind a lock, and calls
//! [`connect`](Session::connect) when a CONNECT was let in, [`receive`](Session::receive) for each packet
//! after it, [`answer`](Session::answer) when a message has been committed or refused,
//! [`grant`](Session::grant) with the decision about a SUBSCRIBE, [`send`](Session::send) with a message for
//! the device, [`detach`](Session::detach) when the connection is over, and [`tick`](Session::tick) about
//! once a second. What is to be written, and what became of messages, is appended to an [`Output`].
//!
//! Each connection has an [`Epoch`]. The later CONNECT takes the session over at once: the earlier
//! connection learns of it by its epoch, which is an old one, and says 0x8E.
//!
//! An idle session takes less than 100 bytes and one small allocation for each subscription.

mod connect;
mod ending;
mod incoming;
mod outgoing;
mod subscriptions;
mod terms;

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;

pub use connect::{Connected, Kept, expiry_s, refuse};
pub use ending::{Detached, Due, WillMessage};
pub use subscriptions::Subscription;
pub use terms::{Limits, Peer};

use super::{Properties, ProtocolVersion, Qos, ReasonCode, Subscribe, UnsubscribeFilters, Violation};
use ending::Will;
use incoming::{Answer, Received};
use outgoing::Outgoing;

/// Which connection of a session: each has another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch(u32);

/// What the steps of a session give back. Its owner empties it, and uses it again for other sessions.
#[derive(Debug, Default)]
pub struct Output {
    /// To be written to the present connection of the session ([`Session::epoch`]).
    pub bytes: Vec<u8>,
    /// What became of messages to the device.
    pub outcomes: Vec<Outcome>,
    /// Properties that are being put together.
    scratch: Vec<u8>,
}

/// What became of a message that was sent with this token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The device has it, or has refused it (reason 0x80 and above): PUBACK or PUBREC has come.
    Delivered {
        /// That of the message.
        token: u64,
        /// What the device says.
        reason: ReasonCode,
    },
    /// It waited, and is larger than the device takes on its present connection: not sent, as if it had
    /// been \[MQTT-3.1.2-25\].
    TooLarge {
        /// That of the message.
        token: u64,
    },
    /// It waited longer than its Message Expiry Interval \[MQTT-3.3.2-5\].
    Expired {
        /// That of the message.
        token: u64,
    },
    /// The session ended before the device had it, or the device came back with another version of MQTT,
    /// for which the message is to be made anew.
    Discarded {
        /// That of the message.
        token: u64,
    },
}

/// What a packet brings to the owner of the session.
#[derive(Debug)]
pub enum Arrival<'p> {
    /// Nothing to do.
    Nothing,
    /// A message of the device. One with a receipt is to be answered, once.
    Message(Arrived<'p>),
    /// To be decided by [`Session::grant`].
    Subscribe(Subscribe<'p>),
    /// The filters that have been given up, and those that were none.
    Unsubscribed(UnsubscribeFilters<'p>),
    /// DISCONNECT: close the connection, then [`detach`](Session::detach) \[MQTT-3.14.4-2\].
    Disconnected(ReasonCode),
}

/// A message of the device.
#[derive(Debug)]
pub struct Arrived<'p> {
    /// The topic, with its alias resolved.
    pub topic: TopicName<'p>,
    /// How it was sent.
    pub qos: Qos,
    /// Whether it is to be retained; only 3.1.1 may ask for it where retained messages are not kept.
    pub retain: bool,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'p>,
    /// The body.
    pub payload: &'p [u8],
    /// What [`Session::answer`] needs, with QoS 1 and 2.
    pub receipt: Option<Receipt>,
}

/// A topic name: as it stands in the packet, or as an alias had kept it.
#[derive(Clone, Debug)]
pub enum TopicName<'p> {
    /// A slice of the packet.
    InPacket(&'p str),
    /// What a Topic Alias stands for.
    OfAlias(Arc<str>),
}

impl Deref for TopicName<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::InPacket(topic) => topic,
            Self::OfAlias(topic) => topic,
        }
    }
}

/// Which message an answer is for.
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    epoch: Epoch,
    packet_id: u16,
    qos: Qos,
}

/// A message for the device.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its owner's name for it, told with its [`Outcome`].
    pub token: u64,
    /// The topic.
    pub topic: &'a str,
    /// The highest QoS; the device's subscription may lower it \[MQTT-3.8.4-8\].
    pub qos: Qos,
    /// Message Expiry Interval in seconds from now.
    pub expiry_s: Option<u32>,
    /// Properties of [`Place::PublishFromServer`](super::Place), without Message Expiry Interval, Topic Alias
    /// and Subscription Identifiers, which the session adds.
    pub properties: Properties<'a>,
    /// The body.
    pub payload: &'a [u8],
}

/// What became of a message when it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the output. With QoS 1 and 2 an [`Outcome`] follows.
    Written,
    /// It waits for the device to come back, or to acknowledge others; an [`Outcome`] follows.
    Waiting,
    /// No subscription of the device matches.
    NotSubscribed,
    /// QoS 0, and the device is not connected.
    NotConnected,
    /// It is larger than the device takes: not sent, as if it had been \[MQTT-3.1.2-24, MQTT-3.1.2-25\].
    TooLarge,
    /// As much waits as may ([`Limits::waiting_messages_max`], [`Limits::waiting_bytes_max`],
    /// [`Limits::away_bytes_max`]).
    Full,
    /// The message is none that can be sent.
    Invalid(Violation),
}

/// A device's session. See the [module](self).
#[derive(Debug, Default)]
pub struct Session {
    /// Of the present connection, or of the last.
    epoch: Epoch,
    /// The last packet identifier that was given to a message.
    last_packet_id: u16,
    /// Whether there is a session: it has been begun, and has not ended.
    exists: bool,
    /// DISCONNECT has come: nothing may follow it.
    is_leaving: bool,
    /// The connection, if there is one.
    peer: Option<Peer>,
    /// Of the last connection.
    speaks_v5: bool,
    /// How long the session stays when the connection is over; `u32::MAX`: for ever.
    expiry_s: u32,
    /// When the last packet came; without a connection, when it was over.
    heard_ms: u64,
    subscriptions: Vec<Subscription>,
    will: Option<Box<Will>>,
    /// What an idle session does not have.
    work: Option<Box<Work>>,
}

/// Queues that have grown to more than so many places give them back when they are empty.
const ROOM_KEPT: usize = 4;

/// Messages under way, in both directions, and topic aliases.
#[derive(Debug, Default)]
struct Work {
    /// In the order in which they go out: those that have, then those that wait.
    outgoing: VecDeque<Outgoing>,
    /// The bodies of `outgoing` that wait, in bytes.
    waiting_bytes: usize,
    /// The bodies of `outgoing`, in bytes, those included that were sent and are not acknowledged.
    kept_bytes: usize,
    /// How many of `outgoing` wait.
    waiting: usize,
    /// How many of `outgoing` count against the device's Receive Maximum.
    in_flight: u16,
    /// Messages of QoS 2 from the device that it has not released; they outlive the connection.
    received: Vec<Received>,
    /// PUBACKs and PUBRECs of this connection that have not gone out, in the order of their PUBLISH.
    answers: VecDeque<Answer>,
    /// Of this connection; alias 1 first.
    aliases_in: Vec<Option<Arc<str>>>,
    /// Of this connection; alias 1 first.
    aliases_out: Vec<Box<str>>,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.outgoing.is_empty()
            && self.received.is_empty()
            && self.answers.is_empty()
            && self.aliases_in.is_empty()
            && self.aliases_out.is_empty()
    }
}

impl Session {
    /// A device's session before its first connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Which connection is the present one, or was the last.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the device is connected.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.peer.is_some()
    }

    /// Whether there is a session: with a connection, or kept for the next.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.exists
    }

    /// How long it stays when the connection is over, in seconds; `u32::MAX`: for ever.
    #[must_use]
    pub const fn expiry_s(&self) -> u32 {
        self.expiry_s
    }

    /// What the device speaks, or spoke when it was last connected.
    #[must_use]
    pub const fn version(&self) -> ProtocolVersion {
        if self.speaks_v5 { ProtocolVersion::V5 } else { ProtocolVersion::V311 }
    }

    /// How many messages of the device wait for their answer: of QoS 1 until PUBACK, of QoS 2 until PUBCOMP.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.unanswered())
    }

    /// Whether another message of the device may be read. 3.1.1 has no Receive Maximum, so that its reader
    /// reads no more while this is false.
    #[must_use]
    pub fn has_room(&self, limits: &Limits) -> bool {
        self.unanswered() < usize::from(limits.receive_max)
    }

    /// How many bytes of messages are kept for the device: those that wait, and those that it has not
    /// acknowledged.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.kept_bytes)
    }

    /// How many messages to the device have no outcome yet.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.outgoing.iter().filter(|entry| entry.is_owed()).count())
    }

    /// The tokens of messages to the device that have no outcome yet, in their order.
    pub fn under_way(&self) -> impl Iterator<Item = u64> {
        let outgoing = self.work.iter().flat_map(|work| &work.outgoing);
        outgoing.filter(|entry| entry.is_owed()).map(|entry| entry.token)
    }

    fn work(&mut self) -> &mut Work {
        self.work.get_or_insert_default()
    }

    /// An idle session keeps no room, and one with topic aliases only that for them.
    fn tidy(&mut self) {
        if let Some(work) = &mut self.work {
            if work.outgoing.is_empty() && work.outgoing.capacity() > ROOM_KEPT {
                work.outgoing = VecDeque::new();
            }
            if work.received.is_empty() && work.received.capacity() > ROOM_KEPT {
                work.received = Vec::new();
            }
        }
        if self.work.as_ref().is_some_and(|work| work.is_empty()) {
            self.work = None;
        }
    }
}
