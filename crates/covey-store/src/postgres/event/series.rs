//! Values out of events, taken out of their bodies by the database.
//!
//! Bodies are text, and become `json` here, not `jsonb`, which refuses more. Even
//! so one body must not spoil the whole answer:
//!
//! - PostgreSQL's text holds no NUL, so that taking anything out of a body with
//!   `\u0000` in it fails, as it does with half a surrogate pair. Such escapes are
//!   written differently for as long as the database looks at them.
//! - A number in JSON may be one that no `float8` holds.

use covey_core::event::{Bucket, Field, FieldQuery, PathStep, SeriesPath, SeriesQuery};
use covey_core::id::{DeviceKey, OrgId, UnixMs};
use covey_core::port::{Entries, LIST_BYTES_MAX};
use tokio_postgres::types::{ToSql, Type};

use crate::postgres::lists::{entries, within};
use crate::postgres::pipeline::Value;
use crate::postgres::pool::ReadSession;
use crate::rows::{self, Columns, Read};

/// What stands for `\u` before an escape that PostgreSQL refuses: a character for
/// private use, in the last plane of Unicode.
const STAND_IN: char = '\u{10fffd}';

/// A statement with its values.
struct Question {
    sql: String,
    values: Vec<(Value<'static>, Type)>,
}

impl Question {
    fn new(values: Vec<(Value<'static>, Type)>) -> Self {
        Self { sql: String::new(), values }
    }

    /// Takes a value in; answers its name in the statement.
    fn add(&mut self, value: impl ToSql + Sync + Send + 'static, kind: Type) -> String {
        self.values.push((Box::new(value), kind));
        format!("${}", self.values.len())
    }

    /// The condition that `e` is of this registration, if one is asked for.
    fn of_registration(&mut self, registration: Option<DeviceKey>) -> String {
        let name = registration.map(|DeviceKey(device)| self.add(device, Type::INT8));
        name.map_or_else(String::new, |name| format!("AND e.device_key = {name}"))
    }

    async fn ask(&self, session: &ReadSession) -> Read<Vec<tokio_postgres::Row>> {
        let values: Vec<(&(dyn ToSql + Sync), Type)> =
            self.values.iter().map(|(value, kind)| (&**value as _, kind.clone())).collect();
        Ok(session.client.query_typed(&self.sql, &values).await?)
    }

    /// Two laterals over `e`: `b.body`, and `v.value`, what is first there.
    ///
    /// A name looks into objects alone and a place into arrays alone, which
    /// PostgreSQL tells apart by the type of the operand.
    fn value_in_body(&mut self, path: &SeriesPath) -> String {
        let ways: Vec<String> = path
            .ways()
            .into_iter()
            .map(|steps| {
                steps.into_iter().fold("b.body".to_owned(), |way, step| match step {
                    PathStep::Name(name) => format!("{way} -> {}", self.add(name, Type::TEXT)),
                    PathStep::Place(place) => {
                        format!("{way} -> {}", self.add(i32::try_from(place).unwrap_or(i32::MAX), Type::INT4))
                    }
                })
            })
            .collect();
        let stand_in = self.add(STAND_IN.to_string(), Type::TEXT);
        format!(
            "CROSS JOIN LATERAL (SELECT CASE WHEN strpos(e.payload, '\\u') > 0 \
                 AND e.payload ~ '\\\\u(0000|[dD][89a-fA-F])' \
                 THEN regexp_replace(e.payload, '(?<!\\\\)((?:\\\\\\\\)*)\\\\u(0000|[dD][89a-fA-F])', \
                     '\\1' || {stand_in} || '\\2', 'g') ELSE e.payload END::json AS body OFFSET 0) AS b \
             CROSS JOIN LATERAL (SELECT coalesce({}) AS value OFFSET 0) AS v",
            ways.join(", ")
        )
    }
}

pub(crate) async fn event_fields(
    session: &ReadSession,
    org: OrgId,
    query: &FieldQuery,
) -> Read<Entries<Field>> {
    let mut question = Question::new(vec![
        (Box::new(org.0), Type::INT8),
        (Box::new(query.device_id.0), Type::INT8),
        (Box::new(query.type_code), Type::INT8),
        (Box::new(query.since.0), Type::INT8),
    ]);
    let value = question.value_in_body(&query.path);
    let registration = question.of_registration(query.registration);
    let values = format!(
        "( \
             (SELECT e.id, e.received_at, v.value::text AS value FROM events e {value} \
             WHERE e.org_id = $1 AND e.device_id = $2 AND e.type_code = $3 AND e.received_at >= $4 {registration} \
             AND v.value IS NOT NULL ORDER BY e.received_at DESC, e.id DESC LIMIT {limit}) \
             UNION ALL \
             SELECT 0, e.updated_at, v.value::text FROM gauges e {value} \
             JOIN devices d ON d.id = e.device_key AND d.retired_at IS NULL \
             WHERE e.org_id = $1 AND e.device_id = $2 AND e.type_code = $3 AND e.updated_at >= $4 {registration} \
             AND v.value IS NOT NULL) AS f \
         ORDER BY f.received_at DESC, f.id DESC LIMIT {limit}",
        limit = query.limit
    );
    let order = "w.received_at DESC, w.id DESC";
    question.sql =
        within("f.received_at, f.value, f.id", &values, "octet_length(w.value)", order, LIST_BYTES_MAX);
    fn field(row: &dyn Columns) -> Read<Field> {
        let value = rows::minified(rows::get(row, 1)?).replace(STAND_IN, "\\u");
        Ok(Field { received_at: UnixMs(rows::get(row, 0)?), value: value.into() })
    }
    entries(&question.ask(session).await?, 3, field)
}

pub(crate) async fn event_series(
    session: &ReadSession,
    org: OrgId,
    query: &SeriesQuery,
) -> Read<Vec<Bucket>> {
    let mut question = Question::new(vec![
        (Box::new(org.0), Type::INT8),
        (Box::new(query.device_id.0), Type::INT8),
        (Box::new(query.type_code), Type::INT8),
        (Box::new(query.from.0), Type::INT8),
        (Box::new(query.until.0), Type::INT8),
        (Box::new(query.width_ms), Type::INT8),
    ]);
    let value = question.value_in_body(&query.path);
    let registration = question.of_registration(query.registration);
    // `numeric` holds what has an exponent of up to four digits; what is too
    // small for a `float8` is zero.
    question.sql = format!(
        "SELECT f.bucket, min(f.number), max(f.number), sum(f.number) / count(*), \
             (array_agg(f.number ORDER BY f.received_at DESC, f.id DESC))[1], count(*) \
         FROM (SELECT e.id, e.received_at, e.received_at / $6 * $6 AS bucket, \
                 CASE WHEN abs(n.number) < 1e-290 THEN 0 \
                 WHEN abs(n.number) <= {:e} THEN n.number::float8 END AS number \
             FROM events e {value} \
             CROSS JOIN LATERAL (SELECT CASE WHEN json_typeof(v.value) = 'number' \
                 AND v.value::text !~ '[eE][-+]?\\d{{5}}' THEN v.value::text::numeric END AS number OFFSET 0) AS n \
             WHERE e.org_id = $1 AND e.device_id = $2 AND ($3 = e.type_code OR ($3 IS NULL AND e.type_code >= 0)) \
             AND e.received_at >= $4 AND e.received_at < $5 {registration} OFFSET 0) AS f \
         WHERE f.number IS NOT NULL GROUP BY f.bucket ORDER BY f.bucket",
        rows::SERIES_NUMBER_MAX
    );
    rows::each(&question.ask(session).await?, rows::bucket)
}
