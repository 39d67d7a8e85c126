//! What a CoAP node is: who says `alive`, what is asked of it, and what it says (`docs/gateways.md` "CoAP nodes").
//!
//! A node is known by its address, never by its port. Its uid is what it says; whoever says the uid of another that
//! still answers is not heard. A node with a session (DTLS) is known by that, and has the uids of its identity: whoever
//! has another one, or none, is not heard under them.
//!
//! What is asked of a node is ended by what concerns this node alone: others at its address go on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use super::driver::{Coap, Counts, Listeners, Owner, Told, add};
use super::dtls::{Identity, Keys};
use super::exchange::{
    Address, Asked, Event, Exchange, Failure, ObservationEnd, Receipt, Refused, Request, RequestId, Response,
    Terms, Unobserve,
};
use super::link_format::{self, Resource};
use super::message::{BlockSize, Code};
use super::socket::PORT;
use crate::gateway::{Gateway, Protocol};
use crate::node::{Answer, Confirmation, Gone, Habits, Heard, Seen};
use crate::port::Port;
use crate::value::{json_of, text_of};

/// Longest uid of a node, in bytes.
/// Limit for each node: 4.00.
const UID_BYTES_MAX: usize = 128;
/// How many resources of a node are asked for.
/// Limit for each node: further ones are left out.
const RESOURCES_MAX: usize = 64;
/// How many uids there may be at one address.
/// Limit for each address: a further one is answered, and not heard.
const UIDS_PER_ADDRESS_MAX: usize = 16;
/// How many addresses of which one datagram came are remembered.
/// Limit for each gateway: all of them are forgotten, and begin anew.
const STRANGERS_MAX: usize = 16_384;
/// How long a node may take to answer a question, in milliseconds.
/// Limit for each question: it is asked again when the node is heard of.
const PATIENCE_MS: u64 = 60_000;
/// How often the time doubles after which a resource is asked for again that was asked for in vain: at the next sign of
/// life, then after 2, 4, … of them. A write may have to wait as long as such a question has no answer.
const DOUBLINGS: u8 = 6;
/// For how long reports are gathered that come close upon each other, in milliseconds: well below the 500 ms after which
/// a request is acknowledged without its answer, and little beside what the networks of such nodes take.
const TOGETHER_MS: u64 = 20;
/// How many commands may wait for the task of the gateway.
/// Limit for each gateway: a write is tried again later.
const COMMANDS_MAX: usize = 65_536;
/// What the gateway says of itself (RFC 6690), and its content format.
const OWN_LINKS: &str = "</alive>,</server>";
const LINK_FORMAT: u16 = 40;
/// What stands before and behind what a node has said, in the answer that it was stored.
const RECEIVED: (&str, &str) = ("Received '", "'");

/// How CoAP nodes behave, silent for so long at most. Only `/alive` is a sign of life.
#[must_use]
pub const fn habits(silence: Duration) -> Habits {
    Habits {
        silence_ms_max: Some(silence.as_millis() as u64),
        confirmation: Confirmation::Answer,
        reports_are_life: false,
        together_ms: TOGETHER_MS,
    }
}

/// Serves nodes until `stop`. The seed must come from a good source of chance.
pub async fn serve<P: Port>(
    gateway: Arc<Gateway<P>>,
    listeners: impl Into<Listeners>,
    seed: [u8; 32],
    counts: Arc<Counts>,
    stop: CancellationToken,
) {
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    let hand = Arc::new(Hand { gateway: Arc::clone(&gateway), sender: sender.clone() });
    gateway.speak(&hand);
    let listeners = listeners.into();
    let keys = listeners.secure.as_ref().map(|(_, sessions)| Arc::clone(sessions.keys()));
    let owner = Nodes::new(Arc::clone(&gateway), sender, keys, Arc::clone(&counts));
    let exchange = Exchange::new(Terms { echo: RECEIVED, ..Terms::default() }, seed);
    let driven = super::driver::serve(listeners, exchange, owner, commands, counts, stop.clone());
    tokio::join!(driven, gateway.run(stop));
    drop(hand);
}

/// What the task of the gateway is told.
enum Command {
    Discover(Arc<str>),
    Set { uid: Arc<str>, number: u64, resource: String, value: Arc<str> },
    Forget(Arc<str>),
    Heard { receipt: Receipt, payload: Vec<u8>, heard: Heard },
}

/// The protocol as the gateway sees it.
struct Hand<P: Port> {
    gateway: Arc<Gateway<P>>,
    sender: mpsc::Sender<Command>,
}

