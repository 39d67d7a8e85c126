//! The coming and going of devices: what is told of it, and when.

use covey_core::device::{Connection, DeviceFilter, DeviceIdentity};
use covey_core::event::{EventFilter, EventTypes, EventsFrom, OFFLINE_TYPE_CODE, ONLINE_TYPE_CODE};
use covey_core::id::RecordNumber;
use covey_core::port::PageRequest;
use covey_core::presence::{QUIET_MS, Reason, WINDOW_CHANGES_MAX, WINDOW_MS};
use covey_core::record::{Change, RecordReader, RecordRequest};
use futures_executor::block_on;

use crate::world::{Backend, World, connection};

fn come(world: &World, device: &DeviceIdentity, session: &str) {
    world.engine().for_device(device).connected(connection(session));
}

fn go(world: &World, device: &DeviceIdentity, session: &str, reason: Reason) {
    world.engine().for_device(device).disconnected(Connection { reason, ..connection(session) });
}

/// What was told of devices since the beginning, in order.
fn told(world: &World) -> Vec<(DeviceIdentity, bool, Reason)> {
    world.settle();
    let request = RecordRequest {
        org: None,
        after: RecordNumber(0),
        until: None,
        limit: 10_000,
        bytes_max: usize::MAX,
        with_tags: false,
    };
    let records = block_on(world.store().record_list_of_every_org(request)).unwrap().records;
    let told = records.into_iter().filter_map(|record| match record.change {
        Change::Presence { online, reason } => Some((record.device.identity, online, reason)),
        _ => None,
    });
    told.collect()
}

fn told_of(world: &World, device: &DeviceIdentity) -> Vec<(bool, Reason)> {
    let told = told(world).into_iter().filter(|(of, ..)| of == device);
    told.map(|(_, online, reason)| (online, reason)).collect()
}

fn sweep(world: &World) {
    world.settle();
    while block_on(world.engine().server().presence_sweep()).unwrap() {}
}

fn are_online(world: &World) -> u64 {
    world.devices(0, DeviceFilter { online: Some(true), ..DeviceFilter::default() }).total
}

