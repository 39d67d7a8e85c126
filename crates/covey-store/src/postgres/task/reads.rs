//! The reads of tasks.

use std::collections::HashMap;

use covey_core::access::Caller;
use covey_core::id::{DeviceKey, OrgId, ResultId, TaskId, UnixMs};
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn};
use covey_core::task::{
    Lapse, RESULTS_BYTES_MAX, RESULTS_MAX, Task, TaskCount, TaskDetail, TaskFilter, TaskPage, TaskReader,
    TaskResults, TaskStatus,
};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::postgres::Postgres;
use crate::postgres::lists::{Conditions, page};
use crate::postgres::pipeline::{Value, values};
use crate::postgres::pool::ReadSession;
use crate::rows::{self, ListColumns, ListScope, Read};

/// The same for tasks that are sought by their ids. A month that is made late
/// takes in rows of before: to one who looked first it would be there, and empty.
/// So it is not made until the transaction ends. The locks are had before the
/// moment is fixed (PostgreSQL "LOCK", "Transaction Isolation"), and in the order
/// in which a month is taken out.
pub(crate) const SNAPSHOT_OF_TASKS: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     LOCK TABLE ONLY tasks_done, tasks_done_default, ONLY results, results_default IN ACCESS SHARE MODE";

/// The values that `newest_results!` takes.
pub(crate) fn newest_results<'v>(
    of: impl ToSql + Sync + Send + 'v,
    before: Option<ResultId>,
) -> Vec<Value<'v>> {
    let before = before.map_or(i64::MAX, |before| before.0);
    let bytes_max = i64::try_from(RESULTS_BYTES_MAX).unwrap_or(i64::MAX);
    values![of, before, i64::from(RESULTS_MAX), bytes_max]
}

/// Where it is told how many results there are.
const FOUND_AT: usize = 6;

/// The results that `newest_results!` answers.
pub(crate) fn results_from<'r>(rows: impl Iterator<Item = &'r Row>) -> Read<TaskResults> {
    let (mut results, mut found) = (Vec::new(), 0);
    for row in rows {
        results.push(rows::result(row)?);
        found = rows::get::<i64>(row, FOUND_AT)?;
    }
    let is_more = usize::try_from(found).is_ok_and(|found| found > results.len());
    Ok(TaskResults::of(results, is_more))
}

impl TaskReader for Postgres {
    fn task_get(
        &self,
        caller: &Caller,
        id: TaskId,
        before: Option<ResultId>,
    ) -> Found<'_, Option<TaskDetail>> {
        let org = caller.org;
        self.reads.read(ReadKind::Task, Turn::Org(org), move |session| {
            Box::pin(async move {
                let steps = [
                    session.query(|sql| &sql.task.task_open, values![id.0, org.0]),
                    session.query(|sql| &sql.task.task_done, values![id.0, org.0]),
                    session.query(|sql| &sql.task.results, newest_results(id.0, before)),
                ];
                let [open, done, results] = session.at_one_moment(SNAPSHOT_OF_TASKS, steps).await?;
                let Some(row) = open.first().or(done.first()) else { return Ok(None) };
                let task = rows::task(row)?;
                Ok(Some(TaskDetail::of(task, results_from(results.iter())?)))
            })
        })
    }

    fn task_list(&self, caller: &Caller, filter: TaskFilter, page: PageRequest) -> Found<'_, TaskPage> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::TASKS));
        let kind = ReadKind::of_tasks(&filter, page).within(scope.is_some());
        self.reads.read(kind, Turn::Org(org), move |session| {
            let (filter, scope) = (filter.clone(), scope.clone());
            Box::pin(async move { task_page(session, org, scope.as_ref(), &filter, page).await })
        })
    }

    fn task_announceable(&self, device: DeviceKey, now: UnixMs, limit: u32) -> Found<'_, Vec<Task>> {
        let values = values![device.0, now.0, i64::from(limit)];
        self.rows(
            ReadKind::TaskAnnounceable,
            Turn::Server,
            |sql| &sql.task.task_announceable,
            values,
            rows::task,
        )
    }

    fn task_lapsed_of_every_org(
        &self,
        after: (UnixMs, i64),
        now: UnixMs,
        limit: u32,
    ) -> Found<'_, Vec<Lapse>> {
        let values = values![after.0.0, after.1, now.0, i64::from(limit)];
        self.rows(ReadKind::TaskLapsed, Turn::Server, |sql| &sql.task.task_lapsed, values, rows::lapse)
    }

    fn task_overdue_of_every_org(&self, now: UnixMs) -> Found<'_, bool> {
        let found = self.row(
            ReadKind::TaskOverdue,
            Turn::Server,
            |sql| &sql.task.task_overdue_any,
            values![now.0],
            rows::first,
        );
        Box::pin(async move { Ok(found.await?.unwrap_or(false)) })
    }

    fn task_waiting_of_every_org(&self, devices: Vec<DeviceKey>, now: UnixMs) -> Found<'_, Vec<DeviceKey>> {
        let keys: Vec<i64> = devices.iter().map(|device| device.0).collect();
        self.rows(
            ReadKind::TaskWaiting,
            Turn::Server,
            |sql| &sql.task.task_waiting,
            values![keys, now.0],
            rows::first,
        )
    }

    fn task_final_of_every_org(&self, ids: Vec<TaskId>) -> Found<'_, Vec<TaskDetail>> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        self.reads.read(ReadKind::TaskFinal, Turn::Server, move |session| {
            let ids = ids.clone();
            Box::pin(async move {
                let steps = [
                    session.query(|sql| &sql.task.task_final, values![ids.clone()]),
                    session.query(|sql| &sql.task.results_of, newest_results(ids, None)),
                ];
                let [tasks, found] = session.at_one_moment(SNAPSHOT_OF_TASKS, steps).await?;
                let mut results: HashMap<Uuid, Vec<&Row>> = HashMap::new();
                for row in &found {
                    results.entry(rows::get(row, FOUND_AT + 1)?).or_default().push(row);
                }
                let detail = |row: &Row| {
                    let task = rows::task(row)?;
                    let results = results.remove(&task.id.0).unwrap_or_default();
                    Ok(TaskDetail::of(task, results_from(results.into_iter())?))
                };
                tasks.iter().map(detail).collect()
            })
        })
    }

    fn task_counts_of_every_org(&self) -> Found<'_, Vec<TaskCount>> {
        self.rows(
            ReadKind::TaskCounts,
            Turn::Server,
            |sql| &sql.task.task_counts,
            Vec::new(),
            rows::task_count,
        )
    }
}

