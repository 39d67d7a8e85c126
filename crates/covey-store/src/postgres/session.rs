//! The connection that writes, and what makes it one of its kind: the lock on
//! its writer's number, and its slot in the counts.
//!
//! Whether a commit whose answer was lost took place is told by the writer's
//! mark: each group that writes leaves its number in `writers` in the same
//! transaction. PostgreSQL's own `pg_xact_status` would not do: a number of a
//! transaction that was never flushed is given again after a crash.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::postgres::audit;
use crate::postgres::connection::Connector;
use crate::postgres::fault::{Failure, failure};
use crate::postgres::locks::LockClass;
use crate::postgres::numbers;
use crate::postgres::statements::{Writes, Writing};

/// How long a new connection waits for the end of the one before it.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(10);
/// How many writers may have a slot at a time.
const SLOTS_MAX: i32 = 4_096;

/// What stays the same over all connections of a writer.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriterId(i32);

/// A connection that writes.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) sql: Writing,
    pub(super) writes: Writes,
    pub(super) writer: WriterId,
    pub(super) slot: i32,
    /// What makes the number of a transaction that of its records.
    pub(super) record_offset: i64,
    /// The number of the last group of this writer that was committed.
    pub(super) group_number: i64,
    /// The number of this server's chain of the audit log.
    pub(super) audit_chain: i32,
}

impl WriterId {
    pub(super) fn number(self) -> i32 {
        self.0
    }
}

impl Session {
    /// Connects. A writer that had a connection before goes on under its
    /// number, once that connection has ended for PostgreSQL too.
    pub(super) async fn open(connector: &Connector, writer: Option<WriterId>) -> Result<Self, Failure> {
        let report = |error: tokio_postgres::Error| match failure(&error) {
            // A password that is refused, say: nothing that another attempt could not meet.
            Failure::OfJob(fault) => Failure::OfAll(fault),
            other => other,
        };
        let client = connector.connect().await.map_err(report)?;
        // What a pooler in transaction mode cannot keep: sessions have locks.
        let writer = match writer {
            Some(writer) => writer,
            None => {
                let sql = "INSERT INTO writers (server, group_number) VALUES ($1, 0) RETURNING id";
                let row = client.query_one(sql, &[&connector.options().server]).await.map_err(report)?;
                WriterId(row.try_get(0).map_err(report)?)
            }
        };
        let group_number = match last_group(&client, writer).await? {
            Some(number) => number,
            None => {
                let sql = "INSERT INTO writers (id, server, group_number) OVERRIDING SYSTEM VALUE VALUES ($1, $2, 0)";
                client.execute(sql, &[&writer.0, &connector.options().server]).await.map_err(report)?;
                0
            }
        };
        let sql = "SELECT n FROM generate_series(0, $1) AS n WHERE pg_try_advisory_lock($2, n) LIMIT 1";
        let row = client.query_opt(sql, &[&SLOTS_MAX, &LockClass::Slot.number()]).await.map_err(report)?;
        let Some(row) = row else {
            tracing::error!("all {SLOTS_MAX} slots for counts are taken");
            return Err(Failure::Lost);
        };
        let slot = row.try_get(0).map_err(report)?;
        let record_offset = numbers::ensure_offset(&client).await.map_err(report)?;
        begin_counting(&client, writer, record_offset).await.map_err(report)?;
        let chain = client
            .query_one(audit::CHAIN_ENSURE, &[&connector.options().audit_chain])
            .await
            .map_err(report)?;
        let audit_chain = chain.try_get(0).map_err(report)?;
        let sql = Writing::prepare(&client).await.map_err(report)?;
        let writes = Writes::prepare(&client).await.map_err(report)?;
        Ok(Self { client, sql, writes, writer, slot, record_offset, group_number, audit_chain })
    }

    /// Whether a transaction that begins now could write.
    pub(super) async fn may_write(&self) -> Result<bool, Failure> {
        let answer = self.client.simple_query("SHOW transaction_read_only").await;
        let answer = answer.map_err(|error| failure(&error))?;
        Ok(answer
            .iter()
            .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("off"))))
    }
}

