//! Steps on tasks, results and idempotency keys.

use covey_core::id::{DeviceKey, OrgId, ResultId, TaskId, UnixMs};
use covey_core::port::TxResult;
use covey_core::task::{Idempotency, NewResult, Task};
use rusqlite::OptionalExtension;
use rusqlite::params;
use uuid::Uuid;

use crate::encoding;
use crate::sqlite::transaction::SqliteTransaction;
use crate::sqlite::{rows, statements};

impl SqliteTransaction<'_> {
    pub(super) fn read_task(&mut self, org: OrgId, id: TaskId) -> TxResult<Option<Task>> {
        let task = self.sql(statements::TASK, |statement| {
            statement.query_row((id.0.as_bytes(), org.0), rows::task).optional()
        })?;
        Ok(self.remember(task))
    }

    pub(super) fn read_task_best(&mut self, org: OrgId, device: DeviceKey) -> TxResult<Option<Task>> {
        let task = self.sql(statements::TASK_BEST, |statement| {
            statement.query_row((device.0, self.now.0, org.0), rows::task).optional()
        })?;
        Ok(self.remember(task))
    }

    pub(super) fn read_tasks_overdue(&mut self, limit: u32) -> TxResult<Vec<Task>> {
        let tasks = self.sql(statements::TASK_OVERDUE, |statement| {
            statement.query_map((self.now.0, limit), rows::task)?.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        tasks.iter().for_each(|task| {
            self.stored.insert(task.seq, task.status);
        });
        Ok(tasks)
    }

    fn remember(&mut self, task: Option<Task>) -> Option<Task> {
        if let Some(task) = &task {
            self.stored.insert(task.seq, task.status);
        }
        task
    }

    pub(super) fn has_open_tasks(&self, device: DeviceKey, count: u32) -> TxResult<bool> {
        let Some(skip) = count.checked_sub(1) else { return Ok(true) };
        self.sql(statements::TASK_OPEN_BEYOND, |statement| statement.exists((device.0, skip)))
    }

    pub(super) fn write_new_task(&mut self, task: &mut Task) -> TxResult<()> {
        task.seq = self.sql(statements::TASK_INSERT, |statement| {
            statement.insert(params![
                task.id.0.as_bytes(),
                task.org.0,
                task.device.0,
                task.device_id.0,
                task.sn.as_str(),
                task.ext_task_id,
                task.method_code,
                task.method,
                task.priority,
                task.push_only,
                task.created_at.0,
                task.expires_at.0,
                task.status.number(),
                task.pending_at.map(|at| at.0),
                task.locked_at.map(|at| at.0),
                task.lease_until.map(|at| at.0),
                task.deliveries,
                task.results,
                encoding::timeline_text(&task.timeline),
                task.payload.as_deref(),
            ])
        })?;
        self.stored.insert(task.seq, task.status);
        *self.counts.entry((task.org, task.status)).or_default() += 1;
        Ok(())
    }

    pub(super) fn write_task(&mut self, task: &Task) -> TxResult<()> {
        self.sql(statements::TASK_UPDATE, |statement| {
            statement.execute(params![
                task.seq,
                task.status.number(),
                task.pending_at.map(|at| at.0),
                task.locked_at.map(|at| at.0),
                task.lease_until.map(|at| at.0),
                task.deliveries,
                task.results,
                encoding::timeline_text(&task.timeline),
            ])
        })?;
        if let Some(before) = self.stored.insert(task.seq, task.status) {
            *self.counts.entry((task.org, before)).or_default() -= 1;
            *self.counts.entry((task.org, task.status)).or_default() += 1;
        }
        Ok(())
    }

    pub(super) fn find_result(&self, task: &Task, result: &NewResult) -> TxResult<Option<ResultId>> {
        self.sql(
            "SELECT id FROM results WHERE task_seq = ?1 AND ext_id = ?2 AND status_code = ?3 \
             AND body_hash = ?4 AND body_kind = ?5 AND body = ?6",
            |statement| {
                let values = params![
                    task.seq,
                    result.ext_id,
                    result.status_code,
                    result.body_hash(),
                    encoding::body_kind(&result.body),
                    result.body.text(),
                ];
                statement.query_row(values, |row| row.get(0).map(ResultId)).optional()
            },
        )
    }

    pub(super) fn write_result(&self, task: &Task, result: &NewResult) -> TxResult<ResultId> {
        self.sql(
            "INSERT INTO results (task_seq, org_id, ext_id, status_code, body_hash, received_at, body_kind, \
             body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            |statement| {
                let values = params![
                    task.seq,
                    task.org.0,
                    result.ext_id,
                    result.status_code,
                    result.body_hash(),
                    self.now.0,
                    encoding::body_kind(&result.body),
                    result.body.text(),
                ];
                statement.insert(values).map(ResultId)
            },
        )
    }

    pub(super) fn read_idempotency(&self, org: OrgId, key: &str) -> TxResult<Option<Idempotency>> {
        self.sql(
            "SELECT request_digest, task_id, created_at FROM idempotency WHERE org_id = ?1 AND key = ?2",
            |statement| {
                let entry = statement.query_row((org.0, key), |row| {
                    Ok(Idempotency {
                        request_digest: row.get(0)?,
                        task: TaskId(Uuid::from_bytes(row.get(1)?)),
                        created_at: UnixMs(row.get(2)?),
                    })
                });
                entry.optional()
            },
        )
    }

    pub(super) fn write_idempotency(&self, org: OrgId, key: &str, entry: &Idempotency) -> TxResult<()> {
        self.sql(
            "INSERT OR REPLACE INTO idempotency (org_id, key, request_digest, task_id, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            |statement| {
                let values = (org.0, key, entry.request_digest, entry.task.0.as_bytes(), entry.created_at.0);
                statement.execute(values).map(drop)
            },
        )
    }
}
