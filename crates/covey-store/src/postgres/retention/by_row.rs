//! Forgetting row by row, in steps that are small enough for nobody to notice:
//! organisation by organisation, because each may keep things for a time of its own.

use std::time::Duration;

use covey_core::id::{OrgId, UnixMs};
use covey_core::retention::{Prune, Pruned, RetentionClass};
use tokio::time::sleep;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use crate::postgres::retention::by_partition::{LATE_MS, Part, parts};
use crate::postgres::retention::{note_forgotten, uncount_events, uncount_tasks};

/// How many rows one step looks at.
pub(super) const STEP_ROWS: i64 = 1_000;
/// How many steps one call makes in which something is forgotten.
pub(super) const STEPS_MAX: u32 = 100;
/// The pause after each of these.
pub(super) const STEP_PAUSE: Duration = Duration::from_millis(5);
/// How many organisations one call looks at.
const ORGS_MAX: i64 = 1_000;

/// Events of an organisation in a table, in the order in which they came:
/// organisation, before, after, limit.
const EVENTS: &str = concat!(
    "WITH look AS MATERIALIZED (SELECT e.id, e.dev_timestamp, e.received_at FROM # e \
         WHERE e.org_id = $1::int8 AND e.id > $3::int8 ORDER BY e.id LIMIT $4::int8), \
     gone AS (DELETE FROM # e USING look l WHERE l.received_at < $2::int8 AND e.org_id = $1 AND e.id = l.id \
         AND e.dev_timestamp = l.dev_timestamp RETURNING e.type_code), \
     n AS (SELECT $1::int8 AS org_id, count(*) FILTER (WHERE type_code >= 0) AS of_devices FROM gone \
         HAVING count(*) > 0), \
     counted AS (",
    uncount_events!("n"),
    ") SELECT (SELECT count(*) FROM look), (SELECT count(*) FROM gone), (SELECT max(id) FROM look)"
);

/// The same of records; also the instant before which everyone's are forgotten.
/// It is remembered up to which of them some are gone.
const RECORDS: &str = concat!(
    "WITH look AS MATERIALIZED (SELECT r.number, r.at FROM # r \
         WHERE r.org_id = $1::int8 AND r.number > $3::int8 ORDER BY r.number LIMIT $4::int8), \
     gone AS (DELETE FROM # r USING look l WHERE l.at < $2::int8 AND r.number = l.number AND r.at = l.at \
         RETURNING r.number, r.at), \
     noted AS (",
    note_forgotten!("gone WHERE at < $5::int8"),
    "), own AS (INSERT INTO records_forgotten AS f (org_id, number) SELECT $1::int8, max(number) FROM gone \
         HAVING max(number) IS NOT NULL ON CONFLICT (org_id) \
         DO UPDATE SET number = greatest(f.number, excluded.number)\
     ) SELECT (SELECT count(*) FROM look), (SELECT count(*) FROM gone), (SELECT max(number) FROM look)"
);

/// What devices of an organisation reported: organisation, before, limit.
const TWIN_HISTORY: &str = "WITH look AS MATERIALIZED (SELECT h.id FROM twin_history h \
         WHERE h.org_id = $1::int8 AND h.at < $2::int8 ORDER BY h.at LIMIT $3::int8), \
     gone AS (DELETE FROM twin_history h USING look l WHERE h.id = l.id RETURNING 1) \
     SELECT (SELECT count(*) FROM look), (SELECT count(*) FROM gone), NULL::int8";

/// Tasks of an organisation in a month: organisation, after, limit. An order in
/// which old ones come first, nearly: numbers are given in batches.
const TASKS_OF_MONTH: &str = "SELECT t.id, t.created_at, t.seq FROM # t \
     WHERE t.org_id = $1::int8 AND t.seq > $2::int8 ORDER BY t.seq LIMIT $3::int8";
/// Those whose ids tell no time: organisation, before, limit.
const TASKS_OF_DEFAULT: &str = "SELECT t.id, t.created_at, t.seq FROM tasks_done_default t \
     WHERE t.org_id = $1::int8 AND t.created_at < $2::int8 ORDER BY t.created_at LIMIT $3::int8";
/// Tasks that nobody is about to change.
const HOLD_TASKS: &str = "SELECT t.id FROM # t WHERE t.id = ANY($1::uuid[]) FOR UPDATE SKIP LOCKED";
/// Tasks that are held, with their results.
const FORGET_TASKS: &str = concat!(
    "WITH gone AS (DELETE FROM # t WHERE t.id = ANY($1::uuid[]) RETURNING t.id, t.org_id, t.status), \
     their AS (DELETE FROM results r USING gone g WHERE r.task_id = g.id), \
     n AS (SELECT org_id, status, count(*) AS count FROM gone GROUP BY org_id, status), \
     counted AS (",
    uncount_tasks!("n"),
    ") SELECT count(*) FROM gone"
);

/// Where rows of an organisation may be too old.
struct Places {
    kept: RetentionClass,
    /// What is older is forgotten of everyone, by whole partitions.
    oldest: Option<UnixMs>,
    /// Partitions of tasks; of events those that should long be gone.
    parts: Vec<Part>,
}

impl Places {
    async fn find(client: &Client, what: &Prune) -> Result<Self, Error> {
        let (kept, oldest) = (what.kept, what.oldest());
        let mut parts = match kept {
            RetentionClass::Tasks | RetentionClass::Events => parts(client, kept).await?,
            RetentionClass::Records | RetentionClass::TwinHistory | RetentionClass::Audit => Vec::new(),
        };
        if kept == RetentionClass::Events {
            parts.retain(|part| oldest.is_some_and(|oldest| part.end.plus_ms(LATE_MS) <= oldest));
        }
        Ok(Self { kept, oldest, parts })
    }

