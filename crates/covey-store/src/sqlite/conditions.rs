//! The conditions of lists with filters.

use covey_core::event::EventTypes;
use covey_core::port::Entries;
use rusqlite::{Connection, ToSql, params_from_iter};

use crate::rows::{Columns, Dialect, ListScope, Read};
use crate::sqlite::statement::within;

/// The conditions of a list, each with its value.
#[derive(Default)]
pub(super) struct Conditions {
    sql: Vec<String>,
    values: Vec<Box<dyn ToSql>>,
}

impl Conditions {
    pub(super) fn add(&mut self, sql: &str, value: impl ToSql + 'static) {
        self.sql.push(sql.to_owned());
        self.values.push(Box::new(value));
    }

    /// That a column has one of these values, or none of them; nothing if
    /// there are no values.
    pub(super) fn add_among(&mut self, column: &str, is_one: bool, values: &[i64]) {
        if values.is_empty() {
            return;
        }
        let word = if is_one { "IN" } else { "NOT IN" };
        self.sql.push(format!("{column} {word} ({})", vec!["?"; values.len()].join(", ")));
        self.values.extend(values.iter().map(|value| Box::new(*value) as Box<dyn ToSql>));
    }

    /// That a row is where a caller may see it.
    pub(super) fn add_scope(&mut self, scope: Option<&ListScope>) {
        const DIALECT: Dialect = Dialect { entries: "json_each(#) s", value_is: "k.value = s.value ->> 1" };
        if let Some(scope) = scope {
            let json = scope.json();
            for sql in scope.conditions(DIALECT) {
                self.add(&sql.replace('#', "?"), json.clone());
            }
        }
    }

    /// That an event `e` is of one of these types.
    pub(super) fn add_types(&mut self, types: &EventTypes) {
        match types {
            EventTypes::OfDevices => self.sql.push("e.type_code >= 0".to_owned()),
            EventTypes::Any => {}
            EventTypes::These(types) => self.add_among("e.type_code", true, types),
        }
    }

    pub(super) fn add_if(&mut self, sql: &str, value: Option<impl ToSql + 'static>) {
        if let Some(value) = value {
            self.add(sql, value);
        }
    }

    pub(super) fn clause(&self) -> String {
        self.sql.join(" AND ")
    }

    /// What `read` makes of each row that a statement with these conditions answers.
    /// Such statements are too many to be kept prepared.
    pub(super) fn rows<T>(
        &self,
        connection: &Connection,
        sql: &str,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let mut statement = connection.prepare(sql)?;
        statement.query_map(params_from_iter(&self.values), |row| Ok(read(row)?))?.collect()
    }

    /// The same, up to what the bodies in a part of a list may take; `bytes` is what one takes.
    pub(super) fn rows_within<T>(
        &self,
        connection: &Connection,
        sql: &str,
        read: fn(&dyn Columns) -> Read<T>,
        bytes: fn(&T) -> usize,
    ) -> rusqlite::Result<Entries<T>> {
        let mut statement = connection.prepare(sql)?;
        within(statement.query(params_from_iter(&self.values))?, read, bytes)
    }

    /// What a statement with these conditions counts.
    pub(super) fn total(&self, connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
        let mut statement = connection.prepare(sql)?;
        let total: i64 = statement.query_row(params_from_iter(&self.values), |row| row.get(0))?;
        Ok(u64::try_from(total).unwrap_or(0))
    }
}
