//! Tasks, results and idempotency keys. The statements whose cost must not grow with the
//! number of tasks ever made are constants, so that a test can show their query plans.

use covey_core::access::Caller;
use covey_core::id::{DeviceKey, OrgId, ResultId, TaskId, UnixMs};
use covey_core::node::WaitingTask;
use covey_core::port::{Filling, Found, Page, PageRequest, ReadKind, Turn, TxResult};
use covey_core::task::{
    Idempotency, Lapse, NewResult, RESULTS_MAX, Task, TaskCount, TaskDetail, TaskFilter, TaskPage,
    TaskReader, TaskResults, TaskStatus, TaskSteps,
};
use rusqlite::{Connection, params};

use crate::rows::{self, ListColumns, ListScope};
use crate::sqlite::Sqlite;
use crate::sqlite::conditions::Conditions;
use crate::sqlite::statement::Ask;
use crate::sqlite::transaction::SqliteTransaction;

/// A task by its id: id, organisation.
const TASK: &str =
    concat!("SELECT ", rows::task_columns!(), " FROM tasks t WHERE t.id = ?1 AND t.org_id = ?2");

/// The eligible task of a device that comes first: device, now, organisation.
/// The order is that of `Task::rank`, the condition that of `Task::is_eligible`.
const TASK_BEST: &str = concat!(
    "SELECT ",
    rows::task_columns!(),
    " FROM tasks t INDEXED BY tasks_open \
     WHERE t.device_key = ?1 AND t.status < 3 AND t.push_only = 0 AND t.expires_at > ?2 \
     AND (t.status < 2 OR t.lease_until IS NULL OR t.lease_until <= ?2) AND t.org_id = ?3 \
     ORDER BY t.priority DESC, t.expires_at, t.seq LIMIT 1"
);

/// The tasks of a device that may be announced: device, now, limit.
const TASK_ANNOUNCEABLE: &str = concat!(
    "SELECT ",
    rows::task_columns!(),
    " FROM tasks t INDEXED BY tasks_open \
     WHERE t.device_key = ?1 AND t.status < 3 AND t.expires_at > ?2 \
     AND (t.status < 2 OR t.lease_until IS NULL OR t.lease_until <= ?2) \
     ORDER BY t.priority DESC, t.expires_at, t.seq LIMIT ?3"
);

/// What a device has taken, and then what waits for it, as much of each as `WaitingTask` has: device, now, organisation,
/// limit.
const TASKS_TAKEN: &str = "SELECT t.id, t.seq, t.method, t.payload FROM tasks t INDEXED BY tasks_open \
     WHERE t.device_key = ?1 AND t.status < 3 AND t.status = 2 AND t.expires_at > ?2 AND t.org_id = ?3 \
     ORDER BY t.priority DESC, t.expires_at, t.seq LIMIT ?4";
const TASKS_WAITING: &str = "SELECT t.id, t.seq, t.method, t.payload FROM tasks t INDEXED BY tasks_open \
     WHERE t.device_key = ?1 AND t.status < 3 AND t.status < 2 AND t.expires_at > ?2 AND t.org_id = ?3 \
     ORDER BY t.priority DESC, t.expires_at, t.seq LIMIT ?4";

/// The tasks of a device whose time has not run out: device, now, organisation, limit.
const TASKS_OPEN: &str = concat!(
    "SELECT ",
    rows::task_columns!(),
    " FROM tasks t INDEXED BY tasks_open \
     WHERE t.device_key = ?1 AND t.status < 3 AND t.expires_at > ?2 AND t.org_id = ?3 LIMIT ?4"
);

/// Whether a device has tasks that may be announced: device, now.
const TASK_WAITING: &str = "SELECT 1 FROM tasks INDEXED BY tasks_open \
     WHERE device_key = ?1 AND status < 3 AND expires_at > ?2 \
     AND (status < 2 OR lease_until IS NULL OR lease_until <= ?2) LIMIT 1";

/// A final task by its id.
const TASK_FINAL: &str =
    concat!("SELECT ", rows::task_columns!(), " FROM tasks t WHERE t.id = ?1 AND t.status >= 3");

/// Tasks whose time ran out: now, limit.
const TASK_OVERDUE: &str = concat!(
    "SELECT ",
    rows::task_columns!(),
    " FROM tasks t INDEXED BY tasks_expiry \
     WHERE t.status < 3 AND t.expires_at <= ?1 ORDER BY t.expires_at LIMIT ?2"
);

/// Whether there is any such task: now.
const TASK_OVERDUE_ANY: &str =
    "SELECT EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_expiry WHERE status < 3 AND expires_at <= ?1)";

