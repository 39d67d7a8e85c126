//! A month of final tasks that is made late, while others write, read and make
//! it, too: each order of events, held where it matters.

use std::time::{Duration, Instant};

use covey_core::device::DeviceIdentity;
use covey_core::task::TaskStatus;

use super::months::{DAY_MS, create, finished, is_there, pruner, server};
use super::outbox::Session;
use crate::database::{PostgresBackend, say};
use crate::world::{World, result};

/// Who makes partitions waits for this.
const FENCE: &str = "pg_advisory_lock(1131378178, 0)";
/// What the functions of these tests wait for.
const GATE: &str = "pg_advisory_lock(77)";
/// Waits without a lock, so that no bound on waiting for locks ends it.
const WAIT: &str = "WHILE NOT pg_try_advisory_lock_shared(77) LOOP PERFORM pg_sleep(0.01); END LOOP";

/// A world in which the present month is not there, and is not made before the
/// fence opens: the store makes partitions at a time of its own.
fn without_month() -> (World, String, DeviceIdentity, Session) {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    let fence = closed(&url, FENCE);
    fence.say("DROP TABLE tasks_done_2024_01; DROP TABLE results_2024_01");
    world.pass_ms(60 * DAY_MS);
    (world, url, device, fence)
}

fn closed(url: &str, lock: &str) -> Session {
    let session = Session::new(url);
    session.say(&format!("SELECT {lock}"));
    session
}

fn open(session: &Session) {
    session.say("SELECT pg_advisory_unlock_all()");
}

/// Runs `sql` whenever a command of this kind makes or attaches a table of the month.
fn on_command(url: &str, kind: &str, sql: &str) {
    let function = format!(
        "CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF current_query() ~ '(tasks_done|results)_2024_01' THEN PERFORM nextval('seen'); {sql}; END IF; END $$"
    );
    let trigger = format!(
        "CREATE EVENT TRIGGER seen ON ddl_command_start WHEN TAG IN ('{kind}') EXECUTE FUNCTION seen()"
    );
    say(url, &["CREATE SEQUENCE seen START 1", &function, &trigger]);
}

/// How often that was.
fn seen(url: &str) -> i64 {
    number(url, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM seen")
}

fn number(url: &str, sql: &str) -> i64 {
    say(url, &[sql])[0][0].parse().unwrap()
}

/// How many sessions wait for a lock of this kind.
fn waiting(url: &str, kind: &str) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = ";
    number(url, &format!("{sql}'{kind}'"))
}

fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not come to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_made(url: &str) -> bool {
    is_there(url, "tasks_done_2024_01") && is_there(url, "results_2024_01")
}

/// How many final tasks and results are in partitions that end so.
fn rows(url: &str, name: &str) -> [i64; 2] {
    ["tasks_done", "results"].map(|table| number(url, &format!("SELECT count(*) FROM {table}_{name}")))
}

/// What is in the month, as soon as it is there.
fn in_month(url: &str) -> [i64; 2] {
    wait_until(|| is_made(url));
    rows(url, "2024_01")
}

#[test]
fn a_month_that_was_made_late_takes_in_what_came_before_it() {
    let (world, url, device, fence) = without_month();
    let task = finished(&world, &device);
    assert_eq!(rows(&url, "default"), [1, 1]);
    open(&fence);
    let maker = pruner(&world, &url);
    assert_eq!(in_month(&url), [1, 1]);
    drop(maker);
    assert_eq!(rows(&url, "default"), [0, 0]);
    assert_eq!(world.get(task).results.len(), 1);
}

#[test]
fn who_finishes_a_task_while_its_month_is_attached_waits_and_does_not_undo_it() {
    let (world, url, device, fence) = without_month();
    finished(&world, &device);
    let second = create(&world, &device);
    on_command(&url, "ALTER TABLE", WAIT);
    let gate = closed(&url, GATE);
    std::thread::scope(|scope| {
        open(&fence);
        let maker = scope.spawn(|| pruner(&world, &url));
        wait_until(|| seen(&url) == 1);
        let finishing = scope.spawn(|| world.finish(&device, second, result(200, 0, "body")));
        // What moves has moved. A row that came behind it would not.
        wait_until(|| finishing.is_finished() || waiting(&url, "relation") > 0);
        open(&gate);
        finishing.join().unwrap().unwrap();
        assert_eq!(in_month(&url), [2, 2]);
        drop(maker.join().unwrap());
    });
    assert_eq!(rows(&url, "default"), [0, 0]);
    assert_eq!(seen(&url), 2, "neither table was tried to be attached again");
}

#[test]
fn a_task_that_becomes_final_while_its_month_waits_to_be_made_moves_there() {
    let (world, url, device, fence) = without_month();
    let task = create(&world, &device);
    say(
        &url,
        &[
            "CREATE SEQUENCE seen",
            &format!(
                "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM nextval('seen'); {WAIT}; RETURN OLD; END $$"
            ),
            // In the midst of the statement, which was planned without the month.
            "CREATE TRIGGER wait BEFORE DELETE ON tasks_open FOR EACH ROW EXECUTE FUNCTION wait()",
        ],
    );
    let gate = closed(&url, GATE);
    std::thread::scope(|scope| {
        let finishing = scope.spawn(|| world.finish(&device, task, result(200, 0, "body")));
        wait_until(|| seen(&url) == 1);
        open(&fence);
        let maker = scope.spawn(|| pruner(&world, &url));
        wait_until(|| waiting(&url, "relation") > 0);
        open(&gate);
        finishing.join().unwrap().unwrap();
        drop(maker.join().unwrap());
    });
    assert_eq!((in_month(&url), rows(&url, "default")), ([1, 1], [0, 0]));
    assert_eq!(world.get(task).results.len(), 1);
}

