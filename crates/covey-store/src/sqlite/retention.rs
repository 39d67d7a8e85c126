//! Dropping final tasks that are older than a bound, in steps that are small
//! enough for the writer not to notice.

use std::path::Path;
use std::time::Duration;

use covey_core::error::{Error, Result, StorageFault};
use covey_core::id::UnixMs;
use covey_core::port::{BoxFuture, Pruned};
use futures_channel::oneshot;
use rusqlite::{Connection, TransactionBehavior};

use crate::StoreError;
use crate::sqlite::{Sqlite, connection, fault, spawn};

/// How many tasks, and how many keys, one transaction looks at.
const STEP_ROWS: u32 = 500;
/// How many transactions one call makes.
const STEPS_MAX: u32 = 200;
/// The pause between them, in which the writer has the database to itself.
const STEP_PAUSE: Duration = Duration::from_millis(10);

impl Sqlite {
    /// Drops final tasks that were made before an instant, with their results,
    /// and idempotency keys of that age. A bounded amount.
    #[must_use]
    pub(super) fn retain(&self, before: UnixMs) -> BoxFuture<'_, Result<Pruned>> {
        let (reply, answer) = oneshot::channel();
        let path = self.path.clone();
        let started = spawn("store-retain".to_owned(), move || {
            // Whoever asked may have gone away.
            let _ = reply.send(open_and_prune(&path, before));
        });
        Box::pin(async move {
            started.map_err(|error| {
                tracing::error!(%error, "retention");
                StorageFault::Io
            })?;
            answer.await.unwrap_or(Err(Error::from(StorageFault::Stopped)))
        })
    }
}

fn open_and_prune(path: &Path, before: UnixMs) -> Result<Pruned> {
    let mut connection = connection::open_for_writing(path).map_err(|error: StoreError| {
        tracing::error!(%error, "retention");
        StorageFault::Io
    })?;
    prune(&mut connection, before).map_err(|error| {
        tracing::error!(%error, "SQLite");
        Error::from(fault(&error))
    })
}

/// Goes through the tasks in the order of their making, up to the first that
/// is too young.
fn prune(connection: &mut Connection, before: UnixMs) -> rusqlite::Result<Pruned> {
    let mut pruned = Pruned { tasks: 0, is_more: true };
    let mut after_seq = 0;
    for _ in 0..STEPS_MAX {
        let next = step(connection, before, after_seq, &mut pruned)?;
        let Some(next) = next else {
            pruned.is_more = false;
            break;
        };
        after_seq = next;
        std::thread::sleep(STEP_PAUSE);
    }
    Ok(pruned)
}

/// One transaction; answers where to go on, or none at the end.
fn step(
    connection: &mut Connection,
    before: UnixMs,
    after_seq: i64,
    pruned: &mut Pruned,
) -> rusqlite::Result<Option<i64>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut next = None;
    let mut dropped = 0;
    {
        let mut look = transaction.prepare_cached(
            "SELECT seq, status, created_at, org_id FROM tasks WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )?;
        let mut forget_results = transaction.prepare_cached("DELETE FROM results WHERE task_seq = ?1")?;
        let mut forget_task = transaction.prepare_cached("DELETE FROM tasks WHERE seq = ?1")?;
        let mut uncount = transaction
            .prepare_cached("UPDATE task_counts SET count = count - 1 WHERE org_id = ?1 AND status = ?2")?;
        let found = look.query_map((after_seq, STEP_ROWS), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
        })?;
        let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
        let is_full = found.len() == STEP_ROWS as usize;
        for (seq, status, created_at, org) in found {
            if created_at >= before.0 {
                next = None;
                break;
            }
            next = is_full.then_some(seq);
            // READY, PENDING and LOCK are below.
            if status >= 3 {
                forget_results.execute([seq])?;
                forget_task.execute([seq])?;
                uncount.execute((org, status))?;
                dropped += 1;
            }
        }
        transaction.execute(
            "DELETE FROM idempotency WHERE (org_id, key) IN \
             (SELECT org_id, key FROM idempotency WHERE created_at < ?1 LIMIT ?2)",
            (before.0, STEP_ROWS),
        )?;
    }
    transaction.commit()?;
    pruned.tasks += dropped;
    Ok(next)
}