impl<P: Port> Protocol for Hand<P> {
    fn discover(&self, uid: &Arc<str>, _: bool) {
        // Without room it is asked when it says that it is alive.
        let _ = self.sender.try_send(Command::Discover(Arc::clone(uid)));
    }

    fn set(&self, uid: &Arc<str>, number: u64, resource: &str, value: &Arc<str>) {
        let (resource, value) = (resource.to_owned(), Arc::clone(value));
        let command = Command::Set { uid: Arc::clone(uid), number, resource, value };
        if self.sender.try_send(command).is_err() {
            self.gateway.written(uid, number, Answer::None);
        }
    }

    fn forget(&self, uid: &Arc<str>) {
        let _ = self.sender.try_send(Command::Forget(Arc::clone(uid)));
    }

    fn close(&self, _: &Arc<str>) {
        // It is forgotten, and not heard when it comes again.
    }

    fn is_passing(&self, _: &Arc<str>) -> bool {
        false
    }
}

/// Why something was asked.
enum Purpose {
    /// Whether anybody is at the address of a newcomer.
    Prove { uid: Arc<str> },
    /// Whether a node is still where it was, since another address has said its uid.
    Challenge { uid: Arc<str>, claimant: Address, is_reset: bool },
    /// Which resources a node has.
    Core { uid: Arc<str> },
    /// What a resource is.
    Get { uid: Arc<str>, wanted: Wanted },
    /// A write.
    Put { uid: Arc<str>, number: u64, value: Arc<str>, is_in_blocks: bool },
}

impl Purpose {
    const fn uid(&self) -> &Arc<str> {
        match self {
            Self::Prove { uid }
            | Self::Challenge { uid, .. }
            | Self::Core { uid }
            | Self::Get { uid, .. }
            | Self::Put { uid, .. } => uid,
        }
    }
}

/// A resource that is to be asked for.
struct Wanted {
    resource: Resource,
    /// How often it was asked for in vain.
    failures: u8,
    /// After how many more signs of life it is asked for.
    alives_left: u8,
}

impl Wanted {
    /// It was asked for in vain.
    fn again(self) -> Self {
        let alives_left = 1 << self.failures.min(DOUBLINGS);
        Self { failures: self.failures.saturating_add(1), alives_left, ..self }
    }
}

struct Node {
    address: Address,
    /// Who has spoken for it over a session.
    identity: Option<Arc<str>>,
    /// Resources that are still to be asked for.
    to_read: VecDeque<Wanted>,
    /// Resources that are asked for when it is heard of again: they were asked for in vain, or are observed no more.
    to_read_again: Vec<Wanted>,
    /// Whether a resource is being asked for.
    is_reading: bool,
    /// Whether it has said which resources it has.
    is_discovered: bool,
    /// Whether it is being asked that.
    is_discovering: bool,
    /// The ping by which it is asked whether it is still there.
    challenge: Option<RequestId>,
    /// What it is asked, and has not answered.
    open: Vec<RequestId>,
    /// What it tells of by itself: these questions stay open.
    observed: Vec<RequestId>,
}

/// A session, which has shown who is at the other end.
struct Session {
    identity: Arc<Identity>,
    /// Whether a node was known in it.
    has_entered: bool,
}

/// Who is at an address.
struct Here {
    /// In the order in which they said so last: what is said from there is of the last one.
    uids: Vec<Arc<str>>,
}

/// An address of which one datagram came: it is proven by a second one, or by the answer to the ping.
struct Stranger {
    uid: Arc<str>,
    ping: Option<RequestId>,
}

/// Who knows what nodes are.
struct Nodes<P: Port> {
    gateway: Arc<Gateway<P>>,
    sender: mpsc::Sender<Command>,
    /// Who may have a session, and who has one.
    keys: Option<Arc<Keys>>,
    sessions: HashMap<Address, Session>,
    by_uid: HashMap<Arc<str>, Node>,
    by_address: HashMap<Address, Here>,
    strangers: HashMap<Address, Stranger>,
    asked: HashMap<RequestId, Purpose>,
    counts: Arc<Counts>,
    /// What was told in this minute, of which address.
    told: Told<(&'static str, Address)>,
}

impl<P: Port> Owner for Nodes<P> {
    type Command = Command;

    fn is_proven(&self, address: Address) -> bool {
        self.by_address.contains_key(&address)
    }

