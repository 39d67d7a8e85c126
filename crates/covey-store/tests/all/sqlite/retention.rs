//! Final tasks are dropped by their age, with all that belongs to them.

use std::sync::Arc;

use covey_core::id::UnixMs;
use covey_core::port::Store;
use covey_core::retention::{Prune, Pruned, RetentionClass};
use covey_core::task::TaskFilter;
use covey_store::sqlite::Sqlite;
use futures_executor::block_on;
use rusqlite::Connection;

use crate::world::parts::Counts;
use crate::world::sqlite::SqliteBackend;
use crate::world::{World, lasting, result};

#[test]
fn final_tasks_are_dropped_by_their_age_and_open_ones_stay() {
    let backend = SqliteBackend::new();
    let options = backend.options.clone();
    let world = World::new(backend);
    let device = world.device(0);
    let open = world.create(lasting(&device, 44_639));
    let make = |count: usize| {
        for _ in 0..count {
            let task = world.create(lasting(&device, 10));
            world.finish(&device, task.id, result(200, 0, "body")).unwrap();
        }
    };
    make(1_200);
    world.pass_ms(86_400_000);
    let before = world.now();
    make(7);
    let store =
        Sqlite::open(&options, Arc::clone(&world.outside.clock) as _, Arc::new(Counts::default())).unwrap();
    let prune = |before| {
        let what = Prune {
            kept: RetentionClass::Tasks,
            before: Some(before),
            of_orgs: Vec::new(),
            now: before,
            after: 0,
        };
        block_on(store.prune(what)).unwrap()
    };
    assert_eq!(prune(UnixMs(0)), Pruned::default());
    assert_eq!(prune(before), Pruned { count: 1_200, next: None });
    world.get(open.id);
    let counts = block_on(world.engine().server().task_counts_of_every_org()).unwrap();
    assert_eq!(counts.iter().map(|count| count.count).sum::<u64>(), 8);
    assert_eq!(world.list(0, TaskFilter::default(), 1, 100).items.len(), 8);
    let connection = Connection::open(&options.path).unwrap();
    let results: i64 = connection.query_row("SELECT count(*) FROM results", [], |row| row.get(0)).unwrap();
    assert_eq!(results, 7);
}
