//! What can be asked of events.

use crate::access::{Matter, Rights};
use crate::device::{Device, TagsOf};
use crate::engine::after_commit::AfterCommit;
use crate::engine::{Engine, ForCaller, ForDevice, SCANS_PER_ORG_MAX};
use crate::error::{Error, Result};
use crate::event::{
    AddedEvent, Bucket, DeviceEvent, EVENT_TYPE_CODE_MAX, EventAdd, EventFilter, EventNext, EventOffset,
    EventOffsetMove, EventPage, EventTypes, EventsFrom, Field, FieldQuery, Gauge, GaugeFilter,
    INCREMENTAL_MAX, NewEvent, SeriesQuery,
};
use crate::id::{DeviceId, DeviceKey, RecordNumber};
use crate::port::{Event, Lane, Page, PageRequest, ReadKind, Step};
use crate::record::{NEVER_ISSUED, RecordKind};
use crate::retention::RetentionClass;

impl Engine {
    /// Whether a type code is a gauge's.
    #[must_use]
    pub fn is_gauge(&self, type_code: i64) -> bool {
        self.parts.gauge_types.contains(&type_code)
    }
}

impl ForCaller<'_> {
    /// Events, newest first.
    ///
    /// # Errors
    /// A missing right, a parameter out of range, or the store's.
    pub async fn event_list(self, filter: EventFilter, from: EventsFrom) -> Result<EventPage> {
        self.caller.require_some(Rights::EVENTS_READ)?;
        filter.validate()?;
        let page = match from {
            EventsFrom::Page(page) => page,
            EventsFrom::Before(_, size) => PageRequest { page: 1, size },
        };
        page.validate()?;
        let kind = ReadKind::of_events(&filter, from).within(self.caller.is_bound(Rights::EVENTS_READ));
        let _scan = self.begin_read(kind)?;
        if let EventsFrom::Before(Some(before), _) = from
            && !self.may_be_issued(before).await?
        {
            return Err(Error::invalid("cursor", NEVER_ISSUED));
        }
        let found = self.engine.parts.store.event_list(self.caller, filter, from).await?;
        // By cursor one goes on from the last one; on the next page those that are left out would not be.
        if found.is_cut && matches!(from, EventsFrom::Page(_)) {
            let problem = "these would be more than 4 MiB: ask for fewer at once, or go on by cursor";
            return Err(Error::invalid("size", problem));
        }
        Ok(found)
    }

    /// Whether a number may be that of an event of the caller's organisation,
    /// or of one that it had.
    async fn may_be_issued(self, number: RecordNumber) -> Result<bool> {
        if number <= self.engine.parts.store.record_span(self.caller).await?.settled {
            return Ok(true);
        }
        // What was listed may not be settled yet.
        let newest = EventsFrom::Before(None, 1);
        let of_any = EventFilter { include: EventTypes::Any, ..EventFilter::default() };
        let newest = self.engine.parts.store.event_list(self.caller, of_any, newest).await?;
        Ok(newest.items.first().is_some_and(|newest| number <= newest.id))
    }

    /// Events after one that the caller names, or after those that it was
    /// given last, in the order of their numbers; fewer than `limit` where they are large.
    ///
    /// # Errors
    /// A missing right, a limit out of range, or the store's.
    pub async fn event_next(
        self,
        device: Option<DeviceId>,
        types: EventTypes,
        after: Option<RecordNumber>,
        limit: u32,
    ) -> Result<Vec<DeviceEvent>> {
        self.caller.require_some(Rights::EVENTS_READ)?;
        types.validate()?;
        if !(1..=INCREMENTAL_MAX).contains(&limit) {
            return Err(Error::invalid("limit", "must be 1 to 100"));
        }
        let Some(after) = after else { return self.event_next_of_caller(device, types, limit).await };
        let kind = ReadKind::of_events_after(&types).within(self.caller.is_bound(Rights::EVENTS_READ));
        let _scan = self.begin_read(kind)?;
        let events =
            self.engine.parts.store.event_list_after(self.caller, device, types, after, limit).await?;
        if events.is_empty() && !self.may_be_issued(after).await? {
            return Err(Error::invalid("last_event_id", NEVER_ISSUED));
        }
        Ok(events)
    }

    /// Events after those that the caller was given last. Where it takes a search to find them the writer does not
    /// make it: what was found counts if nobody has read on meanwhile under the same credential.
    async fn event_next_of_caller(
        self,
        device: Option<DeviceId>,
        types: EventTypes,
        limit: u32,
    ) -> Result<Vec<DeviceEvent>> {
        let caller = || self.caller.clone();
        let kind = ReadKind::of_events_after(&types).within(self.caller.is_bound(Rights::EVENTS_READ));
        if kind.lane() != Lane::Scan {
            return self.engine.execute(EventNext { caller: caller(), device, types, limit }).await;
        }
        let _scan = self.begin_read(kind)?;
        // Each time one of those who read at the same time gets on, and they are no more than there may be scans.
        for _ in 0..SCANS_PER_ORG_MAX {
            let from = self.engine.execute(EventOffset { caller: caller(), device }).await?;
            let store = &self.engine.parts.store;
            let events = store.event_list_after(self.caller, device, types.clone(), from, limit).await?;
            let Some(to) = events.last().map(|last| last.id) else { return Ok(events) };
            if self.engine.execute(EventOffsetMove { caller: caller(), device, from, to }).await? {
                return Ok(events);
            }
        }
        Err(Error::Exhausted { limit: "others read on under the same key again and again" })
    }

    /// Values out of the newest events of a device.
    ///
    /// # Errors
    /// A missing right, or the store's.
    pub async fn event_fields(self, mut query: FieldQuery) -> Result<Vec<Field>> {
        self.caller.require_some(Rights::EVENTS_READ)?;
        query.registration = self.demand_events(query.device_id, Some(query.type_code)).await?;
        let _scan = self.begin_read(ReadKind::EventFields)?;
        self.engine.parts.store.event_fields(self.caller, query).await?.whole("limit")
    }

    async fn demand_events(self, device: DeviceId, type_code: Option<i64>) -> Result<Option<DeviceKey>> {
        // Those of every type are there for whom none is kept from.
        let kind = RecordKind::Event;
        let all = Matter::Data { kind, event_type: None, method: None };
        let matter = type_code.map_or(all, Matter::event);
        self.demand(Rights::EVENTS_READ, TagsOf::Id(device), matter, "device").await
    }

    /// Numbers out of the events of a device, gathered in buckets.
    ///
    /// # Errors
    /// A missing right, a span or width out of range, or the store's.
    pub async fn event_series(self, mut query: SeriesQuery) -> Result<Vec<Bucket>> {
        self.caller.require_some(Rights::EVENTS_READ)?;
        query.validate()?;
        query.registration = self.demand_events(query.device_id, query.type_code).await?;
        let _scan = self.begin_read(ReadKind::EventSeries)?;
        let Engine { parts, series, .. } = self.engine;
        let read = |query| parts.store.event_series(self.caller, query);
        series.gather(self.caller.org, &query, &*parts.clock, read).await
    }

    /// A page of gauges.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn gauge_list(self, filter: GaugeFilter, page: PageRequest) -> Result<Page<Gauge>> {
        self.caller.require_some(Rights::EVENTS_READ)?;
        if filter.type_code.is_some_and(|code| !(0..=EVENT_TYPE_CODE_MAX).contains(&code)) {
            return Err(Error::invalid("type", "must be 0 to 2147483647"));
        }
        let page = page.validate()?;
        let _scan =
            self.begin_read(ReadKind::of_gauges(&filter).within(self.caller.is_bound(Rights::EVENTS_READ)))?;
        self.engine.parts.store.gauge_list(self.caller, filter, page).await?.whole()
    }

    /// The gauges of devices, which are a part of what a device looks like.
    ///
    /// # Errors
    /// A missing right, bodies of more bytes, or the store's.
    pub async fn gauges_of(self, devices: &[Device], bytes_max: usize) -> Result<Vec<Gauge>> {
        self.caller.require_some(Rights::DEVICES_READ)?;
        let devices: Vec<DeviceKey> = devices.iter().map(|device| device.identity.device).collect();
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        self.engine.parts.store.gauges_of(self.caller, devices, bytes_max).await?.whole("size")
    }
}

