//! One task for all nodes: it has the socket, the exchange layer, its owner, and one timer.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::dtls::{self, Identity, Sessions};
use super::exchange::{
    Address, Dropped, Event, Exchange, Incoming, Output, Receipt, Refused, Request, RequestId, Response,
    Unobserve,
};
use super::socket::CoapSocket;

/// How many batches are read before others have their turn.
const BATCHES_MAX: usize = 8;
/// How many commands are done before others have their turn.
const COMMANDS_TOGETHER_MAX: usize = 64;
/// Of how many sources bad datagrams, and what else is amiss, are told in one minute.
/// Limit for each gateway: those of others are counted only.
pub const SOURCES_TOLD_MAX: usize = 256;
/// How often a source of bad datagrams is told, in milliseconds.
const TELL_MS: u64 = 60_000;
/// How long reading rests after the socket has failed.
const FAILED_PAUSE_MS: u64 = 100;

/// Who knows what nodes are, and what a request means. It is called from the one task of the gateway, and must
/// not wait: what takes time it does in tasks of its own, which send it commands when they are done.
pub trait Owner: Send {
    /// What others tell it.
    type Command: Send;

    /// Whether somebody is known to be at this address. It is asked for each datagram.
    fn is_proven(&self, address: Address) -> bool;

    /// Something has happened.
    fn happened(&mut self, event: Event, coap: &mut Coap<'_>);

    /// Somebody has proven who is at this address, which has a session from now on.
    fn opened(&mut self, _address: Address, _identity: Arc<Identity>, _coap: &mut Coap<'_>) {}

    /// The session of this address is no more.
    fn closed(&mut self, _address: Address, _coap: &mut Coap<'_>) {}

    /// A command has come.
    fn told(&mut self, command: Self::Command, coap: &mut Coap<'_>);

    /// When [`timer`](Self::timer) is to be called.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Its deadline has come.
    fn timer(&mut self, _coap: &mut Coap<'_>) {}
}

/// The listeners of a gateway: one of them, or both.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Without sessions.
    pub plain: Option<CoapSocket>,
    /// With sessions.
    pub secure: Option<(CoapSocket, Sessions)>,
}

impl From<CoapSocket> for Listeners {
    fn from(socket: CoapSocket) -> Self {
        Self { plain: Some(socket), secure: None }
    }
}

/// An exchange layer with what it has to say.
#[derive(Debug)]
pub(super) struct Side {
    pub exchange: Exchange,
    pub out: Output,
}

impl Side {
    pub const fn new(exchange: Exchange) -> Self {
        Self { exchange, out: Output { datagrams: Vec::new(), events: Vec::new(), sent_again: 0 } }
    }
}

/// What an owner may do.
#[derive(Debug)]
pub struct Coap<'a> {
    /// That of addresses, and that of sessions.
    pub(super) plain: &'a mut Side,
    pub(super) secure: &'a mut Side,
    pub(super) now: Instant,
    pub(super) now_ms: u64,
}

impl Coap<'_> {
    /// The present instant.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    fn side(&mut self, address: Address) -> &mut Side {
        if address.has_session() { self.secure } else { self.plain }
    }

    /// See [`Exchange::request`]. The port is that of a peer without a session.
    ///
    /// # Errors
    /// Why it was not begun.
    pub fn request(
        &mut self,
        to: Address,
        port: u16,
        is_proven: bool,
        request: Request,
    ) -> Result<RequestId, Refused> {
        let now_ms = self.now_ms;
        let Side { exchange, out } = self.side(to);
        exchange.request(to.at(port), is_proven, request, now_ms, out)
    }

    /// See [`Exchange::ping`]. The port is that of a peer without a session.
    ///
    /// # Errors
    /// [`Refused::Full`].
    pub fn ping(&mut self, to: Address, port: u16) -> Result<RequestId, Refused> {
        let now_ms = self.now_ms;
        let Side { exchange, out } = self.side(to);
        exchange.ping(to.at(port), now_ms, out)
    }

    /// See [`Exchange::respond`].
    pub fn respond(&mut self, receipt: Receipt, response: Response) -> bool {
        let now_ms = self.now_ms;
        let Side { exchange, out } = self.side(receipt.address());
        exchange.respond(receipt, response, now_ms, out)
    }

    /// See [`Terms::echo_of`](super::exchange::Terms::echo_of).
    #[must_use]
    pub fn echo_of(&self, body: &[u8]) -> Response {
        self.plain.exchange.terms().echo_of(body)
    }

    /// See [`Exchange::cancel`].
    pub fn cancel(&mut self, request: RequestId) -> bool {
        let now_ms = self.now_ms;
        let Side { exchange, out } = self.side(request.address());
        exchange.cancel(request, now_ms, out)
    }

    /// See [`Exchange::unobserve`].
    pub fn unobserve(&mut self, observation: RequestId, how: Unobserve) -> bool {
        let now_ms = self.now_ms;
        let Side { exchange, out } = self.side(observation.address());
        exchange.unobserve(observation, how, now_ms, out)
    }

    /// See [`Exchange::forget`].
    pub fn forget(&mut self, address: Address) {
        let now_ms = self.now_ms;
        let Side { exchange, out } = self.side(address);
        exchange.forget(address, now_ms, out);
    }
}

/// What is counted, from the beginning on.
#[derive(Debug, Default)]
pub struct Counts {
    /// Datagrams that came.
    pub received: AtomicU64,
    /// Datagrams that went out.
    pub sent: AtomicU64,
    /// Of those, messages that were not acknowledged and were sent again.
    pub resent: AtomicU64,
    /// Requests of nodes.
    pub requests: AtomicU64,
    /// Datagrams that the system did not take.
    pub not_sent: AtomicU64,
    /// Datagrams that are no messages.
    pub malformed: AtomicU64,
    /// Requests that cannot be taken.
    pub bad_requests: AtomicU64,
    /// Answers that belong to nothing.
    pub unmatched: AtomicU64,
    /// Datagrams that were sent to many.
    pub multicast: AtomicU64,
    /// Requests for which there was no room, and newcomers for whom there was none.
    pub no_room: AtomicU64,
    /// Values of nodes that are not known or may not join: they were acknowledged, and not kept.
    pub not_kept: AtomicU64,
    /// Resources of nodes that were asked for in vain.
    pub not_read: AtomicU64,
    /// Resources that could be observed, and are not, or not any more.
    pub not_observed: AtomicU64,
    /// Sessions of DTLS that were opened.
    pub dtls_opened: AtomicU64,
    /// Handshakes and sessions that failed or gave way.
    pub dtls_failed: AtomicU64,
    /// Datagrams for which there is no session.
    pub dtls_no_session: AtomicU64,
    /// Datagrams that are no DTLS.
    pub dtls_malformed: AtomicU64,
    /// Peers that are known at present, and what is kept for them in bytes.
    pub peers: AtomicU64,
    /// See `peers`.
    pub held_bytes: AtomicU64,
}

impl Counts {
    /// What was counted, each with its name in the measurements.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        [
            ("received", &self.received),
            ("sent", &self.sent),
            ("sent_again", &self.resent),
            ("not_sent", &self.not_sent),
            ("requests", &self.requests),
            ("malformed", &self.malformed),
            ("bad_requests", &self.bad_requests),
            ("unmatched", &self.unmatched),
            ("multicast", &self.multicast),
            ("no_room", &self.no_room),
            ("not_kept", &self.not_kept),
            ("not_read", &self.not_read),
            ("not_observed", &self.not_observed),
            ("dtls_opened", &self.dtls_opened),
            ("dtls_failed", &self.dtls_failed),
            ("dtls_no_session", &self.dtls_no_session),
            ("dtls_malformed", &self.dtls_malformed),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
        .to_vec()
    }