/// Tasks whose lease ran out: after this instant and this `seq`, until, limit.
const TASK_LAPSED: &str = "SELECT t.lease_until, t.seq, t.device_key FROM tasks t INDEXED BY tasks_lease \
     WHERE t.status = 2 AND (t.lease_until, t.seq) > (?1, ?2) AND t.lease_until <= ?3 AND t.expires_at > ?3 \
     ORDER BY t.lease_until, t.seq LIMIT ?4";

/// Whether a device has more than this many open tasks: device, number to skip.
const TASK_OPEN_BEYOND: &str =
    "SELECT 1 FROM tasks INDEXED BY tasks_open WHERE device_key = ?1 AND status < 3 LIMIT 1 OFFSET ?2";

/// A new task.
const TASK_INSERT: &str = "INSERT INTO tasks (id, org_id, device_key, device_id, sn, ext_task_id, \
     method_code, method, priority, push_only, created_at, expires_at, status, pending_at, locked_at, \
     lease_until, deliveries, results, timeline, payload, created_by, late_results, result_bytes) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, \
     ?22, ?23)";

/// What can change of a task.
const TASK_UPDATE: &str = "UPDATE tasks SET status = ?2, pending_at = ?3, locked_at = ?4, \
     lease_until = ?5, deliveries = ?6, results = ?7, timeline = ?8, \
     late_results = ?9, result_bytes = ?10, payload = CASE WHEN ?2 <> 5 THEN payload END WHERE seq = ?1";

/// Each of them with its name.
pub(super) const HOT: [(&str, &str); 13] = [
    ("task_waiting", TASK_WAITING),
    ("task_final", TASK_FINAL),
    ("task", TASK),
    ("task_best", TASK_BEST),
    ("task_announceable", TASK_ANNOUNCEABLE),
    ("tasks_taken", TASKS_TAKEN),
    ("tasks_waiting", TASKS_WAITING),
    ("tasks_open", TASKS_OPEN),
    ("task_overdue", TASK_OVERDUE),
    ("task_overdue_any", TASK_OVERDUE_ANY),
    ("task_lapsed", TASK_LAPSED),
    ("task_open_beyond", TASK_OPEN_BEYOND),
    ("task_update", TASK_UPDATE),
];

impl TaskReader for Sqlite {
    fn task_get(
        &self,
        caller: &Caller,
        id: TaskId,
        before: Option<ResultId>,
    ) -> Found<'_, Option<TaskDetail>> {
        let org = caller.org;
        self.read(ReadKind::Task, Turn::Org(org), move |connection| {
            // One transaction, so that the task and its results are of one moment.
            let snapshot = connection.unchecked_transaction()?;
            let task = snapshot.row(TASK, (id.0.as_bytes(), org.0), rows::task)?;
            let Some(task) = task else { return Ok(None) };
            let results = results(&snapshot, task.seq, before)?;
            Ok(Some(TaskDetail::of(task, results)))
        })
    }

    fn task_list(&self, caller: &Caller, filter: TaskFilter, page: PageRequest) -> Found<'_, TaskPage> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::TASKS));
        let kind = ReadKind::of_tasks(&filter, page).within(scope.is_some());
        self.read(kind, Turn::Org(org), move |connection| {
            task_page(connection, org, scope.as_ref(), &filter, page)
        })
    }

    fn task_announceable(&self, device: DeviceKey, now: UnixMs, limit: u32) -> Found<'_, Vec<Task>> {
        let values = (device.0, now.0, limit);
        self.rows(ReadKind::TaskAnnounceable, Turn::Server, TASK_ANNOUNCEABLE, values, rows::task)
    }

    fn task_lapsed_of_every_org(
        &self,
        after: (UnixMs, i64),
        now: UnixMs,
        limit: u32,
    ) -> Found<'_, Vec<Lapse>> {
        let values = (after.0.0, after.1, now.0, limit);
        self.rows(ReadKind::TaskLapsed, Turn::Server, TASK_LAPSED, values, rows::lapse)
    }

    fn task_overdue_of_every_org(&self, now: UnixMs) -> Found<'_, bool> {
        self.read(ReadKind::TaskOverdue, Turn::Server, move |connection| {
            connection.only(TASK_OVERDUE_ANY, [now.0], rows::first)
        })
    }

    fn task_waiting_of_every_org(&self, devices: Vec<DeviceKey>, now: UnixMs) -> Found<'_, Vec<DeviceKey>> {
        self.read(ReadKind::TaskWaiting, Turn::Server, move |connection| {
            let mut statement = connection.prepare_cached(TASK_WAITING)?;
            let mut waiting = Vec::new();
            for device in devices {
                if statement.exists((device.0, now.0))? {
                    waiting.push(device);
                }
            }
            Ok(waiting)
        })
    }

    fn task_final_of_every_org(&self, ids: Vec<TaskId>) -> Found<'_, Vec<TaskDetail>> {
        self.read(ReadKind::TaskFinal, Turn::Server, move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let mut details = Vec::new();
            for id in ids {
                if let Some(task) = snapshot.row(TASK_FINAL, [id.0.as_bytes()], rows::task)? {
                    let results = results(&snapshot, task.seq, None)?;
                    details.push(TaskDetail::of(task, results));
                }
            }
            Ok(details)
        })
    }

    fn task_counts_of_every_org(&self) -> Found<'_, Vec<TaskCount>> {
        let sql = "SELECT status, sum(count) FROM task_counts GROUP BY status ORDER BY status";
        self.rows(ReadKind::TaskCounts, Turn::Server, sql, [], rows::task_count)
    }
}

