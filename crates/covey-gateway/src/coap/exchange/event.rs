//! What goes in and out of the exchange layer: requests, answers, and what became of them.

use std::net::{IpAddr, SocketAddr};

use super::address::Address;
use crate::coap::message::{BlockSize, Code, Malformed};

/// A datagram that came.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// To which of this host's addresses; answers come from there, if it is known.
    pub to: Option<IpAddr>,
    /// Whether somebody is known to be at the sender's address. Who is not may have written a stranger's
    /// address on his datagram: he gets less, and is remembered less.
    pub is_proven: bool,
    /// The message.
    pub bytes: &'a [u8],
}

/// A datagram to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// To whom.
    pub to: SocketAddr,
    /// From which of this host's addresses; none: that which the system chooses.
    pub from: Option<IpAddr>,
    /// The message.
    pub bytes: Vec<u8>,
}

/// What the steps of an exchange give back. Its owner empties it.
#[derive(Debug, Default)]
pub struct Output {
    /// To be sent, in this order.
    pub datagrams: Vec<Datagram>,
    /// What happened, in this order.
    pub events: Vec<Event>,
    /// How many of the datagrams are repetitions of what was not acknowledged.
    pub sent_again: u64,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A peer asks. To be answered once, with [`Exchange::respond`](super::Exchange::respond).
    Asked(Asked),
    /// A request has its answer, of whatever code. It has ended.
    Answered {
        /// Which request.
        request: RequestId,
        /// The answer, of all blocks.
        response: Response,
        /// Whether the peer will tell of changes, if [`Request::observe`] asked for it: then the id of the
        /// request is that of the observation.
        is_observed: bool,
    },
    /// A request has no answer. It has ended.
    Failed {
        /// Which request.
        request: RequestId,
        /// Why.
        why: Failure,
    },
    /// A ping was answered: somebody who speaks CoAP is there. It has ended.
    Reached {
        /// That of the ping.
        request: RequestId,
    },
    /// An observed resource has this value now.
    Notified {
        /// The request that asked for it.
        observation: RequestId,
        /// What the peer says, of all blocks.
        response: Response,
    },
    /// An observation is over. The last value was told before.
    Unobserved {
        /// The request that asked for it.
        observation: RequestId,
        /// Why.
        why: ObservationEnd,
    },
}

/// Which request of this gateway; unique as long as it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    pub(super) address: Address,
    pub(super) number: u64,
}

impl RequestId {
    /// To whom it was made.
    #[must_use]
    pub const fn address(self) -> Address {
        self.address
    }
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing came in time.
    #[error("no answer came in time")]
    TimedOut,
    /// The peer has answered with Reset: it understood the message, and has no use for it.
    #[error("the peer rejected the message")]
    Rejected,
    /// What came is no answer that can be taken: it tells what is wrong.
    #[error("the answer is broken: {0}")]
    Broken(&'static str),
    /// The answer has more than [`Terms::body_bytes_max`](super::Terms::body_bytes_max).
    #[error("the answer is too large")]
    TooLarge,
    /// The owner has cancelled it.
    #[error("it was cancelled")]
    Cancelled,
    /// More is kept for this peer, or for all, than there is room for.
    #[error("the gateway has no room")]
    NoRoom,
}

/// Why an observation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObservationEnd {
    /// The peer said so: with an error, or by an answer that tells of no changes to come.
    #[error("the peer tells of no more changes")]
    ByPeer(Code),
    /// It was time to ask again, and nothing usable came.
    #[error("the observation could not be renewed: {0}")]
    Failed(Failure),
}

/// Why a request was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As much as may waits for this peer, or for all. It may be tried later.
    #[error("too much waits for this node, or for all")]
    Full,
    /// The body is larger than [`Terms::body_bytes_max`](super::Terms::body_bytes_max).
    #[error("the body is too large for CoAP")]
    TooLarge,
    /// The method is none.
    #[error("the request has no method")]
    NoMethod,
    /// Path or query is too long.
    #[error("the resource's path is too long")]
    TargetTooLong,
}

