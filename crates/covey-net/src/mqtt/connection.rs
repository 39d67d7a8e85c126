//! A connection that lives: one future, which keeps nothing while the client is idle.
//!
//! Each time it is woken it reads, has messages handled, takes what other tasks have for the client,
//! and writes all that came of it at once, in one TLS record if it fits. Deadlines are those of the
//! sweep; it has no timer.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use covey_wire::mqtt::session::{Epoch, Peer};
use covey_wire::mqtt::{ProtocolVersion, ReasonCode};

use super::device::Device;
use super::hub::{Attached, Hub};
use super::keeping::Keeping;
use super::service::{ConnectionId, End, Later, Service};
use super::under_way::UnderWay;
use crate::transport::{Ended, Transport};

/// How often a connection reads before it lets others have their turn.
/// Limit for each turn: others have theirs first.
const READS_MAX: usize = 8;
/// Room for plaintext that a thread keeps between two connections, in bytes.
/// Limit for each thread: what is larger is given back.
const KEPT_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static PLAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A client's connection, from its CONNACK on.
pub(super) struct Connection<S: Service> {
    core: Core<S>,
    phase: Phase,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all connections are live, and one allocation does for each"
)]
enum Phase {
    Live(Transport),
    /// The end has been told; the client may still take in the last words.
    Finishing(Later<()>),
    Over,
}

/// All of a connection but its socket.
pub(super) struct Core<S: Service> {
    pub(super) hub: Arc<Hub<S>>,
    pub(super) device: Arc<Device<S::Client>>,
    pub(super) client: Arc<S::Client>,
    pub(super) id: ConnectionId,
    pub(super) epoch: Epoch,
    pub(super) peer: Peer,
    /// The beginning of a packet, or packets that wait until there is room for their messages.
    unread: Vec<u8>,
    pub(super) under_way: UnderWay,
    /// A change of the session that the owner is keeping.
    pub(super) keeping: Option<Box<Keeping>>,
    /// Nothing is read until this is over, as the owner wants it.
    pub(super) hold: Option<Later<()>>,
    /// Something was read after what was sent last, and an answer may come of it.
    owes_answer: bool,
    /// What the sweep was last told.
    told: Told,
}

/// What the sweep is told of a connection.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    /// Bytes that wait for the client.
    unsent_bytes: usize,
    /// Bytes that came from it and are not handled: they wait for the rest of their packet, or for their turn.
    unread_bytes: usize,
    /// Whether nothing is read from it.
    is_held: bool,
}

/// What a round came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    /// There is nothing more to read now.
    Idle,
    /// Nothing is to be read now.
    Held,
    /// There may be more.
    More,
}

impl<S: Service> Connection<S> {
    pub(super) fn new(
        hub: Arc<Hub<S>>,
        client: Arc<S::Client>,
        attached: Attached<S::Client>,
        mut transport: Transport,
        unread: Vec<u8>,
    ) -> Self {
        let Attached { device, connection: id, connected, bytes } = attached;
        // Nothing may be said before the CONNACK [MQTT-3.14.0-1]. A connection on which it cannot be said
        // has ended, which the first read will show.
        if let Err(ended) = transport.send(&bytes) {
            tracing::debug!(%ended, "a connection is gone already");
        }
        if connected.peer.keep_alive_s == 0 {
            transport.watch_for_death();
        }
        let core = Core {
            hub,
            device,
            client,
            id,
            epoch: connected.epoch,
            peer: connected.peer,
            unread,
            under_way: UnderWay::default(),
            keeping: None,
            hold: None,
            owes_answer: false,
            told: Told::default(),
        };
        Self { core, phase: Phase::Live(transport) }
    }
}

