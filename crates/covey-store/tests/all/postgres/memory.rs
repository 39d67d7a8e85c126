//! What a server that is alone remembers of its tasks is checked when it writes.

use std::time::{Duration, Instant};

use covey_core::device::DeviceSpec;
use covey_core::error::Error;
use futures_executor::block_on;

use crate::database::{Another, PostgresBackend, say};
use crate::world::{World, result, spec};

/// A server that has found that it is alone: it then takes numbers ahead.
fn alone() -> (World, String) {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    let begun = Instant::now();
    while numbers_taken(&url) < 500 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never knows that it is alone");
        world.finish(&device, world.create(spec(&device)).id, result(200, 0, "")).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    (world, url)
}

fn numbers_taken(url: &str) -> i64 {
    say(url, &["SELECT last_value FROM task_seq"])[0][0].parse().unwrap()
}

fn count(url: &str, of: &str) -> i64 {
    say(url, &[&format!("SELECT count(*) FROM {of}")])[0][0].parse().unwrap()
}

#[test]
fn a_task_that_somebody_else_changed_is_looked_up_again() {
    let (world, url) = alone();
    let device = world.device(0);
    let task = world.create(spec(&device));
    say(&url, &["UPDATE tasks_open SET deliveries = 7"]);
    let taken = world.request(&device, task.id).unwrap();
    assert_eq!(taken.deliveries, 8, "it goes by what the database has");
    say(&url, &["UPDATE tasks_open SET deliveries = 20"]);
    world.finish(&device, task.id, result(200, 0, "done")).unwrap();
    let detail = world.get(task.id);
    assert_eq!((detail.task.deliveries, detail.results.len()), (20, 1));
}

#[test]
fn a_task_that_is_gone_is_not_finished_from_memory() {
    let (world, url) = alone();
    let device = world.device(0);
    let (gone, other) = (world.create(spec(&device)), world.create(spec(&device)));
    let (done, results) = (count(&url, "tasks_done"), count(&url, "results"));
    say(&url, &[&format!("DELETE FROM tasks_open WHERE id = '{}'", gone.id)]);
    let refused = world.finish(&device, gone.id, result(200, 0, "done"));
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    assert_eq!((count(&url, "tasks_done"), count(&url, "results")), (done, results), "nothing of it is kept");
    world.finish(&device, other.id, result(200, 0, "done")).unwrap();
}

#[test]
fn the_work_of_another_server_is_seen_while_it_is_there() {
    let (first, url) = alone();
    let device = first.device(0);
    let task = first.create(spec(&device));
    let second = World::on_what_is_there(Another::new(&url, "server-2"), 1_000_000);
    let taken = second.request(&device, task.id).unwrap();
    assert_eq!(taken.deliveries, 1);
    first.finish(&device, task.id, result(200, 0, "done")).unwrap();
    let detail = second.get(task.id);
    assert_eq!((detail.task.deliveries, detail.results.len()), (1, 1), "the delivery by the other is kept");
}

#[test]
fn nothing_from_before_the_visit_of_another_server_is_remembered_after_it() {
    let (first, url) = alone();
    let device = first.device(0);
    first.create(spec(&device));
    let second = World::on_what_is_there(Another::new(&url, "server-2"), 1_000_000);
    block_on(second.engine().for_caller(second.org(0)).device_retire(device.device_id)).unwrap();
    let again = DeviceSpec { sn: Some(device.sn.clone()), ..DeviceSpec::default() };
    let again = second.register(0, again).unwrap().0.identity;
    drop(second);
    // The first does nothing meanwhile but find that it is alone again.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(first.create(spec(&device)).device, again.device, "the one that bears the serial number now");
}
