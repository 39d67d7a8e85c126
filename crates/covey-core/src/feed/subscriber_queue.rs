//! The records that wait for one follower.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::feed::{Batch, WAITING_BYTES_MAX, WAITING_RECORDS_MAX};
use crate::id::RecordNumber;
use crate::record::Record;

/// A record that lies in the lines of one follower or of several, and nowhere else in this form:
/// it is gone when the last of them has let go of it.
pub(super) struct Waiting {
    pub(super) record: Arc<Record>,
    pub(super) bytes: usize,
}

/// A bounded line, filled by the feed and emptied by the follower.
#[derive(Default)]
pub(super) struct Line(Mutex<State>);

#[derive(Default)]
struct State {
    /// After which record it begins, once that is known.
    from: Option<RecordNumber>,
    /// Up to which record the feed has come.
    position: RecordNumber,
    waiting: VecDeque<Arc<Waiting>>,
    bytes: usize,
    /// How many of them the follower has seen and not taken: it may be in the midst of telling them.
    seen: usize,
    has_overflowed: bool,
    waker: Option<Waker>,
}

/// What a follower finds in its line.
pub(super) enum Found {
    /// Records, which stay in the line until they are taken.
    Records(Batch),
    /// More came than may wait.
    Overflowed,
}

impl Line {
    /// The feed begins to fill it, with the records after this one.
    pub(super) fn begin(&self, from: RecordNumber) {
        let waker = {
            let mut state = self.lock();
            state.from = Some(from);
            state.position = from;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The feed has come this far.
    pub(super) fn advance(&self, position: RecordNumber) {
        self.lock().position = position;
    }

    /// Adds a record.
    pub(super) fn push(&self, record: &Arc<Waiting>) {
        let waker = {
            let mut state = self.lock();
            if state.waiting.len() >= WAITING_RECORDS_MAX || state.bytes + record.bytes > WAITING_BYTES_MAX {
                state.overflow();
            }
            if !state.has_overflowed {
                state.bytes += record.bytes;
                state.waiting.push_back(Arc::clone(record));
            }
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Lets go of what waits, as if more had come than may.
    pub(super) fn cut(&self) {
        let waker = {
            let mut state = self.lock();
            state.overflow();
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Waits until the feed begins to fill it; answers after which record.
    pub(super) async fn begun(&self) -> RecordNumber {
        poll_fn(|context| {
            let mut state = self.lock();
            match state.from {
                Some(from) => Poll::Ready(from),
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Waits for records; answers as many as take up to `bytes_max`, or the next one.
    pub(super) async fn next(&self, bytes_max: usize) -> Found {
        poll_fn(|context| {
            let mut state = self.lock();
            // What it is in the midst of telling, it tells to the end.
            if state.has_overflowed && state.waiting.is_empty() {
                return Poll::Ready(Found::Overflowed);
            }
            if state.waiting.is_empty() {
                state.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            let mut bytes = 0;
            let fitting = state.waiting.iter().enumerate().take_while(|(place, waiting)| {
                bytes += waiting.bytes;
                *place == 0 || bytes <= bytes_max
            });
            let records: Vec<_> = fitting.map(|(_, waiting)| Arc::clone(&waiting.record)).collect();
            state.seen = records.len();
            let last = records.last().map_or(state.position, |record| record.number);
            let is_all = records.len() == state.waiting.len() && !state.has_overflowed;
            let cursor = if is_all { last.max(state.position) } else { last };
            Poll::Ready(Found::Records(Batch { records, cursor }))
        })
        .await
    }

    /// The follower has taken all records up to this number.
    pub(super) fn take(&self, until: RecordNumber) {
        let mut state = self.lock();
        while let Some(waiting) = state.waiting.front().filter(|waiting| waiting.record.number <= until) {
            state.bytes -= waiting.bytes;
            state.waiting.pop_front();
        }
        state.seen = 0;
    }

    /// Up to where there is nothing that waits here or was not taken.
    pub(super) fn position(&self) -> Option<RecordNumber> {
        let state = self.lock();
        state.waiting.is_empty().then_some(state.position).filter(|_| !state.has_overflowed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// More came than may wait: nothing is kept but what the follower is in the midst of telling.
    fn overflow(&mut self) {
        self.has_overflowed = true;
        self.waiting.truncate(self.seen);
        self.waiting.shrink_to_fit();
        self.bytes = self.waiting.iter().map(|waiting| waiting.bytes).sum();
    }
}
