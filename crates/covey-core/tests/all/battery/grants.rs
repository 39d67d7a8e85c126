//! Who may do something with some devices alone sees in every list what a look at each entry would leave, and may do
//! what such a look would allow.

use std::collections::BTreeSet;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use covey_core::access::{Access, Caller, Grant, Grants, Matter, Method, Question, Rights};
use covey_core::device::{DeviceFilter, DeviceIdentity, DeviceSpec, Tag, TagsOf};
use covey_core::event::{
    DeviceEvent, EventFilter, EventPage, EventTypes, EventsFrom, FieldQuery, GaugeFilter, SeriesQuery,
};
use covey_core::feed::{Batch, Follower};
use covey_core::id::{CallerId, DeviceId, RecordNumber, Sn, TaskId};
use covey_core::port::{Page, PageRequest};
use covey_core::record::{RecordFilter, RecordKind};
use covey_core::task::{TaskFilter, TaskSpec};
use covey_core::{Error, ForCaller};
use futures_channel::oneshot;
use futures_executor::block_on;
use futures_util::future::{Either, select};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::events::{add, event};
use super::following::Feeding;
use crate::world::{Backend, World, spec};

/// How many sets of grants are tried.
const TRIED: usize = 60;
const PAGE: PageRequest = PageRequest { page: 1, size: 1_000 };

fn tag(name: usize, value: usize) -> Tag {
    Tag { tag: ["site", "fl\"oor"][name].to_owned(), value: ["berlin", "'rome\\"][value].to_owned() }
}

fn a_grant() -> impl Strategy<Value = Grant> {
    let rights = [
        Rights::TASKS_READ,
        Rights::TASKS_WRITE,
        Rights::DEVICES_READ,
        Rights::DEVICES_WRITE,
        Rights::EVENTS_READ,
    ];
    let rights = prop::sample::subsequence(rights.to_vec(), 1..=5);
    let tags = prop::collection::vec((0..2usize, 0..2usize), 0..3);
    let method = prop_oneof![
        Just(Method::Code(20)),
        Just(Method::Code(21)),
        Just(Method::Name("open".to_owned())),
        Just(Method::Name("twin.set".to_owned())),
    ];
    let methods = prop::collection::vec(method, 0..3);
    let kinds = prop::sample::subsequence(RecordKind::ALL.to_vec(), 0..=3);
    let types = prop::sample::subsequence(vec![13_i64, 14, 44], 0..=2);
    (rights, tags, methods, kinds, types).prop_map(|(rights, tags, methods, kinds, event_types)| Grant {
        rights: Rights(rights.into_iter().fold(0, |all, right| all | right.0)),
        tags: tags.into_iter().map(|(name, value)| tag(name, value)).collect(),
        methods,
        kinds,
        event_types,
    })
}

/// Devices with tags, with tasks of several methods, events of several types, gauges, and values in their twins.
fn furnished(world: &World) -> Vec<(DeviceIdentity, Vec<Tag>)> {
    let tags = [vec![], vec![tag(0, 0)], vec![tag(0, 1), tag(1, 0)], vec![tag(0, 0), tag(1, 1)]];
    let register = |tags: Vec<Tag>| {
        let (device, _) =
            world.register(0, DeviceSpec { tags: tags.clone(), ..DeviceSpec::default() }).unwrap();
        (device.identity, tags)
    };
    let devices: Vec<_> = tags.into_iter().map(register).collect();
    for (device, _) in &devices {
        for (code, name) in [(20, None), (21, None), (20, Some("open"))] {
            let method = name.map(str::to_owned);
            world.create(TaskSpec { method_code: code, method, ..spec(device) });
        }
        for (number, type_code) in [(1, 13), (2, 14), (3, 44)] {
            add(world, device, event(type_code, number, "{}"));
        }
        world.engine().for_device(device).connected(crate::world::connection("here"));
    }
    world.settle();
    devices
}

/// Callers of the first organisation with all kinds of grants and no other right.
fn granted(world: &World) -> Vec<Caller> {
    let mut runner = TestRunner::deterministic();
    let lists = prop::collection::vec(a_grant(), 1..4);
    let mut callers = Vec::new();
    while callers.len() < TRIED {
        let list = lists.new_tree(&mut runner).unwrap().current();
        let Ok(grants) = Grants::new(list) else { continue };
        let id = CallerId(-1 - i64::try_from(callers.len()).unwrap());
        callers.push(Caller { id, rights: Rights::default(), grants, ..world.org(0).clone() });
    }
    callers
}

