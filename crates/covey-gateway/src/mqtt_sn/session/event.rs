//! What the steps of a gateway give back: datagrams, and what its owner is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use super::super::packet::{Packet, ReturnCode};
use super::peer::Peer;

/// One connection of a client. When the client connects anew, that is another; what is asked of the old one does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    pub(super) slot: u32,
    pub(super) epoch: u32,
}

/// Which message of a client an answer is for ([`Gateway::accepted`](super::Gateway::accepted)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Whose it is.
    pub client: Client,
    /// The message's id.
    pub msg_id: u16,
    /// Of its content: a client may use an id again before it has its answer.
    pub(super) digest: u32,
}

/// What became of a message of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was taken, and is kept.
    Taken,
    /// It cannot be taken now, and may be sent again later (0x01).
    Later,
    /// It is not taken, however often it is sent (0x03).
    Refused,
}

impl Answer {
    pub(super) const fn code(self) -> ReturnCode {
        match self {
            Self::Taken => ReturnCode::ACCEPTED,
            Self::Later => ReturnCode::CONGESTION,
            Self::Refused => ReturnCode::NOT_SUPPORTED,
        }
    }
}

/// What a client wanted to be published when it is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where.
    pub topic: Box<str>,
    /// What.
    pub payload: Box<[u8]>,
}

/// Why a client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It said DISCONNECT.
    Left,
    /// Nothing was heard of it for longer than it had said.
    Lost,
    /// It, or another with its id or its address, has connected anew.
    Replaced,
    /// The owner has ended it.
    Ended,
}

/// What became of a message when it was given to a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It was sent, or waits; its [`Delivery`] is told later.
    Taken,
    /// The connection is over.
    NotConnected,
    /// No subscription of the client matches.
    NotSubscribed,
    /// The topic is none, or is longer than [`NAME_BYTES_MAX`](super::NAME_BYTES_MAX).
    NotATopic,
    /// The body is larger than a datagram may be.
    TooLarge,
    /// As much waits as may, or the client has as many topics as it may.
    Full,
}

/// What became of a message to a client in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The client has it.
    Accepted,
    /// The client has refused it.
    Refused(ReturnCode),
    /// It was sent as often as may be, and the client has not answered.
    Unanswered,
    /// The client is gone.
    Dropped,
    /// It was sent, with QoS 0: the client has subscribed so, or the message has it. Whether it came is not known.
    Unacknowledged,
    /// It was not sent. Only a [socket](super::super::socket) tells it.
    NotSent(Sent),
}

/// What the owner is told. What concerns one client comes in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client is connected.
    Connected {
        /// The connection.
        client: Client,
        /// The client id.
        id: Arc<str>,
        /// Where it is.
        from: SocketAddr,
        /// Whether subscriptions of an earlier connection go on. They are not told again.
        is_resumed: bool,
    },
    /// A client has published. One with a receipt waits for [`Gateway::accepted`](super::Gateway::accepted).
    Published {
        /// Who.
        client: Client,
        /// Where.
        topic: Box<str>,
        /// What.
        payload: Box<[u8]>,
        /// With QoS 1 and 2.
        receipt: Option<Receipt>,
    },
    /// Somebody who need not be connected has published with QoS −1.
    PublishedUnconnected {
        /// Where the datagram came from.
        from: SocketAddr,
        /// Where.
        topic: Box<str>,
        /// What.
        payload: Box<[u8]>,
    },
    /// A client has a subscription that it had not. It may be sent what matches.
    Subscribed {
        /// Who.
        client: Client,
        /// To what.
        filter: Box<str>,
    },
    /// A client has given up a subscription.
    Unsubscribed {
        /// Who.
        client: Client,
        /// To what.
        filter: Box<str>,
    },
    /// A message to a client has come to its end.
    Delivered {
        /// To whom.
        client: Client,
        /// The owner's name for the message.
        token: u64,
        /// What became of it.
        delivery: Delivery,
    },
    /// A client sleeps, and is silent for so long (§6.14). What is sent to it waits.
    Asleep {
        /// Who.
        client: Client,
        /// For how long, in seconds.
        for_s: u16,
    },
    /// A client that slept is active again.
    Active {
        /// Who.
        client: Client,
    },
    /// A client is gone. Nothing more comes of this connection.
    Gone {
        /// Who.
        client: Client,
        /// Why.
        reason: Reason,
        /// What it wanted to be published then; only of one that was lost.
        will: Option<Will>,
    },
}

/// What the steps of a gateway give back. Its owner empties it, and uses it again.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    datagrams: Vec<(SocketAddr, Range<usize>)>,
    /// What the owner is told, in order.
    pub events: VecDeque<Event>,
}

impl Output {
    /// What is to be sent, and where to, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.datagrams.iter().map(|(to, place)| (*to, &self.bytes[place.clone()]))
    }

    /// The datagrams were sent.
    pub fn clear_datagrams(&mut self) {
        self.bytes.clear();
        self.datagrams.clear();
    }

    pub(super) fn send(&mut self, to: Peer, packet: &Packet<'_>) {
        self.send_to(to.address(), packet);
    }

    pub(super) fn send_to(&mut self, to: SocketAddr, packet: &Packet<'_>) {
        let start = self.bytes.len();
        match packet.encode(&mut self.bytes) {
            Ok(()) => self.datagrams.push((to, start..self.bytes.len())),
            // All that is sent is bounded far below.
            Err(violation) => tracing::error!(%violation, "a message cannot be sent"),
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }
}
