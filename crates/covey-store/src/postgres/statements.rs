//! The statements that are prepared on a connection, among them those whose
//! cost must not grow with the number of tasks ever made: a test shows their
//! plans.

use std::sync::OnceLock;

use tokio_postgres::{Client, Error, Statement};

use crate::postgres::numbers::settled;
use crate::postgres::pipeline::{self, Step};
use crate::postgres::statements_of_webhooks as webhooks;
use crate::postgres::write::{self, Parts};
use crate::rows;

/// The columns of a device, in the order that [`super::lists::device`] reads them.
macro_rules! device_columns {
    () => {
        concat!(
            rows::device_columns!(),
            ", (SELECT coalesce(json_agg(json_build_array(g.tag, g.value) ORDER BY g.tag), '[]') \
         ::text FROM device_tags g WHERE g.device_key = d.id)"
        )
    };
}
pub(super) use device_columns;

/// Devices with their connections and what was told of these, held until the commit.
macro_rules! presences {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.org_id, d.device_id, d.sn, c.online, c.connected_at, c.checked_at, c.details, \
             c.session, c.server, c.reason, c.told_online, c.told_changes, c.told_since, c.told_due \
             FROM connections c JOIN devices d ON d.id = c.device_key WHERE ",
            $rest
        )
    };
}

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

/// Events up to which all are there: organisation, after, limit. Always answers
/// a row, of which the first three columns are those of `settled!`.
macro_rules! events_after {
    ($device:literal) => {
        concat!(
            "WITH ",
            settled!(),
            " SELECT s.position, s.unknown, s.next, f.* FROM settled s LEFT JOIN LATERAL (SELECT ",
            rows::event_columns!(),
            " FROM events e WHERE e.org_id = $1 AND e.id > $2 AND e.id <= s.position ",
            $device,
            " ORDER BY e.id LIMIT $3) AS f ON true"
        )
    };
}

/// A record `r` with what it is about, in the order that
/// [`super::reader_of_records`] reads it, from the fifth column on; with tags where
/// the condition holds.
macro_rules! told_columns {
    ($with_tags:literal) => {
        concat!(
            rows::record_columns!(),
            ", CASE WHEN ",
            $with_tags,
            " THEN (SELECT coalesce(json_agg(json_build_array(g.tag, g.value)), '[]')::text \
                 FROM device_tags g WHERE g.device_key = r.device_key) END, \
             t.ext_task_id, t.method_code, t.method, \
             x.id, x.ext_id, x.status_code, x.received_at, x.body_kind, x.body, ",
            rows::event_columns!()
        )
    };
}
pub(super) use told_columns;

/// What a record `r` is about.
macro_rules! told_joins {
    () => {
        "LEFT JOIN LATERAL (SELECT o.ext_task_id, o.method_code, o.method FROM tasks_open o \
             WHERE o.id = r.task_id UNION ALL SELECT d.ext_task_id, d.method_code, d.method \
             FROM tasks_done d WHERE d.id = r.task_id LIMIT 1) AS t ON true \
         LEFT JOIN LATERAL (SELECT * FROM results x WHERE x.task_id = r.task_id AND x.id = r.result_id LIMIT 1) \
             AS x ON true \
         LEFT JOIN LATERAL (SELECT * FROM events e WHERE e.dev_timestamp = r.dev_timestamp \
             AND e.org_id = r.org_id AND e.id = r.number LIMIT 1) AS e ON true"
    };
}
pub(super) use told_joins;

