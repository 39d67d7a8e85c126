//! The room for answers that may be large, from before they are read out of the
//! store until the network has taken them.
//!
//! All of them together are bounded, and those of one organisation to half of
//! that, so that one whose clients take nothing does not keep others from being
//! answered. Who finds no room waits a little, and is then told to come again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use covey_core::id::OrgId;
use covey_core::port::LIST_BYTES_MAX;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::problem::{Kind, Problem};

/// How many bytes such answers may take, unless the operator says otherwise.
/// Limit for the server, half of it for an organisation, set by `--answer-bytes-max`: the request waits, then 503.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long an answer may wait for room.
/// Limit for each answer: 503.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// The room for a part of a list: for its bodies, and for them as JSON.
pub(crate) const LIST_ROOM: usize = 2 * LIST_BYTES_MAX;
/// The room for an entry without a body.
pub(crate) const ENTRY_ROOM: usize = 4 * 1024;
/// An answer up to this size, in bytes, needs no room of its own.
pub(crate) const SMALL_BYTES: usize = 64 * 1024;

/// How much room there is.
pub(crate) struct Answers {
    bytes_max: usize,
    held: Mutex<Held>,
    freed: Notify,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    of_org: HashMap<OrgId, usize>,
}

/// The room of one answer, until it is dropped.
pub(crate) struct Room {
    answers: Arc<Answers>,
    org: OrgId,
    bytes: usize,
}

/// The bytes of an answer, which keep their room.
struct Written {
    bytes: Vec<u8>,
    _room: Arc<Room>,
}

/// A body that keeps the room of its answer until the network has taken it.
pub(crate) fn body_in(room: Arc<Room>, bytes: Vec<u8>) -> Body {
    Body::from(Bytes::from_owner(Written { bytes, _room: room }))
}

impl Answers {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, held: Mutex::default(), freed: Notify::new() })
    }

    /// How many bytes are taken.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.lock().bytes
    }

    /// Waits for room for an answer of up to so many bytes.
    pub(crate) async fn room(self: &Arc<Self>, org: OrgId, bytes: usize) -> Result<Room, Problem> {
        let until = Instant::now() + WAIT_MAX;
        loop {
            // Before the look, so that nothing is missed in between.
            let freed = self.freed.notified();
            if let Some(room) = self.try_room(org, bytes) {
                return Ok(room);
            }
            if timeout_at(until, freed).await.is_err() {
                return Err(Problem::new(
                    Kind::Unavailable,
                    "many large answers are on their way; ask again",
                ));
            }
        }
    }

    /// Room for an answer, if there is some.
    pub(crate) fn try_room(self: &Arc<Self>, org: OrgId, bytes: usize) -> Option<Room> {
        let mut held = self.lock();
        let of_org = held.of_org.get(&org).copied().unwrap_or(0);
        // One answer at a time is made whatever the bound.
        let fits = |held: usize, bytes_max: usize| held == 0 || held.saturating_add(bytes) <= bytes_max;
        if !fits(held.bytes, self.bytes_max) || !fits(of_org, self.bytes_max / 2) {
            return None;
        }
        held.add(org, bytes);
        Some(Room { answers: Arc::clone(self), org, bytes })
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
}

impl Room {
    /// A response with a JSON body, which needs no more room than it has bytes. The room is in its
    /// extensions, too, for whoever writes the body anew.
    pub(crate) fn json<T: Serialize>(mut self, status: StatusCode, body: &T) -> Response {
        match serde_json::to_vec(body) {
            Ok(mut bytes) => {
                bytes.shrink_to_fit();
                self.resize(bytes.len());
                let room = Arc::new(self);
                let mut response = Response::new(body_in(Arc::clone(&room), bytes));
                *response.status_mut() = status;
                response.extensions_mut().insert(room);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                Problem::new(Kind::Internal, "the answer could not be written").into_response()
            }
        }
    }

    fn resize(&mut self, bytes: usize) {
        {
            let mut held = self.answers.lock();
            held.remove(self.org, self.bytes);
            held.add(self.org, bytes);
        }
        self.bytes = bytes;
        self.answers.freed.notify_waiters();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.answers.lock().remove(self.org, self.bytes);
        self.answers.freed.notify_waiters();
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
    use axum::body::to_bytes;
    use proptest::prelude::*;

    use super::*;

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
        let response = answers.room(org, 40).await.unwrap().json(StatusCode::OK, &"x".repeat(28));
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
}
