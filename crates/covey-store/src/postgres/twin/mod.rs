//! Twins. Whatever is asked of a twin, it is held first, so that no other server gives
//! its versions too, and then read whole in the same trip.

pub(super) mod batch;
mod reads;
mod steps;

use std::collections::BTreeMap;

use covey_core::error::Result;
use covey_core::twin::{TwinResource, TwinVersions};

use crate::postgres::prepared::prepared;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// The versions of a twin. Held until the commit, so that none is given
        /// twice; whoever has waited for it comes later in the outbox, too.
        twin: "SELECT t.reported_version, t.desired_version FROM twins t \
             WHERE t.device_key = $1 AND 1 / (age(t.xmin) >= 0)::int4 = 1 FOR UPDATE";
        /// The same of a twin that may never have been touched: makes the row that is held.
        twin_make: "INSERT INTO twins AS t (device_key, reported_version, desired_version) VALUES ($1, 0, 0) \
             ON CONFLICT (device_key) DO UPDATE SET reported_version = t.reported_version \
             WHERE 1 / (age(t.xmin) >= 0)::int4 = 1 RETURNING reported_version, desired_version";
        /// The resources of a twin.
        twin_resources: concat!("SELECT ", rows::twin_resource_columns!(), " FROM twin_resources r \
             WHERE r.device_key = $1 ORDER BY r.name");
        /// Versions of twins that are held: devices, reported, desired.
        twin_versions_put: "UPDATE twins t SET reported_version = n.reported, desired_version = n.desired \
             FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS n (device_key, reported, desired) \
             WHERE t.device_key = n.device_key";
        /// Resources of twins that are held: devices, names, and a value of each column.
        twin_resource_put: "INSERT INTO twin_resources (device_key, name, reported, reported_version, reported_at, \
             desired, desired_version, desired_at, desired_task) SELECT * FROM unnest($1::int8[], $2::text[], \
             $3::text[], $4::int8[], $5::int8[], $6::text[], $7::int8[], $8::int8[], $9::uuid[]) \
             ON CONFLICT (device_key, name) DO UPDATE SET reported = excluded.reported, \
             reported_version = excluded.reported_version, reported_at = excluded.reported_at, \
             desired = excluded.desired, desired_version = excluded.desired_version, \
             desired_at = excluded.desired_at, desired_task = excluded.desired_task";
        /// Resources that have neither value any more: devices, names.
        twin_resource_remove: "DELETE FROM twin_resources r USING unnest($1::int8[], $2::text[]) \
             AS n (device_key, name) WHERE r.device_key = n.device_key AND r.name = n.name";
        /// What was reported: devices, names, versions, instants, values.
        twin_history_insert: "INSERT INTO twin_history (org_id, device_key, name, version, at, value) \
             SELECT d.org_id, n.device_key, n.name, n.version, n.at, n.value FROM unnest($1::int8[], $2::text[], \
             $3::int8[], $4::int8[], $5::text[]) WITH ORDINALITY AS n (device_key, name, version, at, value, place) \
             JOIN devices d ON d.id = n.device_key ORDER BY n.place";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// A device with the versions of its twin: organisation, number.
        twin: "SELECT d.id, d.org_id, d.device_id, d.sn, coalesce(t.reported_version, 0), \
             coalesce(t.desired_version, 0) FROM devices d LEFT JOIN twins t ON t.device_key = d.id \
             WHERE d.org_id = $1 AND d.device_id = $2 AND d.retired_at IS NULL";
        /// The resources of its twin: organisation, number.
        twin_resources: concat!("SELECT ", rows::twin_resource_columns!(), " FROM twin_resources r WHERE r.device_key = \
             (SELECT d.id FROM devices d WHERE d.org_id = $1 AND d.device_id = $2 AND d.retired_at IS NULL) \
             ORDER BY r.name");
        /// What it reported of one, newest first: organisation, number, name, before, limit, how many bytes.
        twin_history: "SELECT p.value, p.version, p.at FROM (SELECT h.*, row_number() OVER up_to AS place, \
             sum(octet_length(h.value)) OVER up_to AS bytes FROM (SELECT * FROM twin_history t \
             WHERE t.device_key = (SELECT d.id FROM devices d WHERE d.org_id = $1 AND d.device_id = $2 \
             AND d.retired_at IS NULL) AND t.name = $3 AND t.version < $4 ORDER BY t.version DESC LIMIT $5) AS h \
             WINDOW up_to AS (ORDER BY h.version DESC)) AS p WHERE p.place = 1 OR coalesce(p.bytes, 0) <= $6::int8 \
             ORDER BY p.place";
    }
}

/// A twin that is held, as it is after the jobs so far.
pub(crate) struct CachedTwin {
    versions: TwinVersions,
    resources: BTreeMap<String, TwinResource>,
}
