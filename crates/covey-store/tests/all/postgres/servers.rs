//! Several servers on one database.

use std::collections::HashSet;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use covey_core::background::Work;
use covey_core::device::{Connection, DeviceFilter};
use covey_core::id::TaskId;
use covey_core::node::{Admission, Admitted, GatewayName, NodeAdmit, NodeName};
use covey_core::port::Clock;
use covey_core::task::{IdempotencyKey, TaskFilter, TaskStatus};
use covey_core::twin::TwinPatch;
use covey_store::StoreError;
use covey_store::postgres::{DatabaseClock, Options, Postgres};
use futures_executor::block_on;

use crate::battery::background::work_for;
use crate::database::{Another, PostgresBackend, has_deadlocked, say};
use crate::world::parts::{Counts, TestClock};
use crate::world::{SERVER, World, lasting, result, spec};

/// Two servers on one database.
fn two() -> (World, World) {
    two_on(PostgresBackend::new())
}

fn two_on(backend: PostgresBackend) -> (World, World) {
    let another = Another::new(&backend.url(), "server-2");
    let first = World::new(backend);
    let second = World::on_what_is_there(another, 1_000_000);
    assert_eq!(first.org(0).org, second.org(0).org, "both know the organisation by its name");
    (first, second)
}

#[test]
fn concurrent_polls_through_two_servers_never_get_the_same_task() {
    let (first, second) = two();
    let device = first.device(0);
    let all: HashSet<TaskId> = (0..120).map(|_| first.create(spec(&device)).id).collect();
    let mut taken = Vec::new();
    std::thread::scope(|scope| {
        let takers: Vec<_> = [&first, &second, &first, &second]
            .into_iter()
            .map(|world| {
                let device = device.clone();
                scope.spawn(move || {
                    std::iter::from_fn(|| world.poll(&device).map(|task| task.id)).collect::<Vec<_>>()
                })
            })
            .collect();
        takers.into_iter().for_each(|taker| taken.extend(taker.join().unwrap()));
    });
    assert_eq!(taken.len(), 120, "each was taken once, and none was left");
    assert_eq!(taken.into_iter().collect::<HashSet<_>>(), all);
}

#[test]
fn one_idempotency_key_at_two_servers_makes_one_task() {
    let (first, second) = two();
    let device = first.device(0);
    let start = Barrier::new(2);
    for round in 0..40 {
        let key = IdempotencyKey { key: format!("key-{round}"), request_digest: [1; 32] };
        let create = |world: &World| {
            start.wait();
            let engine = world.engine();
            let made = engine.for_caller(world.org(0)).task_create(
                engine.task_id(),
                spec(&device),
                Some(key.clone()),
            );
            block_on(made).unwrap()
        };
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(|| create(&first));
            (create(&second), one.join().unwrap())
        });
        assert_eq!(one.task.id, other.task.id);
        assert!(one.replayed != other.replayed, "one of them made it");
    }
    assert_eq!(first.list(0, TaskFilter::default(), 1, 1).total, 40);
}

#[test]
fn what_two_servers_do_to_one_task_happens_in_some_order() {
    let (first, second) = two();
    let device = first.device(0);
    let start = Barrier::new(3);
    let mut results = 0;
    for _ in 0..40 {
        let task = first.create(spec(&device)).id;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                first.delete(0, task).unwrap();
            });
            scope.spawn(|| {
                start.wait();
                first.finish(&device, task, result(200, 1, "")).unwrap();
            });
            scope.spawn(|| {
                start.wait();
                second.finish(&device, task, result(500, 2, "")).unwrap();
            });
        });
        let detail = second.get(task);
        assert_eq!(detail.task.status, TaskStatus::Deleted);
        assert_eq!((detail.task.results as usize, detail.results.len()), (2, 2));
        results += detail.results.len();
    }
    assert_eq!(results, 80);
    let counts = block_on(second.engine().server().task_counts_of_every_org()).unwrap();
    let counts: Vec<_> = counts.into_iter().filter(|count| count.count > 0).collect();
    assert_eq!((counts.len(), counts[0].status, counts[0].count), (1, TaskStatus::Deleted, 40));
}

