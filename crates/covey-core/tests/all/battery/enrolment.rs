//! Enrolment: who gets a certificate by a claim, and who gets the next one by the one that it has.

use std::net::{IpAddr, Ipv4Addr};

use covey_core::Error;
use covey_core::audit::AuditFilter;
use covey_core::budget::Rate;
use covey_core::certificate::RevocationReason;
use covey_core::device::{DeviceIdentity, DeviceSpec};
use covey_core::enrolment::{
    CERTIFICATES_MAX, CERTIFICATES_PER_DAY_MAX, Claim, ClaimSerial, ClaimSpec, EnrolRequest, SnPattern,
};
use covey_core::id::{ClaimId, Sn};
use covey_core::port::PageRequest;
use futures_executor::block_on;

use crate::battery::audit::asked;
use crate::world::{Backend, World};

const DAY_MS: i64 = 86_400_000;
const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 8));
const PAGE: PageRequest = PageRequest { page: 1, size: 100 };

fn sn(text: &str) -> Sn {
    Sn::parse(text).unwrap()
}

/// A claim of the first organisation for these, and for what a pattern means.
fn claim(world: &World, listed: &[&str], pattern: Option<&str>, devices_max: u32) -> Claim {
    let spec = ClaimSpec {
        name: "line 4".to_owned(),
        pattern: pattern.map(|pattern| SnPattern::parse(pattern).unwrap()),
        serials: listed.iter().map(|text| sn(text)).collect(),
        devices_max: Some(devices_max),
        not_after: world.now().plus_ms(90 * DAY_MS),
    };
    block_on(world.engine().for_caller(world.org(0)).claim_add(spec)).unwrap().0
}

/// Enrols with a key; answers who it is, and the serial number of its certificate.
fn enrol(world: &World, claim: &Claim, name: &str, key: u8) -> Result<(DeviceIdentity, String), Error> {
    let request = EnrolRequest {
        sn: sn(name),
        csr_pem: "a request".to_owned(),
        key_sha256: [key; 32],
        address: Some("192.0.2.7".to_owned()),
    };
    let enrolled = block_on(world.engine().server().claim_enrol(&claim.serial_hex, request));
    enrolled.map(|(device, issued)| (device, issued.record.serial_hex))
}

fn renew(world: &World, name: &str, shown: &str) -> Result<String, Error> {
    let renewed = block_on(world.engine().server().device_renew(&sn(name), shown, "a request", Some(FROM)));
    renewed.map(|(_, issued)| issued.record.serial_hex)
}

fn is_good(world: &World, name: &str, serial: &str) -> bool {
    block_on(world.engine().server().device_admit(&sn(name), serial)).unwrap().is_some()
}

fn claims(world: &World, org: usize, id: Option<ClaimId>) -> Vec<Claim> {
    block_on(world.engine().for_caller(world.org(org)).claim_list(id, PAGE)).unwrap().items
}

fn serials(world: &World, claim: &Claim) -> Vec<ClaimSerial> {
    let caller = world.engine().for_caller(world.org(0));
    block_on(caller.claim_serial_list(claim.id, None, PAGE)).unwrap().items
}

/// Whether the log of audits and a link were told of these, as of those that others took the place of.
fn assert_superseded(world: &World, name: &str, serials: &[&String]) {
    let told_link = world.link.revoked_certificates();
    for serial in serials {
        assert!(told_link.contains(&(sn(name), (*serial).clone())), "{serial}");
        let found = block_on(world.engine().for_caller(world.org(0)).certificate(serial)).unwrap();
        assert_eq!(found.revocation.map(|one| one.reason), Some(RevocationReason::Superseded));
        let newest = &asked(world, 0, AuditFilter::default())[0].entry;
        let told = newest.details.iter().find(|(name, _)| name == "superseded");
        assert!(told.is_some_and(|(_, text)| text.contains(serial.as_str())), "{told:?}");
    }
}

fn is_conflict<T>(outcome: Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Conflict { .. }))
}

