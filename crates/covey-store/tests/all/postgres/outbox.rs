//! Up to which record all are there, whoever else has a transaction open; and
//! that numbers say in which order things that follow each other happened.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use covey_core::device::DeviceIdentity;
use covey_core::error::StorageFault;
use covey_core::event::{AddedEvent, EventTypes};
use covey_core::id::{RecordNumber, TaskId};
use covey_core::port::{Job, Store, Transaction, Turn};
use covey_core::record::{Change, NewRecord, RecordPage, RecordReader, RecordRequest};
use covey_core::task::{Cause, TaskStatus};
use covey_testbed::Testbed;
use futures_executor::block_on;
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use super::events::{add, event};
use crate::database::{Another, PostgresBackend, say};
use crate::world::{World, spec};

/// A session that is none of ours, unless it takes a writer's lock.
pub struct Session(Runtime, Client);

impl Session {
    pub fn new(url: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, connection) =
            runtime.block_on(tokio_postgres::connect(url, tokio_postgres::NoTls)).unwrap();
        runtime.spawn(connection);
        Self(runtime, client)
    }

    pub fn say(&self, sql: &str) {
        self.0.block_on(self.1.batch_execute(sql)).unwrap();
    }

    /// Begins a transaction and gives it a number.
    fn begin(&self) -> i64 {
        self.say("BEGIN");
        let row = self.0.block_on(self.1.query_one("SELECT pg_current_xact_id()::text::int8", &[]));
        row.unwrap().get(0)
    }
}

/// The class of the locks of writers, and a number that no writer has.
const WRITER: &str = "SELECT pg_advisory_lock(1131378180, 999999)";

fn read(world: &World, after: RecordNumber) -> RecordPage {
    let request =
        RecordRequest { org: None, after, until: None, limit: 100, bytes_max: usize::MAX, with_tags: false };
    block_on(world.store().record_list_of_every_org(request)).unwrap()
}

fn settled(world: &World) -> RecordNumber {
    block_on(world.engine().server().record_span_of_every_org()).unwrap().settled
}

/// The numbers that devices gave to their events.
fn numbers(page: &RecordPage) -> Vec<u32> {
    let number = |change: &Change| match change {
        Change::Event(event) => Some(event.key.dev_event_id),
        _ => None,
    };
    page.records.iter().filter_map(|record| number(&record.change)).collect()
}

fn next(world: &World) -> Vec<u32> {
    let events =
        block_on(world.engine().for_caller(world.org(0)).event_next(None, EventTypes::OfDevices, None, 100))
            .unwrap();
    events.iter().map(|event| event.key.dev_event_id).collect()
}

fn one() -> (World, String, DeviceIdentity) {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    (world, url, device)
}

#[test]
fn a_writer_that_has_not_ended_holds_back_what_comes_after_it() {
    let (world, url, device) = one();
    let begin = settled(&world);
    let writer = Session::new(&url);
    writer.say(WRITER);
    let transaction = writer.begin();
    for number in 2..=4 {
        add(&world, &device, event(2, number, "{}"));
    }
    let page = read(&world, begin);
    assert_eq!((numbers(&page), page.is_more), (vec![], true), "they are there, and not yet to be told");
    assert!(page.position.0 < transaction << 16 && settled(&world).0 < transaction << 16);
    assert_eq!(next(&world), Vec::<u32>::new());
    let DeviceIdentity { org, device: key, device_id, ref sn } = device;
    writer.say(&format!(
        "INSERT INTO events VALUES ({number}, {}, {}, {}, '{sn}', 2, 1, 0, 0, NULL, '{{}}'); \
         INSERT INTO records (number, org_id, device_key, device_id, sn, at, kind, dev_timestamp) \
         VALUES ({number}, {}, {}, {}, '{sn}', 0, 3, 0)",
        org.0,
        key.0,
        device_id.0,
        org.0,
        key.0,
        device_id.0,
        number = (transaction << 16) + 5,
    ));
    assert_eq!(read(&world, page.position).records, []);
    writer.say("COMMIT");
    let page = read(&world, page.position);
    assert_eq!((numbers(&page), page.is_more), (vec![1, 2, 3, 4], false));
    assert_eq!(next(&world), [1, 2, 3, 4]);
    // One that is undone holds back no longer either.
    writer.begin();
    add(&world, &device, event(2, 5, "{}"));
    assert_eq!(read(&world, page.position).records, []);
    writer.say("ROLLBACK");
    assert_eq!(numbers(&read(&world, page.position)), [5]);
}

