//! The steps of an operation, as statements.

mod device;
mod event;
mod presence;
mod record;
mod task;
mod twin;
mod webhook;
mod webhook_progress;

use covey_core::access::{AccessSteps, ApiKey, KeyDigest, Rights};
use covey_core::device::{CertificateRecord, Device, DeviceSteps, NewDevice, Tag};
use covey_core::retention::{Kept, RetentionSteps};
use covey_core::task::{DeviceRef, Idempotency, NewResult, Target, Task, TaskResult, TaskStatus, TaskSteps};
use std::collections::HashMap;

use covey_core::id::{DeviceId, DeviceKey, OrgId, RecordNumber, ResultId, Sn, TaskId, UnixMs};
use covey_core::port::{Transaction, TxResult};
use rusqlite::{CachedStatement, Connection};

use crate::sqlite::fault;

/// A transaction that is under way on the connection that writes.
pub(super) struct SqliteTransaction<'c> {
    connection: &'c Connection,
    now: UnixMs,
    /// The state in which each task that was read is stored now.
    stored: HashMap<i64, TaskStatus>,
    /// By how much the number of tasks in a state has changed.
    counts: HashMap<(OrgId, TaskStatus), i64>,
    /// How many events each organisation has got.
    event_counts: HashMap<OrgId, i64>,
    /// The last number of a record that was given, once one was needed.
    head: Option<RecordNumber>,
}

impl<'c> SqliteTransaction<'c> {
    pub(super) fn new(connection: &'c Connection, now: UnixMs) -> Self {
        let (stored, counts, event_counts) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { connection, now, stored, counts, event_counts, head: None }
    }

    /// Stores what was gathered over all operations.
    pub(super) fn flush(&mut self) -> TxResult<()> {
        let counts = std::mem::take(&mut self.counts);
        self.try_sql(|connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO task_counts (org_id, status, count) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO UPDATE SET count = count + excluded.count",
            )?;
            for ((org, status), change) in counts.into_iter().filter(|(_, change)| *change != 0) {
                statement.execute((org.0, status.number(), change))?;
            }
            Ok(())
        })?;
        self.flush_events()?;
        self.flush_head()
    }

    fn try_sql<T>(&self, steps: impl FnOnce(&'c Connection) -> rusqlite::Result<T>) -> TxResult<T> {
        steps(self.connection).map_err(|error| {
            tracing::error!(%error, "SQLite");
            fault(&error)
        })
    }

    fn sql<T>(
        &self,
        sql: &str,
        steps: impl FnOnce(&mut CachedStatement<'c>) -> rusqlite::Result<T>,
    ) -> TxResult<T> {
        self.try_sql(|connection| steps(&mut connection.prepare_cached(sql)?))
    }
}

impl Transaction for SqliteTransaction<'_> {
    fn now(&self) -> UnixMs {
        self.now
    }
}

impl TaskSteps for SqliteTransaction<'_> {
    fn task(&mut self, org: OrgId, id: TaskId) -> TxResult<Option<Task>> {
        self.read_task(org, id)
    }

    fn task_best(&mut self, org: OrgId, device: DeviceKey) -> TxResult<Option<Task>> {
        self.read_task_best(org, device)
    }

    fn tasks_overdue_of_every_org(&mut self, limit: u32) -> TxResult<Vec<Task>> {
        self.read_tasks_overdue(limit)
    }

    fn tasks_live_reach(&mut self, _org: OrgId, device: DeviceKey, count: u32) -> TxResult<bool> {
        self.has_open_tasks(device, count)
    }

    fn task_insert(&mut self, task: &mut Task) -> TxResult<()> {
        self.write_new_task(task)
    }

    fn task_update(&mut self, task: &Task) -> TxResult<()> {
        self.write_task(task)
    }

    fn result_equal(&mut self, task: &Task, result: &NewResult) -> TxResult<Option<ResultId>> {
        self.find_result(task, result)
    }

    fn result_insert(&mut self, task: &Task, result: &NewResult) -> TxResult<ResultId> {
        self.write_result(task, result)
    }

    fn results(&mut self, task: &Task) -> TxResult<Vec<TaskResult>> {
        self.try_sql(|connection| crate::sqlite::reader::results(connection, task.seq))
    }

    fn idempotency(&mut self, org: OrgId, key: &str) -> TxResult<Option<Idempotency>> {
        self.read_idempotency(org, key)
    }

    fn idempotency_put(&mut self, org: OrgId, key: &str, entry: &Idempotency) -> TxResult<()> {
        self.write_idempotency(org, key, entry)
    }

    fn idempotency_prune(&mut self, before: UnixMs, limit: u32) -> TxResult<usize> {
        self.sql(
            "DELETE FROM idempotency WHERE (org_id, key) IN \
             (SELECT org_id, key FROM idempotency WHERE created_at < ?1 LIMIT ?2)",
            |statement| statement.execute((before.0, limit)),
        )
    }
}