pub fn coming_and_going_are_told_at_once(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    come(&world, &device, "a");
    assert_eq!(told_of(&world, &device), [(true, Reason::Connected)]);
    world.pass_ms(5);
    go(&world, &device, "a", Reason::KeepAlive);
    // A word of a connection that is over already, or that was never heard of.
    go(&world, &device, "a", Reason::Clean);
    go(&world, &device, "b", Reason::Clean);
    assert_eq!(told_of(&world, &device), [(true, Reason::Connected), (false, Reason::KeepAlive)]);
    let presence = world.devices(0, DeviceFilter::default()).items[0].presence.clone().unwrap();
    assert_eq!((presence.online, presence.reason), (false, Reason::KeepAlive));
    // It is noted as events, too, which come to those who name their types.
    let page = EventsFrom::Page(PageRequest { page: 1, size: 10 });
    let listed = |include| {
        let filter = EventFilter { include, ..EventFilter::default() };
        block_on(world.engine().for_caller(world.org(0)).event_list(filter, page)).unwrap()
    };
    let next = |types| {
        let first = Some(RecordNumber(0));
        block_on(world.engine().for_caller(world.org(0)).event_next(None, types, first, 10)).unwrap()
    };
    let unnamed = listed(EventTypes::OfDevices);
    assert_eq!((unnamed.items.len(), unnamed.total), (0, Some(0)));
    assert!(next(EventTypes::OfDevices).is_empty());
    let noted = EventTypes::These(vec![ONLINE_TYPE_CODE, OFFLINE_TYPE_CODE]);
    let events = listed(noted.clone());
    assert_eq!((&events, events.total), (&listed(EventTypes::Any), Some(2)));
    assert!(next(noted).iter().eq(events.items.iter().rev()));
    assert_eq!(next(EventTypes::These(vec![OFFLINE_TYPE_CODE])), events.items[..1]);
    let events: Vec<_> = events.items.iter().map(|event| (event.type_code, &*event.payload)).collect();
    let expected = [
        (OFFLINE_TYPE_CODE, r#"{"online":false,"reason":"keep_alive"}"#),
        (ONLINE_TYPE_CODE, r#"{"online":true,"reason":"connected"}"#),
    ];
    assert_eq!(events, expected);
}

pub fn a_connection_in_the_place_of_another_is_told_as_an_end_and_a_beginning(backend: impl Backend) {
    let world = World::new(backend);
    let (device, other) = (world.device(0), world.device(0));
    come(&world, &device, "a");
    come(&world, &device, "b");
    come(&world, &other, "b");
    // Told again of the same, and late of the one before.
    come(&world, &device, "b");
    go(&world, &device, "a", Reason::Lost);
    let expected = [(true, Reason::Connected), (false, Reason::TakenOver), (true, Reason::Connected)];
    assert_eq!(told_of(&world, &device), expected);
    assert_eq!(told_of(&world, &other), [(true, Reason::Connected)]);
}

pub fn what_happens_within_one_group_is_told_in_its_order(backend: impl Backend) {
    let world = World::new(backend);
    let devices: Vec<_> = (0..40).map(|_| world.device(0)).collect();
    let mut expected = Vec::new();
    let gate = world.hold_writer();
    for device in &devices {
        come(&world, device, "a");
        expected.push((device.clone(), true, Reason::Connected));
    }
    for device in devices.iter().step_by(2) {
        go(&world, device, "a", Reason::Clean);
        come(&world, device, "b");
        come(&world, device, "c");
        let then = [(false, Reason::Clean), (true, Reason::Connected), (false, Reason::TakenOver)];
        let then = then.into_iter().chain([(true, Reason::Connected)]);
        expected.extend(then.map(|(online, reason)| (device.clone(), online, reason)));
    }
    drop(gate);
    assert_eq!(told(&world), expected);
    assert_eq!(are_online(&world), 40);
    let all = world.devices(0, DeviceFilter::default()).items;
    for (place, device) in all.iter().enumerate() {
        let session = &device.presence.as_ref().unwrap().session;
        assert_eq!(session, if place % 2 == 0 { "c" } else { "a" });
    }
}

pub fn a_device_that_comes_and_goes_all_the_time_is_told_of_once_it_is_quiet(backend: impl Backend) {
    let mut world = World::new(backend);
    let (device, calm) = (world.device(0), world.device(0));
    let flap = |world: &World, changes: u32| {
        for change in 0..changes {
            world.pass_ms(10);
            if change % 2 == 0 {
                come(world, &device, "a");
            } else {
                go(world, &device, "a", Reason::Lost);
            }
        }
        world.settle();
    };
    flap(&world, WINDOW_CHANGES_MAX);
    assert_eq!(told_of(&world, &device).len(), WINDOW_CHANGES_MAX as usize);
    // Once more: it is connected now, and nobody is told.
    come(&world, &device, "a");
    come(&world, &calm, "a");
    assert_eq!((told_of(&world, &device).len(), told_of(&world, &calm).len()), (10, 1));
    sweep(&world);
    assert_eq!(told_of(&world, &device).len(), 10, "its time has not come");
    world.restart_quietly();
    world.pass_ms(QUIET_MS);
    sweep(&world);
    assert_eq!(told_of(&world, &device)[10..], [(true, Reason::Connected)]);
    let of_device = EventFilter {
        device_ids: vec![device.device_id],
        include: EventTypes::Any,
        ..EventFilter::default()
    };
    let newest = world.engine().for_caller(world.org(0)).event_list(of_device, EventsFrom::Before(None, 1));
    let newest = block_on(newest).unwrap().items.remove(0);
    assert_eq!(
        newest.received_at.since_ms(newest.key.dev_timestamp),
        QUIET_MS,
        "with the instant of the change"
    );
    sweep(&world);
    // Goes and comes back before it was quiet for long enough: as it was told.
    go(&world, &device, "a", Reason::Lost);
    world.pass_ms(QUIET_MS - 1);
    sweep(&world);
    come(&world, &device, "b");
    world.pass_ms(QUIET_MS);
    sweep(&world);
    assert_eq!(told_of(&world, &device).len(), 11);
    world.pass_ms(WINDOW_MS);
    go(&world, &device, "b", Reason::Clean);
    assert_eq!(told_of(&world, &device)[11..], [(false, Reason::Clean)], "another minute");
}

pub fn what_a_server_held_is_told_later_and_not_of_those_who_came_back(backend: impl Backend) {
    let mut world = World::new(backend);
    let (stays, returns, elsewhere) = (world.device(0), world.device(0), world.device(0));
    let many: Vec<_> = (0..30).map(|_| world.device(1)).collect();
    for device in [&stays, &returns].into_iter().chain(&many) {
        come(&world, device, "a");
    }
    let another = Connection { server: "server-9".to_owned(), ..connection("a") };
    world.engine().for_device(&elsewhere).connected(another);
    let before = told(&world).len();
    world.restart();
    assert_eq!((are_online(&world), told(&world).len()), (1, before));
    let presence = world.devices(0, DeviceFilter::default()).items[0].presence.clone().unwrap();
    assert_eq!((presence.online, presence.reason), (false, Reason::Unknown));
    sweep(&world);
    come(&world, &returns, "b");
    assert_eq!(told(&world).len(), before, "it was told that it is connected, and is");
    world.pass_ms(QUIET_MS);
    sweep(&world);
    assert_eq!(told_of(&world, &stays), [(true, Reason::Connected), (false, Reason::Unknown)]);
    assert_eq!(told_of(&world, &returns).len(), 1);
    assert!(many.iter().all(|device| told_of(&world, device).len() == 2));
    assert_eq!((are_online(&world), told_of(&world, &elsewhere).len()), (2, 1));

    // A server that is alone, and had another name before, holds nothing yet.
    let of_a_broker = world.device(0);
    let connection = Connection { server: String::new(), ..connection("a") };
    world.engine().for_device(&of_a_broker).connected(connection);
    block_on(world.engine().server().presence_clear_all()).unwrap();
    world.pass_ms(QUIET_MS);
    sweep(&world);
    assert_eq!((are_online(&world), told_of(&world, &of_a_broker).len()), (1, 1));
    assert_eq!(told_of(&world, &elsewhere), [(true, Reason::Connected), (false, Reason::Unknown)]);
}
