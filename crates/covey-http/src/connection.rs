//! What is known of a connection: who is at its other end, how many of its requests are open, how much of
//! its answers was not taken yet, and how much of its requests' heads and bodies is kept.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use covey_net::{Claim, Lasting};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::answer::Answer;
use crate::client_certificate::Peer;
use crate::ended::Ended;
use crate::outgoing::{CONNECTION_BYTES_MAX, Outgoing};
use crate::server::HEAD_BYTES_MAX;

/// How long a client may take no byte of an answer that is there for it, in milliseconds.
/// Limit for each answer: its stream, over HTTP/1.1 its connection, is ended.
pub(crate) const STALL_MS_MAX: u64 = 30_000;
/// How long a connection may be without an open request, in milliseconds.
/// Limit for each connection: it is closed.
const IDLE_MS_MAX: u64 = 30_000;
/// How long a stranger's connection that is in use keeps its place while others want it, in milliseconds: the
/// time in which a caller is found by its credential, and a page is read.
/// Limit for each stranger: his connection gives way.
const STRANGER_MS_MAX: u64 = 3_000;
/// A head up to this size, in bytes, ends no stranger's connection by itself, whatever others take.
const SMALL_HEAD_BYTES: usize = 8 * 1024;
/// How many answers, whose streams are over and whose bytes are not, are looked through at a time.
/// Limit for each connection: those that are over are forgotten.
const LEFT_BEHIND_MAX: usize = 256;

/// A connection, for as long as it or one of its requests lives.
pub(crate) struct Connection {
    /// Whether its bytes travel encrypted.
    pub(crate) is_tls: bool,
    /// Whose certificate its client has shown.
    pub(crate) peer: Option<Peer>,
    /// Whether HTTP/2 is spoken on it, many requests at a time.
    is_http2: bool,
    /// Whether one of its requests had a caller.
    has_caller: AtomicBool,
    began: Instant,
    /// How many requests are open: their answers have not ended.
    open: AtomicUsize,
    /// When the last of them ended, in milliseconds since it began.
    idle_since_ms: AtomicU64,
    /// When the first of those that are open began, in milliseconds since it began.
    busy_since_ms: AtomicU64,
    /// How much of its answers was not taken yet, in bytes.
    unsent: AtomicUsize,
    has_room: Notify,
    /// How much is kept of the bodies that it is sending, in bytes.
    bodies: AtomicUsize,
    /// How much of that came while no request was open over HTTP/1.1: it is of the head of the next one.
    head: AtomicUsize,
    /// Another protocol is spoken on it by now.
    is_upgraded: AtomicBool,
    /// Why it was cut, if it was.
    cut_for: OnceLock<Ended>,
    cut: Notify,
    outgoing: Arc<Outgoing>,
    /// The answer of the request that has just been called, on its way to what runs its stream.
    called: Mutex<Option<Arc<Answer>>>,
    /// Answers whose streams are over, and whose last bytes are not: those hold them.
    left_behind: Mutex<Vec<Weak<Answer>>>,
}

impl Connection {
    pub(crate) fn new(
        is_tls: bool,
        is_http2: bool,
        peer: Option<Peer>,
        outgoing: Arc<Outgoing>,
    ) -> Arc<Self> {
        Arc::new(Self {
            is_tls,
            peer,
            is_http2,
            has_caller: AtomicBool::new(false),
            began: Instant::now(),
            open: AtomicUsize::new(0),
            idle_since_ms: AtomicU64::new(0),
            busy_since_ms: AtomicU64::new(0),
            unsent: AtomicUsize::new(0),
            has_room: Notify::new(),
            bodies: AtomicUsize::new(0),
            head: AtomicUsize::new(0),
            is_upgraded: AtomicBool::new(false),
            cut_for: OnceLock::new(),
            cut: Notify::new(),
            outgoing,
            called: Mutex::default(),
            left_behind: Mutex::default(),
        })
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// One of its requests has a caller.
    pub(crate) fn called_by_somebody(&self) {
        self.has_caller.store(true, Ordering::Relaxed);
    }

    /// Whether one of its requests had a caller.
    pub(crate) fn has_caller(&self) -> bool {
        self.has_caller.load(Ordering::Relaxed)
    }

    /// The time, in milliseconds since it began.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// So many milliseconds after it began.
    pub(crate) fn at_ms(&self, ms: u64) -> Instant {
        self.began + Duration::from_millis(ms)
    }

    /// A request begins; it is open until what is answered is dropped.
    pub(crate) fn open(self: &Arc<Self>) -> Open {
        if self.open.fetch_add(1, Ordering::Relaxed) == 0 {
            self.busy_since_ms.store(self.now_ms(), Ordering::Relaxed);
        }
        Open(Arc::clone(self))
    }

    /// How many requests are open.
    pub(crate) fn open_count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Keeps the answer of a request for what runs its stream, which is made right after.
    pub(crate) fn call(&self, answer: &Arc<Answer>) {
        *self.called.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(answer));
    }

