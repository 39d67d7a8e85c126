//! The registry: numbers, certificates, presence, tags, keys.

use covey_core::Error;
use covey_core::access::recovery;
use covey_core::access::{
    Access, AdminKeyRecover, ApiKey, ApiKeyAdd, Caller, KeyBounds, LAST_USED_GRAIN_MS, Rights,
    ShownCertificate,
};
use covey_core::audit::AuditActor;
use covey_core::device::{CertificateSpec, Connection, DeviceFilter, DeviceSpec, TAGS_MAX, Tag};
use covey_core::id::{CallerId, DeviceId, Sn};
use futures_executor::block_on;

use crate::world::parts::{Outside, digest};
use crate::world::{Backend, World, connection, result, spec};

fn named(sn: &str, device_id: Option<i64>) -> DeviceSpec {
    DeviceSpec { sn: Some(Sn::parse(sn).unwrap()), device_id, ..DeviceSpec::default() }
}

fn tag(tag: &str, value: &str) -> Tag {
    Tag { tag: tag.to_owned(), value: value.to_owned() }
}

pub fn numbers_and_serial_numbers_are_unique(backend: impl Backend) {
    let world = World::new(backend);
    let number = |org, spec| world.register(org, spec).map(|(device, _)| device.identity.device_id.0);
    assert_eq!(number(0, named("a", None)).unwrap(), 1);
    assert_eq!(number(0, named("b", Some(10))).unwrap(), 10);
    assert_eq!(number(0, named("c", None)).unwrap(), 11);
    // A number is the organisation's own, a serial number is everyone's.
    assert_eq!(number(1, named("d", Some(10))).unwrap(), 10);
    assert_eq!(number(1, named("a", None)), Err(Error::SnTaken));
    assert_eq!(number(0, named("a", None)), Err(Error::SnTaken));
    for reserved in ["dev", "SRV", "server", "Node", "gateway"] {
        assert!(
            matches!(number(0, named(reserved, None)), Err(Error::Invalid { field: "sn", .. })),
            "{reserved}"
        );
    }
    assert!(matches!(number(0, named("e", Some(10))), Err(Error::Conflict { .. })));
    // The number of a retired device is not given to the next one by itself.
    block_on(world.engine().for_caller(world.org(0)).device_retire(DeviceId(11))).unwrap();
    assert_eq!(number(0, named("f", None)).unwrap(), 12);
    let highest = covey_core::device::DEVICE_ID_MAX;
    assert_eq!(number(0, named("g", Some(highest))).unwrap(), highest);
    assert!(matches!(number(0, named("h", None)), Err(Error::Invalid { field: "device_id", .. })));
}

pub fn a_revoked_certificate_admits_nobody(backend: impl Backend) {
    let mut world = World::new(backend);
    let (device, serial) = world.register(0, named("a", None)).unwrap();
    let (_, other_serial) = world.register(0, named("b", None)).unwrap();
    let sn = Sn::parse("a").unwrap();
    let admit =
        |world: &World, serial: &str| block_on(world.engine().server().device_admit(&sn, serial)).unwrap();
    assert_eq!(admit(&world, &serial), Some(device.identity.clone()));
    assert_eq!(admit(&world, &other_serial), None, "a certificate of another device");
    assert_eq!(admit(&world, "ffff"), None);
    let retired =
        block_on(world.engine().for_caller(world.org(0)).device_retire(device.identity.device_id)).unwrap();
    assert_eq!(retired, device.identity);
    assert_eq!(world.link.revoked(), std::slice::from_ref(&sn));
    assert_eq!(admit(&world, &serial), None);
    let again = block_on(world.engine().for_caller(world.org(0)).device_retire(device.identity.device_id));
    assert_eq!(again.unwrap_err(), Error::not_found("device"));
    world.restart();
    assert_eq!(admit(&world, &serial), None);
}

