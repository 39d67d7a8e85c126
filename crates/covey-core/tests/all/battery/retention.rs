//! Forgetting what is too old: each kind at its time, each organisation's at its
//! own; and counts that are true afterwards.

use std::sync::Arc;

use covey_core::Error;
use covey_core::device::DeviceIdentity;
use covey_core::event::{EventFilter, EventsFrom, NewEvent};
use covey_core::id::{RecordNumber, UnixMs};
use covey_core::port::PageRequest;
use covey_core::record::{RecordFilter, RecordReader, RecordRequest};
use covey_core::retention::{OrgRetention, RetentionClass};
use covey_core::task::TaskFilter;
use covey_core::twin::TwinPatch;
use futures_executor::block_on;

use super::events::{add, event};
use crate::world::{Backend, World, lasting, result};

const DAY_MS: i64 = 86_400_000;

/// So many of each: final tasks with a result, events, and values that were reported.
fn live(world: &World, org: usize, device: &DeviceIdentity, rounds: u32) {
    for round in 1..=rounds {
        let task = world.create_as(org, lasting(device, 44_639)).unwrap();
        world.finish(device, task.id, result(200, 0, "body")).unwrap();
        let happened = NewEvent { dev_timestamp: Some(world.now()), ..event(2, round, "{}") };
        add(world, device, happened);
        let reported = vec![("a".to_owned(), Some(Arc::from(round.to_string())))];
        let patch = TwinPatch { reported, ttl_minutes: 1, ..TwinPatch::default() };
        block_on(world.engine().for_caller(world.org(org)).twin_patch(device.device_id, patch)).unwrap();
    }
}

/// Forgets until there is no more; how many of each kind.
fn prune(world: &World) -> [u64; 4] {
    let mut all = [0; 4];
    loop {
        let (counts, is_more) = block_on(world.engine().server().prune()).unwrap();
        // The audit log has tests of its own.
        for (kept, count) in counts.into_iter().filter(|(kept, _)| *kept != RetentionClass::Audit) {
            all[RetentionClass::NAMES.iter().position(|(known, ..)| *known == kept).unwrap()] += count;
        }
        if !is_more {
            return all;
        }
    }
}

/// How many tasks, events and reported values an organisation's device has;
/// those that are counted by the way must be as many as those that are there.
fn left(world: &World, org: usize, device: &DeviceIdentity) -> [u64; 3] {
    let listed = TaskFilter { created_after: Some(UnixMs(0)), ..TaskFilter::default() };
    let tasks = world.list(org, TaskFilter::default(), 1, 1_000);
    assert_eq!((world.list(org, listed, 1, 1).total, tasks.items.len() as u64), (tasks.total, tasks.total));
    for task in &tasks.items {
        assert_eq!(world.get_as(org, task.id).unwrap().results.len(), usize::from(task.status.is_final()));
    }
    let events = |filter| {
        let page = EventsFrom::Page(PageRequest { page: 1, size: 1_000 });
        block_on(world.engine().for_caller(world.org(org)).event_list(filter, page)).unwrap()
    };
    let events_counted = events(EventFilter::default());
    let events_there = events(EventFilter { received_after: Some(UnixMs(0)), ..EventFilter::default() });
    assert_eq!(events_counted, events_there);
    assert_eq!(events_counted.items.len() as u64, events_counted.total.unwrap());
    let history =
        world.engine().for_caller(world.org(org)).twin_history(device.device_id, "a".to_owned(), None, 1_000);
    [tasks.total, events_counted.items.len() as u64, block_on(history).unwrap().len() as u64]
}

/// The cursor that stands for all that is kept.
const ALL: RecordNumber = RecordNumber(0);

fn settled(world: &World) -> RecordNumber {
    block_on(world.engine().server().record_span_of_every_org()).unwrap().settled
}

fn records(world: &World) -> usize {
    let request = RecordRequest {
        org: None,
        after: RecordNumber(0),
        until: None,
        limit: 10_000,
        bytes_max: usize::MAX,
        with_tags: false,
    };
    block_on(world.store().record_list_of_every_org(request)).unwrap().records.len()
}

pub fn each_kind_is_forgotten_at_its_time(backend: impl Backend) {
    let world = World::new(backend);
    let (device, foreign) = (world.device(0), world.device(1));
    live(&world, 0, &device, 12);
    live(&world, 1, &foreign, 5);
    // Noted as an event that is not counted among those of devices.
    world.listen(&device);
    world.settle();
    let open = world.create_as(0, lasting(&device, 44_639)).unwrap();
    assert_eq!(prune(&world), [0; 4]);
    assert_eq!((left(&world, 0, &device), left(&world, 1, &foreign)), ([13, 12, 12], [5, 5, 5]));
    let told = records(&world);
    world.pass_ms(10 * DAY_MS);
    // Of the outbox a week is kept; what it told of stays.
    assert_eq!(prune(&world), [0, 0, told as u64, 0]);
    assert_eq!((records(&world), left(&world, 0, &device)), (0, [13, 12, 12]));
    let follow = |cursor| {
        block_on(world.engine().for_caller(world.org(0)).record_follow(RecordFilter::default(), Some(cursor)))
            .err()
    };
    assert!(matches!(follow(RecordNumber(1)), Some(Error::Gone { .. })));
    let then = settled(&world);
    assert_eq!((follow(then), follow(ALL)), (None, None));
    world.pass_ms(10 * DAY_MS);
    live(&world, 0, &device, 7);
    world.pass_ms(11 * DAY_MS);
    world.sweep();
    // Ninety days after the end of the month in which it began, and one.
    world.pass_ms(77 * DAY_MS);
    // What came last is younger; the task that was open has expired since.
    let forgotten = prune(&world);
    assert_eq!((forgotten[0], forgotten[1], forgotten[3]), (18, 18, 17));
    assert!(world.get_as(0, open.id).is_err());
    assert_eq!((left(&world, 0, &device), left(&world, 1, &foreign)), ([7; 3], [0; 3]));
    world.pass_ms(200 * DAY_MS);
    prune(&world);
    assert_eq!((left(&world, 0, &device), left(&world, 1, &foreign), records(&world)), ([0; 3], [0; 3], 0));
    let counts = block_on(world.engine().server().task_counts_of_every_org()).unwrap();
    assert!(counts.iter().all(|count| count.count == 0), "{counts:?}");
    // The next event is told under a number that comes after all that were forgotten.
    live(&world, 0, &device, 1);
    assert!(settled(&world) > then);
}