impl ForDevice<'_> {
    /// Weighs an event and stores it. That of a device which has sent too much is refused, unless a broker
    /// has acknowledged it already, `is_acknowledged`.
    ///
    /// # Errors
    /// A field out of range, [`Error::OverBudget`], or the store's.
    pub async fn event_add(self, event: NewEvent, is_acknowledged: bool) -> Result<AddedEvent> {
        event.validate()?;
        let charged = self.charge(event.weight());
        if !is_acknowledged {
            charged?;
        }
        self.event_store(event, is_acknowledged).await
    }

    /// Stores an event of a device that was weighed ([`ForDevice::charge`], [`NewEvent::weight`]). One that a
    /// broker has acknowledged is stored even if the device keeps as much as it may.
    ///
    /// # Errors
    /// A field out of range, [`Error::OverQuota`], or the store's.
    pub async fn event_store(self, event: NewEvent, is_acknowledged: bool) -> Result<AddedEvent> {
        event.validate()?;
        let began_us = self.engine.parts.clock.monotonic_us();
        let is_gauge = self.engine.is_gauge(event.type_code);
        let (bytes, values) = (event.payload.len(), event.reported.len());
        let value_bytes = event.reported.iter().map(|one| one.value.len()).sum();
        let of = (self.device.org, self.device.device);
        let operation = EventAdd { device: self.device.clone(), event, is_gauge, is_acknowledged };
        let then = move |after: &AfterCommit, added: &AddedEvent| {
            if *added == AddedEvent::Stored {
                after.recorded();
                after.kept(of, RetentionClass::Events, bytes, 1);
            }
            if values > 0 && *added != AddedEvent::Duplicate {
                after.kept(of, RetentionClass::TwinHistory, value_bytes, values);
            }
            after.took_since(Step::Event, began_us);
            after.count(match added {
                AddedEvent::Stored => Event::EventStored,
                AddedEvent::Duplicate => Event::DuplicateEvent,
                AddedEvent::Gauge => Event::GaugeSet,
            });
        };
        self.engine.execute_then(operation, then).await
    }
}