pub fn a_device_without_a_certificate_is_called_and_not_admitted(backend: impl Backend) {
    let world = World::new(backend);
    let certificate = CertificateSpec::None;
    let node = DeviceSpec { certificate, ..named("sensor", None) };
    let registered = block_on(world.engine().for_caller(world.org(0)).device_register(node)).unwrap();
    assert!(registered.1.is_none());
    let node = registered.0.identity;
    world.create(spec(&node));
    let (device, _) = world.register(0, named("a", None)).unwrap();
    let server = world.engine().server();
    assert_eq!(block_on(server.device_of_sn(&node.sn)).unwrap(), None);
    assert_eq!(block_on(server.device_of_sn(&device.identity.sn)).unwrap(), Some(device.identity.clone()));
    let registered = |sn: &Sn| block_on(server.device_of_name(sn)).unwrap().map(|found| found.identity);
    assert_eq!(
        (registered(&node.sn), registered(&device.identity.sn)),
        (Some(node.clone()), Some(device.identity.clone()))
    );
    assert_eq!(block_on(server.device_sns(None, 10)).unwrap(), [device.identity.sn], "accounts at a broker");
    // The serial number is taken all the same.
    assert_eq!(world.register(1, named("sensor", None)).unwrap_err(), Error::SnTaken);
    assert!(block_on(world.engine().for_caller(world.org(0)).device_retire(node.device_id)).is_ok());
    assert_eq!(registered(&node.sn), None);
}

pub fn a_reused_serial_number_inherits_nothing(backend: impl Backend) {
    let world = World::new(backend);
    let (old, old_serial) = world.register(0, named("a", None)).unwrap();
    let old = old.identity;
    let task = world.create(spec(&old));
    block_on(world.engine().for_caller(world.org(0)).tag_put(old.device_id, tag("site", "north"))).unwrap();
    block_on(world.engine().for_caller(world.org(0)).device_retire(old.device_id)).unwrap();
    // Even another organisation may have it now.
    let (new, new_serial) = world.register(1, named("a", Some(old.device_id.0))).unwrap();
    assert!(new.tags.is_empty());
    let new = new.identity;
    assert_ne!(new.device, old.device);
    assert!(world.poll(&new).is_none());
    assert!(world.request(&new, task.id).is_none());
    assert!(world.finish(&new, task.id, result(200, 0, "")).is_err());
    world.listen(&new);
    assert!(world.announced().is_empty());
    let admit = |serial: &str| block_on(world.engine().server().device_admit(&new.sn, serial)).unwrap();
    assert_eq!(admit(&old_serial), None);
    assert_eq!(admit(&new_serial), Some(new.clone()));
    let listed = world.devices(1, DeviceFilter::default()).items;
    assert_eq!((listed.len(), listed[0].tags.len()), (1, 0));
    assert!(world.devices(0, DeviceFilter::default()).items.is_empty());
}

pub fn presence_keeps_the_instant_of_the_last_connect(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = world.device(0);
    let presence = |world: &World| {
        // Presence is written behind the caller's back; a write after it waits for it.
        block_on(world.engine().for_caller(world.org(0)).tag_put(device.device_id, tag("t", ""))).unwrap();
        world.devices(0, DeviceFilter::default()).items[0].presence.clone()
    };
    assert_eq!(presence(&world), None);
    let connected_at = world.now();
    let details = vec![("address".to_owned(), "127.0.0.1".to_owned())];
    world.engine().for_device(&device).connected(Connection { details: details.clone(), ..connection("a") });
    let online = presence(&world).unwrap();
    assert!(online.online);
    assert_eq!((online.connected_at, online.details), (Some(connected_at), details));
    world.pass_ms(5_000);
    world.engine().for_device(&device).disconnected(connection("a"));
    let offline = presence(&world).unwrap();
    assert!(!offline.online);
    assert_eq!((offline.connected_at, offline.checked_at), (Some(connected_at), world.now()));
    world.engine().for_device(&device).connected(connection("b"));
    assert_eq!(presence(&world).unwrap().connected_at, Some(world.now()));
    // A late word of the earlier connection ends nothing.
    world.engine().for_device(&device).disconnected(connection("a"));
    assert!(presence(&world).unwrap().online);
    let told_again = world.engine().for_device(&device).connected_to_broker(connection("b"));
    assert!(!block_on(told_again).unwrap(), "one server is first to tell of a connection");
    // A server that has just started holds no connection.
    let of = |online| DeviceFilter { online: Some(online), ..DeviceFilter::default() };
    assert_eq!(world.devices(0, of(true)).total, 1);
    let connected_at = world.now();
    world.restart();
    let after = presence(&world).unwrap();
    assert_eq!((after.online, after.connected_at), (false, Some(connected_at)));
    assert_eq!((world.devices(0, of(true)).total, world.devices(0, of(false)).total), (0, 1));
}