#[test]
fn what_two_servers_do_to_one_twin_is_numbered_one_after_the_other() {
    const ROUNDS: usize = 25;
    let (first, second) = two();
    let device = first.device(0);
    let worlds = [&first, &second, &first, &second];
    let start = Barrier::new(worlds.len());
    let changed: Vec<_> = std::thread::scope(|scope| {
        let changing = (0..).zip(worlds).map(|(number, world)| {
            let (start, device) = (&start, &device);
            scope.spawn(move || {
                start.wait();
                let change = |round: usize| {
                    let value = || Some(Arc::from(format!("[{number},{round}]")));
                    let patch = TwinPatch {
                        reported: vec![("a".to_owned(), value())],
                        desired: vec![("b".to_owned(), value())],
                        ttl_minutes: 10,
                        ..TwinPatch::default()
                    };
                    let changed = world.engine().for_caller(world.org(0)).twin_patch(device.device_id, patch);
                    block_on(changed).unwrap().versions
                };
                (0..ROUNDS).map(change).collect::<Vec<_>>()
            })
        });
        let changing: Vec<_> = changing.collect();
        changing.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    let versions: HashSet<_> = changed.iter().map(|one| (one.reported, one.desired)).collect();
    let all = i64::try_from(worlds.len() * ROUNDS).unwrap();
    assert_eq!(versions, (1..=all).map(|version| (version, version)).collect());
    let history =
        second.engine().for_caller(second.org(0)).twin_history(device.device_id, "a".to_owned(), None, 1_000);
    let history: Vec<_> = block_on(history).unwrap().iter().map(|one| one.version).collect();
    assert_eq!(history, (1..=all).rev().collect::<Vec<_>>());
    // Of all the wishes the last one is left to be told.
    let open = first.list(0, TaskFilter { status: Some(TaskStatus::Ready), ..TaskFilter::default() }, 1, 10);
    let twin = block_on(first.engine().for_caller(first.org(0)).twin_get(device.device_id)).unwrap();
    let wanted = twin.resources[1].desired.as_ref().unwrap();
    assert_eq!(open.items.iter().map(|task| task.id).collect::<Vec<_>>(), [wanted.task]);
    assert_eq!(wanted.version, all);
}

#[test]
fn groups_that_lock_the_same_tasks_do_not_stand_in_each_others_way() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let (first, second) = two_on(backend);
    let devices: Vec<_> = (0..8).map(|_| first.device(0)).collect();
    for _ in 0..10 {
        let tasks: Vec<_> = devices.iter().map(|device| first.create(spec(device)).id).collect();
        std::thread::scope(|scope| {
            for (number, device) in devices.iter().enumerate() {
                for world in [&first, &second] {
                    let tasks = &tasks;
                    scope.spawn(move || {
                        world.poll(device);
                        world.ack(device, tasks[number]).unwrap();
                        world.finish(device, tasks[number], result(206, 0, "")).unwrap();
                    });
                }
            }
        });
    }
    assert!(!has_deadlocked(&url));
    let locked = TaskFilter { status: Some(TaskStatus::Lock), ..TaskFilter::default() };
    assert_eq!(first.list(0, locked, 1, 1).total, 80);
}

#[test]
fn a_name_is_one_servers_at_a_time() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let again = Postgres::open(
        &Options::new(&url, SERVER).unwrap(),
        Arc::new(TestClock::default()),
        Arc::new(Counts::default()),
    );
    assert!(matches!(again.err(), Some(StoreError::NameTaken { name }) if name == SERVER));
    drop(world);
}

