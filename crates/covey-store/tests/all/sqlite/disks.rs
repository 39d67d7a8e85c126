//! A disk that is full, and then is not.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use covey_core::Error;
use covey_core::access::Rights;
use covey_core::budget::Rate;
use covey_core::error::StorageFault;
use covey_core::event::NewEvent;
use covey_core::id::TaskId;
use covey_core::port::{Room, Store};
use covey_core::retention::RetentionClass;
use covey_core::task::{TaskFilter, TaskSpec};
use covey_core::unit::UNIT_LEASE_MS;
use covey_store::sqlite::{Disk, Options};
use futures_executor::block_on;
use rusqlite::Connection;

use crate::child;
use crate::world::sqlite::SqliteBackend;
use crate::world::{World, result, spec};

const FULL: Error = Error::Unavailable { reason: StorageFault::Full };

fn large(device: &covey_core::device::DeviceIdentity) -> TaskSpec {
    TaskSpec { payload: Some(format!("{{\"fill\":\"{}\"}}", "x".repeat(100_000)).into()), ..spec(device) }
}

fn event(number: u32) -> NewEvent {
    NewEvent {
        type_code: 7,
        dev_event_id: number,
        dev_timestamp: None,
        correlation: None,
        payload: "{}".into(),
        reported: Vec::new(),
    }
}

/// Makes large tasks until one is refused; answers those that were made.
fn fill(world: &World, device: &covey_core::device::DeviceIdentity) -> Vec<TaskId> {
    let mut made = Vec::new();
    loop {
        match world.create_as(0, large(device)) {
            Ok(task) => made.push(task.id),
            Err(error) => {
                assert_eq!(error, FULL);
                return made;
            }
        }
        assert!(made.len() < 10_000, "the disk is never full");
    }
}

/// Waits until the store has found, without being asked to write, that it can.
fn wait_until_writable(world: &World) {
    let begun = Instant::now();
    while let Some(fault) = world.store().write_fault() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{fault}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_full_database_refuses_writes_and_goes_on_reading() {
    let mut backend = SqliteBackend::new();
    backend.options.pages_max = Some(500);
    let path = backend.path();
    let mut world = World::new(backend);
    let device = world.device(0);
    let made = fill(&world, &device);
    assert!(!made.is_empty());
    assert_eq!(world.store().write_fault(), Some(StorageFault::Full));
    assert_eq!(world.list(0, TaskFilter::default(), 1, 1_000).items.len(), made.len());
    made.iter().for_each(|id| assert_eq!(world.get(*id).task.id, *id));
    world.restart();
    assert_eq!(world.create_as(0, large(&device)).unwrap_err(), FULL);
    // What is freed may be used again.
    let freed = Connection::open(path).unwrap().execute("DELETE FROM tasks WHERE seq <= 5", []).unwrap();
    assert_eq!(freed, 5);
    wait_until_writable(&world);
    let task = world.create(large(&device));
    world.finish(&device, task.id, result(200, 0, "")).unwrap();
}

/// On a small file system of its own, where the system lets one be mounted.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    if let Some(orders) = child::orders() {
        return fill_a_small_disk(Path::new(&orders[0]));
    }
    on_a_small_disk("sqlite::disks::a_full_disk_refuses_writes_until_there_is_room");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_takes_what_makes_room_or_shuts_out() {
    if let Some(orders) = child::orders() {
        return relieve_a_small_disk(Path::new(&orders[0]));
    }
    on_a_small_disk("sqlite::disks::a_full_disk_takes_what_makes_room_or_shuts_out");
}

#[cfg(target_os = "linux")]
#[test]
fn retention_on_a_full_disk_leaves_the_reserve_to_others() {
    if let Some(orders) = child::orders() {
        return forget_on_a_small_disk(Path::new(&orders[0]));
    }
    on_a_small_disk("sqlite::disks::retention_on_a_full_disk_leaves_the_reserve_to_others");
}