pub fn tags_are_set_replaced_and_bounded(backend: impl Backend) {
    let world = World::new(backend);
    let tags = vec![tag("b", "1"), tag("a", "2"), tag("b", "3")];
    let (device, _) = world.register(0, DeviceSpec { tags, ..DeviceSpec::default() }).unwrap();
    let other = world.device(0);
    assert_eq!(device.tags, [tag("a", "2"), tag("b", "3")]);
    let id = device.identity.device_id;
    let put = |device_id, tag| block_on(world.engine().for_caller(world.org(0)).tag_put(device_id, tag));
    let number = put(id, tag("a", "4")).unwrap();
    assert_eq!(put(id, tag("a", "5")).unwrap(), number, "the same tag");
    assert_ne!(put(other.device_id, tag("a", "5")).unwrap(), number);
    let found = |tag: &str, value: Option<&str>| {
        let tag = Some((tag.to_owned(), value.map(ToOwned::to_owned)));
        world.devices(0, DeviceFilter { tag, ..DeviceFilter::default() }).total
    };
    assert_eq!((found("a", None), found("a", Some("5")), found("a", Some("4"))), (2, 2, 0));
    assert_eq!((found("b", Some("3")), found("c", None)), (1, 0));
    for number in 2..TAGS_MAX {
        put(id, tag(&format!("t{number}"), "")).unwrap();
    }
    assert!(matches!(put(id, tag("more", "")), Err(Error::Invalid { field: "tag", .. })));
    put(id, tag("a", "6")).unwrap();
    let stranger = block_on(world.engine().for_caller(world.org(1)).tag_put(id, tag("a", "7")));
    assert_eq!(stranger.unwrap_err(), Error::not_found("device"));
    assert_eq!(found("a", Some("6")), 1);
}

pub fn api_keys_are_known_until_they_are_revoked(backend: impl Backend) {
    let mut world = World::new(backend);
    let root = world.org(0).clone();
    let made = block_on(world.engine().for_caller(&root).api_key_add("second", "reader", Rights::TASKS_READ))
        .unwrap();
    assert_eq!(made.key.org, world.org(1).org, "an organisation of that name is there");
    world.restart();
    let check = |world: &World, text: &str| block_on(world.engine().server().api_key_check(text)).unwrap();
    assert_eq!(check(&world, &made.clear_text), Some(made.key.clone()));
    assert_eq!(check(&world, "wrong"), None);
    let small = Caller { rights: Rights::KEYS_WRITE, ..root.clone() };
    assert!(block_on(world.engine().for_caller(&small).api_key_add("first", "more", Rights::ALL)).is_err());
    let keys = block_on(world.engine().for_caller(&root).api_key_list()).unwrap();
    assert!(keys.contains(&made.key));
    let revoke = |id| block_on(world.engine().for_caller(&root).api_key_revoke(id));
    let [first, second, ..] = &keys[..] else { panic!("{keys:?}") };
    assert_eq!((first.rights, second.rights), (Rights::ALL, Rights::ALL));
    revoke(first.id).unwrap();
    assert_eq!(revoke(second.id), Err(Error::LastKey), "nobody could make keys for every organisation");
    revoke(made.key.id).unwrap();
    assert_eq!(check(&world, "key-2").map(|key| key.id), Some(second.id));
    assert_eq!(check(&world, &made.clear_text), None);
    assert_eq!(
        block_on(world.engine().for_caller(&root).api_key_revoke(made.key.id)).unwrap_err(),
        Error::not_found("key")
    );
    // A key that was revoked does not come back as the first one, and counts as one that was there.
    let server = world.engine().server();
    assert!(block_on(server.api_key_exists()).unwrap());
    assert!(!block_on(server.api_key_first("first", "first", &made.clear_text)).unwrap());
    assert_eq!(check(&world, &made.clear_text), None);
}

