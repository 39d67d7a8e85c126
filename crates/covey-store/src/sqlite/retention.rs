//! How long things are kept, and forgetting what is too old, in steps that are small
//! enough for the writer not to notice.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use covey_core::error::{Error, Result, StorageFault};
use covey_core::id::OrgId;
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use covey_core::retention::{OrgRetention, Prune, Pruned, RetentionClass, RetentionReader, RetentionSteps};
use futures_channel::oneshot;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::sqlite::disk::Disk;
use crate::sqlite::transaction::SqliteTransaction;
use crate::sqlite::{Sqlite, audit_retention, checkpoint, connection, fault, spawn};
use crate::write_state::WriteState;
use crate::{StoreError, rows};

impl RetentionReader for Sqlite {
    fn retention_of_every_org(&self) -> Found<'_, Vec<OrgRetention>> {
        let found = self.rows(ReadKind::Retention, Turn::Server, rows::RETENTION, [], rows::org_retention);
        Box::pin(async move { Ok(found.await?.into_iter().flatten().collect()) })
    }
}

impl RetentionSteps for SqliteTransaction<'_> {
    fn retention_put(&mut self, org: OrgId, kept: RetentionClass, days: Option<u32>) -> TxResult<bool> {
        let changed = match days {
            Some(days) => self.change(rows::RETENTION_PUT, (org.0, kept.name(), days)),
            None => self.change(rows::RETENTION_REMOVE, (org.0, kept.name())),
        };
        Ok(changed? > 0)
    }
}

/// How many rows one transaction looks at.
const STEP_ROWS: u32 = 500;

/// How many transactions one call makes.
const STEPS_MAX: u32 = 200;

/// The pause between them, in which the writer has the database to itself.
const STEP_PAUSE: Duration = Duration::from_millis(10);

/// How the rows of a table are gone through, in the order of their making.
struct Table {
    /// Those after a number: the number, the organisation, the instant, and
    /// whether it can be forgotten at all.
    look: &'static str,
    /// What forgets one, by its number, in this order.
    forget: &'static [&'static str],
    /// What remembers that one is gone, by organisation and the row's state: counts
    /// stay true, and of records it stays known up to which some are gone.
    note: Option<&'static str>,
}

/// None for what is gone through otherwise.
fn table(kept: RetentionClass) -> Option<Table> {
    Some(match kept {
        RetentionClass::Audit => return None,
        // READY, PENDING and LOCK are below 3.
        RetentionClass::Tasks => Table {
            look: "SELECT seq, org_id, created_at, status >= 3, status FROM tasks \
                   WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            forget: &["DELETE FROM results WHERE task_seq = ?1", "DELETE FROM tasks WHERE seq = ?1"],
            note: Some("UPDATE task_counts SET count = count - 1 WHERE org_id = ?1 AND status = ?2"),
        },
        RetentionClass::Events => Table {
            // Counted are those that devices sent.
            look: "SELECT id, org_id, received_at, 1, type_code >= 0 FROM events \
                   WHERE id > ?1 ORDER BY id LIMIT ?2",
            forget: &["DELETE FROM events WHERE id = ?1"],
            note: Some("UPDATE event_counts SET count = count - ?2 WHERE org_id = ?1"),
        },
        RetentionClass::Records => Table {
            look: "SELECT number, org_id, at, 1, number FROM records WHERE number > ?1 ORDER BY number LIMIT ?2",
            forget: &["DELETE FROM records WHERE number = ?1"],
            note: Some(
                "INSERT INTO records_forgotten (org_id, number) VALUES (?1, ?2) \
                 ON CONFLICT DO UPDATE SET number = max(number, excluded.number)",
            ),
        },
        RetentionClass::TwinHistory => Table {
            look: "SELECT id, org_id, at, 1, 0 FROM twin_history WHERE id > ?1 ORDER BY id LIMIT ?2",
            forget: &["DELETE FROM twin_history WHERE id = ?1"],
            note: None,
        },
    })
}