#[test]
fn the_connections_of_a_server_that_is_gone_are_marked_as_ended() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let first = World::new(backend);
    let (device, other) = (first.device(0), first.device(0));
    first
        .engine()
        .for_device(&other)
        .connected(Connection { server: SERVER.to_owned(), ..Connection::default() });
    {
        let second = World::on_what_is_there(Another::new(&url, "server-2"), 1_000_000);
        let held = Connection { server: "server-2".to_owned(), ..Connection::default() };
        second.engine().for_device(&device).connected(held);
        second.create(spec(&device));
    }
    let online = || first.devices(0, DeviceFilter { online: Some(true), ..DeviceFilter::default() }).total;
    assert_eq!(online(), 2);
    let begun = Instant::now();
    while online() == 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the connection still counts");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(online(), 1, "those of a server that runs go on");
    assert!(begun.elapsed() > Duration::from_secs(8), "a server has time to come back");
    assert_eq!(say(&url, &["SELECT name FROM servers"]), [[SERVER]]);
}

#[test]
fn the_passing_nodes_of_a_server_that_does_not_come_back_are_retired() {
    let (first, second) = two();
    let joined = |uid: &str, is_passing: bool, server: &str| {
        let asked = NodeAdmit {
            org: first.org(0).org,
            name: NodeName::parse(GatewayName::parse("ws").unwrap(), uid).unwrap(),
            address: "192.0.2.7".to_owned(),
            is_passing,
            admission: Admission::Open,
            server: server.to_owned(),
        };
        match block_on(first.engine().server().node_admit(asked)).unwrap() {
            Admitted::Yes(device) => device,
            other => panic!("{other:?}"),
        }
    };
    let gone = joined("gone", true, "server-3");
    let stay = [
        joined("own", true, SERVER),
        joined("theirs", true, "server-2"),
        joined("comes again", false, "server-3"),
    ];
    let task = first.create(lasting(&gone, 60)).id;
    let there = || {
        let found = first.devices(0, DeviceFilter::default()).items.into_iter();
        found.map(|device| device.identity.device).collect::<Vec<_>>()
    };
    // It may have lost the database alone, so it has time to come back.
    work_for(&second, Work::LeftBehind, 8 * 60_000);
    assert_eq!(there().len(), 4);
    work_for(&second, Work::LeftBehind, 11 * 60_000);
    assert_eq!(there(), stay.map(|device| device.device));
    assert_eq!(first.get(task).task.status, TaskStatus::Failed);
}

#[test]
fn the_clocks_of_two_servers_agree_with_the_database() {
    let backend = PostgresBackend::new();
    let clocks: Vec<_> = (0..2).map(|_| DatabaseClock::start(&backend.options).unwrap()).collect();
    for _ in 0..3 {
        let before = clocks[0].now().0;
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8";
        let told: i64 = say(&backend.url(), &[sql])[0][0].parse().unwrap();
        let after = clocks[1].now().0;
        assert!(before - 5 <= told && told <= after + 5, "{before} {told} {after}");
        let (one, other) = (clocks[0].now().0, clocks[1].now().0);
        assert!((one - other).abs() <= 5, "{one} {other}");
        std::thread::sleep(Duration::from_millis(700));
    }
    let (one, other) = (clocks[0].monotonic_us(), clocks[0].monotonic_us());
    assert!(one <= other);
}

#[test]
fn the_first_fact_of_a_deployment_holds() {
    let backend = PostgresBackend::new();
    let open = |server| {
        let options = Options::new(&backend.url(), server).unwrap();
        Postgres::open(&options, Arc::new(TestClock::default()), Arc::new(Counts::default())).unwrap()
    };
    let (first, second) = (open("a"), open("b"));
    assert_eq!(first.deployment_fact("ca", "one").unwrap(), "one");
    assert_eq!(second.deployment_fact("ca", "two").unwrap(), "one");
    assert_eq!(second.deployment_fact("other", "two").unwrap(), "two");
}

#[test]
fn devices_that_are_registered_at_two_servers_at_once_get_numbers_of_their_own() {
    let (first, second) = two();
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let registering: Vec<_> = [&first, &second, &first, &second]
            .map(|world| scope.spawn(|| (0..50).map(|_| world.device(0).device_id.0).collect::<Vec<_>>()))
            .into();
        registering.into_iter().for_each(|numbers| all.extend(numbers.join().unwrap()));
    });
    all.sort_unstable();
    assert_eq!(all, (1..=200).collect::<Vec<_>>(), "none twice, and none left out");
}
