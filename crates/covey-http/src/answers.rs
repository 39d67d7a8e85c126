//! The room for answers that may be large, until the network has taken them.
//!
//! All of them together are bounded, and those of one organisation to half of
//! that, so that one whose clients take nothing does not keep others from being
//! answered. What was read is kept if there is room for it at once. Else it is let
//! go, waits a little, each in its turn, and is read again; or its caller is told
//! to come again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::response::Response;
use bytes::Bytes;
use covey_core::id::OrgId;
use covey_core::port::LIST_BYTES_MAX;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::problem::{Answer, Kind, Problem};

/// How many bytes such answers may take, unless the operator says otherwise.
/// Limit for the server, half of it for an organisation, set by `--answer-bytes-max`: the request waits, then 503.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long an answer may wait for room.
/// Limit for each answer: 503.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// The room for a part of a list that can be read once only: for its bodies, and for them as JSON.
pub(crate) const LIST_ROOM: usize = 2 * LIST_BYTES_MAX;
/// An answer up to this size, in bytes, needs no room of its own.
pub(crate) const SMALL_BYTES: usize = 64 * 1024;

/// How much room there is.
pub(crate) struct Answers {
    bytes_max: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    of_org: HashMap<OrgId, usize>,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
}

/// An answer that waits for room.
struct Waiting {
    org: OrgId,
    bytes: usize,
    tell: oneshot::Sender<Room>,
}

/// The room of one answer, until it is dropped.
pub(crate) struct Room {
    answers: Arc<Answers>,
    org: OrgId,
    bytes: usize,
}

/// The bytes of an answer, which keep their room.
struct Written {
    bytes: Bytes,
    _room: Arc<Room>,
}

/// A body that keeps the room of its answer until the network has taken it.
pub(crate) fn body_in(room: Arc<Room>, bytes: impl Into<Bytes>) -> Body {
    Body::from(Bytes::from_owner(Written { bytes: bytes.into(), _room: room }))
}

