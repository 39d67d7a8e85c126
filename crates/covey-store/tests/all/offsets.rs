//! How far callers have read is kept for as long as it says something.

use covey_core::event::{EventTypes, NewEvent};
use futures_executor::block_on;
use rusqlite::Connection;

use crate::battery::events::{add, event};
use crate::database::{PostgresBackend, say};
use crate::world::World;
use crate::world::sqlite::SqliteBackend;

/// More than events are kept, and the month in which they were made.
const LONG_MS: i64 = 150 * 86_400_000;
const COUNT: &str = "SELECT count(*) FROM event_offsets";

fn goes_with_the_events(world: &World, count: impl Fn() -> i64) {
    let device = world.device(0);
    let read = || {
        let caller = world.engine().for_caller(world.org(0));
        let events = block_on(caller.event_next(None, EventTypes::OfDevices, None, 50)).unwrap();
        events.iter().map(|event| event.key.dev_event_id).collect::<Vec<_>>()
    };
    let prune = || while block_on(world.engine().server().prune()).unwrap().1 {};
    add(world, &device, event(2, 1, "{}"));
    add(world, &device, event(2, 2, "{}"));
    assert_eq!((read(), count()), (vec![1, 2], 1));
    prune();
    assert_eq!((read(), count()), (vec![], 1));
    world.pass_ms(LONG_MS);
    add(world, &device, NewEvent { dev_timestamp: Some(world.now()), ..event(2, 3, "{}") });
    prune();
    assert_eq!(count(), 0);
    assert_eq!((read(), count()), (vec![3], 1));
    prune();
    assert_eq!((read(), count()), (vec![], 1));
}

#[test]
fn how_far_a_caller_has_read_goes_with_the_events_on_sqlite() {
    let backend = SqliteBackend::new();
    let path = backend.options.path.clone();
    let count = || Connection::open(&path).unwrap().query_row(COUNT, [], |row| row.get(0)).unwrap();
    goes_with_the_events(&World::new(backend), count);
}

#[test]
fn how_far_a_caller_has_read_goes_with_the_events_on_postgresql() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    goes_with_the_events(&World::new(backend), || say(&url, &[COUNT])[0][0].parse().unwrap());
}
