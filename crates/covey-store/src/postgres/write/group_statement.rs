//! The statement that writes nearly all of a group. It is one, so that it can be
//! a transaction by itself; and it has those parts alone that the group needs,
//! because each part costs, used or not.

use std::fmt::Write as _;

use crate::postgres::usage::{usage_gathered, usage_into, usage_onto};

/// What a statement writes, beside the writer's mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// New tasks.
    pub(crate) made: bool,
    /// Open tasks that changed and are still open.
    pub(crate) changed: bool,
    /// Open tasks that became final.
    pub(crate) moved: bool,
    /// New results.
    pub(crate) results: bool,
    /// Bodies of gauges.
    pub(crate) gauges: bool,
    /// Entries of the audit log.
    pub(crate) audit: bool,
    /// What is told.
    pub(crate) outbox: Outbox,
}

/// What a statement writes into the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outbox {
    /// Nothing.
    #[default]
    Nothing,
    /// Records.
    Records,
    /// Records, and events under the numbers of theirs.
    Events,
}

/// The columns of a task that never change.
const FIRST: &str = "id, seq, org_id, device_key, device_id, sn, ext_task_id, method_code, method, priority, \
     push_only, created_at, expires_at, created_by";
/// Those that change.
const LATER: &str = "status, pending_at, locked_at, lease_until, deliveries, results, timeline, late_results, \
     result_bytes";
const FIRST_TYPES: [&str; 14] = [
    "uuid", "int8", "int8", "int8", "int8", "text", "text", "int4", "text", "int2", "bool", "int8", "int8",
    "text",
];
const LATER_TYPES: [&str; 9] = ["int2", "int8", "int8", "int8", "int8", "int8", "text", "int8", "int8"];
const RESULTS: &str = "task_id, id, org_id, ext_id, status_code, body_hash, received_at, body_kind, body";
const RESULTS_TYPES: [&str; 9] = ["uuid", "int8", "int8", "int8", "int8", "int8", "int8", "int2", "bytea"];

const RECORDS: &str = "org_id, device_key, device_id, sn, kind, task_id, result_id, status, name, version, \
     value, dev_timestamp";
const RECORDS_TYPES: [&str; 12] =
    ["int8", "int8", "int8", "text", "int2", "uuid", "int8", "int2", "text", "int8", "text", "int8"];
const EVENTS: &str = "org_id, device_key, device_id, sn, type_code, dev_event_id, dev_timestamp, correlation, \
     payload";
const EVENTS_TYPES: [&str; 9] = ["int8", "int8", "int8", "text", "int8", "int8", "int8", "uuid", "text"];
const GAUGES: &str = "device_key, type_code, org_id, device_id, payload";
const GAUGES_TYPES: [&str; 5] = ["int8", "int8", "int8", "int8", "text"];

const AUDIT: &str = "number, org_id, at, entries, hash";
const AUDIT_TYPES: [&str; 5] = ["int8", "int8", "int8", "text", "bytea"];

impl Parts {
    /// How many different statements there are, the one that writes nothing
    /// but a mark included.
    pub(crate) const COUNT: usize = 192;

    /// Every statement, at its [`Self::place`].
    pub(crate) fn all() -> impl Iterator<Item = String> {
        (0..Self::COUNT).map(|place| Self::at(place).sql())
    }

    /// The place of its statement among all.
    pub(crate) fn place(self) -> usize {
        let bits = [self.made, self.changed, self.moved, self.results, self.gauges, self.audit];
        bits.iter().rev().fold(self.outbox as usize, |place, is_there| place * 2 + usize::from(*is_there))
    }

    fn at(place: usize) -> Self {
        let bit = |number: u32| place >> number & 1 == 1;
        let outbox = match place >> 6 {
            0 => Outbox::Nothing,
            1 => Outbox::Records,
            _ => Outbox::Events,
        };
        let [made, changed, moved, results, gauges, audit] = [0, 1, 2, 3, 4, 5].map(bit);
        Self { made, changed, moved, results, gauges, audit, outbox }
    }