pub fn api_keys_have_an_end_and_places_and_make_none_that_has_less_of_either(backend: impl Backend) {
    let mut world = World::new(backend);
    let (root, now) = (world.org(0).clone(), world.now());
    let bounds = |expires_in_ms: Option<i64>, addresses: &[&str]| KeyBounds {
        expires_at: expires_in_ms.map(|ms| now.plus_ms(ms)),
        addresses: KeyBounds::addresses_of(addresses.iter().copied()).unwrap(),
    };
    let make = |world: &World, caller: &Caller, bounds| {
        let access = Access { rights: Rights::ALL, bounds, ..Access::default() };
        block_on(world.engine().for_caller(caller).api_key_add("first", "bound", access))
    };
    let made = make(&world, &root, bounds(Some(1_000), &["10.0.0.0/8", "fd00::1"])).unwrap();
    assert_eq!(made.key.bounds, bounds(Some(1_000), &["10.0.0.0/8", "fd00::1"]));
    world.restart();
    let found = block_on(world.engine().server().api_key_check(&made.clear_text)).unwrap();
    assert_eq!(found.as_ref(), Some(&made.key));
    let keys = block_on(world.engine().for_caller(&root).api_key_list()).unwrap();
    assert!(keys.contains(&made.key));

    let bound = Caller::of(&made.key);
    let refused = |field, bounds| {
        let refused = make(&world, &bound, bounds).map(|made| made.key);
        assert!(matches!(refused, Err(Error::Invalid { field: found, .. }) if found == field), "{refused:?}");
    };
    refused("expires_at", bounds(None, &["10.0.0.0/8"]));
    refused("expires_at", bounds(Some(1_001), &["10.0.0.0/8"]));
    refused("addresses", bounds(Some(1_000), &[]));
    refused("addresses", bounds(Some(1_000), &["10.1.0.0/16", "11.0.0.1"]));
    refused("expires_at", bounds(Some(0), &["10.1.0.0/16"]));
    let short = make(&world, &bound, bounds(Some(500), &["10.1.0.0/16"])).unwrap().key;

    let valid = |world: &World| block_on(world.engine().server().callers_valid()).unwrap();
    assert!(valid(&world).contains(&bound.id) && valid(&world).contains(&CallerId(short.id)));
    world.pass_ms(500);
    assert!(valid(&world).contains(&bound.id) && !valid(&world).contains(&CallerId(short.id)));

    // A key that is valid from some addresses, or no longer, is not the one that keeps the door open.
    let revoke = |id| block_on(world.engine().for_caller(&root).api_key_revoke(id));
    let open: Vec<_> = keys.iter().filter(|key| key.bounds == KeyBounds::default()).collect();
    let [first, second] = &open[..] else { panic!("{open:?}") };
    revoke(first.id).unwrap();
    assert_eq!(revoke(second.id), Err(Error::LastKey));
    revoke(short.id).unwrap();
    revoke(made.key.id).unwrap();
    let soon = KeyBounds { expires_at: Some(world.now().plus_ms(1_000)), ..KeyBounds::default() };
    make(&world, &root, soon).unwrap();
    world.pass_ms(1_000);
    assert_eq!(revoke(second.id), Err(Error::LastKey), "the other one has expired");
    make(&world, &root, KeyBounds::default()).unwrap();
    revoke(second.id).unwrap();
}

