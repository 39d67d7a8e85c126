//! Twins: versions, conditions, wishes in each other's place, and history.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use covey_core::Error;
use covey_core::device::DeviceIdentity;
use covey_core::error::Result;
use covey_core::event::{NewEvent, Reported};
use covey_core::id::RecordNumber;
use covey_core::record::{Change, RecordReader, RecordRequest, TwinSide};
use covey_core::task::{TaskFilter, TaskStatus};
use covey_core::twin::{IfMatch, RESOURCES_MAX, Twin, TwinPatch, TwinVersions};
use futures_executor::block_on;

use super::events::{add, event};
use crate::world::{Backend, World};

type Values<'v> = &'v [(&'v str, Option<&'v str>)];

fn values(values: Values<'_>) -> Vec<(String, Option<Arc<str>>)> {
    values.iter().map(|(name, value)| ((*name).to_owned(), value.map(Arc::from))).collect()
}

fn change(reported: Values<'_>, desired: Values<'_>) -> TwinPatch {
    let (reported, desired) = (values(reported), values(desired));
    TwinPatch { reported, desired, ttl_minutes: 10, ..TwinPatch::default() }
}

fn patch(world: &World, device: &DeviceIdentity, patch: TwinPatch) -> Result<Twin> {
    block_on(world.engine().for_caller(world.org(0)).twin_patch(device.device_id, patch))
}

fn get(world: &World, device: &DeviceIdentity) -> Twin {
    block_on(world.engine().for_caller(world.org(0)).twin_get(device.device_id)).unwrap()
}

fn versions(reported: i64, desired: i64) -> TwinVersions {
    TwinVersions { reported, desired }
}

/// Versions and values of a resource, newest first.
fn history(
    world: &World,
    device: &DeviceIdentity,
    before: Option<i64>,
    limit: u32,
) -> Vec<(i64, Option<String>)> {
    let history = world.engine().for_caller(world.org(0)).twin_history(
        device.device_id,
        "lamp/1".to_owned(),
        before,
        limit,
    );
    let history = block_on(history).unwrap();
    history.into_iter().map(|one| (one.version, one.value.map(|value| value.to_string()))).collect()
}

pub fn each_side_counts_its_versions(backend: impl Backend) {
    let mut world = World::new(backend);
    let (device, other) = (world.device(0), world.device(0));
    let untouched = get(&world, &device);
    assert_eq!((untouched.versions, untouched.resources.len()), (TwinVersions::default(), 0));
    let odd = r#"{ "a" : "\u0000💡", "b":1.50 }"#;
    let made = patch(&world, &device, change(&[("lamp/1", Some(odd)), ("Z", Some("2"))], &[])).unwrap();
    assert_eq!(made.versions, versions(1, 0));
    world.pass_ms(7);
    let made =
        patch(&world, &device, change(&[("lamp/1", Some("3"))], &[("lamp/1", Some("4")), ("a", Some("5"))]));
    let made = made.unwrap();
    assert_eq!(made.versions, versions(2, 1));
    world.restart();
    assert_eq!(get(&world, &device), made);
    let names: Vec<_> = made.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["Z", "a", "lamp/1"], "byte by byte");
    let [still, wanted, both] = &made.resources[..] else { panic!("{made:?}") };
    let reported = |resource: &covey_core::twin::TwinResource| {
        resource.reported.as_ref().map(|one| (one.value.as_deref().unwrap().to_owned(), one.version, one.at))
    };
    let desired = |resource: &covey_core::twin::TwinResource| {
        resource.desired.as_ref().map(|one| (one.value.to_string(), one.version, one.at))
    };
    let begin = world.now().plus_ms(-7);
    assert_eq!((reported(still), desired(still)), (Some(("2".to_owned(), 1, begin)), None));
    assert_eq!((reported(wanted), desired(wanted)), (None, Some(("5".to_owned(), 1, world.now()))));
    assert_eq!(reported(both), Some(("3".to_owned(), 2, world.now())));
    assert_eq!(history(&world, &device, None, 10), [(2, Some("3".to_owned())), (1, Some(odd.to_owned()))]);
    assert_eq!(get(&world, &other).resources, []);
    // What has neither value is no more; that it was removed is remembered.
    let gone = patch(&world, &device, change(&[("lamp/1", None), ("Z", None)], &[("lamp/1", None)])).unwrap();
    assert_eq!((gone.versions, gone.resources.len()), (versions(3, 2), 1));
    assert_eq!(get(&world, &device), gone);
    assert_eq!(history(&world, &device, None, 1), [(3, None)]);
    assert_eq!(history(&world, &device, Some(3), 1), [(2, Some("3".to_owned()))]);
    assert_eq!(history(&world, &device, Some(1), 10), []);
    assert_eq!(history(&world, &other, None, 10), []);
}

