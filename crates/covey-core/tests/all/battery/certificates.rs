//! Certificates of devices: what is told of them, and revoking them.

use covey_core::Error;
use covey_core::access::{Caller, Grant, Grants, Rights};
use covey_core::background::Work;
use covey_core::certificate::{CertificateFilter, CertificateState, RevocationReason};
use covey_core::device::{CertificateSpec, DeviceIdentity, DeviceSpec, Tag};
use covey_core::id::{CallerId, Sn, UnixMs};
use covey_core::port::{FromPeers, PageRequest};
use futures_executor::block_on;

use crate::battery::background::work_for;
use crate::world::{Backend, World};

fn sn(text: &str) -> Sn {
    Sn::parse(text).unwrap()
}

fn named(text: &str) -> DeviceSpec {
    DeviceSpec { sn: Some(sn(text)), ..DeviceSpec::default() }
}

/// Gives a microcontroller one more certificate; answers who it is, and the serial number.
fn another(world: &World, name: &str) -> (DeviceIdentity, String) {
    let caller = world.engine().for_caller(world.org(0));
    let issued = caller.microcontroller_certificate(&sn(name)).unwrap();
    let device = block_on(caller.microcontroller_register(sn(name), &issued)).unwrap();
    (device, issued.record.serial_hex)
}

fn admits(world: &World, name: &str, serial: &str) -> bool {
    block_on(world.engine().server().session_admit(&sn(name), serial)).unwrap().is_some()
}

fn listed(world: &World, org: usize, filter: CertificateFilter) -> Vec<String> {
    let page = PageRequest { page: 1, size: 100 };
    let found = block_on(world.engine().for_caller(world.org(org)).certificate_list(filter, page)).unwrap();
    assert_eq!(found.total, found.items.len() as u64);
    found.items.into_iter().map(|certificate| certificate.serial_hex).collect()
}

pub fn a_certificate_is_revoked_alone_for_ever_and_with_what_stands_for_it(backend: impl Backend) {
    let mut world = World::new(backend);
    let (_, kept) = another(&world, "ft1");
    let (device, revoked) = another(&world, "ft1");
    let caller = world.engine().for_caller(world.org(0));
    for (name, serial) in [("kept", &kept), ("gone", &revoked)] {
        let text = format!("certificate:{name}");
        block_on(caller.credential_add("first", name, Rights::TASKS_READ, &text, serial)).unwrap();
    }
    let rival = world.engine().for_caller(world.org(1));
    let reason = RevocationReason::KeyCompromise;
    let not_found = Err(Error::not_found("certificate"));
    assert_eq!(block_on(rival.certificate_revoke(&revoked, reason)).map(drop), not_found);
    assert_eq!(block_on(rival.certificate(&revoked)).map(drop), not_found);
    assert_eq!(block_on(caller.certificate_revoke("ffff", reason)).map(drop), not_found);
    assert!(admits(&world, "ft1", &revoked));

    let told = block_on(caller.certificate_revoke(&revoked, reason)).unwrap();
    assert_eq!(told.revocation.map(|revocation| revocation.reason), Some(reason));
    assert_eq!(world.link.revoked_certificates(), [(sn("ft1"), revoked.clone())]);
    assert!(world.link.revoked().is_empty(), "the device is as it was");
    world.pass_ms(1_000);
    let again = block_on(
        world.engine().for_caller(world.org(0)).certificate_revoke(&revoked, RevocationReason::Superseded),
    );
    assert_eq!(again.unwrap(), told, "what was said first stays");
    world.restart();
    assert!(admits(&world, "ft1", &kept) && !admits(&world, "ft1", &revoked));
    let key = |text: &str| block_on(world.engine().server().api_key_check(text)).unwrap().is_some();
    assert!(key("certificate:kept") && !key("certificate:gone"));

    // New ones push old ones out, and never one that was revoked: who asks of it must be told so.
    for _ in 0..70 {
        another(&world, "ft1");
    }
    let state = |serial: &str| {
        block_on(world.engine().for_caller(world.org(0)).certificate(serial))
            .map(|certificate| certificate.state(world.now()))
    };
    assert_eq!(state(&revoked), Ok(CertificateState::Revoked));
    let all = block_on(
        world
            .engine()
            .for_caller(world.org(0))
            .device_certificates_revoke(device.device_id, RevocationReason::Superseded),
    )
    .unwrap();
    assert_eq!(
        (all.identity.sn, all.serials_hex.len()),
        (sn("ft1"), 65),
        "64, and the one that stands for a key"
    );
    assert!(!admits(&world, "ft1", &kept));
    let (_, new) = another(&world, "ft1");
    assert!(admits(&world, "ft1", &new), "the device is registered all the same");
}

