//! Reads in lanes: what may take long holds up nobody else, and ends with who asked for it.

use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use covey_core::event::{SeriesPath, SeriesQuery};
use futures_executor::block_on;

use super::outbox::Session;
use crate::database::{PostgresBackend, say};
use crate::world::{World, spec};

/// Less than the time after which who waits for a lock gives up by itself.
const SOON: Duration = Duration::from_secs(4);

/// How many sessions wait for a table.
fn waiting(url: &str) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'relation'";
    say(url, &[sql])[0][0].parse().unwrap()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < SOON, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn begin<F: Future>(future: F) -> Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    future
}

#[test]
fn scans_hold_up_nobody_else_and_end_with_who_asked() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    let task = world.create(spec(&device)).id;
    let query = SeriesQuery {
        registration: None,
        device_id: device.device_id,
        type_code: None,
        path: SeriesPath::tag("310").unwrap(),
        from: world.now().plus_ms(-3_600_000),
        until: world.now(),
        width_ms: 60_000,
    };
    let series = |org| world.engine().for_caller(world.org(org)).event_series(query.clone());
    let stopper = Session::new(&url);
    // A connection that is made while the table of events is locked waits, too: so there are enough before, as each
    // of these reads has to have one of its own.
    stopper.say("BEGIN; LOCK TABLE tasks_done IN ACCESS EXCLUSIVE MODE");
    let reads: Vec<_> =
        (0..3).map(|_| begin(world.engine().for_caller(world.org(0)).task_get(task))).collect();
    wait_until("each read has a connection", || waiting(&url) == 3);
    stopper.say("COMMIT");
    reads.into_iter().for_each(|read| assert!(block_on(read).is_ok()));
    stopper.say("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE");
    let of_one: Vec<_> = (0..8).map(|_| begin(series(0))).collect();
    wait_until("one of an organisation is under way", || waiting(&url) == 1);
    let of_another = begin(series(1));
    wait_until("another organisation has a connection left", || waiting(&url) == 2);
    let begun = Instant::now();
    assert_eq!(world.get(task).task.id, task);
    assert!(begun.elapsed() < SOON);
    drop((of_one, of_another));
    wait_until("they ended with who asked", || waiting(&url) == 0);
    stopper.say("COMMIT");
    for org in [0, 1, 0, 1] {
        assert_eq!(block_on(series(org)), Ok(Vec::new()), "no later read was hit");
    }
}