pub fn whoever_was_granted_a_part_sees_that_part_and_no_more(backend: impl Backend) {
    let world = World::without_budgets(backend);
    let devices = furnished(&world);
    let all = Seen::by(world.engine().for_caller(world.org(0)), &devices);
    assert!(all.tasks.len() == 12 && all.devices.len() == 4 && all.gauges.len() == 4);
    assert_eq!(all.events.len(), 12, "events, and coming; a gauge is none");
    assert_eq!(all.events, all.next);
    for caller in granted(&world) {
        let gives = |right, device: &Sn, matter: Matter<'_>| {
            let (_, tags) = devices.iter().find(|(known, _)| known.sn == *device).unwrap();
            caller.grants.giving(right, tags, matter).is_some()
        };
        let mut wanted = all.clone();
        wanted.devices.retain(|device| gives(Rights::DEVICES_READ, device, Matter::Device));
        wanted.tasks.retain(|(device, _, code, name)| {
            gives(Rights::TASKS_READ, device, Matter::Task { code: *code, name: name.as_deref() })
        });
        wanted.events.retain(|(device, _, code)| gives(Rights::EVENTS_READ, device, Matter::event(*code)));
        wanted.next.clone_from(&wanted.events);
        wanted.gauges.retain(|(device, code)| gives(Rights::EVENTS_READ, device, Matter::event(*code)));
        let seen = Seen::by(world.engine().for_caller(&caller), &devices);
        assert_eq!(seen, wanted, "{:?}", caller.grants);
    }
}

/// What somebody sees of an organisation: of each thing its device, and what a grant looks at. Nothing where it has no
/// such right at all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    devices: BTreeSet<Sn>,
    tasks: BTreeSet<(Sn, TaskId, u16, Option<String>)>,
    /// With coming and going.
    events: BTreeSet<(Sn, RecordNumber, i64)>,
    /// The same as a caller reads on in them.
    next: BTreeSet<(Sn, RecordNumber, i64)>,
    gauges: BTreeSet<(Sn, i64)>,
}

fn or_nothing<T>(read: Result<T, Error>, nothing: T) -> T {
    match read {
        Err(Error::Forbidden { .. }) => nothing,
        read => read.unwrap(),
    }
}

/// A list without entries.
fn no_page<T>() -> Page<T> {
    Page { items: Vec::new(), total: 0, is_cut: false }
}

impl Seen {
    fn by(caller: ForCaller<'_>, known: &[(DeviceIdentity, Vec<Tag>)]) -> Self {
        let devices =
            or_nothing(block_on(caller.device_list(DeviceFilter::default(), PAGE, usize::MAX)), no_page());
        assert_eq!(devices.total, devices.items.len() as u64);
        let tasks = or_nothing(block_on(caller.task_list(TaskFilter::default(), PAGE)), no_page());
        assert_eq!(tasks.total, tasks.items.len() as u64);
        for task in &tasks.items {
            assert_eq!(block_on(caller.task_get(task.id)).unwrap().task.id, task.id);
        }
        let filter = EventFilter { include: EventTypes::Any, ..EventFilter::default() };
        let nothing = EventPage { items: Vec::new(), total: None, is_cut: false };
        let events = or_nothing(block_on(caller.event_list(filter, EventsFrom::Page(PAGE))), nothing);
        assert_eq!(events.total.unwrap_or(0), events.items.len() as u64);
        let mut next = Vec::new();
        loop {
            let read = or_nothing(block_on(caller.event_next(None, EventTypes::Any, None, 5)), Vec::new());
            if read.is_empty() {
                break;
            }
            next.extend(read);
        }
        let gauges = or_nothing(block_on(caller.gauge_list(GaugeFilter::default(), PAGE)), no_page());
        assert_eq!(gauges.total, gauges.items.len() as u64);
        let sn_of = |id| known.iter().find(|(device, _)| device.device_id == id).unwrap().0.sn.clone();
        let events_of = |events: Vec<DeviceEvent>| {
            let count = events.len();
            let of: BTreeSet<_> =
                events.into_iter().map(|event| (event.sn, event.id, event.type_code)).collect();
            assert_eq!(of.len(), count, "none twice");
            of
        };
        Self {
            devices: devices.items.into_iter().map(|device| device.identity.sn).collect(),
            tasks: tasks
                .items
                .into_iter()
                .map(|task| (task.sn, task.id, task.method_code, task.method))
                .collect(),
            events: events_of(events.items),
            next: events_of(next),
            gauges: gauges.items.into_iter().map(|gauge| (sn_of(gauge.device_id), gauge.type_code)).collect(),
        }
    }
}

