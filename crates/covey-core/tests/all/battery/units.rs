//! TCP units: which are listed, and which server speaks with them.

use covey_core::Error;
use covey_core::access::Rights;
use covey_core::error::Result;
use covey_core::id::UnitId;
use covey_core::port::PageRequest;
use covey_core::unit::{UNIT_LEASE_MS, Unit, UnitFilter, UnitKind, UnitPlace, UnitSpec, unit_name};
use futures_executor::block_on;

use crate::world::{Backend, NO_UNIT, World};

fn place(address: &str) -> UnitPlace {
    let (address, resource) = (address.parse().unwrap(), "value".to_owned());
    UnitPlace { address, kind: UnitKind::Read, resource }
}

fn add(world: &World, name: Option<&str>, address: &str) -> Result<Unit> {
    let spec = UnitSpec { name: name.map(ToOwned::to_owned), place: place(address) };
    block_on(world.engine().for_caller(world.org(0)).unit_add(spec))
}

fn set(world: &World, org: usize, id: UnitId, place: UnitPlace) -> Result<Unit> {
    block_on(world.engine().for_caller(world.org(org)).unit_set(id, place))
}

fn remove(world: &World, org: usize, id: UnitId) -> Result<Unit> {
    block_on(world.engine().for_caller(world.org(org)).unit_remove(id))
}

fn units(world: &World, org: usize, filter: UnitFilter) -> Vec<Unit> {
    let page = PageRequest { page: 1, size: 1_000 };
    let found = block_on(world.engine().for_caller(world.org(org)).unit_list(filter, page)).unwrap();
    assert_eq!(found.total, found.items.len() as u64);
    found.items
}

fn all(world: &World) -> Vec<Unit> {
    units(world, 0, UnitFilter::default())
}

pub fn a_unit_that_is_listed_is_there_after_a_restart_and_gateways_are_told(backend: impl Backend) {
    let mut world = World::new(backend);
    let lamp = add(&world, Some("lamp"), "192.0.2.7:8888").unwrap();
    let other = add(&world, None, "[2001:db8::7]:9000").unwrap();
    assert_eq!(
        (other.name.uid(), other.kind, other.speaker.clone()),
        ("[2001:db8::7]:9000", UnitKind::Read, None)
    );
    assert_eq!(lamp.created_at, world.now());
    let org = world.org(0).org;
    let told = |name: &str| (org, unit_name(name).unwrap());
    assert_eq!(world.link.changed(), [told("lamp"), told("[2001:db8::7]:9000")]);
    world.restart();
    assert_eq!(all(&world), [lamp.clone(), other.clone()]);
    assert_eq!(block_on(world.engine().server().units_of(org)).unwrap(), all(&world));
    for (filter, found) in [
        (UnitFilter { name: Some("lamp".to_owned()), ..UnitFilter::default() }, vec![lamp.clone()]),
        (UnitFilter { id: Some(other.id), ..UnitFilter::default() }, vec![other.clone()]),
        (UnitFilter { name: Some("no\0".to_owned()), ..UnitFilter::default() }, vec![]),
    ] {
        assert_eq!(units(&world, 0, filter), found);
    }
    let to = UnitPlace { kind: UnitKind::Update, resource: "color".to_owned(), ..place("192.0.2.8:9001") };
    let moved = set(&world, 0, lamp.id, to.clone()).unwrap();
    assert_eq!((moved.address, moved.kind, &moved.resource), (to.address, to.kind, &to.resource));
    assert_eq!((moved.id, &moved.name, moved.created_at), (lamp.id, &lamp.name, lamp.created_at));
    assert_eq!(all(&world), [moved.clone(), other]);
    assert_eq!(world.link.changed(), [told("lamp")]);
    assert_eq!(remove(&world, 0, lamp.id), Ok(moved));
    assert_eq!(world.link.changed(), [told("lamp")]);
    assert_eq!(remove(&world, 0, lamp.id), Err(Error::not_found("unit")));
    assert_eq!(set(&world, 0, lamp.id, to), Err(Error::not_found("unit")));
    assert_eq!(world.link.changed(), []);
    assert_eq!(all(&world).len(), 1);
}

