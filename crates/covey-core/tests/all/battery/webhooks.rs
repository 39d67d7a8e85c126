//! Webhooks: endpoints as they were set, held by one server, deliveries that wait
//! and die and come back, and a log with an end.

use std::collections::BTreeMap;
use std::sync::Arc;

use covey_core::device::DeviceIdentity;
use covey_core::event::NewEvent;
use covey_core::id::{DeviceId, RecordNumber, UnixMs};
use covey_core::port::Transaction;
use covey_core::record::{Change, RecordFilter};
use covey_core::webhook::circuit::CircuitState;
use covey_core::webhook::{
    AttemptLog, AttemptsFrom, Claim, Delivery, DeliveryState, Endpoint, EndpointId, EndpointSpec,
    EndpointState, EndpointTrouble, LOG_ROWS_MAX, Outcome, Progress, ProgressSaved, StoredDelivery,
    WebhookFormat, WebhookHeaders, WebhookReader, WebhookSecret, WebhookType,
};
use futures_executor::block_on;

use super::events::{add, event};
use crate::world::steps::run;
use crate::world::{Backend, World};

fn full_spec() -> EndpointSpec {
    let headers = [("X-Team", "north"), ("Authorization", "Bearer \"x\", y")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    EndpointSpec {
        headers: WebhookHeaders(headers),
        is_active: false,
        filter: RecordFilter {
            devices: vec![DeviceId(7), DeviceId(9)],
            tags: vec![("room".to_owned(), None), ("site".to_owned(), Some("a\"b".to_owned()))],
            kinds: Vec::new(),
            event_types: vec![13, -1],
            granted: None,
        },
        format: WebhookFormat::CloudEvents,
        concurrency: 3,
        device_id_in_path: true,
        ..EndpointSpec::new(WebhookType::Event, "https://receiver.example/hook?x=1")
    }
}

fn make(world: &World, spec: EndpointSpec, is_default: bool) -> EndpointId {
    let org = world.org(0).org;
    run(world, move |tx| tx.webhook_insert(org, &spec, &WebhookSecret::new("whsec_first"), is_default))
}

fn active(world: &World) -> EndpointId {
    make(world, EndpointSpec::new(WebhookType::Event, "https://receiver.example/"), false)
}

fn list(world: &World, org: usize) -> Vec<(Endpoint, EndpointState)> {
    block_on(world.store().webhook_list(world.org(org))).unwrap()
}

fn state(world: &World, id: EndpointId) -> EndpointState {
    list(world, 0).into_iter().find(|(endpoint, _)| endpoint.id == id).unwrap().1
}

fn claim(server: &str, nonce: i64) -> Claim {
    Claim { server: server.to_owned(), nonce }
}

/// Tries to take hold, for a while; answers whether it is held then.
fn hold(world: &World, by: &Claim, id: EndpointId, for_ms: i64) -> bool {
    let claim = by.clone();
    run(world, move |tx| {
        let until = tx.now().plus_ms(for_ms);
        tx.webhook_claim(&claim, &[id], until)
    });
    !block_on(world.store().webhook_held_of_every_org(by.clone(), vec![id])).unwrap().is_empty()
}

fn save(world: &World, by: &Claim, id: EndpointId, progress: Progress) -> ProgressSaved {
    let claim = by.clone();
    run(world, move |tx| {
        let until = tx.now().plus_ms(15_000);
        tx.webhook_progress(&claim, id, until, &progress)
    })
}

/// Events of a device, and the numbers of their records.
fn told(world: &World, device: &DeviceIdentity, count: u32) -> Vec<RecordNumber> {
    let before = block_on(world.engine().server().record_span_of_every_org()).unwrap().settled;
    for number in 1..=count {
        let body = format!("{{\"101\": {number}}}");
        add(world, device, NewEvent { dev_timestamp: None, ..event(13, 0, &body) });
    }
    let request = covey_core::record::RecordRequest {
        org: Some(world.org(0).org),
        after: before,
        until: None,
        limit: 1_000,
        bytes_max: usize::MAX,
        with_tags: false,
    };
    let page =
        block_on(covey_core::record::RecordReader::record_list_of_every_org(&**world.store(), request));
    let of_device = page.unwrap().records.into_iter();
    of_device.filter(|record| record.device.identity == *device).map(|record| record.number).collect()
}

fn delivery(device: &DeviceIdentity, number: RecordNumber, attempts: u32) -> Delivery {
    let (deadline, next_at) = (UnixMs(5_000_000), UnixMs(2_000));
    Delivery { number, device: device.device, device_id: device.device_id, deadline, attempts, next_at }
}

fn stored(delivery: Delivery, state: DeliveryState) -> Option<StoredDelivery> {
    Some(StoredDelivery { delivery, state, status: Some(500), error: Some(Arc::from("status 500")) })
}

fn deliveries(changes: impl IntoIterator<Item = (RecordNumber, Option<StoredDelivery>)>) -> Progress {
    Progress { deliveries: changes.into_iter().collect::<BTreeMap<_, _>>(), ..Progress::default() }
}

fn attempt(number: i64, outcome: Outcome) -> AttemptLog {
    AttemptLog {
        number: Some(RecordNumber(number)),
        device_id: Some(DeviceId(3)),
        attempt: 2,
        at: UnixMs(1_700_000_000_000 + number),
        duration_ms: 17,
        status: Some(503),
        error: Some(Arc::from("status 503")),
        outcome,
    }
}

fn log(world: &World, id: EndpointId, from: AttemptsFrom) -> Vec<(i64, AttemptLog)> {
    let found = block_on(world.store().webhook_attempts(world.org(0), id, from)).unwrap();
    found.into_iter().map(|row| (row.seq, row.attempt)).collect()
}

const SOME: AttemptsFrom = AttemptsFrom { before: None, after: None, outcome: None, limit: 1_000 };

pub fn an_endpoint_comes_back_as_it_was_set(backend: impl Backend) {
    let mut world = World::new(backend);
    let (org, other) = (world.org(0).org, world.org(1).org);
    let id = make(&world, full_spec(), true);
    let second = active(&world);
    assert_eq!(run(&world, move |tx| tx.webhook_count(org)), 2);
    assert_eq!(run(&world, move |tx| tx.webhook_count(other)), 0);
    world.restart();
    let known = run(&world, move |tx| tx.webhook_default(org, WebhookType::Event)).unwrap();
    assert_eq!((known.id, &known.spec, known.version, known.is_default), (id, &full_spec(), 1, true));
    assert_eq!((known.org, known.secret.exposed(), known.old_secret.clone()), (org, "whsec_first", None));
    assert_eq!(run(&world, move |tx| tx.webhook(other, id)), None);
    assert_eq!(run(&world, move |tx| tx.webhook_default(org, WebhookType::Task)), None);
    world.pass_ms(5);
    let mut changed = known.clone();
    changed.spec = EndpointSpec::new(WebhookType::Event, "https://other.example/");
    changed.old_secret = Some((known.secret.clone(), UnixMs(77)));
    changed.secret = WebhookSecret::new("whsec_second");
    let written = changed.clone();
    run(&world, move |tx| tx.webhook_update(&written, false));
    let again = run(&world, move |tx| tx.webhook(org, id)).unwrap();
    assert_eq!(again.updated_at.since_ms(known.updated_at), 5);
    assert_eq!(again, Endpoint { version: 2, updated_at: again.updated_at, ..changed });
    let listed: Vec<_> = list(&world, 0).into_iter().map(|(endpoint, _)| endpoint.id).collect();
    assert_eq!((listed, list(&world, 1).len()), (vec![id, second], 0));
    assert!(!run(&world, move |tx| tx.webhook_delete(other, id)));
    assert!(run(&world, move |tx| tx.webhook_delete(org, id)));
    assert!(!run(&world, move |tx| tx.webhook_delete(org, id)));
    assert_eq!(run(&world, move |tx| tx.webhook(org, id)), None);
    assert_ne!(make(&world, full_spec(), true), id, "a number is not given again");
}

pub fn an_endpoint_begins_at_the_end_of_the_outbox(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let numbers = told(&world, &device, 3);
    let id = active(&world);
    let begun = state(&world, id).position;
    assert!(begun >= *numbers.last().unwrap());
    let numbers = told(&world, &device, 2);
    assert!(begun < numbers[0], "what comes then is told");
    let endpoint = list(&world, 0).remove(0).0;
    run(&world, move |tx| tx.webhook_update(&endpoint, true));
    assert!(state(&world, id).position >= numbers[1]);
}

pub fn an_endpoint_is_held_by_one_server(backend: impl Backend) {
    let world = World::new(backend);
    let (id, quiet) = (active(&world), make(&world, full_spec(), false));
    let (first, second) = (claim("server-1", 11), claim("server-2", 22));
    assert!(hold(&world, &first, id, 15_000));
    assert!(!hold(&world, &second, id, 15_000), "it is held");
    assert!(!hold(&world, &first, quiet, 15_000), "it is not active");
    let claimable = block_on(world.store().webhook_claimable_of_every_org()).unwrap();
    assert_eq!(claimable.len(), 1);
    assert_eq!((claimable[0].id, claimable[0].holder.clone()), (id, Some(first.clone())));
    let moved = |position| Progress { position: RecordNumber(position), ..Progress::default() };
    assert_eq!(save(&world, &first, id, moved(1 << 40)), ProgressSaved::Saved { resends: 0 });
    assert_eq!(save(&world, &second, id, moved(2 << 40)), ProgressSaved::Lost);
    assert_eq!(state(&world, id).position, RecordNumber(1 << 40));
    save(&world, &first, id, moved(1));
    assert_eq!(state(&world, id).position, RecordNumber(1 << 40), "it never goes back");
    world.pass_ms(15_001);
    assert!(hold(&world, &second, id, 15_000), "its time is up");
    assert_eq!(save(&world, &first, id, moved(2 << 40)), ProgressSaved::Lost);
    let restarted = claim("server-2", 23);
    assert!(hold(&world, &restarted, id, 15_000), "it is the same server");
    assert_eq!(save(&world, &second, id, moved(2 << 40)), ProgressSaved::Lost);
    let released = restarted.clone();
    run(&world, move |tx| tx.webhook_release(&released));
    assert!(hold(&world, &first, id, 15_000));
    let org = world.org(0).org;
    run(&world, move |tx| tx.webhook_delete(org, id));
    assert_eq!(save(&world, &first, id, moved(2 << 40)), ProgressSaved::Lost, "it is gone");
}

pub fn what_was_done_is_kept(backend: impl Backend) {
    let mut world = World::new(backend);
    let id = active(&world);
    let by = claim("server-1", 1);
    hold(&world, &by, id, 15_000);
    let progress = Progress {
        position: RecordNumber(1 << 40),
        attempts: (1..=3).map(|number| attempt(number, Outcome::Retry)).collect(),
        circuit: CircuitState { open_since: Some(UnixMs(77)), failures: 9 },
        last_error: Some(Arc::from("no connection")),
        last_delivered_at: Some(UnixMs(88)),
        ..Progress::default()
    };
    save(&world, &by, id, progress);
    let trouble = EndpointTrouble { org: world.org(0).org, id, state: state(&world, id) };
    assert_eq!(trouble.state.circuit.open_since, Some(UnixMs(77)));
    let troubles = |world: &World| block_on(world.store().webhook_troubles_of_every_org()).unwrap();
    assert_eq!(troubles(&world), [trouble]);
    let later = Progress { attempts: vec![attempt(4, Outcome::Delivered)], ..Progress::default() };
    save(&world, &by, id, later);
    assert_eq!(troubles(&world), [], "what is well is not read");
    world.restart();
    let kept = state(&world, id);
    assert_eq!((kept.circuit, kept.last_error), (CircuitState::default(), None));
    assert_eq!((kept.last_delivered_at, kept.server), (Some(UnixMs(88)), Some("server-1".to_owned())));
    let test = AttemptLog { number: None, device_id: None, error: None, ..attempt(5, Outcome::TestPassed) };
    let written = test.clone();
    run(&world, move |tx| tx.webhook_log(id, &written));
    let all = log(&world, id, SOME);
    let numbers: Vec<_> = all.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);
    assert_eq!((&all[0].1, &all[4].1), (&test, &attempt(1, Outcome::Retry)));
    let page = |from: AttemptsFrom| log(&world, id, from).into_iter().map(|(seq, _)| seq).collect::<Vec<_>>();
    assert_eq!(page(AttemptsFrom { before: Some(4), limit: 2, ..SOME }), [3, 2]);
    assert_eq!(page(AttemptsFrom { after: Some(2), limit: 2, ..SOME }), [3, 4]);
    assert_eq!(page(AttemptsFrom { outcome: Some(Outcome::Delivered), ..SOME }), [4]);
    let foreign = block_on(world.store().webhook_attempts(world.org(1), id, SOME)).unwrap();
    assert_eq!(foreign, []);
}