    fn dropped(&self, dropped: Dropped) {
        let counter = match dropped {
            Dropped::Malformed(_) => &self.malformed,
            Dropped::BadRequest(..) => &self.bad_requests,
            Dropped::Unmatched => &self.unmatched,
            Dropped::Multicast => &self.multicast,
            Dropped::NoRoom => &self.no_room,
        };
        add(counter, 1);
    }

    fn dtls_dropped(&self, dropped: dtls::Dropped) {
        use dtls::Dropped as Why;
        let counter = match dropped {
            Why::Multicast => &self.multicast,
            Why::TooLarge | Why::Malformed | Why::BadHello => &self.dtls_malformed,
            Why::NoSession => &self.dtls_no_session,
            Why::UnknownIdentity | Why::Handshake | Why::TimedOut | Why::Broken | Why::NoRoom => {
                &self.dtls_failed
            }
        };
        add(counter, 1);
    }
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Serves until `shutdown`; answers the owner. When all senders of commands are gone, it goes on without. The exchange
/// layer is that of peers without sessions.
pub async fn serve<O: Owner>(
    listeners: impl Into<Listeners>,
    exchange: Exchange,
    owner: O,
    mut commands: mpsc::Receiver<O::Command>,
    counts: Arc<Counts>,
    shutdown: CancellationToken,
) -> O {
    let start = Instant::now();
    let Listeners { plain: mut socket, secure } = listeners.into();
    let (mut secure_socket, mut sessions) = secure.unzip();
    let seed = sessions.as_mut().map(Sessions::seed).unwrap_or_default();
    let of_sessions = Exchange::new(exchange.terms().of_sessions(), seed);
    let mut driver = Driver {
        plain: Side::new(exchange),
        secure: Side::new(of_sessions),
        sessions,
        sealed: dtls::Output::default(),
        owner,
        start,
        counts,
        told: Told::new(),
    };
    let (mut has_commands, mut read_from) = (true, None);
    // One timer, set anew where the deadline has changed.
    let mut timer = std::pin::pin!(sleep_until(start));
    loop {
        driver.settle(socket.as_ref(), secure_socket.as_ref()).await;
        let deadline = driver.deadline();
        if let Some(deadline) = deadline
            && timer.deadline() != deadline
        {
            timer.as_mut().reset(deadline);
        }
        let (plain_readable, secure_readable) = (readable(socket.as_ref()), readable(secure_socket.as_ref()));
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = &mut timer, if deadline.is_some() => driver.timer(),
            command = commands.recv(), if has_commands => match command {
                Some(command) => {
                    driver.command(command);
                    // Those that have come together are answered together.
                    for _ in 1..COMMANDS_TOGETHER_MAX {
                        let Ok(command) = commands.try_recv() else { break };
                        driver.command(command);
                    }
                }
                None => has_commands = false,
            },
            () = sleep_until(read_from.unwrap_or(start)), if read_from.is_some() => read_from = None,
            has_failed = async { tokio::select! { it = plain_readable => it, it = secure_readable => it } }, if read_from.is_none() => {
                if has_failed || !driver.read(&mut socket, &mut secure_socket).await {
                    read_from = Some(Instant::now() + Duration::from_millis(FAILED_PAUSE_MS));
                }
            }
        }
    }
    driver.close(secure_socket.as_ref()).await;
    driver.owner
}