    /// Takes, in this order: the columns of new tasks; those of `changes` of open
    /// tasks; the same of tasks that became final; the columns of results; the
    /// instant and then the columns of gauges; the chain of the audit log, the number and the hash of its last row before
    /// and after, and the columns of its rows; the offset of numbers, how many
    /// records the transaction has written before, the instant, the writer and the columns of
    /// records; the day, the slot and the columns of what was used; of events their records' places among these and their
    /// columns, the slot, and of each organisation how many; the writer's number,
    /// that of the group, the writer's slot, and of each count that changed the
    /// organisation, the state and the change. It undoes itself unless all tasks
    /// that changed were found, and the end of the chain. Answers the transaction's number.
    pub(crate) fn sql(self) -> String {
        let mut values = Values(0);
        let (mut parts, mut checks) = (Vec::new(), String::new());
        if self.made {
            parts.push(format!("made AS ({})", new_tasks("tasks_open", &mut values)));
        }
        if self.changed {
            let (id, changes) = changes(&mut values);
            let set: Vec<String> = LATER.split(", ").map(|column| format!("{column} = n.{column}")).collect();
            let set = set.join(", ");
            parts.push(format!("changed AS (UPDATE tasks_open t SET {set} FROM {changes} RETURNING 1)"));
            check(&mut checks, "changed", id);
        }
        if self.moved {
            let (id, changes) = changes(&mut values);
            let (first, later) = (of("t", FIRST), of("n", LATER));
            parts.push(format!(
                "gone AS (DELETE FROM tasks_open t USING {changes} RETURNING {first}, {later}, \
                 CASE WHEN n.status <> 5 THEN t.payload END)"
            ));
            parts.push(format!(
                "moved AS (INSERT INTO tasks_done ({FIRST}, {LATER}, payload) SELECT * FROM gone RETURNING 1)"
            ));
            check(&mut checks, "moved", id);
        }
        if self.results {
            let arrays = values.arrays(&RESULTS_TYPES);
            parts.push(format!("stored AS (INSERT INTO results ({RESULTS}) SELECT * FROM unnest({arrays}))"));
        }
        if self.gauges {
            let at = values.next();
            let arrays = values.arrays(&GAUGES_TYPES);
            parts.push(format!(
                "gauged AS (INSERT INTO gauges ({GAUGES}, updated_at) \
                 SELECT n.*, ${at}::int8 FROM unnest({arrays}) AS n \
                 ON CONFLICT (device_key, type_code) DO UPDATE SET updated_at = excluded.updated_at, \
                 payload = excluded.payload)"
            ));
        }
        if self.audit {
            let [chain, number, hash, next, next_hash] = [(); 5].map(|()| values.next());
            let arrays = values.arrays(&AUDIT_TYPES);
            parts.push(format!(
                "chained AS (UPDATE audit_chains SET number = ${next}::int8, hash = ${next_hash}::bytea \
                 WHERE id = ${chain}::int8 AND number = ${number}::int8 AND hash = ${hash}::bytea RETURNING 1)"
            ));
            parts.push(format!(
                "audited AS (INSERT INTO audit (chain, {AUDIT}) SELECT ${chain}::int8::int4, n.* FROM unnest({arrays}) AS n)"
            ));
            checks.push_str(", 1 / (SELECT count(*) FROM chained)");
        }
        if self.outbox != Outbox::Nothing {
            self.tell(&mut values, &mut parts);
        }
        let [writer, group, slot] = [values.next(), values.next(), values.next()];
        parts.push(format!(
            "mark AS (UPDATE writers SET group_number = ${group}::int8 WHERE id = ${writer}::int4)"
        ));
        let arrays = values.arrays(&["int8", "int2", "int8"]);
        parts.push(format!(
            "counted AS (INSERT INTO task_counts AS c (org_id, status, slot, count) \
             SELECT n.org_id, n.status, ${slot}::int4, n.change FROM unnest({arrays}) \
             AS n (org_id, status, change) \
             ON CONFLICT (org_id, status, slot) DO UPDATE SET count = c.count + excluded.count)"
        ));
        format!("WITH {} SELECT pg_current_xact_id()::xid::text::int8{checks}", parts.join(", "))
    }

