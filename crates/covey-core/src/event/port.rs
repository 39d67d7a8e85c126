//! What operations and callers ask the store of events.

use crate::access::Caller;
use crate::device::DeviceIdentity;
use crate::event::{
    Bucket, DeviceEvent, EventFilter, EventKey, EventPage, EventToStore, EventTypes, EventsFrom, Field,
    FieldQuery, Gauge, GaugeFilter, SeriesQuery,
};
use crate::id::{CallerId, DeviceId, DeviceKey, OrgId, RecordNumber};
use crate::port::{Entries, Found, Page, PageRequest, TxResult};

/// The steps on events inside a transaction.
pub trait EventSteps {
    /// Whether an event of this device with this key is stored.
    fn event_is_stored(&mut self, device: DeviceKey, key: EventKey) -> TxResult<bool>;
    /// Stores an event, and its record under the same number, unless one of this device with its key is stored.
    /// Answers whether it was stored now.
    fn event_insert(&mut self, device: &DeviceIdentity, event: &EventToStore) -> TxResult<bool>;
    /// Puts a body into the place of the gauge of this device and type.
    fn gauge_put(&mut self, device: &DeviceIdentity, type_code: i64, payload: &str) -> TxResult<()>;
    /// Events of an organisation, or of one device, after this one, in the
    /// order of their numbers; those alone before which none can come any more. Their bodies are within
    /// [`LIST_BYTES_MAX`](crate::port::LIST_BYTES_MAX).
    fn events_after(
        &mut self,
        org: OrgId,
        device: Option<DeviceId>,
        types: &EventTypes,
        after: RecordNumber,
        limit: u32,
    ) -> TxResult<Vec<DeviceEvent>>;
    /// How far a caller has read the events of all devices, or of one.
    fn event_offset(&mut self, caller: CallerId, device: Option<DeviceId>) -> TxResult<RecordNumber>;
    /// Remembers how far a caller has read.
    fn event_offset_put(
        &mut self,
        caller: CallerId,
        device: Option<DeviceId>,
        offset: RecordNumber,
    ) -> TxResult<()>;
}

/// The reads of events.
pub trait EventReader {
    /// Events of the caller's organisation, newest first.
    fn event_list(&self, caller: &Caller, filter: EventFilter, from: EventsFrom) -> Found<'_, EventPage>;

    /// Events of the caller's organisation after this one, in the order of
    /// their numbers; those alone before which none can come any more.
    fn event_list_after(
        &self,
        caller: &Caller,
        device: Option<DeviceId>,
        types: EventTypes,
        after: RecordNumber,
        limit: u32,
    ) -> Found<'_, Vec<DeviceEvent>>;

    /// Values out of events and gauges, newest first; of those that have none there, nothing.
    fn event_fields(&self, caller: &Caller, query: FieldQuery) -> Found<'_, Entries<Field>>;

    /// Numbers out of events, gathered in buckets, oldest first.
    fn event_series(&self, caller: &Caller, query: SeriesQuery) -> Found<'_, Vec<Bucket>>;

    /// Gauges of the caller's organisation, by device and type.
    fn gauge_list(&self, caller: &Caller, filter: GaugeFilter, page: PageRequest) -> Found<'_, Page<Gauge>>;

    /// The gauges of these devices of the caller's organisation, by device and type; with bodies of so many bytes
    /// at most.
    fn gauges_of(
        &self,
        caller: &Caller,
        devices: Vec<DeviceKey>,
        bytes_max: usize,
    ) -> Found<'_, Entries<Gauge>>;
}