#[test]
fn a_server_that_has_not_committed_holds_back_what_another_tells() {
    let (first, url, device) = one();
    let second = World::on_what_is_there(Another::new(&url, "server-2"), 1_000_000);
    // That a device was heard today is noted before what it brings first.
    add(&second, &device, event(2, 3, "{}"));
    assert_eq!(next(&first), [3]);
    let begin = settled(&first);
    let stopper = Session::new(&url);
    // It writes its mark with all the rest, in one statement.
    stopper.say("BEGIN; SELECT 1 FROM writers WHERE server = 'server-2' FOR UPDATE");
    std::thread::scope(|scope| {
        let late = scope.spawn(|| add(&second, &device, event(2, 1, "{}")));
        let waits = "SELECT count(*) FROM pg_locks w JOIN pg_locks x ON x.pid = w.pid AND x.granted \
             AND x.locktype = 'transactionid' WHERE w.locktype = 'transactionid' AND NOT w.granted \
             AND w.pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
        let begun = Instant::now();
        while say(&url, &[waits])[0][0] == "0" {
            assert!(begun.elapsed() < Duration::from_secs(60), "the second server never waits");
        }
        add(&first, &device, event(2, 2, "{}"));
        for world in [&first, &second] {
            let page = read(world, begin);
            assert_eq!((numbers(&page), page.is_more), (vec![], true));
        }
        assert_eq!(next(&first), Vec::<u32>::new());
        assert!(!late.is_finished());
        stopper.say("COMMIT");
        assert_eq!(late.join().unwrap(), AddedEvent::Stored);
    });
    for world in [&first, &second] {
        assert_eq!(numbers(&read(world, begin)), [1, 2]);
    }
    assert_eq!(next(&first), [1, 2]);
}

#[test]
fn transactions_of_others_hold_nothing_back() {
    // A transaction that was prepared would hold back what others test.
    let own = Testbed::own(&["fsync = off"]).unwrap();
    let url = |database: &str| own.postgresql_url(database).unwrap();
    say(&url("postgres"), &["CREATE DATABASE ours", "CREATE DATABASE theirs"]);
    let world = World::new(Another::new(&url("ours"), "server-1"));
    let device = world.device(0);
    let begin = settled(&world);
    // In another database, even if it has a lock that looks like one of ours; in
    // our own; and one that has no session any more.
    let theirs = Session::new(&url("theirs"));
    theirs.say(WRITER);
    let nightly = Session::new(&url("ours"));
    let prepared = Session::new(&url("ours"));
    let transactions = [theirs.begin(), nightly.begin(), prepared.begin()];
    prepared.say("CREATE TABLE prepared_table (id int); PREPARE TRANSACTION 'forgotten'");
    drop(prepared);
    for number in 1..=3 {
        add(&world, &device, event(2, number, "{}"));
    }
    let page = read(&world, begin);
    assert_eq!((numbers(&page), page.is_more), (vec![1, 2, 3], false));
    assert!(transactions.iter().all(|number| page.position.0 > number << 16), "they have not ended");
    assert_eq!(next(&world), [1, 2, 3]);
    assert!(settled(&world) >= page.position);
    // And beside one that counts, it is that one which decides.
    let writer = Session::new(&url("ours"));
    writer.say(WRITER);
    let transaction = writer.begin();
    add(&world, &device, event(2, 4, "{}"));
    let page = read(&world, page.position);
    assert_eq!((numbers(&page), page.position.0), (vec![], (transaction << 16) - 1));
    writer.say("COMMIT");
    assert_eq!(numbers(&read(&world, page.position)), [4]);
    // A writer whose session has ended has left nothing behind.
    drop(writer);
    theirs.say("COMMIT");
    nightly.say("COMMIT");
    say(&url("ours"), &["ROLLBACK PREPARED 'forgotten'"]);
}

#[test]
fn a_reader_that_follows_two_servers_misses_nothing() {
    const ROUNDS: u32 = 60;
    let (first, url, device) = one();
    let second = World::on_what_is_there(Another::new(&url, "server-2"), 1_000_000);
    let devices = [device, first.device(0), first.device(0), first.device(0)];
    let begin = settled(&first);
    let mut pages = Vec::new();
    std::thread::scope(|scope| {
        let writing: Vec<_> = [&first, &second, &first, &second]
            .into_iter()
            .zip(&devices)
            .map(|(world, device)| {
                scope.spawn(move || {
                    for number in 1..=ROUNDS {
                        add(world, device, event(2, number, "{}"));
                        let task = world.create(spec(device)).id;
                        world.request(device, task).unwrap();
                    }
                })
            })
            .collect();
        let mut after = begin;
        loop {
            let is_over = writing.iter().all(std::thread::ScopedJoinHandle::is_finished);
            let page = read(if pages.len() % 2 == 0 { &first } else { &second }, after);
            after = page.position;
            let is_end = is_over && page.records.is_empty() && !page.is_more;
            pages.push(page);
            if is_end {
                return;
            }
        }
    });
    let followed: Vec<_> = pages.into_iter().flat_map(|page| page.records).collect();
    assert_eq!(followed.len(), 4 * 3 * ROUNDS as usize);
    assert!(followed.windows(2).all(|pair| pair[0].number < pair[1].number));
    for device in &devices {
        let of_device = followed.iter().filter(|record| record.device.identity == *device);
        let of_device = RecordPage { records: of_device.cloned().collect(), ..RecordPage::default() };
        assert_eq!(numbers(&of_device), (1..=ROUNDS).collect::<Vec<_>>());
    }
}

