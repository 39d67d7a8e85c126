//! Devices, their tags and certificates. Steps on them are rare, so each is a statement of its own.

pub(super) mod reads;
mod steps;

use covey_core::device::{Device, Tag};
use covey_core::error::Result;
use covey_core::node::NodeName;

use crate::postgres::prepared::prepared;
use crate::rows::{self, Columns, Damaged, Read};

/// The columns of a device, in the order that [`device`] reads them.
macro_rules! device_columns {
    () => {
        concat!(
            rows::device_columns!(),
            ", (SELECT coalesce(json_agg(json_build_array(g.tag, g.value) ORDER BY g.tag), '[]') \
         ::text FROM device_tags g WHERE g.device_key = d.id) AS tags, (SELECT json_build_array(n.gateway, n.uid)::text \
         FROM nodes n WHERE n.device_key = d.id) AS node"
        )
    };
}
use device_columns;

/// How many columns that are.
pub(crate) const DEVICE_COLUMNS: usize = 14;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Devices by their numbers, with how many open tasks each has up to a bound.
        targets_by_id: "SELECT d.id, d.org_id, d.device_id, d.sn, (SELECT count(*) FROM \
             (SELECT 1 FROM tasks_open t WHERE t.device_key = d.id LIMIT n.bound) AS o) \
             FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS n (org_id, device_id, bound) \
             JOIN devices d ON d.org_id = n.org_id AND d.device_id = n.device_id AND d.retired_at IS NULL";
        /// The same by their serial numbers.
        targets_by_sn: "SELECT d.id, d.org_id, d.device_id, d.sn, (SELECT count(*) FROM \
             (SELECT 1 FROM tasks_open t WHERE t.device_key = d.id LIMIT n.bound) AS o) \
             FROM unnest($1::int8[], $2::text[], $3::int8[]) AS n (org_id, sn, bound) \
             JOIN devices d ON d.sn = n.sn AND d.org_id = n.org_id AND d.retired_at IS NULL";
        /// A device with its connection and its tags.
        device: concat!("SELECT ", device_columns!(), " FROM devices d \
             LEFT JOIN connections c ON c.device_key = d.id \
             WHERE d.org_id = $1 AND d.device_id = $2 AND d.retired_at IS NULL FOR NO KEY UPDATE OF d");
        /// Whether a serial number is taken.
        sn_is_taken: rows::SN_IS_TAKEN;
        /// Who is registered under a serial number: nobody retires it meanwhile.
        device_of_name: "SELECT d.id, d.org_id, d.device_id, d.sn, d.kind FROM devices d \
             WHERE d.sn = $1 AND d.retired_at IS NULL FOR NO KEY UPDATE OF d";
        /// Waits for those who are giving a device of an organisation its number.
        device_id_lock: "SELECT pg_advisory_xact_lock($1::int4, hashint8($2::int8))";
        /// The next free number of an organisation.
        device_id_free: rows::DEVICE_ID_FREE;
        /// A new device.
        device_insert: "INSERT INTO devices (org_id, device_id, sn, created_at, kind) VALUES ($1, $2, $3, $4, $5) RETURNING id";
        /// Retires a device.
        device_retire: rows::DEVICE_RETIRE;
        /// Revokes its certificates.
        certificates_revoke: rows::CERTIFICATES_REVOKE;
        /// Sets a tag.
        tag_put: "INSERT INTO device_tags (org_id, device_key, tag, value) SELECT org_id, id, $2::text, $3::text FROM devices \
             WHERE id = $1 ON CONFLICT (device_key, tag) DO UPDATE SET value = excluded.value RETURNING id";
        /// The tags of a device.
        device_tags: "SELECT tag, value FROM device_tags WHERE device_key = $1 ORDER BY tag";
        /// How many other tags a device has.
        tags_beside: rows::TAGS_BESIDE;
        /// Remembers a certificate.
        certificate_insert: "INSERT INTO certificates (serial, device_key, org_id, issued_at, not_after) \
             SELECT $1::text, id, org_id, $3::int8, $4::int8 FROM devices WHERE id = $2";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// Who is registered under a serial number.
        device_of_name: rows::DEVICE_OF_NAME;
        /// The tags of a registration: device, organisation.
        tags_of_key: rows::TAGS_OF_KEY;
        /// The tags of a device by its number: number, organisation.
        tags_of_id: rows::TAGS_OF_ID;
        /// The device with a certificate that is registered under a serial number.
        device_of_sn: rows::DEVICE_OF_SN;
        /// Serial numbers of devices with a certificate: after, limit.
        device_sns: rows::DEVICE_SNS;
        /// Who a certificate belongs to: serial number, SN.
        device_of_certificate: rows::DEVICE_OF_CERTIFICATE;
    }
}

/// Tags, as JSON: `[["name", "value"], …]`.
pub(crate) fn tags(column: usize, text: &str) -> Read<Vec<Tag>> {
    let tags: Vec<(String, String)> =
        serde_json::from_str(text).map_err(|_| Damaged::Value(column, "tags"))?;
    Ok(tags.into_iter().map(|(tag, value)| Tag { tag, value }).collect())
}

/// The name of a node, as JSON: `["gateway", "uid"]`.
fn node(column: usize, text: &str) -> Read<NodeName> {
    let parts: Option<(String, String)> = serde_json::from_str(text).ok();
    let name = parts.and_then(|(gateway, uid)| rows::node_name_of(&gateway, &uid));
    name.ok_or(Damaged::Value(column, "name of a node"))
}

/// A device with its tags and its node, from `device_columns!`.
pub(crate) fn device(row: &dyn Columns) -> Read<Device> {
    let node = rows::get::<Option<&str>>(row, 13)?.map(|text| node(13, text)).transpose()?;
    Ok(Device { tags: tags(12, rows::get(row, 12)?)?, node, ..rows::device(row)? })
}
