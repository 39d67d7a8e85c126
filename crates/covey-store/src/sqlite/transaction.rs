//! A transaction on the connection that writes, and what it gathers over all operations.

use std::collections::{BTreeMap, HashMap};

use covey_core::audit::AuditGroup;
use covey_core::error::StorageFault;
use covey_core::id::{OrgId, RecordNumber, UnixMs};
use covey_core::port::{Transaction, TxResult};
use covey_core::task::TaskStatus;
use covey_core::usage::Usage;
use rusqlite::{CachedStatement, Connection, Params};

use crate::sqlite::fault;

/// A transaction that is under way on the connection that writes.
pub(super) struct SqliteTransaction<'c> {
    pub(super) connection: &'c Connection,
    pub(super) now: UnixMs,
    /// The state in which each task that was read is stored now.
    pub(super) stored: HashMap<i64, TaskStatus>,
    /// By how much the number of tasks in a state has changed.
    pub(super) counts: HashMap<(OrgId, TaskStatus), i64>,
    /// How many events each organisation has got.
    pub(super) event_counts: HashMap<OrgId, i64>,
    /// What each organisation has used.
    pub(super) usage: BTreeMap<OrgId, Usage>,
    /// The last number of a record that was given, once one was needed.
    pub(super) head: Option<RecordNumber>,
    /// What the audit log is told.
    pub(super) audit: AuditGroup,
    often: [Option<CachedStatement<'c>>; Often::ALL],
}

/// Statements that nearly each operation of a group runs: each is looked up once for all of them.
#[derive(Clone, Copy)]
pub(super) enum Often {
    /// Puts a record into the outbox.
    Record,
    /// Puts an event beside it.
    Event,
}

impl Often {
    const ALL: usize = 2;
}

impl<'c> SqliteTransaction<'c> {
    pub(super) fn new(connection: &'c Connection, now: UnixMs) -> Self {
        let (stored, counts, event_counts) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self {
            connection,
            now,
            stored,
            counts,
            event_counts,
            usage: BTreeMap::new(),
            head: None,
            audit: AuditGroup::default(),
            often: Default::default(),
        }
    }

    /// Stores what was gathered over all operations.
    pub(super) fn flush(&mut self) -> TxResult<()> {
        let counts = std::mem::take(&mut self.counts);
        for ((org, status), change) in counts.into_iter().filter(|(_, change)| *change != 0) {
            self.change(
                "INSERT INTO task_counts (org_id, status, count) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO UPDATE SET count = count + excluded.count",
                (org.0, status.number(), change),
            )?;
        }
        self.flush_events()?;
        self.flush_usage()?;
        self.flush_audit()?;
        self.flush_head()
    }

    pub(super) fn try_sql<T>(
        &self,
        steps: impl FnOnce(&'c Connection) -> rusqlite::Result<T>,
    ) -> TxResult<T> {
        steps(self.connection).map_err(reported)
    }

    /// How many rows a statement has changed that is kept for the next operations.
    pub(super) fn change_often(&mut self, which: Often, sql: &str, values: impl Params) -> TxResult<usize> {
        let kept = &mut self.often[which as usize];
        let statement = match kept {
            Some(statement) => statement,
            None => kept.insert(self.connection.prepare_cached(sql).map_err(reported)?),
        };
        statement.execute(values).map_err(reported)
    }
}

/// A fault, which is logged.
fn reported(error: rusqlite::Error) -> StorageFault {
    tracing::error!(%error, "SQLite");
    fault(&error)
}

impl Transaction for SqliteTransaction<'_> {
    fn now(&self) -> UnixMs {
        self.now
    }
}