/// How many bytes a trial writes: what a large task takes.
const TRIAL_BYTES: i64 = 131_072;

impl Session {
    /// Writes and takes back what no compression makes small.
    pub(super) async fn try_room(&self) -> Result<(), Failure> {
        let (key, digests) = (format!("trial-{}", self.writer.0), TRIAL_BYTES / 16);
        // Several statements at once are one transaction (PostgreSQL "Multiple Statements in a Simple Query").
        let trial = format!(
            "INSERT INTO idempotency (org_id, key, request_digest, task_id, created_at) \
             SELECT 0, '{key}', decode(string_agg(md5(random()::text), ''), 'hex'), \
             '00000000-0000-0000-0000-000000000000', 0 FROM generate_series(1, {digests}); \
             DELETE FROM idempotency WHERE org_id = 0 AND key = '{key}'"
        );
        self.client.batch_execute(&trial).await.map_err(|error| failure(&error))
    }
}

/// What a writer has left in the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// The number of its last group that is stored there.
    pub(super) group_number: i64,
    /// Whether later ones may still come, from a primary.
    pub(super) is_of_standby: bool,
}

/// Reads a writer's mark on a connection of its own, which need not be able to
/// write. It is final unless it is a standby's: the writer's last connection has ended.
pub(super) async fn read_mark(connector: &Connector, writer: WriterId) -> Result<Mark, Failure> {
    let report = |error: tokio_postgres::Error| failure(&error);
    let client = connector.connect().await.map_err(report)?;
    let group_number = last_group(&client, writer).await?.unwrap_or(0);
    let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await.map_err(report)?;
    Ok(Mark { group_number, is_of_standby: row.try_get(0).map_err(report)? })
}

/// Takes the writer's lock; answers the number of its last group, unless its mark is gone.
async fn last_group(client: &Client, writer: WriterId) -> Result<Option<i64>, Failure> {
    let report = |error: tokio_postgres::Error| failure(&error);
    lock_writer(client, writer).await?;
    let sql = "SELECT group_number FROM writers WHERE id = $1";
    let row = client.query_opt(sql, &[&writer.0]).await.map_err(report)?;
    row.map(|row| row.try_get(0)).transpose().map_err(report)
}

/// Notes that nothing is counted yet of what the writer will store: all of it has later numbers.
async fn begin_counting(client: &Client, writer: WriterId, offset: i64) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO kept_counted (writer, counted, marked, parts) SELECT $1, n.number, n.number, 0 \
         FROM (SELECT ((pg_snapshot_xmin(pg_current_snapshot())::text::int8 + $2::int8) << 16) - 1 AS number) AS n \
         ON CONFLICT DO NOTHING";
    client.execute(sql, &[&writer.0, &offset]).await.map(drop)
}

/// Takes the writer's lock. Its holder is the connection that was lost: it may
/// still be at work on what it was sent, or not know yet that nobody listens.
async fn lock_writer(client: &Client, writer: WriterId) -> Result<(), Failure> {
    let report = |error: tokio_postgres::Error| failure(&error);
    let class = LockClass::Writer.number();
    let begun = Instant::now();
    loop {
        let sql = "SELECT pg_try_advisory_lock($1, $2)";
        let row = client.query_one(sql, &[&class, &writer.0]).await.map_err(report)?;
        if row.try_get(0).map_err(report)? {
            return Ok(());
        }
        if begun.elapsed() > PREDECESSOR_TIMEOUT {
            tracing::error!("previous connection of the writer still open");
            return Err(Failure::Lost);
        }
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND classid = $1::int8::oid AND objid = $2::int8::oid AND objsubid = 2";
        client.query(sql, &[&i64::from(class), &i64::from(writer.0)]).await.map_err(report)?;
        sleep(Duration::from_millis(20)).await;
    }
}
