//! The statements that are prepared on a connection, among them those whose
//! cost must not grow with the number of tasks ever made: a test shows their
//! plans.

use tokio_postgres::{Client, Error, Statement};

use crate::postgres::pipeline::{self, Step};
use crate::postgres::write::{self, Parts};

/// The columns of a task, in the order that [`super::rows::task`] reads them.
macro_rules! task_columns {
    () => {
        "t.seq, t.id, t.org_id, t.device_key, t.device_id, t.sn, t.ext_task_id, t.method_code, t.method, \
         t.priority, t.push_only, t.created_at, t.expires_at, t.status, t.pending_at, t.locked_at, \
         t.lease_until, t.deliveries, t.results, t.timeline, t.payload"
    };
}
pub(super) use task_columns;

/// The columns of a device, in the order that [`super::rows::device`] reads them.
macro_rules! device_columns {
    () => {
        "d.id, d.org_id, d.device_id, d.sn, d.created_at, c.online, c.connected_at, c.checked_at, c.details, \
         c.session, c.server, (SELECT coalesce(json_agg(json_build_array(g.tag, g.value) ORDER BY g.tag), '[]') \
         ::text FROM device_tags g WHERE g.device_key = d.id)"
    };
}
pub(super) use device_columns;

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

/// Makes a struct of prepared statements.
macro_rules! prepared {
    ($(#[$about:meta])* $kind:ident { $($(#[$doc:meta])* $name:ident: $sql:expr;)* }) => {
        $(#[$about])*
        pub(super) struct $kind { $($(#[$doc])* pub(super) $name: Statement,)* }

        impl $kind {
            /// Each with its name.
            pub(super) const ALL: &'static [(&'static str, &'static str)] = &[$((stringify!($name), $sql),)*];

            /// Prepares all of them in one trip.
            pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
                let mut made = prepare(client, Self::ALL.iter().map(|(_, sql)| *sql)).await?.into_iter();
                Ok(Self { $($name: match made.next() {
                    Some(statement) => statement,
                    // Every statement is answered; this keeps the types honest.
                    None => client.prepare($sql).await?,
                },)* })
            }
        }
    };
}

async fn prepare(client: &Client, all: impl Iterator<Item = &str>) -> Result<Vec<Statement>, Error> {
    let steps = all.map(|sql| Box::pin(client.prepare(sql)) as Step<'_, Statement>);
    pipeline::run(steps.collect()).await
}

/// The statements that write nearly all of a group.
pub(super) struct Writes {
    /// One for each set of parts.
    by_parts: Vec<Statement>,
    /// Tasks that were made and became final in one group.
    pub(super) insert_done: Statement,
}

impl Writes {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let all: Vec<String> = Parts::all().collect();
        let by_parts = prepare(client, all.iter().map(String::as_str)).await?;
        Ok(Self { by_parts, insert_done: client.prepare(&write::new_final_tasks()).await? })
    }

    /// The one that writes these parts, of which there must be any.
    pub(super) fn of(&self, parts: Parts) -> &Statement {
        // There is one for each set of parts.
        &self.by_parts[parts.place()]
    }
}

/// All statements by their names, for the tests that look at their plans.
pub(super) fn all() -> Vec<(String, String)> {
    let named = [Writing::ALL, Reading::ALL].concat();
    let named = named.into_iter().map(|(name, sql)| (name.to_owned(), sql.to_owned()));
    let writes = Parts::all().enumerate().map(|(place, sql)| (format!("write {place:05b}"), sql));
    named.chain(writes).chain([("insert_done".to_owned(), write::new_final_tasks())]).collect()
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
        tasks_open: concat!("SELECT ", task_columns!(),
            " FROM tasks_open t WHERE t.id = ANY($1::uuid[]) ORDER BY t.id FOR UPDATE");
        /// A final task by its id.
        task_done: concat!("SELECT ", task_columns!(), " FROM tasks_done t WHERE t.id = $1 FOR UPDATE");
        /// The best eligible task of each device that nobody else is about to
        /// take, and whether there is one that somebody is: organisations, devices, now.
        tasks_best: concat!("SELECT ", task_columns!(), ", n.device_key AS of_device, \
             t.id IS NULL AND EXISTS (SELECT 1 FROM tasks_open t WHERE t.device_key = n.device_key \
             AND t.org_id = n.org_id AND ", eligible!("$3"), ") \
             FROM unnest($1::int8[], $2::int8[]) AS n (org_id, device_key) LEFT JOIN LATERAL \
             (SELECT t.* FROM tasks_open t WHERE t.device_key = n.device_key AND t.org_id = n.org_id AND ",
            eligible!("$3"), " ", by_rank!(), " LIMIT 1 FOR UPDATE SKIP LOCKED) t ON true");
        /// Tasks whose time ran out: now, limit.
        tasks_overdue: concat!("SELECT ", task_columns!(), " FROM tasks_open t WHERE t.expires_at <= $1 \
             ORDER BY t.expires_at LIMIT $2 FOR UPDATE SKIP LOCKED");
        /// Devices by their numbers, with how many open tasks each has up to a bound.
        targets_by_id: "SELECT d.id, d.org_id, d.device_id, d.sn, (SELECT count(*) FROM \
             (SELECT 1 FROM tasks_open t WHERE t.device_key = d.id LIMIT n.bound) AS o) \
             FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS n (org_id, device_id, bound) \
             JOIN devices d ON d.org_id = n.org_id AND d.device_id = n.device_id AND d.retired_at IS NULL";
        /// The same by their serial numbers.
        targets_by_sn: "SELECT d.id, d.org_id, d.device_id, d.sn, (SELECT count(*) FROM \
             (SELECT 1 FROM tasks_open t WHERE t.device_key = d.id LIMIT n.bound) AS o) \
             FROM unnest($1::int8[], $2::text[], $3::int8[]) AS n (org_id, sn, bound) \
             JOIN devices d ON d.sn = n.sn AND d.org_id = n.org_id AND d.retired_at IS NULL";
        /// How many open tasks a device has, up to a bound.
        open_count: "SELECT count(*) FROM (SELECT 1 FROM tasks_open t WHERE t.device_key = $1 LIMIT $2) AS o";
        /// Numbers for new tasks and for new results: how many of each.
        numbers: "SELECT nextval('task_seq'), true FROM generate_series(1, $1::int8) \
             UNION ALL SELECT nextval('result_seq'), false FROM generate_series(1, $2::int8)";
        /// The number of a result that equals another.
        result_equal: "SELECT id FROM results WHERE task_id = $1 AND ext_id = $2 AND status_code = $3 \
             AND body_hash = $4 AND body_kind = $5 AND body = $6 ORDER BY id LIMIT 1";
        /// The results of a task, newest first.
        results: "SELECT id, ext_id, status_code, received_at, body_kind, body FROM results \
             WHERE task_id = $1 ORDER BY id DESC";

        /// A final task that changed: a late result came, or it was deleted.
        update_done: "WITH changed AS (UPDATE tasks_done t SET status = $2, pending_at = $3, locked_at = $4, \
             lease_until = $5, deliveries = $6, results = $7, timeline = $8 WHERE t.id = $1 RETURNING 1) \
             SELECT 1 / count(*)::int4 FROM changed";
        /// What idempotency keys are used for now.
        put_idempotency: "INSERT INTO idempotency (org_id, key, request_digest, task_id, created_at) \
             SELECT * FROM unnest($1::int8[], $2::text[], $3::bytea[], $4::uuid[], $5::int8[]) \
             ON CONFLICT (org_id, key) DO UPDATE SET request_digest = excluded.request_digest, \
             task_id = excluded.task_id, created_at = excluded.created_at";
        /// Forgets idempotency keys: before, limit.
        prune_idempotency: "DELETE FROM idempotency WHERE (org_id, key) IN (SELECT org_id, key \
             FROM idempotency WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)";

        /// A device with its connection and its tags.
        device: concat!("SELECT ", device_columns!(), " FROM devices d \
             LEFT JOIN connections c ON c.device_key = d.id \
             WHERE d.org_id = $1 AND d.device_id = $2 AND d.retired_at IS NULL FOR NO KEY UPDATE OF d");
        /// Whether a serial number is taken.
        sn_taken: "SELECT 1 FROM devices WHERE sn = $1 AND retired_at IS NULL";
        /// Waits for those who are giving a device of an organisation its number.
        device_id_lock: "SELECT pg_advisory_xact_lock($1::int4, hashint8($2::int8))";
        /// The next free number of an organisation.
        device_id_free: "SELECT coalesce(max(device_id), 0) + 1 FROM devices WHERE org_id = $1";
        /// A new device.
        insert_device: "INSERT INTO devices (org_id, device_id, sn, created_at) VALUES ($1, $2, $3, $4) RETURNING id";
        /// Retires a device.
        retire_device: "UPDATE devices SET retired_at = $2 WHERE id = $1 AND retired_at IS NULL";
        /// Revokes its certificates.
        revoke_certificates: "UPDATE certificates SET revoked_at = $2 WHERE device_key = $1 AND revoked_at IS NULL";
        /// Sets a tag.
        put_tag: "INSERT INTO device_tags (org_id, device_key, tag, value) SELECT org_id, id, $2::text, $3::text FROM devices \
             WHERE id = $1 ON CONFLICT (device_key, tag) DO UPDATE SET value = excluded.value RETURNING id";
        /// How many other tags a device has.
        tags_beside: "SELECT count(*) FROM device_tags WHERE device_key = $1 AND tag <> $2";
        /// Remembers a certificate.
        insert_certificate: "INSERT INTO certificates (serial, device_key, org_id, issued_at, not_after) \
             SELECT $1::text, id, org_id, $3::int8, $4::int8 FROM devices WHERE id = $2";
        /// Sets a presence if it is news.
        put_presence: "INSERT INTO connections AS c (device_key, org_id, online, connected_at, checked_at, \
             details, session, server) SELECT id, org_id, $2::bool, $3::int8, $4::int8, $5::text, $6::text, $7::text FROM devices WHERE id = $1 \
             ON CONFLICT (device_key) DO UPDATE SET online = excluded.online, checked_at = excluded.checked_at, \
             details = excluded.details, connected_at = coalesce(excluded.connected_at, c.connected_at), \
             session = excluded.session, server = excluded.server \
             WHERE CASE WHEN excluded.online THEN NOT c.online OR c.session <> excluded.session \
             ELSE c.online AND c.session = excluded.session END";
        /// Forgets the connections of a server.
        clear_presence: "UPDATE connections SET online = false, checked_at = $1 WHERE online AND server = $2";
        /// An organisation of a name.
        ensure_org: "INSERT INTO orgs (name, created_at) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id";
        /// A new API key.
        insert_key: "INSERT INTO api_keys (org_id, name, rights, digest, created_at) VALUES ($1, $2, $3, $4, $5) \
             RETURNING id, org_id, (SELECT o.name FROM orgs o WHERE o.id = org_id), name, rights, created_at";
        /// Whether there is or was a key, after those who are about to make one.
        key_lock: "SELECT pg_advisory_xact_lock($1::int4, 0)";
        /// Whether there is or was a key.
        any_key: "SELECT 1 FROM api_keys LIMIT 1";
        /// Revokes a key. Its digest is free again: a certificate may be registered anew.
        revoke_key: "UPDATE api_keys SET revoked_at = $2, digest = sha256(uuid_send(gen_random_uuid())) \
            WHERE id = $1 AND revoked_at IS NULL";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// An open task by its id: id, organisation.
        task_open: concat!("SELECT ", task_columns!(), " FROM tasks_open t WHERE t.id = $1 AND t.org_id = $2");
        /// A final task by its id: id, organisation.
        task_done: concat!("SELECT ", task_columns!(), " FROM tasks_done t WHERE t.id = $1 AND t.org_id = $2");
        /// The results of a task, newest first.
        results: "SELECT id, ext_id, status_code, received_at, body_kind, body FROM results \
             WHERE task_id = $1 ORDER BY id DESC";
        /// The tasks of a device that may be announced: device, now, limit.
        task_announceable: concat!("SELECT ", task_columns!(), " FROM tasks_open t WHERE t.device_key = $1 \
             AND t.expires_at > $2 AND (t.status < 2 OR t.lease_until IS NULL OR t.lease_until <= $2) ",
            by_rank!(), " LIMIT $3");
        /// Tasks whose lease ran out: after this instant and this `seq`, until, limit.
        task_lapsed: concat!("SELECT ", task_columns!(), " FROM tasks_open t WHERE t.status = 2 \
             AND (t.lease_until, t.seq) > ($1::int8, $2::int8) AND t.lease_until <= $3 AND t.expires_at > $3 \
             ORDER BY t.lease_until, t.seq LIMIT $4");
        /// Whether there is any task whose time ran out: now.
        task_overdue_any: "SELECT EXISTS (SELECT 1 FROM tasks_open WHERE expires_at <= $1)";
        /// Which devices have tasks that may be announced: devices, now.
        task_waiting: "SELECT n.device_key FROM unnest($1::int8[]) WITH ORDINALITY AS n (device_key, place) \
             WHERE EXISTS (SELECT 1 FROM tasks_open t WHERE t.device_key = n.device_key AND t.expires_at > $2 \
             AND (t.status < 2 OR t.lease_until IS NULL OR t.lease_until <= $2)) ORDER BY n.place";
        /// Final tasks by their ids.
        task_final: concat!("SELECT ", task_columns!(), " FROM unnest($1::uuid[]) WITH ORDINALITY AS n (id, place) \
             CROSS JOIN LATERAL (SELECT * FROM tasks_done d WHERE d.id = n.id) AS t ORDER BY n.place");
        /// Their results, each with its task.
        results_of: "SELECT r.id, r.ext_id, r.status_code, r.received_at, r.body_kind, r.body, r.task_id \
             FROM unnest($1::uuid[]) AS n (id) \
             CROSS JOIN LATERAL (SELECT * FROM results s WHERE s.task_id = n.id) AS r ORDER BY r.id DESC";
        /// The device that is registered under a serial number.
        device_of_sn: "SELECT id, org_id, device_id, sn FROM devices WHERE sn = $1 AND retired_at IS NULL";
        /// Serial numbers: after, limit.
        device_sns: "SELECT sn FROM devices WHERE sn > $1 AND retired_at IS NULL ORDER BY sn LIMIT $2";
        /// Devices that are connected: after, limit.
        presence_online: "SELECT d.id, d.org_id, d.device_id, d.sn, c.session FROM connections c \
             JOIN devices d ON d.id = c.device_key WHERE c.online AND c.device_key > $1 \
             ORDER BY c.device_key LIMIT $2";
        /// Who a certificate belongs to: serial number, SN.
        device_of_certificate: "SELECT d.id, d.org_id, d.device_id, d.sn FROM certificates c \
             JOIN devices d ON d.id = c.device_key \
             WHERE c.serial = $1 AND c.revoked_at IS NULL AND d.sn = $2 AND d.retired_at IS NULL";
        /// The API key of a digest.
        api_key: "SELECT k.id, k.org_id, o.name, k.name, k.rights, k.created_at FROM api_keys k \
             JOIN orgs o ON o.id = k.org_id WHERE k.digest = $1 AND k.revoked_at IS NULL";
        /// All API keys.
        api_keys: "SELECT k.id, k.org_id, o.name, k.name, k.rights, k.created_at FROM api_keys k \
             JOIN orgs o ON o.id = k.org_id WHERE k.revoked_at IS NULL ORDER BY k.id";
        /// How many tasks are in each state.
        task_counts: "SELECT status, sum(count)::int8 FROM task_counts GROUP BY status ORDER BY status";
    }
}
