//! Limits of organisations' and keys' own: who sets them, that they hold, and that other servers learn of them.

use covey_core::Error;
use covey_core::access::{Caller, Rights};
use covey_core::audit::{AuditFilter, AuditReader, AuditRequest};
use covey_core::budget::{Budgets, Weight};
use covey_core::own_limits::{LimitHolder, LimitName, OwnLimits};
use futures_executor::block_on;

use super::quotas::{count, large};
use crate::world::{Backend, World, lasting};

fn of(name: LimitName, limit: u64) -> OwnLimits {
    OwnLimits::default().with(name, Some(limit))
}

fn put(world: &World, org: usize, limits: OwnLimits) {
    let caller = world.engine().for_caller(world.org(0));
    block_on(caller.org_limits_put(world.org(org).org, limits)).unwrap();
}

/// A key of the second organisation that may do everything but what runs the deployment.
fn bound(world: &World) -> Caller {
    let rights = Rights(Rights::ALL.0 & !Rights::ORGS_ADMIN.0);
    let made =
        block_on(world.engine().for_caller(world.org(1)).api_key_add("second", "bound", rights)).unwrap();
    Caller::of(&made.key)
}

pub fn who_keeps_an_organisations_keys_sets_their_limits_and_none_above_its_own(backend: impl Backend) {
    let world = World::new(backend);
    let (own, foreign) = (world.org(1).org, world.org(0).org);
    let bound = bound(&world);
    let caller = world.engine().for_caller(&bound);
    let streams = |limit| of(LimitName::Streams, limit);
    let key = world.org(0).id.0;
    assert_eq!(block_on(caller.org_limits(own)), Ok(OwnLimits::default()));
    assert!(matches!(block_on(caller.org_limits_put(own, streams(9))), Err(Error::Forbidden { .. })));
    assert_eq!(block_on(caller.org_limits(foreign)), Err(Error::not_found("organisation")));
    assert_eq!(block_on(caller.key_limits(key)), Err(Error::not_found("key")));
    assert_eq!(block_on(caller.key_limits_put(key, streams(1))), Err(Error::not_found("key")));
    let of_operator = world.org(1).id.0;
    assert!(matches!(block_on(caller.key_limits_put(of_operator, streams(1))), Err(Error::Forbidden { .. })));
    put(&world, 1, streams(9));
    assert!(matches!(block_on(caller.key_limits_put(bound.id.0, streams(10))), Err(Error::Invalid { .. })));
    assert_eq!(block_on(caller.key_limits_put(bound.id.0, streams(9))), Ok(own));
    assert_eq!(block_on(caller.key_limits(bound.id.0)), Ok((own, streams(9))));
    for bad in [0, u64::MAX] {
        assert!(matches!(
            block_on(caller.key_limits_put(bound.id.0, streams(bad))),
            Err(Error::Invalid { .. })
        ));
    }
    let unknown = covey_core::id::OrgId(4_711);
    let root = world.engine().for_caller(world.org(0));
    assert_eq!(block_on(root.org_limits_put(unknown, streams(1))), Err(Error::not_found("organisation")));
    // A key that was revoked has none any more.
    let server = world.engine().server();
    assert_eq!(server.limits_of(LimitHolder::Key(bound.id)), streams(9));
    block_on(root.api_key_revoke(bound.id.0)).unwrap();
    put(&world, 1, OwnLimits::default());
    assert_eq!(server.limits_of(LimitHolder::Key(bound.id)), OwnLimits::default());
    let filter = AuditFilter { org: Some(own), ..AuditFilter::default() };
    let told =
        block_on(world.store().audit_list_of_every_org(AuditRequest { filter, before: None, size: 100 }))
            .unwrap();
    let actions: Vec<_> = told.items.iter().map(|placed| placed.entry.action.to_string()).collect();
    let count = |name| actions.iter().filter(|action| action.as_str() == name).count();
    assert_eq!((count("org.limits"), count("key.limits")), (2, 1), "{actions:?}");
}

pub fn what_an_organisation_may_keep_and_have_open_is_its_own(backend: impl Backend) {
    let mut world = World::new(backend);
    let (device, foreign) = (world.device(0), world.device(1));
    count(&world);
    put(&world, 0, of(LimitName::OpenTasks, 2).with(LimitName::KeptBytes, Some(5_000)));
    for _ in 0..2 {
        world.create(lasting(&device, 10));
        world.create_as(1, lasting(&foreign, 10)).unwrap();
    }
    assert!(matches!(world.create_as(0, lasting(&device, 10)), Err(Error::Exhausted { .. })));
    assert!(world.create_as(1, lasting(&foreign, 10)).is_ok());
    let other = world.device(0);
    for _ in 0..2 {
        world.create(large(&other));
    }
    let another = world.device(0);
    assert!(world.create_as(0, large(&another)).is_ok());
    assert!(matches!(world.create_as(0, large(&another)), Err(Error::OverQuota { .. })));
    world.restart();
    block_on(world.engine().server().limits_step()).unwrap();
    count(&world);
    assert!(matches!(world.create_as(0, lasting(&device, 10)), Err(Error::OverQuota { .. })));
    put(&world, 0, OwnLimits::default());
    assert!(world.create_as(0, lasting(&device, 10)).is_ok());
}

pub fn what_an_organisation_may_ask_is_its_own(backend: impl Backend) {
    let mut world = World::new(backend);
    world.budgets = Budgets::unbounded();
    world.restart();
    let device = world.device(0);
    let taken = |world: &World| {
        let charge = |_: &u32| world.engine().for_device(&device).charge(Weight::event(1, 0)).is_ok();
        (0..200_u32).filter(charge).count()
    };
    assert_eq!(taken(&world), 200);
    put(&world, 0, of(LimitName::WorkPerS, 5));
    assert_eq!(taken(&world), 50, "ten seconds' worth at once");
    world.pass_ms(2_000);
    assert_eq!(taken(&world), 10);
    put(&world, 0, OwnLimits::default());
    assert_eq!(taken(&world), 200);
}
