//! What the statements on the way of a call cost must follow the number of open
//! tasks, not the number of tasks ever made: PostgreSQL's own plans say so,
//! with statistics and without.

use covey_store::postgres::statements_of_hot_ways;

use crate::database::{PostgresBackend, say};
use crate::world::{World, spec};

/// How many final tasks there are.
const DONE: u32 = 100_000;

/// A value for each parameter of a statement, by its type.
fn values(url: &str, sql: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let statement = client.prepare(sql).await.unwrap();
        let value = |kind: &tokio_postgres::types::Type| match kind.name() {
            "uuid" => "'00000000-0000-0000-0000-000000000001'".to_owned(),
            "_uuid" => "'{00000000-0000-0000-0000-000000000001}'".to_owned(),
            name if name.starts_with('_') => "'{1}'".to_owned(),
            "bool" => "true".to_owned(),
            "bytea" => "'x'".to_owned(),
            _ => "'1'".to_owned(),
        };
        statement.params().iter().map(value).collect()
    })
}

fn plan(url: &str, set_up: &str, sql: &str) -> Vec<String> {
    let values = values(url, sql);
    let execute = if values.is_empty() { "p".to_owned() } else { format!("p({})", values.join(", ")) };
    // Sent one by one: a plan is made for a session that is set up.
    let statements =
        [set_up, &format!("PREPARE p AS {sql}"), &format!("EXPLAIN (COSTS OFF) EXECUTE {execute}")];
    say(url, &statements).into_iter().map(|mut row| row.remove(0)).collect()
}

fn look_at_all_plans(url: &str, when: &str) {
    let (set_up, statements) = statements_of_hot_ways();
    for (name, sql) in statements {
        let plan = plan(url, set_up, &sql);
        for line in &plan {
            let scans =
                ["tasks", "results", "events", "records", "gauges", "webhook_letters", "webhook_deliveries"]
                    .iter()
                    .any(|table| line.contains(&format!("Seq Scan on {table}")));
            assert!(!scans, "{when}, {name}: {}", plan.join("\n"));
        }
        // Sorting open tasks of one device by rank is the index's work.
        if ["task_best", "tasks_best", "task_announceable", "task_lapsed", "tasks_overdue"]
            .contains(&name.as_str())
        {
            assert!(!plan.iter().any(|line| line.contains("Sort")), "{when}, {name}: {}", plan.join("\n"));
        }
        // Each row by its key: no table is read as a whole for the sake of a few.
        if ["events_stored", "gauges_of", "records", "records_of_org"].contains(&name.as_str()) {
            let is_whole = |line: &String| line.contains("HashAggregate");
            assert!(!plan.iter().any(is_whole), "{when}, {name}: {}", plan.join("\n"));
            let scans = plan.iter().filter(|line| line.contains("Index") && line.contains(" on ")).count();
            let conditions = plan.iter().filter(|line| line.contains("Index Cond")).count();
            assert_eq!(scans, conditions, "{when}, {name}: {}", plan.join("\n"));
        }
        // What is read in the order of numbers comes out of an index in that order.
        if name.starts_with("events_") || name.starts_with("records") {
            let sorts = plan.iter().any(|line| ["Sort", "->  Sort"].contains(&line.trim()));
            assert!(!sorts, "{when}, {name}: {}", plan.join("\n"));
        }
    }
}

#[test]
fn hot_statements_use_their_indexes_with_statistics_and_without() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    for _ in 0..10 {
        world.create(spec(&device));
    }
    look_at_all_plans(&url, "when nothing was counted");
    let fill = format!(
        "INSERT INTO tasks_done SELECT gen_random_uuid(), i, {}, {}, i % 1000, 'x', '', 20, NULL, 0, false, i, i, 3, \
         NULL, NULL, NULL, 1, 0, '[]', NULL FROM generate_series(1, {DONE}) AS i",
        device.org.0, device.device.0
    );
    let results = "INSERT INTO results SELECT id, seq, org_id, 0, 200, 0, 0, 0, '' FROM tasks_done";
    let told = format!(
        "INSERT INTO records (number, org_id, device_key, device_id, sn, at, kind) SELECT i << 16, {}, {}, i % 1000, 'x', \
         1700000000000 + i, 1 FROM generate_series(1, {DONE}) AS i",
        device.org.0, device.device.0
    );
    let events = "INSERT INTO events SELECT number, org_id, device_key, device_id, sn, 2, number >> 16, at, at, NULL, '{}' \
         FROM records WHERE device_id <> 0";
    // Of each second device a delivery waits; the others' are dead.
    let deliveries = format!(
        "INSERT INTO webhook_letters (webhook_id, number, state, deadline, attempts, next_at, org_id, device_key, device_id, \
         sn, at, kind) SELECT 1, i, i % 2, i, 1, i, {}, {}, i % 1000, 'x', i, 1 FROM generate_series(1, {DONE}) AS i",
        device.org.0, device.device.0
    );
    let log = format!(
        "INSERT INTO webhook_deliveries (webhook_id, seq, attempt, at, duration_ms, outcome) \
         SELECT 1, i, 1, i, 1, 'delivered' FROM generate_series(1, {DONE}) AS i"
    );
    say(&url, &[&fill, results, &told, events, &deliveries, &log, "ANALYZE"]);
    look_at_all_plans(&url, "with 100,000 final tasks");
}

#[test]
fn a_task_is_sought_in_its_month_alone() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let (set_up, statements) = statements_of_hot_ways();
    for name in ["task_done", "task_final", "results_of"] {
        let (_, sql) = statements.iter().find(|(known, _)| known == name).unwrap();
        let values = values(&url, sql);
        let id = "018bcfe5-6800-7000-8000-000000000000";
        let values: Vec<_> =
            values.iter().map(|value| value.replace("00000000-0000-0000-0000-000000000001", id)).collect();
        let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE p({})", values.join(", "));
        let lines = say(&url, &[set_up, &format!("PREPARE p AS {sql}"), &explain]);
        let plan: Vec<_> = lines.into_iter().map(|mut row| row.remove(0)).collect();
        let searched = plan.iter().filter(|line| {
            line.contains("Index") && line.contains(" on ") && !line.contains("never executed")
        });
        let searched: Vec<_> = searched.collect();
        assert!(searched.len() == 1 && searched[0].contains("2023_11"), "{name}: {}", plan.join("\n"));
    }
}