/// How many bytes an answer has that is in memory.
pub(crate) fn bytes_of(response: &Response) -> usize {
    let exact = response.body().size_hint().exact();
    exact.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

impl Answers {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, held: Mutex::default() })
    }

    /// How many bytes are taken.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.lock().bytes
    }

    /// An answer in its room. If it is large and there is none, it is let go, waits for its turn, and is read again.
    pub(crate) async fn read<F>(self: &Arc<Self>, org: OrgId, read: impl Fn() -> F) -> Answer
    where
        F: Future<Output = Answer>,
    {
        let bytes = match self.keep(org, read().await?).await {
            Ok(response) => return Ok(response),
            Err(bytes) => bytes,
        };
        let room = self.room(org, bytes).await?;
        Ok(room.keep(read().await?).await)
    }

    /// An answer in its room; how many bytes it takes if there is no room for it.
    pub(crate) async fn keep(self: &Arc<Self>, org: OrgId, response: Response) -> Result<Response, usize> {
        let bytes = bytes_of(&response);
        if bytes <= SMALL_BYTES {
            return Ok(response);
        }
        let room = self.try_room(org, bytes).ok_or(bytes)?;
        Ok(room.keep(response).await)
    }

    /// Waits for room for an answer of up to so many bytes.
    pub(crate) async fn room(self: &Arc<Self>, org: OrgId, bytes: usize) -> Result<Room, Problem> {
        let told = self.ask(org, bytes);
        let room = timeout(WAIT_MAX, told).await.ok().and_then(Result::ok);
        room.ok_or_else(|| Problem::new(Kind::Unavailable, "many large answers are on their way; ask again"))
    }

    /// Room for an answer, if there is some for which nobody waits.
    pub(crate) fn try_room(self: &Arc<Self>, org: OrgId, bytes: usize) -> Option<Room> {
        self.ask(org, bytes).try_recv().ok()
    }

    /// Waits behind those who came before.
    fn ask(self: &Arc<Self>, org: OrgId, bytes: usize) -> oneshot::Receiver<Room> {
        let (tell, told) = oneshot::channel();
        self.lock().waiting.push_back(Waiting { org, bytes, tell });
        self.let_in();
        told
    }

    /// Gives the room that there is to those whose turn it is.
    fn let_in(self: &Arc<Self>) {
        let let_in = self.lock().next(self.bytes_max);
        for Waiting { org, bytes, tell } in let_in {
            // Whoever does not wait any more drops it, which lets in the next one.
            drop(tell.send(Room { answers: Arc::clone(self), org, bytes }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn add(&mut self, org: OrgId, bytes: usize) {
        self.bytes += bytes;
        *self.of_org.entry(org).or_default() += bytes;
    }

    fn remove(&mut self, org: OrgId, bytes: usize) {
        self.bytes -= bytes;
        if let Some(of_org) = self.of_org.get_mut(&org) {
            *of_org -= bytes;
            if *of_org == 0 {
                self.of_org.remove(&org);
            }
        }
    }

    /// Takes out those for whom there is room, and takes it for them. Nobody passes another of the same
    /// organisation, or one for whom only others leave no room.
    fn next(&mut self, bytes_max: usize) -> Vec<Waiting> {
        // One answer at a time is made whatever the bound.
        let fits = |held: usize, more: usize, bytes_max| held == 0 || held.saturating_add(more) <= bytes_max;
        let (mut let_in, mut full) = (Vec::new(), HashSet::new());
        let mut left = VecDeque::with_capacity(self.waiting.len());
        let mut is_full = false;
        for waiting in std::mem::take(&mut self.waiting) {
            let Waiting { org, bytes, .. } = waiting;
            if waiting.tell.is_closed() {
                continue;
            }
            let of_org = self.of_org.get(&org).copied().unwrap_or(0);
            if is_full || full.contains(&org) {
                left.push_back(waiting);
            } else if !fits(of_org, bytes, bytes_max / 2) {
                full.insert(org);
                left.push_back(waiting);
            } else if !fits(self.bytes, bytes, bytes_max) {
                is_full = true;
                left.push_back(waiting);
            } else {
                self.add(org, bytes);
                let_in.push(waiting);
            }
        }
        self.waiting = left;
        let_in
    }
}

impl Room {
    /// An answer in this room, which needs no more than it has bytes. The room is in its
    /// extensions, too, for whoever writes the body anew.
    pub(crate) async fn keep(mut self, response: Response) -> Response {
        let (mut parts, body) = response.into_parts();
        // Our own answers are in memory.
        let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
        self.resize(bytes.len());
        let room = Arc::new(self);
        parts.extensions.insert(Arc::clone(&room));
        Response::from_parts(parts, body_in(room, bytes))
    }

    fn resize(&mut self, bytes: usize) {
        {
            let mut held = self.answers.lock();
            held.remove(self.org, self.bytes);
            held.add(self.org, bytes);
        }
        self.bytes = bytes;
        self.answers.let_in();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.answers.lock().remove(self.org, self.bytes);
        self.answers.let_in();
    }
}

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::StatusCode;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::json;

    const MAX: usize = 100;

    #[derive(Clone, Debug)]
    enum Step {
        Take(i64, usize),
        Write(usize, usize),
        Drop(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3_i64, 1..120_usize).prop_map(|(org, bytes)| Step::Take(org, bytes)),
            (any::<usize>(), 0..40_usize).prop_map(|(place, bytes)| Step::Write(place, bytes)),
            any::<usize>().prop_map(Step::Drop),
        ]
    }

    proptest! {
        #[test]
        fn answers_are_within_the_bound_and_those_of_one_organisation_within_half_of_it(
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let answers = Answers::new(MAX);
            let mut rooms: Vec<Room> = Vec::new();
            for step in steps {
                let of_org = |rooms: &[Room], org: i64| {
                    rooms.iter().filter(|room| room.org.0 == org).map(|room| room.bytes).sum::<usize>()
                };
                match step {
                    Step::Take(org, bytes) => {
                        let (all, own) = (answers.held(), of_org(&rooms, org));
                        let fits = (all == 0 || all + bytes <= MAX) && (own == 0 || own + bytes <= MAX / 2);
                        let room = answers.try_room(OrgId(org), bytes);
                        prop_assert_eq!(room.is_some(), fits);
                        rooms.extend(room);
                    }
                    Step::Write(place, bytes) if !rooms.is_empty() => {
                        let place = place % rooms.len();
                        let bytes = bytes.min(rooms[place].bytes);
                        rooms[place].resize(bytes);
                    }
                    Step::Drop(place) if !rooms.is_empty() => {
                        drop(rooms.swap_remove(place % rooms.len()));
                    }
                    Step::Write(..) | Step::Drop(_) => {}
                }
                prop_assert_eq!(answers.held(), (0..3).map(|org| of_org(&rooms, org)).sum::<usize>());
            }
            drop(rooms);
            prop_assert_eq!(answers.held(), 0);
            prop_assert!(answers.lock().of_org.is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_keeps_its_room_until_it_is_taken_and_others_wait_for_that() {
        let answers = Answers::new(MAX);
        let org = OrgId(1);
        let written = json(StatusCode::OK, &"x".repeat(28));
        let response = answers.room(org, 40).await.unwrap().keep(written).await;
        assert_eq!(answers.held(), 30, "the quotes, too");
        assert!(answers.try_room(org, 30).is_none());
        let refused = answers.room(org, 30).await.err().unwrap();
        assert_eq!(refused.kind, Kind::Unavailable);
        // Another organisation has a half of its own.
        assert!(answers.try_room(OrgId(2), 50).is_some());
        let waiting = tokio::spawn({
            let answers = Arc::clone(&answers);
            async move { answers.room(org, 30).await.is_ok() }
        });
        tokio::task::yield_now().await;
        let (head, body) = response.into_parts();
        drop(head);
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        assert_eq!(answers.held(), 30);
        drop(bytes);
        assert!(waiting.await.unwrap());
        assert_eq!(answers.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_passed_by_one_who_came_later_and_asks_for_less() {
        let answers = Answers::new(MAX);
        let [one, other, third] = [1, 2, 3].map(OrgId);
        let first = answers.try_room(one, 40).unwrap();
        let (large, small) = (answers.ask(one, 20), answers.ask(one, 5));
        let beside = answers.try_room(other, 50).unwrap();
        assert!(answers.try_room(one, 5).is_none(), "two of its organisation wait");
        // There is no room for it beside those of both others, who for their part do not wait for it.
        let whole = answers.ask(third, 30);
        assert!(answers.try_room(other, 1).is_none(), "it would pass the third");
        drop(first);
        let large = large.await.unwrap();
        assert_eq!((large.bytes, small.await.unwrap().bytes), (20, 5));
        drop((large, beside));
        assert_eq!(whole.await.unwrap().bytes, 30);
        assert_eq!(answers.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_large_is_read_again_when_there_is_room_for_it() {
        let answers = Answers::new(4 * SMALL_BYTES);
        let (org, reads) = (OrgId(1), AtomicUsize::new(0));
        let read = |bytes: usize| {
            answers.read(org, move || async move { Ok(json(StatusCode::OK, &"x".repeat(bytes))) })
        };
        let small = read(100).await.unwrap();
        assert_eq!(answers.held(), 0, "it needs no room");
        let large = read(SMALL_BYTES + 7).await.unwrap();
        assert_eq!(answers.held(), SMALL_BYTES + 9);
        let again = answers.read(org, || async {
            reads.fetch_add(1, Ordering::Relaxed);
            Ok(json(StatusCode::OK, &"y".repeat(2 * SMALL_BYTES)))
        });
        let freed = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(reads.load(Ordering::Relaxed), 1);
            drop(large);
        };
        let (again, ()) = tokio::join!(again, freed);
        assert_eq!(reads.load(Ordering::Relaxed), 2);
        assert_eq!(
            to_bytes(again.unwrap().into_body(), usize::MAX).await.unwrap().len(),
            2 * SMALL_BYTES + 2
        );
        drop(small);
        assert_eq!(answers.held(), 0);
    }
}
