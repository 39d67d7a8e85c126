//! The statements on tasks whose cost must not grow with the number of tasks
//! ever made. They stand here so that a test can show their query plans.

/// The columns of a task, in the order that [`super::rows::task`] reads them.
macro_rules! task_columns {
    () => {
        "t.seq, t.id, t.org_id, t.device_key, t.device_id, t.sn, t.ext_task_id, t.method_code, t.method, \
         t.priority, t.push_only, t.created_at, t.expires_at, t.status, t.pending_at, t.locked_at, \
         t.lease_until, t.deliveries, t.results, t.timeline, t.payload"
    };
}
pub(super) use task_columns;

/// A task by its id: id, organisation.
pub(super) const TASK: &str =
    concat!("SELECT ", task_columns!(), " FROM tasks t WHERE t.id = ?1 AND t.org_id = ?2");

/// The eligible task of a device that comes first: device, now, organisation.
/// The order is that of `Task::rank`, the condition that of `Task::is_eligible`.
pub(super) const TASK_BEST: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM tasks t INDEXED BY tasks_open \
     WHERE t.device_key = ?1 AND t.status < 3 AND t.push_only = 0 AND t.expires_at > ?2 \
     AND (t.status < 2 OR t.lease_until IS NULL OR t.lease_until <= ?2) AND t.org_id = ?3 \
     ORDER BY t.priority DESC, t.expires_at, t.seq LIMIT 1"
);

/// The tasks of a device that may be announced: device, now, limit.
pub(super) const TASK_ANNOUNCEABLE: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM tasks t INDEXED BY tasks_open \
     WHERE t.device_key = ?1 AND t.status < 3 AND t.expires_at > ?2 \
     AND (t.status < 2 OR t.lease_until IS NULL OR t.lease_until <= ?2) \
     ORDER BY t.priority DESC, t.expires_at, t.seq LIMIT ?3"
);

/// Whether a device has tasks that may be announced: device, now.
pub(super) const TASK_WAITING: &str = "SELECT 1 FROM tasks INDEXED BY tasks_open \
     WHERE device_key = ?1 AND status < 3 AND expires_at > ?2 \
     AND (status < 2 OR lease_until IS NULL OR lease_until <= ?2) LIMIT 1";

/// A final task by its id.
pub(super) const TASK_FINAL: &str =
    concat!("SELECT ", task_columns!(), " FROM tasks t WHERE t.id = ?1 AND t.status >= 3");

/// Tasks whose time ran out: now, limit.
pub(super) const TASK_OVERDUE: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM tasks t INDEXED BY tasks_expiry \
     WHERE t.status < 3 AND t.expires_at <= ?1 ORDER BY t.expires_at LIMIT ?2"
);

/// Whether there is any such task: now.
pub(super) const TASK_OVERDUE_ANY: &str =
    "SELECT EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_expiry WHERE status < 3 AND expires_at <= ?1)";

/// Tasks whose lease ran out: after this instant and this `seq`, until, limit.
pub(super) const TASK_LAPSED: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM tasks t INDEXED BY tasks_lease \
     WHERE t.status = 2 AND (t.lease_until, t.seq) > (?1, ?2) AND t.lease_until <= ?3 AND t.expires_at > ?3 \
     ORDER BY t.lease_until, t.seq LIMIT ?4"
);

/// Whether a device has more than this many open tasks: device, number to skip.
pub(super) const TASK_OPEN_BEYOND: &str =
    "SELECT 1 FROM tasks INDEXED BY tasks_open WHERE device_key = ?1 AND status < 3 LIMIT 1 OFFSET ?2";

/// A new task.
pub(super) const TASK_INSERT: &str = "INSERT INTO tasks (id, org_id, device_key, device_id, sn, ext_task_id, \
     method_code, method, priority, push_only, created_at, expires_at, status, pending_at, locked_at, \
     lease_until, deliveries, results, timeline, payload) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)";

/// What can change of a task.
pub(super) const TASK_UPDATE: &str = "UPDATE tasks SET status = ?2, pending_at = ?3, locked_at = ?4, \
     lease_until = ?5, deliveries = ?6, results = ?7, timeline = ?8 WHERE seq = ?1";

/// Each of them with its name.
pub(super) const HOT: [(&str, &str); 10] = [
    ("task_waiting", TASK_WAITING),
    ("task_final", TASK_FINAL),
    ("task", TASK),
    ("task_best", TASK_BEST),
    ("task_announceable", TASK_ANNOUNCEABLE),
    ("task_overdue", TASK_OVERDUE),
    ("task_overdue_any", TASK_OVERDUE_ANY),
    ("task_lapsed", TASK_LAPSED),
    ("task_open_beyond", TASK_OPEN_BEYOND),
    ("task_update", TASK_UPDATE),
];
