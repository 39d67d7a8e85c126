//! One who follows: from a record on, first out of the outbox, then live.

use std::future::poll_fn;
use std::sync::Arc;

use crate::error::Error;
use crate::feed::shelf::{self, Shelf};
use crate::feed::subscriber_queue;
use crate::feed::{Feed, Membership};
use crate::id::{OrgId, RecordNumber};
use crate::port::Clock;
use crate::record::{Record, RecordFilter};

/// One who follows the records of an organisation that it wants to hear of, in
/// the order of their numbers, without a gap and without a repetition.
///
/// It holds no record itself: what was read for it and not taken lies where the
/// feed can take it away.
pub struct Follower {
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
    org: OrgId,
    filter: RecordFilter,
    cursor: RecordNumber,
    shelf: Arc<Shelf>,
    stage: Stage,
}

enum Stage {
    /// Reads the outbox.
    CatchingUp,
    /// Has joined the feed and reads the outbox up to where it has joined.
    Joining(Membership),
    /// Also whether it was given something since.
    Live(Membership, bool),
}

/// What a follower is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The records, in the order of their numbers.
    pub records: Vec<Arc<Record>>,
    /// Up to this number there are no others for this follower.
    pub cursor: RecordNumber,
}

/// Why a follower cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// More came than may wait; it can begin again at its cursor.
    #[error("more came than was taken")]
    TooSlow,
    /// The outbox cannot be read.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Follower {
    pub(crate) fn new(
        feed: Arc<Feed>,
        clock: Arc<dyn Clock>,
        org: OrgId,
        filter: RecordFilter,
        cursor: RecordNumber,
    ) -> Self {
        let shelf = feed.history.shelf(org, filter.clone());
        Self { feed, clock, org, filter, cursor, shelf, stage: Stage::CatchingUp }
    }

    /// Up to which record everything was taken.
    #[must_use]
    pub fn cursor(&self) -> RecordNumber {
        match &self.stage {
            Stage::Live(membership, _) => {
                membership.line.position().map_or(self.cursor, |position| position.max(self.cursor))
            }
            Stage::CatchingUp | Stage::Joining(_) => self.cursor,
        }
    }

    /// Waits for the next records that are wanted, and takes them all. Nothing is lost if the
    /// future is dropped before it has ended.
    ///
    /// # Errors
    /// [`FollowError`]; what was given until then was complete.
    pub async fn next(&mut self) -> Result<Batch, FollowError> {
        let batch = self.peek(usize::MAX).await?;
        self.take(batch.cursor);
        Ok(batch)
    }

    /// Waits for the next records that are wanted: as many as take up to `bytes_max`, or one. They
    /// stay the next until they are [taken](Self::take), and are read anew if somebody else needed
    /// their room. Nothing is lost if the future is dropped before it has ended.
    ///
    /// # Errors
    /// [`FollowError`]; what was given until then was complete.
    pub async fn peek(&mut self, bytes_max: usize) -> Result<Batch, FollowError> {
        loop {
            let until = match &self.stage {
                Stage::CatchingUp => None,
                Stage::Joining(membership) => Some(membership.line.begun().await),
                Stage::Live(membership, was_given) => match membership.line.next(bytes_max).await {
                    subscriber_queue::Found::Records(mut batch) => {
                        // What was read before the feed had come as far.
                        batch.records.retain(|record| record.number > self.cursor);
                        if batch.records.is_empty() {
                            self.take(batch.cursor);
                            continue;
                        }
                        self.stage.is_given();
                        return Ok(batch);
                    }
                    subscriber_queue::Found::Overflowed => {
                        let was_given = *was_given;
                        self.stage = Stage::CatchingUp;
                        // It had to wait for what it read of the past: that was not its fault.
                        if was_given {
                            return Err(FollowError::TooSlow);
                        }
                        continue;
                    }
                },
            };
            if until.is_some_and(|until| until <= self.cursor) {
                self.go_on();
                continue;
            }
            let found =
                poll_fn(|context| self.shelf.poll(context, bytes_max, self.clock.monotonic_us())).await;
            match found {
                shelf::Found::Records(batch) => return Ok(batch),
                shelf::Found::Nothing(position, is_end) => {
                    self.cursor = self.cursor.max(position);
                    if is_end {
                        self.go_on();
                    }
                }
                shelf::Found::NotAsked => self.feed.history.ask(&self.shelf, self.cursor, until),
                shelf::Found::Failed(error) => return Err(error.into()),
            }
        }
    }

    /// Takes all records up to the cursor of a batch, or up to one of its records.
    pub fn take(&mut self, until: RecordNumber) {
        self.cursor = self.cursor.max(until);
        match &self.stage {
            Stage::CatchingUp | Stage::Joining(_) => self.shelf.take(until, self.clock.monotonic_us()),
            Stage::Live(membership, _) => membership.line.take(until),
        }
    }

    /// Comes to the next stage.
    pub(crate) fn go_on(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::CatchingUp) {
            Stage::CatchingUp => Stage::Joining(self.feed.join(self.org, self.filter.clone())),
            Stage::Joining(membership) => Stage::Live(membership, false),
            live @ Stage::Live(..) => live,
        };
    }
}

impl Stage {
    fn is_given(&mut self) {
        if let Self::Live(_, was_given) = self {
            *was_given = true;
        }
    }
}

#[cfg(test)]
mod tests;
