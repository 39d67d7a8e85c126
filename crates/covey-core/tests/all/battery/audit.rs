//! The audit log: who did what, and that nobody can change it unseen.

use covey_core::access::{ApiKey, Rights};
use covey_core::audit::{
    AuditActor, AuditFilter, AuditFlaw, AuditOutcome, AuditPage, AuditRequest, AuditVerifier, FlawKind,
    PlacedEntry, RefusedCall, Verified,
};
use covey_core::certificate::RevocationReason;
use covey_core::device::{DeviceIdentity, DeviceSpec, Tag};
use covey_core::error::Error;
use covey_core::id::UnixMs;
use covey_core::node::{GatewayName, NodeName};
use covey_core::port::Store;
use covey_core::retention::RetentionClass;
use covey_core::task::{IdempotencyKey, TaskSpec};
use covey_core::webhook::{EndpointSpec, WebhookSecret, WebhookType};
use futures_executor::block_on;

use crate::world::{Backend, World, spec};

const DAY_MS: i64 = 24 * 3_600_000;

pub fn asked(world: &World, org: usize, filter: AuditFilter) -> Vec<PlacedEntry> {
    page(world, org, AuditRequest { filter, before: None, size: 1_000 }).items
}

fn page(world: &World, org: usize, request: AuditRequest) -> AuditPage {
    block_on(world.engine().for_caller(world.org(org)).audit_list(request, false)).unwrap()
}

/// Looks at every row of every chain.
pub fn verify(store: &dyn Store, now: UnixMs) -> Result<Vec<Verified>, AuditFlaw> {
    let mut found = Vec::new();
    for chain in block_on(store.audit_chains_of_every_org()).unwrap() {
        let number = chain.head.chain;
        let mut verifier = AuditVerifier::new(chain, [], now);
        loop {
            let rows = block_on(store.audit_rows_of_every_org(number, verifier.after(), 7)).unwrap();
            if rows.is_empty() {
                break;
            }
            rows.iter().try_for_each(|row| verifier.row(row))?;
        }
        found.push(verifier.done()?);
    }
    Ok(found)
}

fn opened(device: &DeviceIdentity, cell: u32) -> TaskSpec {
    TaskSpec {
        method: Some("open".to_owned()),
        ext_task_id: format!("order {cell}"),
        payload: Some(format!("{{ \"cell\" : {cell} }}").into()),
        ..spec(device)
    }
}

