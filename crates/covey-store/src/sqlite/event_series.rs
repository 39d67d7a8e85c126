//! Values out of events over time.

use std::collections::BTreeMap;

use covey_core::event::{Bucket, Field, FieldQuery, PathStep, SeriesPath, SeriesQuery};
use covey_core::id::{OrgId, UnixMs};
use covey_core::port::Entries;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::rows;
use crate::rows::{Columns, Read};
use crate::sqlite::event::{number_around, number_behind};
use crate::sqlite::statement::within;

/// A path in SQLite's spelling. Names have no quotes in them ([`SeriesPath`]).
fn path_text(steps: &[PathStep]) -> String {
    steps.iter().fold("$".to_owned(), |path, step| match step {
        PathStep::Name(name) => format!("{path}.\"{name}\""),
        PathStep::Place(place) => format!("{path}[{place}]"),
    })
}

/// The paths to look at: the first, and one more or the same again.
fn paths(path: &SeriesPath) -> (String, String) {
    let texts: Vec<_> = path.ways().iter().map(|steps| path_text(steps)).collect();
    let first = texts.first().cloned().unwrap_or_default();
    let last = texts.last().cloned().unwrap_or_default();
    (first, last)
}

pub(super) fn event_fields(
    connection: &Connection,
    org: OrgId,
    query: &FieldQuery,
) -> rusqlite::Result<Entries<Field>> {
    let snapshot = connection.unchecked_transaction()?;
    let first = number_around(&snapshot, query.since)?;
    let (path, other) = paths(&query.path);
    let sql = "SELECT f.received_at, f.value FROM ( \
           SELECT * FROM ( \
             SELECT e.id, e.received_at, coalesce(e.payload -> ?6, e.payload -> ?7) AS value FROM events e \
             WHERE e.org_id = ?1 AND e.device_id = ?2 AND (?9 IS NULL OR e.device_key = ?9) AND e.id >= ?3 \
             AND e.type_code = ?4 AND e.received_at >= ?5 AND value IS NOT NULL ORDER BY e.id DESC LIMIT ?8) \
           UNION ALL \
           SELECT 0, g.updated_at, coalesce(g.payload -> ?6, g.payload -> ?7) AS value \
             FROM gauges g JOIN devices d ON d.id = g.device_key AND d.retired_at IS NULL \
             WHERE g.org_id = ?1 AND g.device_id = ?2 AND (?9 IS NULL OR g.device_key = ?9) AND g.type_code = ?4 AND g.updated_at >= ?5 \
             AND value IS NOT NULL) AS f \
         ORDER BY f.received_at DESC, f.id DESC LIMIT ?8";
    let registration = query.registration.map(|device| device.0);
    let values = (
        org.0,
        query.device_id.0,
        first.0,
        query.type_code,
        query.since.0,
        path,
        other,
        query.limit,
        registration,
    );
    fn field(row: &dyn Columns) -> Read<Field> {
        Ok(Field { received_at: rows::get(row, 0)?, value: rows::get(row, 1)? })
    }
    within(snapshot.prepare_cached(sql)?.query(values)?, field, |field| field.value.len())
}

/// The numbers of a bucket so far.
struct Gathered {
    least: f64,
    most: f64,
    sum: f64,
    /// What `sum` has lost by rounding (Neumaier 1974).
    lost: f64,
    count: u64,
    /// The event that was received last, and its number.
    last: (i64, f64),
}

impl Gathered {
    fn of(id: i64, number: f64) -> Self {
        Self { least: number, most: number, sum: number, lost: 0.0, count: 1, last: (id, number) }
    }

    fn add(&mut self, id: i64, number: f64) {
        self.least = self.least.min(number);
        self.most = self.most.max(number);
        let sum = self.sum + number;
        self.lost += if self.sum.abs() >= number.abs() {
            (self.sum - sum) + number
        } else {
            (number - sum) + self.sum
        };
        self.sum = sum;
        self.count += 1;
        if id > self.last.0 {
            self.last = (id, number);
        }
    }

    fn bucket(&self, from: i64) -> Bucket {
        let Self { least: min, most: max, count, last: (_, last), .. } = *self;
        Bucket { from: UnixMs(from), min, max, mean: (self.sum + self.lost) / count as f64, last, count }
    }
}

/// Gathered here and not by SQLite, which would write every number into a table of its own to find the last ones.
pub(super) fn event_series(
    connection: &Connection,
    org: OrgId,
    query: &SeriesQuery,
) -> rusqlite::Result<Vec<Bucket>> {
    let snapshot = connection.unchecked_transaction()?;
    let (first, behind) = (number_around(&snapshot, query.from)?, number_behind(&snapshot, query.until)?);
    let (path, other) = paths(&query.path);
    let sql = "SELECT e.id, e.received_at, \
             CASE WHEN json_type(e.payload, ?7) IS NOT NULL THEN \
               CASE WHEN json_type(e.payload, ?7) IN ('integer', 'real') THEN e.payload ->> ?7 END \
             WHEN json_type(e.payload, ?8) IN ('integer', 'real') THEN e.payload ->> ?8 END \
           FROM events e \
           WHERE e.org_id = ?1 AND e.device_id = ?2 AND (?10 IS NULL OR e.device_key = ?10) AND e.id >= ?3 \
             AND e.id < ?9 AND e.received_at >= ?4 \
             AND e.received_at < ?5 AND (e.type_code = ?6 OR (?6 IS NULL AND e.type_code >= 0))";
    let values = (
        org.0,
        query.device_id.0,
        first.0,
        query.from.0,
        query.until.0,
        query.type_code,
        path,
        other,
        behind.0,
        query.registration.map(|device| device.0),
    );
    let mut buckets: BTreeMap<i64, Gathered> = BTreeMap::new();
    let mut statement = snapshot.prepare_cached(sql)?;
    let mut found = statement.query(values)?;
    while let Some(row) = found.next()? {
        let number = match row.get_ref(2)? {
            ValueRef::Integer(number) => number as f64,
            ValueRef::Real(number) => number,
            ValueRef::Null | ValueRef::Text(_) | ValueRef::Blob(_) => continue,
        };
        if number.abs() <= rows::SERIES_NUMBER_MAX {
            let (id, from) = (row.get(0)?, row.get::<_, i64>(1)? / query.width_ms * query.width_ms);
            buckets
                .entry(from)
                .and_modify(|gathered| gathered.add(id, number))
                .or_insert_with(|| Gathered::of(id, number));
        }
    }
    Ok(buckets.iter().map(|(from, gathered)| gathered.bucket(*from)).collect())
}
