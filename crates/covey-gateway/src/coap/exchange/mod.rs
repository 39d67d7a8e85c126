//! The exchange layer of CoAP: a state machine without sockets, tasks and clocks (RFC 7252 §4 and §5, RFC 7641,
//! RFC 7959).
//!
//! Its owner gives it each datagram that came ([`Exchange::datagram`]), what it wants to ask
//! ([`request`](Exchange::request), [`ping`](Exchange::ping)), its answers ([`respond`](Exchange::respond)), and
//! calls [`timer`](Exchange::timer) when [`deadline_ms`](Exchange::deadline_ms) has come. What is to be sent and
//! what has happened is appended to an [`Output`]. All times are milliseconds since some beginning.
//!
//! | what | how |
//! | --- | --- |
//! | a request of a peer | told once, however often it comes; answered with its acknowledgement, or apart |
//! | a request to a peer | one on its way at a time; ends exactly once: answered, failed, or reached |
//! | a body above one block | put together and cut here; the owner sees whole bodies |
//! | an observed resource | told when it changes; asked again when it is no longer fresh |
//!
//! A peer is an address, whatever port it sends from; with sessions it is the other end of one ([`Terms::has_sessions`]). Whoever is at an address that is not proven gets answers
//! that are less than three times as large as what he sends, and has a small share of the memory. An address is
//! proven when its owner says so, or when a token that was sent there has come back.

mod address;
mod answer;
mod asking;
mod bodies;
mod call;
mod calling;
mod event;
mod observing;
mod peer;
mod served;
mod serving;
mod terms;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use rand::SeedableRng;
use rand::rngs::StdRng;

pub use address::Address;
pub use event::{
    Asked, Datagram, Dropped, Event, Failure, Incoming, ObservationEnd, Output, Receipt, Refused, Request,
    RequestId, Response, Unobserve,
};
pub use terms::{
    ACK_TIMEOUT_LATEST_MS, ACK_TIMEOUT_MS, ANSWERS_MAX, ASSEMBLIES_MAX, BLOCK_WAIT_MS_MAX, BODY_BYTES_MAX,
    CALLS_MAX, EXCHANGE_LIFETIME_MS, HELD_BYTES_MAX, KEPT_ANSWER_BYTES_MAX, NON_LIFETIME_MS,
    OBSERVATIONS_MAX, PATIENCE_MS_MAX, PEER_BYTES_MAX, PENDING_MAX, RETRANSMIT_MAX, SERVED_MAX,
    SESSIONS_HELD_BYTES_MAX, STRANGER_ANSWER_FACTOR_MAX, STRANGER_BODY_BYTES_MAX, STRANGER_BYTES_MAX,
    STRANGER_RETRANSMIT_MAX, TARGET_BYTES_MAX, TRANSMIT_WAIT_MS_MAX, Terms,
};

use super::message::{Code, Draft, Kind, Message};
use peer::{Chance, Peer, Step};
use served::{Repeat, digest};
use terms::{SHED_MS, SWEEP_MS, SWEEP_PARTS};

/// The exchange layer. See the [module](self).
#[derive(Debug)]
pub struct Exchange {
    terms: Terms,
    chance: Chance,
    peers: HashMap<Address, Box<Peer>>,
    /// When something is to be done with which peer.
    due: BTreeSet<(u64, Address)>,
    /// What is kept for all peers, and of that for those that are not proven, in bytes.
    held_bytes: usize,
    stranger_bytes: usize,
    /// When the next part of the peers is looked through, which are left, and how many make a part.
    sweep_ms: u64,
    to_sweep: Vec<Address>,
    sweep_part: usize,
    /// When what is kept may be looked through next for what need not be.
    shed_ms: u64,
}

