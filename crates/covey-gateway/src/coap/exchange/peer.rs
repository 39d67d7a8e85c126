//! What is kept of a peer.

use std::net::{IpAddr, Ipv6Addr};

use rand::RngExt;
use rand::rngs::StdRng;

use super::address::Address;
use super::bodies::{Answers, Assemblies};
use super::call::Call;
use super::event::{Datagram, Event, Output};
use super::observing::Observation;
use super::served::{KeptAnswers, ServedList};
use super::serving::{Pending, Separate};
use super::terms::{EXCHANGE_LIFETIME_MS, IDS_MAX, Terms};
use crate::coap::message::Token;

/// What a peer costs of which nothing is under way, its place among the others included.
const PEER_BYTES: usize = size_of::<Peer>() + 2 * size_of::<Address>() + 2 * size_of::<usize>();

/// A peer: somebody who was heard of, or to whom something was sent, a short time ago.
#[derive(Debug)]
pub(super) struct Peer {
    /// To which of this host's addresses it sends; unspecified if that is not known.
    local: Ipv6Addr,
    /// Messages that were taken.
    pub served: ServedList,
    /// What a peer does not have of which nothing is under way.
    work: Option<Box<Work>>,
    /// When something is to be done next, as it stands among all peers.
    pub listed_ms: Option<u64>,
    /// When the last message came.
    pub heard_ms: u64,
    /// From when on message ids are counted.
    ids_since_ms: u64,
    /// How many ids of requests were used since.
    ids_used: u16,
    /// The last id of a request: below 2^15.
    call_id: u16,
    /// The last id of a response: 2^15 and above. A peer that asks much uses up none that its own requests
    /// need.
    response_id: u16,
    /// Whether the owner knows somebody at the address.
    is_told_proven: bool,
    /// Whether somebody at the address has repeated a token that went there.
    pub has_answered: bool,
    /// What was counted for it, and with whom.
    pub counted_bytes: usize,
    pub is_counted_as_stranger: bool,
}

/// What is under way with a peer.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub kept: KeptAnswers,
    pub pending: Vec<Pending>,
    pub separate: Vec<Separate>,
    pub assemblies: Assemblies,
    pub answers: Answers,
    pub calls: Vec<Call>,
    pub observations: Vec<Observation>,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.kept.is_empty()
            && self.pending.is_empty()
            && self.separate.is_empty()
            && self.assemblies.is_empty()
            && self.answers.is_empty()
            && self.calls.is_empty()
            && self.observations.is_empty()
    }

    fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.kept.held_bytes()
            + self.pending.capacity() * size_of::<Pending>()
            + self.separate.iter().map(Separate::held_bytes).sum::<usize>()
            + self.assemblies.held_bytes()
            + self.answers.held_bytes()
            + self.calls.iter().map(Call::held_bytes).sum::<usize>()
            + self.observations.iter().map(Observation::held_bytes).sum::<usize>()
    }
}

/// Where chance comes from, and numbers that never come again.
#[derive(Debug)]
pub(super) struct Chance {
    pub random: StdRng,
    last_number: u64,
}

impl Chance {
    pub const fn new(random: StdRng) -> Self {
        Self { random, last_number: 0 }
    }

    pub fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// One that nobody can guess who does not see what is sent (RFC 7252 §5.3.1). Four bytes: frames of nodes
    /// are small.
    pub fn token(&mut self) -> Token {
        Token::new(&self.random.random::<[u8; 4]>()).unwrap_or_default()
    }
}

impl Peer {
    pub fn new(random: &mut StdRng, now_ms: u64) -> Self {
        Self {
            local: Ipv6Addr::UNSPECIFIED,
            served: ServedList::default(),
            work: None,
            listed_ms: None,
            heard_ms: now_ms,
            ids_since_ms: now_ms,
            ids_used: 0,
            call_id: random.random(),
            response_id: random.random(),
            is_told_proven: false,
            has_answered: false,
            counted_bytes: 0,
            is_counted_as_stranger: true,
        }
    }

    pub const fn is_proven(&self) -> bool {
        self.is_told_proven || self.has_answered
    }

    pub const fn tell_proven(&mut self, is_proven: bool) {
        self.is_told_proven = is_proven;
    }