pub fn a_log_has_an_end(backend: impl Backend) {
    let world = World::new(backend);
    let id = active(&world);
    let by = claim("server-1", 1);
    hold(&world, &by, id, 15_000);
    for part in 0..11 {
        let attempts = (0..1_000).map(|number| attempt(part * 1_000 + number, Outcome::Delivered)).collect();
        save(&world, &by, id, Progress { attempts, ..Progress::default() });
    }
    let oldest = log(&world, id, AttemptsFrom { after: Some(0), limit: 1, ..SOME });
    assert_eq!(oldest[0].0, 11_000 - LOG_ROWS_MAX + 1);
    let before = UnixMs(1_700_000_000_000 + 10_990);
    let forget = move |tx: &mut dyn Transaction| tx.webhook_forget(before, UnixMs(0), 1_000);
    while run(&world, forget) > 0 {}
    assert_eq!(log(&world, id, SOME).len(), 10);
}

pub fn deliveries_wait_die_and_come_back(backend: impl Backend) {
    let mut world = World::new(backend);
    let (device, other) = (world.device(0), world.device(0));
    let numbers = told(&world, &device, 5);
    let others = told(&world, &other, 1);
    let id = active(&world);
    let by = claim("server-1", 1);
    hold(&world, &by, id, 15_000);
    let deferred =
        |number: RecordNumber| (number, stored(delivery(&device, number, 0), DeliveryState::Deferred));
    save(&world, &by, id, deliveries(numbers.iter().copied().map(deferred)));
    save(
        &world,
        &by,
        id,
        deliveries([(others[0], stored(delivery(&other, others[0], 1), DeliveryState::Deferred))]),
    );
    assert_eq!((state(&world, id).deferred, state(&world, id).dead), (6, 0));
    world.restart();
    let device_queues = block_on(world.store().webhook_device_queues_of_every_org(id)).unwrap();
    let mut shown: Vec<_> = device_queues
        .iter()
        .map(|device_queue| (device_queue.device, device_queue.first, device_queue.until))
        .collect();
    shown.sort();
    let mut expected = vec![(device.device, numbers[0], numbers[4]), (other.device, others[0], others[0])];
    expected.sort();
    assert_eq!(shown, expected);
    let read = |after: RecordNumber, limit: u32| {
        let device_queues = vec![(device.device, after), (other.device, RecordNumber(0))];
        let found =
            block_on(world.store().webhook_queued_deliveries_of_every_org(id, device_queues, limit)).unwrap();
        assert_eq!(found[1].deliveries, [delivery(&other, others[0], 1)]);
        let of_device = found.into_iter().next().unwrap();
        (of_device.deliveries.iter().map(|delivery| delivery.number).collect::<Vec<_>>(), of_device.is_more)
    };
    assert_eq!(read(RecordNumber(0), 3), (numbers[..3].to_vec(), true));
    assert_eq!(read(numbers[2], 3), (numbers[3..].to_vec(), false));
    let record = block_on(world.store().webhook_record_of_every_org(id, numbers[1])).unwrap().unwrap();
    assert_eq!((record.number, &record.device.identity), (numbers[1], &device));
    assert!(matches!(&record.change, Change::Event(event) if &*event.payload == "{\"101\": 2}"));
    // The first is delivered, the second dies, the third failed once more.
    let retried = delivery(&device, numbers[2], 4);
    let changes = [
        (numbers[0], None),
        (numbers[1], stored(delivery(&device, numbers[1], 9), DeliveryState::Dead)),
        (numbers[2], stored(retried, DeliveryState::Deferred)),
    ];
    save(&world, &by, id, deliveries(changes));
    assert_eq!((state(&world, id).deferred, state(&world, id).dead), (4, 1));
    assert_eq!(read(RecordNumber(0), 9), (numbers[2..].to_vec(), false));
    let dead = block_on(world.store().webhook_dead_letters(world.org(0), id, SOME)).unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].delivery.delivery.attempts, dead[0].delivery.status), (9, Some(500)));
    assert_eq!((dead[0].delivery.error.as_deref(), dead[0].died_at), (Some("status 500"), world.now()));
    assert_eq!(dead[0].record.as_ref(), Some(&record));
    let one =
        |org: usize, number| block_on(world.store().webhook_dead_letter(world.org(org), id, number)).unwrap();
    assert_eq!(one(0, numbers[1]).as_ref(), Some(&dead[0]));
    assert_eq!((one(1, numbers[1]), one(0, numbers[2])), (None, None));
    let (none, all) = (numbers[2], numbers[1]);
    assert_eq!(run(&world, move |tx| tx.webhook_resend(id, Some(none), UnixMs(9), 10)), 0);
    assert_eq!(run(&world, move |tx| tx.webhook_resend(id, Some(all), UnixMs(9_000), 10)), 1);
    assert_eq!(run(&world, move |tx| tx.webhook_resend(id, None, UnixMs(9), 10)), 0);
    assert_eq!((state(&world, id).deferred, state(&world, id).dead), (5, 0));
    assert_eq!(save(&world, &by, id, Progress::default()), ProgressSaved::Saved { resends: 1 });
    assert_eq!(read(RecordNumber(0), 9), (numbers[1..].to_vec(), false));
    let held = block_on(world.store().webhook_held_of_every_org(by, vec![id])).unwrap();
    assert!(held[0].stored_before.is_empty(), "the endpoint began after them");
}

