//! The feed: hands records to those who follow them, as soon as they are
//! committed, without a runtime.
//!
//! One reader for the whole server follows the outbox and gives each record to
//! the followers that want it. A follower that begins in the past is first read
//! the outbox page by page, up to where the feed was when it joined. What waits
//! for a follower is bounded; one that does not keep up is cut off and can begin
//! again where it was. What waits for all of them together is bounded, too: half
//! of the bound is for the past, half for what happens.

mod follower;
mod history;
mod shelf;
mod subscriber_queue;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use crate::id::{OrgId, RecordNumber};
use crate::record::{Record, RecordFilter, RecordPage};

pub use follower::{Batch, FollowError, Follower};
use history::History;
pub use history::PAST_BYTES_MAX;
use subscriber_queue::{Line, Waiting};

/// How many records may wait for a follower.
/// Limit for each stream and webhook: it goes on from the store.
pub const WAITING_RECORDS_MAX: usize = 1_024;
/// How much memory the records that wait for a follower may take, in bytes.
/// Limit for each stream and webhook: it goes on from the store.
pub const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Hands records to followers.
pub struct Feed {
    pub(crate) history: History,
    /// How many bytes the records may take that wait for those who are up to date.
    live_bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How far the outbox was read; none while nobody follows.
    position: Option<RecordNumber>,
    lines: BTreeMap<u64, Member>,
    next_member: u64,
    live: Live,
    /// Whether there may be records that were not read.
    is_due: bool,
    reader: Option<Waker>,
}

/// The records that wait for those who are up to date, however many each waits for.
#[derive(Default)]
struct Live {
    /// Each with its bytes, oldest first; those that were taken meanwhile are still among them.
    records: VecDeque<(Weak<Waiting>, usize)>,
    bytes: usize,
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
    /// A feed for whose followers this many bytes may wait.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let past_bytes_max = bytes_max / 2;
        let history = History::new(past_bytes_max);
        Self { history, live_bytes_max: bytes_max - past_bytes_max, state: Mutex::default() }
    }

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
        for mut record in page.records {
            let wanting: Vec<_> = state.lines.values().filter(|member| member.wants(&record)).collect();
            // Nobody will ask for the tags any more.
            record.device.tags = None;
            let bytes = record.bytes();
            let waiting = Arc::new(Waiting { record: Arc::new(record), bytes });
            wanting.into_iter().for_each(|member| member.line.push(&waiting));
            if Arc::strong_count(&waiting) > 1 {
                state.live.records.push_back((Arc::downgrade(&waiting), bytes));
                state.live.bytes += bytes;
            }
        }
        state.bound_live(self.live_bytes_max);
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

impl State {
    /// Cuts off those for whom most waits, until all that waits is within the bound.
    fn bound_live(&mut self, bytes_max: usize) {
        let Self { live, lines, .. } = self;
        live.forget_oldest();
        if live.bytes <= bytes_max || live.recount() <= bytes_max {
            return;
        }
        let mut largest: Vec<_> = lines.values().map(|member| (member.line.bytes(), &member.line)).collect();
        largest.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (_, line) in largest.into_iter().take_while(|(bytes, _)| *bytes > 0) {
            line.cut();
            if live.recount() <= bytes_max {
                return;
            }
        }
    }
}

impl Live {
    /// Forgets the oldest, as far as they were taken.
    fn forget_oldest(&mut self) {
        while let Some((_, bytes)) = self.records.front().filter(|(record, _)| record.strong_count() == 0) {
            self.bytes -= bytes;
            self.records.pop_front();
        }
    }

    /// Forgets all that were taken; answers how many bytes the others take.
    fn recount(&mut self) -> usize {
        self.records.retain(|(record, _)| record.strong_count() > 0);
        self.bytes = self.records.iter().map(|(_, bytes)| bytes).sum();
        self.bytes
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
