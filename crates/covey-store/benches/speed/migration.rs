//! How fast a site is moved from SQLite to PostgreSQL.

use std::time::Instant;

use covey_store::migrate::{Options, Progress, run};
use covey_store::postgres;
use covey_testbed::Testbed;

use crate::database::say;
use crate::mass;
use crate::world::SERVER;

/// How many tasks; `COVEY_TEST_TASKS` gives another number.
const TASKS: u64 = 1_000_000;

pub fn migration() {
    let tasks = std::env::var("COVEY_TEST_TASKS").map_or(TASKS, |tasks| tasks.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("covey.db");
    let began = Instant::now();
    mass::fill(&path, tasks);
    let mib = std::fs::metadata(&path).unwrap().len() / 1024 / 1024;
    println!("{tasks} tasks, {mib} MiB, made in {:?}", began.elapsed());
    let own = Testbed::own(&[]).unwrap();
    say(&own.postgresql_url("postgres").unwrap(), &["CREATE DATABASE covey"]);
    let to = postgres::Options::new(&own.postgresql_url("covey").unwrap(), SERVER).unwrap();
    let now = covey_core::id::UnixMs(crate::world::parts::BEGIN.0 + 4 * 365 * 86_400_000);
    let began = Instant::now();
    let stages = std::sync::Mutex::new(Vec::new());
    let watch = |progress: Progress| {
        if let Progress::Copying { rows, of, table } | Progress::Comparing { rows, of, table } = progress
            && rows == of
        {
            let is_copy = matches!(progress, Progress::Copying { .. });
            stages.lock().unwrap().push((is_copy, table, rows, began.elapsed()));
        }
    };
    let report = run(&Options::new(&path, to, now), &watch).unwrap();
    for (is_copy, table, rows, at) in stages.into_inner().unwrap() {
        println!("{} {table}: {rows} rows after {at:?}", if is_copy { "copied" } else { "compared" });
    }
    let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
    println!(
        "{rows} rows in {:?}: copied in {} ms ({} tasks/s), compared in {} ms; {} KiB at most",
        began.elapsed(),
        report.copy_ms,
        tasks * 1000 / report.copy_ms.max(1),
        report.compare_ms,
        memory_kib_max()
    );
}

fn memory_kib_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
