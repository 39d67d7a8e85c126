//! Lists with filters: statements that are made for each.

use covey_core::event::EventTypes;
use covey_core::port::Entries;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::postgres::pipeline::{Reply, Step, Value};
use crate::postgres::pool::ReadSession;
use crate::rows::{self, Columns, Dialect, ListScope, Read};

/// Begins a transaction whose statements all see the same moment.
pub(crate) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// How a scope is asked for.
const DIALECT: Dialect = Dialect {
    entries: "jsonb_array_elements(CAST(# AS jsonb)) AS s (value)",
    value_is: "left(k.value, 64) = left(s.value ->> 1, 64) AND k.value = s.value ->> 1",
};

/// The conditions of a list, each with its value.
#[derive(Default)]
pub(crate) struct Conditions {
    pub(crate) sql: Vec<String>,
    values: Vec<(Value<'static>, Type)>,
    /// Whether a text was asked for that PostgreSQL cannot hold, so that
    /// nothing can have it.
    pub(crate) is_impossible: bool,
}

impl Conditions {
    /// A condition in which `#` stands for the value.
    pub(crate) fn add(&mut self, sql: &str, value: impl ToSql + Sync + Send + 'static, kind: Type) {
        self.values.push((Box::new(value), kind));
        self.sql.push(sql.replace('#', &format!("${}", self.values.len())));
    }

    pub(crate) fn number(&mut self, sql: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.add(sql, value, Type::INT8);
        }
    }

    /// That a column has one of these values, or none of them; nothing if
    /// there are no values.
    pub(crate) fn among(&mut self, column: &str, is_one: bool, values: &[i64]) {
        if let ([value], true) = (values, is_one) {
            // So that an index gives the rows behind it in order.
            self.number(&format!("{column} = #"), Some(*value));
        } else if !values.is_empty() {
            let sql = if is_one { "= ANY(#)" } else { "<> ALL(#)" };
            self.add(&format!("{column} {sql}"), values.to_vec(), Type::INT8_ARRAY);
        }
    }

    /// That a row is where a caller may see it.
    pub(crate) fn scope(&mut self, scope: Option<&ListScope>) {
        if let Some(scope) = scope {
            let json = scope.json();
            for sql in scope.conditions(DIALECT) {
                self.add(&sql, json.clone(), Type::TEXT);
            }
        }
    }

    /// That an event `e` is of one of these types.
    pub(crate) fn types(&mut self, types: &EventTypes) {
        match types {
            EventTypes::OfDevices => self.sql.push("e.type_code >= 0".to_owned()),
            EventTypes::Any => {}
            EventTypes::These(types) => self.among("e.type_code", true, types),
        }
    }

    pub(crate) fn text(&mut self, sql: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.is_impossible |= value.contains('\0');
            self.add(sql, value.to_owned(), Type::TEXT);
        }
    }

    pub(crate) fn clause(&self) -> String {
        self.sql.join(" AND ")
    }

    pub(crate) fn query<'a>(&'a self, client: &'a Client, sql: &'a str) -> Step<'a> {
        Box::pin(async move {
            let values: Vec<(&(dyn ToSql + Sync), Type)> =
                self.values.iter().map(|(value, kind)| (&**value as _, kind.clone())).collect();
            client.query_typed(sql, &values).await.map(Reply::Rows)
        })
    }
}

/// Rows of a list up to what the bodies in a part of it may take: what is selected of which rows, how many bytes
/// each takes, and in which order. Two columns are added at the end: the place of a row, and how many there
/// are without that bound. The length of a text that is stored apart is known without reading it.
pub(crate) fn within(columns: &str, from: &str, bytes: &str, order: &str, bytes_max: usize) -> String {
    format!(
        "SELECT * FROM (SELECT w.*, sum({bytes}) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS bytes, \
         row_number() OVER (ORDER BY {order}) AS place, count(*) OVER () AS found \
         FROM (SELECT {columns} FROM {from}) AS w) AS p WHERE p.place = 1 OR p.bytes <= {bytes_max} \
         ORDER BY p.place"
    )
}

/// The entries that such a statement answers; they have so many columns.
pub(crate) fn entries<T>(
    found: &[Row],
    columns: usize,
    read: fn(&dyn Columns) -> Read<T>,
) -> Read<Entries<T>> {
    let count = found.first().map_or(Ok(0), |row| rows::get::<i64>(row, columns + 2))?;
    let is_cut = usize::try_from(count).is_ok_and(|count| count > found.len());
    Ok(Entries { items: rows::each(found, read)?, is_cut })
}

/// Both statements of a list as of one moment: the total, and the rows.
pub(crate) async fn page(
    session: &ReadSession,
    conditions: &Conditions,
    total: &str,
    items: &str,
) -> Read<(u64, Vec<Row>)> {
    let steps = [conditions.query(&session.client, total), conditions.query(&session.client, items)];
    let [total, items] = session.at_one_moment(SNAPSHOT, steps).await?;
    let total: i64 = total.first().map(|row| rows::get(row, 0)).transpose()?.unwrap_or(0);
    Ok((u64::try_from(total).unwrap_or(0), items))
}