pub fn certificates_are_found_by_what_they_are_and_by_their_organisation_alone(backend: impl Backend) {
    let world = World::new(backend);
    let (lamp, first) = world.register(0, named("lamp")).unwrap();
    world.pass_ms(1_000);
    let (_, second) = world.register(0, named("pump")).unwrap();
    let (_, theirs) = world.register(1, named("theirs")).unwrap();
    let all = CertificateFilter::default();
    assert_eq!(listed(&world, 0, all.clone()), [first.as_str(), &second], "what ends first is in front");
    assert_eq!(listed(&world, 1, all.clone()), [theirs.as_str()]);
    assert_eq!(
        listed(&world, 1, CertificateFilter { serial_hex: Some(first.clone()), ..all.clone() }),
        [""; 0]
    );
    let of = |filter: CertificateFilter| listed(&world, 0, filter);
    assert_eq!(of(CertificateFilter { sn: Some("pump".to_owned()), ..all.clone() }), [second.as_str()]);
    let device_id = Some(lamp.identity.device_id.0);
    assert_eq!(of(CertificateFilter { device_id, ..all.clone() }), [first.as_str()]);
    let ends = |serial: &str| {
        block_on(world.engine().for_caller(world.org(0)).certificate(serial)).unwrap().not_after
    };
    let expires_before = Some(ends(&second));
    assert_eq!(of(CertificateFilter { expires_before, ..all.clone() }), [first.as_str()]);

    let in_state = |state| CertificateFilter { state: Some(state), ..CertificateFilter::default() };
    assert_eq!(of(in_state(CertificateState::Valid)).len(), 2);
    block_on(world.engine().for_caller(world.org(0)).device_retire(lamp.identity.device_id)).unwrap();
    assert_eq!(of(in_state(CertificateState::Revoked)), [first.as_str()]);
    let retired = block_on(world.engine().for_caller(world.org(0)).certificate(&first)).unwrap();
    assert_eq!(
        retired.revocation.map(|revocation| revocation.reason),
        Some(RevocationReason::CessationOfOperation)
    );
    assert_eq!(
        (retired.device.sn, of(in_state(CertificateState::Valid))),
        (sn("lamp"), vec![second.clone()])
    );
    world.pass_ms(ends(&second).since_ms(world.now()) + 1);
    assert_eq!(of(in_state(CertificateState::Expired)), [second.as_str()]);
    assert_eq!(of(in_state(CertificateState::Valid)), [""; 0]);
}

pub fn who_asks_what_was_revoked_is_told_all_of_it(backend: impl Backend) {
    let world = World::new(backend);
    let serials: Vec<_> =
        (0..5).map(|number| world.register(number % 2, named(&format!("d{number}"))).unwrap().1).collect();
    let server = world.engine().server();
    let from = UnixMs(0);
    assert_eq!(block_on(server.revoked_count(from)).unwrap().count, 0);
    for (number, serial) in serials.iter().take(4).enumerate() {
        world.pass_ms(10);
        let caller = world.engine().for_caller(world.org(number % 2));
        block_on(caller.certificate_revoke(serial, RevocationReason::ALL[number])).unwrap();
    }
    let counted = block_on(server.revoked_count(from)).unwrap();
    assert_eq!((counted.count, counted.last_at), (4, Some(world.now())));
    let revoked = block_on(server.revoked(from, 100)).unwrap();
    let found: Vec<_> = revoked.iter().map(|one| (one.serial_hex.clone(), one.revocation.reason)).collect();
    let expected: Vec<_> = serials.iter().cloned().zip(RevocationReason::ALL).take(4).collect();
    assert_eq!(found, expected);
    let known =
        block_on(server.certificates_known(vec![serials[4].clone(), serials[0].clone(), "ab".to_owned()]));
    let mut known: Vec<_> =
        known.unwrap().into_iter().map(|(serial, known)| (serial, known.is_some())).collect();
    known.sort();
    let mut expected = vec![(serials[0].clone(), true), (serials[4].clone(), false)];
    expected.sort();
    assert_eq!(known, expected);

    // What another server may have told in vain is found in the store.
    world.link.revoked_certificates();
    block_on(server.receive(FromPeers::Gap)).unwrap();
    assert_eq!(world.link.revoked_certificates().len(), 4);
    let ended = world.now().plus_ms(1_000 * 365 * 86_400_000);
    assert_eq!(block_on(server.revoked_count(ended)).unwrap().count, 0, "what has ended need not be told");
}