    pub const fn set_local(&mut self, local: IpAddr) {
        self.local = match local {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
    }

    fn local(&self) -> Option<IpAddr> {
        (!self.local.is_unspecified()).then_some(IpAddr::V6(self.local))
    }

    pub fn work(&self) -> Option<&Work> {
        self.work.as_deref()
    }

    pub fn work_mut(&mut self) -> Option<&mut Work> {
        self.work.as_deref_mut()
    }

    pub fn begun_work(&mut self) -> &mut Work {
        self.work.get_or_insert_default()
    }

    /// What is kept of messages, and what is under way.
    pub fn served_and_work(&mut self) -> (&mut ServedList, &mut Work) {
        (&mut self.served, self.work.get_or_insert_default())
    }

    /// Whether another request may be sent, or when: the ids are used up.
    pub const fn ids_free_ms(&mut self, now_ms: u64) -> Option<u64> {
        let until_ms = self.ids_since_ms + EXCHANGE_LIFETIME_MS;
        if now_ms >= until_ms {
            self.ids_since_ms = now_ms;
            self.ids_used = 0;
        }
        if self.ids_used >= IDS_MAX { Some(until_ms) } else { None }
    }

    /// The id of a request's message.
    pub const fn next_call_id(&mut self) -> u16 {
        self.ids_used = self.ids_used.saturating_add(1);
        self.call_id = self.call_id.wrapping_add(1) & 0x7FFF;
        self.call_id
    }

    /// The id of a response's message.
    pub const fn next_response_id(&mut self) -> u16 {
        self.response_id = self.response_id.wrapping_add(1) | 0x8000;
        self.response_id
    }

    /// Gives back what nothing needs.
    pub fn tidy(&mut self) {
        if let Some(work) = &mut self.work {
            if work.calls.is_empty() && work.calls.capacity() > 4 {
                work.calls = Vec::new();
            }
            if work.pending.is_empty() && work.pending.capacity() > 4 {
                work.pending = Vec::new();
            }
            if work.is_empty() {
                self.work = None;
            }
        }
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now_ms: u64) {
        self.served.expire(now_ms);
        let Self { served, work, .. } = self;
        if let Some(work) = work {
            work.kept.expire(served);
            work.assemblies.expire(now_ms);
            work.answers.expire(now_ms);
            work.pending.retain(|pending| pending.expires_ms > now_ms);
        }
    }

    /// Forgets what was only kept for the case that a peer repeats itself or asks for the next block.
    pub fn shed(&mut self) {
        self.served.clear();
        if let Some(work) = &mut self.work {
            work.kept = KeptAnswers::default();
            work.assemblies.clear();
            work.answers.clear();
        }
    }

    /// Whether nothing need be known of it any more: of an id that was used, that it was.
    pub fn is_over(&self, now_ms: u64) -> bool {
        let is_id_free = self.ids_used == 0 || now_ms >= self.ids_since_ms + 2 * EXCHANGE_LIFETIME_MS;
        self.work.is_none() && self.served.is_empty() && is_id_free
    }

    pub fn held_bytes(&self) -> usize {
        PEER_BYTES + self.served.held_bytes() + self.work().map_or(0, Work::held_bytes)
    }

    /// When something is to be done next.
    pub fn due_ms(&mut self, now_ms: u64) -> Option<u64> {
        let ids_free_ms = self.ids_free_ms(now_ms);
        let work = self.work()?;
        let pending = work.pending.iter().filter_map(|pending| pending.acknowledge_ms);
        let separate = work.separate.iter().map(Separate::due_ms);
        let calls = work.calls.iter().map(|call| call.due_ms(ids_free_ms));
        let observations = work.observations.iter().filter_map(Observation::due_ms);
        pending.chain(separate).chain(calls).chain(observations).min()
    }
}

/// A peer, and all that a step with it needs.
pub(super) struct Step<'a> {
    pub address: Address,
    pub peer: &'a mut Peer,
    pub terms: &'a Terms,
    pub chance: &'a mut Chance,
    pub now_ms: u64,
    /// How many more bytes may be kept.
    pub room_bytes: usize,
    pub out: &'a mut Output,
}

impl Step<'_> {
    pub fn send(&mut self, port: u16, bytes: Vec<u8>) {
        self.out.datagrams.push(Datagram { to: self.address.at(port), from: self.peer.local(), bytes });
    }

    /// The same of what was not acknowledged.
    pub fn send_again(&mut self, port: u16, bytes: Vec<u8>) {
        self.out.sent_again += 1;
        self.send(port, bytes);
    }

    pub fn happened(&mut self, event: Event) {
        self.out.events.push(event);
    }
}
