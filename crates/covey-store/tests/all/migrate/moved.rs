//! What is the same after a move, and what goes on.

use std::sync::Arc;

use covey_core::access::Caller;
use covey_core::event::{EventTypes, NewEvent};
use covey_core::id::{CallerId, RecordNumber, UnixMs};
use covey_core::port::Store;
use covey_core::record::{RecordReader, RecordRequest};
use covey_store::postgres::Postgres;
use covey_store::sqlite::{Options, Sqlite};
use futures_executor::block_on;

use super::fill::{History, live};
use super::{check, migrate, options, seen};
use crate::database::{PostgresBackend, say};
use crate::world::parts::{Counts, TestClock};
use crate::world::sqlite::SqliteBackend;
use crate::world::{SERVER, World, result, spec};

pub fn sqlite(path: &std::path::Path) -> Arc<dyn Store> {
    Arc::new(
        Sqlite::open(&Options::new(path), Arc::new(TestClock::default()), Arc::new(Counts::default()))
            .unwrap(),
    )
}

pub fn postgres(backend: &PostgresBackend) -> Arc<dyn Store> {
    Arc::new(
        Postgres::open(&backend.options, Arc::new(TestClock::default()), Arc::new(Counts::default()))
            .unwrap(),
    )
}

/// A site with a history that nobody serves, and when it ended.
pub fn site(seed: u64, steps: usize) -> (tempfile::TempDir, std::path::PathBuf, History, UnixMs) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("covey.db");
    let world = World::new(SqliteBackend::at(Options::new(&path)));
    let history = live(&world, seed, steps);
    let now = world.now();
    (folder, path, history, now)
}

#[test]
fn all_that_could_be_seen_before_can_be_seen_after() {
    for seed in 1..=5 {
        let (_folder, path, history, now) = site(seed, 400);
        let before = seen::all(&*sqlite(&path), &history, now);
        assert!(before.iter().any(|line| line.contains(r"a\0b\0")), "no NUL in any body");
        let backend = PostgresBackend::new();
        let report = migrate(&path, &backend.url()).unwrap();
        assert!(!report.is_resumed && report.tables.iter().all(|table| table.copied == table.rows));
        let again = check(&path, &backend.url()).unwrap();
        let sums = |report: &covey_store::migrate::Report| {
            report.tables.iter().map(|table| (table.rows, table.checksum.clone())).collect::<Vec<_>>()
        };
        assert_eq!(sums(&again), sums(&report));
        seen::assert_same(&before, &seen::all(&*postgres(&backend), &history, now));
    }
}

