//! What is moved: each table of SQLite with its columns, the order in which it
//! is read on both sides, and where it goes.

/// How a column is stored in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int2,
    Int4,
    Int8,
    Bool,
    Text,
    /// Text or a blob of SQLite, as bytes.
    Bytes,
    Uuid,
}

/// A column of the target, and what it is made of.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// An expression over the source.
    pub(super) source: &'static str,
    pub(super) kind: Kind,
}

/// Where rows go.
#[derive(Debug)]
pub(super) enum Target {
    One(&'static str),
    /// Tasks that are not final to one table, final ones to the other; with the
    /// place of the column that says which.
    ByStatus {
        open: &'static str,
        done: &'static str,
        status: usize,
    },
}

/// A table of the source.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    /// The places of the columns whose values tell rows apart; also the order
    /// in which both sides are read. Both compare text and blobs byte by byte.
    pub(super) key: &'static [usize],
    /// What stands behind FROM, for the source.
    pub(super) from: &'static str,
    /// Rows after a key.
    pub(super) after: &'static str,
    /// What stands behind FROM, for the target, if that is not the table itself.
    pub(super) reread: Option<&'static str>,
    pub(super) target: Target,
}

const fn same(name: &'static str, kind: Kind) -> Column {
    Column { name, source: name, kind }
}

const fn made(name: &'static str, source: &'static str, kind: Kind) -> Column {
    Column { name, source, kind }
}

use Kind::{Bool, Bytes, Int2, Int4, Int8, Text, Uuid};