impl Sqlite {
    /// Forgets what is too old. A bounded amount.
    pub(super) fn forget(&self, what: Prune) -> Found<'_, Pruned> {
        if self.hand.is_some() {
            let kind = ReadKind::Retention;
            return self.read(kind, Turn::Server, move |connection| prune(connection, &what, None));
        }
        let (reply, answer) = oneshot::channel();
        let (path, state, disk) = (self.path.clone(), Arc::clone(&self.write_state), self.disk.clone());
        let started = spawn("store-retain".to_owned(), move || {
            // Whoever asked may have gone away.
            let _ = reply.send(open_and_prune(&path, &what, &state, disk.as_deref()));
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

fn open_and_prune(path: &Path, what: &Prune, state: &WriteState, disk: Option<&Disk>) -> Result<Pruned> {
    let connection = connection::open_for_writing(path).map_err(|error: StoreError| {
        tracing::error!(%error, "retention");
        StorageFault::Io
    })?;
    prune(&connection, what, disk).map_err(|error| {
        tracing::error!(%error, "SQLite");
        let fault = disk.map_or(fault(&error), |disk| disk.seen_in(fault(&error)));
        if let (StorageFault::Full, Some(disk)) = (fault, disk) {
            // It makes room when it comes next.
            disk.give_up_reserve();
        }
        state.met(fault);
        Error::from(fault)
    })
}

/// Goes through the rows in the order of their making, up to the first that is too young whoever owns it.
/// Where the disk has little room the log is used from its beginning again and again: what is left is not for
/// what makes room alone.
fn prune(connection: &Connection, what: &Prune, disk: Option<&Disk>) -> rusqlite::Result<Pruned> {
    let table = table(what.kept);
    let mut pruned = Pruned { count: 0, next: Some(what.after) };
    for _ in 0..STEPS_MAX {
        let Some(after) = pruned.next else { break };
        if let Some(disk) = disk.filter(|disk| disk.is_full() || disk.is_tight()) {
            checkpoint::empty_log(connection, disk.measure_free());
        }
        // Unchecked: whoever has the connection has no transaction open.
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        let (count, next) = match &table {
            Some(table) => step(&transaction, table, what, after)?,
            None => audit_retention::step(&transaction, what, STEP_ROWS)?,
        };
        transaction.commit()?;
        pruned.count += count;
        pruned.next = next;
        std::thread::sleep(STEP_PAUSE);
    }
    if what.kept == RetentionClass::Events && pruned.next.is_none() {
        forget_offsets(connection)?;
    }
    Ok(pruned)
}

/// Callers who have read up to a number before all events that are left: without their rows they go on at the same place.
const OFFSETS_OVER: &str = "SELECT caller_id, device_id FROM event_offsets \
    WHERE number < (SELECT min(id) FROM events) LIMIT ?1";
const OFFSET_FORGET: &str = "DELETE FROM event_offsets WHERE caller_id = ?1 AND device_id = ?2 \
    AND number < (SELECT min(id) FROM events)";

/// Forgets how far callers have read who have not come for as long as events are kept.
fn forget_offsets(connection: &Connection) -> rusqlite::Result<()> {
    for _ in 0..STEPS_MAX {
        // Looked for outside of the transaction, so that writers wait for what is forgotten alone.
        let over = connection
            .prepare_cached(OFFSETS_OVER)?
            .query_map([STEP_ROWS], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
        if over.is_empty() {
            break;
        }
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        for offset in over {
            transaction.prepare_cached(OFFSET_FORGET)?.execute(offset)?;
        }
        transaction.commit()?;
        std::thread::sleep(STEP_PAUSE);
    }
    Ok(())
}

/// A row that may be too old.
struct Row {
    number: i64,
    org: OrgId,
    at: i64,
    can_go: bool,
    state: i64,
}

/// One transaction; answers how many were forgotten, and where to go on.
fn step(
    transaction: &Transaction<'_>,
    table: &Table,
    what: &Prune,
    after: i64,
) -> rusqlite::Result<(u64, Option<i64>)> {
    let mut look = transaction.prepare_cached(table.look)?;
    let found = look.query_map((after, STEP_ROWS), |row| {
        let org = OrgId(row.get(1)?);
        Ok(Row { number: row.get(0)?, org, at: row.get(2)?, can_go: row.get(3)?, state: row.get(4)? })
    })?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut next = (found.len() == STEP_ROWS as usize).then_some(after);
    let mut count = 0;
    for row in found {
        if what.youngest().is_none_or(|youngest| row.at >= youngest.0) {
            next = None;
            break;
        }
        next = next.map(|_| row.number);
        let is_old = what.before_of(row.org).is_some_and(|before| row.at < before.0);
        if !is_old || !row.can_go {
            continue;
        }
        for sql in table.forget {
            transaction.prepare_cached(sql)?.execute([row.number])?;
        }
        if let Some(sql) = table.note {
            transaction.prepare_cached(sql)?.execute((row.org.0, row.state))?;
        }
        count += 1;
    }
    Ok((count, next))
}
