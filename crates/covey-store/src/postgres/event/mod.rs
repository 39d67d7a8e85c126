//! Events and gauges.

pub(super) mod reads;
mod series;
mod steps;
pub(super) mod stored;

use covey_core::error::Result;

use crate::postgres::numbers::settled;
use crate::postgres::prepared::prepared;
use crate::rows::{self};

/// Events up to which all are there: organisation, after, limit, the least type, the types or null, and how many
/// bytes their bodies may take. Always answers a row, of which the first three columns are those of `settled!`.
macro_rules! events_after {
    ($device:literal) => {
        concat!(
            "WITH ",
            settled!(),
            " SELECT s.position, s.unknown, s.next, f.* FROM settled s LEFT JOIN LATERAL (SELECT * FROM (SELECT ",
            rows::event_columns!(),
            ", sum(octet_length(e.payload)) OVER up_to AS bytes, row_number() OVER up_to AS place \
             FROM (SELECT * FROM events e WHERE e.org_id = $1 AND e.id > $2 AND e.id <= s.position \
             AND e.type_code >= $4 AND ($5::int8[] IS NULL OR e.type_code = ANY($5)) ",
            $device,
            " ORDER BY e.id LIMIT $3) AS e WINDOW up_to AS (ORDER BY e.id)) AS p \
             WHERE p.place = 1 OR p.bytes <= $6::int8) AS f ON true"
        )
    };
}

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Which of these events are stored: devices, numbers, times. A limit keeps
        /// the planner from reading all events first while it knows of few.
        events_stored: "SELECT n.device_key, n.dev_event_id, n.dev_timestamp \
             FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS n (device_key, dev_event_id, dev_timestamp) \
             CROSS JOIN LATERAL (SELECT 1 FROM events e WHERE e.dev_timestamp = n.dev_timestamp \
             AND e.device_key = n.device_key AND e.dev_event_id = n.dev_event_id \
             AND e.dev_event_id <> 0 AND e.type_code >= 0 LIMIT 1) AS e";
        /// How far a caller has read: caller, device. Held until the commit, so
        /// that the next server gives it what comes after.
        event_offset: "SELECT number FROM event_offsets WHERE caller_id = $1 AND device_id = $2 FOR UPDATE";
        /// The same of a caller that may never have read: makes the row that is held.
        event_offset_make: "INSERT INTO event_offsets AS o (caller_id, device_id, number) VALUES ($1, $2, 0) \
             ON CONFLICT (caller_id, device_id) DO UPDATE SET number = o.number RETURNING number";
        /// How far callers have read: callers, devices, numbers.
        event_offset_put: "INSERT INTO event_offsets (caller_id, device_id, number) \
             SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[]) \
             ON CONFLICT (caller_id, device_id) DO UPDATE SET number = excluded.number";
        /// Events of an organisation.
        events_after: events_after!("");
        /// Events of a device, which is the last value.
        events_of_device_after: events_after!("AND e.device_id = $7");
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// Events of an organisation.
        events_after: events_after!("");
        /// Events of a device, which is the last value.
        events_of_device_after: events_after!("AND e.device_id = $7");
        /// Events that somebody may see: the last two values are the number of a device or null, and the scope.
        events_granted_after: events_after!("AND ($7::int8 IS NULL OR e.device_id = $7) AND EXISTS \
             (SELECT 1 FROM jsonb_array_elements($8::text::jsonb) AS s (value) WHERE e.type_code \
             BETWEEN CAST(s.value ->> 2 AS INTEGER) AND CAST(s.value ->> 3 AS INTEGER) AND (s.value ->> 0 IS NULL \
             OR EXISTS (SELECT 1 FROM device_tags k WHERE k.device_key = e.device_key AND k.tag = s.value ->> 0 \
             AND k.value = s.value ->> 1)))");
        /// The gauges of devices: devices, organisation, how many bytes their bodies may take. The last column is how
        /// many there are without that bound.
        gauges_of: concat!("SELECT * FROM (SELECT ", rows::gauge_columns!(), ", sum(octet_length(g.payload)) OVER up_to \
             AS bytes, row_number() OVER up_to AS place, count(*) OVER () AS found \
             FROM unnest($1::int8[]) WITH ORDINALITY AS n (device_key, place) \
             CROSS JOIN LATERAL (SELECT * FROM gauges g WHERE g.device_key = n.device_key OFFSET 0) AS g \
             WHERE g.org_id = $2 WINDOW up_to AS (ORDER BY n.place, g.type_code)) AS p \
             WHERE p.place = 1 OR p.bytes <= $3::int8 ORDER BY p.place");
    }
}
