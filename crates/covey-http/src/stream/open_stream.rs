//! The open streams: what each sends next, and whether its caller may still hear
//! it. A credential can be revoked at any server.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use covey_api::StreamEnd;
use covey_core::Engine;
use covey_core::access::Caller;
use covey_core::feed::{Batch, FollowError, Follower};
use covey_core::id::{CallerId, RecordNumber, UnixMs};
use covey_core::person::SignedIn;
use covey_core::record::Record;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::shares::Slot;
use crate::stream::frames::Frames;
use crate::stream::on_their_way::OnTheirWay;

/// How many bytes of changes are handed to a connection at once. It asks for more when it has room.
pub(super) const CHUNK_BYTES: usize = 8 * 1024;
/// How long a stream may be silent before it sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a stream may send changes before the credential that opened it is
/// checked again.
const ADMITTED_FOR: Duration = Duration::from_secs(10);
/// How long the set of valid credentials is used before it is read again.
const VALID_FOR: Duration = Duration::from_secs(5);

/// What all open streams share.
#[derive(Default)]
pub(crate) struct Streams {
    pub(super) frames: Frames,
    pub(super) on_their_way: OnTheirWay,
    valid: ValidCallers,
}

impl Streams {
    /// Opens a stream, in a slot of its caller.
    pub(super) fn open(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        caller: &Caller,
        follower: Follower,
        slot: Slot,
        shutdown: &CancellationToken,
    ) -> OpenStream {
        OpenStream {
            streams: Arc::clone(self),
            engine: Arc::clone(engine),
            caller: caller.id,
            signed_in: caller.signed_in,
            expires_at: caller.bounds.expires_at,
            admitted_at: Instant::now(),
            follower,
            _slot: slot,
            // A child, because all that wait on one token share one lock.
            shutdown: shutdown.child_token(),
        }
    }
}

/// An open stream. It is closed when it is dropped.
pub(super) struct OpenStream {
    pub(super) streams: Arc<Streams>,
    engine: Arc<Engine>,
    caller: CallerId,
    /// The session in which a person has opened it, or made the token that has.
    signed_in: Option<SignedIn>,
    /// When the caller's credential expires, if it does.
    expires_at: Option<UnixMs>,
    /// When the caller's credential was last found valid.
    admitted_at: Instant,
    follower: Follower,
    _slot: Slot,
    shutdown: CancellationToken,
}

/// What a stream sends next, over whichever protocol.
pub(super) enum Next {
    /// Changes. They are the next until they are [taken](OpenStream::take).
    Records(Batch),
    /// Nothing has changed up to this record.
    Heartbeat(RecordNumber),
    /// The server ends the stream.
    End(StreamEnd),
}

impl OpenStream {
    /// The record after which the stream goes on.
    pub(super) fn cursor(&self) -> RecordNumber {
        self.follower.cursor()
    }

    /// Waits for what is to be sent next, at most until a heartbeat is due: changes of about
    /// [`CHUNK_BYTES`], or one.
    pub(super) async fn next(&mut self) -> Next {
        if !self.is_admitted().await {
            return self.end_unauthorized();
        }
        let wait = self.before_expiry().map_or(HEARTBEAT, |left| left.min(HEARTBEAT));
        let following = timeout(wait, self.follower.peek(CHUNK_BYTES));
        let followed = self.shutdown.run_until_cancelled(following).await;
        // What comes after its end is not for it any more.
        if self.has_expired() {
            return self.end_unauthorized();
        }
        match followed {
            Some(Ok(Ok(batch))) => Next::Records(batch),
            Some(Ok(Err(FollowError::TooSlow))) => self.end(
                "too_slow",
                "more came than was read; go on with this cursor, and read faster or want less",
            ),
            Some(Ok(Err(FollowError::Store(error)))) => {
                tracing::warn!(%error, "stream ended: cannot read records from the store");
                self.end("unavailable", "the store does not answer; go on with this cursor in a moment")
            }
            Some(Err(_)) => Next::Heartbeat(self.cursor()),
            None => self.end("shutdown", "the server stops; go on with this cursor"),
        }
    }

