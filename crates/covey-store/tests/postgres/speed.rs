//! How fast the stores are: `cargo test --release -p covey-store --test postgres
//! speed -- --ignored --nocapture --test-threads 1`. A call is a creation, a
//! take and a result, each committed before the next. Events come in groups, one
//! after the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use covey_core::event::{AddedEvent, NewEvent};
use covey_store::sqlite;
use futures_executor::block_on;

use crate::bench::postgres::{Another, Server, say};
use crate::bench::sqlite::SqliteBench;
use crate::bench::{Bench, World, result, spec};

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

fn measure(name: &str, bench: impl Bench) {
    let world = World::new(bench);
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
fn measure_events(name: &str, bench: impl Bench, group_size: u32) {
    let world = World::new(bench);
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

#[test]
#[ignore = "measures, which takes a minute and the whole machine"]
fn events_on_both_stores() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["shared_buffers=256MB", "max_connections=100"]);
    for group_size in [1, 64, 512] {
        let path = folder.path().join(format!("covey-{group_size}.db"));
        measure_events("SQLite", SqliteBench::at(sqlite::Options::new(path)), group_size);
        let database = format!("events_{group_size}");
        say(&server.url("postgres"), &[&format!("CREATE DATABASE {database}")]);
        measure_events("PostgreSQL", Another::new(&server.url(&database), "server-1"), group_size);
    }
}

#[test]
#[ignore = "measures, which takes a minute and the whole machine"]
fn calls_on_both_stores() {
    let folder = tempfile::tempdir().unwrap();
    measure("SQLite", SqliteBench::at(sqlite::Options::new(folder.path().join("covey.db"))));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("port={port}");
    let server = Server::start(&[
        "listen_addresses=127.0.0.1",
        &listen,
        "shared_buffers=256MB",
        "max_connections=100",
    ]);
    say(&server.url("postgres"), &["CREATE DATABASE a", "CREATE DATABASE b"]);
    measure("PostgreSQL, socket", Another::new(&server.url("a"), "server-1"));
    measure("PostgreSQL, TCP", Another::new(&format!("postgres://covey@127.0.0.1:{port}/b"), "server-1"));
}
