//! Values out of events: as the contract says where they are, whatever else is
//! in the bodies.

use std::task::{Context, Poll, Waker};

use covey_core::Error;
use covey_core::device::DeviceIdentity;
use covey_core::event::{Bucket, FieldQuery, NewEvent, SeriesPath, SeriesQuery};
use covey_core::id::UnixMs;
use futures_executor::block_on;

use super::events::{add, event};
use crate::world::parts::BEGIN;
use crate::world::{Backend, World};

/// Adds bodies a second apart, of events that no device has counted.
fn fill(world: &World, device: &DeviceIdentity, type_code: i64, bodies: &[&str]) {
    for body in bodies {
        world.pass_ms(1_000);
        add(world, device, NewEvent { dev_timestamp: None, ..event(type_code, 0, body) });
    }
}

/// The values of a tag, newest first.
fn fields(world: &World, device: &DeviceIdentity, tag: &str, limit: u32) -> Vec<(i64, String)> {
    let query = FieldQuery::back(device.device_id, 5, tag, 15, limit, world.now()).unwrap();
    let fields = block_on(world.engine().for_caller(world.org(0)).event_fields(query)).unwrap();
    fields.iter().map(|field| ((field.received_at.0 - BEGIN.0) / 1_000, field.value.to_string())).collect()
}

