//! Events at several servers, and the partitions that they and the outbox go to.

use std::sync::Barrier;

use covey_core::device::DeviceIdentity;
use covey_core::event::{AddedEvent, EventFilter, EventTypes, EventsFrom, NewEvent};
use covey_core::id::UnixMs;
use covey_core::port::PageRequest;
use futures_executor::block_on;

use crate::database::{Another, PostgresBackend, has_deadlocked, say};
use crate::world::parts::BEGIN;
use crate::world::{World, spec};

pub fn event(type_code: i64, dev_event_id: u32, payload: &str) -> NewEvent {
    NewEvent {
        type_code,
        dev_event_id,
        dev_timestamp: Some(UnixMs(BEGIN.0 + i64::from(dev_event_id) * 1_000)),
        correlation: None,
        payload: payload.into(),
        reported: Vec::new(),
    }
}

pub fn add(world: &World, device: &DeviceIdentity, event: NewEvent) -> AddedEvent {
    block_on(world.engine().for_device(device).event_add(event, false)).unwrap()
}

pub fn total(world: &World) -> u64 {
    let total = |filter: EventFilter| {
        let from = EventsFrom::Page(PageRequest { page: 1, size: 1 });
        block_on(world.engine().for_caller(world.org(0)).event_list(filter, from)).unwrap().total.unwrap()
    };
    let counted = total(EventFilter::default());
    let recounted = total(EventFilter { received_after: Some(UnixMs(0)), ..EventFilter::default() });
    assert_eq!(counted, recounted, "a recount says the same");
    counted
}

#[test]
fn the_same_event_at_two_servers_at_once_is_stored_once() {
    const ROUNDS: u32 = 40;
    let backend = PostgresBackend::new();
    let another = Another::new(&backend.url(), "server-2");
    let first = World::new(backend);
    let second = World::on_what_is_there(another, 1_000_000);
    let device = first.device(0);
    let start = Barrier::new(4);
    for round in 0..ROUNDS {
        // Two numbers, in either order at either server.
        let numbers = [round * 2 + 1, round * 2 + 2];
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let adding =
                [(&first, numbers[0]), (&second, numbers[1]), (&first, numbers[1]), (&second, numbers[0])]
                    .map(|(world, number)| {
                        let (device, start) = (&device, &start);
                        scope.spawn(move || {
                            start.wait();
                            (number, add(world, device, event(2, number, "{}")))
                        })
                    });
            adding.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for number in numbers {
            let mut of_number: Vec<_> =
                outcomes.iter().filter(|one| one.0 == number).map(|one| format!("{:?}", one.1)).collect();
            of_number.sort();
            assert_eq!(of_number, ["Duplicate", "Stored"]);
        }
    }
    assert_eq!(total(&first), u64::from(ROUNDS * 2));
    assert_eq!(total(&second), u64::from(ROUNDS * 2));
}

#[test]
fn gauges_of_the_same_devices_at_two_servers_do_not_stand_in_each_others_way() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let another = Another::new(&url, "server-2");
    let first = World::new(backend);
    let second = World::on_what_is_there(another, 1_000_000);
    let devices: Vec<_> = (0..8).map(|_| first.device(0)).collect();
    std::thread::scope(|scope| {
        for (number, device) in devices.iter().chain(devices.iter().rev()).enumerate() {
            let world = [&first, &second][number / 8];
            scope.spawn(move || {
                for round in 0..40 {
                    assert_eq!(add(world, device, event(44, round, "{}")), AddedEvent::Gauge);
                }
            });
        }
    });
    assert!(!has_deadlocked(&url));
}

#[test]
fn two_servers_give_one_caller_each_event_once() {
    let backend = PostgresBackend::new();
    let another = Another::new(&backend.url(), "server-2");
    let first = World::new(backend);
    let second = World::on_what_is_there(another, 1_000_000);
    let device = first.device(0);
    for number in 1..=200 {
        add(&first, &device, event(2, number, "{}"));
    }
    let caller = first.org(0);
    let mut given = Vec::new();
    std::thread::scope(|scope| {
        let readers = [&first, &second, &first, &second].map(|world| {
            scope.spawn(move || {
                let mut given = Vec::new();
                loop {
                    let next =
                        world.engine().for_caller(caller).event_next(None, EventTypes::OfDevices, None, 7);
                    let next = block_on(next).unwrap();
                    if next.is_empty() {
                        return given;
                    }
                    given.extend(next.iter().map(|event| event.key.dev_event_id));
                }
            })
        });
        readers.into_iter().for_each(|reader| given.extend(reader.join().unwrap()));
    });
    given.sort_unstable();
    assert_eq!(given, (1..=200).collect::<Vec<_>>());
}

fn rows(url: &str, table: &str) -> String {
    say(url, &[&format!("SELECT count(*) FROM {table}")])[0][0].clone()
}

#[test]
fn events_go_to_their_month_and_records_to_their_day() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    // The world begins on 14 November 2023.
    add(&world, &device, event(2, 1, "{}"));
    let at = |dev_timestamp| NewEvent { dev_timestamp: Some(UnixMs(dev_timestamp)), ..event(2, 9, "{}") };
    add(&world, &device, at(1_698_796_799_999));
    add(&world, &device, at(1_701_388_800_000));
    add(&world, &device, at(0));
    assert_eq!(
        ["2023_10", "2023_11", "2023_12", "default"].map(|name| rows(&url, &format!("events_{name}"))),
        ["1"; 4]
    );
    world.pass_ms(86_400_000);
    world.create(spec(&device));
    assert_eq!(
        (rows(&url, "records_2023_11_14"), rows(&url, "records_2023_11_15")),
        ("4".to_owned(), "1".to_owned())
    );
    // A day and a month that nobody has made: they are made late, and take in what came before.
    world.pass_ms(100 * 86_400_000);
    add(&world, &device, NewEvent { dev_timestamp: Some(world.now()), ..event(2, 10, "{}") });
    assert_eq!(
        (rows(&url, "records_default"), rows(&url, "events_default")),
        ("1".to_owned(), "2".to_owned())
    );
    let _second = World::on_what_is_there(Another::new(&url, "server-2"), 1_000_000);
    let third = Another::new(&url, "server-3");
    let options = third.0;
    let clock = std::sync::Arc::clone(&world.outside.clock);
    let counts = std::sync::Arc::new(crate::world::parts::Counts::default());
    drop(covey_store::postgres::Postgres::open(&options, clock, counts).unwrap());
    assert_eq!(
        (rows(&url, "records_default"), rows(&url, "events_default")),
        ("0".to_owned(), "1".to_owned())
    );
    assert_eq!(
        (rows(&url, "records_2024_02_23"), rows(&url, "events_2024_02")),
        ("1".to_owned(), "1".to_owned())
    );
    assert_eq!(total(&world), 5);
    // A day is forgotten by dropping it, whatever the server is doing.
    say(&url, &["DROP TABLE records_2023_11_14"]);
    add(&world, &device, event(2, 11, "{}"));
    assert_eq!(rows(&url, "records"), "3");
}
