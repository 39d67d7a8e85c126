//! Connections that are cut and a database that is killed in the midst of
//! writing: every caller is told, and told the truth.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use covey_core::Error;
use covey_core::device::DeviceIdentity;
use covey_core::error::StorageFault;
use covey_core::id::TaskId;
use covey_core::port::{Room, Store};
use covey_core::task::{TaskFilter, TaskStatus};
use covey_testbed::Testbed;
use futures_executor::block_on;

use crate::database::{Another, PostgresBackend, say};
use crate::world::{World, result, spec};

/// How many callers write at a time.
const CALLERS: usize = 8;

#[derive(Default)]
struct Told {
    made: Vec<TaskId>,
    not_made: Vec<TaskId>,
    finished: Vec<TaskId>,
    faults: HashSet<String>,
}

/// Makes, takes and finishes tasks until told to stop; what each caller was told.
fn write_until(world: &World, devices: &[DeviceIdentity], is_over: &AtomicBool, count: &AtomicUsize) -> Told {
    let told = Mutex::new(Told::default());
    std::thread::scope(|scope| {
        for device in devices {
            scope.spawn(|| {
                let engine = world.engine();
                while !is_over.load(Ordering::SeqCst) {
                    let id = engine.task_id();
                    let made = block_on(engine.for_caller(world.org(0)).task_create(id, spec(device), None));
                    let mut told_now = told.lock().unwrap();
                    if let Err(error) = made {
                        told_now.faults.insert(format!("{error:?}"));
                        told_now.not_made.push(id);
                        drop(told_now);
                        std::thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                    told_now.made.push(id);
                    drop(told_now);
                    let done = block_on(engine.for_device(device).task_finish(id, result(200, 0, "body")));
                    let mut told_now = told.lock().unwrap();
                    match done {
                        Ok(_) => told_now.finished.push(id),
                        Err(error) => drop(told_now.faults.insert(format!("{error:?}"))),
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    told.into_inner().unwrap()
}

/// On a busy machine a new connection may take longer than callers wait.
fn only_unreachable(told: &Told) {
    let unreachable = Error::Unavailable { reason: StorageFault::Unreachable };
    assert!(told.faults.is_subset(&HashSet::from([format!("{unreachable:?}")])), "{:?}", told.faults);
}

fn check(world: &World, told: &Told) {
    for id in &told.made {
        world.get(*id);
    }
    for id in &told.not_made {
        assert!(world.get_as(0, *id).is_err(), "{id} was refused and is there");
    }
    for id in &told.finished {
        let detail = world.get(*id);
        assert_eq!((detail.task.status, detail.results.len()), (TaskStatus::Done, 1));
    }
    assert_eq!(world.list(0, TaskFilter::default(), 1, 1).total, told.made.len() as u64);
    let done = TaskFilter { status: Some(TaskStatus::Done), ..TaskFilter::default() };
    let counts = block_on(world.engine().server().task_counts_of_every_org()).unwrap();
    let counted = counts.iter().find(|count| count.status == TaskStatus::Done).unwrap();
    assert_eq!(world.list(0, done, 1, 1).total, counted.count);
}

/// Ends all connections of the store; answers how many there were.
fn cut(url: &str) -> usize {
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'covey/%'";
    say(url, &[cut])[0][0].parse().unwrap()
}

#[test]
fn connections_that_are_cut_under_load_leave_nobody_in_doubt() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let devices: Vec<_> = (0..CALLERS).map(|_| world.device(0)).collect();
    let (is_over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (told, cuts) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| write_until(&world, &devices, &is_over, &count));
        let begun = Instant::now();
        let mut cuts = 0;
        while begun.elapsed() < Duration::from_secs(6) {
            cuts += cut(&url);
            std::thread::sleep(Duration::from_millis(137));
        }
        is_over.store(true, Ordering::SeqCst);
        (writing.join().unwrap(), cuts)
    });
    only_unreachable(&told);
    assert!(cuts > 10 && told.finished.len() > 50, "{cuts} cuts, {} tasks", told.finished.len());
    check(&world, &told);
}

#[test]
fn a_database_that_is_killed_loses_nothing_that_was_acknowledged() {
    let own = Testbed::own(&["max_connections = 50", "shared_buffers = 32MB"]).unwrap();
    say(&own.postgresql_url("postgres").unwrap(), &["CREATE DATABASE covey"]);
    let world = World::new(Another::new(&own.postgresql_url("covey").unwrap(), "server-1"));
    let devices: Vec<_> = (0..CALLERS).map(|_| world.device(0)).collect();
    let (is_over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let until_more_is_written = || {
        let before = count.load(Ordering::SeqCst);
        let begun = Instant::now();
        while count.load(Ordering::SeqCst) < before + 100 {
            assert!(begun.elapsed() < Duration::from_secs(60), "the store did not come back");
            std::thread::sleep(Duration::from_millis(7));
        }
    };
    let told = std::thread::scope(|scope| {
        let writing = scope.spawn(|| write_until(&world, &devices, &is_over, &count));
        for _ in 0..4 {
            until_more_is_written();
            own.kill("postgresql").unwrap();
            own.start("postgresql").unwrap();
        }
        until_more_is_written();
        is_over.store(true, Ordering::SeqCst);
        writing.join().unwrap()
    });
    only_unreachable(&told);
    check(&world, &told);
}

fn wait_for_room(world: &World) {
    assert!(has_room_within(world, Duration::from_secs(60)), "{:?}", world.store().write_fault());
}

/// Whether a store that takes writes has room before the time is over.
fn has_room_within(world: &World, time: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < time {
        if world.store().write_fault().is_none() && world.store().room() == Room::Enough {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn a_full_disk_is_told_as_such_and_reads_go_on() {
    // What PostgreSQL says of a full disk, said by a trigger.
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    let (task, other) = (world.create(spec(&device)), world.create(spec(&device)));
    let fail = |code: &str| {
        let function = format!(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END $$"
        );
        say(&url, &[&function]);
        // The trial writes into the other one: what is full stays so until it is said to be over.
        for table in ["tasks_open", "idempotency"] {
            let trigger = format!(
                "CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
            );
            say(&url, &[&trigger]);
        }
        world.create_as(0, spec(&device)).unwrap_err()
    };
    let room_again = || drop(say(&url, &["DROP TRIGGER refuse ON idempotency"]));
    for (code, reason) in [
        ("53100", StorageFault::Full),
        ("25006", StorageFault::ReadOnly),
        ("53200", StorageFault::Io),
        ("22021", StorageFault::Io),
        ("40001", StorageFault::Io),
    ] {
        assert_eq!(fail(code), Error::Unavailable { reason }, "{code}");
        if reason == StorageFault::Full {
            // All but relief is refused until a trial has found room.
            assert_eq!(world.store().room(), Room::Full);
            assert_eq!(world.create_as(0, spec(&device)).unwrap_err(), Error::Unavailable { reason });
            assert_eq!(
                world.finish(&device, task.id, result(200, 0, "")).unwrap_err(),
                Error::Unavailable { reason }
            );
            world.delete(0, other.id).unwrap();
            let org = world.org(0).org;
            assert!(block_on(world.engine().server().unit_gateway_claim(org, "here")).unwrap());
            // Another fault in between does not end it.
            cut(&url);
            assert!(!has_room_within(&world, Duration::from_secs(4)));
            room_again();
            wait_for_room(&world);
        }
        assert_eq!(world.get(task.id).task, *task);
    }
    room_again();
    say(&url, &["DROP TRIGGER refuse ON tasks_open"]);
    world.create(spec(&device));
}

#[test]
fn a_transaction_that_lost_once_is_run_again() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    say(
        &url,
        &[
            "CREATE SEQUENCE attempts",
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('attempts') % 3 <> 0 THEN RAISE EXCEPTION 'refused' USING ERRCODE = '40P01'; END IF; \
         RETURN NULL; END $$",
            "CREATE TRIGGER refuse BEFORE INSERT ON tasks_open FOR EACH STATEMENT EXECUTE FUNCTION refuse()",
        ],
    );
    for _ in 0..5 {
        world.create(spec(&device));
    }
    assert_eq!(world.list(0, TaskFilter::default(), 1, 1).total, 5);
    assert_eq!(say(&url, &["SELECT last_value FROM attempts"])[0][0], "15");
}
