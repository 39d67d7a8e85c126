//! A transaction under way: what was fetched beforehand, what jobs changed of
//! it, and what is still to be sent.
//!
//! Jobs look at what was fetched or is remembered and write into memory. What is neither is
//! asked for at once, after everything gathered so far: the database then sees
//! it in the order in which it was done.

use std::time::Duration;

use covey_core::audit::{AuditGroup, AuditHead};
use covey_core::error::{Result, StorageFault};
use covey_core::id::UnixMs;
use covey_core::port::{Transaction, TxResult};
use tokio::runtime::Runtime;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_postgres::{Row, Statement};

use crate::postgres::fault::{Failure, failure};
use crate::postgres::pipeline::{self, Reply, Step, Value, execute, query};
use crate::postgres::session::Session;
use crate::postgres::statements::Writing;
use crate::postgres::write::cross_group_cache::{CrossGroupCache, WrittenBy};
use crate::postgres::write::transaction_cache::TransactionCache;
use crate::postgres::write::write_batch::WriteBatch;
use crate::rows::{self, Columns, Damaged, Read};

/// How long one trip may take; the server's own bound on a statement is shorter.
const TRIP_TIMEOUT: Duration = Duration::from_secs(40);

/// What a group left behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    /// The number of the writer's last group that wrote something.
    pub(crate) group_number: i64,
}

/// Which of the prepared statements is meant.
pub(crate) type Prepared = fn(&Writing) -> &Statement;

/// A transaction on the connection that writes.
pub(crate) struct PostgresTransaction<'s> {
    pub(crate) session: &'s Session,
    pub(crate) runtime: &'s Runtime,
    pub(crate) now: UnixMs,
    pub(crate) cache: TransactionCache,
    pub(crate) batch: WriteBatch,
    /// What the audit log is told.
    pub(crate) audit: AuditGroup,
    /// The end of this server's chain of the audit log, if it is known.
    pub(crate) audit_head: Option<AuditHead>,
    /// The first thing that the database refused; nothing is worth more then.
    pub(crate) failure: Option<Failure>,
    pub(crate) has_begun: bool,
    pub(crate) has_written: bool,
    pub(crate) is_commit_sent: bool,
    /// Its number, once it has left its mark.
    pub(crate) number: Option<WrittenBy>,
}

impl<'s> PostgresTransaction<'s> {
    pub(crate) fn new(
        session: &'s Session,
        runtime: &'s Runtime,
        now: UnixMs,
        audit_head: Option<AuditHead>,
    ) -> Self {
        Self {
            session,
            runtime,
            now,
            cache: TransactionCache::default(),
            batch: WriteBatch::default(),
            audit: AuditGroup::default(),
            audit_head,
            failure: None,
            has_begun: false,
            has_written: false,
            is_commit_sent: false,
            number: None,
        }
    }

    /// Whether the database may have committed.
    pub(crate) fn is_commit_sent(&self) -> bool {
        self.is_commit_sent
    }

    /// Puts what it knows into the cache for the next group, after the commit.
    pub(crate) fn keep(self, cross_group: &mut CrossGroupCache) {
        self.cache.keep(cross_group, self.number);
    }

    /// Whether all went well so far.
    pub(crate) fn checked(&self) -> Result<(), Failure> {
        self.failure.map_or(Ok(()), Err)
    }

