//! Calls and events on both stores. A call is a creation, a take and a result, each committed before the
//! next. Events come in groups, one after the other; reported values while many are under way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use covey_core::event::{AddedEvent, NewEvent, Reported};
use covey_store::sqlite;
use covey_testbed::Testbed;
use futures_executor::block_on;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::database::{Another, say};
use crate::world::sqlite::SqliteBackend;
use crate::world::{Backend, World, result, spec};

/// Of a PostgreSQL that is measured.
const SETTINGS: [&str; 2] = ["shared_buffers = 256MB", "max_connections = 100"];
const DEVICES: usize = 200;
const CALLERS: usize = 64;
const CALLS_ALONE: usize = 1_000;
const TIME: Duration = Duration::from_secs(10);

fn call(world: &World, device: &covey_core::device::DeviceIdentity) {
    let engine = world.engine();
    let id = engine.task_id();
    block_on(engine.for_caller(world.org(0)).task_create(id, spec(device), None)).unwrap();
    block_on(engine.for_device(device).task_next(Some(id))).unwrap().unwrap();
    block_on(engine.for_device(device).task_finish(id, result(200, 0, "{}"))).unwrap();
}

fn measure(name: &str, backend: impl Backend) {
    let world = World::new(backend);
    let devices: Vec<_> = (0..DEVICES).map(|_| world.device(0)).collect();
    let mut alone_us: Vec<_> = (0..CALLS_ALONE)
        .map(|number| {
            let begun = Instant::now();
            call(&world, &devices[number % DEVICES]);
            begun.elapsed().as_micros()
        })
        .collect();
    alone_us.sort_unstable();
    let calls = AtomicU64::new(0);
    let begun = Instant::now();
    world.outside.counts.reset();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (world, devices, calls) = (&world, &devices, &calls);
            scope.spawn(move || {
                let mut device = caller;
                while begun.elapsed() < TIME {
                    call(world, &devices[device % DEVICES]);
                    device += CALLERS;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let groups = world.outside.counts.groups();
    println!(
        "{name}: one caller p50 {} us, p99 {} us; {CALLERS} callers {:.0} calls/s, {:.0} commits/s, {:.1} operations a commit",
        alone_us[CALLS_ALONE / 2],
        alone_us[CALLS_ALONE * 99 / 100],
        calls.into_inner() as f64 / begun.elapsed().as_secs_f64(),
        groups.len() as f64 / begun.elapsed().as_secs_f64(),
        groups.iter().sum::<usize>() as f64 / groups.len() as f64,
    );
}

/// Adds events in groups of one size: of 200 devices in turn, every tenth a
/// repetition of an earlier one.
fn measure_events(name: &str, backend: impl Backend, group_size: u32) {
    let world = World::new(backend);
    let devices: Vec<_> = (0..DEVICES).map(|_| world.device(0)).collect();
    let now = world.now();
    let (mut number, mut stored, mut groups) = (0_u32, 0_u32, 0_u32);
    let begun = Instant::now();
    while begun.elapsed() < TIME {
        let gate = world.hold_writer();
        let adding: Vec<_> = (0..group_size)
            .map(|_| {
                number += 1;
                let earlier = number.saturating_sub(DEVICES as u32 * 10 + 1);
                let of = if number % 10 == 0 && earlier > 0 { earlier } else { number };
                let event = NewEvent {
                    type_code: 13,
                    dev_event_id: of + 1,
                    // A second for each round of the devices, of the present month.
                    dev_timestamp: Some(now.plus_ms(i64::from(of) / DEVICES as i64 * 10)),
                    correlation: None,
                    payload: PAYLOAD.into(),
                    reported: Vec::new(),
                };
                let device = &devices[of as usize % DEVICES];
                let mut adding = Box::pin(world.engine().for_device(device).event_add(event, true));
                let waker = std::task::Waker::noop();
                assert!(adding.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
                adding
            })
            .collect();
        drop(gate);
        let added = adding.into_iter().map(|one| block_on(one).unwrap());
        stored += u32::try_from(added.filter(|added| *added == AddedEvent::Stored).count()).unwrap();
        groups += 1;
    }
    println!(
        "{name}, groups of {group_size}: {:.0} events/s, of which {:.1} % were stored, {:.2} ms a group",
        f64::from(number) / begun.elapsed().as_secs_f64(),
        f64::from(stored) * 100.0 / f64::from(number),
        begun.elapsed().as_secs_f64() * 1_000.0 / f64::from(groups),
    );
}

/// What a locker sends when a cell was opened.
const PAYLOAD: &str = r#"{"101":4711,"102":"2026-11-21T20:00:00Z","200":13,"300":[{"310":21.5,"311":12,"312":"opened by code","313":true}]}"#;

pub fn events() {
    let folder = tempfile::tempdir().unwrap();
    let own = Testbed::own(&SETTINGS).unwrap();
    for group_size in [1, 64, 512] {
        let path = folder.path().join(format!("covey-{group_size}.db"));
        measure_events("SQLite", SqliteBackend::at(sqlite::Options::new(path)), group_size);
        let database = format!("events_{group_size}");
        say(&own.postgresql_url("postgres").unwrap(), &[&format!("CREATE DATABASE {database}")]);
        measure_events(
            "PostgreSQL",
            Another::new(&own.postgresql_url(&database).unwrap(), "server-1"),
            group_size,
        );
    }
}

/// Reports single values of devices' twins, so many of them under way at a time, of 16 resources of each device in turn.
fn measure_reports(name: &str, backend: impl Backend, under_way: usize) {
    let world = World::without_budgets(backend);
    let devices: Vec<_> = (0..DEVICES).map(|_| world.device(0)).collect();
    let reports = AtomicU64::new(0);
    let begun = Instant::now();
    block_on(async {
        let report = |number: usize| {
            let resource = format!("r{}", number / DEVICES % 16);
            let values = vec![Reported { resource, value: "\"23°C\"".into() }];
            world.engine().for_device(&devices[number % DEVICES]).twin_report(values)
        };
        let mut next = under_way;
        let mut pending: FuturesUnordered<_> = (0..under_way).map(report).collect();
        while begun.elapsed() < TIME {
            pending.next().await.unwrap().unwrap();
            reports.fetch_add(1, Ordering::Relaxed);
            pending.push(report(next));
            next += 1;
        }
    });
    println!(
        "{name}, {under_way} under way: {:.0} reports/s",
        reports.into_inner() as f64 / begun.elapsed().as_secs_f64(),
    );
}

pub fn reports() {
    let folder = tempfile::tempdir().unwrap();
    let own = Testbed::own(&SETTINGS).unwrap();
    for under_way in [16, 2_000] {
        let path = folder.path().join(format!("covey-{under_way}.db"));
        measure_reports("SQLite", SqliteBackend::at(sqlite::Options::new(path)), under_way);
        let database = format!("reports_{under_way}");
        say(&own.postgresql_url("postgres").unwrap(), &[&format!("CREATE DATABASE {database}")]);
        measure_reports(
            "PostgreSQL",
            Another::new(&own.postgresql_url(&database).unwrap(), "server-1"),
            under_way,
        );
    }
}

pub fn calls() {
    let folder = tempfile::tempdir().unwrap();
    measure("SQLite", SqliteBackend::at(sqlite::Options::new(folder.path().join("covey.db"))));
    let own = Testbed::own(&SETTINGS).unwrap();
    say(&own.postgresql_url("postgres").unwrap(), &["CREATE DATABASE a", "CREATE DATABASE b"]);
    let by_socket = own.postgresql_url("a").unwrap();
    measure("PostgreSQL, socket", Another::new(&by_socket, "server-1"));
    let port = own.port("postgresql", "postgresql").unwrap();
    own.write_postgresql_data("pg_hba.conf", "local all all trust\nhost all all 127.0.0.1/32 trust\n")
        .unwrap();
    own.stop("postgresql").unwrap();
    own.start("postgresql").unwrap();
    let by_tcp = format!("postgres://covey_admin@127.0.0.1:{port}/b");
    measure("PostgreSQL, TCP", Another::new(&by_tcp, "server-1"));
}