impl Exchange {
    /// One without peers. The seed must come from a good source of chance, unless a test wants to see the same
    /// again: nobody may guess a token.
    #[must_use]
    pub fn new(terms: Terms, seed: [u8; 32]) -> Self {
        Self {
            terms,
            chance: Chance::new(StdRng::from_seed(seed)),
            peers: HashMap::new(),
            due: BTreeSet::new(),
            held_bytes: 0,
            stranger_bytes: 0,
            sweep_ms: 0,
            to_sweep: Vec::new(),
            sweep_part: 0,
            shed_ms: 0,
        }
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// Why it was dropped. What the standard wants to be answered is in the output nevertheless.
    pub fn datagram(&mut self, incoming: Incoming<'_>, now_ms: u64, out: &mut Output) -> Result<(), Dropped> {
        let Incoming { from, to, is_proven, bytes } = incoming;
        // Nobody but one shall answer it, and nobody may be made to (§8.2).
        if to.is_some_and(is_to_many) {
            return Err(Dropped::Multicast);
        }
        let address = self.address_of(from);
        let port = from.port();
        let send = |out: &mut Output, kind, id| {
            let bytes = Draft::empty(kind, id).to_vec();
            out.datagrams.push(Datagram { to: address.at(port), from: to, bytes });
        };
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(malformed) => {
                if let Some((Kind::Confirmable, id)) = malformed.header {
                    send(out, Kind::Reset, id);
                }
                return Err(Dropped::Malformed(malformed));
            }
        };
        let is_known = self.peers.contains_key(&address);
        if message.code == Code::EMPTY {
            return match message.kind {
                // Somebody wants to know whether anybody is here (§4.3).
                Kind::Confirmable => {
                    send(out, Kind::Reset, message.id);
                    Ok(())
                }
                _ if !is_known => Err(Dropped::Unmatched),
                kind => self.with_peer(address, now_ms, out, |step| {
                    step.peer.tell_proven(is_proven);
                    let is_reset = kind == Kind::Reset;
                    let is_found = if is_reset {
                        step.rejected(port, message.id)
                    } else {
                        step.acknowledged(port, message.id)
                    };
                    let is_found = is_found || step.response_settled(port, message.id);
                    if is_found { Ok(()) } else { Err(Dropped::Unmatched) }
                }),
            };
        }
        if message.code.is_request() {
            if !is_known && self.room_bytes() == 0 {
                return Err(Dropped::NoRoom);
            }
            return self.with_peer(address, now_ms, out, |step| {
                step.peer.tell_proven(is_proven);
                step.peer.heard_ms = now_ms;
                if let Some(local) = to {
                    step.peer.set_local(local);
                }
                step.asked(port, &message, bytes)
            });
        }
        let is_taken = is_known
            && self.with_peer(address, now_ms, out, |step| {
                step.peer.tell_proven(is_proven);
                step.peer.heard_ms = now_ms;
                take_response(step, port, &message, bytes)
            });
        if is_taken {
            return Ok(());
        }
        // §4.2, §4.3, and RFC 7641 §3.6: who observed has forgotten it.
        if message.kind != Kind::Acknowledgement {
            send(out, Kind::Reset, message.id);
        }
        Err(Dropped::Unmatched)
    }

