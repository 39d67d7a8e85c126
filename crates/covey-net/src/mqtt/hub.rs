//! All clients of a server, by client identifier, and the way of the owner to each of them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use covey_wire::mqtt::session::{Connected, Epoch, Kept, Message, Sent, WillMessage};
use covey_wire::mqtt::{Connect, ReasonCode, Violation};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::MqttLimits;
use super::device::{Device, Entry, Handle, Outcomes};
use super::service::{ConnectionId, Denied, End, KeptSession, Service};

/// In how many parts the clients are kept, so that nobody waits while all are looked through.
const PARTS: usize = 16;

type Part<C> = HashSet<Entry<C>>;

/// All clients, connected or away.
///
/// Locks are taken in this order: a part of the clients, then one of its devices.
pub struct Hub<S: Service> {
    service: S,
    limits: MqttLimits,
    parts: [Mutex<Part<S::Client>>; PARTS],
    hasher: RandomState,
    start: Instant,
    last_connection: AtomicU64,
    connected: AtomicUsize,
    sessions: AtomicUsize,
    /// How many bytes are kept for all clients.
    held_bytes: Arc<AtomicUsize>,
    is_shutting_down: AtomicBool,
    detached: TaskTracker,
}

/// A client's connection that has just been entered.
pub(super) struct Attached<C> {
    pub(super) device: Arc<Device<C>>,
    pub(super) connection: ConnectionId,
    pub(super) connected: Connected,
    /// The CONNACK, and what is sent again. They are this connection's own, also when another takes its
    /// place before they are written.
    pub(super) bytes: Vec<u8>,
}

impl<S: Service> Hub<S> {
    /// One without clients.
    #[must_use]
    pub fn new(service: S, limits: MqttLimits) -> Arc<Self> {
        Arc::new(Self {
            service,
            limits,
            parts: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            start: Instant::now(),
            last_connection: AtomicU64::new(0),
            connected: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            held_bytes: Arc::default(),
            is_shutting_down: AtomicBool::new(false),
            detached: TaskTracker::new(),
        })
    }

