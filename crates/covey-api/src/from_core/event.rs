//! Events, gauges, and what is computed from them.

use std::borrow::Cow;

use covey_core::event::{self as core, EventPage, Gauge};
use covey_core::id::UnixMs;
use covey_core::port::{Page, PageRequest};

use super::verbatim;
use crate::{DeviceEvent, DeviceEventPage, DeviceGauges, FieldValue, GaugePage, SeriesBucket};

impl<'a> DeviceEvent<'a> {
    /// How an event looks.
    #[must_use]
    pub fn of(event: &'a core::DeviceEvent) -> Self {
        Self {
            id: event.id.0,
            device_id: event.device_id.0,
            sn: Cow::Borrowed(event.sn.as_str()),
            event_type_code: event.type_code,
            timestamp: event.key.dev_timestamp.into(),
            received_at: event.received_at.into(),
            dev_event_id: event.key.dev_event_id,
            correlation_id: event.correlation,
            payload: verbatim(&event.payload),
            created_at: event.received_at.into(),
            dev_timestamp: event.key.dev_timestamp.into(),
        }
    }
}

impl<'a> DeviceEventPage<'a> {
    /// How a page of events looks: one with a total was asked for by its number.
    #[must_use]
    pub fn of(found: &'a EventPage, asked: PageRequest) -> Self {
        let EventPage { items, total, is_cut } = found;
        let last = items.last().filter(|_| *is_cut || items.len() == asked.size as usize);
        Self {
            items: items.iter().map(DeviceEvent::of).collect(),
            total: *total,
            page: total.map(|_| asked.page),
            size: asked.size,
            pages: total.map(|total| total.div_ceil(u64::from(asked.size.max(1)))),
            next_cursor: last.map(|event| format!("before-{}", event.id.0)),
        }
    }
}

impl<'a> DeviceGauges<'a> {
    /// How a gauge looks.
    #[must_use]
    pub fn of(gauge: &'a Gauge) -> Self {
        Self {
            device_id: gauge.device_id.0,
            type_code: gauge.type_code,
            updated_at: gauge.updated_at.into(),
            gauges: verbatim(&gauge.payload),
        }
    }
}

impl<'a> GaugePage<'a> {
    /// How a page of gauges looks.
    #[must_use]
    pub fn of(found: &'a Page<Gauge>, asked: PageRequest) -> Self {
        Self {
            items: found.items.iter().map(DeviceGauges::of).collect(),
            total: found.total,
            page: asked.page,
            size: asked.size,
            pages: found.total.div_ceil(u64::from(asked.size.max(1))),
        }
    }
}

impl<'a> FieldValue<'a> {
    /// How a value out of an event looks at `now`.
    #[must_use]
    pub fn of(field: &'a core::Field, now: UnixMs) -> Self {
        Self {
            created_at: field.received_at.into(),
            value: verbatim(&field.value),
            interval_sec: now.since_ms(field.received_at).max(0) / 1_000,
        }
    }
}

impl SeriesBucket {
    /// How a bucket looks.
    #[must_use]
    pub fn of(bucket: &core::Bucket) -> Self {
        let core::Bucket { from, min, max, mean, last, count } = *bucket;
        Self { from: from.into(), min, max, mean, last, count }
    }
}
