//! The sessions: a state machine without sockets, tasks and clocks around those of the library, one for each end.
//!
//! An end is an address with its port. It may have a session that is open, and beside it a handshake that is under way,
//! which takes its place when it is done: whoever begins anew at the port of another ends nothing before he has shown that
//! he has a key (RFC 6347 §4.2.8).

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, PskResolver};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::hello::{ClientHello, Cookies, Record, alert, count_on};
use super::keys::{Identity, Keys};
use super::provider::{Attested, provider};
use crate::coap::exchange::{Address, is_to_many};

/// How many sessions may be open.
/// Limit for each gateway: the one that was heard of least recently ends.
pub const SESSIONS_MAX: usize = 10_000;
/// How many sessions of one address may be open: nodes behind one router have one.
/// Limit for each address: the one that was heard of least recently ends.
pub const SESSIONS_PER_ADDRESS_MAX: usize = 256;
/// How many handshakes may be under way, of addresses that have brought a cookie back.
/// Limit for each gateway: the oldest ends, and the node begins anew.
pub const HANDSHAKES_MAX: usize = 1_024;
/// How many handshakes of one address may be under way.
/// Limit for each address: the oldest ends, and the node begins anew.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 16;
/// How long a handshake may take, in milliseconds.
/// Limit for each handshake: it has failed.
pub const HANDSHAKE_MS_MAX: u64 = 30_000;
/// How long a session may be silent, in milliseconds.
/// Limit for each session: it ends, and the node opens another one.
pub const IDLE_MS_MAX: u64 = 60 * 60_000;
/// Largest datagram, in bytes: a block of 1,024 bytes with its options and its record, or the messages of a handshake.
/// Limit for each datagram: it is dropped.
pub const DATAGRAM_BYTES_MAX: usize = 2_048;
/// How many datagrams of a handshake wait for those before them.
/// Limit for each handshake: it has failed.
const WAITING_MAX: usize = 8;
/// How many datagrams of a session may wait to be sent: they are taken at once.
/// Limit for each session: it ends.
const SENDING_MAX: usize = 8;
/// How large the datagrams of a handshake are at most, in bytes: they fit into a frame of IEEE 802.15.4 with few fragments.
const HANDSHAKE_DATAGRAM_BYTES: usize = 1_150;
/// How long a cookie is good for at least, in milliseconds; and for twice that at most.
const COOKIE_MS: u64 = 60_000;

/// Alerts (RFC 5246 §7.2, RFC 4279 §6).
const HANDSHAKE_FAILURE: u8 = 40;
const UNKNOWN_PSK_IDENTITY: u8 = 115;

/// Why a datagram was dropped, or a handshake or a session ended by a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Dropped {
    /// It was sent to many.
    #[error("sent to many")]
    Multicast,
    /// It is larger than any that is sent.
    #[error("larger than 2048 bytes")]
    TooLarge,
    /// It is no record of DTLS.
    #[error("no record of DTLS")]
    Malformed,
    /// Its ClientHello comes in several pieces, or is none.
    #[error("a ClientHello that is not whole")]
    BadHello,
    /// There is no session: it ended, maybe with the server before.
    #[error("no session")]
    NoSession,
    /// The identity is not in the key file.
    #[error("an unknown identity")]
    UnknownIdentity,
    /// The handshake failed: nothing that both can, or against the standard.
    #[error(
        "a handshake that cannot be done: it needs DTLS 1.2, PSK_WITH_AES_128_CCM_8 and the extended master secret"
    )]
    Handshake,
    /// The handshake was not done in time; with an identity the key is another one, most likely.
    #[error("a handshake that was not finished: is the key the right one?")]
    TimedOut,
    /// The session ended by a fault.
    #[error("a session that broke")]
    Broken,
    /// There is no room: an older one gave way.
    #[error("more handshakes or sessions than there is room for")]
    NoRoom,
}

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// A session is open; one that was open at the same end is no more.
    Opened {
        /// The other end.
        end: SocketAddr,
        /// Who is there.
        identity: Arc<Identity>,
    },
    /// A message came.
    Said {
        /// From where.
        end: SocketAddr,
        /// To which of this host's addresses.
        to: Option<IpAddr>,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A session is no more.
    Closed {
        /// The other end.
        end: SocketAddr,
    },
    /// A handshake or a session ended by a fault, or gave way.
    Failed {
        /// The other end.
        end: SocketAddr,
        /// Why.
        why: Dropped,
        /// Who said to be there.
        identity: Option<Arc<Identity>>,
    },
}