pub fn whoever_was_granted_a_part_changes_that_part_and_no_more(backend: impl Backend) {
    let world = World::without_budgets(backend);
    let devices = furnished(&world);
    let engine = world.engine();
    let done = |asked: Result<(), Error>| match asked {
        Ok(()) => true,
        Err(Error::Forbidden { .. } | Error::NotGranted { .. } | Error::NotFound { .. }) => false,
        Err(other) => panic!("{other:?}"),
    };
    for caller in granted(&world) {
        let asking = engine.for_caller(&caller);
        for (device, tags) in &devices {
            let gives = |right, matter: Matter<'_>| caller.grants.giving(right, tags, matter).is_some();
            for (code, name) in [(20, None), (21, None), (20, Some("open"))] {
                let method = name.map(str::to_owned);
                let wanted = TaskSpec { method_code: i64::from(code), method, ..spec(device) };
                let matter = Matter::Task { code, name };
                let made = block_on(asking.task_create(engine.task_id(), wanted.clone(), None)).map(drop);
                assert_eq!(done(made), gives(Rights::TASKS_WRITE, matter), "{device:?} {matter:?}");
                let task = world.create(wanted);
                let deleted = block_on(asking.task_delete(task.id)).map(drop);
                assert_eq!(done(deleted), gives(Rights::TASKS_WRITE, matter), "{device:?} {matter:?}");
                world.delete(0, task.id).unwrap();
            }
            let twin = block_on(asking.twin_get(device.device_id)).map(drop);
            assert_eq!(done(twin), gives(Rights::DEVICES_READ, Matter::Device));
            let writes = gives(Rights::DEVICES_WRITE, Matter::Device);
            let free = Tag { tag: "note".to_owned(), value: "x".to_owned() };
            assert_eq!(done(block_on(asking.tag_put(device.device_id, free)).map(drop)), writes);
            // A tag that decides what it may do is not its own to set.
            for tag in [tag(0, 0), tag(1, 1)].into_iter().filter(|tag| caller.grants.names_tag(&tag.tag)) {
                assert!(!done(block_on(asking.tag_put(device.device_id, tag)).map(drop)));
            }
            let spec = DeviceSpec { tags: tags.clone(), ..DeviceSpec::default() };
            let registered = block_on(asking.device_register(spec)).map(|(device, _)| device);
            assert_eq!(registered.is_ok(), writes, "{registered:?}");
            if let Ok(device) = registered {
                block_on(asking.device_retire(device.identity.device_id)).unwrap();
            } else {
                assert!(!done(block_on(asking.device_retire(device.device_id)).map(drop)));
            }
        }
        for task in world.list(0, TaskFilter::default(), 1, 1_000).items {
            if !task.status.is_final() && task.created_by.as_deref() == Some(&*caller.name) {
                world.delete(0, task.id).unwrap();
            }
        }
    }
}

pub fn a_stream_tells_what_was_granted_and_no_more(backend: impl Backend) {
    let world = World::new(backend);
    let devices = furnished(&world);
    let feeding = Feeding::start(world.engine());
    let grant = Grant {
        rights: Rights::EVENTS_READ,
        tags: vec![tag(0, 0)],
        methods: vec![Method::Name("open".to_owned())],
        kinds: vec![RecordKind::Event, RecordKind::Task],
        event_types: vec![13],
    };
    let grants = Grants::new(vec![grant]).unwrap();
    let caller = Caller { rights: Rights::default(), grants, ..world.org(0).clone() };
    let follow =
        |filter| block_on(world.engine().for_caller(&caller).record_follow(filter, Some(RecordNumber(0))));
    let mut follower = follow(RecordFilter::default()).unwrap();
    let (last, _) = &devices[3];
    let mut heard: Vec<(Sn, RecordKind)> = Vec::new();
    // First out of the past, then as it happens.
    for (number, wanted) in [(8, 5), (9, 1)] {
        for (device, _) in &devices {
            add(&world, device, event(14, number, "{}"));
        }
        add(&world, last, event(13, number + 10, "{}"));
        let mut records = Vec::new();
        while records.len() < wanted {
            records.extend(block_on(follower.next()).unwrap().records);
        }
        heard.extend(records.iter().map(|record| (record.device.identity.sn.clone(), record.change.kind())));
    }
    let of = |device: usize, kind| (devices[device].0.sn.clone(), kind);
    let (event, task) = (RecordKind::Event, RecordKind::Task);
    assert_eq!(heard, [of(1, task), of(1, event), of(3, task), of(3, event), of(3, event), of(3, event)]);
    // It may be narrowed, not widened.
    let narrow = RecordFilter { devices: vec![devices[0].0.device_id], ..RecordFilter::default() };
    let mut follower = follow(narrow).unwrap();
    add(&world, &devices[0].0, super::events::event(13, 30, "{}"));
    assert!(block_on(heard_within(&mut follower)).is_none());
    drop(feeding);
}