    /// The change that is being sent in parts, however long it takes to come by it again; none if
    /// that cannot be, or the server stops.
    pub(super) async fn again(&mut self, number: RecordNumber) -> Option<Arc<Record>> {
        let batch = self.shutdown.run_until_cancelled(self.follower.peek(0)).await?.ok()?;
        batch.records.into_iter().next().filter(|record| record.number == number)
    }

    /// Changes up to here have left this process, or will with what has.
    pub(super) fn take(&mut self, until: RecordNumber) {
        self.follower.take(until);
    }

    fn end(&self, reason: &'static str, detail: &'static str) -> Next {
        Next::End(StreamEnd {
            reason: Cow::Borrowed(reason),
            detail: Cow::Borrowed(detail),
            cursor: self.cursor().0,
        })
    }

    fn end_unauthorized(&self) -> Next {
        self.end("unauthorized", "the credential was revoked or has expired; connect again with a valid one")
    }

    /// How long the caller's credential is valid yet, if it expires.
    fn before_expiry(&self) -> Option<Duration> {
        let left_ms = self.expires_at?.since_ms(self.engine.now());
        Some(Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)))
    }

    /// Whether the caller's credential has expired, which needs no store.
    fn has_expired(&self) -> bool {
        self.before_expiry().is_some_and(|left| left.is_zero())
    }

    /// Whether the caller may still hear the stream.
    async fn is_admitted(&mut self) -> bool {
        if self.has_expired() {
            return false;
        }
        if self.admitted_at.elapsed() < ADMITTED_FOR {
            return true;
        }
        let valid = &self.streams.valid;
        let is_admitted = match self.signed_in {
            Some(signed_in) => valid.contains(&self.engine, Credential::Session(signed_in.session)).await,
            None if self.caller.is_of_key() => {
                valid.contains(&self.engine, Credential::Caller(self.caller)).await
            }
            // A token of another issuer, which nothing ends before its time.
            None => true,
        };
        if is_admitted {
            self.admitted_at = Instant::now();
        }
        is_admitted
    }
}

/// What a stream was opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential {
    /// An API key, or a token that was made from it.
    Caller(CallerId),
    /// A session, or a token that was made in it.
    Session(i64),
}

/// What was read at one time: who is valid.
type Valid<T> = Mutex<Option<(Instant, HashSet<T>)>>;

/// The credentials that are valid, read once for all streams.
#[derive(Default)]
struct ValidCallers {
    callers: Valid<CallerId>,
    sessions: Valid<i64>,
}

impl ValidCallers {
    /// Whether a caller's credential is valid, which has not expired. While the store
    /// does not answer, every caller is taken for valid.
    async fn contains(&self, engine: &Engine, credential: Credential) -> bool {
        match credential {
            Credential::Caller(caller) => among(&self.callers, caller, engine.server().callers_valid()).await,
            Credential::Session(session) => {
                among(&self.sessions, session, engine.server().person_sessions_valid()).await
            }
        }
    }
}

/// Whether one is among those that are valid, which are read anew when that was long ago.
async fn among<T: Eq + Hash>(
    valid: &Valid<T>,
    one: T,
    read: impl Future<Output = covey_core::Result<HashSet<T>>>,
) -> bool {
    let mut known = valid.lock().await;
    if known.as_ref().is_none_or(|(since, _)| since.elapsed() >= VALID_FOR) {
        match read.await {
            Ok(found) => *known = Some((Instant::now(), found)),
            Err(error) => {
                tracing::debug!(%error, "cannot read which credentials are valid");
                return true;
            }
        }
    }
    known.as_ref().is_none_or(|(_, found)| found.contains(&one))
}