    fn happened(&mut self, event: Event, coap: &mut Coap<'_>) {
        match event {
            Event::Asked(asked) => self.serve(asked, coap),
            Event::Answered { request, response, is_observed } => {
                if is_observed {
                    self.notified(request, &response);
                    self.observe(request, coap);
                } else if let Some(purpose) = self.ended(request) {
                    self.answered(purpose, &response, coap);
                }
            }
            Event::Failed { request, why } => {
                if let Some(purpose) = self.ended(request) {
                    self.failed(purpose, why, coap);
                }
            }
            Event::Reached { request } => match self.ended(request) {
                Some(Purpose::Prove { uid }) => self.enter_newcomer(&uid, request.address(), coap),
                Some(Purpose::Challenge { uid, claimant, .. }) => {
                    self.tell_of_claimant(&uid, claimant, request.address(), coap);
                }
                _ => {}
            },
            Event::Notified { observation, response } => self.notified(observation, &response),
            Event::Unobserved { observation, why } => self.unobserved(observation, why, coap),
        }
    }

    fn opened(&mut self, address: Address, identity: Arc<Identity>, coap: &mut Coap<'_>) {
        tracing::debug!(address = %address.ip, identity = &*identity.name, "a session of DTLS is open");
        let session = Session { identity: Arc::clone(&identity), has_entered: false };
        let before = self.sessions.insert(address, session);
        if before.is_some_and(|before| before.identity.name != identity.name) {
            self.all_leave(address, coap);
        } else {
            self.ask_again(address);
        }
    }

    fn closed(&mut self, address: Address, _: &mut Coap<'_>) {
        self.sessions.remove(&address);
        self.ask_again(address);
    }

    fn told(&mut self, command: Command, coap: &mut Coap<'_>) {
        match command {
            Command::Discover(uid) => self.discover(&uid, coap),
            Command::Set { uid, number, resource, value } => self.set(uid, number, resource, value, coap),
            Command::Forget(uid) => self.forget(&uid, coap),
            Command::Heard { receipt, payload, heard } => {
                let response = match heard {
                    Heard::Done => coap.echo_of(&payload),
                    Heard::Refused => {
                        Response::text(Code::BAD_REQUEST, "no name of a resource, or too long a value")
                    }
                    Heard::Later => Response::text(Code::SERVICE_UNAVAILABLE, "not now"),
                };
                // Whoever asked may be gone.
                coap.respond(receipt, response);
            }
        }
    }
}

impl<P: Port> Nodes<P> {
    fn new(
        gateway: Arc<Gateway<P>>,
        sender: mpsc::Sender<Command>,
        keys: Option<Arc<Keys>>,
        counts: Arc<Counts>,
    ) -> Self {
        Self {
            gateway,
            sender,
            keys,
            sessions: HashMap::new(),
            by_uid: HashMap::new(),
            by_address: HashMap::new(),
            strangers: HashMap::new(),
            asked: HashMap::new(),
            counts,
            told: Told::new(),
        }
    }

    fn serve(&mut self, asked: Asked, coap: &mut Coap<'_>) {
        let response = match (&*asked.path, asked.method) {
            (".well-known/core", Code::GET) => {
                Response { content_format: Some(LINK_FORMAT), ..Response::text(Code::CONTENT, OWN_LINKS) }
            }
            ("alive", Code::POST) => match uid_of(&asked.payload) {
                Some((uid, _)) if !self.may(asked.from, uid) => {
                    tracing::debug!(address = %asked.from.ip, uid, "a node says the uid of another identity");
                    Response::text(Code::FORBIDDEN, "this uid belongs to another identity")
                }
                Some((uid, is_reset)) => {
                    coap.respond(asked.receipt, Response::new(Code::CHANGED));
                    self.alive(uid, is_reset, asked.from, coap);
                    return;
                }
                None => Response::text(Code::BAD_REQUEST, "needs alive:UID or reset:UID"),
            },
            ("server", Code::POST) => return self.said(asked, coap),
            (".well-known/core" | "alive" | "server", _) => Response::new(Code::METHOD_NOT_ALLOWED),
            _ => Response::new(Code::NOT_FOUND),
        };
        coap.respond(asked.receipt, response);
    }

