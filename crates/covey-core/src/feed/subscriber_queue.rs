//! The records that wait for one follower.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::feed::{WAITING_BYTES_MAX, WAITING_RECORDS_MAX};
use crate::id::RecordNumber;
use crate::record::Record;

/// A bounded line, filled by the feed and emptied by the follower.
#[derive(Default)]
pub(super) struct Line(Mutex<State>);

#[derive(Default)]
struct State {
    /// After which record it begins, once that is known.
    from: Option<RecordNumber>,
    /// Up to which record the feed has come.
    position: RecordNumber,
    waiting: VecDeque<Arc<Record>>,
    bytes: usize,
    has_overflowed: bool,
    waker: Option<Waker>,
}

/// What a follower finds in its line.
pub(super) enum Taken {
    /// Records, and up to where there are no others.
    Records(Vec<Arc<Record>>, RecordNumber),
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
    pub(super) fn push(&self, record: &Arc<Record>) {
        let waker = {
            let mut state = self.lock();
            let bytes = record.bytes();
            if state.waiting.len() >= WAITING_RECORDS_MAX || state.bytes + bytes > WAITING_BYTES_MAX {
                state.has_overflowed = true;
                state.waiting = VecDeque::new();
                state.bytes = 0;
            }
            if !state.has_overflowed {
                state.bytes += bytes;
                state.waiting.push_back(Arc::clone(record));
            }
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
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

    /// Waits for records.
    pub(super) async fn taken(&self) -> Taken {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.has_overflowed {
                return Poll::Ready(Taken::Overflowed);
            }
            if state.waiting.is_empty() {
                state.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            state.bytes = 0;
            let records = Vec::from(std::mem::take(&mut state.waiting));
            let last = records.last().map_or(state.position, |record| record.number);
            Poll::Ready(Taken::Records(records, last.max(state.position)))
        })
        .await
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