/// What is to be sent, and what has happened. Its owner empties it.
#[derive(Debug, Default)]
pub struct Output {
    /// To be sent, in this order: to whom, from which of this host's addresses, and what.
    pub datagrams: Vec<(SocketAddr, Option<IpAddr>, Vec<u8>)>,
    /// What has happened, in this order.
    pub events: Vec<Event>,
}

/// Which identity the library has asked for, in the call that is under way.
struct Resolver {
    keys: Arc<Keys>,
    asked: Mutex<Option<Option<Arc<Identity>>>>,
}

impl Resolver {
    fn take(&self) -> Option<Option<Arc<Identity>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Shared(AssertUnwindSafe<Arc<Resolver>>);

impl PskResolver for Shared {
    fn resolve(&self, name: &[u8]) -> Option<Vec<u8>> {
        let found = self.0.keys.find(name).map(Arc::clone);
        let key = found.as_ref().map(|identity| identity.key().to_vec());
        *self.0.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        key
    }
}

struct Session {
    dtls: Dtls,
    identity: Option<Arc<Identity>>,
    /// Which address of this host it speaks with.
    local: Option<IpAddr>,
    began: Instant,
    heard: Instant,
    /// When the library wants to be called.
    due: Instant,
    /// What the client has drawn.
    random: [u8; 32],
    /// By how much its records before the keys are counted on.
    more: u64,
    is_connected: bool,
}

#[derive(Default)]
struct End {
    open: Option<Box<Session>>,
    opening: Option<Box<Session>>,
    listed: Option<Instant>,
}

impl End {
    fn due(&self) -> Option<Instant> {
        let open = self.open.as_ref().map(|session| session.due.min(session.heard + IDLE));
        let opening = self.opening.as_ref().map(|session| session.due.min(session.began + HANDSHAKE));
        open.into_iter().chain(opening).min()
    }
}

const IDLE: Duration = Duration::from_millis(IDLE_MS_MAX);
const HANDSHAKE: Duration = Duration::from_millis(HANDSHAKE_MS_MAX);

/// An end in the one form that it has here, an IPv4 address as the IPv6 address that stands for it.
fn whole(end: SocketAddr) -> SocketAddr {
    Address::of(end).at(end.port())
}

/// All sessions. See the [module](self).
pub struct Sessions {
    config: Arc<Config>,
    resolver: Arc<Resolver>,
    attested: &'static Attested,
    cookies: Cookies,
    /// When the secret of cookies changes next.
    change: Option<Instant>,
    random: StdRng,
    ends: HashMap<SocketAddr, End>,
    due: BTreeSet<(Instant, SocketAddr)>,
    /// Handshakes that are under way, the oldest first.
    opening: BTreeSet<(Instant, SocketAddr)>,
    /// How many handshakes and sessions an address has.
    of_address: HashMap<Address, (usize, usize)>,
    open: usize,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Sessions {
    /// None yet. The seed must come from a good source of chance: nobody may guess a cookie.
    ///
    /// # Errors
    /// What the library has against its settings.
    pub fn new(keys: Arc<Keys>, seed: [u8; 32]) -> Result<Self, dimpl::Error> {
        let resolver = Arc::new(Resolver { keys, asked: Mutex::default() });
        // As many as there are gateways in a process.
        let attested: &'static Attested = Box::leak(Box::default());
        let config = Config::builder()
            .with_crypto_provider(provider(attested))
            .dtls13_cipher_suites(&[])
            .with_psk_server(None, Arc::new(Shared(AssertUnwindSafe(Arc::clone(&resolver)))))
            .mtu(HANDSHAKE_DATAGRAM_BYTES)
            .max_queue_rx(WAITING_MAX)
            .max_queue_tx(SENDING_MAX)
            .handshake_timeout(HANDSHAKE)
            .build()?;
        let mut random = StdRng::from_seed(seed);
        Ok(Self {
            config: Arc::new(config),
            resolver,
            attested,
            cookies: Cookies::new(random.random(), random.random()),
            change: None,
            random,
            ends: HashMap::new(),
            due: BTreeSet::new(),
            opening: BTreeSet::new(),
            of_address: HashMap::new(),
            open: 0,
            buffer: vec![0; DATAGRAM_BYTES_MAX],
        })
    }

    /// Who may come.
    #[must_use]
    pub fn keys(&self) -> &Arc<Keys> {
        &self.resolver.keys
    }

    /// A seed for others.
    pub fn seed(&mut self) -> [u8; 32] {
        self.random.random()
    }

    /// Takes a datagram that came to one of this host's addresses.
    ///
    /// # Errors
    /// Why it was dropped.
    pub fn datagram(
        &mut self,
        from: SocketAddr,
        to: Option<IpAddr>,
        bytes: &[u8],
        now: Instant,
        out: &mut Output,
    ) -> Result<(), Dropped> {
        if to.is_some_and(is_to_many) {
            return Err(Dropped::Multicast);
        }
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(Dropped::TooLarge);
        }
        let from = whole(from);
        let record = Record::first(bytes).ok_or(Dropped::Malformed)?;
        if record.is_client_hello() {
            let hello = ClientHello::of(record).ok_or(Dropped::BadHello)?;
            return self.hello(from, to, &hello, bytes, now, out);
        }
        let end = self.ends.get_mut(&from).ok_or(Dropped::NoSession)?;
        // Of the two at one end, a handshake has the records before the keys. Sealed ones say nothing to whom they are not for.
        let is_sealed = record.epoch > 0;
        let has_opening = end.opening.is_some();
        if end.open.is_some() && (is_sealed || !has_opening) {
            self.step(from, false, now, out, |session| {
                session.local = to.or(session.local);
                session.dtls.handle_packet(bytes)
            });
        }
        if has_opening {
            self.step(from, true, now, out, |session| session.dtls.handle_packet(bytes));
        }
        Ok(())
    }