/// Under what the certificate of another CA is registered that has this SHA-256, given as a byte of it.
fn imported_serial(byte: &str) -> String {
    format!("{}~{}", "c0".repeat(16), byte.repeat(32))
}

/// A device with this certificate of another CA.
fn imported(name: &str, serial: &str) -> DeviceSpec {
    let certificate_pem = format!("{name} {serial}");
    let certificate = CertificateSpec::Imported { ca: "old".to_owned(), certificate_pem };
    DeviceSpec { certificate, ..DeviceSpec::default() }
}

pub fn a_revoked_certificate_of_another_ca_does_not_come_back_with_its_device(backend: impl Backend) {
    let world = World::new(backend);
    let caller = world.engine().for_caller(world.org(0));
    let retire = |device: &DeviceIdentity| block_on(caller.device_retire(device.device_id)).unwrap();
    let register = |serial: &str| block_on(caller.device_register(imported("moved", serial)));
    let [first, second, third] = ["1f", "2f", "3f"].map(imported_serial);
    let device = register(&first).unwrap().0.identity;
    assert!(admits(&world, "moved", &first));
    block_on(caller.certificate_revoke(&first, RevocationReason::KeyCompromise)).unwrap();
    retire(&device);
    let refused = |serial: &str| matches!(register(serial), Err(Error::Conflict { .. }));
    assert!(refused(&first) && !admits(&world, "moved", &first));
    let told = block_on(caller.certificate(&first)).unwrap().revocation.map(|revocation| revocation.reason);
    assert_eq!(told, Some(RevocationReason::KeyCompromise));
    // Nor one that went with its device; nor by another organisation.
    let device = register(&second).unwrap().0.identity;
    retire(&device);
    assert!(refused(&second) && refused(&first));
    let rival = world.engine().for_caller(world.org(1));
    let theirs = block_on(rival.device_register(imported("moved", &second))).map(drop);
    assert!(matches!(theirs, Err(Error::Conflict { .. })));
    register(&third).unwrap();
    assert!(admits(&world, "moved", &third) && !admits(&world, "moved", &second));
    // Lists are of our CA; servers are told of all.
    let server = world.engine().server();
    assert_eq!(block_on(server.revoked_count(UnixMs(0))).unwrap().count, 0);
    assert_eq!(block_on(server.revoked(UnixMs(0), 10)), Ok(Vec::new()));
    world.link.revoked_certificates();
    block_on(server.receive(FromPeers::Gap)).unwrap();
    assert!(world.link.revoked_certificates().contains(&(sn("moved"), first)));
}

pub fn what_stands_for_a_certificate_of_another_ca_goes_with_it(backend: impl Backend) {
    let world = World::new(backend);
    let caller = world.engine().for_caller(world.org(0));
    let text = |byte: &str| format!("certificate:{}", byte.repeat(32));
    // The serial number that the other CA gave says nothing.
    let add = |byte: &str, rights| block_on(caller.credential_add("first", byte, rights, &text(byte), "07"));
    let is_good =
        |byte: &str| block_on(world.engine().server().api_key_check(&text(byte))).unwrap().is_some();
    let register = |name: &str, byte: &str| {
        block_on(caller.device_register(imported(name, &imported_serial(byte)))).map(|(device, _)| device)
    };
    let device = register("one", "1f").unwrap();
    register("two", "2f").unwrap();
    assert!(matches!(add("1f", Rights::ALL), Err(Error::Invalid { field: "rights", .. })));
    add("1f", Rights::TASKS_READ).unwrap();
    add("2f", Rights::TASKS_READ).unwrap();
    block_on(caller.certificate_revoke(&imported_serial("2f"), RevocationReason::Superseded)).unwrap();
    assert!(is_good("1f") && !is_good("2f"));
    block_on(caller.device_retire(device.identity.device_id)).unwrap();
    assert!(!is_good("1f"));
    assert!(matches!(add("1f", Rights::TASKS_READ), Err(Error::Invalid { field: "certificate_pem", .. })));
    // Whose key it is does not end with somebody's device.
    add("3f", Rights::ALL).unwrap();
    assert!(matches!(register("three", "3f"), Err(Error::Conflict { .. })) && is_good("3f"));
}

