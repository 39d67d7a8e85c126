//! Reads the past of the outbox for those who begin there.
//!
//! One page at a time is read, for one follower after another: organisations
//! take turns, and so do the followers of each, so nobody has to wait for all
//! pages that another wants. The pages that nobody has taken yet are bounded in
//! bytes. When there is no room for one more, those who do not go on lose
//! theirs, the largest first, and ask again as soon as they do.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use crate::error::Error;
use crate::feed::shelf::{Idle, Shelf, Span};
use crate::id::{OrgId, RecordNumber};
use crate::record::{RecordFilter, RecordPage, RecordRequest};

/// How many bytes of records are read at once for a follower that begins in the past.
/// Limit for each look into the past: the rest is read when this has been taken.
pub const PAST_BYTES_MAX: usize = 1024 * 1024;
/// How many records are read at once for a follower that begins in the past.
/// Limit for each look into the past: the rest is read when this has been taken.
const PAST_RECORDS_MAX: u32 = 500;
/// At first; then as many as will fit, judged by those that came: a database that joins what each is about does
/// so for all of them, before it ends the page by their bytes.
pub(super) const PAST_RECORDS_FIRST: u32 = 100;
/// And at least.
const PAST_RECORDS_MIN: u32 = 16;
/// How many are where the tags of each device are read, too, which take up to 70 kB.
/// Limit for each look into the past: the rest is read when this has been taken.
const PAST_RECORDS_WITH_TAGS_MAX: u32 = 100;
/// A follower that has not gone on for so long may lose its page, in microseconds.
const IDLE_US: u64 = 250_000;
/// So may one that has had it for so long, in microseconds.
const TURN_US: u64 = 5_000_000;

/// Who waits for a page, and who has one.
pub(crate) struct History {
    /// How many bytes the pages may take that were not taken yet.
    bytes_max: usize,
    /// How many they take, with room for the one that is being read.
    held: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The organisations of those who wait, in turn.
    turns: VecDeque<OrgId>,
    waiting: BTreeMap<OrgId, VecDeque<Arc<Shelf>>>,
    /// The places of all followers, and at how many of them those that are gone are looked for.
    shelves: Vec<Weak<Shelf>>,
    shelves_looked_at: usize,
    reader: Option<Waker>,
}

/// A page that is to be read now. The follower keeps its turn if it is dropped.
pub(crate) struct Turn<'a> {
    history: &'a History,
    shelf: Arc<Shelf>,
    span: Span,
    is_over: bool,
}

impl History {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, held: Arc::default(), state: Mutex::default() }
    }

    /// A place for the pages of one follower.
    pub(super) fn shelf(&self, org: OrgId, filter: RecordFilter) -> Arc<Shelf> {
        let shelf = Arc::new(Shelf::new(org, filter, Arc::clone(&self.held)));
        let mut state = self.lock();
        if state.shelves.len() >= state.shelves_looked_at {
            state.shelves.retain(|shelf| shelf.strong_count() > 0);
            state.shelves_looked_at = 2 * state.shelves.len() + 64;
        }
        state.shelves.push(Arc::downgrade(&shelf));
        shelf
    }

    /// A follower wants to have this read.
    pub(super) fn ask(&self, shelf: &Arc<Shelf>, after: RecordNumber, until: Option<RecordNumber>) {
        shelf.want(Span { after, until });
        let reader = {
            let mut state = self.lock();
            state.wait(Arc::clone(shelf), false);
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Waits until somebody wants a page; none if there is no room for one.
    pub(crate) async fn turn(&self, now_us: impl Fn() -> u64) -> Option<Turn<'_>> {
        poll_fn(|context| {
            let mut state = self.lock();
            if !state.does_anybody_wait() {
                state.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            if !self.make_room(&state, now_us()) {
                return Poll::Ready(None);
            }
            let next = state.next().and_then(|shelf| shelf.wanted().map(|span| (shelf, span)));
            Poll::Ready(next.map(|(shelf, span)| {
                self.held.fetch_add(PAST_BYTES_MAX, Ordering::Relaxed);
                Turn { history: self, shelf, span, is_over: false }
            }))
        })
        .await
    }

    /// Whether there is room for one page, once those who do not go on have lost theirs.
    fn make_room(&self, state: &State, now_us: u64) -> bool {
        // One page at a time is read whatever the bound.
        let has_room = || {
            let held = self.held.load(Ordering::Relaxed);
            held == 0 || held.saturating_add(PAST_BYTES_MAX) <= self.bytes_max
        };
        if has_room() {
            return true;
        }
        let idle = |shelf: Arc<Shelf>| shelf.idle(now_us, IDLE_US, TURN_US).map(|idle| (idle, shelf));
        let mut idle: Vec<(Idle, Arc<Shelf>)> =
            state.shelves.iter().filter_map(Weak::upgrade).filter_map(idle).collect();
        idle.sort_by(|(one, _), (other, _)| other.cmp(one));
        idle.into_iter().any(|(_, shelf)| {
            shelf.clear();
            has_room()
        })
    }

    /// How many bytes the pages take that were not taken yet.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Nothing that is done under this lock can panic, and what it guards is
    /// whole at every moment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, shelf: Arc<Shelf>, is_first: bool) {
        let org = shelf.org;
        let queue = self.waiting.entry(org).or_default();
        match (queue.is_empty(), is_first) {
            (true, true) => self.turns.push_front(org),
            (true, false) => self.turns.push_back(org),
            (false, _) => {}
        }
        if is_first { queue.push_front(shelf) } else { queue.push_back(shelf) }
    }

    /// Whether anybody waits. Those who are gone are left out, so that they take no turn of those who are not.
    fn does_anybody_wait(&mut self) -> bool {
        while let Some(org) = self.turns.front() {
            let queue = self.waiting.entry(*org).or_default();
            let is_gone = |shelf: &mut Arc<Shelf>| Arc::strong_count(shelf) == 1 || shelf.wanted().is_none();
            while queue.pop_front_if(is_gone).is_some() {}
            if !queue.is_empty() {
                return true;
            }
            self.waiting.remove(org);
            self.turns.pop_front();
        }
        false
    }

    /// The next one whose turn it is.
    fn next(&mut self) -> Option<Arc<Shelf>> {
        let org = self.turns.pop_front()?;
        let queue = self.waiting.get_mut(&org)?;
        let shelf = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&org);
        } else {
            self.turns.push_back(org);
        }
        shelf
    }
}

impl Turn<'_> {
    /// What is to be read.
    pub(crate) fn request(&self) -> RecordRequest {
        let with_tags = self.shelf.filter.looks_at_tags();
        let limit_max = if with_tags { PAST_RECORDS_WITH_TAGS_MAX } else { PAST_RECORDS_MAX };
        RecordRequest {
            org: Some(self.shelf.org),
            after: self.span.after,
            until: self.span.until,
            limit: self.shelf.records_wanted().clamp(PAST_RECORDS_MIN, limit_max),
            bytes_max: PAST_BYTES_MAX,
            with_tags,
        }
    }

    /// What was read.
    pub(crate) fn over(mut self, read: Result<RecordPage, Error>, now_us: u64) {
        self.is_over = true;
        match read {
            Ok(page) => self.shelf.put(page, now_us),
            Err(error) => self.shelf.fail(error),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.history.held.fetch_sub(PAST_BYTES_MAX, Ordering::Relaxed);
        if !self.is_over {
            self.history.lock().wait(Arc::clone(&self.shelf), true);
        }
    }
}
