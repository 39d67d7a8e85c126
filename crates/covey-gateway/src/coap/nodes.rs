//! What a CoAP node is: who says `alive`, what is asked of it, and what it says (`docs/gateways.md` "CoAP nodes").
//!
//! A node is known by its address, never by its port. Its uid is what it says; whoever says the uid of another that
//! still answers is not heard. A node with a session (DTLS) is known by that, and has the uids of its identity: whoever
//! has another one, or none, is not heard under them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use super::driver::{Coap, Counts, Listeners, Owner};
use super::dtls::{Identity, Keys};
use super::exchange::{
    Address, Asked, Event, Exchange, Failure, Receipt, Request, RequestId, Response, Terms,
};
use super::link_format::{self, Resource};
use super::message::Code;
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
    let owner = Nodes {
        gateway: Arc::clone(&gateway),
        sender,
        keys,
        sessions: HashMap::new(),
        by_uid: HashMap::new(),
        by_address: HashMap::new(),
        strangers: HashMap::new(),
        asked: HashMap::new(),
    };
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
    Challenge { uid: Arc<str>, claimant: Address },
    /// Which resources a node has.
    Core { uid: Arc<str> },
    /// What a resource is.
    Get { uid: Arc<str>, resource: String },
    /// A write.
    Put { uid: Arc<str>, number: u64, value: Arc<str> },
}

struct Node {
    address: Address,
    /// Who has spoken for it over a session.
    identity: Option<Arc<str>>,
    /// Resources that are still to be asked for.
    to_read: VecDeque<Resource>,
    /// Whether it has said which resources it has.
    is_discovered: bool,
    /// Whether it is being asked that.
    is_discovering: bool,
    is_challenged: bool,
    /// What it tells of by itself: these questions stay open.
    observed: Vec<RequestId>,
}