    /// Sends a message to the other end of a session. False if there is none.
    pub fn send(&mut self, end: SocketAddr, bytes: &[u8], now: Instant, out: &mut Output) -> bool {
        let end = whole(end);
        if self.ends.get(&end).is_none_or(|end| end.open.is_none()) {
            return false;
        }
        self.step(end, false, now, out, |session| session.dtls.send_application_data(bytes).map(drop));
        true
    }

    /// Does what is due.
    pub fn timer(&mut self, now: Instant, out: &mut Output) {
        while let Some((due, from)) = self.due.first().copied() {
            if due > now {
                break;
            }
            let Some(end) = self.ends.get(&from) else {
                self.due.remove(&(due, from));
                continue;
            };
            let is_idle = end.open.as_ref().is_some_and(|session| session.heard + IDLE <= now);
            let is_late = end.opening.as_ref().is_some_and(|session| session.began + HANDSHAKE <= now);
            let is_open_due = end.open.as_ref().is_some_and(|session| session.due <= now);
            let is_opening_due = end.opening.as_ref().is_some_and(|session| session.due <= now);
            if is_idle {
                self.end_session(from, now, out);
            } else if is_open_due {
                self.step(from, false, now, out, |_| Ok(()));
            }
            if is_late {
                self.fail(from, Dropped::TimedOut, out);
            } else if is_opening_due {
                self.step(from, true, now, out, |_| Ok(()));
            }
            self.list(from, now);
        }
    }

    /// When [`timer`](Self::timer) is to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// How many sessions are open, and how many handshakes are under way.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.open, self.opening.len())
    }

    /// Ends all sessions with a word to the other end.
    pub fn close(&mut self, now: Instant, out: &mut Output) {
        for end in self.ends.keys().copied().collect::<Vec<_>>() {
            self.end_session(end, now, out);
        }
    }

