//! The threads that read, and what they can be asked.

use covey_core::access::{AccessReader, ApiKey, Caller, KeyDigest};
use covey_core::device::{Device, DeviceFilter, DeviceIdentity, DevicePage, DeviceReader, Tag};
use covey_core::error::{Error, Result, StorageFault};
use covey_core::id::{DeviceKey, OrgId, Sn, TaskId, UnixMs};
use covey_core::port::{BoxFuture, Page, PageRequest};
use covey_core::retention::{Kept, OrgRetention, RetentionReader};
use covey_core::task::{
    Task, TaskCount, TaskDetail, TaskFilter, TaskPage, TaskReader, TaskResult, TaskStatus,
};
use crossbeam_channel::{Receiver, TrySendError};
use futures_channel::oneshot;
use rusqlite::{Connection, OptionalExtension, ToSql};

use crate::sqlite::{Sqlite, fault, rows, statements};

/// A read on its way to a thread.
pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// Runs until the last sender is gone.
pub(super) fn run(connection: &Connection, queue: &Receiver<Read>) {
    queue.iter().for_each(|read| read(connection));
}

impl Sqlite {
    pub(super) fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            let outcome = query(connection).map_err(|error| {
                tracing::error!(%error, "SQLite");
                Error::from(fault(&error))
            });
            // Whoever asked may have gone away.
            let _ = reply.send(outcome);
        });
        let sent = match &self.reads {
            None => Err(StorageFault::Stopped),
            Some(reads) => reads.try_send(read).map_err(|error| match error {
                TrySendError::Full(_) => StorageFault::Overloaded,
                TrySendError::Disconnected(_) => StorageFault::Stopped,
            }),
        };
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or(Err(Error::from(StorageFault::Stopped)))
        })
    }
}

impl TaskReader for Sqlite {
    fn task_get(&self, caller: &Caller, id: TaskId) -> BoxFuture<'_, Result<Option<TaskDetail>>> {
        let org = caller.org;
        self.read(move |connection| {
            // One transaction, so that the task and its results are of one moment.
            let snapshot = connection.unchecked_transaction()?;
            let mut statement = snapshot.prepare_cached(statements::TASK)?;
            let task = statement.query_row((id.0.as_bytes(), org.0), rows::task).optional()?;
            let Some(task) = task else { return Ok(None) };
            let results = results(&snapshot, task.seq)?;
            Ok(Some(TaskDetail { task, results }))
        })
    }

    fn task_list(
        &self,
        caller: &Caller,
        filter: TaskFilter,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<TaskPage>> {
        let org = caller.org;
        self.read(move |connection| task_page(connection, org, &filter, page))
    }

    fn task_announceable(
        &self,
        device: DeviceKey,
        now: UnixMs,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Task>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(statements::TASK_ANNOUNCEABLE)?;
            statement.query_map((device.0, now.0, limit), rows::task)?.collect()
        })
    }

    fn task_lapsed_of_every_org(
        &self,
        after: (UnixMs, i64),
        now: UnixMs,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Task>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(statements::TASK_LAPSED)?;
            statement.query_map((after.0.0, after.1, now.0, limit), rows::task)?.collect()
        })
    }

    fn task_overdue_of_every_org(&self, now: UnixMs) -> BoxFuture<'_, Result<bool>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(statements::TASK_OVERDUE_ANY)?;
            statement.query_row([now.0], |row| row.get(0))
        })
    }

    fn task_waiting_of_every_org(
        &self,
        devices: Vec<DeviceKey>,
        now: UnixMs,
    ) -> BoxFuture<'_, Result<Vec<DeviceKey>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(statements::TASK_WAITING)?;
            let mut waiting = Vec::new();
            for device in devices {
                if statement.exists((device.0, now.0))? {
                    waiting.push(device);
                }
            }
            Ok(waiting)
        })
    }

    fn task_final_of_every_org(&self, ids: Vec<TaskId>) -> BoxFuture<'_, Result<Vec<TaskDetail>>> {
        self.read(move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let mut statement = snapshot.prepare_cached(statements::TASK_FINAL)?;
            let mut details = Vec::new();
            for id in ids {
                if let Some(task) = statement.query_row([id.0.as_bytes()], rows::task).optional()? {
                    let results = results(&snapshot, task.seq)?;
                    details.push(TaskDetail { task, results });
                }
            }
            Ok(details)
        })
    }

    fn task_counts_of_every_org(&self) -> BoxFuture<'_, Result<Vec<TaskCount>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT status, sum(count) FROM task_counts GROUP BY status ORDER BY status",
            )?;
            let counts = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
            counts
                .map(|count| {
                    let (number, count) = count?;
                    let status = TaskStatus::from_number(number).unwrap_or(TaskStatus::Undefined);
                    Ok(TaskCount { status, count: u64::try_from(count).unwrap_or(0) })
                })
                .collect()
        })
    }
}