    /// The tables to look into, for an organisation of which all before this is
    /// too old.
    fn tables(&self, before: UnixMs) -> Vec<String> {
        let is_own = self.oldest.is_none_or(|oldest| before > oldest);
        let named = |table: &str| self.parts.iter().map(|part| format!("{table}_{}", part.name)).collect();
        match (self.kept, is_own) {
            (RetentionClass::Events, true) => vec!["events".to_owned()],
            (RetentionClass::Records, true) => vec!["records".to_owned()],
            (RetentionClass::Records, false) => vec!["records_default".to_owned()],
            (RetentionClass::TwinHistory, _) => vec!["twin_history".to_owned()],
            // It is gone through otherwise.
            (RetentionClass::Audit, _) => Vec::new(),
            (RetentionClass::Events, false) => {
                let mut tables: Vec<_> = named("events");
                tables.push("events_default".to_owned());
                tables
            }
            (RetentionClass::Tasks, is_own) => {
                let months = self.parts.iter().filter(|part| is_own && part.begin < before);
                let mut tables: Vec<_> = months.map(|part| format!("tasks_done_{}", part.name)).collect();
                tables.push("tasks_done_default".to_owned());
                tables
            }
        }
    }
}

/// What became of a step.
struct Stepped {
    looked: i64,
    gone: i64,
    /// The last number that was looked at.
    last: i64,
}

/// Forgets what is too old of each organisation, from where the call before has ended.
pub(super) async fn forget(client: &Client, what: &Prune) -> Result<Pruned, Error> {
    let sql = "SELECT id FROM orgs WHERE id > $1 ORDER BY id LIMIT $2";
    let orgs = client.query(sql, &[&what.after, &ORGS_MAX]).await?;
    let orgs = orgs.iter().map(|row| row.try_get(0).map(OrgId)).collect::<Result<Vec<_>, _>>()?;
    let places = Places::find(client, what).await?;
    let (mut pruned, mut steps) = (Pruned::default(), 0);
    for org in &orgs {
        let Some(before) = what.before_of(*org) else { continue };
        for table in places.tables(before) {
            let mut after = 0;
            loop {
                if steps == STEPS_MAX {
                    pruned.next = Some(org.0 - 1);
                    return Ok(pruned);
                }
                let stepped = places.step(client, &table, *org, before, after).await?;
                pruned.count += stepped.gone.unsigned_abs();
                if stepped.gone > 0 {
                    steps += 1;
                    sleep(STEP_PAUSE).await;
                }
                // Whatever comes after one that is too young is as young, or not much older.
                if stepped.looked < STEP_ROWS || stepped.gone == 0 {
                    break;
                }
                after = stepped.last;
            }
        }
    }
    let is_more = i64::try_from(orgs.len()).is_ok_and(|count| count == ORGS_MAX);
    pruned.next = orgs.last().filter(|_| is_more).map(|org| org.0);
    Ok(pruned)
}

impl Places {
    async fn step(
        &self,
        client: &Client,
        table: &str,
        org: OrgId,
        before: UnixMs,
        after: i64,
    ) -> Result<Stepped, Error> {
        let sql = |sql: &str| sql.replace('#', table);
        let row = match self.kept {
            RetentionClass::Tasks => return step_of_tasks(client, table, org, before, after).await,
            RetentionClass::Events => {
                client.query_one(&sql(EVENTS), &[&org.0, &before.0, &after, &STEP_ROWS]).await?
            }
            RetentionClass::Records => {
                let oldest = self.oldest.map(|oldest| oldest.0);
                client.query_one(&sql(RECORDS), &[&org.0, &before.0, &after, &STEP_ROWS, &oldest]).await?
            }
            RetentionClass::TwinHistory => {
                client.query_one(TWIN_HISTORY, &[&org.0, &before.0, &STEP_ROWS]).await?
            }
            RetentionClass::Audit => return Ok(Stepped { looked: 0, gone: 0, last: after }),
        };
        let last = row.try_get::<_, Option<i64>>(2)?.unwrap_or(after);
        Ok(Stepped { looked: row.try_get(0)?, gone: row.try_get(1)?, last })
    }
}

/// Tasks are held before they are forgotten with their results: a result that
/// comes at the same instant must not be left behind.
async fn step_of_tasks(
    client: &Client,
    table: &str,
    org: OrgId,
    before: UnixMs,
    after: i64,
) -> Result<Stepped, Error> {
    let looked = if table == "tasks_done_default" {
        client.query(TASKS_OF_DEFAULT, &[&org.0, &before.0, &STEP_ROWS]).await?
    } else {
        client.query(&TASKS_OF_MONTH.replace('#', table), &[&org.0, &after, &STEP_ROWS]).await?
    };
    let mut old: Vec<Uuid> = Vec::new();
    let mut last = after;
    for row in &looked {
        if row.try_get::<_, i64>(1)? < before.0 {
            old.push(row.try_get(0)?);
        }
        last = last.max(row.try_get(2)?);
    }
    let looked = i64::try_from(looked.len()).unwrap_or(i64::MAX);
    if old.is_empty() {
        return Ok(Stepped { looked, gone: 0, last });
    }
    client.batch_execute("BEGIN").await?;
    let held = client.query(&HOLD_TASKS.replace('#', table), &[&old]).await?;
    let held = held.iter().map(|row: &Row| row.try_get(0)).collect::<Result<Vec<Uuid>, _>>()?;
    let gone = client.query_one(&FORGET_TASKS.replace('#', table), &[&held]).await?.try_get(0)?;
    client.batch_execute("COMMIT").await?;
    Ok(Stepped { looked, gone, last })
}