impl<S: Service> Core<S> {
    /// Does what there is to do.
    ///
    /// # Errors
    /// The end of the connection.
    fn run(&mut self, transport: &mut Transport, context: &mut Context<'_>) -> Result<(), End> {
        let mut round = Round::More;
        for _ in 0..READS_MAX {
            self.settle_messages(context)?;
            self.settle_keeping(context)?;
            self.settle_hold(context);
            round = self.read(transport, context)?;
            if round != Round::More {
                break;
            }
            self.owes_answer = true;
        }
        // Begins what came with the last read.
        self.settle_messages(context)?;
        self.settle_keeping(context)?;
        self.settle_hold(context);
        let was_blocked = transport.unsent_bytes() > 0;
        let bytes = self.take_mail(transport, context)?;
        if !bytes.is_empty() {
            transport.send(&bytes).map_err(end_of)?;
            self.owes_answer = false;
        } else if self.owes_answer && self.under_way.len() == 0 && self.keeping.is_none() {
            transport.acknowledge();
            self.owes_answer = false;
        }
        if let Poll::Ready(flushed) = transport.poll_flush(context) {
            flushed.map_err(end_of)?;
        }
        let is_held = self.is_held(transport);
        let unread_bytes = self.unread.capacity();
        self.tell_sweep(Told { unsent_bytes: transport.unsent_bytes(), unread_bytes, is_held });
        let can_go_on = match round {
            Round::Idle => false,
            Round::Held => !is_held,
            // Others have their turn first.
            Round::More => true,
        };
        if can_go_on || (was_blocked && transport.unsent_bytes() == 0) {
            context.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Whether nothing is to be read for the moment: the client has sent more than is handled yet, does not
    /// take the answers, has changed its subscriptions, which the owner is keeping, or has sent too much.
    pub(super) fn is_held(&self, transport: &Transport) -> bool {
        let limits = self.hub.limits();
        self.keeping.is_some()
            || self.hold.is_some()
            || self.under_way.len() + self.device.left() >= limits.under_way_max
            || transport.unsent_bytes() > 0
            // MQTT 5 has a Receive Maximum for it, which the session looks after.
            || (self.peer.version == ProtocolVersion::V311
                && self.under_way.len() > 0
                && !self.device.lock().session.has_room(&limits.session))
    }

    /// Reads again when the while is over for which the owner wanted nothing.
    fn settle_hold(&mut self, context: &mut Context<'_>) {
        if self.hold.as_mut().is_some_and(|hold| hold.as_mut().poll(context).is_ready()) {
            self.hold = None;
        }
    }

    /// Handles what was read, and reads once.
    fn read(&mut self, transport: &mut Transport, context: &mut Context<'_>) -> Result<Round, End> {
        if !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            let used = self.packets(transport, &unread)?;
            // What is left of much that was read does not keep the room of all of it.
            self.unread = if used == 0 { unread } else { unread[used..].to_vec() };
        }
        if self.is_held(transport) {
            return Ok(Round::Held);
        }
        let mut plain = PLAIN.take();
        plain.clear();
        let read = match transport.poll_read(context, &mut plain) {
            Poll::Pending => Ok(Round::Idle),
            Poll::Ready(Err(ended)) => Err(end_of(ended)),
            Poll::Ready(Ok(())) => self.take_plain(transport, &plain).map(|()| Round::More),
        };
        if plain.capacity() <= KEPT_BYTES_MAX {
            PLAIN.set(plain);
        }
        read
    }

    fn take_plain(&mut self, transport: &Transport, plain: &[u8]) -> Result<(), End> {
        if self.unread.is_empty() {
            let used = self.packets(transport, plain)?;
            if used < plain.len() {
                self.unread = plain[used..].to_vec();
            }
        } else {
            // The next round goes on with it.
            self.unread.extend_from_slice(plain);
        }
        Ok(())
    }

    /// What other tasks have for the client, unless it has not taken yet what it was sent before.
    fn take_mail(&self, transport: &Transport, context: &mut Context<'_>) -> Result<Vec<u8>, End> {
        let mut inner = self.device.lock();
        if inner.session.epoch() != self.epoch {
            return Err(End::TakenOver);
        }
        if let Some(end) = inner.close.take() {
            return Err(*end);
        }
        if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            inner.waker = Some(context.waker().clone());
        }
        let bytes = match transport.unsent_bytes() {
            0 => std::mem::take(&mut inner.bytes),
            _ => Vec::new(),
        };
        self.device.set_deadline(&inner, self.hub.limits());
        Ok(bytes)
    }