/// Waits until there is something to read; whether it has failed. Never without a socket.
async fn readable(socket: Option<&CoapSocket>) -> bool {
    match socket {
        Some(socket) => socket.readable().await.is_err(),
        None => std::future::pending().await,
    }
}

struct Driver<O> {
    plain: Side,
    secure: Side,
    sessions: Option<Sessions>,
    /// What the sessions have to say.
    sealed: dtls::Output,
    owner: O,
    start: Instant,
    counts: Arc<Counts>,
    told: Told,
}

impl<O: Owner> Driver<O> {
    fn now_ms(&self, now: Instant) -> u64 {
        u64::try_from((now - self.start).as_millis()).unwrap_or(u64::MAX)
    }

    /// Reads what there is, up to a bound. False if a socket has failed.
    async fn read(&mut self, plain: &mut Option<CoapSocket>, secure: &mut Option<CoapSocket>) -> bool {
        for _ in 0..BATCHES_MAX {
            let now = Instant::now();
            let has_read = [
                plain.as_mut().map(|socket| self.read_plain(socket, now)),
                secure.as_mut().map(|socket| self.read_secure(socket, now)),
            ];
            let mut is_more = false;
            for read in has_read.into_iter().flatten() {
                match read {
                    Ok(has_read) => is_more |= has_read,
                    // What the system tells of a datagram that was sent before is no fault of the socket.
                    Err(error) if is_of_a_peer(&error) => is_more = true,
                    Err(error) => {
                        tracing::warn!(%error, "the CoAP socket cannot be read");
                        return false;
                    }
                }
            }
            if !is_more {
                break;
            }
            self.settle(plain.as_ref(), secure.as_ref()).await;
        }
        true
    }

