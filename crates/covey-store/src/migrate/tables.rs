//! What is moved: each table of SQLite, the order in which it is read on both
//! sides, and where it goes. Columns and their kinds are those of the target; only
//! what the source has in another way is listed here.

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

impl Kind {
    /// Each with its name in PostgreSQL (`pg_type.typname`).
    const NAMES: [(&'static str, Self); 7] = [
        ("int2", Self::Int2),
        ("int4", Self::Int4),
        ("int8", Self::Int8),
        ("bool", Self::Bool),
        ("text", Self::Text),
        ("bytea", Self::Bytes),
        ("uuid", Self::Uuid),
    ];

    /// The kind of this name, if such columns can be moved.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }
}

/// A column of the target, and what it is made of.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// An expression over the source.
    source: String,
    pub(super) kind: Kind,
}

/// Where rows go.
#[derive(Clone, Copy, Debug)]
enum Goal {
    One,
    /// Tasks that are not final to one table, final ones to the other.
    ByStatus {
        open: &'static str,
        done: &'static str,
    },
}

/// What is listed of a table.
#[derive(Debug)]
pub(super) struct Listed {
    /// Its name in the source, and in the target unless its goal says otherwise.
    name: &'static str,
    /// The columns whose values tell rows apart; also the order in which both
    /// sides are read. Both compare text and blobs byte by byte.
    key: &'static [&'static str],
    /// Columns that the source has in another way, each with an expression over it.
    made: &'static [(&'static str, &'static str)],
    /// What stands behind FROM, for the source, if that is not the table as `s`.
    from: Option<&'static str>,
    /// Rows after a key, if that is not a comparison of the key as a whole.
    after: Option<&'static str>,
    /// What stands behind FROM, for the target, if that is not the table itself.
    reread: Option<&'static str>,
    goal: Goal,
}

