//! Forgetting whole partitions, in two steps. First a partition is taken out of
//! its table, which needs the table for an instant and no longer: whoever waits
//! for a table keeps all who come later waiting too, so one who cannot have it
//! soon gives up and tries again. Then what was taken out is counted and dropped,
//! which may take as long as it likes: nobody else sees it. Counts are too great
//! in between; a server that ends there leaves a table whose name says so.

use covey_core::id::UnixMs;
use covey_core::retention::RetentionClass;
use tokio::time::sleep;
use tokio_postgres::{Client, Error};

use crate::postgres::locks::LockClass;
use crate::postgres::partitions::{
    ATTEMPT_PAUSE, ATTEMPTS_MAX, Day, LOCK_TIMEOUT_MS, Month, TABLES, id_from, is_in_the_way,
};
use crate::postgres::retention::{note_forgotten, uncount_events, uncount_tasks};

/// How long one statement may take while everyone waits, in milliseconds.
const STATEMENT_TIMEOUT_MS: u32 = 1_000;
/// How many events that came late, and are to be kept, are moved out of a month
/// while everyone waits. With more of them the month is kept for now.
const LATE_EVENTS_MAX: i64 = 2_000;
/// How long after its end a month of events is kept at most before it is
/// forgotten row by row, in milliseconds beyond the age of what is forgotten.
pub(super) const LATE_MS: i64 = 31 * 86_400_000;

/// What begins the name of a partition that was taken out.
const TAKEN: &str = "forgotten";

/// A partition of its own time.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// What ends its name.
    pub(super) name: String,
    pub(super) begin: UnixMs,
    pub(super) end: UnixMs,
}

/// The tables that are forgotten together, those first by which parts are counted.
const fn tables(kept: RetentionClass) -> &'static [&'static str] {
    match kept {
        RetentionClass::Tasks => &TABLES,
        RetentionClass::Events => &["events"],
        RetentionClass::Records => &["records"],
        RetentionClass::TwinHistory | RetentionClass::Audit => &[],
    }
}

/// Drops the partitions in which everything was made before an instant. Answers
/// how many rows were in them.
pub(super) async fn forget(
    client: &Client,
    kept: RetentionClass,
    oldest: Option<UnixMs>,
) -> Result<u64, Error> {
    let mut count = drop_taken(client, kept).await?;
    let Some(oldest) = oldest else { return Ok(count) };
    for part in parts(client, kept).await?.into_iter().filter(|part| part.end <= oldest) {
        match take_out_patiently(client, kept, &part, oldest).await? {
            Taken::Out => count += drop_taken(client, kept).await?,
            Taken::NotYet => {}
            Taken::Busy => break,
        }
    }
    Ok(count)
}

/// The partitions of a kind that have a time, oldest first.
pub(super) async fn parts(client: &Client, kept: RetentionClass) -> Result<Vec<Part>, Error> {
    let Some(table) = tables(kept).first() else { return Ok(Vec::new()) };
    let sql = "SELECT substr(c.relname, length($1) + 2) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = to_regclass('public.' || $1) ORDER BY c.relname";
    let mut parts = Vec::new();
    for row in client.query(sql, &[table]).await? {
        let name: String = row.try_get(0)?;
        let span = match kept {
            RetentionClass::Records => Day::named(&name).map(|day| (day.begin(), day.plus(1).begin())),
            _ => Month::named(&name).map(|month| (month.begin(), month.plus(1).begin())),
        };
        parts.extend(span.map(|(begin, end)| Part { name, begin, end }));
    }
    Ok(parts)
}

/// What became of a partition.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Out,
    /// There is something in it that is to be kept.
    NotYet,
    /// Somebody else needs the table for long.
    Busy,
}

async fn take_out_patiently(
    client: &Client,
    kept: RetentionClass,
    part: &Part,
    oldest: UnixMs,
) -> Result<Taken, Error> {
    for attempt in 0..ATTEMPTS_MAX {
        if attempt > 0 {
            sleep(ATTEMPT_PAUSE).await;
        }
        let taken = take_out(client, kept, part, oldest).await;
        if !matches!(taken, Ok(Taken::Out)) {
            // Nothing was done; should even this fail, the connection is of no use to anyone.
            client.batch_execute("ROLLBACK").await?;
        }
        match taken {
            Err(error) if is_in_the_way(&error) => {}
            taken => return taken,
        }
    }
    let table = tables(kept).first().copied().unwrap_or_default();
    tracing::warn!(
        table,
        part = %part.name,
        "expired data not deleted: a long transaction reads the table; retrying later"
    );
    Ok(Taken::Busy)
}