    fn read_plain(&mut self, socket: &mut CoapSocket, now: Instant) -> std::io::Result<bool> {
        let now_ms = self.now_ms(now);
        let Self { plain: Side { exchange, out }, owner, counts, told, .. } = self;
        socket.receive(|from, to, bytes| {
            add(&counts.received, 1);
            let address = Address::of(from);
            let is_proven = owner.is_proven(address);
            let incoming = Incoming { from, to, is_proven, bytes };
            if let Err(dropped) = exchange.datagram(incoming, now_ms, out) {
                counts.dropped(dropped);
                told.tell(address, dropped, now);
            }
        })
    }

    fn read_secure(&mut self, socket: &mut CoapSocket, now: Instant) -> std::io::Result<bool> {
        let Self { sessions: Some(sessions), sealed, counts, told, .. } = self else { return Ok(false) };
        let read = socket.receive(|from, to, bytes| {
            add(&counts.received, 1);
            if let Err(dropped) = sessions.datagram(from, to, bytes, now.into_std(), sealed) {
                counts.dtls_dropped(dropped);
                told.tell_dtls(from, dropped, None, now);
            }
        });
        self.unseal(now);
        read
    }

    /// Hands on what the sessions have to say.
    fn unseal(&mut self, now: Instant) {
        let now_ms = self.now_ms(now);
        for event in std::mem::take(&mut self.sealed.events) {
            let Self { plain, secure, owner, counts, told, .. } = self;
            match event {
                dtls::Event::Opened { end, identity } => {
                    add(&counts.dtls_opened, 1);
                    let address = Address::of_session(end);
                    let mut coap = Coap { plain, secure, now, now_ms };
                    // What was under way with who was there before is not for who is there now.
                    coap.forget(address);
                    owner.opened(address, identity, &mut coap);
                }
                dtls::Event::Said { end, to, bytes } => {
                    let Side { exchange, out } = secure;
                    let incoming = Incoming { from: end, to, is_proven: true, bytes: &bytes };
                    if let Err(dropped) = exchange.datagram(incoming, now_ms, out) {
                        counts.dropped(dropped);
                        told.tell(Address::of(end), dropped, now);
                    }
                }
                dtls::Event::Closed { end } => {
                    let address = Address::of_session(end);
                    let mut coap = Coap { plain, secure, now, now_ms };
                    coap.forget(address);
                    owner.closed(address, &mut coap);
                }
                dtls::Event::Failed { end, why, identity } => {
                    counts.dtls_dropped(why);
                    told.tell_dtls(end, why, identity.as_deref(), now);
                }
            }
        }
    }

    fn timer(&mut self) {
        let now = Instant::now();
        let now_ms = self.now_ms(now);
        if let Some(sessions) = &mut self.sessions {
            sessions.timer(now.into_std(), &mut self.sealed);
        }
        for Side { exchange, out } in [&mut self.plain, &mut self.secure] {
            exchange.timer(now_ms, out);
        }
        if self.owner.deadline().is_some_and(|deadline| deadline <= now) {
            let Self { plain, secure, owner, .. } = self;
            owner.timer(&mut Coap { plain, secure, now, now_ms });
        }
        self.unseal(now);
    }

    fn command(&mut self, command: O::Command) {
        let now = Instant::now();
        let now_ms = self.now_ms(now);
        let Self { plain, secure, owner, .. } = self;
        owner.told(command, &mut Coap { plain, secure, now, now_ms });
    }