pub fn a_field_is_sought_in_the_first_object_and_then_at_the_top(backend: impl Backend) {
    let world = World::new(backend);
    let (device, other) = (world.device(0), world.device(0));
    fill(
        &world,
        &device,
        5,
        &[
            r#"{"310":1}"#,
            r#"{"300":[{"310":2},{"310":3}],"310":4}"#,
            r#"{"300":[{"311":2},{"310":3}],"310":5}"#,
            r#"{"300":[{"311":2}]}"#,
            r#"{"300":[{"310":null}],"310":6}"#,
            r#"{"310":null}"#,
            r#"{"300":{"0":{"310":7},"310":8}}"#,
            r#"{"300":[[0,1]],"x":{"310":9}}"#,
            r#"{"300":[],"310":{ "a" : [ 1 , "b  \" c" ] }}"#,
            r#"{"300":7,"310":"text\u0000 \\u0000 \ud83d\ude00 \ud83d ü \\"}"#,
            r#"{"310":true,"other":"\u0000"}"#,
            r#"{"310":123456789012345678901234567890.5e999}"#,
        ],
    );
    fill(&world, &device, 6, &[r#"{"310":"another type"}"#]);
    fill(&world, &other, 5, &[r#"{"310":"another device"}"#]);
    let expected = [
        (12, "123456789012345678901234567890.5e999"),
        (11, "true"),
        (10, r#""text\u0000 \\u0000 \ud83d\ude00 \ud83d ü \\""#),
        (9, r#"{"a":[1,"b  \" c"]}"#),
        (6, "null"),
        (5, "null"),
        (3, "5"),
        (2, "2"),
        (1, "1"),
    ]
    .map(|(at, value)| (at, value.to_owned()));
    assert_eq!(fields(&world, &device, "310", 1_000), expected);
    assert_eq!(fields(&world, &device, "310", 2), expected[..2]);
    assert_eq!(fields(&world, &device, "0", 10), [], "a name is no place");
    assert_eq!(fields(&world, &device, "nothing", 10), []);
    world.pass_ms(15 * 60_000 - 9_000);
    // Received in the last quarter of an hour; the instants before have gone.
    assert_eq!(fields(&world, &device, "310", 1_000), expected[..6]);
    assert!(
        block_on(
            world
                .engine()
                .for_caller(world.org(1))
                .event_fields(FieldQuery::back(device.device_id, 5, "310", 15, 10, world.now()).unwrap())
        )
        .unwrap()
        .is_empty()
    );
}

pub fn a_field_of_a_gauge_is_in_its_last_body(backend: impl Backend) {
    let world = World::new(backend);
    let (device, other) = (world.device(0), world.device(0));
    let of = |org: usize, device: &DeviceIdentity, tag: &str| {
        let query = FieldQuery::back(device.device_id, 44, tag, 15, 10, world.now()).unwrap();
        let fields = block_on(world.engine().for_caller(world.org(org)).event_fields(query)).unwrap();
        fields.iter().map(|field| (field.received_at, field.value.to_string())).collect::<Vec<_>>()
    };
    fill(&world, &other, 44, &[r#"{"338":9}"#]);
    fill(&world, &device, 44, &[r#"{"338":1}"#, r#"{"300":[{"338":"\u0000"}],"338":2}"#]);
    assert_eq!(of(0, &device, "338"), [(world.now(), r#""\u0000""#.to_owned())]);
    assert_eq!((of(0, &device, "339"), of(1, &device, "338")), (vec![], vec![]));
    world.pass_ms(15 * 60_000);
    assert_eq!(of(0, &device, "338").len(), 1, "received at the instant from which on it is wanted");
    world.pass_ms(1);
    assert_eq!(of(0, &device, "338"), []);
    fill(&world, &device, 44, &[r#"{"338":3}"#]);
    assert_eq!(of(0, &device, "338")[0].1, "3");
    block_on(world.engine().for_caller(world.org(0)).device_retire(device.device_id)).unwrap();
    assert_eq!(of(0, &device, "338"), []);
}

fn series(
    world: &World,
    device: &DeviceIdentity,
    path: &str,
    span_s: (i64, i64),
    width_s: i64,
) -> Vec<(i64, [f64; 4], u64)> {
    let query = SeriesQuery {
        registration: None,
        device_id: device.device_id,
        type_code: Some(5),
        path: SeriesPath::parse(path).unwrap(),
        from: UnixMs(BEGIN.0 + span_s.0 * 1_000),
        until: UnixMs(BEGIN.0 + span_s.1 * 1_000),
        width_ms: width_s * 1_000,
    };
    buckets(world, query)
}

fn buckets(world: &World, query: SeriesQuery) -> Vec<(i64, [f64; 4], u64)> {
    let found = block_on(world.engine().for_caller(world.org(0)).event_series(query)).unwrap();
    let shown = |bucket: &Bucket| {
        let numbers = [bucket.min, bucket.max, bucket.mean, bucket.last];
        ((bucket.from.0 - BEGIN.0) / 1_000, numbers, bucket.count)
    };
    found.iter().map(shown).collect()
}

pub fn a_series_takes_the_smallest_of_all_integers(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let (smallest, greatest) = (i64::MIN as f64, i64::MAX as f64);
    fill(&world, &device, 5, &[r#"{"v":-9223372036854775808}"#, r#"{"v":9223372036854775807}"#]);
    let [(0, [least, most, _, last], 2)] = series(&world, &device, "$.v", (0, 10), 10)[..] else {
        panic!("both are numbers");
    };
    assert_eq!((least, most, last), (smallest, greatest, greatest));
}

pub fn a_series_gathers_numbers_and_nothing_else(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    // At seconds 1 to 17; buckets of five seconds begin at 0, 5, 10 and 15.
    fill(
        &world,
        &device,
        5,
        &[
            r#"{"t":[{"v":4}]}"#,
            r#"{"t":[{"v":-1.5}]}"#,
            r#"{"t":[{"v":2}]}"#,
            r#"{"t":[{"v":"3"}]}"#,
            r#"{"t":[{"v":null}]}"#,
            r#"{"t":[{"v":true}]}"#,
            r#"{"t":{"0":{"v":1}}}"#,
            r#"{"t":[]}"#,
            r#"{"t":[{"v":[7]}]}"#,
            r#"{"t":[{"v":1e999}]}"#,
            r#"{"t":[{"v":-1E+99999}]}"#,
            r#"{"t":[{"v":1e-400}]}"#,
            r#"{"t":[{"v":9007199254740993}]}"#,
            r#"{"t":[{"v":36893488147419103232}],"x":"\u0000"}"#,
            r#"{"t":[{"v":1e200}]}"#,
            r#"{"t":[{"v":-1e200}]}"#,
            r#"{"t":[{"v":1.5e2}],"y":"\ud800"}"#,
        ],
    );
    assert_eq!(
        series(&world, &device, "$.t[0].v", (0, 100), 5),
        [
            (0, [-1.5, 4.0, 1.5, 2.0], 3),
            (
                10,
                [
                    0.0,
                    36_893_488_147_419_103_232.0,
                    (9_007_199_254_740_992.0 + 36_893_488_147_419_103_232.0) / 3.0,
                    36_893_488_147_419_103_232.0
                ],
                3
            ),
            (15, [-1e200, 1e200, 50.0, 150.0], 3),
        ]
    );
    assert_eq!(series(&world, &device, "$.t[0].v", (2, 3), 5), [(0, [-1.5; 4], 1)]);
    assert_eq!(series(&world, &device, "$.t[1].v", (0, 100), 5), []);
    assert_eq!(series(&world, &device, "$.t[0].v.w", (0, 100), 5), []);
    assert_eq!(series(&world, &device, "$.t[0].v", (100, 200), 5), []);
}

pub fn a_series_of_any_type_leaves_out_what_servers_noted(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    fill(&world, &device, 1, &[r#"{"300":[{"310":10}]}"#, r#"{"310":20}"#]);
    fill(&world, &device, 2, &[r#"{"300":[{"310":"no number"}],"310":30}"#, r#"{"310":-4}"#]);
    let query = |type_code| SeriesQuery {
        registration: None,
        device_id: device.device_id,
        type_code,
        path: SeriesPath::tag("310").unwrap(),
        from: BEGIN,
        until: UnixMs(BEGIN.0 + 60_000),
        width_ms: 60_000,
    };
    // BEGIN is 20 seconds after the full minute.
    assert_eq!(buckets(&world, query(None)), [(-20, [-4.0, 20.0, 26.0 / 3.0, -4.0], 3)]);
    assert_eq!(buckets(&world, query(Some(1))), [(-20, [10.0, 20.0, 15.0, 20.0], 2)]);
    assert_eq!(buckets(&world, query(Some(3))), []);
}

pub fn a_deep_body_and_a_long_number_hurt_nobody(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let deep = format!(r#"{{"v":1,"d":{}1{}}}"#, "[".repeat(120), "]".repeat(120));
    let long = format!(r#"{{"v":{}}}"#, "9".repeat(5_000));
    let fine = format!(r#"{{"v":0.{}1}}"#, "0".repeat(5_000));
    let steps = r#"{"v":2,"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":8}}}}}}}}"#;
    fill(&world, &device, 5, &[&deep, &long, &fine, steps]);
    let of_all = [(0, [0.0, 2.0, 1.0, 2.0], 3)];
    assert_eq!(series(&world, &device, "$.v", (0, 100), 100), of_all);
    assert_eq!(series(&world, &device, "$.a.b.c.d.e.f.g.h", (0, 100), 100), [(0, [8.0; 4], 1)]);
    let values = fields(&world, &device, "v", 10);
    assert_eq!(values.iter().map(|(_, value)| value.len()).collect::<Vec<_>>(), [1, 5_003, 5_000, 1]);
}

pub fn what_may_cost_much_is_bounded_for_each_organisation(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let query = SeriesQuery {
        registration: None,
        device_id: device.device_id,
        type_code: None,
        path: SeriesPath::tag("310").unwrap(),
        from: UnixMs(BEGIN.0 - 3_600_000),
        until: BEGIN,
        width_ms: 1_000,
    };
    let series = |org| world.engine().for_caller(world.org(org)).event_series(query.clone());
    let mut under_way = Vec::new();
    let refused = loop {
        let mut asking = Box::pin(series(0));
        match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => under_way.push(asking),
            Poll::Ready(Err(refused)) => break refused,
            // It has ended already.
            Poll::Ready(Ok(_)) => {}
        }
        assert!(under_way.len() < 1_000, "there is no bound");
    };
    assert!(matches!(refused, Error::Exhausted { .. }), "{refused:?}");
    assert_eq!(under_way.len(), 16);
    assert!(block_on(series(1)).is_ok(), "it is the bound of one organisation");
    under_way.pop();
    assert!(block_on(series(0)).is_ok());
    under_way.into_iter().for_each(|asking| assert!(block_on(asking).is_ok()));
}
