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
pub(super) const TABLES: [Table; 10] = [
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
];

/// Sequences of the target, each with the table and the column of the source
/// whose values come from it.
pub(super) const SEQUENCES: [(&str, &str, &str); 6] = [
    ("orgs_id_seq", "orgs", "id"),
    ("api_keys_id_seq", "api_keys", "id"),
    ("devices_id_seq", "devices", "id"),
    ("device_tags_id_seq", "device_tags", "id"),
    ("task_seq", "tasks", "seq"),
    ("result_seq", "results", "id"),
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
