//! Webhooks: the statements. Those on endpoints are rare; what was delivered is written
//! for many deliveries at once.

mod reads;
mod steps;

use crate::postgres::numbers::settled;
use crate::postgres::prepared::prepared;
use crate::postgres::record::{record_bytes, whole_record_columns, whole_record_joins};
use crate::rows;

/// That an endpoint is one of the caller's: its number, the organisation.
macro_rules! of_org {
    () => {
        "EXISTS (SELECT 1 FROM webhooks w WHERE w.id = $1 AND w.org_id = $2 AND w.deleted_at IS NULL)"
    };
}

/// Dead letters with what they tell, up to a bound of bytes; first the columns of a record, then those
/// of the delivery, then how it died.
macro_rules! dead {
    ($rest:literal, $order:literal, $bytes:literal) => {
        concat!(
            "SELECT * FROM (SELECT 0::int8, NULL::int8, 0::int8, false, ",
            whole_record_columns!("false"),
            ", r.number, r.device_key, r.device_id, r.deadline, r.attempts, r.next_at, r.last_status, \
             r.last_error, r.died_at, sum(",
            record_bytes!("0"),
            ") OVER up_to AS bytes, row_number() OVER up_to AS place \
             FROM (SELECT * FROM webhook_letters l WHERE l.webhook_id = $1 AND ",
            of_org!(),
            " AND l.state = 1 ",
            $rest,
            ") AS r ",
            whole_record_joins!(),
            " WINDOW up_to AS (ORDER BY r.number ",
            $order,
            ")) AS p WHERE p.place = 1 OR p.bytes <= ",
            $bytes,
            "::int8 ORDER BY p.place"
        )
    };
}

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Waits for those who are changing which endpoints an organisation has: class, organisation.
        webhook_lock: "SELECT pg_advisory_xact_lock($1::int4, hashint8($2::int8))";
        /// An endpoint: number, organisation.
        webhook: concat!(
            "SELECT ",
            rows::endpoint_columns!(),
            " FROM webhooks w WHERE w.id = $1 AND w.org_id = $2 AND w.deleted_at IS NULL FOR UPDATE"
        );
        /// The endpoint that a type names: organisation, type.
        webhook_default: concat!(
            "SELECT ",
            rows::endpoint_columns!(),
            " FROM webhooks w WHERE w.org_id = $1 AND w.event_type = $2 AND w.is_default AND w.deleted_at IS NULL \
             FOR UPDATE"
        );
        /// [`rows::WEBHOOK_COUNT`].
        webhook_count: rows::WEBHOOK_COUNT;
        /// A new endpoint, which begins at the end of the outbox.
        webhook_insert: concat!(
            "WITH ",
            settled!(),
            ", made AS (INSERT INTO webhooks (org_id, event_type, is_default, version, url, headers, is_active, \
             filter, format, concurrency, device_id_in_path, secret, created_at, updated_at) \
             VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12) RETURNING id) \
             INSERT INTO webhook_progress (webhook_id, position) SELECT m.id, s.position FROM made m, settled s \
             RETURNING webhook_id"
        );
        /// [`rows::WEBHOOK_UPDATE`].
        webhook_update: rows::WEBHOOK_UPDATE;
        /// It begins at the end of the outbox: number.
        webhook_begin_anew: concat!(
            "WITH ",
            settled!(),
            " UPDATE webhook_progress p SET position = greatest(p.position, s.position) FROM settled s \
             WHERE p.webhook_id = $1"
        );
        /// [`rows::WEBHOOK_DELETE`].
        webhook_delete: rows::WEBHOOK_DELETE;
        /// Takes or renews hold: numbers, server, nonce, until, now.
        webhook_claim: "UPDATE webhook_progress SET holder = $2, holder_nonce = $3, held_until = $4 \
            WHERE webhook_id IN (SELECT p.webhook_id FROM webhook_progress p JOIN webhooks w ON w.id = p.webhook_id \
            WHERE p.webhook_id = ANY($1::int8[]) AND w.is_active AND w.deleted_at IS NULL \
            AND (p.holder IS NULL OR p.holder = $2 OR p.held_until <= $5) \
            ORDER BY p.webhook_id FOR UPDATE OF p SKIP LOCKED)";
        /// [`rows::WEBHOOK_RELEASE`].
        webhook_release: rows::WEBHOOK_RELEASE;
        /// What was done, if it is still held: number, server, nonce, position, until,
        /// open since, failures, last error, last delivered, rows of the log.
        webhook_progress: "UPDATE webhook_progress SET position = greatest(position, $4), \
            held_until = $5, open_since = $6, failures = $7, last_error = $8, \
            last_delivered_at = coalesce($9, last_delivered_at), log_head = log_head + $10::int8 \
            WHERE webhook_id = $1 AND holder = $2 AND holder_nonce = $3 AND EXISTS \
            (SELECT 1 FROM webhooks w WHERE w.id = $1 AND w.deleted_at IS NULL) RETURNING resends, log_head";
        /// How many of these deliveries wait, and how many are dead: endpoint, numbers.
        webhook_delivery_counts: "SELECT count(*) FILTER (WHERE state = 0), \
            count(*) FILTER (WHERE state = 1) FROM webhook_letters WHERE webhook_id = $1 AND number = ANY($2::int8[])";
        /// Removes deliveries: endpoint, numbers.
        webhook_remove_deliveries: "DELETE FROM webhook_letters WHERE webhook_id = $1 AND number = ANY($2::int8[])";
        /// Deliveries with their new state; those that are not there are made of their
        /// records. Endpoint, then lists: number, state, deadline, attempts, next,
        /// status, error, death.
        webhook_put_deliveries: "WITH given AS MATERIALIZED (SELECT * FROM unnest($2::int8[], \
            $3::int2[], $4::int8[], $5::int8[], $6::int8[], $7::int4[], $8::text[], $9::int8[]) \
            AS g (number, state, deadline, attempts, next_at, last_status, last_error, died_at)), \
            changed AS (UPDATE webhook_letters l SET state = g.state, deadline = g.deadline, attempts = g.attempts, \
            next_at = g.next_at, last_status = g.last_status, last_error = g.last_error, died_at = g.died_at \
            FROM given g WHERE l.webhook_id = $1 AND l.number = g.number RETURNING l.number) \
            INSERT INTO webhook_letters (webhook_id, number, state, deadline, attempts, next_at, last_status, \
            last_error, died_at, org_id, device_key, device_id, sn, at, kind, task_id, result_id, status, name, \
            version, value, dev_timestamp) \
            SELECT $1, g.number, g.state, g.deadline, g.attempts, g.next_at, g.last_status, g.last_error, g.died_at, \
            r.org_id, r.device_key, r.device_id, r.sn, r.at, r.kind, r.task_id, r.result_id, r.status, r.name, \
            r.version, r.value, r.dev_timestamp FROM given g CROSS JOIN LATERAL (SELECT * FROM records r \
            WHERE r.number = g.number LIMIT 1) AS r WHERE NOT EXISTS (SELECT 1 FROM changed c WHERE c.number = g.number)";
        /// By how much the numbers of deliveries have changed: endpoint, waiting, dead.
        webhook_count_deliveries: "UPDATE webhook_progress SET parked = parked + $2::int8, dead = dead + $3::int8 WHERE webhook_id = $1";
        /// [`rows::WEBHOOK_NEXT_LOG`].
        webhook_next_log: rows::WEBHOOK_NEXT_LOG;
        /// Rows of the log: endpoint, the number before the first, then lists: record,
        /// device, attempt, instant, duration, status, error, outcome.
        webhook_insert_log: "INSERT INTO webhook_deliveries (webhook_id, seq, number, device_id, \
            attempt, at, duration_ms, status, error, outcome) SELECT $1, $2::int8 + g.place, g.number, g.device_id, \
            g.attempt, g.at, g.duration_ms, g.status, g.error, g.outcome FROM unnest($3::int8[], $4::int8[], \
            $5::int8[], $6::int8[], $7::int8[], $8::int4[], $9::text[], $10::text[]) WITH ORDINALITY \
            AS g (number, device_id, attempt, at, duration_ms, status, error, outcome, place)";
        /// [`rows::WEBHOOK_TRIM_LOG`].
        webhook_trim_log: rows::WEBHOOK_TRIM_LOG;
        /// Puts dead letters back: endpoint, deadline, number or none, limit.
        webhook_resend: "WITH again AS (UPDATE webhook_letters SET state = 0, deadline = $2, \
            attempts = 0, next_at = 0, died_at = NULL WHERE webhook_id = $1 AND number IN (SELECT number \
            FROM webhook_letters WHERE webhook_id = $1 AND state = 1 AND ($3::int8 IS NULL OR number = $3) \
            ORDER BY number LIMIT $4 FOR UPDATE) RETURNING 1), counted AS (SELECT count(*) AS count FROM again) \
            UPDATE webhook_progress SET parked = parked + c.count, dead = dead - c.count, resends = resends + 1 \
            FROM counted c WHERE webhook_id = $1 AND c.count > 0 RETURNING c.count";
        /// Forgets what was logged before an instant: instant, limit.
        webhook_forget_log: "DELETE FROM webhook_deliveries WHERE (webhook_id, seq) IN \
            (SELECT webhook_id, seq FROM webhook_deliveries WHERE at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
        /// Forgets deliveries that died before an instant: instant, limit.
        webhook_forget_dead: "WITH gone AS (DELETE FROM webhook_letters WHERE (webhook_id, number) IN \
            (SELECT webhook_id, number FROM webhook_letters WHERE state = 1 AND died_at < $1 LIMIT $2 \
            FOR UPDATE SKIP LOCKED) RETURNING webhook_id), counted AS (SELECT webhook_id, count(*) AS count FROM gone \
            GROUP BY webhook_id), less AS (UPDATE webhook_progress p SET dead = p.dead - c.count FROM counted c \
            WHERE p.webhook_id = c.webhook_id) SELECT count(*) FROM gone";
        /// Removes what deleted endpoints left: limit.
        webhook_forget_deliveries: "DELETE FROM webhook_letters WHERE (webhook_id, number) IN \
            (SELECT l.webhook_id, l.number FROM webhooks w JOIN webhook_letters l ON l.webhook_id = w.id \
            WHERE w.deleted_at IS NOT NULL LIMIT $1 FOR UPDATE OF l SKIP LOCKED)";
        /// The same of their logs: limit.
        webhook_forget_logs: "DELETE FROM webhook_deliveries WHERE (webhook_id, seq) IN \
            (SELECT d.webhook_id, d.seq FROM webhooks w JOIN webhook_deliveries d ON d.webhook_id = w.id \
            WHERE w.deleted_at IS NOT NULL LIMIT $1 FOR UPDATE OF d SKIP LOCKED)";
        /// Removes deleted endpoints of which nothing is left: limit.
        webhook_forget_endpoints: "WITH gone AS (DELETE FROM webhooks WHERE id IN \
            (SELECT w.id FROM webhooks w WHERE w.deleted_at IS NOT NULL \
            AND NOT EXISTS (SELECT 1 FROM webhook_letters l WHERE l.webhook_id = w.id) \
            AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.webhook_id = w.id) \
            LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING id), \
            progress AS (DELETE FROM webhook_progress WHERE webhook_id IN (SELECT id FROM gone)) \
            SELECT count(*) FROM gone";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// [`rows::WEBHOOK_LIST`].
        webhook_list: rows::WEBHOOK_LIST;
        /// A log, newest first: endpoint, organisation, before, outcome, limit.
        webhook_log_before: concat!(
            "SELECT ",
            rows::log_columns!(),
            " FROM webhook_deliveries WHERE webhook_id = $1 AND ",
            of_org!(),
            " AND seq < $3 AND ($4::text IS NULL OR outcome = $4) ORDER BY seq DESC LIMIT $5"
        );
        /// The same, oldest first: endpoint, organisation, after, outcome, limit.
        webhook_log_after: concat!(
            "SELECT ",
            rows::log_columns!(),
            " FROM webhook_deliveries WHERE webhook_id = $1 AND ",
            of_org!(),
            " AND seq > $3 AND ($4::text IS NULL OR outcome = $4) ORDER BY seq LIMIT $5"
        );
        /// Dead letters, newest first: endpoint, organisation, before, limit, bytes.
        webhook_dead_before: dead!("AND l.number < $3 ORDER BY l.number DESC LIMIT $4", "DESC", "$5");
        /// The same, oldest first: endpoint, organisation, after, limit, bytes.
        webhook_dead_after: dead!("AND l.number > $3 ORDER BY l.number LIMIT $4", "ASC", "$5");
        /// One: endpoint, organisation, number.
        webhook_dead_one: dead!("AND l.number = $3", "ASC", "0");
        /// What a delivery tells: endpoint, number.
        webhook_delivery: concat!(
            "SELECT 0::int8, NULL::int8, 0::int8, false, ",
            whole_record_columns!("false"),
            " FROM (SELECT * FROM webhook_letters l WHERE l.webhook_id = $1 AND l.number = $2) AS r ",
            whole_record_joins!()
        );
        /// [`rows::WEBHOOK_CLAIMABLE`].
        webhook_claimable: rows::WEBHOOK_CLAIMABLE;
        /// Those of these that are held: numbers, server, nonce.
        webhook_held: concat!(
            "SELECT ",
            rows::endpoint_columns!(),
            ", p.position, p.open_since, p.failures, p.resends, coalesce((SELECT json_agg(l.number)::text \
             FROM webhook_letters l WHERE l.webhook_id = w.id AND l.number > p.position), '[]') \
             FROM webhooks w JOIN webhook_progress p ON p.webhook_id = w.id \
             WHERE w.id = ANY($1::int8[]) AND w.is_active AND w.deleted_at IS NULL AND p.holder = $2 \
             AND p.holder_nonce = $3"
        );
        /// Devices that have deliveries waiting: endpoint.
        webhook_device_queues: "SELECT device_key, min(number), max(number) FROM webhook_letters \
            WHERE webhook_id = $1 AND state = 0 GROUP BY device_key";
        /// Deliveries of devices: endpoint, devices, after which, limit of each.
        webhook_queued_deliveries: concat!(
            "SELECT ",
            rows::delivery_columns!(),
            " FROM unnest($2::int8[], $3::int8[]) AS n (device_key, after) CROSS JOIN LATERAL \
             (SELECT * FROM webhook_letters l WHERE l.webhook_id = $1 AND l.device_key = n.device_key \
             AND l.number > n.after AND l.state = 0 ORDER BY l.number LIMIT $4) AS l ORDER BY l.device_key, l.number"
        );
        /// [`rows::WEBHOOK_STATES`].
        webhook_states: rows::WEBHOOK_STATES;
        /// [`rows::WEBHOOK_TROUBLES`].
        webhook_troubles: rows::WEBHOOK_TROUBLES;
    }
}