/// Records up to which all are there, with what they are about: after, until,
/// limit, whether tags are wanted. Always answers a row, of which the first three
/// columns are those of `settled!`, and the fourth tells whether there are
/// records beyond, where that is asked.
macro_rules! records {
    ($org:literal, $has_beyond:literal) => {
        concat!(
            "WITH ",
            settled!(),
            " SELECT s.position, s.unknown, s.next, ",
            $has_beyond,
            ", ",
            told_columns!("$4"),
            " FROM settled s \
             LEFT JOIN LATERAL (SELECT * FROM records r WHERE r.number > $1 \
                 AND r.number <= least(s.position, $2) ",
            $org,
            " ORDER BY r.number LIMIT $3) AS r ON true ",
            told_joins!()
        )
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
    /// One for each set of parts, prepared when it is first needed: a server
    /// needs few of them.
    by_parts: [OnceLock<Statement>; Parts::COUNT],
    /// Tasks that were made and became final in one group.
    pub(super) insert_done: Statement,
}

impl Writes {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let by_parts = std::array::from_fn(|_| OnceLock::new());
        Ok(Self { by_parts, insert_done: client.prepare(&write::new_final_tasks()).await? })
    }

    /// The one that writes these parts.
    pub(super) async fn of(&self, client: &Client, parts: Parts) -> Result<&Statement, Error> {
        // There is one for each set of parts.
        let place = &self.by_parts[parts.place()];
        match place.get() {
            Some(statement) => Ok(statement),
            None => {
                let statement = client.prepare(&parts.sql()).await?;
                Ok(place.get_or_init(|| statement))
            }
        }
    }
}

