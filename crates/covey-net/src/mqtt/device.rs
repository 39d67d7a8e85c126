//! One client as the server knows it, connected or away: its session, and what other tasks have for
//! its connection.

use std::borrow::{Borrow, Cow};
use std::cell::RefCell;
use std::cmp::Ordering as Order;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use covey_wire::mqtt::session::{Kept, Message, Outcome, Output, Sent, Session};
use covey_wire::mqtt::{ProtocolVersion, Qos, ReasonCode};

use super::MqttLimits;
use super::service::{ConnectionId, End, KeptState, SessionToKeep};

thread_local! {
    static OUTPUT: RefCell<Output> = RefCell::default();
}

/// What became of messages that were sent; to be told when the lock is free again.
pub(super) type Outcomes = Vec<Outcome>;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// A client, by its client identifier.
pub(super) struct Device<C> {
    pub(super) client_id: Box<str>,
    /// When the sweep must look at it, in milliseconds; read without the lock.
    deadline_ms: AtomicU64,
    /// How many messages and wills of ended connections the owner is still working on.
    left: AtomicUsize,
    held: Held,
    inner: Mutex<Inner<C>>,
}

/// How many bytes are kept for a client, counted among those of all.
struct Held {
    bytes: AtomicUsize,
    all: Arc<AtomicUsize>,
    /// What is still kept for it goes with its connection.
    is_over: AtomicBool,
}

impl Held {
    /// To be called with the client's lock held.
    fn set(&self, bytes: usize) {
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        match bytes.cmp(&before) {
            Order::Less => drop(self.all.fetch_sub(before - bytes, Ordering::Relaxed)),
            Order::Equal => {}
            Order::Greater => drop(self.all.fetch_add(bytes - before, Ordering::Relaxed)),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// The parts of a client that its connection and others share.
pub(super) struct Inner<C> {
    pub(super) client: Arc<C>,
    pub(super) session: Session,
    /// Of what the owner has kept of the session; 0: nothing.
    pub(super) revision: u64,
    /// The session has changed since.
    pub(super) is_unkept: bool,
    /// The present connection, or the last.
    pub(super) connection: ConnectionId,
    /// What is to be written; it belongs to the connection that has the session's epoch.
    pub(super) bytes: Vec<u8>,
    /// Wakes that connection.
    pub(super) waker: Option<Waker>,
    /// That connection is to end.
    pub(super) close: Option<Box<End>>,
    /// Since when it has not taken a byte of what waits for it, in milliseconds.
    pub(super) blocked_since_ms: Option<u64>,
    /// What the connection has taken to write, and has not written, in bytes.
    pub(super) unsent_bytes: usize,
    /// What the connection keeps of what the client has sent, in bytes.
    pub(super) unread_bytes: usize,
    /// Nothing is read from the client for the moment, so that its Keep Alive says nothing.
    pub(super) is_held: bool,
}

impl<C> Device<C> {
    /// One of those whose kept bytes are counted in `all_held`.
    pub(super) fn new(client_id: &str, client: Arc<C>, all_held: &Arc<AtomicUsize>) -> Self {
        let inner = Inner {
            client,
            session: Session::new(),
            revision: 0,
            is_unkept: false,
            connection: ConnectionId(0),
            bytes: Vec::new(),
            waker: None,
            close: None,
            blocked_since_ms: None,
            unsent_bytes: 0,
            unread_bytes: 0,
            is_held: false,
        };
        let all = Arc::clone(all_held);
        Self {
            client_id: client_id.into(),
            deadline_ms: AtomicU64::new(NEVER),
            left: AtomicUsize::new(0),
            held: Held { bytes: AtomicUsize::new(0), all, is_over: AtomicBool::new(false) },
            inner: Mutex::new(inner),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner<C>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What ended connections have left counts against the next one, so that who comes back again and
    /// again leaves no more than who stays.
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// So much is left by a connection, until what is answered is dropped.
    pub(super) fn leave(self: &Arc<Self>, count: usize) -> Left<C> {
        self.left.fetch_add(count, Ordering::Relaxed);
        Left { device: Arc::clone(self), count }
    }

    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.deadline_ms.load(Ordering::Relaxed) <= now_ms
    }

    /// How many bytes are kept for it.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.bytes.load(Ordering::Relaxed)
    }

    /// It is about to go, with all that is kept for it: that counts no more. To be called with the lock held.
    pub(super) fn count_no_more(&self) {
        self.held.set(0);
        self.held.is_over.store(true, Ordering::Relaxed);
    }

    /// To be called with the lock held, whenever the session or the connection may have another deadline, or
    /// more or less is kept.
    pub(super) fn set_deadline(&self, inner: &Inner<C>, limits: &MqttLimits) {
        let of_connection = inner.unsent_bytes + inner.unread_bytes;
        self.held.set(inner.bytes.len() + inner.session.kept_bytes() + of_connection);
        let blocked = inner.blocked_since_ms.map(|since| since.saturating_add(limits.unread_ms_max));
        let deadline = inner.session.deadline_ms().into_iter().chain(blocked).min();
        self.deadline_ms.store(deadline.unwrap_or(NEVER), Ordering::Relaxed);
    }
}

/// What ended connections have left, counted.
pub(super) struct Left<C> {
    device: Arc<Device<C>>,
    count: usize,
}

impl<C> Drop for Left<C> {
    fn drop(&mut self) {
        self.device.left.fetch_sub(self.count, Ordering::Relaxed);
        // The next connection may have waited for that.
        self.device.lock().wake();
    }
}

impl<C> Inner<C> {
    /// Has the connection look at what there is for it.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Ends the connection, if there is one that is not ending.
    pub(super) fn close(&mut self, end: End) {
        if self.session.is_connected() && self.close.is_none() {
            self.close = Some(Box::new(end));
            self.wake();
        }
    }

    /// What goes on of a session that the owner has kept.
    pub(super) fn compare(&self, found: u64, state: KeptState) -> Kept {
        match (found.cmp(&self.revision), state) {
            // It was kept again after the owner had looked.
            (Order::Less, _) => Kept::AsHere,
            (Order::Greater, KeptState::Alive(subscriptions)) => Kept::With(subscriptions),
            (Order::Equal, KeptState::Alive(subscriptions)) if !self.session.exists() => {
                Kept::With(subscriptions)
            }
            (Order::Greater, _) | (Order::Equal, KeptState::Over) => Kept::Ended,
            (Order::Equal, _) => Kept::AsHere,
        }
    }

    /// What the owner is to keep of the session as it is now.
    pub(super) fn to_keep(&self) -> SessionToKeep {
        let expiry_s = self.session.expiry_s();
        let subscriptions =
            if expiry_s == 0 { Vec::new() } else { self.session.all_subscriptions().to_vec() };
        SessionToKeep { before: self.revision, subscriptions, expiry_s }
    }

    /// What was noted of an earlier connection does not concern the next.
    pub(super) fn forget_connection(&mut self) {
        self.close = None;
        self.blocked_since_ms = None;
        self.unsent_bytes = 0;
        self.unread_bytes = 0;
        self.is_held = false;
    }

    /// Takes a step of the session, with room that belongs to the thread; what is to be written is added
    /// to that of earlier steps. Answers also what became of messages that were sent.
    pub(super) fn step<T>(&mut self, step: impl FnOnce(&mut Session, &mut Output) -> T) -> (T, Outcomes) {
        OUTPUT.with_borrow_mut(|output| {
            std::mem::swap(&mut self.bytes, &mut output.bytes);
            let done = step(&mut self.session, output);
            std::mem::swap(&mut self.bytes, &mut output.bytes);
            (done, std::mem::take(&mut output.outcomes))
        })
    }
}

/// A device in the set of them, found by its client identifier.
pub(super) struct Entry<C>(pub(super) Arc<Device<C>>);

impl<C> Borrow<str> for Entry<C> {
    fn borrow(&self) -> &str {
        &self.0.client_id
    }
}

impl<C> Hash for Entry<C> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As the `str` that it is found by.
        self.0.client_id.hash(state);
    }
}

impl<C> PartialEq for Entry<C> {
    fn eq(&self, other: &Self) -> bool {
        self.0.client_id == other.0.client_id
    }
}

impl<C> Eq for Entry<C> {}

/// A client in the owner's hands: connected, or away with a session that waits for it.
pub struct Handle<'a, C> {
    pub(super) inner: &'a mut Inner<C>,
    pub(super) limits: &'a MqttLimits,
    pub(super) now_ms: u64,
    pub(super) outcomes: Outcomes,
}

