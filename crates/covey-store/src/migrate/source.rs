//! The source: a SQLite database as of one moment, opened so that it cannot be
//! changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use covey_core::id::UnixMs;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params_from_iter};
use tokio::sync::mpsc::Sender;
use uuid::Uuid;

use crate::migrate::error::MigrateError;
use crate::migrate::tables::{SEQUENCES, Table};
use crate::migrate::tuple::{self, Checksum, Key};
use crate::postgres::partitions::{Day, Month, Partition, id_from};
use crate::sqlite;

/// How long to wait for a lock of somebody who writes all the same.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How many KiB of pages are kept in memory.
const CACHE_KIB: i64 = 32 * 1024;
/// No task is older: 2020-01-01. What an id says below that is no time.
const FIRST_TASK: UnixMs = UnixMs(1_577_836_800_000);

/// How many months the clock that made an id may have been ahead. Servers make
/// as many partitions ahead, which must find no row of theirs elsewhere.
const MONTHS_AHEAD_MAX: i64 = 2;

/// How many days of the outbox get partitions of their own; more than it is kept.
const OUTBOX_DAYS_MAX: usize = 92;

/// How many rows, and about how many bytes, are sent together.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkSize {
    pub(super) rows_max: u64,
    pub(super) bytes_max: usize,
}

/// Rows that follow each other.
pub(super) struct Chunk {
    /// Their tuples, for each table of the target.
    pub(super) parts: Vec<Vec<u8>>,
    pub(super) rows: u64,
    /// The key of the last one.
    pub(super) last: Option<Key>,
    /// The checksum of all rows up to the last one.
    pub(super) checksum: Checksum,
}

/// Which numbers records have had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outbox {
    /// The last one that was given.
    pub(super) head: i64,
    /// Up to this one records may have been forgotten.
    pub(super) forgotten: i64,
}

/// From where a table is read on.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    pub(super) after: Option<Key>,
    pub(super) rows: u64,
    pub(super) checksum: Checksum,
}

/// A SQLite database that is whole.
pub(super) struct WholeSource {
    connection: Connection,
    path: PathBuf,
}

impl WholeSource {
    /// Opens the database and checks it.
    pub(super) fn open(path: &Path) -> Result<Self, MigrateError> {
        sqlite::verify(path)?;
        let failed = |source| MigrateError::Source { path: path.to_owned(), source };
        Ok(Self { connection: begin_reading(path).map_err(failed)?, path: path.to_owned() })
    }
}

/// A SQLite database that is to be moved.
pub(super) struct Source {
    connection: Connection,
    path: PathBuf,
    tables: Arc<[Table]>,
    /// How many rows each table has, in their order.
    totals: Vec<u64>,
    /// The highest number that each sequence has given.
    pub(super) highest: Vec<i64>,
    pub(super) outbox: Outbox,
    /// A digest that two databases do not share, nor one before and after a
    /// server has run on it.
    pub(super) identity: String,
}

impl Source {
    /// Looks at what there is of these tables.
    pub(super) fn of(whole: WholeSource, tables: Arc<[Table]>) -> Result<Self, MigrateError> {
        let WholeSource { connection, path } = whole;
        let failed = |source| MigrateError::Source { path: path.clone(), source };
        if tables.iter().any(|table| connection.prepare(&table.read_source(true)).is_err()) {
            return Err(MigrateError::OldSource { path });
        }
        let count = |table: &Table| {
            let sql = format!("SELECT count(*) FROM {}", table.name);
            connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
        };
        let totals = tables.iter().map(count).collect::<rusqlite::Result<_>>().map_err(failed)?;
        let highest = |(_, table, column): &(&str, &str, &str)| {
            // What AUTOINCREMENT gave to a row that is gone was given all the same.
            let sql = format!(
                "SELECT max(coalesce((SELECT max({column}) FROM {table}), 0), \
                 coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{table}'), 0))"
            );
            connection.query_row(&sql, [], |row| row.get(0))
        };
        let highest = SEQUENCES.iter().map(highest).collect::<rusqlite::Result<_>>().map_err(failed)?;
        let sql =
            "SELECT h.number, coalesce((SELECT min(number) FROM records) - 1, h.number) FROM record_head h";
        let outbox = |row: &Row<'_>| Ok(Outbox { head: row.get(0)?, forgotten: row.get(1)? });
        let outbox = connection.query_row(sql, [], outbox).map_err(failed)?;
        let mut source = Self { connection, path, tables, totals, highest, outbox, identity: String::new() };
        source.identity = source.identify()?;
        Ok(source)
    }