    /// Has the sweep know since when the client takes nothing, that nothing is read from it, and what is kept of what it
    /// has sent: a client that ends no packet keeps as much as one that takes none.
    fn tell_sweep(&mut self, now: Told) {
        if now == self.told {
            return;
        }
        {
            let mut inner = self.device.lock();
            if inner.session.epoch() == self.epoch {
                inner.is_held = now.is_held;
                inner.unsent_bytes = now.unsent_bytes;
                inner.unread_bytes = now.unread_bytes;
                if now.unsent_bytes != self.told.unsent_bytes {
                    inner.blocked_since_ms = (now.unsent_bytes > 0).then(|| self.hub.now_ms());
                }
                self.device.set_deadline(&inner, self.hub.limits());
            }
        }
        let is_more = now.unread_bytes > self.told.unread_bytes;
        self.told = now;
        if is_more {
            self.hub.relieve_if_full();
        }
    }

    /// Ends for the owner; answers what the client is still told.
    fn end(&mut self, end: &End) -> Vec<u8> {
        // It is not handled any more, and the last words may take a while.
        self.unread = Vec::new();
        let mut last = {
            let mut inner = self.device.lock();
            let is_current = inner.session.epoch() == self.epoch;
            if is_current { std::mem::take(&mut inner.bytes) } else { Vec::new() }
        };
        self.detach(end);
        if let Some((reason, text)) = last_words(end) {
            self.peer.disconnect(reason, text, &mut last);
        }
        last
    }

    /// The session goes on without this connection, and so do the messages that the owner is still
    /// working on.
    fn detach(&mut self, end: &End) {
        let under_way = std::mem::take(&mut self.under_way);
        self.hub.detach(&self.device, self.epoch);
        if under_way.len() > 0 {
            let count = under_way.len();
            self.hub.go_on(&self.device, count, under_way.go_on(Arc::clone(&self.device)));
        }
        if let Some(keeping) = self.keeping.take() {
            self.hub.go_on(&self.device, 1, keeping.go_on(Arc::clone(&self.device)));
        }
        self.hub.service().disconnected(&self.client, self.id, end);
    }
}

impl<S: Service> Future for Connection<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { core, phase } = &mut *self;
        if let Phase::Live(transport) = phase {
            let Err(end) = core.run(transport, context) else { return Poll::Pending };
            let Phase::Live(mut transport) = std::mem::replace(phase, Phase::Over) else {
                return Poll::Ready(());
            };
            let last = core.end(&end);
            if !matches!(end, End::Lost(_)) && (last.is_empty() || transport.send(&last).is_ok()) {
                *phase = Phase::Finishing(Box::pin(transport.finish()));
            }
        }
        match phase {
            Phase::Finishing(finishing) => finishing.as_mut().poll(context),
            _ => Poll::Ready(()),
        }
    }
}

impl<S: Service> Drop for Connection<S> {
    fn drop(&mut self) {
        // Cut, or ended by a fault: whoever was told of the beginning is told of the end.
        if let Phase::Live(_) = self.phase {
            self.core.detach(&End::Lost("cut by the server".to_owned()));
        }
    }
}

/// What the client is told of the end of its connection.
fn last_words(end: &End) -> Option<(ReasonCode, &str)> {
    match end {
        End::ByClient(_) | End::Lost(_) => None,
        End::KeepAlive => Some((ReasonCode::KeepAliveTimeout, "nothing came within the keep alive")),
        End::TakenOver => Some((ReasonCode::SessionTakenOver, "another connection of this client came")),
        End::Violation(violation) => Some((violation.reason, violation.text)),
        End::Closed { reason, text } => Some((*reason, text)),
        End::NotReading => Some((ReasonCode::QuotaExceeded, "what was sent is not read")),
        End::ShuttingDown => Some((ReasonCode::ServerShuttingDown, "the server shuts down")),
    }
}

fn end_of(ended: Ended) -> End {
    End::Lost(ended.to_string())
}