    /// A node says that it is alive, or that it has begun anew.
    fn alive(&mut self, uid: &str, is_reset: bool, from: Address, coap: &mut Coap<'_>) {
        let known = self.by_uid.get_mut(uid);
        let Some(node) = known else {
            let uid: Arc<str> = Arc::from(uid);
            // A session proves its address.
            if from.has_session() || self.prove(from, coap).is_some() || self.by_address.contains_key(&from) {
                self.enter(&uid, from, is_reset, coap);
            } else {
                // There it will be asked what it has. The port from which it says that it is alive may be closed by now.
                let ping = coap.ping(from, PORT).ok();
                self.asked.extend(ping.map(|ping| (ping, Purpose::Prove { uid: Arc::clone(&uid) })));
                self.note_stranger(from, Stranger { uid, ping });
            }
            return;
        };
        // A session has shown who is there: its node has moved, or has begun a new one.
        if node.address != from && from.has_session() {
            self.enter(&Arc::from(uid), from, is_reset, coap);
            return;
        }
        if node.address != from {
            if node.challenge.is_none()
                && let Ok(ping) = coap.ping(node.address, PORT)
            {
                node.challenge = Some(ping);
                let challenge = Purpose::Challenge { uid: Arc::from(uid), claimant: from, is_reset };
                self.asked.insert(ping, challenge);
            }
            return;
        }
        let is_lost = !node.is_discovered && !node.is_discovering;
        // It is there, whatever becomes of the ping.
        if let Some(ping) = node.challenge.take() {
            let challenge = self.asked.remove(&ping);
            coap.cancel(ping);
            if let Some(Purpose::Challenge { uid, claimant, .. }) = challenge {
                self.tell_of_claimant(&uid, claimant, from, coap);
            }
        }
        self.gateway.seen(uid, &from.to_string());
        if let Some(Here { uids }) = self.by_address.get_mut(&from)
            && let Some(place) = uids.iter().position(|at| **at == *uid)
        {
            let last = uids.remove(place);
            uids.push(last);
        }
        if is_reset {
            if let Some(node) = self.by_uid.get_mut(uid) {
                Self::end_all(&mut self.asked, node, coap);
            }
            self.gateway.reset(uid);
        } else if is_lost {
            self.gateway.discover_again(uid);
        } else {
            self.read_again(uid, coap);
        }
    }

    /// Another address has said the uid of a node that is there.
    fn tell_of_claimant(&mut self, uid: &str, claimant: Address, known: Address, coap: &Coap<'_>) {
        if self.is_to_tell("claimant", claimant, coap) {
            let (claimant, known) = (claimant.ip, known.ip);
            tracing::warn!(address = %claimant, uid, %known, "a node says the uid of another that is there");
        }
    }

    /// Whether this was not told of an address a short while ago.
    fn is_to_tell(&mut self, what: &'static str, address: Address, coap: &Coap<'_>) -> bool {
        self.told.is_first((what, address), coap.now())
    }

    /// Whether whoever is at an address may speak for a node. Without a session that is whoever comes, unless an identity is
    /// named for the node, or has spoken for it over a session since the server began.
    fn may(&self, from: Address, uid: &str) -> bool {
        let Some(keys) = &self.keys else { return true };
        match self.sessions.get(&from) {
            Some(Session { identity, .. }) => {
                let is_of_other = |node: &Node| node.identity.as_ref().is_some_and(|of| *of != identity.name);
                keys.may(identity, uid) && !self.by_uid.get(uid).is_some_and(is_of_other)
            }
            None => {
                let is_of_identity = |node: &Node| node.identity.is_some();
                !from.has_session()
                    && !keys.is_named(uid)
                    && !self.by_uid.get(uid).is_some_and(is_of_identity)
            }
        }
    }

    /// Whoever was at an address is there no more: another identity is.
    fn all_leave(&mut self, address: Address, coap: &mut Coap<'_>) {
        let nodes = self.by_uid.iter().filter(|(_, node)| node.address == address);
        let uids: Vec<Arc<str>> = nodes.map(|(uid, _)| Arc::clone(uid)).collect();
        for uid in uids {
            self.gateway.gone(&uid, Gone::Lost);
            self.forget(&uid, coap);
        }
    }

    /// What was asked of the nodes at an address is asked again when they say that they are alive.
    fn ask_again(&mut self, address: Address) {
        for node in self.by_uid.values_mut().filter(|node| node.address == address) {
            if !node.observed.is_empty() || node.is_discovering {
                // The exchange layer has forgotten them.
                for observed in node.observed.drain(..) {
                    self.asked.remove(&observed);
                }
                (node.is_discovered, node.is_discovering) = (false, false);
            }
        }
    }

    fn forget(&mut self, uid: &Arc<str>, coap: &mut Coap<'_>) {
        let Some(mut node) = self.by_uid.remove(uid) else { return };
        Self::end_all(&mut self.asked, &mut node, coap);
        if self.leave(uid, node.address) {
            coap.forget(node.address);
        }
    }