/// Takes a partition out of its table, and with a month of tasks that of their
/// results. Commits if it does.
async fn take_out(
    client: &Client,
    kept: RetentionClass,
    part: &Part,
    oldest: UnixMs,
) -> Result<Taken, Error> {
    if !can_go(client, kept, part).await? {
        return Ok(Taken::NotYet);
    }
    let class = LockClass::Partitions.number();
    let begin = format!(
        "BEGIN; SELECT pg_advisory_xact_lock({class}, 0); SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; \
         SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"
    );
    client.batch_execute(&begin).await?;
    let name = &part.name;
    for table in tables(kept) {
        let sql =
            "SELECT EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = to_regclass('public.' || $1::text))";
        let is_there = client.query_one(sql, &[&format!("{table}_{name}")]).await?;
        if !is_there.try_get::<_, bool>(0)? {
            continue;
        }
        client.batch_execute(&format!("LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")).await?;
        if kept == RetentionClass::Events && late_events(client, name, oldest).await? > LATE_EVENTS_MAX {
            return Ok(Taken::NotYet);
        }
        let sql = format!(
            "ALTER TABLE {table} DETACH PARTITION {table}_{name}; \
             ALTER TABLE {table}_{name} RENAME TO {TAKEN}_{table}_{name}"
        );
        client.batch_execute(&sql).await?;
    }
    match kept {
        RetentionClass::Events => {
            // There is no partition for them any more; they go where odd clocks do.
            let sql = format!(
                "WITH late AS (DELETE FROM {TAKEN}_events_{name} WHERE received_at >= {} RETURNING *) \
                 INSERT INTO events SELECT * FROM late",
                oldest.0
            );
            client.batch_execute(&sql).await?;
        }
        RetentionClass::Records => {
            let sql = note_forgotten!("#").replace('#', &format!("{TAKEN}_records_{name}"));
            client.batch_execute(&sql).await?;
        }
        RetentionClass::Tasks | RetentionClass::TwinHistory | RetentionClass::Audit => {}
    }
    client.batch_execute("COMMIT").await?;
    Ok(Taken::Out)
}

/// Looks whether a partition can be forgotten, as far as that takes longer than
/// anyone may be kept waiting.
async fn can_go(client: &Client, kept: RetentionClass, part: &Part) -> Result<bool, Error> {
    match kept {
        RetentionClass::Tasks => {
            // One that is open may have results there. What is final stays so.
            let end = id_from(part.end);
            let sql = "SELECT NOT EXISTS (SELECT 1 FROM tasks_open WHERE id < $1)";
            client.query_one(sql, &[&end]).await?.try_get(0)
        }
        RetentionClass::Events => {
            // So that late ones are found fast.
            let sql = "SELECT sum(brin_summarize_new_values(i.indexrelid)) FROM pg_index i \
                 JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam \
                 WHERE a.amname = 'brin' AND i.indrelid = to_regclass('public.events_' || $1::text)";
            client.query_one(sql, &[&part.name]).await.map(|_| true)
        }
        RetentionClass::Records | RetentionClass::TwinHistory | RetentionClass::Audit => Ok(true),
    }
}

/// How many events of a month came so late that they are to be kept, up to one
/// more than are moved.
async fn late_events(client: &Client, name: &str, oldest: UnixMs) -> Result<i64, Error> {
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM events_{name} WHERE received_at >= $1 LIMIT {}) AS late",
        LATE_EVENTS_MAX + 1
    );
    client.query_one(&sql, &[&oldest.0]).await?.try_get(0)
}

/// Counts and drops what was taken out, by this call or by one that was ended.
/// Answers how many rows it had.
async fn drop_taken(client: &Client, kept: RetentionClass) -> Result<u64, Error> {
    let mut count = 0;
    for table in tables(kept) {
        let sql = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace \
             AND relkind = 'r' AND starts_with(relname, $1) ORDER BY relname";
        for row in client.query(sql, &[&format!("{TAKEN}_{table}_")]).await? {
            let taken: &str = row.try_get(0)?;
            let rows = drop_one(client, table, taken).await;
            if rows.is_err() {
                client.batch_execute("ROLLBACK").await?;
            }
            let rows = rows?;
            tracing::info!(table, name = taken, rows, "expired partition dropped");
            if tables(kept).first() == Some(table) {
                count += rows;
            }
        }
    }
    Ok(count)
}

async fn drop_one(client: &Client, table: &str, taken: &str) -> Result<u64, Error> {
    // All of it is read, once: an index would be a detour.
    client.batch_execute("BEGIN; SET LOCAL enable_seqscan = on").await?;
    let sql = match table {
        "tasks_done" => concat!(
            "WITH n AS MATERIALIZED (SELECT org_id, status, count(*) AS count FROM # GROUP BY org_id, status), \
             counted AS (",
            uncount_tasks!("n"),
            ") SELECT coalesce(sum(count), 0)::int8 FROM n"
        ),
        "events" => concat!(
            "WITH n AS MATERIALIZED (SELECT org_id, count(*) AS count, \
                 count(*) FILTER (WHERE type_code >= 0) AS of_devices FROM # GROUP BY org_id), counted AS (",
            uncount_events!("n"),
            ") SELECT coalesce(sum(count), 0)::int8 FROM n"
        ),
        "records" => "SELECT count(*) FROM #",
        _ => "SELECT 0::int8",
    };
    let count: i64 = client.query_one(&sql.replace('#', taken), &[]).await?.try_get(0)?;
    client.batch_execute(&format!("DROP TABLE {taken}; COMMIT")).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}