    /// Tells the owner what has happened, and sends what is to be sent.
    async fn settle(&mut self, plain_socket: Option<&CoapSocket>, secure_socket: Option<&CoapSocket>) {
        let now = Instant::now();
        loop {
            let now_ms = self.now_ms(now);
            let Self { plain, secure, owner, counts, .. } = self;
            let mut events = std::mem::take(&mut plain.out.events);
            events.append(&mut secure.out.events);
            for event in events {
                if matches!(event, Event::Asked(_)) {
                    add(&counts.requests, 1);
                }
                owner.happened(event, &mut Coap { plain, secure, now, now_ms });
            }
            if let Some(sessions) = &mut self.sessions {
                for datagram in self.secure.out.datagrams.drain(..) {
                    // Without a session it is lost, as over a network that is down.
                    sessions.send(datagram.to, &datagram.bytes, now.into_std(), &mut self.sealed);
                }
            }
            self.unseal(now);
            if self.plain.out.events.is_empty()
                && self.secure.out.events.is_empty()
                && self.secure.out.datagrams.is_empty()
            {
                break;
            }
        }
        for Side { out, .. } in [&mut self.plain, &mut self.secure] {
            add(&self.counts.resent, std::mem::take(&mut out.sent_again));
        }
        if let Some(socket) = plain_socket {
            let datagrams = self.plain.out.datagrams.drain(..);
            for datagram in datagrams {
                send(socket, &self.counts, datagram.to, datagram.from, &datagram.bytes).await;
            }
        }
        self.send_sealed(secure_socket).await;
        let sides = [&self.plain, &self.secure];
        let peers: usize = sides.iter().map(|side| side.exchange.peers()).sum();
        let held_bytes: usize = sides.iter().map(|side| side.exchange.held_bytes()).sum();
        self.counts.peers.store(peers as u64, Ordering::Relaxed);
        self.counts.held_bytes.store(held_bytes as u64, Ordering::Relaxed);
    }

    async fn send_sealed(&mut self, socket: Option<&CoapSocket>) {
        let Some(socket) = socket else { return };
        for (to, from, bytes) in self.sealed.datagrams.drain(..) {
            send(socket, &self.counts, to, from, &bytes).await;
        }
    }

    /// Says to who has a session that it ends.
    async fn close(&mut self, socket: Option<&CoapSocket>) {
        if let Some(sessions) = &mut self.sessions {
            sessions.close(Instant::now().into_std(), &mut self.sealed);
            self.send_sealed(socket).await;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let exchange_ms =
            [&self.plain, &self.secure].into_iter().filter_map(|side| side.exchange.deadline_ms()).min();
        // One that is too far to be told is as good as none.
        let of_exchange = exchange_ms.and_then(|ms| self.start.checked_add(Duration::from_millis(ms)));
        let of_sessions = self.sessions.as_ref().and_then(Sessions::deadline).map(Instant::from_std);
        of_exchange.into_iter().chain(of_sessions).chain(self.owner.deadline()).min()
    }
}

async fn send(socket: &CoapSocket, counts: &Counts, to: SocketAddr, from: Option<IpAddr>, bytes: &[u8]) {
    match socket.send(to, from, bytes).await {
        Ok(()) => add(&counts.sent, 1),
        Err(error) => {
            add(&counts.not_sent, 1);
            tracing::debug!(address = %to.ip(), %error, "a CoAP datagram could not be sent");
        }
    }
}

/// Whether an error of the socket is about a datagram that was sent to a peer.
fn is_of_a_peer(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::Interrupted
    )
}

/// Which sources of bad datagrams, or of what else is amiss, were told in this minute.
pub(super) struct Told<K = Address> {
    since: Option<Instant>,
    sources: HashSet<K>,
}

impl Told {
    fn tell(&mut self, address: Address, dropped: Dropped, now: Instant) {
        // What is late or comes twice is the way of the network.
        if matches!(dropped, Dropped::Malformed(_) | Dropped::BadRequest(..)) && self.is_first(address, now) {
            tracing::warn!(address = %address.ip, reason = %dropped, "CoAP datagram dropped");
        }
    }

    fn tell_dtls(
        &mut self,
        end: SocketAddr,
        dropped: dtls::Dropped,
        identity: Option<&Identity>,
        now: Instant,
    ) {
        // Whoever had a session with the server before says something until it begins anew.
        let is_common = matches!(dropped, dtls::Dropped::NoSession | dtls::Dropped::Multicast);
        let address = Address::of(end);
        if !is_common && self.is_first(address, now) {
            let identity = identity.map(|identity| &*identity.name);
            tracing::warn!(address = %address.ip, identity, reason = %dropped, "CoAP over DTLS refused");
        }
    }
}

impl<K: Eq + Hash> Told<K> {
    pub fn new() -> Self {
        Self { since: None, sources: HashSet::new() }
    }

    /// Whether nothing was told of a source in this minute.
    pub fn is_first(&mut self, source: K, now: Instant) -> bool {
        let is_over = |since| now >= since + Duration::from_millis(TELL_MS);
        if self.since.is_none_or(is_over) {
            self.since = Some(now);
            self.sources.clear();
        }
        self.sources.len() < SOURCES_TOLD_MAX && self.sources.insert(source)
    }
}