    /// Ends what is under way with a node, and what is known of it. A write is tried again when the node is heard of.
    fn end_all(asked: &mut HashMap<RequestId, Purpose>, node: &mut Node, coap: &mut Coap<'_>) {
        // The last one first, so that none is sent because the one before it has ended.
        for request in node.open.drain(..).rev() {
            if !matches!(asked.get(&request), Some(Purpose::Put { .. })) {
                asked.remove(&request);
            }
            coap.cancel(request);
        }
        for observed in node.observed.drain(..) {
            asked.remove(&observed);
            coap.unobserve(observed, Unobserve::ByReset);
        }
        if let Some(ping) = node.challenge.take() {
            asked.remove(&ping);
            coap.cancel(ping);
        }
        node.to_read.clear();
        node.to_read_again.clear();
        (node.is_reading, node.is_discovered, node.is_discovering) = (false, false, false);
    }

    /// Remembers that a datagram came from an address, which was asked whether anybody is there.
    fn note_stranger(&mut self, from: Address, stranger: Stranger) {
        if self.strangers.len() >= STRANGERS_MAX {
            self.strangers.clear();
        }
        self.strangers.insert(from, stranger);
    }

    /// A second datagram came from an address; answers the uid that the first one said.
    fn prove(&mut self, from: Address, coap: &mut Coap<'_>) -> Option<Arc<str>> {
        let Stranger { uid, ping } = self.strangers.remove(&from)?;
        // What is asked of an address waits for what was asked before (RFC 7252 §4.7).
        if let Some(ping) = ping {
            self.asked.remove(&ping);
            coap.cancel(ping);
        }
        Some(uid)
    }

    /// A newcomer's address is proven. If the node has come from another one meanwhile, that one is asked first.
    fn enter_newcomer(&mut self, uid: &Arc<str>, address: Address, coap: &mut Coap<'_>) {
        if !self.by_uid.contains_key(uid) {
            self.enter(uid, address, false, coap);
        }
    }

    /// A node is known from now on, or is at another address; false if that may not be. One that was known is asked what it
    /// has; only if it said so, it has begun anew.
    fn enter(&mut self, uid: &Arc<str>, address: Address, is_reset: bool, coap: &mut Coap<'_>) -> bool {
        self.strangers.remove(&address);
        // Since it was asked, another one may have come who has the uid.
        if !self.may(address, uid) {
            return false;
        }
        let is_full = |here: &Here| here.uids.len() >= UIDS_PER_ADDRESS_MAX;
        if self.by_address.get(&address).is_some_and(is_full) {
            if self.is_to_tell("too many", address, coap) {
                tracing::warn!(address = %address.ip, %uid, "there are too many nodes at one address");
            }
            return false;
        }
        if self.gateway.seen(uid, &address.to_string()) == Seen::NoRoom {
            add(&self.counts.no_room, 1);
            if self.is_to_tell("no room", address, coap) {
                tracing::warn!(address = %address.ip, %uid, "there is no room for another node");
            }
            return false;
        }
        let session = self.sessions.get_mut(&address);
        let identity = session.map(|session| {
            session.has_entered = true;
            Arc::clone(&session.identity.name)
        });
        let node = Node {
            address,
            identity,
            to_read: VecDeque::new(),
            to_read_again: Vec::new(),
            is_reading: false,
            is_discovered: false,
            is_discovering: false,
            challenge: None,
            open: Vec::new(),
            observed: Vec::new(),
        };
        if let Some(mut before) = self.by_uid.insert(Arc::clone(uid), node) {
            Self::end_all(&mut self.asked, &mut before, coap);
            self.leave(uid, before.address);
            if is_reset {
                self.gateway.reset(uid);
            } else {
                self.gateway.discover_again(uid);
            }
        }
        match self.by_address.get_mut(&address) {
            Some(here) => here.uids.push(Arc::clone(uid)),
            None => drop(self.by_address.insert(address, Here { uids: vec![Arc::clone(uid)] })),
        }
        true
    }

    /// A node is at an address no more; answers whether nobody is there now.
    fn leave(&mut self, uid: &str, address: Address) -> bool {
        let Some(here) = self.by_address.get_mut(&address) else { return false };
        here.uids.retain(|at| **at != *uid);
        let is_empty = here.uids.is_empty();
        if is_empty {
            self.by_address.remove(&address);
        }
        is_empty
    }

