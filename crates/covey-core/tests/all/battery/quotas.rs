//! What is kept: counted by days, bounded, and known again after a restart.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use covey_core::Error;
use covey_core::device::DeviceIdentity;
use covey_core::error::StorageFault;
use covey_core::event::{NewEvent, Reported};
use covey_core::limits::Limits;
use covey_core::operation::Operation;
use covey_core::port::{Event, Job, Refusal, Store, Transaction, Turn};
use covey_core::quota::{
    DayKept, FirstDays, KeptAdd, KeptMark, PARTS, PARTS_ALL, QuotaReader, ROW_BYTES, part_of,
};
use covey_core::retention::RetentionClass;
use covey_core::task::{Task, TaskSpec, TaskStatus};
use covey_core::twin::TwinPatch;
use covey_core::webhook::{EndpointRef, EndpointSpec, SetError, WebhookType};
use futures_executor::block_on;

use super::events::{add, event};
use crate::world::steps::run;
use crate::world::{Backend, World, lasting, result, spec};

const DAY_MS: i64 = 86_400_000;
/// A life of tasks that is longer than a test, in minutes.
const LONG: i64 = 10_000;
/// How long after its end the database may take a server for one that runs.
const END_SEEN_AFTER: Duration = Duration::from_secs(10);

pub fn count(world: &World) {
    while block_on(world.engine().server().quota_step()).unwrap() {}
}

/// Writes what was counted, and asks the store again.
pub fn flush(world: &World) {
    world.pass_ms(60_000);
    count(world);
}

/// What the first organisation keeps.
pub fn kept(world: &World) -> u64 {
    let all = world.engine().server().kept_by_org();
    all.into_iter().find(|(name, _)| name == "first").map_or(0, |(_, bytes)| bytes)
}

/// The same, once it is so much: a server that was killed may seem to run for a moment.
pub fn until_kept(world: &World, bytes: u64) {
    let begun = Instant::now();
    while kept(world) != bytes {
        assert!(begun.elapsed() < END_SEEN_AFTER, "{} and not {bytes}", kept(world));
        std::thread::sleep(Duration::from_millis(20));
        flush(world);
    }
}

/// What the store says that devices keep.
pub fn stored(world: &World, devices: &[&DeviceIdentity]) -> Vec<i64> {
    let wanted = devices.iter().map(|device| (device.device, FirstDays::EVER)).collect();
    block_on(world.store().kept_of_devices_of_every_org(wanted)).unwrap()
}

/// A task with parameters of 1,744 bytes, which are 2,000 with its row.
pub fn large(device: &DeviceIdentity) -> TaskSpec {
    let payload = format!("\"{}\"", "x".repeat(1_742));
    TaskSpec { payload: Some(payload.into()), ..lasting(device, 1) }
}

fn is_refused<T>(made: Result<T, Error>) -> bool {
    matches!(made, Err(Error::OverQuota { .. }))
}

/// A step of an operation that nobody else asks for.
struct Step<O>(O, mpsc::Sender<()>);

impl<O: Operation> Job for Step<O> {
    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn run(&mut self, tx: &mut dyn Transaction) -> Result<(), StorageFault> {
        assert!(self.0.apply(tx).is_ok());
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), StorageFault>) {
        outcome.unwrap();
        self.1.send(()).unwrap();
    }
}

fn execute(world: &World, operation: impl Operation) {
    let (done, is_done) = mpsc::channel();
    world.store().submit(Box::new(Step(operation, done))).unwrap();
    is_done.recv().unwrap();
}