#[test]
fn numbers_go_on_after_the_highest_that_was_given() {
    let (_folder, path, history, now) = site(77, 300);
    let highest = |sql: &str| -> i64 {
        rusqlite::Connection::open(&path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    // A result and a device that were given numbers and are gone.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch("UPDATE sqlite_sequence SET seq = seq + 500 WHERE name IN ('results', 'devices')")
        .unwrap();
    drop(connection);
    let seq = highest("SELECT max(seq) FROM tasks");
    let result_id = highest("SELECT seq FROM sqlite_sequence WHERE name = 'results'");
    let device_key = highest("SELECT seq FROM sqlite_sequence WHERE name = 'devices'");
    let tag_id = highest("SELECT max(id) FROM device_tags");
    let backend = PostgresBackend::new();
    migrate(&path, &backend.url()).unwrap();
    let url = backend.url();
    let world = World::on_what_is_there(backend, 1_000_000);
    world.pass_ms(now.0 - world.now().0);
    let device = world.device(0);
    assert_eq!(device.device.0, device_key + 1);
    let task = world.create(spec(&device));
    assert!(task.seq > seq);
    let finished = world.finish(&device, task.id, result(200, 0, "")).unwrap();
    assert!(finished.result_id.0 > result_id);
    // What was open can be finished, what was final stays so.
    let open: i64 = say(&url, &["SELECT count(*) FROM tasks_open"])[0][0].parse().unwrap();
    let (org, known) = &history.devices[0];
    assert_eq!(
        world.devices(*org, Default::default()).items.iter().filter(|d| d.identity == *known).count(),
        1
    );
    assert!(open > 0);
    world.pass_ms(50 * 86_400_000);
    world.sweep();
    assert_eq!(say(&url, &["SELECT count(*) FROM tasks_open"])[0][0], "0");
    let sums = "SELECT (SELECT sum(count) FROM task_counts) = (SELECT count(*) FROM tasks_done)";
    assert_eq!(say(&url, &[sums])[0][0], "t");
    let tags = say(&url, &["SELECT nextval('device_tags_id_seq')"])[0][0].parse::<i64>().unwrap();
    assert_eq!(tags, tag_id + 1);
}

#[test]
fn who_follows_records_and_events_goes_on_where_it_was() {
    let (_folder, path, history, now) = site(31, 300);
    let connection = rusqlite::Connection::open(&path).unwrap();
    // As if far more had been told, and the oldest of it were forgotten.
    let (head, gone): (i64, i64) = (5_000_000_000, 7);
    connection.execute("UPDATE record_head SET number = ?1", [head]).unwrap();
    connection.execute("DELETE FROM records WHERE number <= ?1", [gone]).unwrap();
    let kept: i64 = connection.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap();
    let of_caller =
        "SELECT coalesce(max(number), 0) FROM event_offsets WHERE caller_id = 1 AND device_id = 0";
    let offset: i64 = connection.query_row(of_caller, [], |row| row.get(0)).unwrap();
    drop(connection);
    let backend = PostgresBackend::new();
    migrate(&path, &backend.url()).unwrap();
    let url = backend.url();
    let world = World::on_what_is_there(backend, 1_000_000);
    world.pass_ms(now.0 - world.now().0);
    let span = block_on(world.engine().server().record_span_of_every_org()).unwrap();
    assert_eq!(span.forgotten.0, gone);
    assert!(span.settled.0 >= head);
    let (_, device) = history.devices.iter().find(|(org, _)| *org == 0).unwrap();
    let event = NewEvent {
        type_code: 2,
        dev_event_id: 5,
        dev_timestamp: Some(now),
        correlation: None,
        payload: "{}".into(),
        reported: Vec::new(),
    };
    block_on(world.engine().for_device(device).event_add(event, false)).unwrap();
    let request = RecordRequest {
        org: None,
        after: RecordNumber(0),
        until: None,
        limit: 100_000,
        bytes_max: usize::MAX,
        with_tags: false,
    };
    let page = block_on(world.store().record_list_of_every_org(request)).unwrap();
    assert!(page.records.last().unwrap().number.0 > head && page.records.len() as i64 <= kept + 1);
    // The caller whose key was made first reads on after what it was given on SQLite.
    let caller = Caller { id: CallerId(1), ..world.org(0).clone() };
    let next =
        block_on(world.engine().for_caller(&caller).event_next(None, EventTypes::OfDevices, None, 100))
            .unwrap();
    assert!(offset > 0 && next.iter().all(|event| event.id.0 > offset));
    assert!(next.iter().any(|event| event.id.0 > head));
    let strays = "SELECT count(*) FROM records_default";
    assert_eq!(say(&url, &[strays])[0][0], "0", "each is in the partition of its day");
}

#[test]
fn the_source_stays_as_it_is_and_the_target_knows_its_servers() {
    let (folder, path, ..) = site(5, 200);
    let before = std::fs::read(&path).unwrap();
    let backend = PostgresBackend::new();
    let facts = vec![("ca_sha256".to_owned(), "ab12".to_owned())];
    let options = covey_store::migrate::Options { facts, ..options(&path, &backend.url()) };
    covey_store::migrate::run(&options, &|_| {}).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let log = std::fs::metadata(path.with_extension("db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "{:?}", folder.path());
    let known = say(
        &backend.url(),
        &["SELECT key, value FROM deployment WHERE key !~ '^(migration_finished|record)'"],
    );
    assert_eq!(known, [["ca_sha256", "ab12"]]);
    let servers = say(&backend.url(), &[&format!("SELECT 1 FROM servers WHERE name = '{SERVER}'")]);
    assert_eq!(servers.len(), 1);
}

#[test]
fn tasks_go_to_the_partition_of_their_month() {
    let (_folder, path, history, _) = site(9, 300);
    let backend = PostgresBackend::new();
    migrate(&path, &backend.url()).unwrap();
    let month = "SELECT count(*) FROM tasks_done_2023_11";
    let in_month: usize = say(&backend.url(), &[month])[0][0].parse().unwrap();
    assert!(in_month > 0 && in_month < history.tasks.len(), "{in_month} of {}", history.tasks.len());
    let strays = "SELECT count(*) FROM tasks_done_default WHERE substring(id::text, 15, 1) = '7'";
    assert_eq!(say(&backend.url(), &[strays])[0][0], "0");
}