    pub(crate) fn called(&self) -> Option<Arc<Answer>> {
        self.called.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The stream of an answer is over: its last bytes are sent without it.
    pub(crate) fn leave_behind(&self, answer: &Arc<Answer>) {
        let mut left_behind = self.left_behind.lock().unwrap_or_else(PoisonError::into_inner);
        if left_behind.len() >= LEFT_BEHIND_MAX {
            left_behind.retain(|answer| answer.upgrade().is_some_and(|answer| answer.is_waiting()));
        }
        left_behind.push(Arc::downgrade(answer));
    }

    /// There is more of its answers, in bytes.
    pub(crate) fn charge(&self, bytes: usize) {
        self.unsent.fetch_add(bytes, Ordering::Relaxed);
        self.outgoing.add(bytes);
    }

    /// There is less of its answers, in bytes.
    pub(crate) fn release(&self, bytes: usize) {
        let before = self.unsent.fetch_sub(bytes, Ordering::Relaxed);
        self.outgoing.sub(bytes);
        if before >= CONNECTION_BYTES_MAX && before - bytes < CONNECTION_BYTES_MAX {
            self.has_room.notify_waiters();
        }
    }

    /// How much of its answers was not taken yet, in bytes.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent.load(Ordering::Relaxed)
    }

    /// There is more of the bodies that it is sending, in bytes. They count in what the server bears, and do
    /// not keep its next request waiting: that may be the one whose body has to come first.
    pub(crate) fn keep(&self, bytes: usize) {
        self.bodies.fetch_add(bytes, Ordering::Relaxed);
        self.outgoing.add(bytes);
    }

    /// There is less of those bodies, in bytes.
    pub(crate) fn let_go(&self, bytes: usize) {
        self.bodies.fetch_sub(bytes, Ordering::Relaxed);
        self.outgoing.sub(bytes);
    }

    /// So much was read from it, in bytes. What is of a head is kept until that is whole.
    pub(crate) fn read(&self, bytes: usize) {
        if self.is_http2 || self.open_count() > 0 || self.is_upgraded.load(Ordering::Relaxed) {
            return;
        }
        // What is thrown away of a body that nobody wanted may be more, and is not kept.
        let bytes = bytes.min(HEAD_BYTES_MAX.saturating_sub(self.head.load(Ordering::Relaxed)));
        if bytes > 0 {
            let head = self.head.fetch_add(bytes, Ordering::Relaxed) + bytes;
            self.keep(bytes);
            // At once, and not when its turn has come to be looked at: what it takes meanwhile nobody has.
            if head > SMALL_HEAD_BYTES && !self.has_caller() && self.outgoing.is_over() {
                self.cut(Ended::Unsent);
            }
        }
    }

    /// A head is whole, or its connection is gone.
    pub(crate) fn head_over(&self) {
        self.let_go(self.head.swap(0, Ordering::Relaxed));
    }

    /// Another protocol is spoken on it from now on.
    pub(crate) fn upgraded(&self) {
        self.is_upgraded.store(true, Ordering::Relaxed);
        self.head_over();
    }