pub fn no_two_units_have_one_name_or_one_address(backend: impl Backend) {
    let world = World::new(backend);
    add(&world, Some("a"), "192.0.2.7:8888").unwrap();
    let b = add(&world, Some("b"), "192.0.2.7:9000").unwrap();
    assert!(matches!(add(&world, Some("a"), "192.0.2.8:8888"), Err(Error::Conflict { .. })));
    assert!(matches!(add(&world, Some("c"), "192.0.2.7:9000"), Err(Error::Conflict { .. })));
    assert!(matches!(set(&world, 0, b.id, place("192.0.2.7:8888")), Err(Error::Conflict { .. })));
    // Its own address is none of another.
    assert!(set(&world, 0, b.id, UnitPlace { kind: UnitKind::Update, ..place("192.0.2.7:9000") }).is_ok());
    assert_eq!(all(&world).len(), 2);
    let foreign = UnitSpec { name: Some("a".to_owned()), place: place("192.0.2.7:8888") };
    assert!(
        block_on(world.engine().for_caller(world.org(1)).unit_add(foreign)).is_ok(),
        "of another organisation"
    );
}

pub fn a_unit_is_where_units_may_be(backend: impl Backend) {
    let world = World::new(backend);
    let field = |outcome: Result<Unit>| match outcome {
        Err(Error::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(add(&world, None, NO_UNIT)), "address");
    assert_eq!(field(add(&world, None, "0.0.0.0:8888")), "address");
    assert_eq!(field(add(&world, None, "192.0.2.7:0")), "port");
    assert_eq!(field(add(&world, Some(""), "192.0.2.7:8888")), "name");
    let unit = add(&world, None, "192.0.2.7:8888").unwrap();
    assert_eq!(field(set(&world, 0, unit.id, place(NO_UNIT))), "address");
    let named = UnitPlace { resource: "a b".to_owned(), ..place("192.0.2.7:8888") };
    assert_eq!(field(set(&world, 0, unit.id, named)), "resource");
    assert_eq!(all(&world), [unit]);
}

pub fn one_server_speaks_with_the_units_of_an_organisation(backend: impl Backend) {
    let world = World::new(backend);
    add(&world, None, "192.0.2.7:8888").unwrap();
    let org = world.org(0).org;
    let claim = |server: &str| block_on(world.engine().server().unit_gateway_claim(org, server)).unwrap();
    let speaker = || all(&world)[0].speaker.clone().map(|(server, _)| server);
    assert_eq!(speaker(), None);
    assert!(claim("a") && claim("a"), "it says so again");
    assert!(!claim("b"), "another has them");
    assert_eq!(speaker().as_deref(), Some("a"));
    world.pass_ms(UNIT_LEASE_MS - 1);
    assert!(!claim("b"));
    world.pass_ms(1);
    assert_eq!(speaker(), None, "nobody said so again");
    assert!(claim("b") && !claim("a"));
    // Who has not got them cannot give them back.
    block_on(world.engine().server().unit_gateway_release(org, "a")).unwrap();
    assert!(!claim("a"));
    block_on(world.engine().server().unit_gateway_release(org, "b")).unwrap();
    assert_eq!(speaker(), None);
    assert!(claim("a"));
    let others = world.org(1).org;
    assert!(
        block_on(world.engine().server().unit_gateway_claim(others, "b")).unwrap(),
        "another organisation's"
    );
}

pub fn units_of_others_are_neither_seen_nor_changed(backend: impl Backend) {
    let world = World::new(backend);
    let unit = add(&world, Some("lamp"), "192.0.2.7:8888").unwrap();
    assert_eq!(units(&world, 1, UnitFilter::default()), []);
    assert_eq!(set(&world, 1, unit.id, place("192.0.2.8:8888")), Err(Error::not_found("unit")));
    // Whether an address is one of the server's is told to those alone who may set it.
    assert_eq!(set(&world, 1, unit.id, place(NO_UNIT)), Err(Error::not_found("unit")));
    assert_eq!(remove(&world, 1, unit.id), Err(Error::not_found("unit")));
    let mut reader = world.org(0).clone();
    reader.rights = Rights::GATEWAYS_READ;
    let asked = block_on(world.engine().for_caller(&reader).unit_remove(unit.id));
    assert_eq!(asked, Err(Error::Forbidden { right: "gateways:write" }));
    reader.rights = Rights(Rights::ALL.0 & !Rights::GATEWAYS_READ.0);
    let page = PageRequest { page: 1, size: 1 };
    let asked = block_on(world.engine().for_caller(&reader).unit_list(UnitFilter::default(), page));
    assert_eq!(asked.map(drop), Err(Error::Forbidden { right: "gateways:read" }));
    assert_eq!(all(&world), [unit]);
}