pub fn a_claim_enrols_each_serial_number_once_and_so_many_in_all(backend: impl Backend) {
    let mut world = World::new(backend);
    let made = claim(&world, &["a", "b"], Some("c-*"), 3);
    let (device, serial) = enrol(&world, &made, "a", 1).unwrap();
    assert_eq!(device.org, world.org(0).org);
    assert!(is_good(&world, "a", &serial));
    assert!(is_conflict(enrol(&world, &made, "a", 2)), "with another key it is another device");
    assert!(is_conflict(enrol(&world, &made, "z", 1)), "it is not listed");
    enrol(&world, &made, "c-1", 1).unwrap();
    world.restart();
    let now = claims(&world, 0, Some(made.id)).remove(0);
    assert_eq!(now, Claim { used: 2, ..made.clone() });
    let listed: Vec<_> = serials(&world, &made).into_iter().map(|one| (one.sn, one.used.is_some())).collect();
    assert_eq!(listed, [(sn("a"), true), (sn("b"), false), (sn("c-1"), true)]);
    enrol(&world, &made, "b", 1).unwrap();
    assert!(is_conflict(enrol(&world, &made, "c-2", 1)), "it is for three");

    let caller = world.engine().for_caller(world.org(0));
    assert_eq!(block_on(caller.claim_serials_add(made.id, vec![sn("b"), sn("d")])), Ok(1));
    assert!(is_conflict(enrol(&world, &made, "d", 1)));
    block_on(caller.claim_serial_release(made.id, sn("b"))).unwrap();
    enrol(&world, &made, "d", 1).unwrap();
    assert!(is_conflict(enrol(&world, &made, "b", 9)), "its place was taken");
    // Nobody else sees or changes it.
    let other = world.engine().for_caller(world.org(1));
    assert_eq!(claims(&world, 1, None), []);
    assert_eq!(block_on(other.claim_revoke(made.id)).unwrap_err(), Error::not_found("claim"));
    assert_eq!(
        block_on(other.claim_serial_release(made.id, sn("a"))).unwrap_err(),
        Error::not_found("claim")
    );
    block_on(caller.claim_revoke(made.id)).unwrap();
    assert!(is_conflict(enrol(&world, &made, "a", 1)), "it is revoked");
}

pub fn a_claim_is_for_as_many_devices_as_are_listed_each_counted_once(backend: impl Backend) {
    let world = World::new(backend);
    let serials = ["a", "b", "a", "a"].map(sn).to_vec();
    let not_after = world.now().plus_ms(DAY_MS);
    let spec = ClaimSpec { name: "line 5".to_owned(), pattern: None, serials, devices_max: None, not_after };
    let caller = world.engine().for_caller(world.org(0));
    assert_eq!(block_on(caller.claim_add(spec)).unwrap().0.devices_max, 2);
}

pub fn a_device_that_enrols_again_is_the_same_or_was_released(backend: impl Backend) {
    let world = World::new(backend);
    let made = claim(&world, &["a"], Some("*amp*"), 5);
    let (device, first) = enrol(&world, &made, "a", 1).unwrap();
    let (again, second) = enrol(&world, &made, "a", 1).unwrap();
    assert_eq!(again, device, "the answer was lost on the way");
    assert!(is_good(&world, "a", &first) && is_good(&world, "a", &second));
    assert_eq!(claims(&world, 0, None)[0].used, 1);

    let caller = world.engine().for_caller(world.org(0));
    block_on(caller.claim_serial_release(made.id, sn("a"))).unwrap();
    block_on(caller.claim_serial_release(made.id, sn("a"))).unwrap();
    assert_eq!(claims(&world, 0, None)[0].used, 0, "it is released once");
    let (repaired, third) = enrol(&world, &made, "a", 2).unwrap();
    assert_eq!(repaired, device);
    let good: Vec<_> = [&first, &second, &third].map(|serial| is_good(&world, "a", serial)).into();
    assert_eq!(good, [false, false, true], "those of before the repair are dead");
    assert_superseded(&world, "a", &[&first, &second]);

    // Only for a while is an answer lost, and never that with a certificate which was revoked.
    let (_, fourth) = enrol(&world, &made, "a", 2).unwrap();
    block_on(caller.certificate_revoke(&fourth, RevocationReason::KeyCompromise)).unwrap();
    assert!(is_conflict(enrol(&world, &made, "a", 2)), "it was revoked");
    block_on(caller.claim_serial_release(made.id, sn("a"))).unwrap();
    enrol(&world, &made, "a", 2).unwrap();
    world.pass_ms(DAY_MS);
    enrol(&world, &made, "a", 2).unwrap();
    world.pass_ms(DAY_MS + 1);
    assert!(is_conflict(enrol(&world, &made, "a", 2)), "it has had its certificate for long");

    // Whoever retires it decides when it comes back, and as whom.
    block_on(caller.device_retire(device.device_id)).unwrap();
    assert!(is_conflict(enrol(&world, &made, "a", 2)));
    block_on(caller.claim_serial_release(made.id, sn("a"))).unwrap();
    let (anew, _) = enrol(&world, &made, "a", 2).unwrap();
    assert_ne!(anew.device, device.device);
    // What an operator registers in its place is none of the claim's.
    block_on(caller.device_retire(anew.device_id)).unwrap();
    let (_, own) = world.register(0, DeviceSpec { sn: Some(sn("a")), ..DeviceSpec::default() }).unwrap();
    block_on(caller.claim_serial_release(made.id, sn("a"))).unwrap();
    assert_eq!(enrol(&world, &made, "a", 2).unwrap_err(), Error::SnTaken);
    assert!(is_good(&world, "a", &own));

    // One that was there already is nobody's to claim, whatever a pattern says.
    for (org, name) in [(0, "lamp-1"), (1, "lamp-2")] {
        let spec = DeviceSpec { sn: Some(sn(name)), ..DeviceSpec::default() };
        world.register(org, spec).unwrap();
        assert_eq!(enrol(&world, &made, name, 1).unwrap_err(), Error::SnTaken);
    }
    world.pass_ms(90 * DAY_MS + 1);
    assert!(is_conflict(enrol(&world, &made, "lamp-3", 1)), "it is over");
}