/// Who is at an address.
struct Here {
    /// Who said that it is alive last: what is said from there is its.
    uid: Arc<str>,
    /// How many have said so.
    count: usize,
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
    sessions: HashMap<Address, Arc<Identity>>,
    by_uid: HashMap<Arc<str>, Node>,
    by_address: HashMap<Address, Here>,
    strangers: HashMap<Address, Stranger>,
    asked: HashMap<RequestId, Purpose>,
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
                } else if let Some(purpose) = self.asked.remove(&request) {
                    self.answered(purpose, &response, coap);
                }
            }
            Event::Failed { request, why } => {
                if let Some(purpose) = self.asked.remove(&request) {
                    self.failed(purpose, why, coap);
                }
            }
            Event::Reached { request } => match self.asked.remove(&request) {
                Some(Purpose::Prove { uid }) => self.enter(&uid, request.address()),
                Some(Purpose::Challenge { uid, claimant }) => {
                    if let Some(node) = self.by_uid.get_mut(&uid) {
                        node.is_challenged = false;
                        let known = node.address;
                        tracing::warn!(address = %claimant.ip, %uid, %known, "a node says the uid of another that is there");
                    }
                }
                _ => {}
            },
            Event::Notified { observation, response } => self.notified(observation, &response),
            Event::Unobserved { observation, .. } => {
                if let Some(Purpose::Get { uid, .. }) = self.asked.remove(&observation)
                    && let Some(node) = self.by_uid.get_mut(&uid)
                {
                    node.observed.retain(|observed| *observed != observation);
                }
            }
        }
    }

    fn opened(&mut self, address: Address, identity: Arc<Identity>, coap: &mut Coap<'_>) {
        tracing::debug!(address = %address.ip, identity = &*identity.name, "a session of DTLS is open");
        let before = self.sessions.insert(address, Arc::clone(&identity));
        if before.is_some_and(|before| before.name != identity.name) {
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
                self.enter(&uid, from);
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
            let uid: Arc<str> = Arc::from(uid);
            self.enter(&uid, from);
            return;
        }
        if node.address != from {
            if !node.is_challenged
                && let Ok(ping) = coap.ping(node.address, PORT)
            {
                node.is_challenged = true;
                self.asked.insert(ping, Purpose::Challenge { uid: Arc::from(uid), claimant: from });
            }
            return;
        }
        let is_lost = !node.is_discovered && !node.is_discovering;
        self.gateway.seen(uid, &from.to_string());
        if let Some(here) = self.by_address.get_mut(&from)
            && *here.uid != *uid
        {
            here.uid = Arc::from(uid);
        }
        if is_reset {
            coap.forget(from);
            self.discovered_anew(uid);
            self.gateway.reset(uid);
        } else if is_lost {
            self.gateway.reset(uid);
        }
    }

    /// Whether whoever is at an address may speak for a node. Without a session that is whoever comes, unless an identity is
    /// named for the node, or has spoken for it over a session since the server began.
    fn may(&self, from: Address, uid: &str) -> bool {
        let Some(keys) = &self.keys else { return true };
        match self.sessions.get(&from) {
            Some(identity) => {
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
                Self::forget_observed(&mut self.asked, node);
                (node.is_discovered, node.is_discovering) = (false, false);
            }
        }
    }

    fn forget(&mut self, uid: &Arc<str>, coap: &mut Coap<'_>) {
        let Some(mut node) = self.by_uid.remove(uid) else { return };
        Self::forget_observed(&mut self.asked, &mut node);
        if self.leave(node.address) {
            coap.forget(node.address);
        }
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

    /// A node is known from now on.
    fn enter(&mut self, uid: &Arc<str>, address: Address) {
        self.strangers.remove(&address);
        // Since it was asked, another one may have come who has the uid.
        if !self.may(address, uid) {
            return;
        }
        let is_full = |here: &Here| here.count >= UIDS_PER_ADDRESS_MAX;
        if self.by_address.get(&address).is_some_and(is_full) {
            tracing::warn!(address = %address.ip, %uid, "there are too many nodes at one address");
            return;
        }
        if self.gateway.seen(uid, &address.to_string()) == Seen::NoRoom {
            return;
        }
        let node = Node {
            address,
            identity: self.sessions.get(&address).map(|identity| Arc::clone(&identity.name)),
            to_read: VecDeque::new(),
            is_discovered: false,
            is_discovering: false,
            is_challenged: false,
            observed: Vec::new(),
        };
        if let Some(mut before) = self.by_uid.insert(Arc::clone(uid), node) {
            Self::forget_observed(&mut self.asked, &mut before);
            self.leave(before.address);
            self.gateway.reset(uid);
        }
        let here = self.by_address.entry(address).or_insert_with(|| Here { uid: Arc::clone(uid), count: 0 });
        here.uid = Arc::clone(uid);
        here.count += 1;
    }

    /// A node is at an address no more; answers whether nobody is there now.
    fn leave(&mut self, address: Address) -> bool {
        let Some(here) = self.by_address.get_mut(&address) else { return false };
        here.count -= 1;
        let is_empty = here.count == 0;
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
            self.enter(&uid, asked.from);
        }
        let Some(Here { uid, .. }) = self.by_address.get(&asked.from) else {
            // Of nobody who is known: it is answered as ever, and not heard.
            let received = coap.echo_of(&asked.payload);
            coap.respond(asked.receipt, received);
            return;
        };
        let (uid, resource, value) = (Arc::clone(uid), resource.to_owned(), json_of(value));
        let (sender, receipt, payload) = (self.sender.clone(), asked.receipt, asked.payload);
        self.gateway.said_then(&uid, &resource, value, move |heard| {
            let told = sender.try_send(Command::Heard { receipt, payload, heard });
            if let Err(TrySendError::Full(command)) = told {
                tokio::spawn(async move { sender.send(command).await });
            }
        });
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
            self.asked.insert(request, Purpose::Core { uid: Arc::clone(uid) });
        }
    }

    fn discovered_anew(&mut self, uid: &str) {
        if let Some(node) = self.by_uid.get_mut(uid) {
            node.to_read.clear();
            Self::forget_observed(&mut self.asked, node);
            (node.is_discovered, node.is_discovering) = (false, false);
        }
    }

    fn answered(&mut self, purpose: Purpose, response: &Response, coap: &mut Coap<'_>) {
        match purpose {
            Purpose::Core { uid } => {
                let Some(node) = self.by_uid.get_mut(&uid) else { return };
                node.is_discovering = false;
                node.is_discovered = true;
                if response.code == Code::CONTENT {
                    node.to_read = link_format::resources(&response.payload).into();
                    node.to_read.truncate(RESOURCES_MAX);
                }
                self.read_next(&uid, coap);
            }
            Purpose::Get { uid, resource } => {
                self.tell(&uid, &resource, response);
                self.read_next(&uid, coap);
            }
            Purpose::Put { uid, number, value } => {
                let answer = match response.code {
                    Code::CHANGED => Answer::Set(value),
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
            Purpose::Challenge { uid, claimant } => {
                tracing::info!(address = %claimant.ip, %uid, "a node has another address now");
                self.enter(&uid, claimant);
            }
            // It is asked again when it says that it is alive.
            Purpose::Core { uid } => {
                if let Some(node) = self.by_uid.get_mut(&uid) {
                    node.is_discovering = false;
                }
            }
            Purpose::Get { uid, .. } => self.read_next(&uid, coap),
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

    /// Asks for the next resource of a node, if there is one.
    fn read_next(&mut self, uid: &Arc<str>, coap: &mut Coap<'_>) {
        let Some(node) = self.by_uid.get_mut(uid) else { return };
        let address = node.address;
        while let Some(Resource { path, is_observable }) = node.to_read.pop_front() {
            let get =
                Request { observe: is_observable, patience_ms: PATIENCE_MS, ..Request::get(path.clone()) };
            if let Ok(request) = coap.request(address, PORT, true, get) {
                self.asked.insert(request, Purpose::Get { uid: Arc::clone(uid), resource: path });
                return;
            }
        }
        node.to_read = VecDeque::new();
    }

    /// A resource is observed from now on; the next one is asked for.
    fn observe(&mut self, request: RequestId, coap: &mut Coap<'_>) {
        let Some(Purpose::Get { uid, .. }) = self.asked.get(&request) else { return };
        let uid = Arc::clone(uid);
        match self.by_uid.get_mut(&uid) {
            Some(node) => node.observed.push(request),
            None => drop(self.asked.remove(&request)),
        }
        self.read_next(&uid, coap);
    }

    /// What a node told of by itself is over, without a word.
    fn forget_observed(asked: &mut HashMap<RequestId, Purpose>, node: &mut Node) {
        for observed in node.observed.drain(..) {
            asked.remove(&observed);
        }
    }

    /// An observed resource has changed.
    fn notified(&self, observation: RequestId, response: &Response) {
        if let Some(Purpose::Get { uid, resource }) = self.asked.get(&observation) {
            self.tell(uid, resource, response);
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
        let Some(node) = self.by_uid.get(&uid) else {
            return self.gateway.written(&uid, number, Answer::None);
        };
        if node.address.has_session() && !self.sessions.contains_key(&node.address) {
            // It is tried again when the node has a session again, and says that it is alive.
            return self.gateway.written(&uid, number, Answer::None);
        }
        let address = node.address;
        let put = Request { patience_ms: PATIENCE_MS, ..Request::put(resource, text_of(&value).as_bytes()) };
        match coap.request(address, PORT, true, put) {
            Ok(request) => drop(self.asked.insert(request, Purpose::Put { uid, number, value })),
            Err(why) => {
                let answer = match why {
                    super::exchange::Refused::Full => Answer::None,
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
mod tests {
    use super::*;

    #[test]
    fn the_uid_is_what_follows_the_last_colon_and_only_reset_begins_anew() {
        assert_eq!(uid_of(b"alive:1234"), Some(("1234", false)));
        assert_eq!(uid_of(b"Alive:1234"), Some(("1234", false)));
        assert_eq!(uid_of(b"reset:a:b"), Some(("b", true)));
        for wrong in [&b""[..], b"alive", b"alive:", b"alive:\x00", b"alive:\xff"] {
            assert_eq!(uid_of(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn only_changed_is_the_success_of_a_write() {
        assert_eq!(status(Code::CONTENT), 502);
        assert_eq!(status(Code::NOT_FOUND), 404);
        assert_eq!(status(Code::SERVICE_UNAVAILABLE), 503);
    }
}