pub fn who_keeps_the_keys_of_an_organisation_reaches_no_other(backend: impl Backend) {
    let world = World::new(backend);
    let (root, rights) = (world.org(0).clone(), Rights(Rights::KEYS_WRITE.0 | Rights::TASKS_READ.0));
    let of = |caller: &Caller, org: &str, rights| {
        block_on(world.engine().for_caller(caller).api_key_add(org, "made", rights)).map(|made| made.key)
    };
    let revoke = |caller: &Caller, id| block_on(world.engine().for_caller(caller).api_key_revoke(id));
    let forbidden = |right| Error::Forbidden { right };
    let keeper = Caller::of(&of(&root, "first", rights).unwrap());
    let theirs = of(&root, "second", Rights::TASKS_READ).unwrap();

    assert_eq!(of(&keeper, "second", Rights::TASKS_READ), Err(forbidden("orgs:admin")));
    assert_eq!(
        of(&keeper, "new", Rights::TASKS_READ),
        Err(forbidden("orgs:admin")),
        "nor makes it organisations"
    );
    assert!(of(&keeper, "first", Rights::TASKS_WRITE).is_err(), "more than it may do itself");
    assert!(of(&keeper, "first", Rights::ORGS_ADMIN).is_err());
    assert_eq!(revoke(&keeper, theirs.id), Err(Error::not_found("key")));
    assert_eq!(revoke(&keeper, root.id.0), Err(forbidden("orgs:admin")), "whoever runs the deployment");
    let seen = block_on(world.engine().for_caller(&keeper).api_key_list()).unwrap();
    assert!(seen.len() == 2 && seen.iter().all(|key| key.org == root.org), "{seen:?}");

    let own = of(&keeper, "first", Rights::TASKS_READ).unwrap();
    revoke(&keeper, own.id).unwrap();
    revoke(&root, theirs.id).unwrap();
    revoke(&root, keeper.id.0).unwrap();
}