/// The newest results of a task, or of those before this one. Which those are the index tells, so that no
/// body is read that is not given, but for the one that is too many.
fn results(
    connection: &Connection,
    task_seq: i64,
    before: Option<ResultId>,
) -> rusqlite::Result<TaskResults> {
    let newest = "SELECT r.id FROM results r INDEXED BY results_task WHERE r.task_seq = ?1 AND r.id < ?2 \
         ORDER BY r.id DESC LIMIT ?3";
    let before = before.map_or(i64::MAX, |before| before.0);
    let ids = connection.rows(newest, (task_seq, before, RESULTS_MAX + 1), rows::first::<i64>)?;
    let one = concat!("SELECT ", rows::result_columns!(), " FROM results r WHERE r.id = ?1");
    let mut results = TaskResults::default();
    for id in ids {
        if !results.add(connection.only(one, [id], rows::result)?) {
            break;
        }
    }
    Ok(results)
}

fn task_page(
    connection: &Connection,
    org: OrgId,
    scope: Option<&ListScope>,
    filter: &TaskFilter,
    page: PageRequest,
) -> rusqlite::Result<TaskPage> {
    let mut conditions = Conditions::default();
    conditions.add("t.org_id = ?", org.0);
    conditions.add_scope(scope);
    conditions.add_if("t.device_id = ?", filter.device_id.map(|id| id.0));
    conditions.add_if("t.ext_task_id = ?", filter.ext_task_id.clone());
    conditions.add_if("t.status = ?", filter.status.map(TaskStatus::number));
    conditions.add_if("t.created_at >= ?", filter.created_after.map(|at| at.0));
    conditions.add_if("t.created_at < ?", filter.created_before.map(|at| at.0));
    let clause = conditions.clause();
    let snapshot = connection.unchecked_transaction()?;
    let total = if scope.is_none() && *filter == TaskFilter::default() {
        let sql = "SELECT coalesce(sum(count), 0) FROM task_counts WHERE org_id = ?1";
        conditions.total(&snapshot, sql)?
    } else {
        conditions.total(&snapshot, &format!("SELECT count(*) FROM tasks t WHERE {clause}"))?
    };
    // No list shows what was asked of the devices, which may be much.
    let sql = format!(
        "SELECT {} FROM tasks t WHERE {clause} \
         ORDER BY t.seq DESC LIMIT {} OFFSET {}",
        rows::task_columns!().replace("t.payload", "NULL"),
        page.size,
        page.offset()
    );
    Ok(Page { items: conditions.rows(&snapshot, &sql, rows::task)?, total, is_cut: false })
}