pub fn who_keeps_as_much_as_may_be_stores_nothing_new(backend: impl Backend) {
    let mut world = World::with_limits(backend, Limits { device_bytes_max: 10_000, ..Limits::default() });
    let (device, other) = (world.device(0), world.device(0));
    count(&world);
    let tasks: Vec<_> = (0..5).map(|_| world.create(large(&device))).collect();
    count(&world);
    assert!(is_refused(world.create_as(0, lasting(&device, 1))));
    let send = |world: &World, event: NewEvent, is_acknowledged| {
        block_on(world.engine().for_device(&device).event_add(event, is_acknowledged))
    };
    assert!(is_refused(send(&world, event(13, 1, "{}"), false)));
    assert!(send(&world, event(44, 1, "{}"), false).is_ok(), "a gauge replaces the one before");
    let value = Reported { resource: "a".to_owned(), value: "1".into() };
    let reporting = NewEvent { reported: vec![value], ..event(44, 2, "{}") };
    assert!(is_refused(send(&world, reporting, false)), "the earlier values are kept");
    let wanted = vec![("a".to_owned(), Some(Arc::from("1")))];
    let patch = TwinPatch { desired: wanted, ttl_minutes: 1, ..TwinPatch::default() };
    assert!(is_refused(block_on(
        world.engine().for_caller(world.org(0)).twin_patch(device.device_id, patch)
    )));
    assert!(world.outside.counts.of(Event::Refused(Refusal::Quota)) >= 4);
    assert!(send(&world, event(13, 2, "{}"), true).is_ok(), "a broker has acknowledged it");
    assert!(world.finish(&device, tasks[0].id, result(200, 0, "body")).unwrap().finished.is_some());
    assert!(world.create_as(0, lasting(&other, 1)).is_ok());
    let before = kept(&world);
    world.restart();
    count(&world);
    until_kept(&world, before);
    // It is let through until the store has said what it keeps.
    world.create(lasting(&device, 1));
    count(&world);
    assert!(is_refused(world.create_as(0, lasting(&device, 1))));
    for task in &tasks[1..3] {
        world.delete(0, task.id).unwrap();
    }
    assert!(world.create_as(0, large(&device)).is_ok());
    world.pass_ms(92 * DAY_MS);
    flush(&world);
    assert_eq!(kept(&world), 0, "all of it is too old");
    assert!(world.create_as(0, large(&device)).is_ok());
}

pub fn an_organisation_has_a_quota_over_all_its_devices(backend: impl Backend) {
    let world = World::with_limits(backend, Limits { org_bytes_max: 6_000, ..Limits::default() });
    let devices = [(); 3].map(|()| world.device(0));
    count(&world);
    for device in &devices {
        world.create(large(device));
    }
    assert!(is_refused(world.create_as(0, lasting(&devices[0], 1))));
    let foreign = world.device(1);
    assert!(world.create_as(1, lasting(&foreign, 1)).is_ok());
    // Things are kept for a shorter time, and those are older.
    world.pass_ms(2 * DAY_MS);
    let shorter = vec![(RetentionClass::Tasks, Some(1))];
    block_on(world.engine().for_caller(world.org(0)).retention_put(shorter)).unwrap();
    count(&world);
    assert_eq!(kept(&world), 0);
    assert!(world.create_as(0, lasting(&devices[0], 1)).is_ok());
}

