//! What is kept: counted by days, bounded, and known again after a restart.

use covey_core::Error;
use covey_core::device::DeviceIdentity;
use covey_core::limits::Limits;
use covey_core::port::{Event, Refusal};
use covey_core::task::TaskSpec;
use futures_executor::block_on;

use super::events::event;
use crate::world::{Backend, World, lasting, result};

const DAY_MS: i64 = 86_400_000;

fn count(world: &World) {
    while block_on(world.engine().server().quota_step()).unwrap() {}
}

/// A task with parameters of 1,744 bytes, which are 2,000 with its row.
fn large(device: &DeviceIdentity) -> TaskSpec {
    let payload = format!("\"{}\"", "x".repeat(1_742));
    TaskSpec { payload: Some(payload.into()), ..lasting(device, 1) }
}

fn kept(world: &World) -> Vec<u64> {
    block_on(world.engine().server().quota_flush()).unwrap();
    world.pass_ms(60_000);
    count(world);
    let mut kept = world.engine().server().kept_by_org();
    kept.retain(|(name, _)| name == "first");
    kept.into_iter().map(|(_, bytes)| bytes).collect()
}

pub fn who_keeps_as_much_as_may_be_stores_nothing_new(backend: impl Backend) {
    let mut world = World::with_limits(backend, Limits { device_bytes_max: 10_000, ..Limits::default() });
    let (device, other) = (world.device(0), world.device(0));
    let is_refused = |made: Result<_, Error>| matches!(made, Err(Error::OverQuota { .. }));
    count(&world);
    let tasks: Vec<_> = (0..5).map(|_| world.create(large(&device))).collect();
    count(&world);
    assert!(is_refused(world.create_as(0, lasting(&device, 1)).map(drop)));
    let add = |world: &World, number, is_acknowledged| {
        let adding = world.engine().for_device(&device).event_add(event(13, number, "{}"), is_acknowledged);
        block_on(adding).map(drop)
    };
    assert!(is_refused(add(&world, 1, false)));
    assert!(world.outside.counts.of(Event::Refused(Refusal::Quota)) >= 2);
    assert!(add(&world, 2, true).is_ok(), "a broker has acknowledged it");
    assert!(world.finish(&device, tasks[0].id, result(200, 0, "body")).unwrap().finished.is_some());
    assert!(world.create_as(0, lasting(&other, 1)).is_ok());
    let before = kept(&world);
    world.restart();
    count(&world);
    assert_eq!(kept(&world), before);
    // It is let through until the store has said what it keeps.
    world.create(lasting(&device, 1));
    count(&world);
    assert!(is_refused(world.create_as(0, lasting(&device, 1)).map(drop)));
    for task in &tasks[1..3] {
        world.delete(0, task.id).unwrap();
    }
    assert!(world.create_as(0, large(&device)).is_ok());
    world.pass_ms(92 * DAY_MS);
    assert_eq!(kept(&world), [0], "all of it is too old");
}

pub fn an_organisation_has_a_quota_over_all_its_devices(backend: impl Backend) {
    let world = World::with_limits(backend, Limits { org_bytes_max: 6_000, ..Limits::default() });
    let devices = [(); 3].map(|()| world.device(0));
    count(&world);
    for device in &devices {
        world.create(large(device));
    }
    assert!(matches!(world.create_as(0, lasting(&devices[0], 1)), Err(Error::OverQuota { .. })));
    let foreign = world.device(1);
    assert!(world.create_as(1, lasting(&foreign, 1)).is_ok());
}