pub fn a_condition_that_does_not_hold_changes_nothing(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let demand = |reported, desired| IfMatch { reported, desired };
    let wish_of_either = |wanted: &[IfMatch], value| {
        let change = change(&[("a", Some(value))], &[("a", Some(value))]);
        TwinPatch { if_match: Some(wanted.to_vec()), ..change }
    };
    let wish = |wanted, value| wish_of_either(&[wanted], value);
    patch(&world, &device, wish(demand(Some(0), Some(0)), "1")).unwrap();
    for refused in [demand(Some(0), None), demand(None, Some(2)), demand(Some(1), Some(0))] {
        let refused = patch(&world, &device, wish(refused, "2")).unwrap_err();
        assert!(matches!(refused, Error::Precondition { .. }), "{refused:?}");
    }
    for none in [&[][..], &[demand(Some(0), None), demand(Some(2), None)]] {
        let refused = patch(&world, &device, wish_of_either(none, "2")).unwrap_err();
        assert!(matches!(refused, Error::Precondition { .. }), "{refused:?}");
    }
    let unchanged = get(&world, &device);
    assert_eq!((unchanged.versions, unchanged.resources.len()), (versions(1, 1), 1));
    assert_eq!(world.list(0, TaskFilter::default(), 1, 10).total, 1);
    assert_eq!(
        patch(&world, &device, wish_of_either(&[demand(Some(9), None), demand(Some(1), Some(1))], "3"))
            .unwrap()
            .versions,
        versions(2, 2)
    );
    let [deep, deeper] = [62, 63].map(|levels| format!("{}1{}", "[".repeat(levels), "]".repeat(levels)));
    let refused = patch(&world, &device, wish(demand(None, None), &deeper)).unwrap_err();
    assert!(matches!(refused, Error::Invalid { field: "value", .. }), "{refused:?}");
    assert_eq!(patch(&world, &device, wish(demand(None, None), &deep)).unwrap().versions, versions(3, 3));
    let stranger =
        world.engine().for_caller(world.org(1)).twin_patch(device.device_id, wish(demand(None, None), "4"));
    assert_eq!(block_on(stranger).unwrap_err(), Error::not_found("device"));
    let foreign = block_on(world.engine().for_caller(world.org(1)).twin_get(device.device_id));
    assert_eq!(foreign.unwrap_err(), Error::not_found("device"));
    let foreign =
        world.engine().for_caller(world.org(1)).twin_history(device.device_id, "a".to_owned(), None, 1);
    assert_eq!(block_on(foreign).unwrap_err(), Error::not_found("device"));
    let nowhere =
        world.engine().for_caller(world.org(0)).twin_history(device.device_id, "a\0".to_owned(), None, 1);
    assert!(matches!(block_on(nowhere).unwrap_err(), Error::Invalid { field: "resource", .. }));
}