/// All statements by their names, for the tests that look at their plans.
pub(super) fn all() -> Vec<(String, String)> {
    let named = [Writing::ALL, Reading::ALL].concat();
    let named = named.into_iter().map(|(name, sql)| (name.to_owned(), sql.to_owned()));
    let writes = Parts::all().enumerate().map(|(place, sql)| (format!("write {place:07b}"), sql));
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
        /// Tasks whose time ran out: now, limit.
        tasks_overdue: concat!("SELECT ", rows::task_columns!(), " FROM tasks_open t WHERE t.expires_at <= $1 \
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
        results: concat!("SELECT ", rows::result_columns!(), " FROM results r \
             WHERE r.task_id = $1 ORDER BY r.id DESC");

        /// A final task that changed: a late result came, or it was deleted.
        update_done: "WITH changed AS (UPDATE tasks_done t SET status = $2, pending_at = $3, locked_at = $4, \
             lease_until = $5, deliveries = $6, results = $7, timeline = $8 WHERE t.id = $1 \
             AND age(t.xmin) >= 0 RETURNING 1) \
             SELECT 1 / count(*)::int4 FROM changed";
        /// What idempotency keys are used for now.
        put_idempotency: "INSERT INTO idempotency (org_id, key, request_digest, task_id, created_at) \
             SELECT * FROM unnest($1::int8[], $2::text[], $3::bytea[], $4::uuid[], $5::int8[]) \
             ON CONFLICT (org_id, key) DO UPDATE SET request_digest = excluded.request_digest, \
             task_id = excluded.task_id, created_at = excluded.created_at";
        /// Forgets idempotency keys: before, limit.
        prune_idempotency: "DELETE FROM idempotency WHERE (org_id, key) IN (SELECT org_id, key \
             FROM idempotency WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)";

        /// Which of these events are stored: devices, numbers, times. A limit keeps
        /// the planner from reading all events first while it knows of few.
        events_stored: "SELECT n.device_key, n.dev_event_id, n.dev_timestamp \
             FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS n (device_key, dev_event_id, dev_timestamp) \
             CROSS JOIN LATERAL (SELECT 1 FROM events e WHERE e.dev_timestamp = n.dev_timestamp \
             AND e.device_key = n.device_key AND e.dev_event_id = n.dev_event_id \
             AND e.dev_event_id <> 0 AND e.type_code >= 0 LIMIT 1) AS e";
        /// How far a caller has read: caller, device. Held until the commit, so
        /// that the next server gives it what comes after.
        event_offset: "SELECT number FROM event_offsets WHERE caller_id = $1 AND device_id = $2 FOR UPDATE";
        /// The same of a caller that may never have read: makes the row that is held.
        make_event_offset: "INSERT INTO event_offsets AS o (caller_id, device_id, number) VALUES ($1, $2, 0) \
             ON CONFLICT (caller_id, device_id) DO UPDATE SET number = o.number RETURNING number";
        /// How far callers have read: callers, devices, numbers.
        put_event_offsets: "INSERT INTO event_offsets (caller_id, device_id, number) \
             SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[]) \
             ON CONFLICT (caller_id, device_id) DO UPDATE SET number = excluded.number";
        /// Events of an organisation: organisation, after, limit.
        events_after: events_after!("");
        /// Events of a device: organisation, after, limit, device.
        events_of_device_after: events_after!("AND e.device_id = $4");

        /// A device with its connection and its tags.
        device: concat!("SELECT ", device_columns!(), " FROM devices d \
             LEFT JOIN connections c ON c.device_key = d.id \
             WHERE d.org_id = $1 AND d.device_id = $2 AND d.retired_at IS NULL FOR NO KEY UPDATE OF d");
        /// Whether a serial number is taken.
        sn_taken: rows::SN_IS_TAKEN;
        /// Waits for those who are giving a device of an organisation its number.
        device_id_lock: "SELECT pg_advisory_xact_lock($1::int4, hashint8($2::int8))";
        /// The next free number of an organisation.
        device_id_free: rows::DEVICE_ID_FREE;
        /// A new device.
        insert_device: "INSERT INTO devices (org_id, device_id, sn, created_at) VALUES ($1, $2, $3, $4) RETURNING id";
        /// Retires a device.
        retire_device: rows::DEVICE_RETIRE;
        /// Revokes its certificates.
        revoke_certificates: rows::CERTIFICATES_REVOKE;
        /// Sets a tag.
        put_tag: "INSERT INTO device_tags (org_id, device_key, tag, value) SELECT org_id, id, $2::text, $3::text FROM devices \
             WHERE id = $1 ON CONFLICT (device_key, tag) DO UPDATE SET value = excluded.value RETURNING id";
        /// How many other tags a device has.
        tags_beside: rows::TAGS_BESIDE;
        /// Remembers a certificate.
        insert_certificate: "INSERT INTO certificates (serial, device_key, org_id, issued_at, not_after) \
             SELECT $1::text, id, org_id, $3::int8, $4::int8 FROM devices WHERE id = $2";
        /// Sets a presence if it is news; divides by zero if the news before it would
        /// have a later number ([`super::write`]). Answers when the device last
        /// connected, and what was told of it.
        put_presence: "INSERT INTO connections AS c (device_key, org_id, online, connected_at, checked_at, \
             details, session, server, reason) SELECT id, org_id, $2::bool, $3::int8, $4::int8, $5::text, $6::text, \
             $7::text, $8::text FROM devices WHERE id = $1 \
             ON CONFLICT (device_key) DO UPDATE SET online = excluded.online, checked_at = excluded.checked_at, \
             details = excluded.details, connected_at = coalesce(excluded.connected_at, c.connected_at), \
             session = excluded.session, server = excluded.server, reason = excluded.reason \
             WHERE CASE WHEN excluded.online THEN NOT c.online OR c.session <> excluded.session \
             ELSE c.online AND c.session = excluded.session END AND 1 / (age(c.xmin) >= 0)::int4 = 1 \
             RETURNING c.connected_at, c.told_online, c.told_changes, c.told_since, c.told_due";
        /// What was told of a device, with the same care.
        presence_told: "SELECT c.told_online, c.told_changes, c.told_since, c.told_due \
             FROM connections c WHERE c.device_key = $1 AND 1 / (age(c.xmin) >= 0)::int4 = 1 FOR UPDATE";
        /// Presences of devices that are held: keys, and a value of each column.
        put_presences: "UPDATE connections c SET online = n.online, connected_at = n.connected_at, \
             checked_at = n.checked_at, details = n.details, session = n.session, server = n.server, \
             reason = n.reason FROM unnest($1::int8[], $2::bool[], $3::int8[], $4::int8[], $5::text[], $6::text[], \
             $7::text[], $8::text[]) AS n (device_key, online, connected_at, checked_at, details, session, \
             server, reason) WHERE c.device_key = n.device_key";
        /// What is told of devices that are held: keys, and a value of each column.
        put_presences_told: "UPDATE connections c SET told_online = n.told_online, told_changes = n.told_changes, \
             told_since = n.told_since, told_due = n.told_due \
             FROM unnest($1::int8[], $2::bool[], $3::int8[], $4::int8[], $5::int8[]) \
             AS n (device_key, told_online, told_changes, told_since, told_due) WHERE c.device_key = n.device_key";
        /// Devices of which something is to be told, as far as nobody else is at them:
        /// now, limit. What changed in a transaction of a later number is left for the
        /// next time, so that it comes first in the outbox.
        presences_due: presences!("c.told_due <= $1 AND age(c.xmin) >= 0 ORDER BY c.told_due LIMIT $2 \
             FOR UPDATE OF c SKIP LOCKED");
        /// Devices that a server holds: the server, limit. Waits for those that others
        /// are at: one that was left out would seem to be connected for ever.
        presences_of_server: presences!("c.online AND c.server = $1 AND 1 / (age(c.xmin) >= 0)::int4 = 1 \
             LIMIT $2 FOR UPDATE OF c");

        /// The versions of a twin. Held until the commit, so that none is given
        /// twice; whoever has waited for it comes later in the outbox, too.
        twin: "SELECT t.reported_version, t.desired_version FROM twins t \
             WHERE t.device_key = $1 AND 1 / (age(t.xmin) >= 0)::int4 = 1 FOR UPDATE";
        /// The same of a twin that may never have been touched: makes the row that is held.
        make_twin: "INSERT INTO twins AS t (device_key, reported_version, desired_version) VALUES ($1, 0, 0) \
             ON CONFLICT (device_key) DO UPDATE SET reported_version = t.reported_version \
             WHERE 1 / (age(t.xmin) >= 0)::int4 = 1 RETURNING reported_version, desired_version";
        /// The resources of a twin.
        twin_resources: concat!("SELECT ", rows::twin_resource_columns!(), " FROM twin_resources r \
             WHERE r.device_key = $1 ORDER BY r.name");
        /// Versions of twins that are held: devices, reported, desired.
        put_twins: "UPDATE twins t SET reported_version = n.reported, desired_version = n.desired \
             FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS n (device_key, reported, desired) \
             WHERE t.device_key = n.device_key";
        /// Resources of twins that are held: devices, names, and a value of each column.
        put_twin_resources: "INSERT INTO twin_resources (device_key, name, reported, reported_version, reported_at, \
             desired, desired_version, desired_at, desired_task) SELECT * FROM unnest($1::int8[], $2::text[], \
             $3::text[], $4::int8[], $5::int8[], $6::text[], $7::int8[], $8::int8[], $9::uuid[]) \
             ON CONFLICT (device_key, name) DO UPDATE SET reported = excluded.reported, \
             reported_version = excluded.reported_version, reported_at = excluded.reported_at, \
             desired = excluded.desired, desired_version = excluded.desired_version, \
             desired_at = excluded.desired_at, desired_task = excluded.desired_task";
        /// Resources that have neither value any more: devices, names.
        remove_twin_resources: "DELETE FROM twin_resources r USING unnest($1::int8[], $2::text[]) \
             AS n (device_key, name) WHERE r.device_key = n.device_key AND r.name = n.name";
        /// What was reported: devices, names, versions, instants, values.
        add_twin_history: "INSERT INTO twin_history (org_id, device_key, name, version, at, value) \
             SELECT d.org_id, n.device_key, n.name, n.version, n.at, n.value FROM unnest($1::int8[], $2::text[], \
             $3::int8[], $4::int8[], $5::text[]) WITH ORDINALITY AS n (device_key, name, version, at, value, place) \
             JOIN devices d ON d.id = n.device_key ORDER BY n.place";

        /// For how many days an organisation keeps something.
        put_retention: rows::RETENTION_PUT;
        /// It keeps it as long as all others.
        remove_retention: rows::RETENTION_REMOVE;
        /// An organisation of a name.
        ensure_org: rows::ORG_ENSURE;
        /// A new API key.
        insert_key: rows::API_KEY_INSERT;
        /// Whether there is or was a key, after those who are about to make one.
        key_lock: "SELECT pg_advisory_xact_lock($1::int4, 0)";
        /// Whether there is or was a key.
        any_key: rows::API_KEY_EXISTS;
        /// Revokes a key. Its digest is free again: a certificate may be registered anew.
        revoke_key: "UPDATE api_keys SET revoked_at = $2, digest = sha256(uuid_send(gen_random_uuid())) \
            WHERE id = $1 AND revoked_at IS NULL";

        /// See there.
        webhook_lock: webhooks::LOCK;
        webhook: webhooks::ENDPOINT;
        webhook_default: webhooks::DEFAULT;
        webhook_count: rows::WEBHOOK_COUNT;
        webhook_insert: webhooks::INSERT;
        webhook_update: rows::WEBHOOK_UPDATE;
        webhook_begin_anew: webhooks::BEGIN_ANEW;
        webhook_delete: rows::WEBHOOK_DELETE;
        webhook_claim: webhooks::CLAIM;
        webhook_release: rows::WEBHOOK_RELEASE;
        webhook_progress: webhooks::PROGRESS;
        webhook_letter_counts: webhooks::LETTER_COUNTS;
        webhook_remove_letters: webhooks::REMOVE_LETTERS;
        webhook_put_letters: webhooks::PUT_LETTERS;
        webhook_count_letters: webhooks::COUNT_LETTERS;
        webhook_next_log: rows::WEBHOOK_NEXT_LOG;
        webhook_insert_log: webhooks::INSERT_LOG;
        webhook_trim_log: rows::WEBHOOK_TRIM_LOG;
        webhook_resend: webhooks::RESEND;
        webhook_forget_log: webhooks::FORGET_LOG;
        webhook_forget_dead: webhooks::FORGET_DEAD;
        webhook_forget_letters: webhooks::FORGET_LETTERS;
        webhook_forget_logs: webhooks::FORGET_LOGS;
        webhook_forget_endpoints: webhooks::FORGET_ENDPOINTS;
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// An open task by its id: id, organisation.
        task_open: concat!("SELECT ", rows::task_columns!(), " FROM tasks_open t WHERE t.id = $1 AND t.org_id = $2");
        /// A final task by its id: id, organisation.
        task_done: concat!("SELECT ", rows::task_columns!(), " FROM tasks_done t WHERE t.id = $1 AND t.org_id = $2");
        /// The results of a task, newest first.
        results: concat!("SELECT ", rows::result_columns!(), " FROM results r \
             WHERE r.task_id = $1 ORDER BY r.id DESC");
        /// The tasks of a device that may be announced: device, now, limit.
        task_announceable: concat!("SELECT ", rows::task_columns!(), " FROM tasks_open t WHERE t.device_key = $1 \
             AND t.expires_at > $2 AND (t.status < 2 OR t.lease_until IS NULL OR t.lease_until <= $2) ",
            by_rank!(), " LIMIT $3");
        /// Tasks whose lease ran out: after this instant and this `seq`, until, limit.
        task_lapsed: concat!("SELECT ", rows::task_columns!(), " FROM tasks_open t WHERE t.status = 2 \
             AND (t.lease_until, t.seq) > ($1::int8, $2::int8) AND t.lease_until <= $3 AND t.expires_at > $3 \
             ORDER BY t.lease_until, t.seq LIMIT $4");
        /// Whether there is any task whose time ran out: now.
        task_overdue_any: "SELECT EXISTS (SELECT 1 FROM tasks_open WHERE expires_at <= $1)";
        /// Which devices have tasks that may be announced: devices, now.
        task_waiting: "SELECT n.device_key FROM unnest($1::int8[]) WITH ORDINALITY AS n (device_key, place) \
             WHERE EXISTS (SELECT 1 FROM tasks_open t WHERE t.device_key = n.device_key AND t.expires_at > $2 \
             AND (t.status < 2 OR t.lease_until IS NULL OR t.lease_until <= $2)) ORDER BY n.place";
        /// Final tasks by their ids.
        task_final: concat!("SELECT ", rows::task_columns!(), " FROM unnest($1::uuid[]) WITH ORDINALITY AS n (id, place) \
             CROSS JOIN LATERAL (SELECT * FROM tasks_done d WHERE d.id = n.id) AS t ORDER BY n.place");
        /// Their results, each with its task.
        results_of: concat!("SELECT ", rows::result_columns!(), ", r.task_id \
             FROM unnest($1::uuid[]) AS n (id) \
             CROSS JOIN LATERAL (SELECT * FROM results s WHERE s.task_id = n.id) AS r ORDER BY r.id DESC");
        /// The device with a certificate that is registered under a serial number.
        device_of_sn: rows::DEVICE_OF_SN;
        /// Serial numbers of devices with a certificate: after, limit.
        device_sns: rows::DEVICE_SNS;
        /// Devices that are connected: after, limit.
        presence_online: "SELECT d.id, d.org_id, d.device_id, d.sn, c.session FROM connections c \
             JOIN devices d ON d.id = c.device_key WHERE c.online AND c.device_key > $1 \
             ORDER BY c.device_key LIMIT $2";
        /// Who a certificate belongs to: serial number, SN.
        device_of_certificate: rows::DEVICE_OF_CERTIFICATE;
        /// The API key of a digest.
        api_key: rows::API_KEY;
        /// All API keys.
        api_keys: rows::API_KEY_LIST;
        /// Events of an organisation: organisation, after, limit.
        events_after: events_after!("");
        /// Events of a device: organisation, after, limit, device.
        events_of_device_after: events_after!("AND e.device_id = $4");
        /// The gauges of devices: devices, organisation.
        gauges_of: concat!("SELECT ", rows::gauge_columns!(), " FROM unnest($1::int8[]) WITH ORDINALITY AS n (device_key, place) \
             CROSS JOIN LATERAL (SELECT * FROM gauges g WHERE g.device_key = n.device_key OFFSET 0) AS g \
             WHERE g.org_id = $2 ORDER BY n.place, g.type_code");
        /// Records of all organisations: after, until, limit, with tags.
        records: records!("", "(SELECT r.number FROM records r WHERE r.number > s.position ORDER BY r.number LIMIT 1) IS NOT NULL");
        /// Those of one: after, until, limit, with tags, organisation.
        records_of_org: records!("AND r.org_id = $5", "false");
        /// Which records there are: of an organisation, if there is one.
        record_span: concat!("WITH ", settled!(), " SELECT s.position, s.unknown, s.next, \
             greatest(0, (SELECT value::int8 FROM deployment WHERE key = 'records_forgotten'), \
             (SELECT number FROM records_forgotten WHERE org_id = $1::int8)) FROM settled s");
        /// Whether something is to be told of any device: now.
        presence_due: "SELECT EXISTS (SELECT 1 FROM connections c WHERE c.told_due <= $1)";
        /// A device with the versions of its twin: organisation, number.
        twin: "SELECT d.id, d.org_id, d.device_id, d.sn, coalesce(t.reported_version, 0), \
             coalesce(t.desired_version, 0) FROM devices d LEFT JOIN twins t ON t.device_key = d.id \
             WHERE d.org_id = $1 AND d.device_id = $2 AND d.retired_at IS NULL";
        /// The resources of its twin: organisation, number.
        twin_resources: concat!("SELECT ", rows::twin_resource_columns!(), " FROM twin_resources r WHERE r.device_key = \
             (SELECT d.id FROM devices d WHERE d.org_id = $1 AND d.device_id = $2 AND d.retired_at IS NULL) \
             ORDER BY r.name");
        /// What it reported of one, newest first: organisation, number, name, before, limit.
        twin_history: "SELECT h.value, h.version, h.at FROM twin_history h WHERE h.device_key = \
             (SELECT d.id FROM devices d WHERE d.org_id = $1 AND d.device_id = $2 AND d.retired_at IS NULL) \
             AND h.name = $3 AND h.version < $4 ORDER BY h.version DESC LIMIT $5";
        /// What organisations keep for a time of their own.
        retention: rows::RETENTION;
        /// How many tasks are in each state.
        task_counts: "SELECT status, sum(count)::int8 FROM task_counts GROUP BY status ORDER BY status";

        /// See there.
        webhook_list: rows::WEBHOOK_LIST;
        webhook_log_before: webhooks::LOG_BEFORE;
        webhook_log_after: webhooks::LOG_AFTER;
        webhook_dead_before: webhooks::DEAD_BEFORE;
        webhook_dead_after: webhooks::DEAD_AFTER;
        webhook_dead_one: webhooks::DEAD_ONE;
        webhook_letter: webhooks::LETTER;
        webhook_claimable: rows::WEBHOOK_CLAIMABLE;
        webhook_held: webhooks::HELD;
        webhook_lanes: webhooks::LANES;
        webhook_letters: webhooks::LETTERS;
        webhook_states: rows::WEBHOOK_STATES;
    }
}