impl DeviceReader for Sqlite {
    fn device_list(
        &self,
        caller: &Caller,
        filter: DeviceFilter,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<DevicePage>> {
        let org = caller.org;
        self.read(move |connection| device_page(connection, org, &filter, page))
    }

    fn device_of_sn_of_every_org(&self, sn: Sn) -> BoxFuture<'_, Result<Option<DeviceIdentity>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT d.id, d.org_id, d.device_id, d.sn FROM devices d \
                 WHERE d.sn = ?1 AND d.retired_at IS NULL \
                 AND EXISTS (SELECT 1 FROM certificates c WHERE c.device_key = d.id AND c.revoked_at IS NULL)",
            )?;
            statement.query_row([sn.as_str()], rows::identity).optional()
        })
    }

    fn device_sns_of_every_org(&self, after: Option<Sn>, limit: u32) -> BoxFuture<'_, Result<Vec<Sn>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT d.sn FROM devices d WHERE d.sn > ?1 AND d.retired_at IS NULL \
                 AND EXISTS (SELECT 1 FROM certificates c WHERE c.device_key = d.id AND c.revoked_at IS NULL) \
                 ORDER BY d.sn LIMIT ?2",
            )?;
            let after = after.as_ref().map_or("", Sn::as_str);
            statement.query_map((after, limit), |row| rows::sn(row, 0))?.collect()
        })
    }

    fn device_of_certificate_of_every_org(
        &self,
        sn: Sn,
        serial_hex: String,
    ) -> BoxFuture<'_, Result<Option<DeviceIdentity>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT d.id, d.org_id, d.device_id, d.sn FROM certificates c \
                 JOIN devices d ON d.id = c.device_key \
                 WHERE c.serial = ?1 AND c.revoked_at IS NULL AND d.sn = ?2 AND d.retired_at IS NULL",
            )?;
            statement.query_row((serial_hex, sn.as_str()), rows::identity).optional()
        })
    }
}

impl AccessReader for Sqlite {
    fn api_key_of_every_org(&self, digest: KeyDigest) -> BoxFuture<'_, Result<Option<ApiKey>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT k.id, k.org_id, o.name, k.name, k.rights, k.created_at FROM api_keys k \
                 JOIN orgs o ON o.id = k.org_id WHERE k.digest = ?1 AND k.revoked_at IS NULL",
            )?;
            statement.query_row([digest.as_slice()], rows::api_key).optional()
        })
    }

    fn api_key_list_of_every_org(&self) -> BoxFuture<'_, Result<Vec<ApiKey>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT k.id, k.org_id, o.name, k.name, k.rights, k.created_at FROM api_keys k \
                 JOIN orgs o ON o.id = k.org_id WHERE k.revoked_at IS NULL ORDER BY k.id",
            )?;
            statement.query_map([], rows::api_key)?.collect()
        })
    }
}

impl RetentionReader for Sqlite {
    fn retention_of_every_org(&self) -> BoxFuture<'_, Result<Vec<OrgRetention>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT org_id, kept, days FROM retention")?;
            let found = statement.query_map([], |row| {
                let (org, days) = (OrgId(row.get(0)?), rows::number(row, 2)?);
                let kept = Kept::from_name(row.get_ref(1)?.as_str()?);
                Ok(kept.map(|kept| OrgRetention { org, kept, days }))
            })?;
            let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(found.into_iter().flatten().collect())
        })
    }
}

/// All results of a task, newest first.
pub(super) fn results(connection: &Connection, task_seq: i64) -> rusqlite::Result<Vec<TaskResult>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, ext_id, status_code, received_at, body_kind, body FROM results \
         WHERE task_seq = ?1 ORDER BY id DESC",
    )?;
    statement.query_map([task_seq], rows::result)?.collect()
}

/// A device with its tags.
pub(super) fn with_tags(connection: &Connection, mut device: Device) -> rusqlite::Result<Device> {
    let mut statement =
        connection.prepare_cached("SELECT tag, value FROM device_tags WHERE device_key = ?1 ORDER BY tag")?;
    let tags = statement
        .query_map([device.identity.device.0], |row| Ok(Tag { tag: row.get(0)?, value: row.get(1)? }))?;
    device.tags = tags.collect::<rusqlite::Result<_>>()?;
    Ok(device)
}

/// The conditions of a list, each with its value.
#[derive(Default)]
pub(super) struct Conditions {
    sql: Vec<String>,
    values: Vec<Box<dyn ToSql>>,
}

impl Conditions {
    pub(super) fn add(&mut self, sql: &str, value: impl ToSql + 'static) {
        self.sql.push(sql.to_owned());
        self.values.push(Box::new(value));
    }

