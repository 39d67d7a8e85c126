//! What can be read.

use std::collections::HashMap;
use std::sync::Arc;

use covey_core::access::{AccessReader, ApiKey, Caller, KeyDigest};
use covey_core::device::{DeviceFilter, DeviceIdentity, DevicePage, DeviceReader};
use covey_core::error::Result;
use covey_core::id::{DeviceKey, Sn, TaskId, UnixMs};
use covey_core::port::{BoxFuture, PageRequest};
use covey_core::retention::{OrgRetention, RetentionReader};
use covey_core::task::{Task, TaskCount, TaskDetail, TaskFilter, TaskPage, TaskReader, TaskResult};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::postgres::lists::SNAPSHOT_OF_TASKS;
use crate::postgres::pipeline::{Reply, query};
use crate::postgres::statements::Reading;
use crate::postgres::{Postgres, lists, pipeline};
use crate::rows;
use crate::rows::{Columns, Read};

/// Values of a statement that can be given to it twice.
pub(super) type Values = Vec<Box<dyn ToSql + Sync + Send>>;

impl Postgres {
    /// One prepared statement, each row of which says one thing.
    pub(super) fn rows<T: Send + 'static>(
        &self,
        statement: fn(&Reading) -> &tokio_postgres::Statement,
        values: Values,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> BoxFuture<'static, Result<Vec<T>>> {
        let values = Arc::new(values);
        self.reads.read(move |session| {
            let values = Arc::clone(&values);
            Box::pin(async move {
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as _).collect();
                session
                    .client
                    .query(statement(&session.sql), &values)
                    .await?
                    .iter()
                    .map(|row| read(row))
                    .collect()
            })
        })
    }

    pub(super) fn row<T: Send + 'static>(
        &self,
        statement: fn(&Reading) -> &tokio_postgres::Statement,
        values: Values,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> BoxFuture<'static, Result<Option<T>>> {
        let rows = self.rows(statement, values, read);
        Box::pin(async move { Ok(rows.await?.into_iter().next()) })
    }
}

impl TaskReader for Postgres {
    fn task_get(&self, caller: &Caller, id: TaskId) -> BoxFuture<'_, Result<Option<TaskDetail>>> {
        let org = caller.org;
        self.reads.read(move |session| {
            Box::pin(async move {
                let (client, sql) = (&session.client, &session.sql);
                let of_task = || vec![Box::new(id.0) as _, Box::new(org.0) as _];
                let steps = vec![
                    pipeline::batch(client, SNAPSHOT_OF_TASKS),
                    query(client, &sql.task_open, of_task()),
                    query(client, &sql.task_done, of_task()),
                    query(client, &sql.results, vec![Box::new(id.0)]),
                    pipeline::batch(client, "COMMIT"),
                ];
                let mut replies = pipeline::run(steps).await?.into_iter().skip(1).map(Reply::rows);
                let tasks = replies.next().into_iter().chain(replies.next()).flatten().collect::<Vec<_>>();
                let Some(row) = tasks.first() else { return Ok(None) };
                let results = replies.next().unwrap_or_default();
                let results = rows::each(&results, rows::result)?;
                Ok(Some(TaskDetail { task: rows::task(row)?, results }))
            })
        })
    }

    fn task_list(
        &self,
        caller: &Caller,
        filter: TaskFilter,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<TaskPage>> {
        let org = caller.org;
        self.reads.read(move |session| {
            let filter = filter.clone();
            Box::pin(async move { lists::task_page(session, org, &filter, page).await })
        })
    }

    fn task_announceable(
        &self,
        device: DeviceKey,
        now: UnixMs,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Task>>> {
        let values: Values = vec![Box::new(device.0), Box::new(now.0), Box::new(i64::from(limit))];
        self.rows(|sql| &sql.task_announceable, values, rows::task)
    }

    fn task_lapsed_of_every_org(
        &self,
        after: (UnixMs, i64),
        now: UnixMs,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Task>>> {
        let values: Values =
            vec![Box::new(after.0.0), Box::new(after.1), Box::new(now.0), Box::new(i64::from(limit))];
        self.rows(|sql| &sql.task_lapsed, values, rows::task)
    }

    fn task_overdue_of_every_org(&self, now: UnixMs) -> BoxFuture<'_, Result<bool>> {
        let found = self.row(|sql| &sql.task_overdue_any, vec![Box::new(now.0)], rows::first);
        Box::pin(async move { Ok(found.await?.unwrap_or(false)) })
    }

    fn task_waiting_of_every_org(
        &self,
        devices: Vec<DeviceKey>,
        now: UnixMs,
    ) -> BoxFuture<'_, Result<Vec<DeviceKey>>> {
        let keys: Vec<i64> = devices.iter().map(|device| device.0).collect();
        self.rows(|sql| &sql.task_waiting, vec![Box::new(keys), Box::new(now.0)], rows::first)
    }

    fn task_final_of_every_org(&self, ids: Vec<TaskId>) -> BoxFuture<'_, Result<Vec<TaskDetail>>> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        self.reads.read(move |session| {
            let ids = ids.clone();
            Box::pin(async move {
                let (client, sql) = (&session.client, &session.sql);
                let steps = vec![
                    pipeline::batch(client, SNAPSHOT_OF_TASKS),
                    query(client, &sql.task_final, vec![Box::new(ids.clone())]),
                    query(client, &sql.results_of, vec![Box::new(ids)]),
                    pipeline::batch(client, "COMMIT"),
                ];
                let mut replies = pipeline::run(steps).await?.into_iter().skip(1).map(Reply::rows);
                let tasks = replies.next().unwrap_or_default();
                let mut results: HashMap<Uuid, Vec<TaskResult>> = HashMap::new();
                for row in replies.next().unwrap_or_default() {
                    results.entry(rows::get(&row, 6)?).or_default().push(rows::result(&row)?);
                }
                let detail = |row: &Row| {
                    let task = rows::task(row)?;
                    let results = results.remove(&task.id.0).unwrap_or_default();
                    Ok(TaskDetail { task, results })
                };
                tasks.iter().map(detail).collect()
            })
        })
    }

    fn task_counts_of_every_org(&self) -> BoxFuture<'_, Result<Vec<TaskCount>>> {
        self.rows(|sql| &sql.task_counts, Vec::new(), rows::task_count)
    }
}