/// A job that does what it is told inside the transaction.
struct Act<F>(F, mpsc::Sender<Result<(), StorageFault>>);

impl<F: FnMut(&mut dyn Transaction) -> Result<(), StorageFault> + Send> Job for Act<F> {
    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn run(&mut self, tx: &mut dyn Transaction) -> Result<(), StorageFault> {
        (self.0)(tx)
    }

    fn settle(self: Box<Self>, committed: Result<(), StorageFault>) {
        let _ = self.1.send(committed);
    }
}

#[test]
fn what_has_waited_for_another_change_is_told_after_it() {
    let (first, url, device) = one();
    let second = World::on_what_is_there(Another::new(&url, "server-2"), 1_000_000);
    let task = first.create(spec(&device)).id;
    let begin = settled(&first);
    let (begun, has_begun) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let (settle, outcome) = mpsc::channel();
    let (org, key) = (device.org, device.device);
    let mut runs = 0;
    // It writes, which gives its transaction a number, before it looks at the task.
    let delete = move |tx: &mut dyn Transaction| {
        let tag = covey_core::device::Tag { tag: "a".to_owned(), value: "b".to_owned() };
        tx.tag_put(key, &tag)?;
        runs += 1;
        if runs == 1 {
            begun.send(()).unwrap();
            goes_on.recv().unwrap();
        }
        let mut task = tx.task(org, task)?.unwrap();
        task.delete(tx.now());
        tx.task_update(&task)?;
        let told = NewRecord::Task { id: task.id, status: TaskStatus::Deleted, cause: Cause::Deleted };
        tx.record(&task.device_identity(), &told)
    };
    second.store().submit(Box::new(Act(delete, settle))).unwrap();
    has_begun.recv().unwrap();
    first.ack(&device, task).unwrap();
    go_on.send(()).unwrap();
    outcome.recv().unwrap().unwrap();
    let states = read(&first, begin).records.into_iter().map(|record| match record.change {
        Change::Task { status, .. } => status,
        other => panic!("{other:?}"),
    });
    assert_eq!(states.collect::<Vec<_>>(), [TaskStatus::Pending, TaskStatus::Deleted]);
    assert_eq!(first.get(task).task.status, TaskStatus::Deleted);
}

#[test]
fn a_group_with_more_records_than_a_transaction_may_write_is_divided() {
    let (world, url, device) = one();
    let begin = settled(&world);
    let gate = world.hold_writer();
    let (settle, outcome) = mpsc::channel();
    for _ in 0..3 {
        let device = device.clone();
        let many = move |tx: &mut dyn Transaction| {
            let told = NewRecord::Task { id: TaskId::NIL, status: TaskStatus::Ready, cause: Cause::Created };
            (0..30_000).try_for_each(|_| tx.record(&device, &told))
        };
        world.store().submit(Box::new(Act(many, settle.clone()))).unwrap();
    }
    drop(gate);
    for _ in 0..3 {
        outcome.recv().unwrap().unwrap();
    }
    let stored = "SELECT count(DISTINCT number), count(DISTINCT number >> 16) FROM records";
    assert_eq!(say(&url, &[stored]), [["90000", "3"]]);
    let page = read(&world, begin);
    // What they are about is nowhere, so nothing is told; but the way goes on.
    assert_eq!((page.records.len(), page.is_more), (0, true));
    assert!(page.position > begin);
}

#[test]
fn numbers_go_on_above_all_that_a_dump_brought() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let mut world = World::new(backend);
    let device = world.device(0);
    add(&world, &device, event(2, 1, "{}"));
    // As if the cluster had had a billion transactions when this was dumped.
    let far = 1_i64 << 46;
    let moved = format!("+ {far}");
    say(
        &url,
        &[
            &format!("UPDATE records SET number = number {moved}"),
            &format!("UPDATE events SET id = id {moved}"),
        ],
    );
    world.restart();
    add(&world, &device, event(2, 2, "{}"));
    let after = Some(RecordNumber(0));
    let events =
        block_on(world.engine().for_caller(world.org(0)).event_next(None, EventTypes::OfDevices, after, 100))
            .unwrap();
    assert_eq!(events.iter().map(|event| event.key.dev_event_id).collect::<Vec<_>>(), [1, 2]);
    assert!(events[0].id.0 > far && settled(&world) >= events[1].id);
    // What was told last is known even if the records have been forgotten since.
    say(
        &url,
        &[
            "DELETE FROM records",
            &format!("UPDATE deployment SET value = '{}' WHERE key = 'record_head'", far * 4),
        ],
    );
    world.restart();
    add(&world, &device, event(2, 3, "{}"));
    let page = read(&world, RecordNumber(far * 4));
    assert_eq!(numbers(&page), [3]);
    // And a start that finds all in order changes nothing.
    let offset = "SELECT value FROM deployment WHERE key = 'record_offset'";
    let before = say(&url, &[offset]);
    world.restart();
    assert_eq!(say(&url, &[offset]), before);
}