/// Runs a test again in a child, with a file system of 16 MiB.
fn on_a_small_disk(test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=16m none "$0" && exec "$@""#;
    let inside = |arguments: &[String]| {
        let mut command = Command::new("unshare");
        command.args(["-Urm", "sh", "-c", mount]).arg(folder.path()).args(arguments);
        child::order(&mut command, &[folder.path().to_str().unwrap()]).output()
    };
    if !inside(&["true".to_owned()]).is_ok_and(|done| done.status.success()) {
        // Past what catches the output of tests: nobody takes this for a test that has passed.
        let why = format!("NOT TESTED: {test}: this system does not let a test mount a file system\n");
        return std::io::stderr().write_all(why.as_bytes()).unwrap();
    }
    let done = inside(&child::words(test)).unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

fn fill_all(filler: &Path) {
    let mut file = File::options().create(true).append(true).open(filler).unwrap();
    while file.write_all(&[0; 64 * 1024]).is_ok() {}
    while file.write_all(&[0; 1024]).is_ok() {}
}

/// Fills the disk, and the database that has a reserve on it, until both stay full: a checkpoint that was under way
/// gives back the room that the log had.
fn fill_up(world: &World, device: &covey_core::device::DeviceIdentity, filler: &Path) {
    let begun = Instant::now();
    loop {
        fill_all(filler);
        fill(world, device);
        std::thread::sleep(Duration::from_millis(100));
        if world.store().room() == Room::Full {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the disk does not stay full");
    }
}

/// What the child does, on a file system that is all its own.
fn fill_a_small_disk(folder: &Path) {
    let mut world = World::new(SqliteBackend::at(Options::new(folder.join("covey.db"))));
    let device = world.device(0);
    let first = world.create(spec(&device));
    let filler = folder.join("filler");
    fill_all(&filler);
    let mut made = fill(&world, &device);
    made.push(first.id);
    assert_eq!(world.finish(&device, first.id, result(200, 0, &"x".repeat(50_000))).unwrap_err(), FULL);
    made.iter().for_each(|id| assert_eq!(world.get(*id).task.id, *id));
    assert_eq!(world.store().write_fault(), Some(StorageFault::Full));
    std::fs::remove_file(filler).unwrap();
    wait_until_writable(&world);
    made.push(world.create(large(&device)).id);
    world.finish(&device, first.id, result(200, 0, "")).unwrap();
    world.restart();
    assert_eq!(world.list(0, TaskFilter::default(), 1, 1).total, made.len() as u64);
    made.iter().for_each(|id| assert_eq!(world.get(*id).task.id, *id));
}

/// The same, with a reserve.
fn relieve_a_small_disk(folder: &Path) {
    let disk = Some(Arc::new(Disk::open(folder, Some(0)).unwrap()));
    let options = Options { disk, ..Options::new(folder.join("covey.db")) };
    let mut world = World::new(SqliteBackend::at(options));
    let reserve = folder.join("reserve");
    assert_eq!(reserve.metadata().unwrap().len(), 1 << 20);
    let (device, other) = (world.device(0), world.device(0));
    let first = world.create(spec(&device));
    let many: Vec<_> = (0..20).map(|_| world.create(large(&device)).id).collect();
    let leaked =
        block_on(world.engine().for_caller(world.org(0)).api_key_add("first", "leaked", Rights::ALL));
    let filler = folder.join("filler");
    fill_up(&world, &device, &filler);
    assert_eq!((world.store().room(), reserve.exists()), (Room::Full, false));
    // The units stay with their server.
    let org = world.org(0).org;
    for _ in 0..20 {
        assert!(block_on(world.engine().server().unit_gateway_claim(org, "here")).unwrap());
        world.pass_ms(UNIT_LEASE_MS / 3);
    }
    assert!(!block_on(world.engine().server().unit_gateway_claim(org, "another")).unwrap());
    block_on(world.engine().server().unit_gateway_release(org, "here")).unwrap();

    // However often.
    many.iter().for_each(|id| drop(world.delete(0, *id).unwrap()));
    let caller = world.engine().for_caller(world.org(0));
    block_on(caller.api_key_revoke(leaked.unwrap().key.id)).unwrap();
    block_on(caller.device_retire(other.device_id)).unwrap();
    block_on(caller.retention_run()).unwrap();
    assert_eq!(world.create_as(0, spec(&device)).unwrap_err(), FULL);
    assert_eq!(world.finish(&device, first.id, result(200, 0, "")).unwrap_err(), FULL);
    assert_eq!(world.store().room(), Room::Full, "a small write that finds room says nothing of others");

    // A start finds room for what it writes.
    world.budgets.key.units = Rate { per_second: 1, burst: 100 };
    world.restart();
    assert_eq!(world.store().room(), Room::Full);
    world.delete(0, first.id).unwrap();
    assert!(many.iter().all(|id| world.get(*id).task.payload.is_none()));
    // Nobody fills what is kept for that with what is told of it.
    let refused = (0..1_000).find_map(|_| world.delete(0, first.id).err());
    assert!(matches!(refused, Some(Error::OverBudget { .. })), "{refused:?}");

    std::fs::remove_file(filler).unwrap();
    wait_until_writable(&world);
    world.pass_ms(60_000);
    assert_eq!((world.store().room(), reserve.exists()), (Room::Enough, true));
    world.create(large(&device));
}

/// What is too old is forgotten, in more steps than the reserve has room for.
fn forget_on_a_small_disk(folder: &Path) {
    let disk = Some(Arc::new(Disk::open(folder, Some(0)).unwrap()));
    let options = Options { disk, ..Options::new(folder.join("covey.db")) };
    let world = World::new(SqliteBackend::at(options));
    let device = world.device(0);
    for number in 1..=4_000 {
        let event = NewEvent { payload: "x".repeat(1_000).into(), ..event(number) };
        block_on(world.engine().for_device(&device).event_add(event, false)).unwrap();
        // Slowly, as a device must.
        world.pass_ms(10);
    }
    fill_up(&world, &device, &folder.join("filler"));
    world.pass_ms(400 * 86_400_000);
    let mut events = 0;
    loop {
        let (counts, is_more) = block_on(world.engine().server().prune()).unwrap();
        let of_events = counts.into_iter().filter(|(kept, _)| *kept == RetentionClass::Events);
        events += of_events.map(|(_, count)| count).sum::<u64>();
        if !is_more {
            break;
        }
    }
    assert!(events >= 4_000, "{events}");
    let caller = world.engine().for_caller(world.org(0));
    block_on(caller.device_retire(device.device_id)).unwrap();
}

#[test]
fn with_little_room_nothing_new_is_taken_and_what_runs_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("covey.db");
    let world = World::new(SqliteBackend::at(Options::new(&path)));
    let device = world.device(0);
    let [open, ended, deleted] = [(); 3].map(|()| world.create(spec(&device)).id);
    world.finish(&device, ended, result(200, 0, "")).unwrap();

    // Started again with another limit: more than any disk has.
    drop(world);
    let disk = Disk::open(folder.path(), Some(i64::MAX as u64)).unwrap();
    let options = Options { disk: Some(Arc::new(disk)), ..Options::new(path) };
    let short = World::on_what_is_there(SqliteBackend::at(options), 1_000);
    let begun = Instant::now();
    while short.store().room() != Room::Short {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    let refused = Error::Unavailable { reason: StorageFault::Short };
    assert_eq!(short.create_as(0, spec(&device)).unwrap_err(), refused);
    assert_eq!(short.register(0, Default::default()).unwrap_err(), refused);
    assert_eq!(block_on(short.engine().for_device(&device).event_add(event(1), false)).unwrap_err(), refused);
    assert_eq!(short.finish(&device, ended, result(200, 1, "late")).unwrap_err(), refused);
    assert_eq!(short.store().write_fault(), None);
    assert!(short.engine().server().health().is_ready());

    assert!(short.finish(&device, ended, result(200, 0, "")).unwrap().duplicate);
    assert!(short.request(&device, open).is_some());
    short.finish(&device, open, result(200, 0, "")).unwrap();
    short.delete(0, deleted).unwrap();
}

/// Writers that never pause give a passive checkpoint no chance to end the log.
#[test]
fn the_log_stays_bounded_while_someone_always_writes() {
    let backend = SqliteBackend::new();
    let log = backend.path().with_extension("db-wal");
    let world = World::without_budgets(backend);
    let is_over = AtomicBool::new(false);
    let mut longest = 0;
    std::thread::scope(|scope| {
        let writers = (0..4).map(|_| {
            scope.spawn(|| {
                let device = world.device(0);
                while !is_over.load(Ordering::Relaxed) {
                    let task = world.create(large(&device));
                    world.delete(0, task.id).unwrap();
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        while world.list(0, TaskFilter::default(), 1, 1).total < 3_000 {
            // One that fails ends the test, when the others have been told.
            if writers.iter().any(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
            longest = longest.max(std::fs::metadata(&log).unwrap().len());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    println!("written: more than 300 MB; longest log: {} MB", longest / 1_000_000);
    assert!(longest < 200_000_000, "{longest} bytes");
}
