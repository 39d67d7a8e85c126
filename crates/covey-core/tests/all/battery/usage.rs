//! What was used: of whom it is told, for how long, and which devices are told apart.

use covey_core::Error;
use covey_core::access::Rights;
use covey_core::budget::Weight;
use covey_core::usage::{USAGE_DAYS_MAX, Usage, day_of};
use futures_executor::block_on;

use crate::world::steps::run;
use crate::world::{Backend, World, spec};

const DAY_MS: i64 = 86_400_000;

fn settle(world: &World) {
    while block_on(world.engine().server().usage_step()).unwrap() {}
}

/// What the first organisation has used on a day.
fn used(world: &World, day: i64) -> Usage {
    let report = block_on(world.engine().for_caller(world.org(0)).usage(None, Some(day), Some(day))).unwrap();
    report.total()
}

pub fn what_was_used_is_kept_for_400_days(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = world.device(0);
    let first = day_of(world.now());
    world.create(spec(&device));
    world.engine().for_device(&device).charge(Weight::PING).unwrap();
    world.settle();
    let known = used(&world, first);
    assert_eq!((known.tasks_created, known.active_devices), (1, 1));
    world.pass_ms((USAGE_DAYS_MAX - 1) * DAY_MS);
    settle(&world);
    assert_eq!(used(&world, first), known);
    world.restart();
    assert_eq!(used(&world, first), known);
    world.pass_ms(DAY_MS);
    settle(&world);
    assert_eq!(used(&world, first), Usage::default());
}

pub fn many_devices_are_counted_once_each_however_they_are_settled(backend: impl Backend) {
    let world = World::new(backend);
    let (today, org) = (day_of(world.now()), world.org(0).org);
    // More than one transaction settles.
    const DEVICES: i64 = 2_500;
    for _ in 0..2 {
        run(&world, move |tx| {
            (0..DEVICES).try_for_each(|key| tx.usage_heard(org, covey_core::id::DeviceKey(key)))
        });
    }
    assert_eq!(used(&world, today).active_devices, DEVICES);
    world.pass_ms(2 * DAY_MS);
    for _ in 0..4 {
        block_on(world.engine().server().usage_step()).unwrap();
        assert_eq!(used(&world, today).active_devices, DEVICES);
    }
    let steps = (0..2).map(|_| block_on(world.engine().server().usage_step()).unwrap());
    assert!(steps.into_iter().all(|is_more| !is_more));
}

pub fn nobody_is_told_what_another_organisation_has_used(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    world.create(spec(&device));
    let (own, other) = (world.org(0).clone(), world.org(1).clone());
    let total = |caller: &covey_core::access::Caller, org| {
        let report = block_on(world.engine().for_caller(caller).usage(org, None, None));
        report.map(|report| (report.org, report.days.len(), report.total().tasks_created))
    };
    assert_eq!(total(&own, None), Ok((own.org, 30, 1)));
    assert_eq!(total(&other, None), Ok((other.org, 30, 0)));
    assert_eq!(total(&other, Some(own.org)), Ok((own.org, 30, 1)), "it has orgs:admin");
    let mut bound = other.clone();
    bound.rights = Rights::AUDIT_READ;
    assert_eq!(total(&bound, Some(own.org)), Err(Error::not_found("organisation")));
    assert_eq!(total(&bound, Some(bound.org)), Ok((other.org, 30, 0)));
    let unknown = covey_core::id::OrgId(4_711);
    assert_eq!(total(&other, Some(unknown)), Err(Error::not_found("organisation")));
    bound.rights = Rights::TASKS_READ;
    assert!(matches!(total(&bound, None), Err(Error::Forbidden { .. })));
    let today = day_of(world.now());
    for (from, to) in [
        (Some(today), Some(today - 1)),
        (Some(today - 400), Some(today)),
        (None, Some(i64::MAX)),
        (Some(i64::MIN), None),
        (None, Some(0)),
    ] {
        let found = block_on(world.engine().for_caller(&own).usage(None, from, to));
        assert!(matches!(found, Err(Error::Invalid { .. })), "{from:?} {to:?} {found:?}");
    }
}
