//! The target: a database that nobody else uses, filled by COPY.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use covey_core::id::UnixMs;
use futures_util::{SinkExt, StreamExt};
use tokio_postgres::{Client, CopyOutStream, Row};

use crate::migrate::error::MigrateError;
use crate::migrate::mark;
use crate::migrate::source::{Chunk, Position};
use crate::migrate::tables::{Kind, LISTED, SEQUENCES, Table};
use crate::migrate::tuple::{HEADER, TRAILER, length};
use crate::postgres::locks::LockClass;
use crate::postgres::partitions::Partition;
use crate::postgres::servers::is_served;
use crate::postgres::{Options, connect_for_migration, said};

/// How long to wait for the end of a migration that was killed: PostgreSQL may
/// not know yet that nobody listens.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Statements here are long, and wait for nobody.
const SET_UP: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
     SET plan_cache_mode = auto";
/// What a site leaves in a database.
const FILLED: &str = "SELECT EXISTS (SELECT 1 FROM orgs) OR EXISTS (SELECT 1 FROM api_keys) \
     OR EXISTS (SELECT 1 FROM devices) OR EXISTS (SELECT 1 FROM tasks_open) OR EXISTS (SELECT 1 FROM tasks_done) \
     OR EXISTS (SELECT 1 FROM results) OR EXISTS (SELECT 1 FROM idempotency) OR EXISTS (SELECT 1 FROM task_counts) \
     OR EXISTS (SELECT 1 FROM records) OR EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM gauges)";
/// An error with what was asked for.
pub(super) fn failed(what: &'static str) -> impl Fn(tokio_postgres::Error) -> MigrateError {
    move |error| MigrateError::Target { what, problem: said(&error) }
}

/// The database that a site is moved to.
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) place: String,
}