/// What a follower is told within a moment.
async fn heard_within(follower: &mut Follower) -> Option<Batch> {
    let (ended, end) = oneshot::channel();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        let _ = ended.send(());
    });
    let next = pin!(follower.next());
    match select(next, end).await {
        Either::Left((heard, _)) => Some(heard.unwrap()),
        Either::Right(_) => None,
    }
}

pub fn grants_come_back_as_they_were_given_and_are_not_given_on_beyond_themselves(backend: impl Backend) {
    let mut world = World::new(backend);
    let grant = Grant {
        rights: Rights::TASKS_WRITE,
        tags: vec![tag(0, 0), tag(1, 1)],
        methods: vec![Method::Code(20), Method::Name("o\"pen".to_owned())],
        kinds: vec![RecordKind::Twin],
        event_types: vec![0, 7],
    };
    let make = |world: &World, caller: &Caller, rights, grants: Vec<Grant>| {
        let access = Access { rights, grants: Grants::new(grants).unwrap(), ..Access::default() };
        block_on(world.engine().for_caller(caller).api_key_add("first", "some", access))
    };
    let root = world.org(0).clone();
    let made = make(&world, &root, Rights::KEYS_WRITE, vec![grant.clone()]).unwrap();
    world.restart();
    let found = block_on(world.engine().server().api_key_check(&made.clear_text)).unwrap().unwrap();
    assert_eq!((&found, found.grants.list()), (&made.key, &[grant.clone()][..]));
    let caller = Caller::of(&found);
    let narrower = Grant { tags: vec![tag(0, 0)], methods: vec![Method::Code(20)], ..grant.clone() };
    make(&world, &caller, Rights::default(), vec![narrower]).unwrap();
    let nothing = Rights::default();
    for wider in [
        Grant { tags: vec![tag(0, 1)], ..grant.clone() },
        Grant { methods: vec![], ..grant.clone() },
        Grant { rights: Rights::TASKS_READ, ..grant.clone() },
    ] {
        let refused = make(&world, &caller, nothing, vec![wider]).map(|made| made.key);
        assert!(matches!(refused, Err(Error::Forbidden { .. })), "{refused:?}");
    }
    let refused = make(&world, &caller, Rights::TASKS_WRITE, vec![]).map(|made| made.key);
    assert!(matches!(refused, Err(Error::Forbidden { .. })), "the right for all, by one for some");
}