    fn failed(&self, source: rusqlite::Error) -> MigrateError {
        MigrateError::Source { path: self.path.clone(), source }
    }

    /// How many rows a table has.
    pub(super) fn total(&self, table: &Table) -> u64 {
        let place = self.tables.iter().position(|one| one.name == table.name);
        place.and_then(|place| self.totals.get(place)).copied().unwrap_or(0)
    }

    /// Every start of a server, every key and every task leave a trace in these.
    fn identify(&self) -> Result<String, MigrateError> {
        let mut checksum = Checksum::default();
        let telling = ["orgs", "api_keys", "task_counts"];
        for table in self.tables.iter().filter(|table| telling.contains(&table.name)) {
            let mut statement =
                self.connection.prepare(&table.read_source(false)).map_err(|error| self.failed(error))?;
            let mut rows = statement.query([]).map_err(|error| self.failed(error))?;
            while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
                checksum.add(&encoded(table, row)?);
            }
        }
        self.totals.iter().for_each(|total| checksum.add(&total.to_be_bytes()));
        self.highest.iter().for_each(|highest| checksum.add(&highest.to_be_bytes()));
        checksum.add(&self.outbox.head.to_be_bytes());
        Ok(checksum.stored())
    }

    /// The partitions for what there is. What has a time that cannot be goes
    /// into the partitions for all other times.
    pub(super) fn partitions(&self, now: UnixMs) -> Result<Vec<Partition>, MigrateError> {
        let mut partitions: Vec<_> = self.months(now)?.into_iter().flat_map(Partition::of_tasks).collect();
        let end = Month::of(now).plus(MONTHS_AHEAD_MAX + 1).begin();
        let months = self.days("SELECT DISTINCT dev_timestamp / 86400000 FROM events", end)?;
        let mut months: Vec<_> = months.into_iter().map(|day| Month::of(day.begin())).collect();
        months.dedup();
        partitions.extend(months.into_iter().map(Partition::of_events));
        let days = self.days("SELECT DISTINCT at / 86400000 FROM records", Day::of(now).plus(1).begin())?;
        partitions.extend(days.into_iter().rev().take(OUTBOX_DAYS_MAX).map(Partition::of_records));
        Ok(partitions)
    }

    /// The days that a statement answers, in order, as far as they can be: those before `end`.
    fn days(&self, sql: &str, end: UnixMs) -> Result<Vec<Day>, MigrateError> {
        let mut statement = self.connection.prepare(sql).map_err(|error| self.failed(error))?;
        let days = statement.query_map([], |row| row.get::<_, i64>(0));
        let days: Vec<i64> = days.and_then(Iterator::collect).map_err(|error| self.failed(error))?;
        let days = days.into_iter().filter_map(|day| day.checked_mul(86_400_000)).map(UnixMs);
        let mut days: Vec<_> = days.filter(|at| (FIRST_TASK..end).contains(at)).map(Day::of).collect();
        days.sort_unstable();
        Ok(days)
    }

    /// The months from which there are tasks, as their ids say. Ids of a time
    /// that is long after `now` say nothing.
    fn months(&self, now: UnixMs) -> Result<Vec<Month>, MigrateError> {
        let mut months = Vec::new();
        let mut next = Month::of(FIRST_TASK);
        let sql = "SELECT id FROM tasks WHERE id >= ?1 ORDER BY id LIMIT 1";
        let mut statement = self.connection.prepare(sql).map_err(|error| self.failed(error))?;
        loop {
            let from = id_from(next.begin());
            let found: Option<[u8; 16]> = statement
                .query_row([from.as_bytes()], |row| row.get(0))
                .optional()
                .map_err(|error| self.failed(error))?;
            let Some(id) = found else { return Ok(months) };
            let ms = id.iter().take(6).fold(0_i64, |ms, byte| (ms << 8) | i64::from(*byte));
            let month = Month::of(UnixMs(ms));
            if month > Month::of(now).plus(MONTHS_AHEAD_MAX) {
                return Ok(months);
            }
            months.push(month);
            next = month.plus(1);
        }
    }

    /// Sends the rows of a table in order, from a position on, as long as
    /// somebody receives them. Tuples for different tables of the target are
    /// kept apart if `is_split`.
    pub(super) fn send(
        &mut self,
        table: &Table,
        position: Position,
        is_split: bool,
        size: ChunkSize,
        to: &Sender<Chunk>,
    ) -> Result<(), MigrateError> {
        let path = self.path.clone();
        let failed = |source| MigrateError::Source { path: path.clone(), source };
        let sql = table.read_source(position.after.is_some());
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        let values = position.after.as_ref().map(|key| key.values(table)).unwrap_or_default();
        let mut rows = statement.query(params_from_iter(values)).map_err(failed)?;
        let parts_count = if is_split { table.targets().len() } else { 1 };
        let mut checksum = position.checksum;
        let new_chunk = || Chunk {
            parts: vec![Vec::new(); parts_count],
            rows: 0,
            last: None,
            checksum: Checksum::default(),
        };
        let mut chunk = new_chunk();
        let mut read = position.rows;
        let mut last: Option<Vec<u8>> = None;
        while let Some(row) = rows.next().map_err(failed)? {
            let tuple = encoded(table, row)?;
            checksum.add(&tuple);
            let part = if is_split { part_of(table, &tuple) } else { 0 };
            if let Some(part) = chunk.parts.get_mut(part) {
                part.extend(&tuple);
            }
            chunk.rows += 1;
            read += 1;
            let bytes: usize = chunk.parts.iter().map(Vec::len).sum();
            let is_full = chunk.rows >= size.rows_max || bytes >= size.bytes_max;
            if is_full {
                let mut full = std::mem::replace(&mut chunk, new_chunk());
                full.last = Some(Key::of(table, &tuple));
                full.checksum = checksum;
                if to.blocking_send(full).is_err() {
                    return Ok(());
                }
                last = None;
            } else {
                last = Some(tuple);
            }
        }
        if let Some(tuple) = last {
            chunk.last = Some(Key::of(table, &tuple));
            chunk.checksum = checksum;
            if to.blocking_send(chunk).is_err() {
                return Ok(());
            }
        }
        let there = self.total(table);
        if read == there { Ok(()) } else { Err(MigrateError::Incomplete { table: table.name, read, there }) }
    }
}