/// All tables, those that others refer to first.
pub(super) const TABLES: [Table; 24] = [
    Table {
        name: "orgs",
        columns: &[same("id", Int8), same("name", Text), same("created_at", Int8)],
        key: &[0],
        from: "orgs",
        after: "id > ?1",
        reread: None,
        target: Target::One("orgs"),
    },
    Table {
        name: "api_keys",
        columns: &[
            same("id", Int8),
            same("org_id", Int8),
            same("name", Text),
            same("rights", Int8),
            same("digest", Bytes),
            same("created_at", Int8),
            same("revoked_at", Int8),
            same("last_used_at", Int8),
        ],
        key: &[0],
        from: "api_keys",
        after: "id > ?1",
        reread: None,
        target: Target::One("api_keys"),
    },
    Table {
        name: "devices",
        columns: &[
            same("id", Int8),
            same("org_id", Int8),
            same("device_id", Int8),
            same("sn", Text),
            same("created_at", Int8),
            same("retired_at", Int8),
        ],
        key: &[0],
        from: "devices",
        after: "id > ?1",
        reread: None,
        target: Target::One("devices"),
    },
    Table {
        name: "device_tags",
        columns: &[
            same("id", Int8),
            same("org_id", Int8),
            same("device_key", Int8),
            same("tag", Text),
            same("value", Text),
        ],
        key: &[0],
        from: "device_tags",
        after: "id > ?1",
        reread: None,
        target: Target::One("device_tags"),
    },
    Table {
        name: "certificates",
        columns: &[
            same("serial", Text),
            same("device_key", Int8),
            same("org_id", Int8),
            same("issued_at", Int8),
            same("not_after", Int8),
            same("revoked_at", Int8),
        ],
        key: &[0, 1],
        from: "certificates",
        after: "(serial, device_key) > (?1, ?2)",
        reread: None,
        target: Target::One("certificates"),
    },
    Table {
        name: "connections",
        columns: &[
            same("device_key", Int8),
            same("org_id", Int8),
            same("online", Bool),
            same("connected_at", Int8),
            same("checked_at", Int8),
            same("details", Text),
            same("session", Text),
            same("server", Text),
            same("reason", Text),
            same("told_online", Bool),
            same("told_changes", Int8),
            same("told_since", Int8),
            same("told_due", Int8),
        ],
        key: &[0],
        from: "connections",
        after: "device_key > ?1",
        reread: None,
        target: Target::One("connections"),
    },
    Table {
        name: "tasks",
        columns: &[
            same("id", Uuid),
            same("seq", Int8),
            same("org_id", Int8),
            same("device_key", Int8),
            same("device_id", Int8),
            same("sn", Text),
            same("ext_task_id", Text),
            same("method_code", Int4),
            same("method", Text),
            same("priority", Int2),
            same("push_only", Bool),
            same("created_at", Int8),
            same("expires_at", Int8),
            same("status", Int2),
            same("pending_at", Int8),
            same("locked_at", Int8),
            same("lease_until", Int8),
            same("deliveries", Int8),
            same("results", Int8),
            same("timeline", Text),
            same("payload", Text),
            same("created_by", Text),
        ],
        key: &[0],
        from: "tasks",
        after: "id > ?1",
        reread: None,
        target: Target::ByStatus { open: "tasks_open", done: "tasks_done", status: 13 },
    },
    Table {
        name: "results",
        columns: &[
            made("task_id", "t.id", Uuid),
            made("id", "r.id", Int8),
            made("org_id", "r.org_id", Int8),
            made("ext_id", "r.ext_id", Int8),
            made("status_code", "r.status_code", Int8),
            made("body_hash", "r.body_hash", Int8),
            made("received_at", "r.received_at", Int8),
            made("body_kind", "r.body_kind", Int2),
            made("body", "r.body", Bytes),
        ],
        key: &[0, 1],
        // In this order of the loops the rows come almost sorted (SQLite "CROSS JOIN").
        from: "tasks t CROSS JOIN results r ON r.task_seq = t.seq",
        after: "t.id >= ?1 AND (t.id > ?1 OR r.id > ?2)",
        reread: None,
        target: Target::One("results"),
    },
    Table {
        name: "idempotency",
        columns: &[
            same("org_id", Int8),
            same("key", Text),
            same("request_digest", Bytes),
            same("task_id", Uuid),
            same("created_at", Int8),
        ],
        key: &[0, 1],
        from: "idempotency",
        after: "(org_id, key) > (?1, ?2)",
        reread: None,
        target: Target::One("idempotency"),
    },
    Table {
        name: "task_counts",
        columns: &[same("org_id", Int8), same("status", Int2), made("slot", "0", Int4), same("count", Int8)],
        key: &[0, 1],
        from: "task_counts",
        after: "(org_id, status) > (?1, ?2)",
        reread: Some(
            "(SELECT org_id, status, min(slot) AS slot, sum(count)::int8 AS count \
             FROM task_counts GROUP BY org_id, status) AS t",
        ),
        target: Target::One("task_counts"),
    },
    Table {
        name: "records",
        columns: &[
            made("number", "r.number", Int8),
            made("org_id", "r.org_id", Int8),
            made("device_key", "r.device_key", Int8),
            made("device_id", "r.device_id", Int8),
            made("sn", "r.sn", Text),
            made("at", "r.at", Int8),
            made("kind", "r.kind", Int2),
            made("task_id", "r.task_id", Uuid),
            made("result_id", "r.result_id", Int8),
            made("status", "r.status", Int2),
            made("name", "r.name", Text),
            made("version", "r.version", Int8),
            made("value", "r.value", Text),
            made("dev_timestamp", "e.dev_timestamp", Int8),
        ],
        key: &[0],
        // An event has the number of its record; 3 is the kind of these.
        from: "records r LEFT JOIN events e ON e.id = r.number AND r.kind = 3",
        after: "r.number > ?1",
        reread: None,
        target: Target::One("records"),
    },
    Table {
        name: "events",
        columns: &[
            same("id", Int8),
            same("org_id", Int8),
            same("device_key", Int8),
            same("device_id", Int8),
            same("sn", Text),
            same("type_code", Int8),
            same("dev_event_id", Int8),
            same("dev_timestamp", Int8),
            same("received_at", Int8),
            same("correlation", Uuid),
            same("payload", Text),
        ],
        key: &[0],
        from: "events",
        after: "id > ?1",
        reread: None,
        target: Target::One("events"),
    },
    Table {
        name: "event_counts",
        columns: &[same("org_id", Int8), made("slot", "0", Int4), same("count", Int8)],
        key: &[0],
        from: "event_counts",
        after: "org_id > ?1",
        reread: Some(
            "(SELECT org_id, min(slot) AS slot, sum(count)::int8 AS count FROM event_counts GROUP BY org_id) AS t",
        ),
        target: Target::One("event_counts"),
    },
    Table {
        name: "gauges",
        columns: &[
            same("device_key", Int8),
            same("type_code", Int8),
            same("org_id", Int8),
            same("device_id", Int8),
            same("updated_at", Int8),
            same("payload", Text),
        ],
        key: &[0, 1],
        from: "gauges",
        after: "(device_key, type_code) > (?1, ?2)",
        reread: None,
        target: Target::One("gauges"),
    },
    Table {
        name: "event_offsets",
        columns: &[same("caller_id", Int8), same("device_id", Int8), same("number", Int8)],
        key: &[0, 1],
        from: "event_offsets",
        after: "(caller_id, device_id) > (?1, ?2)",
        reread: None,
        target: Target::One("event_offsets"),
    },
    Table {
        name: "twins",
        columns: &[same("device_key", Int8), same("reported_version", Int8), same("desired_version", Int8)],
        key: &[0],
        from: "twins",
        after: "device_key > ?1",
        reread: None,
        target: Target::One("twins"),
    },
    Table {
        name: "twin_resources",
        columns: &[
            same("device_key", Int8),
            same("name", Text),
            same("reported", Text),
            same("reported_version", Int8),
            same("reported_at", Int8),
            same("desired", Text),
            same("desired_version", Int8),
            same("desired_at", Int8),
            same("desired_task", Uuid),
        ],
        key: &[0, 1],
        from: "twin_resources",
        after: "(device_key, name) > (?1, ?2)",
        reread: None,
        target: Target::One("twin_resources"),
    },
    Table {
        name: "twin_history",
        columns: &[
            same("id", Int8),
            same("org_id", Int8),
            same("device_key", Int8),
            same("name", Text),
            same("version", Int8),
            same("at", Int8),
            same("value", Text),
        ],
        key: &[0],
        from: "twin_history",
        after: "id > ?1",
        reread: None,
        target: Target::One("twin_history"),
    },
    Table {
        name: "retention",
        columns: &[same("org_id", Int8), same("kept", Text), same("days", Int8)],
        key: &[0, 1],
        from: "retention",
        after: "(org_id, kept) > (?1, ?2)",
        reread: None,
        target: Target::One("retention"),
    },
    Table {
        name: "records_forgotten",
        columns: &[same("org_id", Int8), same("number", Int8)],
        key: &[0],
        from: "records_forgotten",
        after: "org_id > ?1",
        reread: None,
        target: Target::One("records_forgotten"),
    },
    Table {
        name: "webhooks",
        columns: &[
            same("id", Int8),
            same("org_id", Int8),
            same("event_type", Text),
            same("is_default", Bool),
            same("version", Int8),
            same("url", Text),
            same("headers", Text),
            same("is_active", Bool),
            same("filter", Text),
            same("format", Text),
            same("concurrency", Int4),
            same("secret", Text),
            same("old_secret", Text),
            same("old_secret_until", Int8),
            same("created_at", Int8),
            same("updated_at", Int8),
            same("deleted_at", Int8),
        ],
        key: &[0],
        from: "webhooks",
        after: "id > ?1",
        reread: None,
        target: Target::One("webhooks"),
    },
    Table {
        name: "webhook_progress",
        columns: &[
            same("webhook_id", Int8),
            same("position", Int8),
            same("parked", Int8),
            same("dead", Int8),
            same("resends", Int8),
            same("log_head", Int8),
            same("open_since", Int8),
            same("failures", Int8),
            same("last_error", Text),
            same("last_delivered_at", Int8),
            same("holder", Text),
            same("holder_nonce", Int8),
            same("held_until", Int8),
        ],
        key: &[0],
        from: "webhook_progress",
        after: "webhook_id > ?1",
        reread: None,
        target: Target::One("webhook_progress"),
    },
    Table {
        name: "webhook_letters",
        columns: &[
            made("webhook_id", "l.webhook_id", Int8),
            made("number", "l.number", Int8),
            made("state", "l.state", Int2),
            made("deadline", "l.deadline", Int8),
            made("attempts", "l.attempts", Int8),
            made("next_at", "l.next_at", Int8),
            made("last_status", "l.last_status", Int4),
            made("last_error", "l.last_error", Text),
            made("died_at", "l.died_at", Int8),
            made("org_id", "l.org_id", Int8),
            made("device_key", "l.device_key", Int8),
            made("device_id", "l.device_id", Int8),
            made("sn", "l.sn", Text),
            made("at", "l.at", Int8),
            made("kind", "l.kind", Int2),
            made("task_id", "l.task_id", Uuid),
            made("result_id", "l.result_id", Int8),
            made("status", "l.status", Int2),
            made("name", "l.name", Text),
            made("version", "l.version", Int8),
            made("value", "l.value", Text),
            made("dev_timestamp", "e.dev_timestamp", Int8),
        ],
        key: &[0, 1],
        // As of records, of which these are copies.
        from: "webhook_letters l LEFT JOIN events e ON e.id = l.number AND l.kind = 3",
        after: "(l.webhook_id, l.number) > (?1, ?2)",
        reread: None,
        target: Target::One("webhook_letters"),
    },
    Table {
        name: "webhook_deliveries",
        columns: &[
            same("webhook_id", Int8),
            same("seq", Int8),
            same("number", Int8),
            same("device_id", Int8),
            same("attempt", Int8),
            same("at", Int8),
            same("duration_ms", Int8),
            same("status", Int4),
            same("error", Text),
            same("outcome", Text),
        ],
        key: &[0, 1],
        from: "webhook_deliveries",
        after: "(webhook_id, seq) > (?1, ?2)",
        reread: None,
        target: Target::One("webhook_deliveries"),
    },
];

