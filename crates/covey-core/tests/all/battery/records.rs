//! The outbox: each change is told once, in order, with what it is about.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use covey_core::Error;
use covey_core::device::{DeviceIdentity, DeviceSpec, Tag};
use covey_core::event::AddedEvent;
use covey_core::id::{RecordNumber, TaskId};
use covey_core::record::{Change, Record, RecordFilter, RecordKind, RecordPage, RecordReader, RecordRequest};
use covey_core::task::{Cause, TaskSpec, TaskStatus};
use futures_executor::block_on;
use futures_util::future::{Either, select};

use super::events::{add, event};
use crate::world::{Backend, World, lasting, result, spec};

fn request(after: RecordNumber) -> RecordRequest {
    RecordRequest { org: None, after, until: None, limit: 1_000, bytes_max: usize::MAX, with_tags: false }
}

fn read(world: &World, request: RecordRequest) -> RecordPage {
    block_on(world.store().record_list_of_every_org(request)).unwrap()
}

/// What there is after a record, all of it.
fn all_after(world: &World, mut after: RecordNumber) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let page = read(world, request(after));
        records.extend(page.records);
        after = page.position;
        if !page.is_more {
            return records;
        }
    }
}

fn settled(world: &World) -> RecordNumber {
    block_on(world.engine().server().record_span_of_every_org()).unwrap().settled
}

fn status_of(record: &Record) -> Option<(TaskId, TaskStatus, Cause)> {
    match &record.change {
        Change::Task { task, status, cause } => Some((task.id, *status, *cause)),
        _ => None,
    }
}

