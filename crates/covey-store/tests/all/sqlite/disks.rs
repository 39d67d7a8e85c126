//! A disk that is full, and then is not.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use covey_core::Error;
use covey_core::error::StorageFault;
use covey_core::id::TaskId;
use covey_core::port::Store;
use covey_core::task::{TaskFilter, TaskSpec};
use covey_store::sqlite::Options;
use rusqlite::Connection;

use crate::child;
use crate::world::sqlite::SqliteBackend;
use crate::world::{World, result, spec};

const FULL: Error = Error::Unavailable { reason: StorageFault::Full };

fn large(device: &covey_core::device::DeviceIdentity) -> TaskSpec {
    TaskSpec { payload: Some(format!("{{\"fill\":\"{}\"}}", "x".repeat(100_000)).into()), ..spec(device) }
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
    let folder = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=16m none "$0" && exec "$@""#;
    let inside = |arguments: &[String]| {
        let mut command = Command::new("unshare");
        command.args(["-Urm", "sh", "-c", mount]).arg(folder.path()).args(arguments);
        child::order(&mut command, &[folder.path().to_str().unwrap()]).output()
    };
    if !inside(&["true".to_owned()]).is_ok_and(|done| done.status.success()) {
        println!("skipped: this system does not let a test mount a file system");
        return;
    }
    let done =
        inside(&child::words("sqlite::disks::a_full_disk_refuses_writes_until_there_is_room")).unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

/// What the child does, on a file system that is all its own.
fn fill_a_small_disk(folder: &Path) {
    let mut world = World::new(SqliteBackend::at(Options::new(folder.join("covey.db"))));
    let device = world.device(0);
    let first = world.create(spec(&device));
    let filler = folder.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 64 * 1024]).is_ok() {}
    while file.write_all(&[0; 1024]).is_ok() {}
    drop(file);
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

/// Writers that never pause give a passive checkpoint no chance to end the log.
#[test]
fn the_log_stays_bounded_while_someone_always_writes() {
    let backend = SqliteBackend::new();
    let log = backend.path().with_extension("db-wal");
    let world = World::new(backend);
    let is_over = AtomicBool::new(false);
    let mut longest = 0;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let device = world.device(0);
                while !is_over.load(Ordering::Relaxed) {
                    let task = world.create(large(&device));
                    world.delete(0, task.id).unwrap();
                }
            });
        }
        while world.list(0, TaskFilter::default(), 1, 1).total < 3_000 {
            longest = longest.max(std::fs::metadata(&log).unwrap().len());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    println!("written: more than 300 MB; longest log: {} MB", longest / 1_000_000);
    assert!(longest < 200_000_000, "{longest} bytes");
}
