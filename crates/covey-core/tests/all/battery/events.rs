//! Events and gauges: stored once, as they were sent, and found again.

use std::pin::pin;
use std::task::{Context, Waker};

use covey_core::Error;
use covey_core::device::{DeviceFilter, DeviceIdentity, DeviceSpec, Tag};
use covey_core::event::{
    AddedEvent, DeviceEvent, EventFilter, EventTypes, EventsFrom, FieldQuery, GaugeFilter, NewEvent, Reported,
};
use covey_core::id::{RecordNumber, UnixMs};
use covey_core::port::{Event, LIST_BYTES_MAX, PageRequest, Refusal, WHOLE_LIST_BYTES_MAX};
use futures_executor::block_on;
use uuid::Uuid;

use crate::world::parts::BEGIN;
use crate::world::{Backend, World};

/// An event of a device that counts.
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

/// All events of an organisation that a filter selects, newest first.
fn list(world: &World, org: usize, filter: EventFilter) -> Vec<DeviceEvent> {
    let page = EventsFrom::Page(PageRequest { page: 1, size: 1_000 });
    let page = block_on(world.engine().for_caller(world.org(org)).event_list(filter, page)).unwrap();
    assert_eq!(page.total, Some(page.items.len() as u64));
    page.items
}

fn numbers(events: &[DeviceEvent]) -> Vec<u32> {
    events.iter().map(|event| event.key.dev_event_id).collect()
}