pub fn whoever_renewed_with_a_stolen_key_is_kept_out_too(backend: impl Backend) {
    let world = World::new(backend);
    let (_, stolen) = world.register(0, named("lamp")).unwrap();
    let (_, bystander) = world.register(0, named("pump")).unwrap();
    let renew = |name: &str, shown: &str| {
        let renewed = block_on(world.engine().server().device_renew(&sn(name), shown, "a request", None));
        renewed.unwrap().1.record.serial_hex
    };
    let second = renew("lamp", &stolen);
    let third = renew("lamp", &second);
    let theirs = renew("pump", &bystander);
    let caller = world.engine().for_caller(world.org(0));
    // Another took its place: whoever has that stays. Then it turns out why.
    block_on(caller.certificate_revoke(&stolen, RevocationReason::Superseded)).unwrap();
    assert!(admits(&world, "lamp", &second) && admits(&world, "lamp", &third));
    world.link.revoked_certificates();
    let told = block_on(caller.certificate_revoke(&stolen, RevocationReason::KeyCompromise)).unwrap();
    assert_eq!(told.serial_hex, stolen);
    assert!(!admits(&world, "lamp", &second) && !admits(&world, "lamp", &third));
    let cut: Vec<_> = world.link.revoked_certificates().into_iter().map(|(_, serial)| serial).collect();
    assert!(cut.contains(&second) && cut.contains(&third), "{cut:?}");
    assert!(admits(&world, "pump", &bystander) && admits(&world, "pump", &theirs));
}

pub fn what_another_server_revoked_is_found_though_nobody_told(backend: impl Backend) {
    let world = World::new(backend);
    let (_, serial) = world.register(0, named("lamp")).unwrap();
    let caller = world.engine().for_caller(world.org(0));
    block_on(caller.certificate_revoke(&serial, RevocationReason::KeyCompromise)).unwrap();
    // The message of the other server, which is lost.
    world.link.revoked_certificates();
    work_for(&world, Work::CatchUp, 1_500);
    assert!(world.link.revoked_certificates().contains(&(sn("lamp"), serial)));
}

pub fn who_was_granted_some_devices_sees_and_revokes_their_certificates_alone(backend: impl Backend) {
    let world = World::new(backend);
    let at = |value: &str| vec![Tag { tag: "site".to_owned(), value: value.to_owned() }];
    let register =
        |name: &str, site: &str| world.register(0, DeviceSpec { tags: at(site), ..named(name) }).unwrap();
    let ((_, own), (other_device, other)) = (register("lamp", "berlin"), register("pump", "rome"));
    let granted = |rights: Rights| {
        let grant = Grant {
            rights,
            tags: at("berlin"),
            methods: Vec::new(),
            kinds: Vec::new(),
            event_types: Vec::new(),
        };
        let grants = Grants::new(vec![grant]).unwrap();
        Caller { id: CallerId(-1), rights: Rights::default(), grants, ..world.org(0).clone() }
    };
    let page = PageRequest { page: 1, size: 100 };
    let reader = granted(Rights::DEVICES_READ);
    let of = |caller: &Caller| {
        let found =
            block_on(world.engine().for_caller(caller).certificate_list(CertificateFilter::default(), page));
        found.unwrap().items.into_iter().map(|certificate| certificate.serial_hex).collect::<Vec<_>>()
    };
    assert_eq!(of(&reader), [own.as_str()]);
    let reason = RevocationReason::Superseded;
    let revoke = |caller: &Caller, serial: &str| {
        block_on(world.engine().for_caller(caller).certificate_revoke(serial, reason)).map(drop)
    };
    assert!(matches!(revoke(&reader, &own), Err(Error::Forbidden { .. })));
    let writer = granted(Rights(Rights::DEVICES_READ.0 | Rights::DEVICES_WRITE.0));
    assert_eq!(revoke(&writer, &other), Err(Error::not_found("certificate")));
    let all = world
        .engine()
        .for_caller(&writer)
        .device_certificates_revoke(other_device.identity.device_id, reason);
    assert_eq!(block_on(all).map(drop), Err(Error::not_found("device")));
    assert!(admits(&world, "pump", &other));
    revoke(&writer, &own).unwrap();
    assert!(!admits(&world, "lamp", &own));
}