    /// A node says what a resource is.
    fn said(&mut self, asked: Asked, coap: &mut Coap<'_>) {
        let text = std::str::from_utf8(&asked.payload).ok();
        let Some((resource, value)) = text.and_then(|text| text.split_once(':')) else {
            coap.respond(asked.receipt, Response::text(Code::BAD_REQUEST, "needs RESOURCE:VALUE"));
            return;
        };
        if let Some(uid) = self.prove(asked.from, coap) {
            self.enter_newcomer(&uid, asked.from, coap);
        } else if let Some(uid) = self.only_uid(asked.from) {
            self.enter(&uid, asked.from, false, coap);
        }
        let uid = self.by_address.get(&asked.from).and_then(|here| here.uids.last()).map(Arc::clone);
        let is_kept = uid.as_ref().is_some_and(|uid| self.gateway.is_heard(uid));
        if !is_kept {
            add(&self.counts.not_kept, 1);
            if self.is_to_tell("not heard", asked.from, coap) {
                let (address, uid) = (asked.from.ip, uid.as_deref());
                tracing::warn!(%address, uid, "a value is not kept: no node that may join is known there");
            }
        }
        let Some(uid) = uid else {
            // Of nobody who is known: it is answered as ever, and not heard.
            let received = coap.echo_of(&asked.payload);
            coap.respond(asked.receipt, received);
            return;
        };
        let (resource, value) = (resource.to_owned(), json_of(value));
        let (sender, receipt, payload) = (self.sender.clone(), asked.receipt, asked.payload);
        self.gateway.said_then(&uid, &resource, value, move |heard| {
            let told = sender.try_send(Command::Heard { receipt, payload, heard });
            if let Err(TrySendError::Full(command)) = told {
                tokio::spawn(async move { sender.send(command).await });
            }
        });
    }

    /// The one node that a session can be of, if it has not been heard in it.
    fn only_uid(&self, from: Address) -> Option<Arc<str>> {
        let Session { identity, has_entered } = self.sessions.get(&from)?;
        identity.only_uid().filter(|_| !has_entered).map(Arc::from)
    }

    fn discover(&mut self, uid: &Arc<str>, coap: &mut Coap<'_>) {
        let Some(node) = self.by_uid.get_mut(uid) else { return };
        if node.is_discovering {
            return;
        }
        let address = node.address;
        self.gateway.said(uid, "ip", json_of(&address.ip.to_string()));
        self.gateway.said(uid, "protocol", json_of("CoAP"));
        let get = Request { patience_ms: PATIENCE_MS, ..Request::get(".well-known/core") };
        if let Ok(request) = coap.request(address, PORT, true, get) {
            node.is_discovering = true;
            node.open.push(request);
            self.asked.insert(request, Purpose::Core { uid: Arc::clone(uid) });
        }
    }

    /// A question has ended; answers what it was for, if somebody still wants to know.
    fn ended(&mut self, request: RequestId) -> Option<Purpose> {
        let purpose = self.asked.remove(&request)?;
        if let Some(node) = self.by_uid.get_mut(purpose.uid()) {
            node.open.retain(|open| *open != request);
            match purpose {
                Purpose::Challenge { .. } => node.challenge = None,
                Purpose::Core { .. } => node.is_discovering = false,
                Purpose::Get { .. } => node.is_reading = false,
                Purpose::Prove { .. } | Purpose::Put { .. } => {}
            }
        }
        Some(purpose)
    }

    fn answered(&mut self, purpose: Purpose, response: &Response, coap: &mut Coap<'_>) {
        match purpose {
            Purpose::Core { uid } => {
                let Some(node) = self.by_uid.get_mut(&uid) else { return };
                node.is_discovered = true;
                if response.code == Code::CONTENT {
                    let resources = link_format::resources(&response.payload).into_iter().take(RESOURCES_MAX);
                    let wanted = |resource| Wanted { resource, failures: 0, alives_left: 0 };
                    node.to_read = resources.map(wanted).collect();
                    node.to_read_again.clear();
                }
                self.read_next(&uid, coap);
            }
            Purpose::Get { uid, wanted } => {
                self.tell(&uid, &wanted.resource.path, response);
                self.read_next(&uid, coap);
            }
            Purpose::Put { uid, number, value, is_in_blocks } => {
                let answer = match response.code {
                    Code::CHANGED => Answer::Set(value),
                    // libcoap 4.3.1 answers the last block so.
                    Code::CREATED if is_in_blocks => Answer::Set(value),
                    code => Answer::Refused { status: status(code), text: said_with(code, response) },
                };
                self.gateway.written(&uid, number, answer);
            }
            Purpose::Prove { .. } | Purpose::Challenge { .. } => {}
        }
    }

