//! Tasks, results and idempotency keys.

mod reads;
mod steps;

pub(super) use steps::best;

use crate::postgres::prepared::prepared;
use crate::rows;

/// That a poll may get a task at `$now`; the condition is that of `Task::is_eligible`.
macro_rules! eligible {
    ($now:literal) => {
        concat!(
            "NOT t.push_only AND t.expires_at > ",
            $now,
            " AND (t.status < 2 OR t.lease_until IS NULL OR t.lease_until <= ",
            $now,
            ")"
        )
    };
}

/// The order of `Task::rank`.
macro_rules! by_rank {
    () => {
        "ORDER BY t.priority DESC, t.expires_at, t.seq"
    };
}

/// Results of a task, newest first, up to the bounds of `TaskResults`: of which, those before which, how many,
/// how many bytes their bodies may take. The last column is how many there are, up to one more than are given.
/// The length of a body that is stored apart is known without reading it.
macro_rules! newest_results {
    ($of:literal, $before:literal, $limit:literal, $bytes:literal) => {
        concat!(
            "(SELECT * FROM (SELECT o.*, sum(octet_length(o.body)) OVER up_to AS bytes, \
             row_number() OVER up_to AS place, count(*) OVER () AS found FROM (SELECT * FROM results s \
             WHERE s.task_id = ",
            $of,
            " AND s.id < ",
            $before,
            " ORDER BY s.id DESC LIMIT ",
            $limit,
            "::int8 + 1) AS o WINDOW up_to AS (ORDER BY o.id DESC)) AS p WHERE p.place = 1 OR (p.place <= ",
            $limit,
            " AND p.bytes <= ",
            $bytes,
            "::int8)) AS r"
        )
    };
}

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Waits for idempotency keys: their numbers, sorted.
        idempotency_lock: "SELECT pg_advisory_xact_lock(k) FROM unnest($1::int8[]) AS k";
        /// What idempotency keys were used for.
        idempotency: "SELECT i.org_id, i.key, i.request_digest, i.task_id, i.created_at \
             FROM unnest($1::int8[], $2::text[]) AS n (org_id, key) \
             JOIN idempotency i ON i.org_id = n.org_id AND i.key = n.key";
        /// Open tasks by their ids, in an order that all servers keep.
        tasks_open: concat!("SELECT ", rows::task_columns!(),
            " FROM tasks_open t WHERE t.id = ANY($1::uuid[]) ORDER BY t.id FOR UPDATE");
        /// A final task by its id.
        task_done: concat!("SELECT ", rows::task_columns!(), " FROM tasks_done t WHERE t.id = $1 FOR UPDATE");
        /// The best eligible task of each device that nobody else is about to
        /// take, and whether there is one that somebody is: organisations, devices, now.
        tasks_best: concat!("SELECT ", rows::task_columns!(), ", n.device_key AS of_device, \
             t.id IS NULL AND EXISTS (SELECT 1 FROM tasks_open t WHERE t.device_key = n.device_key \
             AND t.org_id = n.org_id AND ", eligible!("$3"), ") \
             FROM unnest($1::int8[], $2::int8[]) AS n (org_id, device_key) LEFT JOIN LATERAL \
             (SELECT t.* FROM tasks_open t WHERE t.device_key = n.device_key AND t.org_id = n.org_id AND ",
            eligible!("$3"), " ", by_rank!(), " LIMIT 1 FOR UPDATE SKIP LOCKED) t ON true");
        /// The tasks of a device whose time has not run out, but for those that somebody is about to change: organisation,
        /// device, now, limit.
        tasks_open_of: concat!("SELECT ", rows::task_columns!(), " FROM tasks_open t WHERE t.org_id = $1 \
             AND t.device_key = $2 AND t.expires_at > $3 ", by_rank!(), " LIMIT $4 FOR UPDATE SKIP LOCKED");
        /// What a device has taken, and then what waits for it, as much of each as `WaitingTask` has: organisation,
        /// device, now, limit, how many bytes their parameters may have.
        tasks_waiting: "SELECT p.id, p.seq, p.method, p.payload FROM (SELECT o.*, \
             row_number() OVER up_to AS at, sum(octet_length(o.payload)) OVER up_to AS bytes \
             FROM (SELECT t.id, t.seq, t.method, t.payload, t.priority, t.expires_at, t.status \
             FROM tasks_open t WHERE t.org_id = $1 AND t.device_key = $2 AND t.expires_at > $3 \
             ORDER BY t.status = 2 DESC, t.priority DESC, t.expires_at, t.seq LIMIT $4) AS o \
             WINDOW up_to AS (ORDER BY o.status = 2 DESC, o.priority DESC, o.expires_at, o.seq)) AS p \
             WHERE p.at = 1 OR coalesce(p.bytes, 0) <= $5::int8 ORDER BY p.at";
        /// Open tasks by their ids, but for those that somebody is about to change.
        tasks_hold: concat!("SELECT ", rows::task_columns!(),
            " FROM tasks_open t WHERE t.id = ANY($1::uuid[]) ORDER BY t.id FOR UPDATE SKIP LOCKED");
        /// Tasks whose time ran out: now, limit.
        tasks_overdue: concat!("SELECT ", rows::task_columns!(), " FROM tasks_open t WHERE t.expires_at <= $1 \
             ORDER BY t.expires_at LIMIT $2 FOR UPDATE SKIP LOCKED");
        /// How many open tasks a device has, up to a bound.
        open_count: "SELECT count(*) FROM (SELECT 1 FROM tasks_open t WHERE t.device_key = $1 LIMIT $2) AS o";
        /// Numbers for new tasks and for new results: how many of each.
        numbers: "SELECT nextval('task_seq'), true FROM generate_series(1, $1::int8) \
             UNION ALL SELECT nextval('result_seq'), false FROM generate_series(1, $2::int8)";
        /// The number of a result that equals another.
        result_equal: "SELECT id FROM results WHERE task_id = $1 AND ext_id = $2 AND status_code = $3 \
             AND body_hash = $4 AND body_kind = $5 AND body = $6 ORDER BY id LIMIT 1";
        /// The newest results of a task: its id, those before which, how many, how many bytes.
        results: concat!("SELECT ", rows::result_columns!(), ", r.found FROM ",
            newest_results!("$1", "$2", "$3", "$4"), " ORDER BY r.id DESC");
        /// A final task that changed: a late result came, or it was deleted.
        task_update_done: "WITH changed AS (UPDATE tasks_done t SET status = $2, pending_at = $3, locked_at = $4, \
             lease_until = $5, deliveries = $6, results = $7, timeline = $8, late_results = $9, \
             result_bytes = $10, payload = CASE WHEN $2::int2 <> 5 THEN payload END WHERE t.id = $1 \
             AND age(t.xmin) >= 0 RETURNING 1) \
             SELECT 1 / count(*)::int4 FROM changed";
        /// What idempotency keys are used for now.
        idempotency_put: "INSERT INTO idempotency (org_id, key, request_digest, task_id, created_at) \
             SELECT * FROM unnest($1::int8[], $2::text[], $3::bytea[], $4::uuid[], $5::int8[]) \
             ON CONFLICT (org_id, key) DO UPDATE SET request_digest = excluded.request_digest, \
             task_id = excluded.task_id, created_at = excluded.created_at";
        /// Forgets idempotency keys: before, limit.
        idempotency_prune: "DELETE FROM idempotency WHERE (org_id, key) IN (SELECT org_id, key \
             FROM idempotency WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// An open task by its id: id, organisation.
        task_open: concat!("SELECT ", rows::task_columns!(), " FROM tasks_open t WHERE t.id = $1 AND t.org_id = $2");
        /// A final task by its id: id, organisation.
        task_done: concat!("SELECT ", rows::task_columns!(), " FROM tasks_done t WHERE t.id = $1 AND t.org_id = $2");
        /// The newest results of a task: its id, those before which, how many, how many bytes.
        results: concat!("SELECT ", rows::result_columns!(), ", r.found FROM ",
            newest_results!("$1", "$2", "$3", "$4"), " ORDER BY r.id DESC");
        /// The tasks of a device that may be announced: device, now, limit.
        task_announceable: concat!("SELECT ", rows::task_columns!(), " FROM tasks_open t WHERE t.device_key = $1 \
             AND t.expires_at > $2 AND (t.status < 2 OR t.lease_until IS NULL OR t.lease_until <= $2) ",
            by_rank!(), " LIMIT $3");
        /// Leases that ran out: after this instant and this `seq`, until, limit.
        task_lapsed: "SELECT t.lease_until, t.seq, t.device_key FROM tasks_open t WHERE t.status = 2 \
             AND (t.lease_until, t.seq) > ($1::int8, $2::int8) AND t.lease_until <= $3 AND t.expires_at > $3 \
             ORDER BY t.lease_until, t.seq LIMIT $4";
        /// Whether there is any task whose time ran out: now.
        task_overdue_any: "SELECT EXISTS (SELECT 1 FROM tasks_open WHERE expires_at <= $1)";
        /// Which devices have tasks that may be announced: devices, now.
        task_waiting: "SELECT n.device_key FROM unnest($1::int8[]) WITH ORDINALITY AS n (device_key, place) \
             WHERE EXISTS (SELECT 1 FROM tasks_open t WHERE t.device_key = n.device_key AND t.expires_at > $2 \
             AND (t.status < 2 OR t.lease_until IS NULL OR t.lease_until <= $2)) ORDER BY n.place";
        /// Final tasks by their ids.
        task_final: concat!("SELECT ", rows::task_columns!(), " FROM unnest($1::uuid[]) WITH ORDINALITY AS n (id, place) \
             CROSS JOIN LATERAL (SELECT * FROM tasks_done d WHERE d.id = n.id) AS t ORDER BY n.place");
        /// Their newest results, each with its task: ids, those before which, how many, how many bytes.
        results_of: concat!("SELECT ", rows::result_columns!(), ", r.found, r.task_id \
             FROM unnest($1::uuid[]) AS n (id) CROSS JOIN LATERAL ",
            newest_results!("n.id", "$2", "$3", "$4"), " ORDER BY r.id DESC");
        /// How many tasks are in each state.
        task_counts: "SELECT status, sum(count)::int8 FROM task_counts GROUP BY status ORDER BY status";
    }
}