pub fn a_certificate_loses_its_rights_with_its_device(backend: impl Backend) {
    let world = World::new(backend);
    let root = world.engine().for_caller(world.org(0));
    let (device, serial) = world.register(0, named("a", None)).unwrap();
    let (_, other_serial) = world.register(0, named("b", None)).unwrap();
    let add_with = |name: &str, rights: Rights, serial: &str| {
        block_on(root.credential_add("first", name, rights, &format!("certificate:{name}"), serial))
    };
    let add = |name: &str, serial: &str| add_with(name, Rights::TASKS_READ, serial);
    let refused = add_with("a", Rights::ALL, &serial);
    assert!(
        matches!(refused, Err(Error::Invalid { field: "rights", .. })),
        "who keeps all keys does not go with a device: {refused:?}"
    );
    add_with("another root", Rights::ALL, "1badc0de").unwrap();
    add("a", &serial).unwrap();
    add("b", &other_serial).unwrap();
    add("foreign", "0badc0de").unwrap();
    // Registered before serial numbers were kept, and used since.
    let (older, older_serial) = world.register(0, named("c", None)).unwrap();
    let use_older = |key: &ApiKey| {
        world.pass_ms(LAST_USED_GRAIN_MS);
        world.engine().server().api_key_used(key, Some(ShownCertificate::of("", older_serial.clone())));
        assert!(block_on(world.engine().server().api_key_exists()).unwrap(), "what came before is committed");
    };
    let (first, second) = (
        block_on(root.api_key_add("first", "1", Rights::TASKS_READ)),
        block_on(root.api_key_add("first", "2", Rights::TASKS_READ)),
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    use_older(&first.key);
    block_on(root.device_retire(older.identity.device_id)).unwrap();
    let check = |text: &str| block_on(world.engine().server().api_key_check(text)).unwrap().is_some();
    assert_eq!((check(&first.clear_text), check(&second.clear_text)), (false, true));
    use_older(&second.key);
    assert!(!check(&second.clear_text), "it was retired before");
    let is_valid = |name: &str| {
        block_on(world.engine().server().api_key_check(&format!("certificate:{name}"))).unwrap().is_some()
    };
    assert!(["a", "b", "foreign"].into_iter().all(is_valid));
    block_on(root.device_retire(device.identity.device_id)).unwrap();
    assert_eq!(["a", "b", "foreign"].map(is_valid), [false, true, true]);
    assert!(matches!(add("again", &serial), Err(Error::Invalid { field: "certificate_pem", .. })));
}

pub fn an_organisation_is_told_of_taken_serial_numbers_so_often_a_minute(backend: impl Backend) {
    let world = World::new(backend);
    world.register(0, named("a", None)).unwrap();
    let probe = || world.register(1, named("a", None)).unwrap_err();
    let told =
        std::iter::repeat_with(probe).take_while(|error| *error == Error::SnTaken).take(10_000).count();
    assert!((100..1_000).contains(&told), "{told}");
    // Whatever it asks for now, so that nothing is told by the refusal either; without a name it goes on.
    assert!(matches!(world.register(1, named("free", None)), Err(Error::Exhausted { .. })));
    assert!(world.register(1, DeviceSpec::default()).is_ok());
    assert!(world.register(0, named("free", None)).is_ok(), "another organisation");
    world.pass_ms(60_000);
    assert!(world.register(1, named("more", None)).is_ok());
}

pub fn the_last_use_of_a_key_is_known_to_a_minute(backend: impl Backend) {
    let mut world = World::new(backend);
    let root = world.org(0).clone();
    let made = block_on(world.engine().for_caller(&root).api_key_add("first", "reader", Rights::TASKS_READ))
        .unwrap();
    let check =
        |world: &World| block_on(world.engine().server().api_key_check(&made.clear_text)).unwrap().unwrap();
    let use_key = |world: &World, key: &ApiKey| {
        world.engine().server().api_key_used(key, None);
        // What was submitted before it is committed when this is answered.
        assert!(block_on(world.engine().server().api_key_exists()).unwrap());
        check(world).last_used_at
    };
    let first = world.now();
    assert_eq!((made.key.last_used_at, check(&world).last_used_at), (None, None));
    assert_eq!(use_key(&world, &made.key), Some(first));
    world.pass_ms(LAST_USED_GRAIN_MS - 1);
    assert_eq!(use_key(&world, &check(&world)), Some(first));
    assert_eq!(use_key(&world, &made.key), Some(first), "another server may have read it before");
    world.pass_ms(1);
    let second = world.now();
    assert_eq!(use_key(&world, &check(&world)), Some(second));
    world.restart();
    assert_eq!(check(&world).last_used_at, Some(second));
    let keys = block_on(world.engine().for_caller(&root).api_key_list()).unwrap();
    assert!(keys.contains(&check(&world)));
}

pub fn a_recovered_key_takes_the_place_of_those_that_may_make_keys(backend: impl Backend) {
    let mut world = World::new(backend);
    let root = world.engine().for_caller(world.org(0));
    let reader = block_on(root.api_key_add("first", "reader", Rights::TASKS_READ)).unwrap();
    let recover = |world: &World, text: &str, revoke: Vec<i64>| {
        let (org_name, name) = ("first".to_owned(), "recovered".to_owned());
        let add = ApiKeyAdd {
            org: None,
            org_name,
            name,
            access: Rights::ALL.into(),
            digest: digest(text),
            certificate: None,
            by: AuditActor::command("test"),
            from: None,
        };
        block_on(recovery::admin_key_recover(&**world.store(), AdminKeyRecover { add, revoke })).unwrap()
    };
    let admins = |world: &World| block_on(recovery::admin_keys_of_every_org(&**world.store())).unwrap();
    let kept = recover(&world, "kept", Vec::new());
    let before = admins(&world);
    assert_eq!(before.len(), 3, "those of both organisations, and the one that was made");
    let made = recover(&world, "made", before.iter().map(|key| key.id).collect());
    world.restart();
    let check = |text: &str| block_on(world.engine().server().api_key_check(text)).unwrap();
    assert_eq!(admins(&world), std::slice::from_ref(&made));
    assert_eq!((made.org, made.rights), (kept.org, Rights::ALL));
    assert_eq!((check("made"), check("kept")), (Some(made), None));
    assert_eq!(check(&reader.clear_text), Some(reader.key));
}

pub fn a_store_without_any_key_is_not_recovered(backend: impl Backend) {
    let outside = Outside::default();
    let store = backend.open(outside.clock, outside.counts);
    let (org_name, name) = ("first".to_owned(), "recovered".to_owned());
    let add = ApiKeyAdd {
        org: None,
        org_name,
        name,
        access: Rights::ALL.into(),
        digest: digest("made"),
        certificate: None,
        by: AuditActor::command("test"),
        from: None,
    };
    let refused = block_on(recovery::admin_key_recover(&*store, AdminKeyRecover { add, revoke: Vec::new() }));
    assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    assert_eq!(block_on(store.api_key_list_of_every_org()).unwrap(), []);
}