    fn failed(&mut self, purpose: Purpose, why: Failure, coap: &mut Coap<'_>) {
        match purpose {
            // The ping of a newcomer that is not answered: a second datagram proves it, too.
            Purpose::Prove { .. } => {}
            Purpose::Challenge { uid, claimant, is_reset } => {
                // Of a ping that was given up nobody knows whether it would have been answered.
                if why == Failure::TimedOut && self.enter(&uid, claimant, is_reset, coap) {
                    tracing::info!(address = %claimant.ip, %uid, "a node has another address now");
                }
            }
            // It is asked again when it says that it is alive.
            Purpose::Core { .. } => {}
            Purpose::Get { uid, wanted } => self.not_read(&uid, wanted, why, coap),
            Purpose::Put { uid, number, .. } => {
                let answer = match why {
                    Failure::TimedOut | Failure::Cancelled | Failure::NoRoom => Answer::None,
                    Failure::Rejected | Failure::Broken(_) | Failure::TooLarge => {
                        Answer::Refused { status: 502, text: why.to_string() }
                    }
                };
                self.gateway.written(&uid, number, answer);
            }
        }
    }

    /// A resource was asked for in vain.
    fn not_read(&mut self, uid: &Arc<str>, wanted: Wanted, why: Failure, coap: &mut Coap<'_>) {
        let Some(node) = self.by_uid.get_mut(uid) else { return };
        // Its session has ended, or another one has begun: it is asked when it says that it is alive.
        if why == Failure::Cancelled {
            node.to_read.push_front(wanted);
            return;
        }
        add(&self.counts.not_read, 1);
        let (address, resource) = (node.address, wanted.resource.path.clone());
        // What is too large would be fetched in vain each time.
        let is_again = why != Failure::TooLarge;
        if is_again {
            node.to_read_again.push(wanted.again());
        }
        if self.is_to_tell("not read", address, coap) {
            tracing::warn!(address = %address.ip, %uid, resource, %why, is_again, "a resource of a node could not be read");
        }
        self.read_next(uid, coap);
    }

    /// A resource is observed no more: it is asked for when its node is heard of.
    fn unobserved(&mut self, observation: RequestId, why: ObservationEnd, coap: &mut Coap<'_>) {
        let Some(Purpose::Get { uid, wanted }) = self.asked.remove(&observation) else { return };
        add(&self.counts.not_observed, 1);
        let resource = wanted.resource.path.clone();
        if let Some(node) = self.by_uid.get_mut(&uid) {
            node.observed.retain(|observed| *observed != observation);
            node.to_read_again.push(wanted.again());
        }
        let address = observation.address();
        if self.is_to_tell("not observed", address, coap) {
            tracing::info!(address = %address.ip, %uid, resource, %why, "a resource of a node is not observed any more");
        }
    }

    /// A node is heard of: what it was asked for in vain it is asked for again.
    fn read_again(&mut self, uid: &str, coap: &mut Coap<'_>) {
        let Some((uid, _)) = self.by_uid.get_key_value(uid) else { return };
        let uid = Arc::clone(uid);
        let Some(node) = self.by_uid.get_mut(&uid) else { return };
        node.to_read_again
            .iter_mut()
            .for_each(|wanted| wanted.alives_left = wanted.alives_left.saturating_sub(1));
        node.to_read.extend(node.to_read_again.extract_if(.., |wanted| wanted.alives_left == 0));
        self.read_next(&uid, coap);
    }

