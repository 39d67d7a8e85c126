//! One who follows: from a record on, first out of the outbox, then live.

use std::sync::Arc;

use crate::error::Error;
use crate::feed::subscriber_queue::Taken;
use crate::feed::{Feed, Membership};
use crate::id::{OrgId, RecordNumber};
use crate::port::Store;
use crate::record::{Record, RecordFilter, RecordRequest};

/// How many records are read at once while catching up.
const CATCH_UP_RECORDS: u32 = 500;

/// One who follows the records of an organisation that it wants to hear of, in
/// the order of their numbers, without a gap and without a repetition.
pub struct Follower {
    store: Arc<dyn Store>,
    feed: Arc<Feed>,
    org: OrgId,
    filter: RecordFilter,
    cursor: RecordNumber,
    stage: Stage,
}

enum Stage {
    /// Reads the outbox.
    CatchingUp,
    /// Has joined the feed and reads the outbox up to where it has joined.
    Joining(Membership),
    Live(Membership),
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
        store: Arc<dyn Store>,
        feed: Arc<Feed>,
        org: OrgId,
        filter: RecordFilter,
        cursor: RecordNumber,
    ) -> Self {
        Self { store, feed, org, filter, cursor, stage: Stage::CatchingUp }
    }

    /// Up to which record everything was given.
    #[must_use]
    pub fn cursor(&self) -> RecordNumber {
        match &self.stage {
            Stage::Live(membership) => {
                membership.line.position().map_or(self.cursor, |position| position.max(self.cursor))
            }
            Stage::CatchingUp | Stage::Joining(_) => self.cursor,
        }
    }

    /// Waits for the next records that are wanted. Nothing is lost if the
    /// future is dropped before it has ended.
    ///
    /// # Errors
    /// [`FollowError`]; what was given until then was complete.
    pub async fn next(&mut self) -> Result<Batch, FollowError> {
        loop {
            let until = match &self.stage {
                Stage::CatchingUp => None,
                Stage::Joining(membership) => Some(membership.line.begun().await),
                Stage::Live(membership) => {
                    let Taken::Records(mut records, cursor) = membership.line.taken().await else {
                        self.stage = Stage::CatchingUp;
                        return Err(FollowError::TooSlow);
                    };
                    // What was read before the feed had come as far.
                    records.retain(|record| record.number > self.cursor);
                    self.cursor = self.cursor.max(cursor);
                    if records.is_empty() {
                        continue;
                    }
                    return Ok(Batch { records, cursor: self.cursor });
                }
            };
            let is_at_end = match until {
                Some(until) if until <= self.cursor => true,
                until => {
                    let (records, is_at_end) = self.read(until).await?;
                    if !records.is_empty() {
                        return Ok(Batch { records, cursor: self.cursor });
                    }
                    is_at_end
                }
            };
            if is_at_end {
                self.stage = match std::mem::replace(&mut self.stage, Stage::CatchingUp) {
                    Stage::CatchingUp => Stage::Joining(self.feed.join(self.org, self.filter.clone())),
                    Stage::Joining(membership) | Stage::Live(membership) => Stage::Live(membership),
                };
            }
        }
    }

    /// Reads the outbox from the cursor on; also answers whether its end, or
    /// the record up to which it is wanted, was reached.
    async fn read(&mut self, until: Option<RecordNumber>) -> Result<(Vec<Arc<Record>>, bool), Error> {
        let request = RecordRequest {
            org: Some(self.org),
            after: self.cursor,
            until,
            limit: CATCH_UP_RECORDS,
            with_tags: self.filter.looks_at_tags(),
        };
        let page = self.store.record_list_of_every_org(request).await?;
        let wanted = page.records.into_iter().filter(|record| self.filter.matches(record));
        self.cursor = self.cursor.max(page.position);
        Ok((wanted.map(Arc::new).collect(), !page.is_more))
    }
}