/// Sequences of the target, each with the table and the column of the source
/// whose values come from it.
pub(super) const SEQUENCES: [(&str, &str, &str); 8] = [
    ("orgs_id_seq", "orgs", "id"),
    ("api_keys_id_seq", "api_keys", "id"),
    ("devices_id_seq", "devices", "id"),
    ("device_tags_id_seq", "device_tags", "id"),
    ("task_seq", "tasks", "seq"),
    ("result_seq", "results", "id"),
    ("twin_history_id_seq", "twin_history", "id"),
    ("webhooks_id_seq", "webhooks", "id"),
];

impl Table {
    fn names(&self) -> String {
        self.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
    }

    fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|place| self.columns.get(*place))
    }

    /// The source's rows in order: all, or those after a key.
    pub(super) fn read_source(&self, is_resumed: bool) -> String {
        let columns: Vec<_> = self.columns.iter().map(|column| column.source).collect();
        let order: Vec<_> = self.key_columns().map(|column| column.source).collect();
        let condition = if is_resumed { self.after } else { "true" };
        format!(
            "SELECT {} FROM {} WHERE {condition} ORDER BY {}",
            columns.join(", "),
            self.from,
            order.join(", ")
        )
    }

    /// The target's rows in the same order, as the tuples that were put there.
    pub(super) fn read_target(&self) -> String {
        let names = self.names();
        let from = match (&self.target, self.reread) {
            (_, Some(reread)) => reread.to_owned(),
            (Target::One(table), None) => (*table).to_owned(),
            (Target::ByStatus { open, done, .. }, None) => {
                format!("(SELECT {names} FROM {open} UNION ALL SELECT {names} FROM {done}) AS t")
            }
        };
        let order: Vec<_> = self.key_columns().map(|column| column.name).collect();
        format!("COPY (SELECT {names} FROM {from} ORDER BY {}) TO STDOUT (FORMAT binary)", order.join(", "))
    }

    /// The tables of the target that rows go to.
    pub(super) fn targets(&self) -> Vec<&'static str> {
        match self.target {
            Target::One(table) => vec![table],
            Target::ByStatus { open, done, .. } => vec![open, done],
        }
    }

    /// Takes tuples into one of them.
    pub(super) fn fill(&self, target: &str) -> String {
        format!("COPY {target} ({}) FROM STDIN (FORMAT binary)", self.names())
    }
}
