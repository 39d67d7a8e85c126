//! What was read of the past for one follower, and what it has not taken yet.
//!
//! A page lies here, and not with the follower, so that it can be taken away
//! from one that does not go on while others wait for theirs. Nothing is lost:
//! the follower asks for it again from where it was.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::Error;
use crate::feed::Batch;
use crate::feed::history::{PAST_BYTES_MAX, PAST_RECORDS_FIRST};
use crate::id::{OrgId, RecordNumber};
use crate::record::{Record, RecordFilter, RecordPage};

/// The place of one follower's page.
pub(super) struct Shelf {
    pub(super) org: OrgId,
    pub(super) filter: RecordFilter,
    /// How many bytes all pages take.
    held: Arc<AtomicUsize>,
    state: Mutex<State>,
}

struct State {
    page: Page,
    /// How many records the next one is to have.
    records_wanted: u32,
    follower: Option<Waker>,
}

enum Page {
    /// There is none, and none is asked for.
    None,
    /// The follower waits for its turn.
    Asked(Span),
    /// It could not be read.
    Failed(Error),
    Here(Past),
}

/// What a follower wants to have read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The records after this one.
    pub(super) after: RecordNumber,
    /// Those up to this one.
    pub(super) until: Option<RecordNumber>,
}

struct Past {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    /// How far was looked.
    position: RecordNumber,
    is_end: bool,
    /// When the page was read, and when the follower was last seen to go on.
    read_us: u64,
    seen_us: u64,
}

/// What a follower finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Records, which stay here until they are taken.
    Records(Batch),
    /// Up to this number there is nothing left; also whether that is the end.
    Nothing(RecordNumber, bool),
    /// It has to ask.
    NotAsked,
    /// It could not be read.
    Failed(Error),
}

/// A page that may be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Idle {
    pub(super) bytes: usize,
    pub(super) for_us: u64,
}

impl Shelf {
    pub(super) fn new(org: OrgId, filter: RecordFilter, held: Arc<AtomicUsize>) -> Self {
        let state = State { page: Page::None, records_wanted: PAST_RECORDS_FIRST, follower: None };
        Self { org, filter, held, state: Mutex::new(state) }
    }

    /// Notes what is wanted.
    pub(super) fn want(&self, span: Span) {
        self.lock().page = Page::Asked(span);
    }

    /// What is wanted, if it still is.
    pub(super) fn wanted(&self) -> Option<Span> {
        match self.lock().page {
            Page::Asked(span) => Some(span),
            Page::None | Page::Failed(_) | Page::Here(_) => None,
        }
    }

    /// How many records its next page is to have.
    pub(super) fn records_wanted(&self) -> u32 {
        self.lock().records_wanted
    }

    /// Puts a page here. Records that are not wanted, and tags, of which nobody will ask, take no room.
    pub(super) fn put(&self, page: RecordPage, now_us: u64) {
        let all_bytes: usize = page.records.iter().map(Record::bytes).sum();
        if let Some(fitting) = (page.records.len() * PAST_BYTES_MAX).checked_div(all_bytes) {
            // And some more, should the next ones be smaller.
            self.lock().records_wanted = u32::try_from(fitting + fitting / 4).unwrap_or(u32::MAX);
        }
        let wanted = page.records.into_iter().filter(|record| self.filter.matches(record));
        let records: VecDeque<_> = wanted
            .map(|mut record| {
                record.device.tags = None;
                Arc::new(record)
            })
            .collect();
        let bytes = records.iter().map(|record| record.bytes()).sum();
        self.held.fetch_add(bytes, Ordering::Relaxed);
        let (position, is_end) = (page.position, !page.is_more);
        let past = Past { records, bytes, position, is_end, read_us: now_us, seen_us: now_us };
        self.settle(Page::Here(past));
    }

    /// Says that it could not be read.
    pub(super) fn fail(&self, error: Error) {
        self.settle(Page::Failed(error));
    }

    fn settle(&self, page: Page) {
        let follower = {
            let mut state = self.lock();
            state.page = page;
            state.follower.take()
        };
        if let Some(follower) = follower {
            follower.wake();
        }
    }

    /// Looks for the next records, as many as take up to `bytes_max`, or the next one.
    pub(super) fn poll(&self, context: &mut Context<'_>, bytes_max: usize, now_us: u64) -> Poll<Found> {
        let mut state = self.lock();
        let State { page, follower, .. } = &mut *state;
        Poll::Ready(match page {
            Page::Asked(_) => {
                *follower = Some(context.waker().clone());
                return Poll::Pending;
            }
            Page::None => Found::NotAsked,
            Page::Failed(error) => {
                let error = error.clone();
                *page = Page::None;
                Found::Failed(error)
            }
            Page::Here(past) if past.records.is_empty() => {
                let found = Found::Nothing(past.position, past.is_end);
                *page = Page::None;
                found
            }
            Page::Here(past) => {
                past.seen_us = now_us;
                let mut bytes = 0;
                let fitting = past.records.iter().enumerate().take_while(|(place, record)| {
                    bytes += record.bytes();
                    *place == 0 || bytes <= bytes_max
                });
                let records: Vec<_> = fitting.map(|(_, record)| Arc::clone(record)).collect();
                let is_all = records.len() == past.records.len();
                let last = records.last().map_or(past.position, |record| record.number);
                Found::Records(Batch { records, cursor: if is_all { past.position } else { last } })
            }
        })
    }

    /// The follower has taken all records up to this number.
    pub(super) fn take(&self, until: RecordNumber, now_us: u64) {
        let mut state = self.lock();
        let Page::Here(past) = &mut state.page else { return };
        past.seen_us = now_us;
        let mut taken = 0;
        while past.records.front().is_some_and(|record| record.number <= until) {
            taken += past.records.pop_front().map_or(0, |record| record.bytes());
        }
        past.bytes -= taken;
        self.held.fetch_sub(taken, Ordering::Relaxed);
    }

    /// Since when the follower has not gone on, if it has its page for so long that others come first.
    pub(super) fn idle(&self, now_us: u64, idle_us: u64, turn_us: u64) -> Option<Idle> {
        let state = self.lock();
        let Page::Here(past) = &state.page else { return None };
        let for_us = now_us.saturating_sub(past.seen_us);
        let is_over = for_us >= idle_us || now_us.saturating_sub(past.read_us) >= turn_us;
        (is_over && past.bytes > 0).then_some(Idle { bytes: past.bytes, for_us })
    }

    /// Takes the page away.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        if let Page::Here(past) = &state.page {
            self.held.fetch_sub(past.bytes, Ordering::Relaxed);
            state.page = Page::None;
        }
    }

    /// Nothing that is done under this lock can panic, and what it guards is
    /// whole at every moment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.clear();
    }
}
