//! What polls and sweeps cost must follow the number of open tasks, not the
//! number of tasks ever made. SQLite's own plans and counters say so; no clock
//! is asked.

use covey_core::device::DeviceIdentity;
use covey_store::sqlite::hot_statements;
use rusqlite::types::Value;
use rusqlite::{Connection, StatementStatus};

use crate::world::sqlite::SqliteBackend;
use crate::world::{World, lasting};

/// The index that a statement must use, and values for its parameters.
fn expected(name: &str, device: &DeviceIdentity, now: i64) -> (&'static str, Vec<Value>) {
    let id = vec![0_u8; 16];
    let (device_key, org) = (device.device.0, device.org.0);
    match name {
        "task" => ("sqlite_autoindex_tasks_1", vec![id.into(), org.into()]),
        "task_waiting" => ("tasks_open", vec![device_key.into(), now.into()]),
        "task_final" => ("sqlite_autoindex_tasks_1", vec![id.into()]),
        "task_best" => ("tasks_open", vec![device_key.into(), now.into(), org.into()]),
        "task_announceable" => ("tasks_open", vec![device_key.into(), now.into(), 33.into()]),
        "tasks_taken" | "tasks_waiting" | "tasks_open" => {
            ("tasks_open", vec![device_key.into(), now.into(), org.into(), 1_000.into()])
        }
        "task_overdue" => ("tasks_expiry", vec![now.into(), 1_000.into()]),
        "task_overdue_any" => ("tasks_expiry", vec![now.into()]),
        "task_lapsed" => ("tasks_lease", vec![0.into(), 0.into(), now.into(), 1_000.into()]),
        "task_open_beyond" => ("tasks_open", vec![device_key.into(), 9_999.into()]),
        "task_update" => {
            let nothing = Value::Null;
            let rest = [nothing.clone(), nothing.clone(), nothing, 0.into(), 0.into()];
            let mut values = vec![Value::from(-1), 0.into()];
            values.extend(rest);
            values.extend(["[]".to_owned().into(), 0.into(), 0.into()]);
            ("INTEGER PRIMARY KEY", values)
        }
        "audit_of_org" | "audit_of_all" => {
            let index = if name == "audit_of_org" { "audit_of_org" } else { "audit_at" };
            let (org, last) = (if index == name { org.into() } else { Value::Null }, i64::MAX);
            (index, vec![org, 0.into(), last.into(), last.into(), last.into(), last.into()])
        }
        other => panic!("the test does not know the statement {other}"),
    }
}

#[test]
fn hot_statements_search_their_partial_index_and_sort_nothing() {
    let backend = SqliteBackend::new();
    let path = backend.path();
    let world = World::new(backend);
    let device = world.device(0);
    let connection = Connection::open(path).unwrap();
    for (name, sql) in hot_statements() {
        let (index, values) = expected(name, &device, world.now().0);
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3));
        let plan: Vec<_> = steps.unwrap().map(Result::unwrap).collect();
        let searches = plan.iter().any(|step| step.starts_with("SEARCH") && step.contains(index));
        assert!(searches, "{name}: {plan:?}");
        for step in &plan {
            assert!(!step.contains("TEMP B-TREE"), "{name}: {plan:?}");
            let is_scan = step.starts_with("SCAN") && step != "SCAN CONSTANT ROW";
            assert!(!is_scan, "{name}: {plan:?}");
        }
    }
}

/// Adds tasks that are done, of the same device and otherwise like any other.
fn add_final_tasks(connection: &Connection, device: &DeviceIdentity, now: i64, from: i64, to: i64) {
    let sql = "WITH RECURSIVE n (i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2) \
         INSERT INTO tasks (id, org_id, device_key, device_id, sn, ext_task_id, method_code, priority, \
         push_only, created_at, expires_at, status, lease_until, deliveries, results, timeline) \
         SELECT randomblob(16), ?3, ?4, ?5, 'x', '', 20, i % 10, 0, ?6 - i, ?6 - i % 1000 + 500, 3 + i % 4, \
         ?6 - i, 1, 0, '[]' FROM n";
    let (org, key, number) = (device.org.0, device.device.0, device.device_id.0);
    connection.execute(sql, (from, to, org, key, number, now)).unwrap();
}

/// How many steps of its program SQLite takes for each of the statements.
fn steps(connection: &Connection, device: &DeviceIdentity, now: i64) -> Vec<(&'static str, i32)> {
    let count = |(name, sql): &(&'static str, &'static str)| {
        let mut statement = connection.prepare(sql).unwrap();
        let mut rows = 0;
        {
            let values = rusqlite::params_from_iter(expected(name, device, now).1);
            let mut found = statement.query(values).unwrap();
            while found.next().unwrap().is_some() {
                rows += 1;
            }
        }
        assert_eq!(statement.get_status(StatementStatus::FullscanStep), 0, "{name}");
        assert_eq!(statement.get_status(StatementStatus::Sort), 0, "{name}");
        assert!(
            rows > 0 || ["task", "task_final", "task_open_beyond", "task_update"].contains(name),
            "{name}"
        );
        (*name, statement.get_status(StatementStatus::VmStep))
    };
    hot_statements().iter().map(count).collect()
}

#[test]
fn polls_and_sweeps_cost_the_same_with_fifty_times_as_many_final_tasks() {
    let backend = SqliteBackend::new();
    let path = backend.path();
    let world = World::new(backend);
    let device = world.device(0);
    // Of the open tasks some wait, some were taken and given up, some are overdue.
    for ttl_minutes in [1, 1, 1, 9, 9, 9, 9, 9, 9, 9] {
        world.create(lasting(&device, ttl_minutes));
    }
    for _ in 0..5 {
        world.poll(&device).unwrap();
    }
    world.pass_ms(60_000);
    let now = world.now().0;
    let connection = Connection::open(path).unwrap();
    add_final_tasks(&connection, &device, now, 0, 1_000);
    let few = steps(&connection, &device, now);
    add_final_tasks(&connection, &device, now, 1_000, 50_000);
    let many = steps(&connection, &device, now);
    assert_eq!(few, many);
}