impl DeviceSteps for SqliteTransaction<'_> {
    fn device_target(&mut self, org: OrgId, device: &DeviceRef) -> TxResult<Option<Target>> {
        self.read_target(org, device)
    }

    fn device(&mut self, org: OrgId, device_id: DeviceId) -> TxResult<Option<Device>> {
        self.read_device(org, device_id)
    }

    fn sn_is_taken(&mut self, sn: &Sn) -> TxResult<bool> {
        self.sql("SELECT 1 FROM devices WHERE sn = ?1 AND retired_at IS NULL", |statement| {
            statement.exists([sn.as_str()])
        })
    }

    fn device_id_free(&mut self, org: OrgId) -> TxResult<DeviceId> {
        self.sql("SELECT coalesce(max(device_id), 0) + 1 FROM devices WHERE org_id = ?1", |statement| {
            statement.query_row([org.0], |row| row.get(0).map(DeviceId))
        })
    }

    fn device_insert(&mut self, device: &NewDevice) -> TxResult<DeviceKey> {
        self.write_new_device(device)
    }

    fn device_retire(&mut self, device: DeviceKey) -> TxResult<()> {
        self.write_retirement(device)
    }

    fn tag_put(&mut self, device: DeviceKey, tag: &Tag) -> TxResult<i64> {
        self.write_tag(device, tag)
    }

    fn tags_beside(&mut self, device: DeviceKey, tag: &str) -> TxResult<u32> {
        self.sql("SELECT count(*) FROM device_tags WHERE device_key = ?1 AND tag <> ?2", |statement| {
            statement.query_row((device.0, tag), |row| row.get(0))
        })
    }

    fn certificate_insert(&mut self, device: DeviceKey, certificate: &CertificateRecord) -> TxResult<()> {
        self.sql(
            "INSERT INTO certificates (serial, device_key, org_id, issued_at, not_after) \
             SELECT ?1, id, org_id, ?3, ?4 FROM devices WHERE id = ?2",
            |statement| {
                let values = (&certificate.serial_hex, device.0, self.now.0, certificate.not_after.0);
                statement.execute(values).map(drop)
            },
        )
    }
}

impl AccessSteps for SqliteTransaction<'_> {
    fn org_ensure(&mut self, name: &str) -> TxResult<OrgId> {
        self.sql(
            "INSERT INTO orgs (name, created_at) VALUES (?1, ?2) \
             ON CONFLICT DO UPDATE SET name = excluded.name RETURNING id",
            |statement| statement.query_row((name, self.now.0), |row| row.get(0).map(OrgId)),
        )
    }

    fn api_key_insert(
        &mut self,
        org: OrgId,
        name: &str,
        rights: Rights,
        digest: &KeyDigest,
    ) -> TxResult<ApiKey> {
        self.sql(
            "INSERT INTO api_keys (org_id, name, rights, digest, created_at) VALUES (?1, ?2, ?3, ?4, ?5) \
             RETURNING id, org_id, (SELECT o.name FROM orgs o WHERE o.id = org_id), name, rights, created_at",
            |statement| {
                let values = (org.0, name, rights.0, digest.as_slice(), self.now.0);
                statement.query_row(values, crate::sqlite::rows::api_key)
            },
        )
    }

    fn api_key_exists(&mut self) -> TxResult<bool> {
        self.sql("SELECT 1 FROM api_keys", |statement| statement.exists([]))
    }

    fn api_key_revoke(&mut self, id: i64) -> TxResult<bool> {
        // The digest makes room: a certificate that stood for this key may be registered anew.
        self.sql(
            "UPDATE api_keys SET revoked_at = ?2, digest = randomblob(32) WHERE id = ?1 AND revoked_at IS NULL",
            |statement| Ok(statement.execute((id, self.now.0))? > 0),
        )
    }
}

impl RetentionSteps for SqliteTransaction<'_> {
    fn retention_put(&mut self, org: OrgId, kept: Kept, days: Option<u32>) -> TxResult<()> {
        match days {
            Some(days) => self.sql(
                "INSERT OR REPLACE INTO retention (org_id, kept, days) VALUES (?1, ?2, ?3)",
                |statement| statement.execute((org.0, kept.name(), days)).map(drop),
            ),
            None => self.sql("DELETE FROM retention WHERE org_id = ?1 AND kept = ?2", |statement| {
                statement.execute((org.0, kept.name())).map(drop)
            }),
        }
    }
}
