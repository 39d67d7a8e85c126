//! The numbers of the exchange layer: those of the standard (RFC 7252 §4.8), and its limits.

use super::event::Response;
use crate::coap::message::{BlockSize, Code};

/// ACK_TIMEOUT: how soon a CON message is sent again at the earliest, in milliseconds.
pub const ACK_TIMEOUT_MS: u64 = 2_000;
/// ACK_TIMEOUT with ACK_RANDOM_FACTOR 1.5: how soon at the latest.
pub const ACK_TIMEOUT_LATEST_MS: u64 = 3_000;
/// MAX_RETRANSMIT: how often a CON message is sent again. Each time it waits twice as long.
/// Limit for each message: the request has timed out.
pub const RETRANSMIT_MAX: u8 = 4;
/// MAX_TRANSMIT_WAIT: in this time a CON message is acknowledged, or has timed out.
/// Limit for each message: the request has timed out.
pub const TRANSMIT_WAIT_MS_MAX: u64 = 93_000;
/// EXCHANGE_LIFETIME: how long the id of a CON message means that message.
pub const EXCHANGE_LIFETIME_MS: u64 = 247_000;
/// NON_LIFETIME: how long the id of a NON message means that message.
pub const NON_LIFETIME_MS: u64 = 145_000;

/// When a CON request is acknowledged that its owner has not answered, in milliseconds. Until then the answer
/// may come with the acknowledgement (§5.2.1), and it is well below [`ACK_TIMEOUT_MS`].
pub(super) const EMPTY_ACK_MS: u64 = 500;
/// How long another request waits for the answer to one that is non-confirmable (§4.7).
pub(super) const NON_TURN_MS: u64 = ACK_TIMEOUT_LATEST_MS;

/// How often a CON message to an address that is not proven is sent again: who writes a stranger's address on
/// his datagrams shall not make the server send that stranger more than it costs him.
/// Limit for each message to an unproven address: the request has timed out.
pub const STRANGER_RETRANSMIT_MAX: u8 = 1;
/// How many times the bytes of its request an answer to an address that is not proven has at most (§11.3).
/// Limit for each answer to an unproven address: it is sent in blocks that are small enough, without its text, or
/// as 5.03.
pub const STRANGER_ANSWER_FACTOR_MAX: usize = 3;
/// Largest body that comes in blocks from an address that is not proven, in bytes.
/// Limit for each request from an unproven address: 4.13.
pub const STRANGER_BODY_BYTES_MAX: usize = 4 * 1024;

/// Largest body in blocks, in both directions, in bytes. Longer texts are for HTTP.
/// Limit for each request and answer: 4.13, and an answer that is larger counts as failed.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long the next block of a body may take, in milliseconds, and how long an answer is kept of which a block
/// may be asked for.
/// Limit for each body: 4.08, and the request is to be made anew.
pub const BLOCK_WAIT_MS_MAX: u64 = TRANSMIT_WAIT_MS_MAX;
/// How many bodies a peer may send in blocks at a time.
/// Limit for each peer: the oldest is forgotten (4.08).
pub const ASSEMBLIES_MAX: usize = 2;
/// How many answers are kept of which a peer may ask for another block.
/// Limit for each peer: the oldest is made anew, if the request was a GET, else 4.08.
pub const ANSWERS_MAX: usize = 2;

/// How many requests of a peer may wait for their answer.
/// Limit for each peer: 5.03; a non-confirmable one is dropped.
pub const PENDING_MAX: usize = 32;
/// How many of a peer's messages are remembered, so that one that comes again is not served again: at 5 a second
/// those of 50 s, longer than a message is repeated (MAX_TRANSMIT_SPAN 45 s).
/// Limit for each peer: the oldest are forgotten, and served again if they come again.
pub const SERVED_MAX: usize = 256;
/// How many bytes are kept for one peer, so that answers can be given again: those of the messages above, if each
/// answer repeats 140 bytes of its request.
/// Limit for each peer: the oldest are forgotten, and served again if they are asked for again.
pub const KEPT_ANSWER_BYTES_MAX: usize = 48 * 1024;