pub fn deliveries_after_the_position_are_known(backend: impl Backend) {
    let world = World::new(backend);
    let id = active(&world);
    let device = world.device(0);
    let numbers = told(&world, &device, 3);
    let by = claim("server-1", 1);
    hold(&world, &by, id, 15_000);
    let deferred =
        |number: RecordNumber| (number, stored(delivery(&device, number, 0), DeliveryState::Deferred));
    save(&world, &by, id, deliveries([deferred(numbers[1]), deferred(numbers[2])]));
    let held = block_on(world.store().webhook_held_of_every_org(by, vec![id])).unwrap();
    assert_eq!(held[0].stored_before.iter().copied().collect::<Vec<_>>(), numbers[1..].to_vec());
}

pub fn a_deleted_endpoint_leaves_nothing(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let numbers = told(&world, &device, 3);
    let (id, other) = (active(&world), active(&world));
    let by = claim("server-1", 1);
    for endpoint in [id, other] {
        hold(&world, &by, endpoint, 15_000);
        let dead = |number: RecordNumber| (number, stored(delivery(&device, number, 0), DeliveryState::Dead));
        let attempts = vec![attempt(1, Outcome::Dead)];
        let progress = Progress { attempts, ..deliveries(numbers.iter().copied().map(dead)) };
        save(&world, &by, endpoint, progress);
    }
    let org = world.org(0).org;
    run(&world, move |tx| tx.webhook_delete(org, id));
    let forget = |world: &World, died: UnixMs| {
        let mut count = 0;
        loop {
            match run(world, move |tx| tx.webhook_forget(UnixMs(0), died, 2)) {
                0 => return count,
                some => count += some,
            }
        }
    };
    assert!(forget(&world, UnixMs(0)) >= 5);
    assert_eq!((state(&world, other).dead, log(&world, other, SOME).len()), (3, 1), "others keep theirs");
    assert_eq!(forget(&world, world.now()), 0);
    world.pass_ms(1);
    assert_eq!(forget(&world, world.now()), 3);
    assert_eq!(state(&world, other).dead, 0);
}