    /// Writes records and events under numbers that are made here, where that of
    /// the transaction is known ([`crate::postgres::numbers`]).
    fn tell(self, values: &mut Values, parts: &mut Vec<String>) {
        let [offset, before, at, writer] = [(); 4].map(|()| values.next());
        parts.push(format!(
            "base AS MATERIALIZED (SELECT ((pg_current_xact_id()::text::int8 + ${offset}::int8) << 16) \
             + ${before}::int8 - 1 AS number)"
        ));
        let arrays = values.arrays(&RECORDS_TYPES);
        let columns = of("n", RECORDS);
        parts.push(format!(
            "told AS (INSERT INTO records (number, at, writer, {RECORDS}) \
             SELECT b.number + n.place, ${at}::int8, ${writer}::int4, {columns} FROM base b CROSS JOIN unnest({arrays}) \
             WITH ORDINALITY AS n ({RECORDS}, place))"
        ));
        // What is counted of an organisation comes with a record.
        let [day, slot] = [values.next(), values.next()];
        let arrays = values.arrays(&["int8"; 5]);
        parts.push(format!(
            "used AS ({} SELECT n.*, 0, ${day}::int8, ${slot}::int4 FROM unnest({arrays}) {} {})",
            usage_into!(),
            usage_gathered!(),
            usage_onto!()
        ));
        if self.outbox == Outbox::Events {
            let place = values.next();
            let arrays = values.arrays(&EVENTS_TYPES);
            let columns = of("n", EVENTS);
            parts.push(format!(
                "added AS (INSERT INTO events (id, received_at, {EVENTS}) \
                 SELECT b.number + n.place, ${at}::int8, {columns} \
                 FROM base b CROSS JOIN unnest(${place}::int8[], {arrays}) AS n (place, {EVENTS}))"
            ));
            let slot = values.next();
            let arrays = values.arrays(&["int8", "int8"]);
            parts.push(format!(
                "events_counted AS (INSERT INTO event_counts AS c (org_id, slot, count) \
                 SELECT n.org_id, ${slot}::int4, n.change FROM unnest({arrays}) AS n (org_id, change) \
                 ON CONFLICT (org_id, slot) DO UPDATE SET count = c.count + excluded.count)"
            ));
        }
    }
}

/// The numbers of a statement's values.
struct Values(usize);

impl Values {
    fn next(&mut self) -> usize {
        self.0 += 1;
        self.0
    }

    fn arrays(&mut self, types: &[&str]) -> String {
        let arrays: Vec<_> = types.iter().map(|kind| format!("${}::{kind}[]", self.next())).collect();
        arrays.join(", ")
    }
}

/// New tasks from arrays.
fn new_tasks(table: &str, values: &mut Values) -> String {
    let arrays = values.arrays(&[&FIRST_TYPES[..], &LATER_TYPES, &["text"]].concat());
    format!("INSERT INTO {table} ({FIRST}, {LATER}, payload) SELECT * FROM unnest({arrays})")
}

/// Tasks that were made and became final in one group.
pub(crate) fn new_final_tasks() -> String {
    new_tasks("tasks_done", &mut Values(0))
}

/// What changes of tasks, from arrays; and which transaction must have written
/// each last, if it was not looked at. Also answers the number of the ids.
///
/// A transaction that has waited for a task may have got its number before the
/// one that it has waited for. Its records would then come before those of the
/// change that came before (`age` of a row that is newer than the own
/// transaction is negative); so it is run again, under a later number.
fn changes(values: &mut Values) -> (usize, String) {
    let id = values.next();
    let arrays = values.arrays(&[&LATER_TYPES[..], &["int8"]].concat());
    let changes = format!(
        "unnest(${id}::uuid[], {arrays}) AS n (id, {LATER}, written_by) \
         WHERE t.id = n.id AND (n.written_by IS NULL OR t.xmin::text::int8 = n.written_by) \
         AND age(t.xmin) >= 0"
    );
    (id, changes)
}

/// Divides by zero, which undoes the transaction, unless as many rows changed as
/// there are ids. A commit that follows in the same trip then commits nothing.
fn check(checks: &mut String, changed: &str, id: usize) {
    // Writing to a string cannot fail.
    let _ = write!(checks, ", 1 / ((SELECT count(*) FROM {changed}) = cardinality(${id}::uuid[]))::int4");
}

/// Columns of a table's alias.
fn of(alias: &str, columns: &str) -> String {
    columns.split(", ").map(|column| format!("{alias}.{column}")).collect::<Vec<_>>().join(", ")
}