impl<C> Handle<'_, C> {
    /// What the owner knows of the client.
    #[must_use]
    pub fn client(&self) -> &Arc<C> {
        &self.inner.client
    }

    /// Whether it is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inner.session.is_connected()
    }

    /// The version that its connection speaks, or its last one did.
    #[must_use]
    pub fn version(&self) -> ProtocolVersion {
        self.inner.session.version()
    }

    /// Its subscriptions.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&str, Qos)> {
        self.inner.session.subscriptions()
    }

    /// Ends its connection, if it has one; its session stays as it asked for.
    pub fn close(&mut self, reason: ReasonCode, text: impl Into<Cow<'static, str>>) {
        self.inner.close(End::Closed { reason, text: text.into() });
    }

    /// The tokens of messages that have no outcome yet: they come to the client by themselves, now or when
    /// it is back.
    pub fn under_way(&self) -> impl Iterator<Item = u64> {
        self.inner.session.under_way()
    }

    /// Sends a message, if the client has subscribed to its topic. [`Sent::Full`] also stands for a
    /// client that does not read what waits for it.
    pub fn send(&mut self, message: &Message<'_>) -> Sent {
        if self.inner.bytes.len() > self.limits.unread_bytes_max {
            return Sent::Full;
        }
        let (limits, now_ms) = (&self.limits.session, self.now_ms);
        let (sent, mut outcomes) =
            self.inner.step(|session, output| session.send(message, limits, now_ms, output));
        self.outcomes.append(&mut outcomes);
        sent
    }
}