const fn table(name: &'static str, key: &'static [&'static str]) -> Listed {
    Listed { name, key, made: &[], from: None, after: None, reread: None, goal: Goal::One }
}

/// All tables, those that others refer to first.
pub(super) static LISTED: [Listed; 43] = [
    table("orgs", &["id"]),
    table("api_keys", &["id"]),
    table("token_keys", &["id"]),
    table("users", &["id"]),
    table("user_orgs", &["user_id", "org_id"]),
    table("user_sessions", &["id"]),
    table("user_identities", &["issuer", "subject"]),
    table("own_limits", &["kind", "id"]),
    table("devices", &["id"]),
    table("device_tags", &["id"]),
    table("certificates", &["serial", "device_key"]),
    table("claims", &["id"]),
    table("claim_serials", &["claim_id", "sn"]),
    table("claim_uses", &["id"]),
    table("connections", &["device_key"]),
    table("device_sessions", &["device_key"]),
    table("nodes", &["id"]),
    table("units", &["id"]),
    table("unit_gateways", &["org_id"]),
    Listed { goal: Goal::ByStatus { open: "tasks_open", done: "tasks_done" }, ..table("tasks", &["id"]) },
    Listed {
        made: &[("task_id", "t.id")],
        // In this order of the loops the rows come almost sorted (SQLite "CROSS JOIN").
        from: Some("tasks t CROSS JOIN results s ON s.task_seq = t.seq"),
        after: Some("t.id >= ?1 AND (t.id > ?1 OR s.id > ?2)"),
        ..table("results", &["task_id", "id"])
    },
    table("idempotency", &["org_id", "key"]),
    Listed {
        made: &[("slot", "0")],
        reread: Some(
            "(SELECT org_id, status, min(slot) AS slot, sum(count)::int8 AS count \
             FROM task_counts GROUP BY org_id, status) AS t",
        ),
        ..table("task_counts", &["org_id", "status"])
    },
    Listed {
        // Who wrote them is of interest as long as they are not counted.
        made: &[("dev_timestamp", "e.dev_timestamp"), ("writer", "NULL")],
        // An event has the number of its record; 3 is the kind of these.
        from: Some("records s LEFT JOIN events e ON e.id = s.number AND s.kind = 3"),
        ..table("records", &["number"])
    },
    table("events", &["id"]),
    Listed {
        made: &[("slot", "0")],
        reread: Some(
            "(SELECT org_id, min(slot) AS slot, sum(count)::int8 AS count FROM event_counts GROUP BY org_id) AS t",
        ),
        ..table("event_counts", &["org_id"])
    },
    Listed {
        made: &[("slot", "0")],
        reread: Some(
            "(SELECT device_key, kept, day, min(slot) AS slot, sum(bytes)::int8 AS bytes \
             FROM device_kept_bytes GROUP BY device_key, kept, day) AS t",
        ),
        ..table("device_kept_bytes", &["device_key", "kept", "day"])
    },
    Listed {
        made: &[("slot", "0")],
        reread: Some(
            "(SELECT org_id, kept, day, min(slot) AS slot, sum(bytes)::int8 AS bytes \
             FROM org_kept_bytes GROUP BY org_id, kept, day) AS t",
        ),
        ..table("org_kept_bytes", &["org_id", "kept", "day"])
    },
    Listed {
        made: &[("slot", "0")],
        reread: Some(
            "(SELECT org_id, day, min(slot) AS slot, sum(tasks_created)::int8 AS tasks_created, \
             sum(tasks_finished)::int8 AS tasks_finished, sum(events)::int8 AS events, sum(bytes_in)::int8 AS bytes_in, \
             sum(active_devices)::int8 AS active_devices FROM usage_days GROUP BY org_id, day) AS t",
        ),
        ..table("usage_days", &["org_id", "day"])
    },
    Listed {
        made: &[("slot", "0")],
        reread: Some(
            "(SELECT day, org_id, device_key, min(slot) AS slot FROM usage_devices GROUP BY day, org_id, device_key) AS t",
        ),
        ..table("usage_devices", &["day", "org_id", "device_key"])
    },
    table("gauges", &["device_key", "type_code"]),
    table("event_offsets", &["caller_id", "device_id"]),
    table("twins", &["device_key"]),
    table("twin_resources", &["device_key", "name"]),
    table("twin_history", &["id"]),
    table("retention", &["org_id", "kept"]),
    table("records_forgotten", &["org_id"]),
    // A server that has begun on the target has a chain of its own there.
    Listed {
        reread: Some("(SELECT * FROM audit_chains WHERE server = '') AS t"),
        ..table("audit_chains", &["id"])
    },
    // There is one chain in the source.
    table("audit", &["number"]),
    table("webhooks", &["id"]),
    table("webhook_progress", &["webhook_id"]),
    Listed {
        made: &[("dev_timestamp", "e.dev_timestamp")],
        // As of records, of which these are copies.
        from: Some("webhook_letters s LEFT JOIN events e ON e.id = s.number AND s.kind = 3"),
        ..table("webhook_letters", &["webhook_id", "number"])
    },
    table("webhook_deliveries", &["webhook_id", "seq"]),
];

/// Sequences of the target, each with the table and the column of the source
/// whose values come from it.
pub(super) const SEQUENCES: [(&str, &str, &str); 14] = [
    ("orgs_id_seq", "orgs", "id"),
    ("api_keys_id_seq", "api_keys", "id"),
    ("users_id_seq", "users", "id"),
    ("user_sessions_id_seq", "user_sessions", "id"),
    ("devices_id_seq", "devices", "id"),
    ("device_tags_id_seq", "device_tags", "id"),
    ("claims_id_seq", "claims", "id"),
    ("claim_uses_id_seq", "claim_uses", "id"),
    ("nodes_id_seq", "nodes", "id"),
    ("units_id_seq", "units", "id"),
    ("task_seq", "tasks", "seq"),
    ("result_seq", "results", "id"),
    ("twin_history_id_seq", "twin_history", "id"),
    ("webhooks_id_seq", "webhooks", "id"),
];

impl Listed {
    /// The table of the target that has its columns.
    pub(super) fn model(&self) -> &'static str {
        match self.goal {
            Goal::One => self.name,
            Goal::ByStatus { open, .. } => open,
        }
    }
}

/// A table of the source, with the columns that the target has of it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: Vec<Column>,
    /// The places of the columns that tell rows apart.
    pub(super) key: Vec<usize>,
    listed: &'static Listed,
}