pub fn who_opened_which_cell_is_one_question(backend: impl Backend) {
    let mut world = World::new(backend);
    let (locker, other) = (world.device(0), world.device(0));
    for cell in 4..7 {
        world.create(opened(&locker, cell));
        world.create(opened(&other, cell));
    }
    let before = world.now();
    world.pass_ms(1_000);
    world.create(opened(&locker, 5));
    world.restart();
    let filter = AuditFilter {
        device: Some(locker.sn.as_str().to_owned()),
        until: Some(before.plus_ms(1)),
        action: Some("task".to_owned()),
        text: Some(r#""cell":5"#.to_owned()),
        ..AuditFilter::default()
    };
    let found = asked(&world, 0, filter.clone());
    let [PlacedEntry { place, entry }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(place.at, before);
    assert_eq!((&*entry.action, entry.outcome), ("task.create", AuditOutcome::Done));
    assert_eq!((&*entry.actor.kind, &*entry.actor.name), ("key", "test"));
    assert_eq!(entry.device, Some((locker.device_id.0, locker.sn.as_str().to_owned())));
    let detail = |name: &str| {
        entry.details.iter().find(|(known, _)| known == name).map_or("", |(_, text)| text.as_str())
    };
    assert_eq!(
        [detail("method"), detail("ext_task_id"), detail("payload")],
        ["open", "order 5", r#"{"cell":5}"#]
    );
    assert_eq!(asked(&world, 0, AuditFilter { until: None, ..filter.clone() }).len(), 2);
    assert_eq!(asked(&world, 1, filter), [], "another organisation sees nothing of it");
}

pub fn what_changes_nothing_is_not_told_and_no_secret_is(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let caller = world.engine().for_caller(world.org(0));
    let key = || Some(IdempotencyKey { key: "once".to_owned(), request_digest: [1; 32] });
    for _ in 0..2 {
        block_on(caller.task_create(world.engine().task_id(), opened(&device, 1), key())).unwrap();
    }
    assert!(block_on(caller.task_delete(world.engine().task_id())).is_err());
    let made = block_on(caller.api_key_add("org", "visitor", Rights::TASKS_READ)).unwrap();
    let webhook = EndpointSpec {
        is_active: false,
        ..EndpointSpec::new(WebhookType::Event, "https://u:pass@hook.example/token-in-path?secret=1")
    };
    let secret = Some(WebhookSecret::new("whsec_bm90IGZvciBhbnlib2R5"));
    let endpoint = block_on(caller.webhook_add(webhook, secret)).unwrap();
    block_on(caller.tag_put(device.device_id, Tag { tag: "room".to_owned(), value: "x".repeat(1_000) }))
        .unwrap();
    let found = asked(&world, 0, AuditFilter::default());
    let actions = |wanted: &str| found.iter().filter(|found| found.entry.action == wanted).count();
    assert_eq!((actions("task.create"), actions("task.delete"), actions("webhook.add")), (1, 0, 1));
    let told = format!("{found:?}");
    for hidden in
        [made.clear_text.as_str(), "not for anybody", "bm90IGZvciBhbnlib2R5", "token-in-path", "secret=1"]
    {
        assert!(!told.contains(hidden), "{hidden}");
    }
    assert!(told.contains("hook.example") && told.contains('…'), "a long value is cut: {told}");
    let wanted = AuditFilter { object: Some(format!("webhook {}", endpoint.id.0)), ..AuditFilter::default() };
    assert_eq!(asked(&world, 0, wanted).len(), 1);
}

/// What the log of an organisation has of an action: objects, and details.
fn told(world: &World, org: usize, action: &str) -> Vec<(String, String)> {
    let filter = AuditFilter { action: Some(action.to_owned()), ..AuditFilter::default() };
    let found = asked(world, org, filter).into_iter().rev();
    let text = |(name, text): &(_, String)| format!("{name}={text}");
    let told = |PlacedEntry { entry, .. }: PlacedEntry| {
        (entry.object, entry.details.iter().map(text).collect::<Vec<_>>().join(" "))
    };
    found.map(told).collect()
}

pub fn what_was_ended_before_is_not_told_again(backend: impl Backend) {
    let world = World::new(backend);
    let (device, serial) = world.register(0, DeviceSpec::default()).unwrap();
    let device_id = device.identity.device_id;
    let caller = world.engine().for_caller(world.org(0));
    let task = world.create(opened(&device.identity, 1));
    let node = NodeName::parse(GatewayName::parse("coap").unwrap(), "lamp").unwrap();
    let node = block_on(caller.node_add(node)).unwrap();
    let retention = |events| block_on(caller.retention_put(vec![(RetentionClass::Events, events)])).unwrap();
    for _ in 0..3 {
        world.delete(0, task.id).unwrap();
        block_on(caller.certificate_revoke(&serial, RevocationReason::KeyCompromise)).unwrap();
        block_on(caller.device_certificates_revoke(device_id, RevocationReason::default())).unwrap();
        block_on(caller.node_block(node.id)).unwrap();
        retention(Some(10));
    }
    retention(None);
    retention(None);
    let count = |action: &str| told(&world, 0, action).len();
    assert_eq!(["task.delete", "certificate.revoke", "node.block"].map(count), [1; 3]);
    let of = |days: &str| ("retention".to_owned(), format!("days=events={days}"));
    assert_eq!(told(&world, 0, "retention.set"), [of("10"), of("default")]);
}

pub fn a_key_that_ends_with_a_certificate_is_told_and_an_organisation_that_a_key_makes(
    backend: impl Backend,
) {
    let world = World::new(backend);
    let root = world.engine().for_caller(world.org(0));
    let made = |org: &str, number: &str, serial: &str| {
        let text = format!("certificate:{number}");
        block_on(root.credential_add(org, number, Rights::TASKS_READ, &text, serial)).unwrap()
    };
    let (device, serial) = world.register(0, DeviceSpec::default()).unwrap();
    let (other, other_serial) = world.register(0, DeviceSpec::default()).unwrap();
    let (one, foreign) = (made("first", "one", &serial), made("second", "foreign", &serial));
    let two = made("first", "two", &other_serial);
    block_on(root.device_retire(device.identity.device_id)).unwrap();
    block_on(root.certificate_revoke(&other_serial, RevocationReason::default())).unwrap();
    let of =
        |key: &ApiKey, with: String| (format!("key {}", key.id), format!("name={} with={with}", key.name));
    let with_device = || format!("device {}", device.identity.device_id.0);
    let expected = [of(&one, with_device()), of(&two, format!("certificate {other_serial}"))];
    assert_eq!(told(&world, 0, "key.revoke"), expected);
    assert_eq!(told(&world, 1, "key.revoke"), [of(&foreign, with_device())]);
    let foreign = AuditFilter { action: Some("key.revoke".to_owned()), ..AuditFilter::default() };
    assert_eq!(asked(&world, 1, foreign)[0].entry.device, None, "that of another organisation");
    block_on(root.device_retire(other.identity.device_id)).unwrap();
    assert_eq!(told(&world, 0, "key.revoke").len(), 2);
    // The organisation of a key that is new, once.
    for name in ["a", "b"] {
        block_on(root.api_key_add("third", name, Rights::TASKS_READ)).unwrap();
    }
    let filter = AuditFilter { object: Some("org".to_owned()), ..AuditFilter::default() };
    let request = AuditRequest { filter, before: None, size: 10 };
    let of_all = block_on(root.audit_list(request, true)).unwrap().items;
    let names: Vec<_> = of_all.iter().rev().map(|found| found.entry.details[0].1.as_str()).collect();
    assert_eq!(names, ["first", "second", "third"]);
}

pub fn who_keeps_the_log_for_longer_than_others_acts_for_all(backend: impl Backend) {
    let world = World::new(backend);
    let own = covey_core::access::Caller {
        rights: Rights(Rights::ALL.0 & !Rights::ORGS_ADMIN.0),
        ..world.org(0).clone()
    };
    let put = |caller, days| {
        let put = vec![(RetentionClass::Audit, Some(days))];
        block_on(world.engine().for_caller(caller).retention_put(put))
    };
    for days in [0, 366] {
        assert_eq!(put(&own, days), Err(Error::Forbidden { right: "orgs:admin" }), "{days}");
    }
    assert_eq!((put(&own, 365), put(&own, 30), put(world.org(0), 0)), (Ok(()), Ok(()), Ok(())));
}

pub fn pages_of_the_log_follow_each_other_and_miss_nothing(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let specs = |from: u32| (from..from + 5).map(|cell| opened(&device, cell)).collect();
    // Several entries in one row, several rows in one instant.
    for from in (0..50).step_by(5) {
        block_on(world.engine().for_caller(world.org(0)).task_create_all(specs(from))).unwrap();
        if from % 20 == 0 {
            world.pass_ms(1);
        }
    }
    let filter = AuditFilter { action: Some("task.create".to_owned()), ..AuditFilter::default() };
    let whole: Vec<_> = asked(&world, 0, filter.clone());
    assert_eq!(whole.len(), 50);
    assert!(whole.is_sorted_by(|newer, older| newer.place > older.place));
    for size in [1, 3, 7, 50] {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let next = page(&world, 0, AuditRequest { filter: filter.clone(), before, size });
            assert!(next.items.len() <= size as usize);
            all.extend(next.items);
            before = next.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(all, whole, "by {size}");
    }
}

pub fn who_may_not_read_the_log_does_not(backend: impl Backend) {
    let world = World::new(backend);
    let request = || AuditRequest { filter: AuditFilter::default(), before: None, size: 10 };
    let of = |rights| covey_core::access::Caller { rights, ..world.org(0).clone() };
    let weak = of(Rights(Rights::ALL.0 & !Rights::AUDIT_READ.0));
    let own = of(Rights(Rights::ALL.0 & !Rights::ORGS_ADMIN.0));
    let list =
        |caller, is_of_all| block_on(world.engine().for_caller(caller).audit_list(request(), is_of_all));
    assert_eq!(list(&weak, false), Err(Error::Forbidden { right: "audit:read" }));
    assert_eq!(list(&own, true), Err(Error::Forbidden { right: "orgs:admin" }));
    assert!(block_on(world.engine().for_caller(&own).audit_chains()).is_err());
    assert!(block_on(world.engine().for_caller(&own).audit_rows(0, 0)).is_err());
    assert!(list(&own, false).is_ok() && list(world.org(0), true).is_ok());
}

pub fn refusals_are_told_as_few_entries(backend: impl Backend) {
    let world = World::new(backend);
    let org = Some(world.org(0).org);
    for round in 0..100 {
        world.engine().server().audit_refused(RefusedCall {
            org: org.filter(|_| round % 2 == 0),
            actor: AuditActor::stranger(""),
            from: Some("192.0.2.7".parse().unwrap()),
            status: 403,
            call: "DELETE /api/v1/devices/{device_id}".to_owned(),
            path: "/api/v1/devices/7".to_owned(),
            why: "the right devices:write is missing".to_owned(),
        });
    }
    block_on(world.engine().server().audit_refusals_write()).unwrap();
    let refused = AuditFilter { outcome: Some(AuditOutcome::Refused), ..AuditFilter::default() };
    let found = asked(&world, 0, refused.clone());
    assert_eq!((found.len(), found[0].entry.count), (1, 50), "{found:?}");
    let request = AuditRequest { filter: refused, before: None, size: 10 };
    let all = block_on(world.engine().for_caller(world.org(0)).audit_list(request, true)).unwrap();
    assert_eq!(all.items.len(), 2, "of nobody's organisation only who may act for all hears");
}

pub fn the_chain_holds_over_restarts_and_loses_its_oldest_rows_alone(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = world.device(0);
    let foreign = world.device(1);
    let make = |world: &World| {
        world.create(opened(&device, 1));
        world.create_as(1, opened(&foreign, 2)).unwrap();
    };
    for _ in 0..3 {
        make(&world);
        world.restart();
    }
    let rows = |world: &World| {
        let verified = verify(&**world.store(), world.now()).unwrap();
        (
            verified.iter().map(|one| one.rows).sum::<u64>(),
            verified.iter().map(|one| one.head.number).sum::<i64>(),
        )
    };
    let (count, head) = rows(&world);
    assert!(count >= 10 && head == i64::try_from(count).unwrap(), "{count} {head}");
    let put = |world: &World, org, days| {
        let put =
            world.engine().for_caller(world.org(org)).retention_put(vec![(RetentionClass::Audit, days)]);
        block_on(put)
    };
    let refused = put(&world, 0, Some(7));
    assert!(matches!(refused, Err(Error::Invalid { field: "audit", .. })), "{refused:?}");
    put(&world, 0, Some(30)).unwrap();
    put(&world, 1, Some(40)).unwrap();
    world.pass_ms(31 * DAY_MS);
    make(&world);
    let prune = |world: &World| while block_on(world.engine().server().prune()).unwrap().1 {};
    prune(&world);
    let (left, head) = rows(&world);
    assert!(left > 3, "what one keeps for longer keeps what came after it: {left}");
    world.pass_ms(10 * DAY_MS);
    prune(&world);
    let (left, same) = rows(&world);
    // The last one that is too old, and two more.
    assert_eq!((left, same), (3, head), "the anchor stands for what is gone");
    make(&world);
    world.restart();
    make(&world);
    assert_eq!(rows(&world), (7, head + 4));
    assert_eq!(asked(&world, 0, AuditFilter::default()).len(), 3);
}

/// What somebody has done to rows by hand.
#[allow(dead_code)] // the stores alone can be changed by hand
pub const TAMPERED: [(&str, FlawKind, i64); 6] = [
    (
        "UPDATE audit SET entries = replace(entries, 'order 1', 'order 9') WHERE number = 5",
        FlawKind::Changed,
        5,
    ),
    ("UPDATE audit SET at = at + 1 WHERE number = 5", FlawKind::Changed, 5),
    ("DELETE FROM audit WHERE number = 5", FlawKind::Missing, 5),
    ("DELETE FROM audit WHERE number > 6", FlawKind::Shortened, 7),
    (
        "INSERT INTO audit (chain, number, org_id, at, entries, hash) SELECT chain, 1000, org_id, at, entries, hash \
         FROM audit WHERE number = 5",
        FlawKind::Missing,
        0,
    ),
    (
        // All behind it is moved to make room.
        "UPDATE audit SET number = number + 1000 WHERE number > 5; UPDATE audit SET number = number - 999 \
         WHERE number > 1000; INSERT INTO audit (chain, number, org_id, at, entries, hash) \
         SELECT chain, 6, org_id, at, entries, hash FROM audit WHERE number = 5",
        FlawKind::Changed,
        6,
    ),
];

/// Writes some rows, and shows where each change by hand is found.
#[allow(dead_code)] // as above
pub fn tampered(make: impl Fn() -> (World, Box<dyn Fn(&str) -> bool>)) {
    for (sql, kind, number) in TAMPERED {
        let (world, say) = make();
        let device = world.device(0);
        for cell in 0..8 {
            world.create(opened(&device, cell));
        }
        let verified = verify(&**world.store(), world.now()).unwrap();
        let head = verified.iter().map(|one| one.head.number).max().unwrap();
        for statement in sql.split(';').take(1).filter(|one| !one.contains("INSERT")) {
            assert!(!say(statement), "the database takes it: {statement}");
        }
        assert!(verify(&**world.store(), world.now()).is_ok());
        assert!(say("unguard") && say(sql), "{sql}");
        let flaw = verify(&**world.store(), world.now()).unwrap_err();
        let number = if number == 0 { head + 1 } else { number };
        assert_eq!((flaw.kind, flaw.number), (kind, number), "{sql}: {flaw}");
    }
}
