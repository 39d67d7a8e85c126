//! One statement and what it answers. Each is prepared once on a connection.

use covey_core::port::{Entries, Filling, Found, ReadKind, Turn, TxResult};
use rusqlite::{Connection, OptionalExtension, Params, Row, Rows};

use crate::rows::{Columns, Read};
use crate::sqlite::Sqlite;
use crate::sqlite::transaction::SqliteTransaction;

/// Reads by one statement.
pub(super) trait Ask {
    fn connection(&self) -> &Connection;

    /// What `read` makes of each row.
    fn rows<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.connection().prepare_cached(sql)?.query_map(values, by(read))?.collect()
    }

    /// What `read` makes of the first row, if there is one.
    fn row<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.only(sql, values, read).optional()
    }

    /// What `read` makes of the one row that the statement always answers.
    fn only<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> rusqlite::Result<T> {
        self.connection().prepare_cached(sql)?.query_row(values, by(read))
    }
}

/// What `read` makes of each row, up to what the bodies in a part of a list may take. No row beyond the first that
/// is too many is read.
pub(super) fn within<T>(
    mut found: Rows<'_>,
    read: fn(&dyn Columns) -> Read<T>,
    bytes: fn(&T) -> usize,
) -> rusqlite::Result<Entries<T>> {
    let mut filling = Filling::default();
    while let Some(row) = found.next()? {
        let entry = read(row)?;
        let bytes = bytes(&entry);
        if !filling.add(entry, bytes) {
            break;
        }
    }
    Ok(filling.done())
}

impl Ask for Connection {
    fn connection(&self) -> &Connection {
        self
    }
}

/// How a row is read, as rusqlite asks for it.
fn by<T>(read: fn(&dyn Columns) -> Read<T>) -> impl Fn(&Row<'_>) -> rusqlite::Result<T> {
    move |row| Ok(read(row)?)
}

impl Sqlite {
    /// What `read` makes of each row.
    pub(super) fn rows<T: Send + 'static>(
        &self,
        kind: ReadKind,
        turn: Turn,
        sql: &'static str,
        values: impl Params + Send + 'static,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> Found<'_, Vec<T>> {
        self.read(kind, turn, move |connection| connection.rows(sql, values, read))
    }

    /// What `read` makes of the first row, if there is one.
    pub(super) fn row<T: Send + 'static>(
        &self,
        kind: ReadKind,
        turn: Turn,
        sql: &'static str,
        values: impl Params + Send + 'static,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> Found<'_, Option<T>> {
        self.read(kind, turn, move |connection| connection.row(sql, values, read))
    }
}

impl SqliteTransaction<'_> {
    /// What `read` makes of each row.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> TxResult<Vec<T>> {
        self.try_sql(|connection| connection.rows(sql, values, read))
    }

    /// What `read` makes of the first row, if there is one.
    pub(super) fn row<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> TxResult<Option<T>> {
        self.try_sql(|connection| connection.row(sql, values, read))
    }

    /// What `read` makes of the one row that the statement always answers.
    pub(super) fn only<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> TxResult<T> {
        self.try_sql(|connection| connection.only(sql, values, read))
    }

    /// Whether the statement answers a row.
    pub(super) fn exists(&self, sql: &str, values: impl Params) -> TxResult<bool> {
        self.try_sql(|connection| connection.prepare_cached(sql)?.exists(values))
    }

    /// How many rows the statement has changed.
    pub(super) fn change(&self, sql: &str, values: impl Params) -> TxResult<usize> {
        self.try_sql(|connection| connection.prepare_cached(sql)?.execute(values))
    }

    /// The number of the row that the statement has inserted.
    pub(super) fn insert(&self, sql: &str, values: impl Params) -> TxResult<i64> {
        self.try_sql(|connection| connection.prepare_cached(sql)?.insert(values))
    }
}
