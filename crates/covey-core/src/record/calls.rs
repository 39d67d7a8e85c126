//! What can be asked of the outbox: to follow it, and how far it goes.

use std::sync::Arc;

use crate::access::Rights;
use crate::engine::{Engine, ForCaller, ForServer};
use crate::error::{Error, Result};
use crate::feed::Follower;
use crate::id::{OrgId, RecordNumber};
use crate::record::{NEVER_ISSUED, RecordFilter, RecordPage, RecordRequest, RecordSpan};

/// How many records the feed reads at once.
const FEED_RECORDS: u32 = 1_000;
/// How many bytes they may take.
const FEED_BYTES: usize = 1024 * 1024;
const FORGOTTEN: &str =
    "what came after this cursor has been forgotten in part; begin with 0, which is all that is kept";

impl Engine {
    /// Follows the records of an organisation from after `cursor` on.
    fn follow(&self, org: OrgId, filter: RecordFilter, cursor: RecordNumber) -> Follower {
        let (feed, clock) = (Arc::clone(&self.after_commit.feed), Arc::clone(&self.parts.clock));
        Follower::new(feed, clock, org, filter, cursor)
    }
}

impl ForCaller<'_> {
    /// Follows the records of the caller's organisation: from after `cursor` on,
    /// from the first that is kept if that is 0, or from now on.
    ///
    /// # Errors
    /// A missing right, a filter out of bounds, [`Error::Invalid`] for a cursor
    /// that was never given, or the store's.
    pub async fn record_follow(
        self,
        mut filter: RecordFilter,
        cursor: Option<RecordNumber>,
    ) -> Result<Follower> {
        self.caller.require_some(Rights::EVENTS_READ)?;
        filter.validate()?;
        if self.caller.is_bound(Rights::EVENTS_READ) {
            filter.granted = Some(self.caller.grants.clone());
        }
        let span = self.engine.parts.store.record_span(self.caller).await?;
        let from = match cursor {
            None => span.settled,
            Some(RecordNumber(0)) => span.forgotten,
            Some(cursor) if cursor < RecordNumber(0) || cursor > span.settled => {
                return Err(Error::invalid("cursor", NEVER_ISSUED));
            }
            Some(cursor) if cursor < span.forgotten => return Err(Error::Gone { what: FORGOTTEN }),
            Some(cursor) => cursor,
        };
        let mut follower = self.engine.follow(self.caller.org, filter, from);
        if cursor.is_none() {
            // There is hardly a past to read.
            follower.go_on();
        }
        Ok(follower)
    }
}

impl ForServer<'_> {
    /// Follows the records of an organisation from after `cursor` on.
    #[must_use]
    pub fn follow_of_org(self, org: OrgId, filter: RecordFilter, cursor: RecordNumber) -> Follower {
        self.engine.follow(org, filter, cursor)
    }

    /// Which records there are.
    ///
    /// # Errors
    /// The store's.
    pub async fn record_span_of_every_org(self) -> Result<RecordSpan> {
        self.engine.parts.store.record_span_of_every_org().await
    }

    /// Says that another server may have written records.
    pub fn feed_wake(self) {
        self.engine.after_commit.feed.wake();
    }

    /// How many follow the records.
    #[must_use]
    pub fn followers(self) -> usize {
        self.engine.after_commit.feed.followers()
    }

    /// Waits for new records and hands them to those who follow.
    ///
    /// # Errors
    /// The store's; what was not read will be.
    pub async fn feed_next(self) -> Result<()> {
        let feed = &self.engine.after_commit.feed;
        let due = feed.due().await;
        let read = async {
            let Some(after) = due.after else {
                let position = self.engine.parts.store.record_span_of_every_org().await?.settled;
                return Ok(RecordPage { position, ..RecordPage::default() });
            };
            let (limit, bytes_max) = (FEED_RECORDS, FEED_BYTES);
            let with_tags = due.with_tags;
            let request = RecordRequest { org: None, after, until: None, limit, bytes_max, with_tags };
            self.engine.parts.store.record_list_of_every_org(request).await
        };
        let page = read.await.inspect_err(|_| feed.failed())?;
        feed.distribute(page);
        Ok(())
    }

    /// Waits for somebody who follows from the past, and reads the next page for one of them. Answers
    /// false if there is no room for one: others have to take theirs first.
    pub async fn history_next(self) -> bool {
        let (history, clock) = (&self.engine.after_commit.feed.history, &self.engine.parts.clock);
        let Some(turn) = history.turn(|| clock.monotonic_us()).await else { return false };
        let read = self.engine.parts.store.record_list_of_every_org(turn.request()).await;
        turn.over(read, clock.monotonic_us());
        true
    }
}
