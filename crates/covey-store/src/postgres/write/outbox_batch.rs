//! What a transaction has yet to send to the outbox: records, events and gauges.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use covey_core::device::DeviceIdentity;
use covey_core::event::{EventKey, EventToStore};
use covey_core::id::{DeviceKey, OrgId, UnixMs};
use uuid::Uuid;

use crate::postgres::numbers::PLACES_MAX;
use crate::postgres::pipeline::{Value, column, values};
use crate::postgres::session::Session;
use crate::postgres::write::group_statement::Outbox;

/// What a row of the outbox holds beside whom it is about.
#[derive(Default)]
pub(crate) struct RecordRow {
    pub(crate) kind: i16,
    pub(crate) task: Option<Uuid>,
    pub(crate) result_id: Option<i64>,
    pub(crate) status: Option<i16>,
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) version: Option<i64>,
    pub(crate) value: Option<Arc<str>>,
    pub(crate) dev_timestamp: Option<i64>,
}

/// An event, and the place of its record.
struct EventRow {
    device: DeviceIdentity,
    place: i64,
    event: EventToStore,
}

/// The last body of a gauge.
struct GaugeRow {
    device: DeviceIdentity,
    payload: Arc<str>,
}

#[derive(Default)]
pub(crate) struct OutboxBatch {
    records: Vec<(DeviceIdentity, RecordRow)>,
    events: Vec<EventRow>,
    /// In an order that all servers keep, so that none waits for another in a circle.
    gauges: BTreeMap<(DeviceKey, i64), GaugeRow>,
    /// How many records the transaction has sent before.
    records_before: u32,
}

impl OutboxBatch {
    pub(crate) fn is_empty(&self) -> bool {
        // There is no event without a record.
        self.records.is_empty() && self.gauges.is_empty()
    }

    /// Takes out what is there; what comes after it has later places.
    pub(crate) fn take(&mut self) -> Self {
        let records_before = self.records_so_far();
        std::mem::replace(self, Self { records_before, ..Self::default() })
    }

    fn record_count(&self) -> u32 {
        // No more than `PLACES_MAX` are taken in.
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    /// How many records the transaction has written, and has yet to send.
    pub(crate) fn records_so_far(&self) -> u32 {
        self.records_before + self.record_count()
    }

    /// Adds a record, unless the transaction has as many as a number has places.
    /// Answers its place, from 1, among those that are sent together.
    pub(crate) fn record(&mut self, device: &DeviceIdentity, row: RecordRow) -> Option<i64> {
        let place = self.record_count() + 1;
        if self.records_before + place > PLACES_MAX {
            return None;
        }
        self.records.push((device.clone(), row));
        Some(i64::from(place))
    }

    /// Adds the event of a record.
    pub(crate) fn event(&mut self, device: &DeviceIdentity, place: i64, event: &EventToStore) {
        self.events.push(EventRow { device: device.clone(), place, event: event.clone() });
    }

    /// Puts the body of a gauge into the place of the one before it.
    pub(crate) fn gauge(&mut self, device: &DeviceIdentity, type_code: i64, payload: &str) {
        let row = GaugeRow { device: device.clone(), payload: payload.into() };
        self.gauges.insert((device.device, type_code), row);
    }

    pub(crate) fn has_gauges(&self) -> bool {
        !self.gauges.is_empty()
    }

    pub(crate) fn outbox(&self) -> Outbox {
        match (self.records.is_empty(), self.events.is_empty()) {
            (true, _) => Outbox::Nothing,
            (false, true) => Outbox::Records,
            (false, false) => Outbox::Events,
        }
    }

    pub(crate) fn gauge_values<'v>(&self, now: UnixMs) -> Vec<Value<'v>> {
        vec![
            Box::new(now.0),
            column(self.gauges.keys(), |(device, _)| device.0),
            column(self.gauges.keys(), |(_, type_code)| *type_code),
            column(self.gauges.values(), |row| row.device.org.0),
            column(self.gauges.values(), |row| row.device.device_id.0),
            column(self.gauges.values(), |row| row.payload.to_string()),
        ]
    }

    pub(crate) fn record_values<'v>(&self, session: &Session, now: UnixMs) -> Vec<Value<'v>> {
        let before = i64::from(self.records_before);
        let mut values = values![session.record_offset, before, now.0, session.writer.number()];
        let rows = || self.records.iter().map(|(_, row)| row);
        values.extend(device_values(self.records.iter().map(|(device, _)| device)));
        values.extend([
            column(rows(), |row| row.kind),
            column(rows(), |row| row.task),
            column(rows(), |row| row.result_id),
            column(rows(), |row| row.status),
            column(rows(), |row| row.name.clone()),
            column(rows(), |row| row.version),
            column(rows(), |row| row.value.as_deref().map(ToOwned::to_owned)),
            column(rows(), |row| row.dev_timestamp),
        ]);
        values
    }

    pub(crate) fn event_values<'v>(&self, session: &Session) -> Vec<Value<'v>> {
        let mut rows: Vec<&EventRow> = self.events.iter().collect();
        // In an order that all servers keep: an event that another server is about
        // to store is waited for.
        rows.sort_by_key(|row| {
            let EventKey { dev_event_id, dev_timestamp } = row.event.key;
            (dev_timestamp, row.device.device, dev_event_id)
        });
        let mut counts: BTreeMap<OrgId, i64> = BTreeMap::new();
        let of_devices = rows.iter().filter(|row| row.event.type_code >= 0);
        of_devices.for_each(|row| *counts.entry(row.device.org).or_default() += 1);
        let mut values = vec![column(&rows, |row| row.place)];
        values.extend(device_values(rows.iter().map(|row| &row.device)));
        values.extend([
            column(&rows, |row| row.event.type_code),
            column(&rows, |row| i64::from(row.event.key.dev_event_id)),
            column(&rows, |row| row.event.key.dev_timestamp.0),
            column(&rows, |row| row.event.correlation),
            column(&rows, |row| row.event.payload.to_string()),
            Box::new(session.slot),
            column(counts.keys(), |org| org.0),
            column(counts.values(), |count| *count),
        ]);
        values
    }
}

/// The columns that say whom rows are about.
fn device_values<'v, 'd>(devices: impl Iterator<Item = &'d DeviceIdentity> + Clone) -> [Value<'v>; 4] {
    [
        column(devices.clone(), |device| device.org.0),
        column(devices.clone(), |device| device.device.0),
        column(devices.clone(), |device| device.device_id.0),
        column(devices, |device| device.sn.as_str().to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use covey_core::id::{DeviceId, Sn};

    #[test]
    fn a_transaction_has_as_many_records_as_a_number_has_places() {
        let device = DeviceIdentity {
            org: OrgId(1),
            device: DeviceKey(2),
            device_id: DeviceId(3),
            sn: Sn::parse("sn").unwrap(),
        };
        let mut told = OutboxBatch::default();
        for place in 1..=40_000 {
            assert_eq!(told.record(&device, RecordRow::default()), Some(place));
        }
        assert_eq!(told.take().record_count(), 40_000);
        assert!(told.is_empty());
        for place in 1..=i64::from(PLACES_MAX) - 40_000 {
            assert_eq!(told.record(&device, RecordRow::default()), Some(place), "places begin anew");
        }
        assert_eq!(told.record(&device, RecordRow::default()), None);
    }
}
