//! What can be asked of events and of the outbox.

use std::sync::Arc;

use crate::access::{Rights, Scope};
use crate::device::{Device, DeviceIdentity};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::event::{
    AddedEvent, Bucket, DeviceEvent, EVENT_TYPE_CODE_MAX, EventFilter, EventPage, EventsFrom, Field,
    FieldQuery, Gauge, GaugeFilter, INCREMENTAL_MAX, NewEvent, SeriesQuery,
};
use crate::feed::{Feed, Follower};
use crate::id::{DeviceId, DeviceKey, OrgId, RecordNumber};
use crate::operation::{EventAdd, EventNext};
use crate::port::{Event, Page, PageRequest, Refusal, Step};
use crate::record::{RecordFilter, RecordPage, RecordRequest, RecordSpan};

/// How many records the feed reads at once.
const FEED_RECORDS: u32 = 1_000;
const FORGOTTEN: &str =
    "what came after this cursor has been forgotten in part; begin with 0, which is all that is kept";
const NEVER_ISSUED: &str = "was never issued by this server";

impl Engine {
    /// Whether a type code is a gauge's.
    #[must_use]
    pub fn is_gauge(&self, type_code: i64) -> bool {
        self.parts.gauge_types.contains(&type_code)
    }

    /// A device tells an event. One that has sent too many is refused, unless
    /// a broker has acknowledged the event already, `is_acknowledged`.
    ///
    /// # Errors
    /// A field out of range, [`Error::Exhausted`], or the store's.
    pub async fn event_add(
        &self,
        device: &DeviceIdentity,
        event: NewEvent,
        is_acknowledged: bool,
    ) -> Result<AddedEvent> {
        event.validate()?;
        let began_us = self.parts.clock.monotonic_us();
        if !self.throttle.admits(device.device, began_us) {
            self.count(Event::Refused(Refusal::Flood));
            if !is_acknowledged {
                return Err(Error::Exhausted { limit: "the device sends more events than it may" });
            }
        }
        let is_gauge = self.is_gauge(event.type_code);
        let operation = EventAdd { device: device.clone(), event, is_gauge };
        let added = self.execute_then(operation, |outlet, added| {
            if *added == AddedEvent::Stored {
                outlet.recorded();
            }
        });
        let added = added.await?;
        self.took_since(Step::Event, began_us);
        self.count(match added {
            AddedEvent::Stored => Event::EventStored,
            AddedEvent::Duplicate => Event::DuplicateEvent,
            AddedEvent::Gauge => Event::GaugeSet,
        });
        Ok(added)
    }

    /// Events, newest first.
    ///
    /// # Errors
    /// A missing right, a parameter out of range, or the store's.
    pub async fn event_list(&self, scope: Scope, filter: EventFilter, from: EventsFrom) -> Result<EventPage> {
        scope.require(Rights::EVENTS_READ)?;
        filter.validate()?;
        let page = match from {
            EventsFrom::Page(page) => page,
            EventsFrom::Before(_, size) => PageRequest { page: 1, size },
        };
        page.validate()?;
        if let EventsFrom::Before(Some(before), _) = from
            && !self.may_be_issued(scope, before).await?
        {
            return Err(Error::invalid("cursor", NEVER_ISSUED));
        }
        self.parts.store.event_list(scope, filter, from).await
    }

    /// Whether a number may be that of an event of the caller's organisation,
    /// or of one that it had.
    async fn may_be_issued(&self, scope: Scope, number: RecordNumber) -> Result<bool> {
        if number <= self.parts.store.record_span(scope).await?.settled {
            return Ok(true);
        }
        // What was listed may not be settled yet.
        let newest = EventsFrom::Before(None, 1);
        let newest = self.parts.store.event_list(scope, EventFilter::default(), newest).await?;
        Ok(newest.items.first().is_some_and(|newest| number <= newest.id))
    }

    /// Events after one that the caller names, or after those that it was
    /// given last, in the order of their numbers.
    ///
    /// # Errors
    /// A missing right, a limit out of range, or the store's.
    pub async fn event_next(
        &self,
        scope: Scope,
        device: Option<DeviceId>,
        after: Option<RecordNumber>,
        limit: u32,
    ) -> Result<Vec<DeviceEvent>> {
        scope.require(Rights::EVENTS_READ)?;
        if !(1..=INCREMENTAL_MAX).contains(&limit) {
            return Err(Error::invalid("limit", "must be 1 to 100"));
        }
        let Some(after) = after else {
            return self.execute(EventNext { org: scope.org, caller: scope.caller, device, limit }).await;
        };
        let events = self.parts.store.event_list_after(scope, device, after, limit).await?;
        if events.is_empty() && !self.may_be_issued(scope, after).await? {
            return Err(Error::invalid("last_event_id", NEVER_ISSUED));
        }
        Ok(events)
    }