pub fn every_change_is_told_with_what_it_is_about(backend: impl Backend) {
    let mut world = World::new(backend);
    let tags = vec![Tag { tag: "room".to_owned(), value: "12".to_owned() }];
    let spec_of_device = DeviceSpec { tags: tags.clone(), ..DeviceSpec::default() };
    let device = world.register(0, spec_of_device).unwrap().0.identity;
    let bare = world.device(1);
    let begin = settled(&world);
    let named = TaskSpec { ext_task_id: "mine".to_owned(), method: Some("open".to_owned()), ..spec(&device) };
    let task = world.create(named);
    world.ack(&device, task.id).unwrap();
    world.request(&device, task.id).unwrap();
    world.pass_ms(7);
    world.finish(&device, task.id, result(206, 1, "half")).unwrap();
    world.finish(&device, task.id, result(206, 1, "half")).unwrap();
    world.finish(&device, task.id, result(200, 2, "a\0b")).unwrap();
    world.delete(0, task.id).unwrap();
    assert_eq!(add(&world, &device, event(2, 1, r#"{"a": 1}"#)), AddedEvent::Stored);
    assert_eq!(add(&world, &device, event(2, 1, r#"{"a": 1}"#)), AddedEvent::Duplicate);
    add(&world, &device, event(44, 1, "{}"));
    let expiring = world.create_as(1, lasting(&bare, 1)).unwrap();
    world.pass_ms(60_000);
    world.sweep();
    world.restart();
    let page = read(&world, RecordRequest { with_tags: true, ..request(begin) });
    let told: Vec<_> = page.records.iter().map(|record| (record.change.kind(), status_of(record))).collect();
    let of_task = |status, cause| (RecordKind::Task, Some((task.id, status, cause)));
    let expired = |status, cause| (RecordKind::Task, Some((expiring.id, status, cause)));
    let expected = [
        of_task(TaskStatus::Ready, Cause::Created),
        of_task(TaskStatus::Pending, Cause::Acknowledged),
        of_task(TaskStatus::Lock, Cause::Taken),
        (RecordKind::Result, None),
        (RecordKind::Result, None),
        of_task(TaskStatus::Done, Cause::Result),
        of_task(TaskStatus::Deleted, Cause::Deleted),
        (RecordKind::Event, None),
        expired(TaskStatus::Ready, Cause::Created),
        expired(TaskStatus::Expired, Cause::TimedOut),
    ];
    assert_eq!(told, expected);
    let (of_device, of_bare) = page.records.split_at(8);
    for record in of_device {
        assert_eq!((&record.device.identity, record.device.tags.as_deref()), (&device, Some(&tags[..])));
    }
    assert!(of_bare.iter().all(|record| record.device.identity == bare));
    assert!(of_bare.iter().all(|record| record.device.tags.as_deref() == Some(&[])));
    assert_eq!(page.records[3].at.since_ms(page.records[0].at), 7);
    let stored = world.get(task.id);
    for record in &page.records {
        match &record.change {
            Change::Task { task: of, .. } if of.id == task.id => {
                assert_eq!(
                    (of.ext_task_id.as_str(), of.method.as_deref(), of.method_code),
                    ("mine", Some("open"), 20)
                );
                assert_eq!(of.created_by, stored.task.created_by);
            }
            Change::Result { task: of, result } => {
                assert_eq!((of.id, &of.created_by), (task.id, &stored.task.created_by));
                assert!(stored.results.contains(result), "{result:?}");
            }
            Change::Event(event) => {
                assert_eq!((event.id, &*event.payload), (record.number, r#"{"a": 1}"#));
            }
            _ => {}
        }
    }
    let without = read(&world, request(begin));
    assert!(without.records.iter().all(|record| record.device.tags.is_none()));
    assert!(page.position >= page.records[9].number && !page.is_more);
    assert_eq!(read(&world, request(page.position)).records, []);
}

pub fn pages_of_records_follow_each_other(backend: impl Backend) {
    let world = World::new(backend);
    let (device, foreign) = (world.device(0), world.device(1));
    let begin = settled(&world);
    for number in 1..=10 {
        add(&world, if number % 3 == 0 { &foreign } else { &device }, event(2, number, "{}"));
    }
    let all = all_after(&world, begin);
    assert_eq!(all.len(), 10);
    assert!(all.windows(2).all(|pair| pair[0].number < pair[1].number));
    let (mut after, mut paged, mut pages) = (begin, Vec::new(), 0);
    loop {
        let page = read(&world, RecordRequest { limit: 3, ..request(after) });
        assert!(page.records.len() <= 3 && page.position >= after);
        assert_eq!(page.is_more, page.records.len() == 3);
        after = page.position;
        pages += 1;
        paged.extend(page.records);
        if !page.is_more {
            break;
        }
    }
    assert_eq!((paged, pages), (all.clone(), 4));
    let org = Some(foreign.org);
    let theirs = read(&world, RecordRequest { org, ..request(begin) });
    let expected: Vec<_> = all.iter().filter(|one| one.device.identity == foreign).cloned().collect();
    assert_eq!((theirs.records, theirs.is_more), (expected, false));
    let until = all[5].number;
    let some = read(&world, RecordRequest { until: Some(until), ..request(all[1].number) });
    assert_eq!((&some.records[..], some.position, some.is_more), (&all[2..=5], until, false));
    let none = read(&world, RecordRequest { until: Some(until), ..request(until) });
    assert_eq!((none.records.len(), none.position), (0, until));
    let span = block_on(world.engine().server().record_span_of_every_org()).unwrap();
    assert!(span.forgotten < all[0].number && span.settled >= all[9].number, "{span:?}");
}

/// What one device and its application do, over and over.
fn live(world: &World, device: &DeviceIdentity, rounds: u32) -> usize {
    let mut told = 0;
    for round in 1..=rounds {
        let task = world.create_as(0, spec(device)).unwrap();
        world.ack(device, task.id).unwrap();
        assert_eq!(add(world, device, event(2, round, "{}")), AddedEvent::Stored);
        assert_eq!(add(world, device, event(2, round, "{}")), AddedEvent::Duplicate);
        world.request(device, task.id).unwrap();
        if round % 3 == 0 {
            world.finish(device, task.id, result(206, 0, "half")).unwrap();
            told += 1;
        }
        world.finish(device, task.id, result(200, 1, "whole")).unwrap();
        told += 6;
    }
    told
}

pub fn a_reader_that_follows_misses_nothing_and_repeats_nothing(backend: impl Backend) {
    const DEVICES: usize = 6;
    let world = World::new(backend);
    let devices: Vec<_> = (0..DEVICES).map(|_| world.device(0)).collect();
    let begin = settled(&world);
    let is_over = AtomicBool::new(false);
    let (told, followed) = std::thread::scope(|scope| {
        let following = scope.spawn(|| {
            let (mut after, mut followed): (_, Vec<Record>) = (begin, Vec::new());
            loop {
                let was_over = is_over.load(Ordering::SeqCst);
                let page = read(&world, RecordRequest { limit: 7, ..request(after) });
                assert!(page.position >= after);
                after = page.position;
                let is_empty = page.records.is_empty();
                followed.extend(page.records);
                if was_over && is_empty && !page.is_more {
                    return followed;
                }
            }
        });
        let living: Vec<_> = devices.iter().map(|device| scope.spawn(|| live(&world, device, 30))).collect();
        let told: usize = living.into_iter().map(|one| one.join().unwrap()).sum();
        is_over.store(true, Ordering::SeqCst);
        (told, following.join().unwrap())
    });
    assert_eq!(followed.len(), told);
    assert_eq!(followed, all_after(&world, begin), "as one who reads it all at the end");
    check_order(&followed);
}

/// Numbers grow, events come in the order in which their device sent them, and
/// each task's states come in their order with the results where they belong.
pub fn check_order(records: &[Record]) {
    assert!(records.windows(2).all(|pair| pair[0].number < pair[1].number));
    let mut by_task: HashMap<TaskId, Vec<String>> = HashMap::new();
    let mut events: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for record in records {
        match &record.change {
            Change::Task { task, status, .. } => {
                by_task.entry(task.id).or_default().push(status.name().to_owned());
            }
            Change::Result { task, result } => {
                by_task.entry(task.id).or_default().push(result.result.status_code.to_string());
            }
            Change::Event(event) => events.entry(event.device).or_default().push(event.key.dev_event_id),
            _ => {}
        }
    }
    let short = ["READY", "PENDING", "LOCK", "200", "DONE"];
    let long = ["READY", "PENDING", "LOCK", "206", "200", "DONE"];
    for states in by_task.values() {
        assert!(*states == short || *states == long, "{states:?}");
    }
    for numbers in events.values() {
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
        assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len());
    }
}

pub fn a_follower_begins_where_it_was_and_goes_on_live(backend: impl Backend) {
    let world = World::new(backend);
    let (device, foreign) = (world.device(0), world.device(1));
    let begin = settled(&world);
    add(&world, &device, event(2, 1, "{}"));
    add(&world, &foreign, event(2, 1, "{}"));
    add(&world, &device, event(3, 2, "{}"));
    let engine = world.engine();
    let filter = RecordFilter { event_types: vec![2], ..RecordFilter::default() };
    let mut follower = block_on(engine.for_caller(world.org(0)).record_follow(filter, Some(begin))).unwrap();
    let mut next = || {
        let events = block_on(async {
            let feed = pin!(async {
                loop {
                    engine.server().feed_next().await.unwrap();
                }
            });
            let past = pin!(async {
                loop {
                    engine.server().history_next().await;
                }
            });
            match select(pin!(follower.next()), select(feed, past)).await {
                Either::Left((followed, _)) => followed.unwrap(),
                Either::Right(_) => panic!("the feed has ended"),
            }
        });
        let numbers = events.records.iter().map(|record| match &record.change {
            Change::Event(event) => event.key.dev_event_id,
            other => panic!("{other:?}"),
        });
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(next(), [1]);
    for number in 3..=40 {
        add(&world, &foreign, event(2, number, "{}"));
        add(&world, &device, event(2, number, "{}"));
        assert_eq!(next(), [number]);
    }
    let future = RecordNumber(i64::MAX);
    let refused =
        block_on(engine.for_caller(world.org(0)).record_follow(RecordFilter::default(), Some(future)));
    assert!(matches!(refused.err(), Some(Error::Invalid { field: "cursor", .. })));
}

pub fn a_page_of_records_ends_before_it_has_too_many_bytes(backend: impl Backend) {
    let world = World::new(backend);
    let (device, foreign) = (world.device(0), world.device(1));
    let begin = settled(&world);
    for (number, bytes) in (1..).zip([10, 60_000, 200, 9_000, 60_000, 60_000, 5, 20_000, 2_500, 40_000]) {
        let body = format!(r#"{{"n":"{}"}}"#, "x".repeat(bytes));
        add(&world, &device, event(2, number, &body));
        add(&world, &foreign, event(2, number, "{}"));
    }
    let task = world.create(spec(&device));
    world.request(&device, task.id).unwrap();
    for number in 1..=4 {
        world.finish(&device, task.id, result(206, number, &"y".repeat(30_000))).unwrap();
    }
    world.finish(&device, task.id, result(200, 5, "z")).unwrap();
    let all = all_after(&world, begin);
    assert_eq!(all.len(), 28);
    for org in [None, Some(device.org)] {
        let wanted: Vec<_> =
            all.iter().filter(|one| org.is_none_or(|org| one.device.identity.org == org)).cloned().collect();
        for bytes_max in [0, 1_000, 30_000, 61_000, 100_000, 150_000, usize::MAX] {
            let (mut after, mut paged) = (begin, Vec::new());
            loop {
                let page = read(&world, RecordRequest { org, bytes_max, ..request(after) });
                let bytes: usize = page.records.iter().map(Record::bytes).sum();
                assert!(bytes <= bytes_max || page.records.len() == 1, "{bytes} of {bytes_max}");
                assert!(page.position >= page.records.last().map_or(after, |last| last.number));
                let has_moved = page.position > after;
                after = page.position;
                paged.extend(page.records);
                if !page.is_more {
                    break;
                }
                assert!(has_moved, "{bytes_max}");
            }
            assert_eq!(paged, wanted, "{bytes_max}");
        }
    }
    // No page is shorter than it has to be: the next record would have been too many.
    let first = read(&world, RecordRequest { bytes_max: 100_000, ..request(begin) });
    let bytes: usize = first.records.iter().map(Record::bytes).sum();
    assert!(first.is_more && bytes + all[first.records.len()].bytes() > 90_000, "{bytes}");
}