#[test]
fn a_statement_that_begins_while_a_month_is_attached_finds_every_final_task() {
    let (world, url, device, fence) = without_month();
    let (task, deleted) = (finished(&world, &device), finished(&world, &device));
    world.get(task);
    on_command(&url, "ALTER TABLE", WAIT);
    let gate = closed(&url, GATE);
    std::thread::scope(|scope| {
        open(&fence);
        let maker = scope.spawn(|| pruner(&world, &url));
        // Rows have moved into a table that is no part of the whole one yet.
        wait_until(|| seen(&url) == 1);
        let counting = scope.spawn(|| number(&url, "SELECT count(*) FROM tasks_done"));
        let reading = scope.spawn(|| world.get_as(0, task));
        let deleting = scope.spawn(|| world.delete(0, deleted));
        wait_until(|| waiting(&url, "relation") >= 3);
        open(&gate);
        assert_eq!(counting.join().unwrap(), 2);
        let detail = reading.join().unwrap().unwrap();
        assert_eq!((detail.task.status, detail.results.len()), (TaskStatus::Done, 1));
        assert_eq!(deleting.join().unwrap().unwrap().task.status, TaskStatus::Deleted);
        drop(maker.join().unwrap());
    });
    assert_eq!((in_month(&url), rows(&url, "default")), ([2, 2], [0, 0]));
}

#[test]
fn a_final_task_is_not_hidden_from_who_reads_it_while_its_month_is_made() {
    let (world, url, device, fence) = without_month();
    let task = finished(&world, &device);
    world.get(task);
    on_command(&url, "CREATE TABLE", "NULL");
    // The read has fixed its moment, and has not come to final tasks.
    let stopper = Session::new(&url);
    stopper.say("BEGIN; LOCK TABLE tasks_open IN ACCESS EXCLUSIVE MODE");
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| world.get_as(0, task));
        wait_until(|| waiting(&url, "relation") > 0);
        open(&fence);
        let maker = scope.spawn(|| pruner(&world, &url));
        // It is made, or one who makes it has given up once.
        wait_until(|| is_made(&url) || seen(&url) >= 2);
        stopper.say("COMMIT");
        let detail = reading.join().unwrap().unwrap();
        assert_eq!((detail.task.status, detail.results.len()), (TaskStatus::Done, 1));
        assert_eq!(in_month(&url), [1, 1]);
        drop(maker.join().unwrap());
    });
}

#[test]
fn of_several_servers_that_make_a_month_one_does() {
    let (world, url, device, fence) = without_month();
    let task = finished(&world, &device);
    on_command(&url, "ALTER TABLE", "NULL");
    std::thread::scope(|scope| {
        let makers = ["maker-1", "maker-2"].map(|name| {
            let (world, url) = (&world, &url);
            scope.spawn(move || server(world, url, name))
        });
        wait_until(|| waiting(&url, "advisory") >= 2);
        open(&fence);
        assert_eq!(in_month(&url), [1, 1]);
        makers.into_iter().for_each(|maker| drop(maker.join().unwrap()));
    });
    assert_eq!((seen(&url), rows(&url, "default")), (2, [0, 0]));
    assert_eq!(world.get(task).results.len(), 1);
}

#[test]
fn a_server_that_ends_while_it_makes_a_month_leaves_everything_as_it_was() {
    let (world, url, device, fence) = without_month();
    let task = finished(&world, &device);
    on_command(&url, "ALTER TABLE", WAIT);
    let gate = closed(&url, GATE);
    std::thread::scope(|scope| {
        open(&fence);
        let maker = scope.spawn(|| pruner(&world, &url));
        wait_until(|| seen(&url) == 1);
        // What it has moved is not committed.
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event = 'PgSleep'";
        assert_eq!(number(&url, end), 1);
        open(&gate);
        drop(maker.join().unwrap());
    });
    assert_eq!(world.get(task).results.len(), 1);
    assert_eq!(number(&url, "SELECT count(*) FROM tasks_done"), 1);
    let maker = pruner(&world, &url);
    assert_eq!((in_month(&url), rows(&url, "default")), ([1, 1], [0, 0]));
    drop(maker);
    assert_eq!(world.get(task).results.len(), 1);
}

#[test]
fn a_month_before_which_too_much_came_stays_unmade_and_the_others_are_made() {
    let (world, url, device, fence) = without_month();
    finished(&world, &device);
    // As many as move, beside that one.
    let copies = "INSERT INTO results SELECT task_id, id + n, org_id, ext_id, status_code, body_hash, received_at, \
         body_kind, body FROM results_default, generate_series(1, 20000) AS n";
    say(&url, &[copies]);
    open(&fence);
    drop(pruner(&world, &url));
    wait_until(|| is_there(&url, "results_2024_03"));
    assert!(!is_there(&url, "results_2024_01"), "it would take too long while everyone waits");
    let results = "SELECT count(*) FROM results";
    assert_eq!(number(&url, results), 20_001);
    say(&url, &["DELETE FROM results WHERE id = (SELECT max(id) FROM results)"]);
    let maker = pruner(&world, &url);
    assert_eq!(in_month(&url), [1, 20_000]);
    drop(maker);
    assert_eq!(number(&url, results), 20_000);
}