    /// The owner.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// How many clients are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// How many sessions there are, those of clients that are away included.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// How many bytes are kept for all clients: what waits for them or is not acknowledged, what is not
    /// written yet, and what came of packets that are not whole.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Does something with a client; answers none if it is not known. The client's connection waits
    /// meanwhile: `act` must not wait for anything, and must not use the hub.
    pub fn with<T>(&self, client_id: &str, act: impl FnOnce(&mut Handle<'_, S::Client>) -> T) -> Option<T> {
        let device = self.find(client_id)?;
        let mut inner = device.lock();
        let mut handle =
            Handle { inner: &mut inner, limits: &self.limits, now_ms: self.now_ms(), outcomes: Vec::new() };
        let done = act(&mut handle);
        let outcomes = handle.outcomes;
        device.set_deadline(&inner, &self.limits);
        if !inner.bytes.is_empty() {
            inner.wake();
        }
        let client = Arc::clone(&inner.client);
        drop(inner);
        self.settle(&client, outcomes);
        self.relieve_if_full();
        Some(done)
    }

    /// Sends a message to a client; answers none if it is not known.
    pub fn send(&self, client_id: &str, message: &Message<'_>) -> Option<Sent> {
        self.with(client_id, |client| client.send(message))
    }

    /// Ends a client's connection, if it has one; its session stays as it asked for.
    pub fn close(&self, client_id: &str, reason: ReasonCode, text: impl Into<Cow<'static, str>>) {
        self.with(client_id, |client| client.close(reason, text));
    }

    /// Ends a client's connection and its session: nothing of it is left, and what became of messages
    /// that it did not acknowledge is not told.
    pub fn forget(&self, client_id: &str, reason: ReasonCode, text: impl Into<Cow<'static, str>>) {
        let removed = self.part(client_id).take(client_id);
        if let Some(Entry(device)) = removed {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            device.lock().close(End::Closed { reason, text: text.into() });
        }
    }

    /// Ends some if more is kept than may be.
    pub(super) fn relieve_if_full(&self) {
        if self.held_bytes() > self.limits.held_bytes_max {
            self.relieve();
        }
    }

    /// Ends those for whom most is kept, until a sixteenth of the limit is free.
    fn relieve(&self) {
        let mut holders = Vec::new();
        for part in &self.parts {
            let part = lock(part);
            let holding = part.iter().filter(|entry| entry.0.held_bytes() > 0);
            holders.extend(holding.map(|entry| (entry.0.held_bytes(), Arc::clone(&entry.0))));
        }
        holders.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
        let wanted = self.limits.held_bytes_max - self.limits.held_bytes_max / 16;
        for (bytes, device) in holders {
            if self.held_bytes() <= wanted {
                return;
            }
            let client_id = &*device.client_id;
            tracing::warn!(client_id, bytes, "session ended: more is kept for it than for any other");
            let mut part = self.part(client_id);
            self.remove(&mut part, &device);
            let mut inner = device.lock();
            device.count_no_more();
            let text = "more is kept for it than for any other, and the server has no room";
            inner.close(End::Closed { reason: ReasonCode::QuotaExceeded, text: text.into() });
        }
    }

    pub(super) fn limits(&self) -> &MqttLimits {
        &self.limits
    }

    /// Milliseconds since this began.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What goes on without a connection: wills, and messages whose connection is over.
    pub(super) fn detached(&self) -> &TaskTracker {
        &self.detached
    }

    pub(super) fn close_detached(&self) {
        self.detached.close();
    }

    /// The number of a connection whose CONNECT has come.
    pub(super) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.last_connection.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Enters a client that was let in. It has the session at once; an earlier connection of it finds
    /// that the epoch is another \[MQTT-3.1.4-3\].
    ///
    /// # Errors
    /// Why the CONNECT is to be refused; everything is then as before. [`ReasonCode::SessionTakenOver`]: a
    /// CONNECT of the same client that came later is connected already.
    pub(super) fn attach(
        &self,
        connection: ConnectionId,
        client_id: &str,
        client: &Arc<S::Client>,
        connect: &Connect<'_>,
        assigned_client_id: Option<&str>,
        session: KeptSession,
    ) -> Result<Attached<S::Client>, Denied> {
        let mut part = self.part(client_id);
        if self.is_shutting_down.load(Ordering::Relaxed) {
            return Err(denied(ReasonCode::ServerUnavailable, "the server shuts down"));
        }
        let known = part.get(client_id).map(|Entry(device)| Arc::clone(device));
        let known = known.filter(|device| *device.lock().client == **client);
        if known.is_none() && self.sessions() >= self.limits.sessions_max && !part.contains(client_id) {
            return Err(denied(ReasonCode::QuotaExceeded, "there are too many sessions"));
        }
        let is_known = known.is_some();
        let device =
            known.unwrap_or_else(|| Arc::new(Device::new(client_id, Arc::clone(client), &self.held_bytes)));
        let mut inner = device.lock();
        if inner.session.is_connected() && inner.connection > connection {
            return Err(denied(ReasonCode::SessionTakenOver, "a later connection took its place"));
        }
        // What was written for the earlier connection is not for this one.
        let of_earlier = std::mem::take(&mut inner.bytes);
        let (limits, now_ms) = (&self.limits.session, self.now_ms());
        let KeptSession { found, revision, state } = session;
        let kept = inner.compare(found, state);
        let is_as_here = matches!(kept, Kept::AsHere);
        let (connected, outcomes) = inner.step(|session, output| {
            session.connect(connect, assigned_client_id, kept, limits, now_ms, output)
        });
        let mut connected = match connected {
            Ok(connected) => connected,
            Err(Violation { reason, text, .. }) => {
                inner.bytes = of_earlier;
                return Err(denied(reason, text));
            }
        };
        inner.revision = inner.revision.max(revision);
        // Nothing is there that the owner does not know.
        inner.is_unkept &= is_as_here && connected.session_present;
        let bytes = std::mem::take(&mut inner.bytes);
        let earlier_client = std::mem::replace(&mut inner.client, Arc::clone(client));
        inner.forget_connection();
        inner.connection = connection;
        if let Some(earlier) = inner.waker.take() {
            earlier.wake();
        }
        device.set_deadline(&inner, &self.limits);
        drop(inner);
        if !is_known {
            match part.replace(Entry(Arc::clone(&device))) {
                Some(Entry(somebody_else)) => somebody_else.lock().close(End::TakenOver),
                None => drop(self.sessions.fetch_add(1, Ordering::Relaxed)),
            }
        }
        drop(part);
        self.connected.fetch_add(1, Ordering::Relaxed);
        if let Some(will) = connected.will.take() {
            self.will(&device, &earlier_client, will);
        }
        self.settle(client, outcomes);
        Ok(Attached { device, connection, connected, bytes })
    }

    /// A connection is over.
    pub(super) fn detach(&self, device: &Arc<Device<S::Client>>, epoch: Epoch) {
        let mut part = self.part(&device.client_id);
        let mut inner = device.lock();
        let is_current = inner.session.epoch() == epoch;
        let now_ms = self.now_ms();
        let (detached, outcomes) = inner.step(|session, output| session.detach(epoch, now_ms, output));
        if is_current {
            inner.bytes = Vec::new();
            inner.waker = None;
            inner.forget_connection();
        }
        device.set_deadline(&inner, &self.limits);
        let client = Arc::clone(&inner.client);
        drop(inner);
        if detached.is_ended {
            self.remove(&mut part, device);
        }
        drop(part);
        self.connected.fetch_sub(1, Ordering::Relaxed);
        if let Some(will) = detached.will {
            self.will(device, &client, will);
        }
        self.settle(&client, outcomes);
    }

    /// A session is over, unless its client has come back since.
    pub(super) fn end(&self, device: &Arc<Device<S::Client>>, epoch: Epoch) {
        let mut part = self.part(&device.client_id);
        let is_away = {
            let inner = device.lock();
            inner.session.epoch() == epoch && !inner.session.is_connected()
        };
        if is_away {
            self.remove(&mut part, device);
        }
    }

    #[expect(clippy::mutable_key_type, reason = "an entry is its client identifier, which never changes")]
    fn remove(&self, part: &mut Part<S::Client>, device: &Arc<Device<S::Client>>) {
        let is_there = part.get(&*device.client_id).is_some_and(|Entry(known)| Arc::ptr_eq(known, device));
        if is_there && part.remove(&*device.client_id) {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends all connections, saying that the server shuts down.
    pub(super) fn shut_down(&self) {
        self.is_shutting_down.store(true, Ordering::Relaxed);
        for part in &self.parts {
            for Entry(device) in lock(part).iter() {
                device.lock().close(End::ShuttingDown);
            }
        }
    }

    /// Those that the sweep must look at, in the order of their client identifiers: what happens does not
    /// depend on chance.
    pub(super) fn due(&self, now_ms: u64) -> Vec<Arc<Device<S::Client>>> {
        let mut due = Vec::new();
        for part in &self.parts {
            let part = lock(part);
            due.extend(part.iter().filter(|entry| entry.0.is_due(now_ms)).map(|entry| Arc::clone(&entry.0)));
        }
        due.sort_unstable_by(|one, other| one.client_id.cmp(&other.client_id));
        due
    }

    /// A will of a client is due.
    pub(super) fn will(&self, device: &Arc<Device<S::Client>>, client: &Arc<S::Client>, will: WillMessage) {
        self.go_on(device, 1, self.service.will(client, will));
    }

    /// Runs something to its end that a client's connection has left: so many messages or wills.
    pub(super) fn go_on(
        &self,
        device: &Arc<Device<S::Client>>,
        count: usize,
        left: impl Future<Output = ()> + Send + 'static,
    ) {
        // There is no runtime only while it is being dropped, and nothing goes on then.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let until_done = device.leave(count);
        let done = async move {
            left.await;
            drop(until_done);
        };
        self.detached.spawn_on(done, &runtime);
    }

    pub(super) fn settle(&self, client: &Arc<S::Client>, outcomes: Outcomes) {
        for outcome in outcomes {
            self.service.settled(client, outcome);
        }
    }

    fn find(&self, client_id: &str) -> Option<Arc<Device<S::Client>>> {
        self.part(client_id).get(client_id).map(|Entry(device)| Arc::clone(device))
    }

    fn part(&self, client_id: &str) -> MutexGuard<'_, Part<S::Client>> {
        // Below the number of parts, which is far below 2^16.
        let place = self.hasher.hash_one(client_id) % PARTS as u64;
        lock(&self.parts[usize::try_from(place).unwrap_or_default()])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn denied(reason: ReasonCode, text: &'static str) -> Denied {
    Denied { reason, text: Cow::Borrowed(text) }
}
