//! Months of final tasks and of events: made ahead, and dropped with what belongs to them.

use std::sync::Arc;

use covey_core::device::DeviceIdentity;
use covey_core::event::{AddedEvent, NewEvent};
use covey_core::id::{TaskId, UnixMs};
use covey_core::port::Store;
use covey_core::retention::{Prune, Pruned, RetentionClass};
use covey_core::task::TaskFilter;
use covey_store::postgres::{Options, Postgres};
use futures_executor::block_on;
use uuid::Uuid;

use super::events::{add, event, total};
use super::outbox::Session;
use crate::database::{PostgresBackend, say};
use crate::world::parts::Counts;
use crate::world::{World, lasting, result};

/// The world begins in November 2023.
const NOVEMBER_END: UnixMs = UnixMs(1_701_388_800_000);
const DECEMBER_END: UnixMs = UnixMs(1_704_067_200_000);
pub const DAY_MS: i64 = 86_400_000;

fn partitions(url: &str) -> Vec<String> {
    let sql = "SELECT inhrelid::regclass::text FROM pg_inherits \
         WHERE inhparent IN ('tasks_done'::regclass, 'results'::regclass) ORDER BY 1";
    say(url, &[sql]).into_iter().map(|mut row| row.remove(0)).collect()
}

/// A store that has nothing to do but to prune.
pub fn pruner(world: &World, url: &str) -> Postgres {
    server(world, url, "pruner")
}

/// A store of another name on the same database.
pub fn server(world: &World, url: &str, name: &str) -> Postgres {
    let options = Options::new(url, name).unwrap();
    Postgres::open(&options, Arc::clone(&world.outside.clock) as _, Arc::new(Counts::default())).unwrap()
}

/// Tasks of all organisations that are older.
fn everyones(before: UnixMs) -> Prune {
    Prune { kept: RetentionClass::Tasks, before: Some(before), of_orgs: Vec::new(), now: before, after: 0 }
}

/// A task with an id of its time, made now.
pub fn create(world: &World, device: &DeviceIdentity) -> TaskId {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let id = (u128::try_from(world.now().0).unwrap() << 80) | (7 << 76) | (2 << 62) | u128::from(number);
    let id = TaskId(Uuid::from_u128(id));
    block_on(world.engine().for_caller(world.org(0)).task_create(id, lasting(device, 44_639), None)).unwrap();
    id
}

pub fn finished(world: &World, device: &DeviceIdentity) -> TaskId {
    let id = create(world, device);
    world.finish(device, id, result(200, 0, "body")).unwrap();
    id
}

fn counted(world: &World) -> u64 {
    let counts = block_on(world.engine().server().task_counts_of_every_org()).unwrap();
    let all: u64 = counts.iter().map(|count| count.count).sum();
    assert_eq!(world.list(0, TaskFilter::default(), 1, 1).total, all);
    let listed = TaskFilter { created_after: Some(UnixMs(0)), ..TaskFilter::default() };
    assert_eq!(world.list(0, listed, 1, 1).total, all, "a recount says the same");
    all
}

#[test]
fn months_are_made_ahead_and_dropped_when_nothing_in_them_is_open() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let month = |name: &str| [format!("results_{name}"), format!("tasks_done_{name}")];
    let made = partitions(&url);
    for name in ["2023_11", "2023_12", "2024_01", "default"] {
        assert!(month(name).iter().all(|table| made.contains(table)), "{made:?}");
    }
    let device = world.device(0);
    let (old, open) = (finished(&world, &device), create(&world, &device));
    world.pass_ms(20 * DAY_MS);
    let newer = finished(&world, &device);
    let store = pruner(&world, &url);
    let prune = |before| block_on(store.prune(everyones(before))).unwrap();
    let nothing = Pruned::default();
    // The month's last instant is not yet behind the bound.
    assert_eq!(prune(UnixMs(NOVEMBER_END.0 - 1)), nothing);
    // A task of that month is still open.
    assert_eq!(prune(NOVEMBER_END), nothing);
    assert_eq!(counted(&world), 3);
    world.finish(&device, open, result(500, 0, "body")).unwrap();
    world.delete(0, old).unwrap();
    assert_eq!(prune(NOVEMBER_END), Pruned { count: 2, next: None });
    assert!(month("2023_11").iter().all(|table| !partitions(&url).contains(table)));
    assert!(world.get_as(0, old).is_err() && world.get_as(0, open).is_err());
    assert_eq!((world.get(newer).results.len(), counted(&world)), (1, 1));
    assert_eq!(prune(DECEMBER_END).count, 1);
    assert_eq!(counted(&world), 0);
    assert_eq!(say(&url, &["SELECT count(*) FROM results"])[0][0], "0");
}

