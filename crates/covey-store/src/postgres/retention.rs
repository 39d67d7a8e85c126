//! Dropping what is older than a bound: whole partitions of final tasks with
//! their results, and rows that are in no partition of their own.

use covey_core::id::UnixMs;
use tokio_postgres::{Client, Error};

use crate::postgres::locks::LockClass;
use crate::postgres::partitions::{Month, TABLES, id_from};
use covey_core::port::Pruned;

/// How many rows outside the partitions one transaction deletes.
const STEP_ROWS: i64 = 1_000;
/// How many such transactions one call makes.
const STEPS_MAX: usize = 100;

/// Adds a relation's rows, negative, to the counts, in a slot that no writer has.
macro_rules! uncount {
    ($from:expr) => {
        concat!(
            "INSERT INTO task_counts AS c (org_id, status, slot, count) \
             SELECT org_id, status, -1, -count(*) FROM ",
            $from,
            " GROUP BY org_id, status \
             ON CONFLICT (org_id, status, slot) DO UPDATE SET count = c.count + excluded.count"
        )
    };
}

/// Drops what was made before an instant, as far as it is final.
pub(super) async fn prune(client: &Client, before: UnixMs) -> Result<Pruned, Error> {
    let mut pruned = Pruned::default();
    for month in old_partitions(client, before).await? {
        match drop_partition(client, &month).await {
            Ok(Some(tasks)) => pruned.tasks += tasks,
            // An open task is as old: its results are in there.
            Ok(None) => break,
            Err(error) => {
                // The next call tries again; other months are no less in the way.
                let _ = client.batch_execute("ROLLBACK").await;
                return Err(error);
            }
        }
    }
    pruned.is_more = true;
    for _ in 0..STEPS_MAX {
        let tasks = delete_step(client, before).await?;
        pruned.tasks += tasks;
        if tasks < STEP_ROWS.unsigned_abs() {
            pruned.is_more = false;
            break;
        }
    }
    Ok(pruned)
}

/// A partition of final tasks that ends before an instant.
struct Old {
    name: String,
    /// The month's end: no id in it is as great.
    end: uuid::Uuid,
}

async fn old_partitions(client: &Client, before: UnixMs) -> Result<Vec<Old>, Error> {
    let sql = "SELECT substr(c.relname, length($1) + 2) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = to_regclass('public.' || $1) ORDER BY c.relname";
    let mut old = Vec::new();
    for row in client.query(sql, &[&TABLES[0]]).await? {
        let name: String = row.try_get(0)?;
        if let Some(month) = Month::named(&name)
            && month.plus(1).begin() <= before
        {
            old.push(Old { name, end: id_from(month.plus(1).begin()) });
        }
    }
    Ok(old)
}

/// Drops a month of tasks and results, and takes its tasks out of the counts.
/// Answers none if a task that is still open was made in it or before. While it
/// counts, the month may be read and not changed.
async fn drop_partition(client: &Client, old: &Old) -> Result<Option<u64>, Error> {
    let [tasks, results] = TABLES.map(|table| format!("{table}_{}", old.name));
    let class = LockClass::Partitions.number();
    let sql = format!("BEGIN; SELECT pg_advisory_xact_lock({class}, 0); LOCK TABLE {tasks} IN SHARE MODE");
    client.batch_execute(&sql).await?;
    let is_in_use: bool = client
        .query_one("SELECT EXISTS (SELECT 1 FROM tasks_open WHERE id < $1)", &[&old.end])
        .await?
        .try_get(0)?;
    if is_in_use {
        client.batch_execute("ROLLBACK").await?;
        return Ok(None);
    }
    let count: i64 = client.query_one(&format!("SELECT count(*) FROM {tasks}"), &[]).await?.try_get(0)?;
    let uncount = uncount!("#").replace('#', &tasks);
    let sql = format!("{uncount}; DROP TABLE {tasks}; DROP TABLE IF EXISTS {results}; COMMIT");
    client.batch_execute(&sql).await?;
    tracing::info!(month = %old.name, tasks = count, "final tasks and their results were dropped");
    Ok(Some(u64::try_from(count).unwrap_or(0)))
}

/// Deletes some rows that are in no partition of their own, and idempotency
/// keys of that age; answers how many tasks.
async fn delete_step(client: &Client, before: UnixMs) -> Result<u64, Error> {
    let sql = concat!(
        "WITH old AS (SELECT id FROM tasks_done_default WHERE created_at < $1 ORDER BY created_at LIMIT $2 \
             FOR UPDATE SKIP LOCKED), \
         gone AS (DELETE FROM tasks_done_default t USING old WHERE t.id = old.id \
             RETURNING t.id, t.org_id, t.status), \
         their AS (DELETE FROM results_default r USING gone WHERE r.task_id = gone.id), \
         keys AS (DELETE FROM idempotency WHERE (org_id, key) IN (SELECT org_id, key FROM idempotency \
             WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)), \
         counts AS (",
        uncount!("gone"),
        ") SELECT count(*) FROM gone"
    );
    let count: i64 = client.query_one(sql, &[&before.0, &STEP_ROWS]).await?.try_get(0)?;
    Ok(u64::try_from(count).unwrap_or(0))
}
