//! Copies of a database that is in use.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use covey_core::task::TaskFilter;
use covey_store::StoreError;
use covey_store::sqlite::{Options, backup, verify};
use rusqlite::Connection;

use crate::world::sqlite::SqliteBackend;
use crate::world::{World, result, spec};

/// Ends the writers, even if the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_copy_made_while_writes_go_on_is_whole_and_of_one_moment() {
    let backend = SqliteBackend::new();
    let path = backend.path();
    let world = World::new(backend);
    let device = world.device(0);
    let acknowledged = Mutex::new(Vec::new());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = SetOnDrop(&is_over);
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let task = world.create(spec(&device));
                    acknowledged.lock().unwrap().push(task.id);
                    world.finish(&device, task.id, result(200, 0, "body")).unwrap();
                }
            });
        }
        for number in 1..=5 {
            while acknowledged.lock().unwrap().len() < number * 50 {
                std::thread::yield_now();
            }
            let before = acknowledged.lock().unwrap().clone();
            let copy = path.with_extension(format!("copy-{number}"));
            backup(&path, &copy).unwrap();
            let connection = Connection::open(&copy).unwrap();
            let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            assert!(one("SELECT count(*) FROM tasks") >= i64::try_from(before.len()).unwrap());
            assert_eq!(one("SELECT sum(count) FROM task_counts"), one("SELECT count(*) FROM tasks"));
            assert_eq!(one("SELECT sum(results) FROM tasks"), one("SELECT count(*) FROM results"));
            for id in before {
                let sql = "SELECT count(*) FROM tasks WHERE id = ?1";
                let found: i64 = connection.query_row(sql, [id.0.as_bytes()], |row| row.get(0)).unwrap();
                assert_eq!(found, 1);
            }
        }
    });
    // A copy is a database like any other.
    let restored =
        World::on_what_is_there(SqliteBackend::at(Options::new(path.with_extension("copy-5"))), 1_000_000);
    assert!(restored.list(0, TaskFilter::default(), 1, 1).total >= 200);
    // Each writer may have been between making a task and finishing it.
    assert!(std::iter::from_fn(|| restored.poll(&device)).count() <= 2);
}

#[test]
fn a_copy_never_replaces_a_file() {
    let backend = SqliteBackend::new();
    let path = backend.path();
    let _world = World::new(backend);
    let target = path.with_extension("copy");
    std::fs::write(&target, "precious").unwrap();
    assert!(matches!(backup(&path, &target), Err(StoreError::Make { .. })));
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
}

#[test]
fn what_is_empty_or_damaged_does_not_pass_for_a_copy() {
    let backend = SqliteBackend::new();
    let path = backend.path();
    let world = World::new(backend);
    let device = world.device(0);
    (0..200).for_each(|_| drop(world.create(spec(&device))));
    let empty = path.with_extension("empty");
    std::fs::write(&empty, "").unwrap();
    assert!(matches!(verify(&empty), Err(StoreError::Foreign { .. })));
    assert!(matches!(backup(&empty, &path.with_extension("copy-of-empty")), Err(StoreError::Foreign { .. })));
    let copy = path.with_extension("copy");
    backup(&path, &copy).unwrap();
    let mut bytes = std::fs::read(&copy).unwrap();
    // Beyond the first page, which says whose file it is.
    bytes[8_192..].iter_mut().step_by(64).for_each(|byte| *byte = !*byte);
    std::fs::write(&copy, bytes).unwrap();
    assert!(matches!(verify(&copy), Err(StoreError::Damaged { .. } | StoreError::Open { .. })));
}