/// A connection that sees one moment and cannot write.
fn begin_reading(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.execute_batch("BEGIN")?;
    // The moment is that of the first read.
    connection.query_row("SELECT count(*) FROM orgs", [], |_| Ok(()))?;
    Ok(connection)
}

fn encoded(table: &Table, row: &Row<'_>) -> Result<Vec<u8>, MigrateError> {
    let mut bytes = Vec::new();
    tuple::encode(table, row, &mut bytes).map_err(|(column, problem)| MigrateError::BadRow {
        table: table.name,
        key: shown_key(table, row),
        column,
        problem,
    })?;
    Ok(bytes)
}

/// Which table of the target a tuple goes to.
fn part_of(table: &Table, tuple: &[u8]) -> usize {
    let Some(status) = table.status() else { return 0 };
    let number = tuple::fields(tuple).get(status).copied().flatten().map_or(0, tuple::number);
    usize::from(number >= 3)
}

/// The key of a row that cannot be encoded.
fn shown_key(table: &Table, row: &Row<'_>) -> String {
    let shown = |place: &usize| match row.get_ref(*place) {
        Ok(ValueRef::Integer(number)) => number.to_string(),
        Ok(ValueRef::Text(text)) => String::from_utf8_lossy(text).escape_debug().to_string(),
        Ok(ValueRef::Blob(bytes)) => Uuid::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default(),
        _ => "?".to_owned(),
    };
    table.key.iter().map(shown).collect::<Vec<_>>().join(" ")
}