    /// That a column has one of these values, or none of them; nothing if
    /// there are no values.
    pub(super) fn add_among(&mut self, column: &str, is_one: bool, values: &[i64]) {
        if values.is_empty() {
            return;
        }
        let word = if is_one { "IN" } else { "NOT IN" };
        self.sql.push(format!("{column} {word} ({})", vec!["?"; values.len()].join(", ")));
        self.values.extend(values.iter().map(|value| Box::new(*value) as Box<dyn ToSql>));
    }

    pub(super) fn add_if(&mut self, sql: &str, value: Option<impl ToSql + 'static>) {
        if let Some(value) = value {
            self.add(sql, value);
        }
    }

    pub(super) fn clause(&self) -> String {
        self.sql.join(" AND ")
    }

    pub(super) fn parameters(&self) -> Vec<&dyn ToSql> {
        self.values.iter().map(AsRef::as_ref).collect()
    }
}

fn task_page(
    connection: &Connection,
    org: OrgId,
    filter: &TaskFilter,
    page: PageRequest,
) -> rusqlite::Result<TaskPage> {
    let mut conditions = Conditions::default();
    conditions.add("t.org_id = ?", org.0);
    conditions.add_if("t.device_id = ?", filter.device_id.map(|id| id.0));
    conditions.add_if("t.ext_task_id = ?", filter.ext_task_id.clone());
    conditions.add_if("t.status = ?", filter.status.map(TaskStatus::number));
    conditions.add_if("t.created_at >= ?", filter.created_after.map(|at| at.0));
    conditions.add_if("t.created_at < ?", filter.created_before.map(|at| at.0));
    let clause = conditions.clause();
    let snapshot = connection.unchecked_transaction()?;
    let total = if *filter == TaskFilter::default() {
        let sql = "SELECT coalesce(sum(count), 0) FROM task_counts WHERE org_id = ?1";
        snapshot.prepare_cached(sql)?.query_row([org.0], |row| row.get::<_, i64>(0))?
    } else {
        let sql = format!("SELECT count(*) FROM tasks t WHERE {clause}");
        snapshot.prepare_cached(&sql)?.query_row(conditions.parameters().as_slice(), |row| row.get(0))?
    };
    let sql = format!(
        "SELECT {} FROM tasks t WHERE {clause} \
         ORDER BY t.seq DESC LIMIT {} OFFSET {}",
        statements::task_columns!(),
        page.size,
        page.offset()
    );
    let mut statement = snapshot.prepare(&sql)?;
    let items = statement.query_map(conditions.parameters().as_slice(), rows::task)?;
    Ok(Page { items: items.collect::<rusqlite::Result<_>>()?, total: u64::try_from(total).unwrap_or(0) })
}

fn device_page(
    connection: &Connection,
    org: OrgId,
    filter: &DeviceFilter,
    page: PageRequest,
) -> rusqlite::Result<DevicePage> {
    let mut conditions = Conditions::default();
    conditions.add("d.org_id = ?", org.0);
    conditions.add_if("d.device_id = ?", filter.device_id.map(|id| id.0));
    conditions.add_if("d.sn = ?", filter.sn.clone());
    conditions.add_if("coalesce(c.online, 0) = ?", filter.online);
    match filter.tag.clone() {
        None => {}
        Some((tag, None)) => {
            conditions.add("d.id IN (SELECT device_key FROM device_tags WHERE tag = ?)", tag);
        }
        Some((tag, Some(value))) => {
            conditions.add("d.id IN (SELECT device_key FROM device_tags WHERE tag = ?", tag);
            conditions.add("value = ?)", value);
        }
    }
    let clause = conditions.clause();
    let from = "devices d LEFT JOIN connections c ON c.device_key = d.id";
    let snapshot = connection.unchecked_transaction()?;
    let total: i64 = snapshot
        .prepare_cached(&format!("SELECT count(*) FROM {from} WHERE d.retired_at IS NULL AND {clause}"))?
        .query_row(conditions.parameters().as_slice(), |row| row.get(0))?;
    let sql = format!(
        "SELECT {} FROM {from} WHERE d.retired_at IS NULL AND {clause} ORDER BY d.device_id \
         LIMIT {} OFFSET {}",
        rows::DEVICE_COLUMNS,
        page.size,
        page.offset()
    );
    let mut statement = snapshot.prepare(&sql)?;
    let devices = statement.query_map(conditions.parameters().as_slice(), rows::device)?;
    let items = devices.map(|device| with_tags(&snapshot, device?)).collect::<rusqlite::Result<_>>()?;
    Ok(Page { items, total: u64::try_from(total).unwrap_or(0) })
}
