//! Moving a site from SQLite to PostgreSQL, with every id, key, number and
//! instant, so that applications and devices notice nothing.
//!
//! Rows travel in chunks. Each chunk is stored in one transaction together with
//! how far its table is, so a migration that was ended in whichever way goes on
//! where it was. When all is there, both sides are read again in the same order
//! and compared row by row. Until that has succeeded a mark keeps servers from
//! starting on the target.

mod error;
mod mark;
mod source;
mod tables;
mod target;
mod tuple;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use covey_core::id::UnixMs;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, Receiver};

use crate::migrate::source::{Chunk, ChunkSize, Position, Source, WholeSource};
use crate::migrate::tables::Table;
use crate::migrate::target::Target;
use crate::migrate::tuple::{Checksum, Key, fields, length};
use crate::postgres;

pub use error::MigrateError;

/// How many chunks may wait to be stored.
const CHUNKS_WAITING_MAX: usize = 2;

/// What is moved, and where to.
#[derive(Clone, Debug)]
pub struct Options {
    /// The SQLite database; no server may run on it.
    pub from: PathBuf,
    /// The PostgreSQL database, empty or with an unfinished migration of the same source.
    pub to: postgres::Options,
    /// The present instant.
    pub now: UnixMs,
    /// What the target is to know of its deployment, by name, unless it knows it already.
    pub facts: Vec<(String, String)>,
    /// How many rows are stored in one transaction at most.
    pub chunk_rows_max: u64,
    /// About how many bytes are; one row is never divided.
    pub chunk_bytes_max: usize,
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new(from: impl Into<PathBuf>, to: postgres::Options, now: UnixMs) -> Self {
        let (chunk_rows_max, chunk_bytes_max) = (20_000, 4 * 1024 * 1024);
        Self { from: from.into(), to, now, facts: Vec::new(), chunk_rows_max, chunk_bytes_max }
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The source is being checked.
    Checking,
    /// So many rows of a table are in the target.
    Copying {
        /// The table.
        table: &'static str,
        /// How many of its rows.
        rows: u64,
        /// How many it has.
        of: u64,
    },
    /// So many rows of a table were found equal.
    Comparing {
        /// The table.
        table: &'static str,
        /// How many of its rows.
        rows: u64,
        /// How many it has.
        of: u64,
    },
}

/// What became of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedTable {
    /// Its name in the source.
    pub table: &'static str,
    /// How many rows it has on either side.
    pub rows: u64,
    /// How many of them were copied by this run.
    pub copied: u64,
    /// The checksum over all rows in their order, the same on both sides.
    pub checksum: String,
}

/// What became of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether an earlier run had begun it.
    pub is_resumed: bool,
    /// The tables in the order in which they were moved.
    pub tables: Vec<MovedTable>,
    /// How long the copying took, in milliseconds.
    pub copy_ms: u64,
    /// How long the comparison took, in milliseconds.
    pub compare_ms: u64,
}

/// Whoever wants to know how far a migration is.
pub type Watch<'w> = &'w (dyn Fn(Progress) + Sync);

/// Moves a site. Blocks; not to be called inside a runtime.
///
/// # Errors
/// [`MigrateError`]; the source is as it was, and no server starts on a target
/// that is not complete.
pub fn run(options: &Options, watch: Watch<'_>) -> Result<Report, MigrateError> {
    let mut session = Session::open(options, watch)?;
    let is_resumed = session.runtime.block_on(session.target.claim(&session.source.identity))?;
    let partitions = session.source.partitions(options.now)?;
    session.runtime.block_on(session.target.make_partitions(&partitions))?;
    let began = Instant::now();
    let mut positions = Vec::new();
    let moved = Arc::clone(&session.tables);
    for table in moved.iter() {
        positions.push(session.copy(table)?);
    }
    session.runtime.block_on(session.target.set_sequences(&session.source.highest))?;
    let copy_ms = elapsed_ms(began);
    let began = Instant::now();
    let mut tables = Vec::new();
    for (table, (position, copied)) in moved.iter().zip(positions) {
        let checksum = session.compare(table)?;
        if checksum != position.checksum {
            // The source has changed in between without that being visible in any count.
            return Err(MigrateError::OtherSource { place: session.target.place });
        }
        tables.push(MovedTable {
            table: table.name,
            rows: position.rows,
            copied,
            checksum: checksum.stored(),
        });
    }
    session.check_sequences()?;
    let Session { runtime, source, mut target, .. } = session;
    let finished = mark::finish(&mut target.client, &source.identity, &options.facts, source.outbox);
    runtime.block_on(finished).map_err(target::failed("finish the migration"))?;
    Ok(Report { is_resumed, tables, copy_ms, compare_ms: elapsed_ms(began) })
}

/// Compares the two sides and changes neither. Blocks; not to be called inside
/// a runtime.
///
/// # Errors
/// [`MigrateError::Differs`], naming the first difference, or that it could not
/// be found out.
pub fn verify(options: &Options, watch: Watch<'_>) -> Result<Report, MigrateError> {
    let mut session = Session::open(options, watch)?;
    session.runtime.block_on(session.target.recognise(&session.source.identity))?;
    let began = Instant::now();
    let mut tables = Vec::new();
    let moved = Arc::clone(&session.tables);
    for table in moved.iter() {
        let checksum = session.compare(table)?.stored();
        tables.push(MovedTable { table: table.name, rows: session.source.total(table), copied: 0, checksum });
    }
    session.check_sequences()?;
    Ok(Report { is_resumed: false, tables, copy_ms: 0, compare_ms: elapsed_ms(began) })
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Both sides, open.
struct Session<'w> {
    runtime: Runtime,
    source: Source,
    target: Target,
    tables: Arc<[Table]>,
    size: ChunkSize,
    watch: Watch<'w>,
}