impl Target {
    /// Connects, and keeps other migrations out.
    pub(super) async fn open(options: &Options) -> Result<Self, MigrateError> {
        let client = connect_for_migration(options).await?;
        let place = options.place();
        let ask = failed("prepare the migration");
        client.batch_execute(SET_UP).await.map_err(&ask)?;
        let begun = Instant::now();
        let class = LockClass::StoreMigration.number();
        loop {
            let row =
                client.query_one("SELECT pg_try_advisory_lock($1, 0)", &[&class]).await.map_err(&ask)?;
            if row.try_get(0).map_err(&ask)? {
                return Ok(Self { client, place });
            }
            if begun.elapsed() > PREDECESSOR_TIMEOUT {
                return Err(MigrateError::Busy { place });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn says(&self, sql: &str) -> Result<bool, MigrateError> {
        let ask = failed("tell whether it is in use");
        self.client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(ask)
    }

    /// All tables, with the columns that the target has.
    pub(super) async fn tables(&self) -> Result<Arc<[Table]>, MigrateError> {
        let what = "tell its columns";
        let sql = "SELECT a.attname::text, t.typname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
             WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
        let mut tables = Vec::with_capacity(LISTED.len());
        for listed in &LISTED {
            let rows = self.client.query(sql, &[&listed.model()]).await.map_err(failed(what))?;
            let column = |row: &Row| Some((row.try_get(0).ok()?, Kind::from_name(row.try_get(1).ok()?)?));
            let columns = rows.iter().map(column).collect::<Option<_>>();
            let table = columns.and_then(|columns| Table::new(listed, columns)).ok_or_else(|| {
                let problem = format!("{} has a column that cannot be moved, or lacks one", listed.model());
                MigrateError::Target { what, problem }
            })?;
            tables.push(table);
        }
        Ok(tables.into())
    }

    async fn refuse_servers(&self) -> Result<(), MigrateError> {
        let ask = failed("tell whether servers run on it");
        if is_served(&self.client).await.map_err(ask)? {
            return Err(MigrateError::ServersRun { place: self.place.clone() });
        }
        Ok(())
    }

    /// Makes the target this source's, or goes on with what was begun. Answers
    /// whether something was.
    ///
    /// A server first takes its lock and then looks for the mark; here the mark
    /// comes first and the look for servers second. So none is overlooked.
    pub(super) async fn claim(&self, identity: &str) -> Result<bool, MigrateError> {
        let ask = failed("mark the migration");
        let place = || self.place.clone();
        let marks = mark::read(&self.client).await.map_err(&ask)?;
        match &marks.unfinished {
            Some(source) if source == identity => {}
            Some(_) => return Err(MigrateError::OtherSource { place: place() }),
            None if marks.finished.as_deref() == Some(identity) => {
                return Err(MigrateError::Finished { place: place() });
            }
            None if self.says(FILLED).await? => return Err(MigrateError::InUse { place: place() }),
            None => mark::begin(&self.client, identity).await.map_err(&ask)?,
        }
        let is_filled = !marks.has_progress && self.says(FILLED).await?;
        let refusal = match self.refuse_servers().await {
            Err(refusal) => refusal,
            Ok(()) if is_filled => MigrateError::InUse { place: place() },
            Ok(()) => return Ok(marks.has_progress),
        };
        if !marks.has_progress {
            mark::withdraw(&self.client).await.map_err(&ask)?;
        }
        Err(refusal)
    }

    /// Refuses a target to which nothing was moved from this source.
    pub(super) async fn recognise(&self, identity: &str) -> Result<(), MigrateError> {
        let marks = mark::read(&self.client).await.map_err(failed("tell what was moved"))?;
        match marks.unfinished.or(marks.finished) {
            Some(source) if source == identity => self.refuse_servers().await,
            Some(_) => Err(MigrateError::OtherSource { place: self.place.clone() }),
            None => Err(MigrateError::NotMoved { place: self.place.clone() }),
        }
    }

    /// Makes partitions, as long as the rows that belong there are not yet in
    /// the one for all others. Nobody else uses the tables, so each may be locked
    /// as a partition whose time has come.
    pub(super) async fn make_partitions(&self, partitions: &[Partition]) -> Result<(), MigrateError> {
        for partition in partitions {
            partition.ensure(&self.client, UnixMs(i64::MAX)).await.map_err(failed("make partitions"))?;
        }
        Ok(())
    }

    /// Stores a chunk, and with it how far the table is.
    pub(super) async fn store(
        &self,
        table: &Table,
        chunk: Chunk,
        position: &Position,
    ) -> Result<(), MigrateError> {
        let outcome = async {
            self.client.batch_execute("BEGIN").await?;
            for (target, tuples) in table.targets().into_iter().zip(chunk.parts) {
                if !tuples.is_empty() {
                    let mut sink = pin!(self.client.copy_in::<_, Bytes>(&table.fill(target)).await?);
                    sink.feed(Bytes::from_static(HEADER)).await?;
                    sink.feed(Bytes::from(tuples)).await?;
                    sink.feed(Bytes::copy_from_slice(&TRAILER)).await?;
                    sink.finish().await?;
                }
            }
            mark::note(&self.client, table, position).await?;
            self.client.batch_execute("COMMIT").await
        };
        outcome.await.map_err(failed("store rows"))
    }

    /// Brings every sequence beyond the highest number that was given.
    pub(super) async fn set_sequences(&self, highest: &[i64]) -> Result<(), MigrateError> {
        for ((sequence, ..), highest) in SEQUENCES.iter().zip(highest) {
            let sql = "SELECT setval($1::text::regclass, greatest($2::int8, 1), $2::int8 > 0)";
            self.client.query_one(sql, &[sequence, highest]).await.map_err(failed("set sequences"))?;
        }
        self.client.batch_execute("ANALYZE").await.map_err(failed("gather statistics"))
    }

    pub(super) async fn check_sequences(&self, highest: &[i64]) -> Result<(), MigrateError> {
        let ask = failed("tell its sequences");
        for ((sequence, ..), highest) in SEQUENCES.iter().zip(highest) {
            let sql = format!("SELECT last_value + is_called::int FROM {sequence}");
            let row = self.client.query_one(&sql, &[]).await.map_err(&ask)?;
            let next = row.try_get(0).map_err(&ask)?;
            if next <= *highest {
                return Err(MigrateError::Sequence { sequence, next, highest: *highest });
            }
        }
        Ok(())
    }

    /// The rows of a table in the order of the source.
    pub(super) async fn read(&self, table: &Table) -> Result<Tuples, MigrateError> {
        let stream = self.client.copy_out(&table.read_target()).await.map_err(failed("read rows"))?;
        Ok(Tuples { stream: Box::pin(stream), bytes: BytesMut::new(), has_header: false })
    }
}

/// Tuples as they come out of PostgreSQL.
pub(super) struct Tuples {
    stream: std::pin::Pin<Box<CopyOutStream>>,
    /// What came and was not yet given out.
    bytes: BytesMut,
    has_header: bool,
}

impl Tuples {
    pub(super) async fn next(&mut self) -> Result<Option<BytesMut>, MigrateError> {
        loop {
            if !self.has_header && self.bytes.len() >= HEADER.len() {
                // Nothing in it concerns us: there are no extensions.
                drop(self.bytes.split_to(HEADER.len()));
                self.has_header = true;
            }
            if self.has_header {
                match length(&self.bytes) {
                    Some(0) => return Ok(None),
                    Some(end) => return Ok(Some(self.bytes.split_to(end))),
                    None => {}
                }
            }
            match self.stream.next().await {
                Some(more) => self.bytes.extend_from_slice(&more.map_err(failed("read rows"))?),
                None => {
                    let problem = "the rows ended before their end".to_owned();
                    return Err(MigrateError::Target { what: "read rows", problem });
                }
            }
        }
    }

    /// Takes in what comes after the last tuple, so that the connection is free.
    pub(super) async fn close(mut self) -> Result<(), MigrateError> {
        while let Some(rest) = self.stream.next().await {
            rest.map_err(failed("read rows"))?;
        }
        Ok(())
    }
}