pub fn a_claim_does_not_tell_for_ever_which_serial_numbers_others_have(backend: impl Backend) {
    let world = World::without_budgets(backend);
    let made = claim(&world, &[], Some("*amp*"), 5);
    world.register(1, DeviceSpec { sn: Some(sn("lamp-9")), ..DeviceSpec::default() }).unwrap();
    let told = (0..2_000).take_while(|_| enrol(&world, &made, "lamp-9", 1) == Err(Error::SnTaken)).count();
    assert!((1..2_000).contains(&told), "{told}");
    assert!(matches!(enrol(&world, &made, "lamp-8", 1), Err(Error::Exhausted { .. })));
    world.pass_ms(60_000);
    enrol(&world, &made, "lamp-8", 1).unwrap();
}

pub fn a_certificate_is_renewed_by_one_that_is_good_or_ended_not_long_ago(backend: impl Backend) {
    let mut world = World::new(backend);
    let spec = DeviceSpec { sn: Some(sn("lamp")), ..DeviceSpec::default() };
    let (device, first) = world.register(0, spec).unwrap();
    let second = renew(&world, "lamp", &first).unwrap();
    assert_eq!(asked(&world, 0, AuditFilter::default())[0].entry.from, Some(FROM));
    world.restart();
    assert!(is_good(&world, "lamp", &first) && is_good(&world, "lamp", &second), "one after the other");
    assert!(is_conflict(renew(&world, "lamp", "ffff")), "it was never issued");
    assert!(is_conflict(renew(&world, "other", &first)), "it is another's");
    // They live for a day.
    world.pass_ms(31 * DAY_MS);
    let third = renew(&world, "lamp", &second).unwrap();
    world.pass_ms(31 * DAY_MS + 1);
    assert!(is_conflict(renew(&world, "lamp", &third)), "it ended too long ago");
    let caller = world.engine().for_caller(world.org(0));
    block_on(caller.device_retire(device.identity.device_id)).unwrap();
    assert!(is_conflict(renew(&world, "lamp", &third)));
    let (_, anew) = world.register(0, DeviceSpec { sn: Some(sn("lamp")), ..DeviceSpec::default() }).unwrap();
    assert!(is_conflict(renew(&world, "lamp", &third)), "it is that of the registration before");
    assert!(renew(&world, "lamp", &anew).is_ok());
}

pub fn certificates_are_paid_for_before_they_are_made(backend: impl Backend) {
    let mut world = World::new(backend);
    let units = Rate { per_second: 100, burst: 10_000 };
    world.budgets.org.units = units;
    world.restart();
    let made = claim(&world, &["a"], None, 1);
    let (_, shown) = world.register(0, DeviceSpec { sn: Some(sn("lamp")), ..DeviceSpec::default() }).unwrap();
    let is_unpaid = |outcome: &Result<String, Error>| matches!(outcome, Err(Error::OverBudget { .. }));
    let asked = (0..10_000).take_while(|_| !is_unpaid(&renew(&world, "lamp", &shown))).count();
    assert!((CERTIFICATES_PER_DAY_MAX as usize..400).contains(&asked), "{asked}");
    let (_, other) = world.register(0, DeviceSpec { sn: Some(sn("lux")), ..DeviceSpec::default() }).unwrap();
    renew(&world, "lux", &other).unwrap();
    // Whoever has a claim spends what its organisation has.
    let enrol = || enrol(&world, &made, "b", 1).map(|(_, serial)| serial);
    let asked = (0..10_000).take_while(|_| !is_unpaid(&enrol())).count();
    assert!((100..1_000).contains(&asked), "{asked}");
    let (_, theirs) = world.register(1, DeviceSpec { sn: Some(sn("lid")), ..DeviceSpec::default() }).unwrap();
    renew(&world, "lid", &theirs).unwrap();
}

pub fn a_device_has_so_many_certificates_and_gets_so_many_a_day(backend: impl Backend) {
    let world = World::new(backend);
    let spec = DeviceSpec { sn: Some(sn("lamp")), ..DeviceSpec::default() };
    let (_, first) = world.register(0, spec).unwrap();
    let mut all = vec![first.clone()];
    for _ in 1..CERTIFICATES_PER_DAY_MAX {
        world.pass_ms(1);
        all.push(renew(&world, "lamp", &first).unwrap());
        if all.len() > CERTIFICATES_MAX as usize {
            // The first one is spared.
            assert_superseded(&world, "lamp", &[&all[all.len() - CERTIFICATES_MAX as usize]]);
        }
        let good = all.iter().filter(|serial| is_good(&world, "lamp", serial)).count();
        assert_eq!(good, all.len().min(CERTIFICATES_MAX as usize));
    }
    assert!(is_good(&world, "lamp", &first), "the one that it shows stays");
    assert!(is_good(&world, "lamp", all.last().unwrap()));
    assert!(matches!(renew(&world, "lamp", &first), Err(Error::Exhausted { .. })));
    world.pass_ms(DAY_MS);
    assert!(renew(&world, "lamp", &first).is_ok());
}