    /// What it holds of answers, bodies and heads, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.unsent_bytes() + self.bodies.load(Ordering::Relaxed)
    }

    /// Whether no request is open, and all of its answers were taken.
    fn is_idle(&self) -> bool {
        self.open_count() == 0 && self.unsent_bytes() == 0
    }

    /// Whether a request is open, or an answer was not taken.
    pub(crate) fn is_in_use(&self) -> bool {
        !self.is_idle()
    }

    /// Whether a connection whose end was announced need not be waited for.
    pub(crate) fn is_over(&self) -> bool {
        let has_stalled = self.left_behind_stall_ms().is_some_and(|stalled_ms| stalled_ms <= self.now_ms());
        has_stalled || self.is_idle()
    }

    /// Whether one more request may be answered.
    pub(crate) fn has_room(&self) -> bool {
        self.unsent_bytes() < CONNECTION_BYTES_MAX
    }

    /// Waits until one more request may be answered.
    pub(crate) async fn room(&self) {
        loop {
            let changed = self.has_room.notified();
            if self.has_room() {
                return;
            }
            changed.await;
        }
    }

    /// Ends the connection at once.
    pub(crate) fn cut(&self, why: Ended) {
        // The first reason is the one that counts.
        let _ = self.cut_for.set(why);
        self.cut.notify_one();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut_why().is_some()
    }

    /// Why it was cut, if it was.
    pub(crate) fn cut_why(&self) -> Option<Ended> {
        self.cut_for.get().copied()
    }

    /// Waits until it is to end at once, and says why.
    pub(crate) async fn until_cut(&self) -> Ended {
        self.cut.notified().await;
        self.cut_why().unwrap_or(Ended::Done)
    }

    /// Waits until a connection with HTTP/2 has been without an open request for too long. It is
    /// cut when its client takes nothing of the last bytes of an answer.
    ///
    /// Over HTTP/1.1 what bounds the wait for a request bounds this as well.
    pub(crate) async fn until_idle(&self) {
        if !self.is_http2 {
            return std::future::pending().await;
        }
        loop {
            let now_ms = self.now_ms();
            let mut next_ms = now_ms + IDLE_MS_MAX;
            if let Some(stalled_ms) = self.left_behind_stall_ms() {
                if stalled_ms <= now_ms {
                    tracing::debug!("a client took nothing of the end of an answer");
                    self.cut(Ended::Stalled);
                    return std::future::pending().await;
                }
                next_ms = next_ms.min(stalled_ms);
            } else if self.open_count() == 0 {
                let idle_ms = self.idle_since_ms.load(Ordering::Relaxed) + IDLE_MS_MAX;
                if idle_ms <= now_ms {
                    return;
                }
                next_ms = next_ms.min(idle_ms);
            }
            sleep_until(self.at_ms(next_ms)).await;
        }
    }

    /// When the first of the answers that were left behind will have stalled; none if none was.
    fn left_behind_stall_ms(&self) -> Option<u64> {
        let mut left_behind = self.left_behind.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first_ms = None;
        left_behind.retain(|answer| {
            let waiting = answer.upgrade().filter(|answer| answer.is_waiting());
            let stall_ms = waiting.map(|answer| answer.moved_ms() + STALL_MS_MAX);
            first_ms = first_ms.into_iter().chain(stall_ms).min();
            stall_ms.is_some()
        });
        first_ms
    }
}

impl Lasting for Connection {
    /// It gives way while it is idle; a stranger's also while it is in use for longer than what needs no
    /// caller takes.
    fn claim(&self) -> Option<Claim> {
        let (is_idle, is_known) = (self.is_idle(), self.has_caller());
        let since = if is_idle { &self.idle_since_ms } else { &self.busy_since_ms };
        let since_ms = since.load(Ordering::Relaxed);
        let is_lasting = is_known || self.now_ms() < since_ms + STRANGER_MS_MAX;
        let keeps = self.is_cut() || (!is_idle && is_lasting);
        (!keeps).then(|| Claim { is_known, since: self.at_ms(since_ms) })
    }

    fn leave(&self) {
        self.cut(Ended::Displaced);
    }
}

/// An open request.
pub(crate) struct Open(Arc<Connection>);

impl Open {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.idle_since_ms.store(self.0.now_ms(), Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::time::{sleep, timeout};

    use super::*;

    fn connection() -> Arc<Connection> {
        Connection::new(true, true, None, Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_half_a_minute_after_its_last_request() {
        let connection = connection();
        let long = Duration::from_secs(3_600);
        let open = connection.open();
        assert!(timeout(long, connection.until_idle()).await.is_err(), "a request is open");
        drop(open);
        let began = Instant::now();
        timeout(long, connection.until_idle()).await.unwrap();
        assert!((29_990..=31_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        // One that has just begun has its time as well.
        let fresh = self::connection();
        assert!(timeout(Duration::from_secs(29), fresh.until_idle()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_room_and_goes_on_as_soon_as_there_is() {
        let connection = connection();
        connection.charge(CONNECTION_BYTES_MAX + 5);
        assert!(timeout(Duration::from_secs(9), connection.room()).await.is_err());
        let freed = async {
            sleep(Duration::from_secs(1)).await;
            connection.release(6);
        };
        let (waited, ()) = tokio::join!(timeout(Duration::from_secs(2), connection.room()), freed);
        waited.unwrap();
        connection.release(CONNECTION_BYTES_MAX - 1);
        assert_eq!(connection.unsent_bytes(), 0);
    }
}
