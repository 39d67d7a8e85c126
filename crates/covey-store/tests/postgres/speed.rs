//! How fast the stores are: `cargo test --release -p covey-store --test postgres
//! speed -- --ignored --nocapture --test-threads 1`. A call is a creation, a
//! take and a result, each committed before the next.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
    block_on(engine.task_create(world.org(0), id, spec(device), None)).unwrap();
    block_on(engine.task_next(device, Some(id))).unwrap().unwrap();
    block_on(engine.task_finish(device, id, result(200, 0, "{}"))).unwrap();
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
