//! A migration that is killed at any instant goes on where it was.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use covey_store::migrate::{MigrateError, Progress, run};

use super::fill::History;
use super::random::Random;
use super::{check, mass, migrate, moved, options, seen};
use crate::child;
use crate::database::{PostgresBackend, say};

const TASKS: u64 = 6_000;

#[test]
fn a_database_that_goes_away_is_named_and_the_migration_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("covey.db");
    mass::fill(&path, 500);
    let backend = PostgresBackend::new();
    let url = backend.url();
    let database = url.split(['/', '?']).nth(3).unwrap().to_owned();
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    );
    for (table, rows_min, is_comparing) in
        [("tasks", 100, false), ("results", 200, false), ("tasks", 300, true)]
    {
        let watch = |progress: Progress| {
            let (at, rows, comparing) = match progress {
                Progress::Checking => return,
                Progress::Copying { table, rows, .. } => (table, rows, false),
                Progress::Comparing { table, rows, .. } => (table, rows, true),
            };
            if (at, comparing) == (table, is_comparing) && rows >= rows_min {
                // In a thread of its own: here a runtime is at work.
                std::thread::scope(|scope| drop(scope.spawn(|| say(&url, &[&end])).join().unwrap()));
            }
        };
        let error = run(&options(&path, &url), &watch).unwrap_err();
        assert!(matches!(error, MigrateError::Target { .. }), "{table} {rows_min}: {error}");
        assert!(error.to_string().contains("again"), "{error}");
    }
    let report = migrate(&path, &url).unwrap();
    assert!(report.is_resumed);
    let copied: Vec<_> = report.tables.iter().map(|table| (table.table, table.copied)).collect();
    assert!(copied.iter().all(|(_, copied)| *copied == 0), "{copied:?}");
    check(&path, &url).unwrap();
}

/// How many rows are in the target.
fn rows(url: &str) -> u64 {
    let tables =
        ["tasks_open", "tasks_done", "results"].map(|table| format!("(SELECT count(*) FROM {table})"));
    say(url, &[&format!("SELECT {}", tables.join(" + "))])[0][0].parse().unwrap()
}

const TEST: &str = "migrate::kills::a_migration_that_is_killed_goes_on_where_it_was";

#[test]
fn a_migration_that_is_killed_goes_on_where_it_was() {
    if let Some(orders) = child::orders() {
        migrate(Path::new(&orders[0]), &orders[1]).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("covey.db");
    mass::fill(&path, TASKS);
    let all = 2 * TASKS + 1 - TASKS / 20;
    let backend = PostgresBackend::new();
    let url = backend.url();
    let mut random = Random(u64::from(std::process::id()));
    let mut interrupted = Vec::new();
    for _ in 0..40 {
        let before = rows(&url);
        let mut command = child::command(TEST, &[path.to_str().unwrap(), &url]);
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Kill it a while after it has stored something new.
        let deadline = Instant::now() + Duration::from_secs(60);
        while rows(&url) == before && running.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(random.next() % 20_000));
        let _ = running.kill();
        let ended = running.wait().unwrap();
        let after = rows(&url);
        assert!(after >= before && after <= all, "{before} {after} of {all}");
        if ended.success() || after == all {
            break;
        }
        interrupted.push(after);
        let refused = covey_store::postgres::Postgres::open(
            &backend.options,
            std::sync::Arc::new(crate::world::parts::TestClock::default()),
            std::sync::Arc::new(crate::world::parts::Counts::default()),
        );
        let refused = refused.err().unwrap().to_string();
        assert!(refused.contains("migrate-store"), "{refused}");
    }
    println!("killed at {interrupted:?} of {all} rows");
    assert!(interrupted.len() >= 3, "killed in the middle only at {interrupted:?} of {all}");
    match migrate(&path, &url) {
        Ok(report) => assert!(report.is_resumed),
        Err(error) => assert!(matches!(error, MigrateError::Finished { .. }), "{error}"),
    }
    check(&path, &url).unwrap();
    assert_eq!(rows(&url), all);
    let history = History::default();
    let now = covey_core::id::UnixMs(crate::world::parts::BEGIN.0 + 86_400_000);
    let before = seen::all(&*moved::sqlite(&path), &history, now);
    seen::assert_same(&before, &seen::all(&*moved::postgres(&backend), &history, now));
}