    /// Somebody begins a handshake.
    fn hello(
        &mut self,
        from: SocketAddr,
        to: Option<IpAddr>,
        hello: &ClientHello<'_>,
        bytes: &[u8],
        now: Instant,
        out: &mut Output,
    ) -> Result<(), Dropped> {
        if self.change.is_none_or(|change| change <= now) {
            self.cookies.change(self.random.random());
            self.change = Some(now + Duration::from_millis(COOKIE_MS));
        }
        let Some(cookie) = self.cookies.known(from, hello) else {
            let cookie = self.cookies.cookie(from, hello);
            out.datagrams.push((from, to, hello.verify_request(&cookie)));
            return Ok(());
        };
        let is_repeated = |session: &Session| session.random == hello.random();
        if let Some(end) = self.ends.get(&from) {
            if end.opening.as_deref().is_some_and(is_repeated) {
                self.step(from, true, now, out, |session| session.dtls.handle_packet(bytes));
                return Ok(());
            }
            // One that was late: the session is open already.
            if end.open.as_deref().is_some_and(is_repeated) {
                return Ok(());
            }
        }
        self.make_room(from, now, out);
        let mut dtls = Dtls::new_12_psk(Arc::clone(&self.config), now);
        // The library has not seen what came before the cookie: it is told, and what it answers is not sent.
        self.attested.set(Some(cookie));
        let begun = dtls.handle_timeout(now).and_then(|()| dtls.handle_packet(&hello.without_cookie()));
        while let dimpl::Output::Packet(_) = dtls.poll_output(&mut self.buffer) {}
        let mut random = [0; 32];
        random.copy_from_slice(hello.random());
        let session = Session {
            dtls,
            identity: None,
            local: to,
            began: now,
            heard: now,
            due: now + HANDSHAKE,
            random,
            // The library counts from 1, behind what was not sent.
            more: hello.number().saturating_sub(1),
            is_connected: false,
        };
        let end = self.ends.entry(from).or_default();
        end.opening = Some(Box::new(session));
        self.opening.insert((now, from));
        self.of_address.entry(Address::of(from)).or_default().0 += 1;
        self.step(from, true, now, out, |session| begun.and_then(|()| session.dtls.handle_packet(bytes)));
        self.attested.set(None);
        Ok(())
    }

    /// Makes room for one more handshake of an address.
    fn make_room(&mut self, from: SocketAddr, now: Instant, out: &mut Output) {
        self.drop_opening(from, now);
        let address = Address::of(from);
        let of_address = self.of_address.get(&address).map_or(0, |(opening, _)| *opening);
        let oldest = if of_address >= HANDSHAKES_PER_ADDRESS_MAX {
            self.opening.iter().find(|(_, end)| Address::of(*end) == address).copied()
        } else if self.opening.len() >= HANDSHAKES_MAX {
            self.opening.first().copied()
        } else {
            None
        };
        if let Some((_, end)) = oldest {
            self.fail(end, Dropped::NoRoom, out);
            self.list(end, now);
        }
    }

    /// Makes room for one more session.
    fn make_room_for_session(&mut self, from: SocketAddr, now: Instant, out: &mut Output) {
        let address = Address::of(from);
        let of_address = self.of_address.get(&address).map_or(0, |(_, open)| *open);
        let is_full_of_address = of_address >= SESSIONS_PER_ADDRESS_MAX;
        if !is_full_of_address && self.open < SESSIONS_MAX {
            return;
        }
        let open = self.ends.iter().filter(|(end, _)| !is_full_of_address || Address::of(**end) == address);
        let open = open.filter_map(|(end, held)| Some((held.open.as_ref()?.heard, *end)));
        if let Some((_, oldest)) = open.filter(|(_, end)| *end != from).min() {
            out.events.push(Event::Failed { end: oldest, why: Dropped::NoRoom, identity: None });
            self.end_session(oldest, now, out);
            self.list(oldest, now);
        }
    }

    /// Does something with a session, and takes what comes of it.
    fn step(
        &mut self,
        from: SocketAddr,
        is_opening: bool,
        now: Instant,
        out: &mut Output,
        act: impl FnOnce(&mut Session) -> Result<(), dimpl::Error>,
    ) {
        let Some(end) = self.ends.get_mut(&from) else { return };
        let place = if is_opening { &mut end.opening } else { &mut end.open };
        let Some(session) = place.as_deref_mut() else { return };
        let done = session.dtls.handle_timeout(now).and_then(|()| act(session));
        let asked = self.resolver.take();
        if let Some(Some(identity)) = &asked {
            session.identity = Some(Arc::clone(identity));
        }
        let mut is_closed = false;
        loop {
            match session.dtls.poll_output(&mut self.buffer) {
                dimpl::Output::Packet(packet) => {
                    let mut packet = packet.to_vec();
                    count_on(&mut packet, session.more);
                    out.datagrams.push((from, session.local, packet));
                }
                dimpl::Output::BufferTooSmall { needed } => self.buffer.resize(needed, 0),
                dimpl::Output::Timeout(due) => {
                    // One that is not after now would be called without an end.
                    session.due = due.max(now + Duration::from_millis(1));
                    break;
                }
                dimpl::Output::Connected => session.is_connected = true,
                dimpl::Output::ApplicationData(bytes) => {
                    session.heard = now;
                    let (to, bytes) = (session.local, bytes.to_vec());
                    out.events.push(Event::Said { end: from, to, bytes });
                }
                dimpl::Output::CloseNotify => is_closed = true,
                _ => {}
            }
        }
        let is_unknown = matches!(asked, Some(None));
        if is_opening && (is_unknown || done.is_err()) {
            let why = match done {
                _ if is_unknown => Dropped::UnknownIdentity,
                Err(dimpl::Error::Timeout(_)) => Dropped::TimedOut,
                _ => Dropped::Handshake,
            };
            self.fail(from, why, out);
        } else if is_opening && session.is_connected {
            self.opened(from, now, out);
        } else if !is_opening && (is_closed || done.is_err()) {
            if done.is_err() {
                let identity = session.identity.clone();
                out.events.push(Event::Failed { end: from, why: Dropped::Broken, identity });
            }
            self.close_session(from, out);
        }
        self.list(from, now);
    }