impl TaskSteps for SqliteTransaction<'_> {
    fn task(&mut self, org: OrgId, id: TaskId) -> TxResult<Option<Task>> {
        let task = self.row(TASK, (id.0.as_bytes(), org.0), rows::task)?;
        Ok(self.remember(task))
    }

    fn task_best(&mut self, org: OrgId, device: DeviceKey) -> TxResult<Option<Task>> {
        let task = self.row(TASK_BEST, (device.0, self.now.0, org.0), rows::task)?;
        Ok(self.remember(task))
    }

    fn tasks_overdue_of_every_org(&mut self, limit: u32) -> TxResult<Vec<Task>> {
        let tasks = self.rows(TASK_OVERDUE, (self.now.0, limit), rows::task)?;
        self.stored.extend(tasks.iter().map(|task| (task.seq, task.status)));
        Ok(tasks)
    }

    fn tasks_live_reach(&mut self, _org: OrgId, device: DeviceKey, count: u32) -> TxResult<bool> {
        let Some(skip) = count.checked_sub(1) else { return Ok(true) };
        self.exists(TASK_OPEN_BEYOND, (device.0, skip))
    }

    fn tasks_open(&mut self, org: OrgId, device: DeviceKey, limit: u32) -> TxResult<Vec<Task>> {
        let tasks = self.rows(TASKS_OPEN, (device.0, self.now.0, org.0, limit), rows::task)?;
        self.stored.extend(tasks.iter().map(|task| (task.seq, task.status)));
        Ok(tasks)
    }

    fn tasks_waiting(
        &mut self,
        org: OrgId,
        device: DeviceKey,
        limit: u32,
        bytes_max: usize,
    ) -> TxResult<Vec<WaitingTask>> {
        let values = (device.0, self.now.0, org.0, limit);
        self.try_sql(|connection| {
            let mut filling = Filling::up_to(bytes_max);
            for sql in [TASKS_TAKEN, TASKS_WAITING] {
                let mut statement = connection.prepare_cached(sql)?;
                let mut found = statement.query(values)?;
                while let Some(row) = found.next()? {
                    let task = rows::waiting_task(row)?;
                    let bytes = task.payload.as_ref().map_or(0, |payload| payload.len());
                    if !filling.add(task, bytes) {
                        return Ok(filling.done().items);
                    }
                }
            }
            Ok(filling.done().items)
        })
    }

    fn tasks_hold(&mut self, org: OrgId, ids: &[TaskId]) -> TxResult<Vec<Task>> {
        let mut tasks = Vec::with_capacity(ids.len());
        for id in ids {
            tasks.extend(self.task(org, *id)?.filter(|task| !task.status.is_final()));
        }
        Ok(tasks)
    }

    fn task_insert(&mut self, task: &mut Task) -> TxResult<()> {
        task.seq = self.insert(
            TASK_INSERT,
            params![
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
                rows::timeline_text(&task.timeline),
                task.payload.as_deref(),
                task.created_by.as_deref(),
                task.late_results,
                rows::byte_count(task.result_bytes),
            ],
        )?;
        self.stored.insert(task.seq, task.status);
        *self.counts.entry((task.org, task.status)).or_default() += 1;
        Ok(())
    }

    fn task_update(&mut self, task: &Task) -> TxResult<()> {
        self.change(
            TASK_UPDATE,
            params![
                task.seq,
                task.status.number(),
                task.pending_at.map(|at| at.0),
                task.locked_at.map(|at| at.0),
                task.lease_until.map(|at| at.0),
                task.deliveries,
                task.results,
                rows::timeline_text(&task.timeline),
                task.late_results,
                rows::byte_count(task.result_bytes),
            ],
        )?;
        if let Some(before) = self.stored.insert(task.seq, task.status) {
            *self.counts.entry((task.org, before)).or_default() -= 1;
            *self.counts.entry((task.org, task.status)).or_default() += 1;
        }
        Ok(())
    }

    fn result_equal(&mut self, task: &Task, result: &NewResult) -> TxResult<Option<ResultId>> {
        self.row(
            "SELECT id FROM results WHERE task_seq = ?1 AND ext_id = ?2 AND status_code = ?3 \
             AND body_hash = ?4 AND body_kind = ?5 AND body = ?6",
            params![
                task.seq,
                result.ext_id,
                result.status_code,
                result.body_hash(),
                rows::body_kind(&result.body),
                result.body.text(),
            ],
            rows::first,
        )
    }

    fn result_insert(&mut self, task: &Task, result: &NewResult) -> TxResult<ResultId> {
        let id = self.insert(
            "INSERT INTO results (task_seq, org_id, ext_id, status_code, body_hash, received_at, body_kind, \
             body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                task.seq,
                task.org.0,
                result.ext_id,
                result.status_code,
                result.body_hash(),
                self.now.0,
                rows::body_kind(&result.body),
                result.body.text(),
            ],
        );
        id.map(ResultId)
    }

    fn results(&mut self, task: &Task) -> TxResult<TaskResults> {
        self.try_sql(|connection| results(connection, task.seq, None))
    }

    fn idempotency(&mut self, org: OrgId, key: &str) -> TxResult<Option<Idempotency>> {
        let sql =
            "SELECT request_digest, task_id, created_at FROM idempotency WHERE org_id = ?1 AND key = ?2";
        self.row(sql, (org.0, key), |row| rows::idempotency_at(row, 0))
    }

    fn idempotency_put(&mut self, org: OrgId, key: &str, entry: &Idempotency) -> TxResult<()> {
        let put = self.change(
            "INSERT OR REPLACE INTO idempotency (org_id, key, request_digest, task_id, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            (org.0, key, entry.request_digest, entry.task.0.as_bytes(), entry.created_at.0),
        );
        put.map(drop)
    }

    fn idempotency_prune(&mut self, before: UnixMs, limit: u32) -> TxResult<usize> {
        self.change(
            "DELETE FROM idempotency WHERE (org_id, key) IN \
             (SELECT org_id, key FROM idempotency WHERE created_at < ?1 LIMIT ?2)",
            (before.0, limit),
        )
    }
}

impl SqliteTransaction<'_> {
    fn remember(&mut self, task: Option<Task>) -> Option<Task> {
        if let Some(task) = &task {
            self.stored.insert(task.seq, task.status);
        }
        task
    }
}
