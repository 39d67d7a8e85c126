//! Events and gauges.

use covey_core::device::DeviceIdentity;
use covey_core::event::{Bucket, DeviceEvent, EventKey, Gauge};

use crate::rows::{Columns, Read, get, identity_at, number};

/// Numbers beyond this are left out of series: no sum of any that are not can
/// be more than a `f64` holds.
pub(crate) const SERIES_NUMBER_MAX: f64 = 1e290;

/// The columns of an event, in the order that [`event_at`] reads them.
macro_rules! event_columns {
    () => {
        "e.device_key, e.org_id, e.device_id, e.sn, e.id, e.type_code, e.dev_event_id, e.dev_timestamp, \
         e.received_at, e.correlation, e.payload"
    };
}
pub(crate) use event_columns;

/// How many columns that are.
pub(crate) const EVENT_COLUMNS: usize = 11;

/// An event, from `event_columns!`.
pub(crate) fn event(row: &dyn Columns) -> Read<DeviceEvent> {
    event_at(row, 0)
}

/// The same from a later column on.
pub(crate) fn event_at(row: &dyn Columns, at: usize) -> Read<DeviceEvent> {
    let DeviceIdentity { org, device, device_id, sn } = identity_at(row, at)?;
    Ok(DeviceEvent {
        id: get(row, at + 4)?,
        org,
        device,
        device_id,
        sn,
        type_code: get(row, at + 5)?,
        key: EventKey { dev_event_id: number(row, at + 6)?, dev_timestamp: get(row, at + 7)? },
        received_at: get(row, at + 8)?,
        correlation: get(row, at + 9)?,
        payload: get(row, at + 10)?,
    })
}

/// How many bytes the body of an event has.
pub(crate) fn event_bytes(event: &DeviceEvent) -> usize {
    event.payload.len()
}

/// How many bytes the body of a gauge has.
pub(crate) fn gauge_bytes(gauge: &Gauge) -> usize {
    gauge.payload.len()
}

/// The columns of a gauge, in the order that [`gauge`] reads them.
macro_rules! gauge_columns {
    () => {
        "g.device_id, g.type_code, g.updated_at, g.payload"
    };
}
pub(crate) use gauge_columns;

/// How many columns that are.
pub(crate) const GAUGE_COLUMNS: usize = 4;

/// A gauge, from `gauge_columns!`.
pub(crate) fn gauge(row: &dyn Columns) -> Read<Gauge> {
    Ok(Gauge {
        device_id: get(row, 0)?,
        type_code: get(row, 1)?,
        updated_at: get(row, 2)?,
        payload: get(row, 3)?,
    })
}

/// A bucket of a series, from its beginning, the least number, the greatest, the
/// mean, the last, and how many.
pub(crate) fn bucket(row: &dyn Columns) -> Read<Bucket> {
    Ok(Bucket {
        from: get(row, 0)?,
        min: get(row, 1)?,
        max: get(row, 2)?,
        mean: get(row, 3)?,
        last: get(row, 4)?,
        count: get::<i64>(row, 5)?.unsigned_abs(),
    })
}

/// JSON text without the spaces that mean nothing.
pub(crate) fn minified(json: &str) -> String {
    let (mut is_text, mut is_escaped) = (false, false);
    json.chars()
        .filter(|character| {
            let is_kept = is_text || !matches!(character, ' ' | '\t' | '\n' | '\r');
            match character {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = is_text,
                '"' => is_text = !is_text,
                _ => {}
            }
            is_kept
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_spaces_outside_of_texts_mean_nothing() {
        let json = "{ \"a b\\\" c\" :\n[ 1 ,\t\" \\\\\" , \"\" ] }";
        assert_eq!(minified(json), "{\"a b\\\" c\":[1,\" \\\\\",\"\"]}");
    }
}