pub fn an_event_is_stored_once(backend: impl Backend) {
    let mut world = World::new(backend);
    let (device, other) = (world.device(0), world.device(0));
    assert_eq!(add(&world, &device, event(2, 7, "{}")), AddedEvent::Stored);
    assert_eq!(add(&world, &device, event(2, 7, "{}")), AddedEvent::Duplicate);
    // The type and the body do not tell events apart.
    assert_eq!(add(&world, &device, event(3, 7, r#"{"a":1}"#)), AddedEvent::Duplicate);
    assert_eq!(add(&world, &other, event(2, 7, "{}")), AddedEvent::Stored);
    let later = NewEvent { dev_timestamp: Some(UnixMs(BEGIN.0 + 1)), ..event(2, 7, "{}") };
    assert_eq!(add(&world, &device, later), AddedEvent::Stored);
    for _ in 0..2 {
        assert_eq!(add(&world, &device, event(2, 0, "{}")), AddedEvent::Stored, "it does not count");
        let timeless = NewEvent { dev_timestamp: None, ..event(2, 9, "{}") };
        world.pass_ms(1);
        assert_eq!(add(&world, &device, timeless.clone()), AddedEvent::Stored, "it has the server's time");
        assert_eq!(add(&world, &device, timeless), AddedEvent::Duplicate, "within one millisecond");
    }
    world.restart();
    assert_eq!(add(&world, &device, event(2, 7, "{}")), AddedEvent::Duplicate);
    assert_eq!(list(&world, 0, EventFilter::default()).len(), 7);
}

/// Begins several at once, so that they share a transaction.
fn together(world: &World, events: Vec<(DeviceIdentity, NewEvent)>) -> Vec<AddedEvent> {
    let gate = world.hold_writer();
    let mut adding: Vec<_> = events
        .iter()
        .map(|(device, event)| Box::pin(world.engine().for_device(device).event_add(event.clone(), false)))
        .collect();
    for one in &mut adding {
        assert!(pin!(one).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(gate);
    adding.into_iter().map(|one| block_on(one).unwrap()).collect()
}

pub fn events_of_one_group_are_stored_once(backend: impl Backend) {
    let world = World::new(backend);
    let (device, other) = (world.device(0), world.device(1));
    let group = |numbers: [u32; 4]| {
        numbers
            .into_iter()
            .flat_map(|n| [(device.clone(), event(2, n, "{}")), (other.clone(), event(2, n, "{}"))])
    };
    let first = together(&world, group([1, 2, 1, 3]).collect());
    use AddedEvent::{Duplicate, Stored};
    assert_eq!(first, [Stored, Stored, Stored, Stored, Duplicate, Duplicate, Stored, Stored]);
    let second = together(&world, group([3, 4, 4, 5]).collect());
    assert_eq!(second, [Duplicate, Duplicate, Stored, Stored, Duplicate, Duplicate, Stored, Stored]);
    assert_eq!(
        numbers(&list(&world, 0, EventFilter::default())),
        [5, 4, 3, 2, 1],
        "in the order of the group"
    );
    assert_eq!(numbers(&list(&world, 1, EventFilter::default())), [5, 4, 3, 2, 1]);
}

pub fn an_event_comes_back_as_it_was_sent(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let correlation = Uuid::from_u128(0x1234 << 64);
    let bodies = [
        "{}",
        " {\t\"a\" : 1.50,\r\n \"a\":2 } ",
        r#"{"nul":"\u0000","half":"\ud83d","pair":"\ud83d\ude00","big":1e999,"text":"💡 \\u0000"}"#,
    ];
    for (number, body) in (1..).zip(bodies) {
        let sent = NewEvent { correlation: Some(correlation), ..event(i64::from(i32::MAX), number, body) };
        world.pass_ms(5);
        add(&world, &device, sent);
    }
    let stored = list(&world, 0, EventFilter::default());
    for (number, one) in (1..=3).rev().zip(&stored) {
        assert_eq!(&*one.payload, bodies[number - 1]);
        assert_eq!((one.type_code, one.correlation), (i64::from(i32::MAX), Some(correlation)));
        assert_eq!(one.key.dev_timestamp.0, BEGIN.0 + number as i64 * 1_000);
        assert_eq!(one.received_at.0, BEGIN.0 + number as i64 * 5);
        let identity =
            DeviceIdentity { org: one.org, device: one.device, device_id: one.device_id, sn: one.sn.clone() };
        assert_eq!(identity, device);
    }
    assert!(stored.windows(2).all(|pair| pair[0].id > pair[1].id));
    // A device whose clock is far off, and one at the very ends of what it can say.
    for dev_timestamp in [0, i64::MIN, i64::MAX, -1] {
        let odd = NewEvent { dev_timestamp: Some(UnixMs(dev_timestamp)), ..event(1, 1, "{}") };
        assert_eq!(add(&world, &device, odd.clone()), AddedEvent::Stored);
        assert_eq!(add(&world, &device, odd), AddedEvent::Duplicate);
        assert_eq!(list(&world, 0, EventFilter::default())[0].key.dev_timestamp.0, dev_timestamp);
    }
}

pub fn lists_of_events_are_filtered_and_paged_in_two_ways(backend: impl Backend) {
    let world = World::new(backend);
    let (device, other, foreign) = (world.device(0), world.device(0), world.device(1));
    for number in 1..=9_u32 {
        world.pass_ms(10);
        add(
            &world,
            if number % 3 == 0 { &other } else { &device },
            event(i64::from(number % 4), number, "{}"),
        );
    }
    add(&world, &foreign, event(1, 1, "{}"));
    let all = EventFilter::default;
    let found = |filter: EventFilter| numbers(&list(&world, 0, filter));
    assert_eq!(found(all()), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(found(EventFilter { device_ids: vec![other.device_id], ..all() }), [9, 6, 3]);
    let of_both = EventFilter { device_ids: vec![other.device_id, device.device_id], ..all() };
    assert_eq!(found(EventFilter { include: EventTypes::These(vec![0]), ..of_both }), [8, 4]);
    assert_eq!(found(EventFilter { include: EventTypes::These(vec![0, 3]), ..all() }), [8, 7, 4, 3]);
    assert_eq!(found(EventFilter { exclude: vec![0, 3], ..all() }), [9, 6, 5, 2, 1]);
    assert_eq!(
        found(EventFilter { include: EventTypes::These(vec![0, 1]), exclude: vec![1], ..all() }),
        [8, 4]
    );
    let at = |number: i64| Some(UnixMs(BEGIN.0 + number * 10));
    assert_eq!(found(EventFilter { received_after: at(4), received_before: at(7), ..all() }), [6, 5, 4]);
    let several = EventFilter {
        device_ids: vec![device.device_id],
        include: EventTypes::These(vec![1, 2]),
        received_after: at(2),
        ..all()
    };
    assert_eq!(found(several), [5, 2]);
    let mut by_page = Vec::new();
    for (page, count) in [(1, 4), (2, 4), (3, 1), (4, 0)] {
        let from = EventsFrom::Page(PageRequest { page, size: 4 });
        let page = block_on(world.engine().for_caller(world.org(0)).event_list(all(), from)).unwrap();
        assert_eq!((page.items.len(), page.total), (count, Some(9)));
        by_page.extend(numbers(&page.items));
    }
    assert_eq!(by_page, found(all()));
    let (mut before, mut by_cursor) = (None, Vec::new());
    loop {
        let from = EventsFrom::Before(before, 4);
        let page = block_on(world.engine().for_caller(world.org(0)).event_list(all(), from)).unwrap();
        assert_eq!(page.total, None);
        let Some(last) = page.items.last() else { break };
        before = Some(last.id);
        by_cursor.extend(numbers(&page.items));
    }
    assert_eq!(by_cursor, found(all()));
    assert_eq!(list(&world, 1, all()).len(), 1);
}

pub fn a_caller_is_given_each_event_once(backend: impl Backend) {
    let mut world = World::new(backend);
    let (device, other) = (world.device(0), world.device(0));
    for number in 1..=7 {
        add(&world, if number % 2 == 0 { &other } else { &device }, event(1, number, "{}"));
    }
    add(&world, &world.device(1), event(1, 99, "{}"));
    let next = |world: &World, of: Option<&DeviceIdentity>, limit| {
        let of = of.map(|device| device.device_id);
        numbers(
            &block_on(world.engine().for_caller(world.org(0)).event_next(
                of,
                EventTypes::OfDevices,
                None,
                limit,
            ))
            .unwrap(),
        )
    };
    assert_eq!(next(&world, None, 3), [1, 2, 3]);
    assert_eq!(next(&world, Some(&other), 2), [2, 4], "how far it has read is kept for each device");
    assert_eq!(next(&world, None, 3), [4, 5, 6]);
    world.restart();
    assert_eq!(next(&world, None, 3), [7]);
    assert_eq!(next(&world, None, 3), Vec::<u32>::new());
    assert_eq!(next(&world, Some(&other), 100), [6]);
    add(&world, &other, event(1, 8, "{}"));
    assert_eq!(next(&world, None, 3), [8]);
    // Another caller has its own.
    let other = covey_core::access::Caller { id: covey_core::id::CallerId(-5), ..world.org(0).clone() };
    let theirs =
        block_on(world.engine().for_caller(&other).event_next(None, EventTypes::OfDevices, None, 100))
            .unwrap();
    assert_eq!(theirs.len(), 8);
    // One who names the last event moves nothing.
    for _ in 0..2 {
        let after = Some(theirs[4].id);
        let after = block_on(world.engine().for_caller(world.org(0)).event_next(
            None,
            EventTypes::OfDevices,
            after,
            2,
        ))
        .unwrap();
        assert_eq!(numbers(&after), [6, 7]);
    }
    let of_device = world.engine().for_caller(world.org(0)).event_next(
        Some(device.device_id),
        EventTypes::OfDevices,
        Some(RecordNumber(0)),
        100,
    );
    assert_eq!(numbers(&block_on(of_device).unwrap()), [1, 3, 5, 7]);
    assert_eq!(next(&world, None, 3), Vec::<u32>::new());
}

pub fn a_gauge_keeps_its_last_body(backend: impl Backend) {
    let mut world = World::new(backend);
    let (device, other, foreign) = (world.device(0), world.device(0), world.device(1));
    let gauge = |text: &str| event(44, 1, text);
    assert_eq!(add(&world, &device, gauge(r#"{"a":1}"#)), AddedEvent::Gauge);
    world.pass_ms(1_000);
    assert_eq!(add(&world, &device, gauge(r#"{"a":2}"#)), AddedEvent::Gauge);
    // Several in one transaction: the last one stays.
    let bodies = [r#"{"b":1}"#, r#"{"b":2}"#];
    together(&world, bodies.map(|body| (other.clone(), gauge(body))).to_vec());
    add(&world, &foreign, gauge("{}"));
    assert!(list(&world, 0, EventFilter::default()).is_empty(), "a gauge is no event");
    world.restart();
    let gauges = |filter: GaugeFilter, page, size| {
        let page = world.engine().for_caller(world.org(0)).gauge_list(filter, PageRequest { page, size });
        let page = block_on(page).unwrap();
        let shown = page.items.iter().map(|gauge| {
            (gauge.device_id, gauge.type_code, gauge.updated_at.0 - BEGIN.0, gauge.payload.to_string())
        });
        (shown.collect::<Vec<_>>(), page.total)
    };
    let first = (device.device_id, 44, 1_000, r#"{"a":2}"#.to_owned());
    let second = (other.device_id, 44, 1_000, r#"{"b":2}"#.to_owned());
    let all = GaugeFilter::default();
    assert_eq!(gauges(all, 1, 10), (vec![first.clone(), second.clone()], 2));
    assert_eq!(gauges(all, 2, 1), (vec![second.clone()], 2));
    let of_other = GaugeFilter { device_id: Some(other.device_id), ..all };
    assert_eq!(gauges(of_other, 1, 10), (vec![second], 1));
    assert_eq!(gauges(GaugeFilter { type_code: Some(45), ..all }, 1, 10), (vec![], 0));
    let devices = world.devices(0, covey_core::device::DeviceFilter::default()).items;
    let of_devices =
        block_on(world.engine().for_caller(world.org(0)).gauges_of(&devices, LIST_BYTES_MAX)).unwrap();
    assert_eq!(
        of_devices.iter().map(|gauge| &*gauge.payload).collect::<Vec<_>>(),
        [r#"{"a":2}"#, r#"{"b":2}"#]
    );
    block_on(world.engine().for_caller(world.org(0)).device_retire(other.device_id)).unwrap();
    assert_eq!(gauges(all, 1, 10), (vec![first], 1));
}

pub fn lists_of_large_bodies_end_early_or_are_refused(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    // 80 of them are 4.8 MB.
    let body = |number: u32| format!(r#"{{"n":{number},"310":"{}"}}"#, "x".repeat(60_000));
    for number in 1..=80 {
        add(&world, &device, event(5, number, &body(number)));
    }
    let caller = world.engine().for_caller(world.org(0));
    let bytes = |events: &[DeviceEvent]| events.iter().map(|event| event.payload.len()).sum::<usize>();
    let paged = |page, size| {
        let from = EventsFrom::Page(PageRequest { page, size });
        block_on(caller.event_list(EventFilter::default(), from))
    };
    let refused = paged(1, 80).unwrap_err();
    assert!(matches!(refused, Error::Invalid { field: "size", .. }), "{refused}");
    assert_eq!(numbers(&paged(2, 60).unwrap().items), (1..=20).rev().collect::<Vec<_>>());
    // By cursor, and one after the other, they all come.
    let (mut before, mut all, mut parts) = (None, Vec::new(), 0);
    loop {
        let from = EventsFrom::Before(before, 1_000);
        let part = block_on(caller.event_list(EventFilter::default(), from)).unwrap();
        assert!(bytes(&part.items) <= LIST_BYTES_MAX);
        parts += 1;
        before = part.items.last().map(|event| event.id);
        all.extend(numbers(&part.items));
        if !part.is_cut {
            break;
        }
    }
    assert_eq!((all, parts), ((1..=80).rev().collect::<Vec<_>>(), 2));
    for is_remembered in [false, true] {
        let (mut after, mut all) = (RecordNumber(0), Vec::new());
        loop {
            let from = Some(after).filter(|_| !is_remembered);
            let events = block_on(caller.event_next(None, EventTypes::OfDevices, from, 100)).unwrap();
            assert!(bytes(&events) <= LIST_BYTES_MAX);
            let Some(last) = events.last() else { break };
            after = last.id;
            all.extend(numbers(&events));
        }
        assert_eq!(all, (1..=80).collect::<Vec<_>>());
    }
    let fields = |limit| {
        let query = FieldQuery::back(device.device_id, 5, "310", 15, limit, world.now()).unwrap();
        block_on(caller.event_fields(query))
    };
    let refused = fields(80).unwrap_err();
    assert!(matches!(refused, Error::Invalid { field: "limit", .. }), "{refused}");
    assert_eq!(fields(60).unwrap().len(), 60);
}

pub fn lists_of_devices_with_much_about_them_are_refused(backend: impl Backend) {
    let world = World::new(backend);
    let tag = |number: usize| Tag { tag: number.to_string(), value: "x".repeat(1_000) };
    let tags: Vec<_> = (0..60).map(tag).collect();
    let devices: Vec<_> = (0..75)
        .map(|_| {
            let spec = DeviceSpec { tags: tags.clone(), ..DeviceSpec::default() };
            world.register(0, spec).unwrap().0.identity
        })
        .collect();
    let caller = world.engine().for_caller(world.org(0));
    let listed_within = |size, bytes_max| {
        block_on(caller.device_list(DeviceFilter::default(), PageRequest { page: 1, size }, bytes_max))
    };
    let listed = |size| listed_within(size, LIST_BYTES_MAX);
    // 75 times 60 kB of tags.
    let refused = listed(75).unwrap_err();
    assert!(matches!(refused, Error::Invalid { field: "size", .. }), "{refused}");
    assert_eq!(listed(60).unwrap().items.len(), 60);
    assert_eq!(listed_within(75, WHOLE_LIST_BYTES_MAX).unwrap().items.len(), 75);
    let body = format!(r#"{{"n":"{}"}}"#, "x".repeat(60_000));
    for device in &devices {
        assert_eq!(add(&world, device, event(44, 1, &body)), AddedEvent::Gauge);
    }
    let page = |size| PageRequest { page: 1, size };
    let refused = block_on(caller.gauge_list(GaugeFilter::default(), page(75))).unwrap_err();
    assert!(matches!(refused, Error::Invalid { field: "size", .. }), "{refused}");
    assert_eq!(block_on(caller.gauge_list(GaugeFilter::default(), page(60))).unwrap().items.len(), 60);
    let some = listed(60).unwrap().items;
    assert_eq!(block_on(caller.gauges_of(&some, LIST_BYTES_MAX)).unwrap().len(), 60);
    let more: Vec<_> = some.iter().chain(&some[..20]).cloned().collect();
    let refused = block_on(caller.gauges_of(&more, LIST_BYTES_MAX)).unwrap_err();
    assert!(matches!(refused, Error::Invalid { field: "size", .. }), "{refused}");
}

pub fn what_is_beyond_a_budget_is_refused_and_changes_nothing(backend: impl Backend) {
    let world = World::new(backend);
    let (device, other) = (world.device(0), world.device(0));
    let reported = |number| Reported { resource: format!("r{number}"), value: "1".into() };
    let many = |number| NewEvent { reported: (0..249).map(reported).collect(), ..event(13, number, "{}") };
    let engine = world.engine();
    let taken = |numbers: std::ops::Range<u32>| {
        let adding = |number| block_on(engine.for_device(&device).event_add(many(number), false));
        numbers
            .map(adding)
            .filter(|added| match added {
                Ok(_) => true,
                Err(error) => {
                    assert!(matches!(error, Error::OverBudget { .. }), "{error}");
                    false
                }
            })
            .count()
    };
    // 2,000 units at once, and each event weighs 250.
    assert_eq!(taken(1..12), 8);
    let refused = || world.outside.counts.of(Event::Refused(Refusal::Flood));
    assert_eq!(refused(), 3);
    assert_eq!(list(&world, 0, EventFilter::default()).len(), 8);
    assert!(engine.for_device(&device).hold_us() > 0);
    assert_eq!(engine.for_device(&other).hold_us(), 0);
    assert_eq!(add(&world, &other, many(1)), AddedEvent::Stored, "another device has its own");
    // What a broker has acknowledged is stored all the same.
    let acknowledged = engine.for_device(&device).event_add(event(13, 99, "{}"), true);
    assert_eq!(block_on(acknowledged), Ok(AddedEvent::Stored));
    world.pass_ms(5_000);
    assert_eq!(taken(12..20), 4, "200 units a second");
}