    /// Asks a peer, at whose address somebody is known to be or not. An [`Event`] tells how it ends, once.
    ///
    /// # Errors
    /// Why it was not begun.
    pub fn request(
        &mut self,
        to: SocketAddr,
        is_proven: bool,
        request: Request,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<RequestId, Refused> {
        self.begin(to, now_ms, out, |step| {
            step.peer.tell_proven(is_proven);
            step.request(to.port(), request)
        })
    }

    /// Asks a peer whether somebody is there who speaks CoAP; [`Event::Reached`] or [`Event::Failed`] follows.
    ///
    /// # Errors
    /// [`Refused::Full`].
    pub fn ping(&mut self, to: SocketAddr, now_ms: u64, out: &mut Output) -> Result<RequestId, Refused> {
        self.begin(to, now_ms, out, |step| step.ping(to.port()))
    }

    fn begin(
        &mut self,
        to: SocketAddr,
        now_ms: u64,
        out: &mut Output,
        begin: impl FnOnce(&mut Step<'_>) -> Result<RequestId, Refused>,
    ) -> Result<RequestId, Refused> {
        let address = self.address_of(to);
        if !self.peers.contains_key(&address) && self.room_bytes() == 0 {
            return Err(Refused::Full);
        }
        self.with_peer(address, now_ms, out, begin)
    }

    /// Answers a request of a peer. False if it is no longer open: nobody waits for the answer.
    pub fn respond(&mut self, receipt: Receipt, response: Response, now_ms: u64, out: &mut Output) -> bool {
        let Receipt { address, number } = receipt;
        self.with_known(address, now_ms, out, |step| step.respond(number, response))
    }

    /// Ends a request without an answer: it fails with [`Failure::Cancelled`]. False if it has ended.
    pub fn cancel(&mut self, request: RequestId, now_ms: u64, out: &mut Output) -> bool {
        let RequestId { address, number } = request;
        self.with_known(address, now_ms, out, |step| step.cancel(number, Failure::Cancelled))
    }

    /// Gives an observation up; nothing more is told of it. False if it is over.
    pub fn unobserve(
        &mut self,
        observation: RequestId,
        how: Unobserve,
        now_ms: u64,
        out: &mut Output,
    ) -> bool {
        let RequestId { address, number } = observation;
        self.with_known(address, now_ms, out, |step| step.unobserve(number, how))
    }

    /// Forgets what is under way with a peer, because it is gone or has restarted: its observations end without
    /// a word, and requests to it fail with [`Failure::Cancelled`].
    pub fn forget(&mut self, address: Address, now_ms: u64, out: &mut Output) {
        self.with_known(address, now_ms, out, |step| {
            step.forget_observations();
            step.cancel_all(Failure::Cancelled);
            true
        });
    }

    /// Does what is due: messages are sent again, requests time out, observations are renewed.
    pub fn timer(&mut self, now_ms: u64, out: &mut Output) {
        while let Some((due_ms, address)) = self.due.first().copied() {
            if due_ms > now_ms {
                break;
            }
            // Its next time is after this one: each step below moves what was due.
            let is_known = self.with_known(address, now_ms, out, |step| {
                step.serving_timer();
                step.calling_timer();
                step.observing_timer();
                true
            });
            if !is_known {
                self.due.remove(&(due_ms, address));
            }
        }
        if self.sweep_ms <= now_ms {
            self.sweep_ms = now_ms + SWEEP_MS;
            self.sweep(now_ms, out);
        }
    }

    /// When [`timer`](Self::timer) is to be called; none as long as nobody is known.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        let due_ms = self.due.first().map(|(due_ms, _)| *due_ms);
        let sweep_ms = (!self.peers.is_empty()).then_some(self.sweep_ms);
        due_ms.into_iter().chain(sweep_ms).min()
    }

    /// What its owner has chosen.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// How many peers are known: heard of or spoken to a short time ago.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// How many bytes are kept for all peers.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// How many bytes are kept for peers whose addresses are not proven.
    #[must_use]
    pub const fn stranger_bytes(&self) -> usize {
        self.stranger_bytes
    }

    fn address_of(&self, end: SocketAddr) -> Address {
        if self.terms.has_sessions { Address::of_session(end) } else { Address::of(end) }
    }

    const fn room_bytes(&self) -> usize {
        self.terms.held_bytes_max.saturating_sub(self.held_bytes)
    }

    fn with_known(
        &mut self,
        address: Address,
        now_ms: u64,
        out: &mut Output,
        act: impl FnOnce(&mut Step<'_>) -> bool,
    ) -> bool {
        self.peers.contains_key(&address) && self.with_peer(address, now_ms, out, act)
    }

    /// Does something with a peer, known or new, and notes what is due with it and what it takes.
    fn with_peer<T>(
        &mut self,
        address: Address,
        now_ms: u64,
        out: &mut Output,
        act: impl FnOnce(&mut Step<'_>) -> T,
    ) -> T {
        let room_bytes = self.room_bytes();
        let random = &mut self.chance.random;
        let peer = self.peers.entry(address).or_insert_with(|| Box::new(Peer::new(random, now_ms)));
        let (terms, chance) = (&self.terms, &mut self.chance);
        let mut step = Step { address, peer, terms, chance, now_ms, room_bytes, out };
        let done = act(&mut step);
        self.settle(address, now_ms);
        if self.stranger_bytes > self.terms.stranger_bytes_max {
            self.forget_strangers(now_ms, out);
        }
        if self.held_bytes > self.terms.held_bytes_max && self.shed_ms <= now_ms {
            self.shed_ms = now_ms + SHED_MS;
            self.shed(now_ms);
        }
        done
    }

    fn settle(&mut self, address: Address, now_ms: u64) {
        let Some(peer) = self.peers.get_mut(&address) else { return };
        peer.tidy();
        let due_ms = peer.due_ms(now_ms);
        if due_ms != peer.listed_ms {
            if let Some(before_ms) = peer.listed_ms {
                self.due.remove(&(before_ms, address));
            }
            if let Some(due_ms) = due_ms {
                self.due.insert((due_ms, address));
            }
            peer.listed_ms = due_ms;
        }
        let before_bytes = peer.counted_bytes;
        self.held_bytes -= before_bytes;
        if peer.is_counted_as_stranger {
            self.stranger_bytes -= before_bytes;
        }
        if peer.is_over(now_ms) {
            self.peers.remove(&address);
            if self.peers.is_empty() {
                self.peers = HashMap::new();
            }
            return;
        }
        peer.counted_bytes = peer.held_bytes();
        peer.is_counted_as_stranger = !peer.is_proven();
        self.held_bytes += peer.counted_bytes;
        if peer.is_counted_as_stranger {
            self.stranger_bytes += peer.counted_bytes;
        }
    }

    /// Forgets what is over, of a part of the peers.
    fn sweep(&mut self, now_ms: u64, out: &mut Output) {
        if self.to_sweep.is_empty() {
            self.to_sweep = self.peers.keys().copied().collect();
            self.sweep_part = self.to_sweep.len().div_ceil(SWEEP_PARTS);
        }
        for _ in 0..self.sweep_part {
            let Some(address) = self.to_sweep.pop() else { break };
            self.with_known(address, now_ms, out, |step| {
                step.peer.expire(now_ms);
                true
            });
        }
        if self.peers.capacity() > 4 * self.peers.len() + 64 {
            self.peers.shrink_to_fit();
        }
    }

    /// Forgets the strangers that were heard of least recently, until a quarter of their room is free.
    fn forget_strangers(&mut self, now_ms: u64, out: &mut Output) {
        let strangers = self.peers.iter().filter(|(_, peer)| !peer.is_proven());
        let mut strangers: Vec<_> = strangers.map(|(address, peer)| (peer.heard_ms, *address)).collect();
        strangers.sort_unstable();
        let wanted_bytes = self.terms.stranger_bytes_max / 4 * 3;
        for (_, address) in strangers {
            if self.stranger_bytes <= wanted_bytes {
                return;
            }
            let Some(mut peer) = self.peers.remove(&address) else { continue };
            self.held_bytes -= peer.counted_bytes;
            self.stranger_bytes -= peer.counted_bytes;
            if let Some(due_ms) = peer.listed_ms {
                self.due.remove(&(due_ms, address));
            }
            let (terms, chance, peer) = (&self.terms, &mut self.chance, &mut *peer);
            let mut step = Step { address, peer, terms, chance, now_ms, room_bytes: 0, out };
            step.cancel_all(Failure::NoRoom);
        }
    }

    /// Forgets what need not be kept of those peers that have most, until an eighth of the room is free.
    fn shed(&mut self, now_ms: u64) {
        let mut holders: Vec<_> =
            self.peers.iter().map(|(address, peer)| (peer.counted_bytes, *address)).collect();
        holders.sort_unstable_by(|one, other| other.cmp(one));
        let wanted_bytes = self.terms.held_bytes_max / 8 * 7;
        for (_, address) in holders {
            if self.held_bytes <= wanted_bytes {
                return;
            }
            if let Some(peer) = self.peers.get_mut(&address) {
                peer.shed();
            }
            self.settle(address, now_ms);
        }
    }
}

/// A response, with the acknowledgement that it asks for. False if it belongs to nothing.
fn take_response(step: &mut Step<'_>, port: u16, message: &Message<'_>, bytes: &[u8]) -> bool {
    let is_confirmable = message.kind == Kind::Confirmable;
    let digest = digest(bytes);
    let acknowledge = |step: &mut Step<'_>| {
        step.send(port, Draft::empty(Kind::Acknowledgement, message.id).to_vec());
    };
    if is_confirmable && step.peer.served.find(port, message.id, digest, step.now_ms).is_some() {
        // The acknowledgement was lost: the request has its answer already.
        acknowledge(step);
        return true;
    }
    // First, so that what follows from the response goes out behind it.
    let sent = step.out.datagrams.len();
    let is_taken = step.responded(port, message) || step.notified(port, message);
    if is_taken && is_confirmable {
        step.peer.served.add((port, message.id), digest, true, Repeat::Acknowledge, step.now_ms);
        acknowledge(step);
        // Before what the response has set off.
        if let Some(later) = step.out.datagrams.get_mut(sent..) {
            later.rotate_right(1);
        }
    }
    is_taken
}

/// Multicast and broadcast. That of a subnet is not told from an address of one.
pub(super) fn is_to_many(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => {
            address.is_multicast()
                || address
                    .to_ipv4_mapped()
                    .is_some_and(|address| address.is_multicast() || address.is_broadcast())
        }
    }
}