    /// Sends what is gathered, and commits.
    pub(crate) fn commit(&mut self) -> Result<Committed, Failure> {
        let mut group_number = self.session.group_number;
        self.close_audit().map_err(|fault| self.failure.unwrap_or(Failure::OfAll(fault)))?;
        if !self.has_begun && self.batch.is_empty() {
            return Ok(Committed { group_number });
        }
        let is_writing = self.has_written || !self.batch.is_empty();
        if is_writing {
            group_number += 1;
            self.batch.mark();
        }
        let steps = self.gathered();
        let mut steps = steps.map_err(|fault| self.failure.unwrap_or(Failure::OfAll(fault)))?;
        // One statement is a transaction by itself.
        if self.has_begun || steps.len() > 1 {
            if !self.has_begun {
                steps.insert(0, self.begin());
            }
            steps.push(pipeline::batch(&self.session.client, "COMMIT"));
        }
        self.is_commit_sent = true;
        let replies = self.exchange(steps);
        let replies = replies.map_err(|fault| self.failure.unwrap_or(Failure::OfAll(fault)))?;
        if is_writing {
            // Of `write`, which is the last that answers anything.
            let rows =
                replies.into_iter().rev().map(Reply::rows).find(|rows| !rows.is_empty()).unwrap_or_default();
            self.number = rows.first().and_then(|row| rows::get(row, 0).ok());
        }
        Ok(Committed { group_number })
    }

    /// Sends what is gathered and then `steps`, in one trip; answers the steps.
    pub(crate) fn trip(&mut self, steps: Vec<Step<'s>>) -> TxResult<Vec<Reply>> {
        let mut all = Vec::new();
        if !self.has_begun {
            all.push(self.begin());
        }
        all.extend(self.gathered()?);
        let begin_at = all.len();
        all.extend(steps);
        Ok(self.exchange(all)?.split_off(begin_at))
    }

