//! What several servers on one database have counted, each for itself.

use covey_core::budget::Weight;
use futures_executor::block_on;

use crate::battery::quotas::{count, flush, kept, large, stored, until_kept};
use crate::database::{Another, PostgresBackend, say};
use crate::world::World;

#[test]
fn of_a_killed_server_is_counted_what_it_has_stored_and_not_what_others_have() {
    let backend = PostgresBackend::new();
    let (url, another) = (backend.url(), Another::new(&backend.url(), "server-2"));
    let first = World::new(backend);
    let mut second = World::on_what_is_there(another, 1_000_000);
    let (device, other) = (first.device(0), first.device(0));
    let create = |first: &World, second: &World| {
        for _ in 0..3 {
            first.create(large(&device));
            second.create(large(&device));
            second.create(large(&other));
        }
    };
    count(&first);
    count(&second);
    create(&first, &second);
    flush(&first);
    create(&first, &second);
    second.restart_quietly();
    count(&second);
    // The six of the first that are not written yet are not the second's to count.
    until_kept(&second, 30_000);
    flush(&first);
    flush(&second);
    assert_eq!([&first, &second].map(kept), [36_000; 2]);
    create(&first, &second);
    drop(second);
    flush(&first);
    assert_eq!(kept(&first), 42_000, "the second may have lost its connection alone");
    // So the servers do when its lock was free for an hour.
    say(&url, &["DELETE FROM writers WHERE server = 'server-2'"]);
    flush(&first);
    assert_eq!(kept(&first), 54_000);
    flush(&first);
    assert_eq!(kept(&first), 54_000);
}

#[test]
fn what_one_server_deletes_is_taken_off_what_another_has_counted() {
    let backend = PostgresBackend::new();
    let another = Another::new(&backend.url(), "server-2");
    let first = World::new(backend);
    let second = World::on_what_is_there(another, 1_000_000);
    let device = first.device(0);
    count(&first);
    count(&second);
    let [task, _] = [(); 2].map(|()| first.create(large(&device)));
    flush(&first);
    second.delete(0, task.id).unwrap();
    for world in [&first, &second] {
        flush(world);
        assert_eq!((kept(world), stored(world, &[&device])), (2_256, vec![2_256]));
    }
}

#[test]
fn what_was_used_is_counted_once_by_all_servers_together() {
    let backend = PostgresBackend::new();
    let (url, another) = (backend.url(), Another::new(&backend.url(), "server-2"));
    let first = World::new(backend);
    let mut second = World::on_what_is_there(another, 1_000_000);
    let (device, other) = (first.device(0), first.device(0));
    let ping = |world: &World, device| {
        world.engine().for_device(device).charge(Weight::PING).unwrap();
        block_on(world.engine().for_caller(first.org(0)).retention_put(Vec::new())).unwrap();
    };
    let used = |world: &World| {
        let report = block_on(world.engine().for_caller(first.org(0)).usage(None, None, None)).unwrap();
        let total = report.total();
        [total.tasks_created, total.bytes_in, total.active_devices]
    };
    let create = |world: &World, device| {
        block_on(world.engine().for_caller(first.org(0)).task_create(
            world.engine().task_id(),
            large(device),
            None,
        ))
        .unwrap();
    };
    for _ in 0..3 {
        create(&first, &device);
        create(&second, &device);
        create(&second, &other);
        // Both servers hear of the same device.
        ping(&first, &device);
        ping(&second, &device);
        second.restart_quietly();
    }
    ping(&second, &other);
    assert_eq!([&first, &second].map(used), [[9, 9 * 1_744, 2]; 2]);
    let settled = || say(&url, &["SELECT count(*) FROM usage_devices"]).concat() == ["0"];
    for world in [&first, &second] {
        world.pass_ms(2 * 86_400_000);
    }
    std::thread::scope(|scope| {
        for world in [&first, &second] {
            scope.spawn(|| {
                while !settled() {
                    block_on(world.engine().server().usage_step()).unwrap();
                }
            });
        }
    });
    assert_eq!([&first, &second].map(used), [[9, 9 * 1_744, 2]; 2]);
}