#[test]
fn tasks_whose_ids_tell_no_time_are_deleted_by_their_age() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    let make = |count: usize| {
        for _ in 0..count {
            let task = world.create(lasting(&device, 10));
            world.finish(&device, task.id, result(200, 0, "body")).unwrap();
        }
    };
    make(30);
    let open = world.create(lasting(&device, 44_639));
    world.pass_ms(DAY_MS);
    let now = world.now();
    make(5);
    let store = pruner(&world, &url);
    assert_eq!(block_on(store.prune(everyones(now))).unwrap(), Pruned { count: 30, next: None });
    assert_eq!(counted(&world), 6);
    assert_eq!(say(&url, &["SELECT count(*) FROM results"])[0][0], "5");
    world.get(open.id);
}

/// Events of all organisations that are older.
fn everyones_events(before: UnixMs) -> Prune {
    Prune { kept: RetentionClass::Events, ..everyones(before) }
}

pub fn is_there(url: &str, table: &str) -> bool {
    say(url, &[&format!("SELECT to_regclass('{table}') IS NOT NULL")])[0][0] == "t"
}

/// Five events of November; then it is January.
fn live_until_january(world: &World, device: &DeviceIdentity) {
    for number in 1..=5 {
        assert_eq!(add(world, device, event(2, number, "{}")), AddedEvent::Stored);
    }
    world.pass_ms(60 * DAY_MS);
}

#[test]
fn a_month_of_events_is_dropped_but_for_what_came_late() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    live_until_january(&world, &device);
    let late = event(2, 6, "{}");
    assert_eq!(add(&world, &device, late.clone()), AddedEvent::Stored);
    add(&world, &device, NewEvent { dev_timestamp: Some(world.now()), ..event(2, 9, "{}") });
    let store = pruner(&world, &url);
    let prune = |before| block_on(store.prune(everyones_events(before))).unwrap();
    assert_eq!(prune(UnixMs(NOVEMBER_END.0 - 1)), Pruned::default(), "its last instant is not that old");
    assert_eq!(prune(NOVEMBER_END).count, 5);
    assert_eq!((total(&world), is_there(&url, "events_2023_11")), (2, false));
    assert_eq!(add(&world, &device, late), AddedEvent::Duplicate, "it is known where it is now");
    // What comes even later has no month of its own any more, and is kept.
    assert_eq!(add(&world, &device, event(2, 7, "{}")), AddedEvent::Stored);
    assert_eq!(total(&world), 3);
}

#[test]
fn what_a_prune_that_was_ended_has_left_is_dropped_by_the_next() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    live_until_january(&world, &device);
    // As it is after a partition was taken out, and before it is counted and dropped.
    say(
        &url,
        &[
            "ALTER TABLE events DETACH PARTITION events_2023_11",
            "ALTER TABLE events_2023_11 RENAME TO forgotten_events_2023_11",
        ],
    );
    let store = pruner(&world, &url);
    assert_eq!(block_on(store.prune(everyones_events(NOVEMBER_END))).unwrap().count, 5);
    assert_eq!((total(&world), is_there(&url, "forgotten_events_2023_11")), (0, false));
}

#[test]
fn who_reads_for_long_puts_off_forgetting_and_stops_nobody() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    live_until_january(&world, &device);
    let store = pruner(&world, &url);
    let reader = Session::new(&url);
    reader.say("BEGIN; SELECT count(*) FROM events");
    std::thread::scope(|scope| {
        let pruning = scope.spawn(|| block_on(store.prune(everyones_events(NOVEMBER_END))).unwrap());
        let mut number = 100;
        while !pruning.is_finished() {
            number += 1;
            // So many at one instant would be held back.
            world.pass_ms(10);
            let now = NewEvent { dev_timestamp: Some(world.now()), ..event(2, number, "{}") };
            assert_eq!(add(&world, &device, now), AddedEvent::Stored);
        }
        pruning.join().unwrap();
        assert!(is_there(&url, "events_2023_11"), "it is being read");
    });
    reader.say("COMMIT");
    let before = total(&world);
    let forgotten = block_on(store.prune(everyones_events(NOVEMBER_END))).unwrap();
    assert_eq!((total(&world), is_there(&url, "events_2023_11")), (before - forgotten.count, false));
}