/// How many requests to a peer may be open, those that wait for others included: one is sent at a time (NSTART).
/// Limit for each peer: the request is refused to the gateway.
pub const CALLS_MAX: usize = 32;
/// How many resources of a peer may be observed.
/// Limit for each peer: the request is refused to the gateway, which reads the resource instead.
pub const OBSERVATIONS_MAX: usize = 64;
/// Longest path and query of a request, in bytes.
/// Limit for each request to a peer: it is refused to the gateway.
pub const TARGET_BYTES_MAX: usize = 1_024;
/// Longest part of a path or a query (§5.10), in bytes.
/// Limit for each request: 4.02; one to a peer is refused to the gateway.
pub(super) const SEGMENT_BYTES_MAX: usize = 255;
/// How long a request may be open in all, in milliseconds: a body of 64 KiB in blocks of 64 bytes, half a second
/// each, takes nine minutes.
/// Limit for each request to a peer: it has timed out.
pub const PATIENCE_MS_MAX: u64 = 15 * 60_000;
/// Longest time in which an observed value is taken as fresh, in milliseconds: a node may have forgotten who
/// observes it.
/// Limit for each observation: the node is asked again.
pub(super) const FRESH_MS_MAX: u64 = 24 * 60 * 60_000;

/// How many bytes are kept for one peer.
/// Limit for each peer: 5.03, or the request is refused to the gateway.
pub const PEER_BYTES_MAX: usize = 256 * 1024;
/// How many bytes are kept for all peers.
/// Limit for each gateway: what is kept for those that have most is forgotten; further requests are refused.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many bytes are kept for all peers whose addresses are not proven.
/// Limit for each gateway: those that were heard of least recently are forgotten.
pub const STRANGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many bytes are kept for all peers with sessions (DTLS).
/// Limit for each gateway: what is kept for those that have most is forgotten; further requests are refused.
pub const SESSIONS_HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How many message ids of requests a peer gets in one lifetime of them (247 s): half of those that there are, so
/// that none comes again within it.
/// Limit for each peer: further requests wait.
pub(super) const IDS_MAX: u16 = 16_000;
/// How often some of the peers are looked through for what is over, in milliseconds.
pub(super) const SWEEP_MS: u64 = 1_000;
/// In how many parts all peers are looked through: so none is for long what all others wait for.
pub(super) const SWEEP_PARTS: usize = 10;
/// How often at most all peers are looked through for what need not be kept, in milliseconds: it may be that all
/// that is kept is needed.
pub(super) const SHED_MS: u64 = 1_000;

/// What an owner may choose.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The largest block that is sent and asked for.
    pub block_size: BlockSize,
    /// See [`BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
    /// See [`HELD_BYTES_MAX`].
    pub held_bytes_max: usize,
    /// See [`STRANGER_BYTES_MAX`].
    pub stranger_bytes_max: usize,
    /// What stands before and behind the body of a request in an answer that repeats it
    /// ([`Response::is_echo`](super::Response::is_echo)).
    pub echo: (&'static str, &'static str),
    /// Whether a peer is the other end of a session, its port included.
    pub has_sessions: bool,
}

impl Terms {
    /// The answer that repeats the body of a request.
    #[must_use]
    pub fn echo_of(&self, body: &[u8]) -> Response {
        let (before, behind) = self.echo;
        let text = [before.as_bytes(), body, behind.as_bytes()].concat();
        Response { is_echo: true, ..Response::text(Code::CHANGED, text) }
    }

    /// These, of peers with sessions.
    #[must_use]
    pub fn of_sessions(self) -> Self {
        Self { held_bytes_max: SESSIONS_HELD_BYTES_MAX, has_sessions: true, ..self }
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            block_size: BlockSize::MAX,
            body_bytes_max: BODY_BYTES_MAX,
            held_bytes_max: HELD_BYTES_MAX,
            stranger_bytes_max: STRANGER_BYTES_MAX,
            echo: ("", ""),
            has_sessions: false,
        }
    }
}