pub fn a_newer_wish_takes_the_place_of_one_that_was_not_taken(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let wish = |value| patch(&world, &device, change(&[], &[("a", Some(value))])).unwrap();
    let task = |twin: &Twin| twin.resources[0].desired.as_ref().unwrap().task;
    let first = task(&wish("1"));
    let second = task(&wish("2"));
    let status = |id| world.get(id).task.status;
    assert!(status(first).is_final() && status(second) == TaskStatus::Ready, "{:?}", status(first));
    let taken = world.poll(&device).unwrap();
    assert_eq!(taken.id, second);
    assert_eq!(taken.payload.as_deref(), Some(r#"{"resource":"a","value":2,"version":2}"#));
    let third = task(&wish("3"));
    assert_eq!((status(second), status(third)), (TaskStatus::Lock, TaskStatus::Ready));
    // A wish that is taken back needs no task.
    let twin = patch(&world, &device, change(&[], &[("a", None)])).unwrap();
    assert_eq!((twin.versions, twin.resources.len()), (versions(0, 4), 0));
    assert!(status(third).is_final());
    assert_eq!(world.list(0, TaskFilter::default(), 1, 10).total, 3);
}

pub fn what_a_device_reports_with_an_event_is_told_after_it(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let report =
        |resource: &str, value: &str| Reported { resource: resource.to_owned(), value: value.into() };
    let reporting = |number, reported| NewEvent { reported, ..event(2, number, "{}") };
    add(&world, &device, reporting(1, vec![report("a", "1"), report("b", "true")]));
    add(&world, &device, reporting(1, vec![report("a", "2")]));
    add(&world, &device, NewEvent { type_code: 44, ..reporting(2, vec![report("a", "3")]) });
    assert_eq!(get(&world, &device).versions, versions(2, 0), "one that is there already reports nothing");
    let request = RecordRequest {
        org: None,
        after: RecordNumber(0),
        until: None,
        limit: 100,
        bytes_max: usize::MAX,
        with_tags: false,
    };
    let records = block_on(world.store().record_list_of_every_org(request)).unwrap().records;
    let told: Vec<_> = records
        .iter()
        .map(|record| match &record.change {
            Change::Event(event) => format!("event {}", event.key.dev_event_id),
            Change::Twin(twin) => {
                assert_eq!(twin.side, TwinSide::Reported);
                format!("{} {} {}", twin.resource, twin.value.as_deref().unwrap(), twin.version)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["event 1", "a 1 1", "b true 1", "a 3 2"]);
}

pub fn a_twin_has_room_for_so_many_resources(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let names: Vec<_> = (0..RESOURCES_MAX).map(|number| format!("r{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), Some("1"))).collect();
    patch(&world, &device, change(&all, &[])).unwrap();
    let refused = patch(&world, &device, change(&[], &[("one", Some("1"))])).unwrap_err();
    assert!(matches!(refused, Error::Invalid { field: "resource", .. }), "{refused:?}");
    patch(&world, &device, change(&[("r0", Some("2"))], &[("r1", Some("2"))])).unwrap();
    patch(&world, &device, change(&[("r2", None)], &[])).unwrap();
    patch(&world, &device, change(&[("one", Some("1"))], &[])).unwrap();
    let twin = get(&world, &device);
    assert_eq!((twin.resources.len(), twin.versions), (RESOURCES_MAX as usize, versions(4, 1)));
}

pub fn changes_of_one_group_come_one_after_the_other(backend: impl Backend) {
    let world = World::new(backend);
    let (device, other) = (world.device(0), world.device(0));
    let gate = world.hold_writer();
    let text = |number: i64| number.to_string();
    let mut changing: Vec<_> = (1..=20_i64)
        .flat_map(|number| [(&device, number), (&other, number)])
        .map(|(device, number)| {
            let if_match = IfMatch { reported: Some(number - 1), desired: None };
            // The last two find that they come too late.
            let if_match = if number == 20 { IfMatch { reported: Some(1), ..if_match } } else { if_match };
            let one = change(&[("lamp/1", Some(&text(number)))], &[]);
            let one = TwinPatch { if_match: Some(vec![if_match]), ..one };
            Box::pin(world.engine().for_caller(world.org(0)).twin_patch(device.device_id, one))
        })
        .collect();
    for one in &mut changing {
        assert!(pin!(one).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(gate);
    let outcomes: Vec<_> = changing.into_iter().map(block_on).collect();
    assert_eq!(outcomes.iter().filter(|one| one.is_ok()).count(), 38);
    for device in [&device, &other] {
        let expected: Vec<_> = (1..=19).rev().map(|number| (number, Some(text(number)))).collect();
        assert_eq!(history(&world, device, None, 100), expected);
        assert_eq!(get(&world, device).versions, versions(19, 0));
    }
}
