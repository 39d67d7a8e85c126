//! The feed: hands records to those who follow them, as soon as they are
//! committed, without a runtime.
//!
//! One reader for the whole server follows the outbox and gives each record to
//! the followers that want it. A follower that begins in the past first reads
//! the outbox by itself, up to where the feed was when it joined. What waits
//! for a follower is bounded; one that does not keep up is cut off and can
//! begin again where it was.

mod follower;
mod subscriber_queue;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::id::{OrgId, RecordNumber};
use crate::record::{Record, RecordFilter, RecordPage};

pub use follower::{Batch, FollowError, Follower};
use subscriber_queue::Line;

/// How many records may wait for a follower.
pub const WAITING_RECORDS_MAX: usize = 1_024;
/// How much memory the records that wait for a follower may take, in bytes.
pub const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Hands records to followers.
#[derive(Default)]
pub struct Feed {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How far the outbox was read; none while nobody follows.
    position: Option<RecordNumber>,
    lines: BTreeMap<u64, Member>,
    next_member: u64,
    /// Whether there may be records that were not read.
    is_due: bool,
    reader: Option<Waker>,
}

struct Member {
    org: OrgId,
    filter: RecordFilter,
    line: Arc<Line>,
    has_joined: bool,
}

/// What the reader of the outbox is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Read the records after this one; none: begin where the outbox ends.
    pub(crate) after: Option<RecordNumber>,
    /// Whether the tags of devices are wanted.
    pub(crate) with_tags: bool,
}

impl Feed {
    /// Says that there may be new records.
    pub fn wake(&self) {
        let waker = {
            let mut state = self.lock();
            state.is_due = true;
            if state.lines.is_empty() { None } else { state.reader.take() }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How many follow.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.lock().lines.len()
    }

    /// Waits until the outbox is to be read.
    pub(crate) async fn due(&self) -> Due {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.lines.is_empty() || !state.is_due {
                state.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            state.is_due = false;
            let with_tags = state.lines.values().any(|member| member.filter.looks_at_tags());
            Poll::Ready(Due { after: state.position, with_tags })
        })
        .await
    }

    /// Gives what was read to those who want it. Those who wait to join begin
    /// where it ends.
    pub(crate) fn distribute(&self, page: RecordPage) {
        let mut state = self.lock();
        let state = &mut *state;
        for record in page.records {
            let record = Arc::new(record);
            for member in state.lines.values().filter(|member| member.wants(&record)) {
                member.line.push(&record);
            }
        }
        // Once nobody follows, the next one begins anew.
        state.position = Some(page.position).filter(|_| !state.lines.is_empty());
        for member in state.lines.values_mut() {
            if !member.has_joined {
                member.has_joined = true;
                member.line.begin(page.position);
            }
            member.line.advance(page.position);
        }
        state.is_due |= page.is_more;
    }

    /// Says that what was to be read could not be.
    pub(crate) fn failed(&self) {
        self.lock().is_due = true;
    }

    fn join(self: &Arc<Self>, org: OrgId, filter: RecordFilter) -> Membership {
        let line = Arc::<Line>::default();
        let (number, waker) = {
            let mut state = self.lock();
            let number = state.next_member;
            state.next_member += 1;
            let member = Member { org, filter, line: Arc::clone(&line), has_joined: false };
            state.lines.insert(number, member);
            state.is_due = true;
            (number, state.reader.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Membership { feed: Arc::clone(self), number, line }
    }

    /// Nothing that is done under this lock can panic, and what it guards is
    /// whole at every moment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn wants(&self, record: &Record) -> bool {
        self.has_joined && self.org == record.device.identity.org && self.filter.matches(record)
    }
}

/// A place among the followers, until it is dropped.
struct Membership {
    feed: Arc<Feed>,
    number: u64,
    line: Arc<Line>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut state = self.feed.lock();
        state.lines.remove(&self.number);
        if state.lines.is_empty() {
            // Nobody follows: the outbox is not read, and the next one begins anew.
            state.position = None;
        }
    }
}