impl Table {
    /// With columns in the order of the target. None if the key is not among them.
    pub(super) fn new(listed: &'static Listed, columns: Vec<(String, Kind)>) -> Option<Self> {
        let source = |name: &str| {
            let made = listed.made.iter().find(|(column, _)| *column == name);
            made.map_or_else(|| format!("s.{name}"), |(_, expression)| (*expression).to_owned())
        };
        let column = |(name, kind): (String, Kind)| Column { source: source(&name), name, kind };
        let columns: Vec<_> = columns.into_iter().map(column).collect();
        let place = |key: &&str| columns.iter().position(|column| column.name == *key);
        let key = listed.key.iter().map(place).collect::<Option<_>>()?;
        Some(Self { name: listed.name, columns, key, listed })
    }

    fn names(&self) -> String {
        self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn key_columns(&self, of: fn(&Column) -> &str) -> String {
        self.key.iter().filter_map(|place| self.columns.get(*place)).map(of).collect::<Vec<_>>().join(", ")
    }

    /// The source's rows in order: all, or those after a key.
    pub(super) fn read_source(&self, is_resumed: bool) -> String {
        let columns: Vec<_> = self.columns.iter().map(|column| column.source.as_str()).collect();
        let key = self.key_columns(|column| &column.source);
        let from = self.listed.from.map_or_else(|| format!("{} s", self.name), ToOwned::to_owned);
        let condition = match (is_resumed, self.listed.after) {
            (false, _) => "true".to_owned(),
            (true, Some(after)) => after.to_owned(),
            (true, None) => {
                let values: Vec<_> = (1..=self.key.len()).map(|place| format!("?{place}")).collect();
                format!("({key}) > ({})", values.join(", "))
            }
        };
        format!("SELECT {} FROM {from} WHERE {condition} ORDER BY {key}", columns.join(", "))
    }

    /// The target's rows in the same order, as the tuples that were put there.
    pub(super) fn read_target(&self) -> String {
        let names = self.names();
        let from = match (self.listed.goal, self.listed.reread) {
            (_, Some(reread)) => reread.to_owned(),
            (Goal::One, None) => self.name.to_owned(),
            (Goal::ByStatus { open, done }, None) => {
                format!("(SELECT {names} FROM {open} UNION ALL SELECT {names} FROM {done}) AS t")
            }
        };
        let key = self.key_columns(|column| &column.name);
        format!("COPY (SELECT {names} FROM {from} ORDER BY {key}) TO STDOUT (FORMAT binary)")
    }

    /// The tables of the target that rows go to.
    pub(super) fn targets(&self) -> Vec<&'static str> {
        match self.listed.goal {
            Goal::One => vec![self.name],
            Goal::ByStatus { open, done } => vec![open, done],
        }
    }

    /// The place of the column that says to which of them a row goes.
    pub(super) fn status(&self) -> Option<usize> {
        match self.listed.goal {
            Goal::One => None,
            Goal::ByStatus { .. } => self.columns.iter().position(|column| column.name == "status"),
        }
    }

    /// Takes tuples into one of them.
    pub(super) fn fill(&self, target: &str) -> String {
        format!("COPY {target} ({}) FROM STDIN (FORMAT binary)", self.names())
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A table with some columns of its target.
    pub(in crate::migrate) fn some(name: &str, columns: &[(&str, Kind)]) -> Table {
        let listed = LISTED.iter().find(|listed| listed.name == name).unwrap();
        Table::new(listed, columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()).unwrap()
    }

    #[test]
    fn both_sides_are_read_in_the_order_of_the_key() {
        let table =
            some("certificates", &[("serial", Kind::Text), ("at", Kind::Int8), ("device_key", Kind::Int8)]);
        assert_eq!(
            table.read_source(true),
            "SELECT s.serial, s.at, s.device_key FROM certificates s \
             WHERE (s.serial, s.device_key) > (?1, ?2) ORDER BY s.serial, s.device_key"
        );
        assert_eq!(
            table.read_target(),
            "COPY (SELECT serial, at, device_key FROM certificates ORDER BY serial, device_key) \
             TO STDOUT (FORMAT binary)"
        );
    }
}