/// Why a datagram was dropped. It was answered as far as the standard wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// It is no message.
    #[error("{}", .0.reason)]
    Malformed(Malformed),
    /// A request that cannot be taken.
    #[error("{1} ({0})")]
    BadRequest(Code, &'static str),
    /// An answer to nothing that was asked, or that is known no more.
    #[error("an answer belongs to no request")]
    Unmatched,
    /// It was sent to many, which nobody asked for.
    #[error("the datagram was sent to many")]
    Multicast,
    /// There is no room for it.
    #[error("there is no room for it")]
    NoRoom,
}

/// A request to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// GET, PUT, …
    pub method: Code,
    /// Path without the first slash; its parts are not percent-encoded.
    pub path: String,
    /// The parts of the query.
    pub queries: Vec<String>,
    /// What the body is (RFC 7252 §12.3).
    pub content_format: Option<u16>,
    /// What the answer should be.
    pub accept: Option<u16>,
    /// The body.
    pub payload: Vec<u8>,
    /// CON, or NON.
    pub is_confirmable: bool,
    /// Whether the peer is to tell of changes (RFC 7641). Only a GET asks for it.
    pub observe: bool,
    /// A body of more than so many bytes is sent in blocks; none: as [`Terms::block_size`](super::Terms::block_size).
    pub block_size: Option<BlockSize>,
    /// After how long it has timed out, whatever happens, in milliseconds; at most
    /// [`PATIENCE_MS_MAX`](super::PATIENCE_MS_MAX). A peer that is silent is given up after
    /// [`TRANSMIT_WAIT_MS_MAX`](super::TRANSMIT_WAIT_MS_MAX) at the latest.
    pub patience_ms: u64,
}

impl Request {
    /// A confirmable request without a body.
    #[must_use]
    pub fn new(method: Code, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            queries: Vec::new(),
            content_format: None,
            accept: None,
            payload: Vec::new(),
            is_confirmable: true,
            observe: false,
            block_size: None,
            patience_ms: super::PATIENCE_MS_MAX,
        }
    }

    /// A confirmable GET.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Code::GET, path)
    }

    /// A confirmable PUT of a text.
    #[must_use]
    pub fn put(path: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self { content_format: Some(0), payload: payload.into(), ..Self::new(Code::PUT, path) }
    }
}

/// An answer: of a peer, or to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub code: Code,
    /// What the body is.
    pub content_format: Option<u16>,
    /// How long it may be taken as fresh, in seconds; none: 60 (RFC 7252 §5.10.5).
    pub max_age_s: Option<u32>,
    /// The body. With an error a short text that says what is wrong.
    pub payload: Vec<u8>,
    /// Whether the body is [`Terms::echo`](super::Terms::echo) around that of the request: such an answer is made anew if
    /// its request comes again, so that it need not be kept.
    pub is_echo: bool,
}

impl Response {
    /// One without a body.
    #[must_use]
    pub const fn new(code: Code) -> Self {
        Self { code, content_format: None, max_age_s: None, payload: Vec::new(), is_echo: false }
    }

    /// One with a text; an error's text has no content format (RFC 7252 §5.5.2).
    #[must_use]
    pub fn text(code: Code, text: impl Into<Vec<u8>>) -> Self {
        let content_format = code.is_success().then_some(0);
        Self { code, content_format, max_age_s: None, payload: text.into(), is_echo: false }
    }
}

/// What a peer asks, all blocks of its body put together.
#[derive(Debug)]
pub struct Asked {
    /// What [`Exchange::respond`](super::Exchange::respond) needs.
    pub receipt: Receipt,
    /// Who asks.
    pub from: Address,
    /// Whether somebody is known to be at the address.
    pub is_proven: bool,
    /// CON, or NON.
    pub is_confirmable: bool,
    /// The method, which may be one that nobody knows.
    pub method: Code,
    /// Path without the first slash.
    pub path: String,
    /// The parts of the query.
    pub queries: Vec<String>,
    /// What the body is said to be.
    pub content_format: Option<u16>,
    /// What the answer should be.
    pub accept: Option<u16>,
    /// The body.
    pub payload: Vec<u8>,
}

/// Which request an answer is for. Dropped, the request is never answered; its sender gives up.
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    pub(super) address: Address,
    pub(super) number: u64,
}

impl Receipt {
    /// Who asked.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }
}

/// How an observation is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unobserve {
    /// The peer is told (RFC 7641 §3.6).
    Tell,
    /// The next notification is answered with Reset; nothing is sent before.
    ByReset,
}