pub fn a_grant_tells_nothing_of_who_had_the_number_of_a_device_before(backend: impl Backend) {
    let world = World::new(backend);
    let register = |tags: Vec<Tag>| {
        let spec = DeviceSpec { device_id: Some(7), tags, ..DeviceSpec::default() };
        world.register(0, spec).unwrap().0.identity
    };
    let root = world.engine().for_caller(world.org(0));
    let before = register(vec![tag(0, 1)]);
    add(&world, &before, event(13, 1, r#"{"tag":"a","300":[{"310":1}]}"#));
    block_on(root.device_retire(before.device_id)).unwrap();
    let now = register(vec![tag(0, 0)]);
    add(&world, &now, event(13, 2, r#"{"300":[{"310":2}]}"#));
    let grant = Grant { rights: Rights::EVENTS_READ, tags: vec![tag(0, 0)], ..Grant::default() };
    let grants = Grants::new(vec![grant]).unwrap();
    let caller = Caller { rights: Rights::default(), grants, ..world.org(0).clone() };
    let values = |caller: &Caller| {
        let asking = world.engine().for_caller(caller);
        let query = FieldQuery::back(now.device_id, 13, "310", 60, 10, world.now()).unwrap();
        let fields = block_on(asking.event_fields(query.clone())).unwrap();
        let series = SeriesQuery {
            device_id: now.device_id,
            registration: None,
            type_code: Some(13),
            path: query.path,
            from: world.now().plus_ms(-3_600_000),
            until: world.now().plus_ms(60_000),
            width_ms: 60_000,
        };
        let count: u64 =
            block_on(asking.event_series(series)).unwrap().iter().map(|bucket| bucket.count).sum();
        (fields.iter().map(|field| field.value.to_string()).collect::<Vec<_>>(), count)
    };
    assert_eq!(values(world.org(0)), (vec!["2".to_owned(), "1".to_owned()], 2));
    assert_eq!(values(&caller), (vec!["2".to_owned()], 1));
    assert_eq!(values(world.org(0)).1, 2, "what was gathered for one is not told to the other");
}

pub fn nobody_widens_its_grants_by_tags_and_keys(backend: impl Backend) {
    let world = World::new(backend);
    let (device, _) =
        world.register(0, DeviceSpec { tags: vec![tag(0, 0)], ..DeviceSpec::default() }).unwrap();
    let device = device.identity.device_id;
    let call = Grant { rights: Rights::TASKS_WRITE, tags: vec![tag(1, 1)], ..Grant::default() };
    let tagging = Grant { rights: Rights::DEVICES_WRITE, tags: vec![tag(0, 0)], ..Grant::default() };
    let of = |rights: u32, grants: Vec<Grant>| {
        let grants = Grants::new(grants).unwrap();
        Caller { rights: Rights(rights), grants, ..world.org(0).clone() }
    };
    let not_granted = Err(Error::NotGranted { right: "devices:write" });
    for caller in
        [of(Rights::DEVICES_WRITE.0, vec![call.clone()]), of(0, vec![call.clone(), tagging.clone()])]
    {
        let asking = world.engine().for_caller(&caller);
        assert_eq!(block_on(asking.tag_put(device, tag(1, 1))), not_granted);
    }
    let keeper = of(Rights::KEYS_WRITE.0 | Rights::DEVICES_WRITE.0, vec![call.clone(), tagging.clone()]);
    let give = |rights: Rights, grants: Vec<Grant>| {
        let access = Access { rights, grants: Grants::new(grants).unwrap(), ..Access::default() };
        block_on(world.engine().for_caller(&keeper).api_key_add("first", "some", access))
            .map(|made| made.key.id)
    };
    for refused in [give(Rights::DEVICES_WRITE, vec![]), give(Rights::default(), vec![tagging])] {
        assert!(matches!(refused, Err(Error::Forbidden { .. })), "{refused:?}");
    }
    give(Rights::default(), vec![call]).unwrap();
}

pub fn who_may_not_see_a_device_is_not_told_of_it_by_an_explanation(backend: impl Backend) {
    let world = World::new(backend);
    let devices = furnished(&world);
    let read = Grant { rights: Rights::DEVICES_READ, tags: vec![tag(1, 0)], ..Grant::default() };
    let of = |rights, grants: Vec<Grant>| Caller {
        rights,
        grants: Grants::new(grants).unwrap(),
        ..world.org(0).clone()
    };
    let ask = |caller: &Caller, device: DeviceId| {
        let question = Question {
            rights: Rights::DEVICES_READ,
            device: Some(TagsOf::Id(device)),
            matters: vec![Matter::Device],
            is_grantable: true,
        };
        block_on(world.engine().for_caller(caller).access_explain(None, question))
    };
    let seen = of(Rights::default(), vec![read]);
    let (mine, other) = (devices[2].0.device_id, devices[1].0.device_id);
    assert!(ask(&seen, mine).unwrap().is_allowed());
    assert_eq!(ask(&seen, mine).unwrap().tags, [tag(1, 0), tag(0, 1)]);
    assert_eq!(ask(&seen, other).map(drop), Err(Error::not_found("device")));
    assert_eq!(ask(world.org(0), DeviceId(999)).map(drop), Err(Error::not_found("device")));
    let blind = of(Rights::TASKS_WRITE, vec![]);
    assert_eq!(ask(&blind, mine).map(drop), Err(Error::Forbidden { right: "devices:read" }));
}