pub fn organisations_keep_for_times_of_their_own(backend: impl Backend) {
    let mut world = World::new(backend);
    let (device, foreign) = (world.device(0), world.device(1));
    let put = |world: &World, org, days: &[(RetentionClass, Option<u32>)]| {
        block_on(world.engine().for_caller(world.org(org)).retention_put(days.to_vec())).unwrap();
    };
    let own = |world: &World, org| {
        let mut own = block_on(world.engine().for_caller(world.org(org)).retention_own()).unwrap();
        own.sort_by_key(|own| own.kept);
        own
    };
    put(
        &world,
        0,
        &[
            (RetentionClass::Events, Some(1)),
            (RetentionClass::Tasks, Some(2)),
            (RetentionClass::TwinHistory, Some(3)),
        ],
    );
    put(
        &world,
        1,
        &[
            (RetentionClass::Events, Some(0)),
            (RetentionClass::Tasks, Some(5)),
            (RetentionClass::Records, Some(0)),
        ],
    );
    put(&world, 1, &[(RetentionClass::Tasks, None)]);
    world.restart();
    let org = world.org(1).org;
    let of_second =
        [RetentionClass::Events, RetentionClass::Records].map(|kept| OrgRetention { org, kept, days: 0 });
    assert_eq!((own(&world, 0).len(), own(&world, 1)), (3, of_second.to_vec()));
    live(&world, 0, &device, 9);
    live(&world, 1, &foreign, 4);
    world.listen(&device);
    world.settle();
    world.pass_ms(DAY_MS);
    assert_eq!(prune(&world), [0; 4], "nothing is older than a day");
    world.pass_ms(1);
    live(&world, 0, &device, 2);
    let told = records(&world);
    assert_eq!(prune(&world), [0, 10, 0, 0]);
    assert_eq!((left(&world, 0, &device), left(&world, 1, &foreign)), ([11, 2, 11], [4, 4, 4]));
    world.pass_ms(DAY_MS);
    assert_eq!(prune(&world), [9, 0, 0, 0]);
    world.pass_ms(DAY_MS);
    assert_eq!(prune(&world), [0, 2, 0, 9]);
    assert_eq!((left(&world, 0, &device), left(&world, 1, &foreign)), ([2, 0, 2], [4, 4, 4]));
    let begin = RecordNumber(1);
    let follow = |world: &World, org, cursor| {
        block_on(
            world.engine().for_caller(world.org(org)).record_follow(RecordFilter::default(), Some(cursor)),
        )
        .err()
    };
    assert_eq!((follow(&world, 0, begin), follow(&world, 1, begin)), (None, None));
    world.pass_ms(30 * DAY_MS);
    // Of records the first organisation's went after a week, the others' stay.
    let forgotten = prune(&world);
    assert_eq!((forgotten[0], forgotten[2] as usize + records(&world), forgotten[3]), (2, told, 2));
    assert!(records(&world) >= 4 * 4);
    // Who would miss some of its own is told; of what is another's nobody hears.
    assert!(matches!(follow(&world, 0, begin), Some(Error::Gone { .. })));
    assert_eq!((follow(&world, 0, settled(&world)), follow(&world, 1, begin)), (None, None));
    assert_eq!((follow(&world, 0, ALL), follow(&world, 1, ALL)), (None, None));
    world.pass_ms(1_000 * DAY_MS);
    assert_eq!(prune(&world), [4, 0, 0, 4]);
    assert_eq!(left(&world, 1, &foreign), [0, 4, 0]);
    put(&world, 1, &[(RetentionClass::Events, None), (RetentionClass::Records, None)]);
    assert_eq!(own(&world, 1), []);
    let forgotten = prune(&world);
    assert_eq!((forgotten[1], left(&world, 1, &foreign), records(&world)), (4, [0; 3], 0));
}

pub fn what_is_kept_for_ever_is(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    for org in 0..2 {
        let days = RetentionClass::NAMES.iter().map(|(kept, ..)| (*kept, Some(0))).collect();
        block_on(world.engine().for_caller(world.org(org)).retention_put(days)).unwrap();
    }
    live(&world, 0, &device, 3);
    let told = records(&world);
    world.pass_ms(10_000 * DAY_MS);
    assert_eq!(prune(&world), [0; 4]);
    assert_eq!((left(&world, 0, &device), records(&world)), ([3; 3], told));
    let days = vec![(RetentionClass::Events, Some(covey_core::retention::DAYS_MAX + 1))];
    let refused = block_on(world.engine().for_caller(world.org(0)).retention_put(days)).unwrap_err();
    assert!(matches!(refused, Error::Invalid { field: "events", .. }));
}