impl<'w> Session<'w> {
    fn open(options: &Options, watch: Watch<'w>) -> Result<Self, MigrateError> {
        watch(Progress::Checking);
        let source = WholeSource::open(&options.from)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| MigrateError::Thread { source })?;
        let target = runtime.block_on(Target::open(&options.to))?;
        let tables = runtime.block_on(target.tables())?;
        let source = Source::of(source, Arc::clone(&tables))?;
        let size =
            ChunkSize { rows_max: options.chunk_rows_max.max(1), bytes_max: options.chunk_bytes_max.max(1) };
        Ok(Self { runtime, source, target, tables, size, watch })
    }

    fn check_sequences(&self) -> Result<(), MigrateError> {
        self.runtime.block_on(self.target.check_sequences(&self.source.highest))
    }

    /// Copies what is missing of a table. Answers how far it is then, and how
    /// many rows were copied.
    fn copy(&mut self, table: &Table) -> Result<(Position, u64), MigrateError> {
        let begin = self.runtime.block_on(mark::position(&self.target.client, table, &self.target.place))?;
        let of = self.source.total(table);
        let (target, watch) = (&self.target, self.watch);
        let mut position = begin.clone();
        watch(Progress::Copying { table: table.name, rows: position.rows, of });
        let store = async |mut chunks: Receiver<Chunk>| {
            while let Some(chunk) = chunks.recv().await {
                position.after.clone_from(&chunk.last);
                position.rows += chunk.rows;
                position.checksum = chunk.checksum;
                target.store(table, chunk, &position).await?;
                watch(Progress::Copying { table: table.name, rows: position.rows, of });
            }
            Ok(())
        };
        let from = begin.clone();
        beside(
            &self.runtime,
            &mut self.source,
            |source, to| source.send(table, from, true, self.size, &to),
            store,
        )?;
        let copied = position.rows - begin.rows;
        Ok((position, copied))
    }

    /// Compares a table. Answers its checksum.
    fn compare(&mut self, table: &Table) -> Result<Checksum, MigrateError> {
        let of = self.source.total(table);
        let (target, watch) = (&self.target, self.watch);
        let mut checksum = Checksum::default();
        let compare = async |mut chunks: Receiver<Chunk>| {
            let mut found = target.read(table).await?;
            let mut rows = 0;
            while let Some(chunk) = chunks.recv().await {
                let mut rest = chunk.parts.first().map(Vec::as_slice).unwrap_or_default();
                while let Some((expected, after)) = length(rest).and_then(|end| rest.split_at_checked(end)) {
                    let tuple = found.next().await?;
                    match tuple {
                        Some(tuple) if *tuple == *expected => checksum.add(&tuple),
                        tuple => return Err(difference(table, Some(expected), tuple.as_deref())),
                    }
                    rest = after;
                }
                if checksum != chunk.checksum {
                    return Err(difference(table, None, None));
                }
                rows += chunk.rows;
                watch(Progress::Comparing { table: table.name, rows, of });
            }
            // The source may have ended with an error, which then is the answer.
            if rows == of
                && let Some(tuple) = found.next().await?
            {
                return Err(difference(table, None, Some(&tuple)));
            }
            if rows == of { found.close().await } else { Ok(()) }
        };
        let send = |source: &mut Source, to: mpsc::Sender<Chunk>| {
            source.send(table, Position::default(), false, self.size, &to)
        };
        beside(&self.runtime, &mut self.source, send, compare)?;
        Ok(checksum)
    }
}

/// Reads the source in a thread while what it sends is dealt with here.
fn beside(
    runtime: &Runtime,
    source: &mut Source,
    send: impl FnOnce(&mut Source, mpsc::Sender<Chunk>) -> Result<(), MigrateError> + Send,
    receive: impl AsyncFnOnce(Receiver<Chunk>) -> Result<(), MigrateError>,
) -> Result<(), MigrateError> {
    let (to, chunks) = mpsc::channel(CHUNKS_WAITING_MAX);
    std::thread::scope(|scope| {
        let sending = std::thread::Builder::new()
            .name("migrate-read".to_owned())
            .spawn_scoped(scope, move || send(source, to))
            .map_err(|source| MigrateError::Thread { source })?;
        runtime.block_on(receive(chunks))?;
        joined(sending)
    })
}

fn joined(thread: ScopedJoinHandle<'_, Result<(), MigrateError>>) -> Result<(), MigrateError> {
    match thread.join() {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// What differs at the first tuples that do.
fn difference(table: &Table, source: Option<&[u8]>, target: Option<&[u8]>) -> MigrateError {
    let keys = (source.map(|tuple| Key::of(table, tuple)), target.map(|tuple| Key::of(table, tuple)));
    let (key, problem) = match (&keys, source, target) {
        ((Some(one), Some(other)), Some(source), Some(target)) if one == other => {
            let pairs = fields(source).into_iter().zip(fields(target));
            let place = pairs.take_while(|(one, other)| one == other).count();
            let column = table.columns.get(place).map_or("row", |column| &column.name);
            (Some(one), format!("its {column} is another"))
        }
        ((Some(one), Some(other)), ..) if other.compare(one, table).is_lt() => {
            (Some(other), "it is in PostgreSQL alone".to_owned())
        }
        ((Some(one), _), ..) => (Some(one), "it is missing in PostgreSQL".to_owned()),
        ((None, Some(other)), ..) => (Some(other), "it is in PostgreSQL alone".to_owned()),
        ((None, None), ..) => (None, "the checksums are not the same".to_owned()),
    };
    let key = key.map_or_else(|| "an unknown row".to_owned(), |key| key.shown(table));
    MigrateError::Differs { table: table.name, key, problem }
}