    /// A handshake is done: it is the session of its end now.
    fn opened(&mut self, from: SocketAddr, now: Instant, out: &mut Output) {
        // What came with the end of the handshake is said after it.
        let said =
            out.events.iter().position(|event| matches!(event, Event::Said { end, .. } if *end == from));
        self.make_room_for_session(from, now, out);
        let Some(end) = self.ends.get_mut(&from) else { return };
        let Some(session) = end.opening.take() else { return };
        self.opening.remove(&(session.began, from));
        let of_address = self.of_address.entry(Address::of(from)).or_default();
        of_address.0 = of_address.0.saturating_sub(1);
        // Without an identity no handshake is done.
        let Some(identity) = session.identity.clone() else { return };
        if end.open.replace(session).is_none() {
            of_address.1 += 1;
            self.open += 1;
        }
        let at = said.unwrap_or(out.events.len());
        out.events.insert(at, Event::Opened { end: from, identity });
    }

    /// A handshake has failed; the other end is told.
    fn fail(&mut self, from: SocketAddr, why: Dropped, out: &mut Output) {
        let Some(session) = self.ends.get_mut(&from).and_then(|end| end.opening.take()) else { return };
        self.forget_opening(from, session.began);
        let description = match why {
            Dropped::UnknownIdentity => UNKNOWN_PSK_IDENTITY,
            _ => HANDSHAKE_FAILURE,
        };
        out.datagrams.push((from, session.local, alert(description)));
        out.events.push(Event::Failed { end: from, why, identity: session.identity });
    }

    /// A handshake gives way to another one of the same end.
    fn drop_opening(&mut self, from: SocketAddr, now: Instant) {
        let Some(session) = self.ends.get_mut(&from).and_then(|end| end.opening.take()) else { return };
        self.forget_opening(from, session.began);
        self.list(from, now);
    }

    fn forget_opening(&mut self, from: SocketAddr, began: Instant) {
        self.opening.remove(&(began, from));
        if let Some((opening, _)) = self.of_address.get_mut(&Address::of(from)) {
            *opening = opening.saturating_sub(1);
        }
    }

    /// Ends a session with a word to the other end.
    fn end_session(&mut self, from: SocketAddr, now: Instant, out: &mut Output) {
        self.step(from, false, now, out, |session| session.dtls.close());
        self.close_session(from, out);
    }

    fn close_session(&mut self, from: SocketAddr, out: &mut Output) {
        let Some(end) = self.ends.get_mut(&from) else { return };
        if end.open.take().is_none() {
            return;
        }
        self.open -= 1;
        if let Some((_, open)) = self.of_address.get_mut(&Address::of(from)) {
            *open = open.saturating_sub(1);
        }
        out.events.push(Event::Closed { end: from });
    }

    /// Notes when something is due with an end, and forgets one with which nothing is.
    fn list(&mut self, from: SocketAddr, now: Instant) {
        let Some(end) = self.ends.get_mut(&from) else { return };
        let due = end.due().map(|due| due.max(now));
        if due != end.listed {
            if let Some(before) = end.listed {
                self.due.remove(&(before, from));
            }
            if let Some(due) = due {
                self.due.insert((due, from));
            }
            end.listed = due;
        }
        if due.is_none() {
            self.ends.remove(&from);
            let address = Address::of(from);
            if self.of_address.get(&address) == Some(&(0, 0)) {
                self.of_address.remove(&address);
            }
        }
    }
}