/// Of each kind that is counted, for 11 rows; and what is not counted. Answers how much more is kept, and how much of
/// parameters came and went.
fn live(world: &World, device: &DeviceIdentity, round: u32) -> (u64, u64) {
    let (task, other) = (world.create(spec(device)), world.create(large(device)));
    world.request(device, task.id).unwrap();
    for (status_code, ext_id, body) in [(206, 0, "partial"), (200, 1, "body"), (200, 1, "body")] {
        world.finish(device, task.id, result(status_code, ext_id, body)).unwrap();
    }
    let value = |name: &str| Reported { resource: name.to_owned(), value: "12345".into() };
    let happened = NewEvent { reported: vec![value("x"), value("y")], ..event(2, round, "{\"a\":1}") };
    add(world, device, happened.clone());
    add(world, device, happened);
    add(world, device, event(44, round, "{\"gauge\":1}"));
    let patch = |patch| block_on(world.engine().for_caller(world.org(0)).twin_patch(device.device_id, patch));
    let reported = vec![("a".to_owned(), Some(Arc::from("7"))), ("b".to_owned(), None)];
    patch(TwinPatch { reported, ttl_minutes: 1, ..TwinPatch::default() }).unwrap();
    let [first, second] = ["1", "2"].map(|wish| {
        let desired = vec![("wish".to_owned(), Some(Arc::from(wish)))];
        let version = patch(TwinPatch { desired, ttl_minutes: LONG, ..TwinPatch::default() });
        let version = version.unwrap().versions.desired;
        format!(r#"{{"resource":"wish","value":{wish},"version":{version}}}"#).len()
    });
    let bodies = "partial".len() + "body".len() + "{\"a\":1}".len() + 2 * "12345".len() + "7".len();
    let gone = [&task, &other].map(|task| {
        world.delete(0, task.id).unwrap();
        task.payload.as_ref().unwrap().len()
    });
    let gone = gone.iter().sum::<usize>() + first;
    ((bodies + second + 11 * ROW_BYTES) as u64, gone as u64)
}

pub fn what_a_killed_server_had_counted_is_counted_again(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = world.device(0);
    // The parameters of the wish that is not taken: the next one takes its place.
    let wish = |world: &World| {
        let twin = block_on(world.engine().for_caller(world.org(0)).twin_get(device.device_id)).unwrap();
        let task = twin.resources.into_iter().find_map(|resource| resource.desired).unwrap().task;
        world.get(task).task.payload.unwrap().len() as u64
    };
    let (mut all, _) = live(&world, &device, 1);
    count(&world);
    assert_eq!(kept(&world), all, "what was stored before it was counted first");
    assert_eq!(stored(&world, &[&device]), [i64::try_from(all).unwrap()]);
    for round in 2..=4 {
        all -= wish(&world);
        let (more, gone) = live(&world, &device, round);
        all += more;
        assert_eq!(kept(&world), all, "round {round}");
        world.restart_quietly();
        count(&world);
        // How large the parameters were that came and went unwritten is not known any more.
        all -= gone;
        until_kept(&world, all);
        flush(&world);
        assert_eq!(stored(&world, &[&device]), [i64::try_from(all).unwrap()]);
    }
    for _ in 0..2 {
        world.restart_quietly();
        count(&world);
        flush(&world);
        assert_eq!(kept(&world), all, "nothing is counted twice");
    }
}

pub fn a_server_that_is_killed_while_it_writes_has_counted_all_once(backend: impl Backend) {
    let mut world = World::new(backend);
    let (first, second) = (world.device(0), world.device(0));
    let (first, second) =
        if part_of(first.device) < part_of(second.device) { (first, second) } else { (second, first) };
    count(&world);
    let create = |world: &World| [&first, &second].map(|device| world.create(large(device)));
    let [task, _] = create(&world);
    let row = (first.device, DayKept::at(RetentionClass::Tasks, task.created_at, 2_000));
    let to = part_of(first.device) + 1;
    execute(&world, KeptMark);
    let part = || KeptAdd { of_devices: vec![row], of_orgs: Vec::new(), from: 0, to };
    execute(&world, part());
    // Its answer was lost.
    execute(&world, part());
    create(&world);
    world.restart_quietly();
    count(&world);
    until_kept(&world, 8_000);
    assert_eq!(stored(&world, &[&first, &second]), [4_000, 4_000]);
    // The same when all was written, and the next place not marked.
    create(&world);
    execute(&world, KeptMark);
    let rows = [&first, &second].map(|device| (device.device, row.1)).to_vec();
    let org = (first.org, DayKept { bytes: 4_000, ..row.1 });
    execute(&world, KeptAdd { of_devices: rows, of_orgs: Vec::new(), from: 0, to: PARTS });
    execute(&world, KeptAdd { of_devices: Vec::new(), of_orgs: vec![org], from: PARTS, to: PARTS_ALL });
    create(&world);
    world.restart_quietly();
    count(&world);
    until_kept(&world, 16_000);
    assert_eq!(stored(&world, &[&first, &second]), [8_000, 8_000]);
}

pub fn the_parameters_of_a_deleted_task_are_gone_at_once(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = world.device(0);
    count(&world);
    let create = |ttl_minutes| world.create(TaskSpec { ttl_minutes, ..large(&device) }).id;
    let [ready, locked, done, expired] = [LONG, LONG, LONG, 1].map(create);
    world.request(&device, locked).unwrap();
    world.finish(&device, done, result(200, 0, "")).unwrap();
    world.restart_quietly();
    world.pass_ms(60_001);
    world.sweep();
    assert_eq!(world.get(expired).task.status, TaskStatus::Expired);
    count(&world);
    until_kept(&world, 4 * 2_000 + ROW_BYTES as u64);
    let mut left = kept(&world);
    for id in [ready, locked, done, expired] {
        assert!(world.get(id).task.payload.is_some());
        world.delete(0, id).unwrap();
        assert!(world.get(id).task.payload.is_none(), "the store has it no longer");
        left -= 1_744;
        assert_eq!(kept(&world), left);
        // It is not freed twice.
        world.delete(0, id).unwrap();
        assert_eq!(kept(&world), left);
    }
    assert_eq!(stored(&world, &[&device]), [i64::try_from(left).unwrap()]);
    world.restart_quietly();
    assert!(world.get(done).task.payload.is_none());
    count(&world);
    assert_eq!(kept(&world), left);
}

pub fn what_is_told_of_a_task_that_has_ended_is_new(backend: impl Backend) {
    let world = World::with_limits(backend, Limits { device_bytes_max: 10_000, ..Limits::default() });
    let device = world.device(0);
    count(&world);
    let tasks: Vec<_> = (0..5).map(|_| world.create(large(&device))).collect();
    count(&world);
    let finish = |task: &Task, ext_id| world.finish(&device, task.id, result(200, ext_id, "body"));
    assert!(finish(&tasks[0], 0).unwrap().finished.is_some(), "it was asked for when there was room");
    let before = (kept(&world), world.outside.counts.of(Event::Refused(Refusal::Quota)));
    assert!(is_refused(finish(&tasks[0], 1)));
    assert_eq!((kept(&world), world.get(tasks[0].id).results.len()), (before.0, 1));
    assert_eq!(world.outside.counts.of(Event::Refused(Refusal::Quota)), before.1 + 1);
    assert!(finish(&tasks[0], 0).unwrap().duplicate, "it is stored already");
    world.delete(0, tasks[1].id).unwrap();
    assert!(finish(&tasks[0], 1).unwrap().not_stored.is_none());
}

/// Takes back what was counted of a task, as if it had been made before there was any counting.
fn uncount(world: &World, task: &Task, bytes: i64) {
    let (org, device) = (task.org, task.device);
    let day = DayKept::at(RetentionClass::Tasks, task.created_at, -bytes);
    run(world, move |tx| tx.kept_add(&[(device, day)], &[(org, day)]));
}

pub fn what_was_never_counted_frees_nothing_when_it_is_deleted(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = world.device(0);
    count(&world);
    let old = world.create(TaskSpec { ttl_minutes: LONG, ..large(&device) });
    flush(&world);
    uncount(&world, &old, 2_000);
    world.pass_ms(DAY_MS);
    world.create(large(&device));
    flush(&world);
    assert_eq!(kept(&world), 2_000);
    world.delete(0, old.id).unwrap();
    flush(&world);
    assert_eq!((kept(&world), stored(&world, &[&device])), (2_000, vec![2_000]));
    world.restart();
    count(&world);
    until_kept(&world, 2_000);
}

/// The bytes of all days of which the store still knows what an organisation has stored.
fn stored_of_org(world: &World, org: usize) -> i64 {
    let days = block_on(world.store().kept_of_orgs_of_every_org()).unwrap();
    days.iter().filter(|day| day.org == world.org(org).org).map(|day| day.bytes).sum()
}

pub fn days_are_forgotten_of_each_organisation_at_its_time(backend: impl Backend) {
    let world = World::new(backend);
    let (device, foreign) = (world.device(0), world.device(1));
    let put = |org, days| {
        let days = vec![(RetentionClass::Tasks, days)];
        block_on(world.engine().for_caller(world.org(org)).retention_put(days)).unwrap();
    };
    let left = |world: &World| {
        flush(world);
        let of_devices = stored(world, &[&device, &foreign]);
        (of_devices, [0, 1].map(|org| stored_of_org(world, org)))
    };
    put(1, Some(0));
    count(&world);
    world.create(large(&device));
    world.create_as(1, large(&foreign)).unwrap();
    let (org, key, today) = (device.org, device.device, DayKept::at(RetentionClass::Tasks, world.now(), 1));
    run(&world, move |tx| {
        let days = (1..=95).map(|ago| DayKept { day: today.day - ago, ..today });
        let (of_device, of_org): (Vec<_>, Vec<_>) = days.map(|day| ((key, day), (org, day))).unzip();
        tx.kept_add(&of_device, &of_org)
    });
    assert_eq!(left(&world), (vec![2_090, 2_000], [2_090, 2_000]), "a day is over when all of it is too old");
    world.pass_ms(92 * DAY_MS);
    assert_eq!(left(&world), (vec![0, 2_000], [0, 2_000]), "the second organisation keeps everything");
    put(1, Some(1));
    assert_eq!(left(&world), (vec![0, 0], [0, 0]));
}

pub fn what_the_server_answers_for_a_device_is_counted(backend: impl Backend) {
    let mut world = World::new(backend);
    let (node, microcontroller) = (world.device(0), world.device(0));
    count(&world);
    let tasks = [&node, &microcontroller].map(|device| {
        let spec = lasting(device, LONG);
        world.create(TaskSpec { method: Some("blink".to_owned()), ..spec })
    });
    let before = kept(&world);
    assert_eq!(block_on(world.engine().for_device(&node).write_next(&[])).unwrap(), None);
    let next = world.engine().for_device(&microcontroller).microcontroller_next(Vec::new(), true);
    assert_eq!(block_on(next).unwrap(), None);
    let bytes = tasks.map(|task| {
        let ended = world.get(task.id);
        assert_eq!(ended.task.status, TaskStatus::Failed);
        ended.results[0].result.body.bytes() + ROW_BYTES as u64
    });
    let all = before + bytes.iter().sum::<u64>();
    assert_eq!(kept(&world), all);
    flush(&world);
    assert_eq!(kept(&world), all);
    world.restart();
    count(&world);
    until_kept(&world, all);
}

pub fn an_organisation_that_keeps_as_much_as_it_may_gets_no_new_webhook(backend: impl Backend) {
    let world = World::with_limits(backend, Limits { org_bytes_max: 2_000, ..Limits::default() });
    let device = world.device(0);
    count(&world);
    let set = |of, url: &str| {
        let spec = EndpointSpec { is_active: false, ..EndpointSpec::new(of, url) };
        let caller = world.engine().for_caller(world.org(0));
        block_on(caller.webhook_set(EndpointRef::Default(of), move |_| Ok(spec), None))
    };
    assert!(set(WebhookType::Event, "https://receiver.example/a").unwrap().is_new);
    world.create(large(&device));
    let refused = set(WebhookType::TaskResult, "https://receiver.example/b");
    assert!(matches!(refused, Err(SetError::Refused(Error::OverQuota { .. }))), "{refused:?}");
    assert!(!set(WebhookType::Event, "https://receiver.example/b").unwrap().is_new);
}