impl DeviceReader for Postgres {
    fn device_list(
        &self,
        caller: &Caller,
        filter: DeviceFilter,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<DevicePage>> {
        let org = caller.org;
        self.reads.read(move |session| {
            let filter = filter.clone();
            Box::pin(async move { lists::device_page(session, org, &filter, page).await })
        })
    }

    fn device_of_sn_of_every_org(&self, sn: Sn) -> BoxFuture<'_, Result<Option<DeviceIdentity>>> {
        self.row(|sql| &sql.device_of_sn, vec![Box::new(sn.as_str().to_owned())], rows::identity)
    }

    fn device_sns_of_every_org(&self, after: Option<Sn>, limit: u32) -> BoxFuture<'_, Result<Vec<Sn>>> {
        let after = after.as_ref().map_or("", Sn::as_str).to_owned();
        let values: Values = vec![Box::new(after), Box::new(i64::from(limit))];
        self.rows(|sql| &sql.device_sns, values, rows::first)
    }

    fn device_of_certificate_of_every_org(
        &self,
        sn: Sn,
        serial_hex: String,
    ) -> BoxFuture<'_, Result<Option<DeviceIdentity>>> {
        let values: Values = vec![Box::new(serial_hex), Box::new(sn.as_str().to_owned())];
        self.row(|sql| &sql.device_of_certificate, values, rows::identity)
    }
}

impl AccessReader for Postgres {
    fn api_key_of_every_org(&self, digest: KeyDigest) -> BoxFuture<'_, Result<Option<ApiKey>>> {
        self.row(|sql| &sql.api_key, vec![Box::new(digest.to_vec())], rows::api_key)
    }

    fn api_key_list_of_every_org(&self) -> BoxFuture<'_, Result<Vec<ApiKey>>> {
        self.rows(|sql| &sql.api_keys, Vec::new(), rows::api_key)
    }
}

impl RetentionReader for Postgres {
    fn retention_of_every_org(&self) -> BoxFuture<'_, Result<Vec<OrgRetention>>> {
        let found = self.rows(|sql| &sql.retention, Vec::new(), rows::org_retention);
        Box::pin(async move { Ok(found.await?.into_iter().flatten().collect()) })
    }
}