    /// Values out of the newest events of a device.
    ///
    /// # Errors
    /// A missing right, or the store's.
    pub async fn event_fields(&self, scope: Scope, query: FieldQuery) -> Result<Vec<Field>> {
        scope.require(Rights::EVENTS_READ)?;
        self.parts.store.event_fields(scope, query).await
    }

    /// Numbers out of the events of a device, gathered in buckets.
    ///
    /// # Errors
    /// A missing right, a span or width out of range, or the store's.
    pub async fn event_series(&self, scope: Scope, query: SeriesQuery) -> Result<Vec<Bucket>> {
        scope.require(Rights::EVENTS_READ)?;
        query.validate()?;
        self.parts.store.event_series(scope, query).await
    }

    /// A page of gauges.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn gauge_list(
        &self,
        scope: Scope,
        filter: GaugeFilter,
        page: PageRequest,
    ) -> Result<Page<Gauge>> {
        scope.require(Rights::EVENTS_READ)?;
        if filter.type_code.is_some_and(|code| !(0..=EVENT_TYPE_CODE_MAX).contains(&code)) {
            return Err(Error::invalid("type", "must be 0 to 2147483647"));
        }
        self.parts.store.gauge_list(scope, filter, page.validate()?).await
    }

    /// The gauges of devices, which are a part of what a device looks like.
    ///
    /// # Errors
    /// A missing right, or the store's.
    pub async fn gauges_of(&self, scope: Scope, devices: &[Device]) -> Result<Vec<Gauge>> {
        scope.require(Rights::DEVICES_READ)?;
        let devices: Vec<DeviceKey> = devices.iter().map(|device| device.identity.device).collect();
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        self.parts.store.gauges_of(scope, devices).await
    }

    /// Follows the records of the caller's organisation: from after `cursor` on,
    /// from the first that is kept if that is 0, or from now on.
    ///
    /// # Errors
    /// A missing right, a filter out of bounds, [`Error::Invalid`] for a cursor
    /// that was never given, or the store's.
    pub async fn record_follow(
        self: &Arc<Self>,
        scope: Scope,
        filter: RecordFilter,
        cursor: Option<RecordNumber>,
    ) -> Result<Follower> {
        scope.require(Rights::EVENTS_READ)?;
        filter.validate()?;
        let span = self.parts.store.record_span(scope).await?;
        let from = match cursor {
            None => span.settled,
            Some(RecordNumber(0)) => span.forgotten,
            Some(cursor) if cursor < RecordNumber(0) || cursor > span.settled => {
                return Err(Error::invalid("cursor", NEVER_ISSUED));
            }
            Some(cursor) if cursor < span.forgotten => return Err(Error::Gone { what: FORGOTTEN }),
            Some(cursor) => cursor,
        };
        Ok(self.follow_of_org(scope.org, filter, from))
    }

    /// Follows the records of an organisation from after `cursor` on.
    #[must_use]
    pub fn follow_of_org(
        self: &Arc<Self>,
        org: OrgId,
        filter: RecordFilter,
        cursor: RecordNumber,
    ) -> Follower {
        Follower::new(Arc::clone(self), org, filter, cursor)
    }

    /// Which records there are.
    ///
    /// # Errors
    /// The store's.
    pub async fn record_span_of_every_org(&self) -> Result<RecordSpan> {
        self.parts.store.record_span_of_every_org().await
    }

    pub(crate) async fn record_list_of_every_org(&self, request: RecordRequest) -> Result<RecordPage> {
        self.parts.store.record_list_of_every_org(request).await
    }

    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.outlet.feed
    }

    /// Says that another server may have written records.
    pub fn feed_wake(&self) {
        self.outlet.feed.wake();
    }

    /// How many follow the records.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.outlet.feed.followers()
    }

    /// Waits for new records and hands them to those who follow.
    ///
    /// # Errors
    /// The store's; what was not read will be.
    pub async fn feed_next(&self) -> Result<()> {
        let feed = &self.outlet.feed;
        let due = feed.due().await;
        let read = async {
            let Some(after) = due.after else {
                let position = self.parts.store.record_span_of_every_org().await?.settled;
                return Ok(RecordPage { position, ..RecordPage::default() });
            };
            let limit = FEED_RECORDS;
            let request = RecordRequest { org: None, after, until: None, limit, with_tags: due.with_tags };
            self.parts.store.record_list_of_every_org(request).await
        };
        let page = read.await.inspect_err(|_| feed.failed())?;
        feed.distribute(page);
        Ok(())
    }
}