pub(crate) async fn task_page(
    session: &ReadSession,
    org: OrgId,
    scope: Option<&ListScope>,
    filter: &TaskFilter,
    request: PageRequest,
) -> Read<TaskPage> {
    let mut conditions = Conditions::default();
    conditions.number("t.org_id = #", Some(org.0));
    conditions.scope(scope);
    conditions.number("t.device_id = #", filter.device_id.map(|id| id.0));
    conditions.text("t.ext_task_id = #", filter.ext_task_id.as_deref());
    conditions.number("t.status = #", filter.status.map(|status| i64::from(status.number())));
    conditions.number("t.created_at >= #", filter.created_after.map(|at| at.0));
    conditions.number("t.created_at < #", filter.created_before.map(|at| at.0));
    if conditions.is_impossible {
        return Ok(Page { items: Vec::new(), total: 0, is_cut: false });
    }
    let clause = conditions.clause();
    let tables: &[&str] = match filter.status.map(TaskStatus::is_final) {
        None => &["tasks_open", "tasks_done"],
        Some(false) => &["tasks_open"],
        Some(true) => &["tasks_done"],
    };
    let counts: Vec<_> =
        tables.iter().map(|table| format!("(SELECT count(*) FROM {table} t WHERE {clause})")).collect();
    let total = if scope.is_none() && *filter == TaskFilter::default() {
        "SELECT coalesce(sum(count), 0)::int8 FROM task_counts WHERE org_id = $1".to_owned()
    } else {
        format!("SELECT {}", counts.join(" + "))
    };
    // Each table gives as many as the page could need, from the end of its index.
    let (size, offset) = (u64::from(request.size), request.offset());
    let columns = rows::task_columns!();
    // No list shows what was asked of the devices, which may be much.
    let without_payload = columns.replace("t.payload", "NULL::text AS payload");
    let wanted = size.saturating_add(offset);
    let parts: Vec<_> = tables
        .iter()
        .map(|table| {
            format!(
                "(SELECT {without_payload} FROM {table} t WHERE {clause} ORDER BY t.seq DESC LIMIT {wanted})"
            )
        })
        .collect();
    let items = format!(
        "SELECT {columns} FROM ({}) AS t ORDER BY t.seq DESC LIMIT {size} OFFSET {offset}",
        parts.join(" UNION ALL ")
    );
    let (total, found) = page(session, &conditions, &total, &items).await?;
    Ok(Page { items: rows::each(&found, rows::task)?, total, is_cut: false })
}
