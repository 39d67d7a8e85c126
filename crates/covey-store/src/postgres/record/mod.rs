//! The outbox: records, with what they are about.

pub(super) mod reads;
mod steps;

use covey_core::error::Result;
use covey_core::record::RecordKind;

use crate::postgres::numbers::settled;
use crate::postgres::prepared::prepared;
use crate::rows::{self};

/// A record `r` with what it is about, in the order that
/// [`record_from`] reads it, from the fifth column on; with tags where
/// the condition holds.
macro_rules! whole_record_columns {
    ($with_tags:literal) => {
        concat!(
            rows::record_columns!(),
            ", CASE WHEN ",
            $with_tags,
            " THEN (SELECT coalesce(json_agg(json_build_array(g.tag, g.value)), '[]')::text \
                 FROM device_tags g WHERE g.device_key = r.device_key) END, \
             t.ext_task_id, t.method_code, t.method, t.created_by, \
             x.id, x.ext_id, x.status_code, x.received_at, x.body_kind, x.body, ",
            rows::event_columns!()
        )
    };
}

pub(crate) use whole_record_columns;

/// What a record `r` is about.
macro_rules! whole_record_joins {
    () => {
        "LEFT JOIN LATERAL (SELECT o.ext_task_id, o.method_code, o.method, o.created_by FROM tasks_open o \
             WHERE o.id = r.task_id UNION ALL SELECT d.ext_task_id, d.method_code, d.method, d.created_by \
             FROM tasks_done d WHERE d.id = r.task_id LIMIT 1) AS t ON true \
         LEFT JOIN LATERAL (SELECT * FROM results x WHERE x.task_id = r.task_id AND x.id = r.result_id LIMIT 1) \
             AS x ON true \
         LEFT JOIN LATERAL (SELECT * FROM events e WHERE e.dev_timestamp = r.dev_timestamp \
             AND e.org_id = r.org_id AND e.id = r.number LIMIT 1) AS e ON true"
    };
}

pub(crate) use whole_record_joins;

/// How many bytes a record takes, as `Record::bytes` says, with what each takes in any case.
macro_rules! record_bytes {
    ($each:literal) => {
        concat!(
            "coalesce(octet_length(t.ext_task_id), 0) + coalesce(octet_length(x.body), 0) \
             + coalesce(octet_length(e.payload), 0) + coalesce(octet_length(r.name), 0) \
             + coalesce(octet_length(r.value), 0) + ",
            $each,
            "::int8"
        )
    };
}

pub(crate) use record_bytes;

/// Records up to which all are there, with what they are about: after, until,
/// limit, whether tags are wanted, what each takes in any case, how many bytes
/// they may take together. Always answers a row, of which the first three columns are those of
/// `settled!`, and the fourth tells whether there are records beyond, where that is asked. The last
/// three are how many bytes the records take up to this one, its place, and how many there are
/// without the bound of bytes. The length of a text that is stored apart is known without reading it.
macro_rules! records {
    ($org:literal, $has_beyond:literal) => {
        concat!(
            "WITH ",
            settled!(),
            " SELECT s.position, s.unknown, s.next, ",
            $has_beyond,
            ", q.* FROM settled s LEFT JOIN LATERAL (SELECT * FROM (SELECT ",
            whole_record_columns!("$4"),
            ", sum(",
            record_bytes!("$5"),
            ") OVER up_to AS bytes, row_number() OVER up_to AS place, count(*) OVER () AS found \
             FROM (SELECT * FROM records r WHERE r.number > $1 AND r.number <= least(s.position, $2) ",
            $org,
            " ORDER BY r.number LIMIT $3) AS r ",
            whole_record_joins!(),
            " WINDOW up_to AS (ORDER BY r.number)) AS p WHERE p.place = 1 OR p.bytes <= $6::int8) AS q ON true"
        )
    };
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// Records of all organisations; the values are those of `records!`.
        records: records!("", "(SELECT r.number FROM records r WHERE r.number > s.position ORDER BY r.number LIMIT 1) IS NOT NULL");
        /// Those of one, which is the last value.
        records_of_org: records!("AND r.org_id = $7", "false");
        /// Which records there are: of an organisation, if there is one.
        record_span: concat!("WITH ", settled!(), " SELECT s.position, s.unknown, s.next, \
             greatest(0, (SELECT value::int8 FROM deployment WHERE key = 'records_forgotten'), \
             (SELECT number FROM records_forgotten WHERE org_id = $1::int8)) FROM settled s");
    }
}

/// How many columns a record has with what it is about, and the four before it.
pub(crate) const RECORD_COLUMNS: usize = 39;

pub(crate) fn kind_number(kind: RecordKind) -> i16 {
    i16::from(kind.number())
}