    pub(crate) fn begin(&mut self) -> Step<'s> {
        self.has_begun = true;
        pipeline::batch(&self.session.client, "BEGIN")
    }

    /// What was gathered, as statements.
    pub(crate) fn gathered(&mut self) -> TxResult<Vec<Step<'s>>> {
        let mut steps = Vec::new();
        if !self.batch.is_empty() {
            self.has_written = true;
            self.send_presences(&mut steps);
            let (parts, values) = self.batch.send(self.session, self.now, &mut self.cache, &mut steps);
            let client = &self.session.client;
            let statement = self.session.writes.of(client, parts);
            let statement = self.runtime.block_on(async { timeout(TRIP_TIMEOUT, statement).await });
            steps.push(query(client, self.answer(statement)?, values));
        }
        Ok(steps)
    }

    pub(crate) fn exchange(&mut self, steps: Vec<Step<'s>>) -> TxResult<Vec<Reply>> {
        if let Some(failure) = self.failure {
            return Err(failure.fault());
        }
        let outcome = self.runtime.block_on(async { timeout(TRIP_TIMEOUT, pipeline::run(steps)).await });
        self.answer(outcome)
    }

    pub(crate) fn answer<T>(
        &mut self,
        outcome: Result<Result<T, tokio_postgres::Error>, Elapsed>,
    ) -> TxResult<T> {
        match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.fail(failure(&error))),
            Err(_) => {
                tracing::error!("PostgreSQL did not answer in {TRIP_TIMEOUT:?}");
                Err(self.fail(Failure::Lost))
            }
        }
    }

    /// A statement that answers rows.
    pub(crate) fn query(&self, statement: Prepared, values: Vec<Value<'s>>) -> Step<'s> {
        query(&self.session.client, statement(&self.session.sql), values)
    }

    /// A statement that changes rows.
    pub(crate) fn execute(&self, statement: Prepared, values: Vec<Value<'s>>) -> Step<'s> {
        execute(&self.session.client, statement(&self.session.sql), values)
    }

    /// One statement that is needed now: its rows.
    pub(crate) fn ask(&mut self, step: Step<'s>) -> TxResult<Vec<Row>> {
        let replies = self.trip(vec![step])?;
        Ok(replies.into_iter().next().map(Reply::rows).unwrap_or_default())
    }

    /// One statement that is needed now and has nothing to do with what was
    /// gathered, which is left for later: its rows.
    pub(crate) fn ask_beside(&mut self, step: Step<'s>) -> TxResult<Vec<Row>> {
        let mut steps = Vec::new();
        if !self.has_begun {
            steps.push(self.begin());
        }
        steps.push(step);
        Ok(self.exchange(steps)?.pop().map(Reply::rows).unwrap_or_default())
    }

    /// Several statements that are needed now: the rows of the last one.
    pub(crate) fn ask_last(&mut self, steps: Vec<Step<'s>>) -> TxResult<Vec<Row>> {
        Ok(self.trip(steps)?.pop().map(Reply::rows).unwrap_or_default())
    }

    /// One statement that writes now: how many rows it changed.
    pub(crate) fn write(&mut self, statement: Prepared, values: Vec<Value<'s>>) -> TxResult<u64> {
        self.has_written = true;
        let step = self.execute(statement, values);
        Ok(self.trip(vec![step])?.first().map_or(0, Reply::changed))
    }

    /// One statement that writes now: what `read` makes of each row that it answers.
    pub(crate) fn write_rows<T>(
        &mut self,
        statement: Prepared,
        values: Vec<Value<'s>>,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> TxResult<Vec<T>> {
        self.has_written = true;
        let step = self.query(statement, values);
        let found = self.ask(step)?;
        self.read(rows::each(&found, read))
    }

    /// One statement that writes now: what `read` makes of the first row that it answers.
    pub(crate) fn write_first<T>(
        &mut self,
        statement: Prepared,
        values: Vec<Value<'s>>,
        read: impl FnOnce(&dyn Columns) -> Read<T>,
    ) -> TxResult<Option<T>> {
        self.has_written = true;
        self.ask_first(statement, values, read)
    }

    /// The same of one that always answers a row.
    pub(crate) fn write_only<T>(
        &mut self,
        statement: Prepared,
        values: Vec<Value<'s>>,
        read: impl FnOnce(&dyn Columns) -> Read<T>,
    ) -> TxResult<T> {
        self.has_written = true;
        self.ask_only(statement, values, read)
    }

    /// One statement that is needed now: what `read` makes of its first row.
    pub(crate) fn ask_first<T>(
        &mut self,
        statement: Prepared,
        values: Vec<Value<'s>>,
        read: impl FnOnce(&dyn Columns) -> Read<T>,
    ) -> TxResult<Option<T>> {
        let rows = self.ask(self.query(statement, values))?;
        self.first(&rows, read)
    }

    /// The same of one that always answers a row.
    pub(crate) fn ask_only<T>(
        &mut self,
        statement: Prepared,
        values: Vec<Value<'s>>,
        read: impl FnOnce(&dyn Columns) -> Read<T>,
    ) -> TxResult<T> {
        let rows = self.ask(self.query(statement, values))?;
        self.only(&rows, read)
    }

    /// Lets others go on for a moment.
    pub(crate) fn pause(&self, pause: Duration) {
        // A timer is made inside the runtime that drives it.
        self.runtime.block_on(async { tokio::time::sleep(pause).await });
    }

    pub(crate) fn fail(&mut self, failure: Failure) -> StorageFault {
        self.failure.get_or_insert(failure).fault()
    }

    pub(crate) fn read<T>(&mut self, read: Read<T>) -> TxResult<T> {
        read.map_err(|error| self.damaged(&error))
    }

    pub(crate) fn damaged(&mut self, error: &Damaged) -> StorageFault {
        tracing::error!(%error, "PostgreSQL");
        self.fail(Failure::OfJob(StorageFault::Io))
    }

    /// What `read` makes of the first row, if there is one.
    pub(crate) fn first<T>(
        &mut self,
        rows: &[Row],
        read: impl FnOnce(&dyn Columns) -> Read<T>,
    ) -> TxResult<Option<T>> {
        let found = rows.first().map(|row| read(row)).transpose();
        self.read(found)
    }

    /// What `read` makes of the one row that a statement always answers.
    pub(crate) fn only<T>(
        &mut self,
        rows: &[Row],
        read: impl FnOnce(&dyn Columns) -> Read<T>,
    ) -> TxResult<T> {
        match self.first(rows, read)? {
            Some(found) => Ok(found),
            None => Err(self.fail(Failure::OfJob(StorageFault::Io))),
        }
    }
}

impl Transaction for PostgresTransaction<'_> {
    fn now(&self) -> UnixMs {
        self.now
    }
}