    /// Asks for the next resource of a node, if there is one, and none is asked for.
    fn read_next(&mut self, uid: &Arc<str>, coap: &mut Coap<'_>) {
        loop {
            let Some(node) = self.by_uid.get_mut(uid).filter(|node| !node.is_reading) else { return };
            let Some(wanted) = node.to_read.pop_front() else {
                node.to_read = VecDeque::new();
                return;
            };
            let address = node.address;
            let Resource { path, is_observable } = wanted.resource.clone();
            let mut get =
                Request { observe: is_observable, patience_ms: PATIENCE_MS, ..Request::get(path.clone()) };
            let mut asked = coap.request(address, PORT, true, get.clone());
            if get.observe && asked == Err(Refused::Full) {
                // As many are observed as may be: what it is now can be asked.
                get.observe = false;
                asked = coap.request(address, PORT, true, get);
                if asked.is_ok() {
                    add(&self.counts.not_observed, 1);
                    if self.is_to_tell("not observed", address, coap) {
                        tracing::warn!(address = %address.ip, %uid, resource = path, "a resource of a node is read and not observed: too many are");
                    }
                }
            }
            let Some(node) = self.by_uid.get_mut(uid) else { return };
            match asked {
                Ok(request) => {
                    node.is_reading = true;
                    node.open.push(request);
                    self.asked.insert(request, Purpose::Get { uid: Arc::clone(uid), wanted });
                    return;
                }
                // It is asked when the node is heard of.
                Err(Refused::Full) => {
                    node.to_read.push_front(wanted);
                    return;
                }
                Err(why) => {
                    add(&self.counts.not_read, 1);
                    if self.is_to_tell("not read", address, coap) {
                        tracing::warn!(address = %address.ip, %uid, resource = path, %why, "a resource of a node cannot be asked for");
                    }
                }
            }
        }
    }

    /// A resource is observed from now on; the next one is asked for.
    fn observe(&mut self, request: RequestId, coap: &mut Coap<'_>) {
        let Some(Purpose::Get { uid, wanted }) = self.asked.get_mut(&request) else { return };
        wanted.failures = 0;
        let uid = Arc::clone(uid);
        match self.by_uid.get_mut(&uid) {
            Some(node) => {
                node.is_reading = false;
                node.open.retain(|open| *open != request);
                node.observed.push(request);
            }
            None => drop(self.asked.remove(&request)),
        }
        self.read_next(&uid, coap);
    }

    /// An observed resource has changed.
    fn notified(&self, observation: RequestId, response: &Response) {
        if let Some(Purpose::Get { uid, wanted }) = self.asked.get(&observation) {
            self.tell(uid, &wanted.resource.path, response);
        }
    }

    fn tell(&self, uid: &Arc<str>, resource: &str, response: &Response) {
        if response.code != Code::CONTENT {
            return;
        }
        match std::str::from_utf8(&response.payload) {
            Ok(text) => self.gateway.said(uid, resource, json_of(text)),
            Err(_) => tracing::warn!(client_id = %uid, resource, "the value of a resource is no text"),
        }
    }

    fn set(&mut self, uid: Arc<str>, number: u64, resource: String, value: Arc<str>, coap: &mut Coap<'_>) {
        // Without a session it is tried again when the node has one again, and says that it is alive.
        let is_there =
            |node: &&mut Node| !node.address.has_session() || self.sessions.contains_key(&node.address);
        let Some(node) = self.by_uid.get_mut(&uid).filter(is_there) else {
            return self.gateway.written(&uid, number, Answer::None);
        };
        // To a node each value is text, and so it is one of its values from then on.
        let text = text_of(&value);
        let (value, is_in_blocks) = (json_of(&text), text.len() > BlockSize::MAX.bytes());
        let put = Request { patience_ms: PATIENCE_MS, ..Request::put(resource, text.as_bytes()) };
        match coap.request(node.address, PORT, true, put) {
            Ok(request) => {
                node.open.push(request);
                self.asked.insert(request, Purpose::Put { uid, number, value, is_in_blocks });
            }
            Err(why) => {
                let answer = match why {
                    Refused::Full => Answer::None,
                    why => Answer::Refused { status: 400, text: why.to_string() },
                };
                self.gateway.written(&uid, number, answer);
            }
        }
    }
}

/// The uid out of the body of `/alive`, and whether the node has begun anew.
fn uid_of(body: &[u8]) -> Option<(&str, bool)> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, uid) = text.rsplit_once(':')?;
    let is_uid = (1..=UID_BYTES_MAX).contains(&uid.len()) && !uid.chars().any(char::is_control);
    is_uid.then(|| (uid, text.starts_with("reset")))
}

/// An answer that is no success, as a status code of HTTP (RFC 8075 §7).
const fn status(code: Code) -> u16 {
    match code.class() {
        4 | 5 => code.class() as u16 * 100 + code.detail() as u16,
        // Of a write nothing but 2.04 is a success.
        _ => 502,
    }
}

fn said_with(code: Code, response: &Response) -> String {
    let text = String::from_utf8_lossy(&response.payload);
    let text: String = text.chars().filter(|c| !c.is_control()).take(256).collect();
    if text.is_empty() {
        format!("the node answered {code}")
    } else {
        format!("the node answered {code}: {text}")
    }
}

#[cfg(test)]
mod tests;
