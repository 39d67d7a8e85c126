//! A database that turns read-only, as one does when another becomes the primary, or
//! that loses each connection: it is told before anyone writes, and a caller is answered at once.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use covey_core::Error;
use covey_core::error::StorageFault;
use covey_core::port::Store;
use covey_core::task::{Task, TaskFilter};

use tempfile::TempDir;

use crate::database::{Another, PostgresBackend, say};
use crate::world::{World, spec};

/// What begins the body of the task that is made.
const BODY: &str = r#"{"dt":"#;
const READ_ONLY: Option<StorageFault> = Some(StorageFault::ReadOnly);

/// Lets new sessions write, or not.
fn set_read_only(url: &str, is_read_only: bool) {
    let on = if is_read_only { "on" } else { "off" };
    let name = say(url, &["SELECT current_database()"]).remove(0).remove(0);
    say(
        url,
        &[
            "SET default_transaction_read_only = off",
            &format!("ALTER DATABASE {name} SET default_transaction_read_only = {on}"),
        ],
    );
}

/// The same, and ends the sessions that there are.
fn turn(url: &str, is_read_only: bool) {
    set_read_only(url, is_read_only);
    say(
        url,
        &["SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
           WHERE datname = current_database() AND pid <> pg_backend_pid()"],
    );
}

fn wait_for(world: &World, fault: Option<StorageFault>) {
    let begun = Instant::now();
    while world.store().write_fault() != fault {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", world.store().write_fault());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_database_that_turns_read_only_is_told_before_anyone_writes() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    let device = world.device(0);
    let task = world.create(spec(&device));
    assert_eq!(world.store().write_fault(), None);
    turn(&url, true);
    wait_for(&world, READ_ONLY);
    assert_eq!(world.get(task.id).task, *task, "reads go on");
    turn(&url, false);
    wait_for(&world, None);
    world.create(spec(&device));
}

/// Which way bytes go through a proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Request,
    Answer,
}

/// Lets bytes between clients and a database's socket through, until it is to swallow some:
/// then it ends their connection. What decides is also told whether the task was sent on it.
/// Answers the URL that leads through it, which goes with the folder.
fn proxy(
    url: &str,
    swallows: impl Fn(Way, &[u8], bool) -> bool + Send + Sync + 'static,
) -> (String, TempDir) {
    let say_one = |sql: &str| say(url, &[sql]).remove(0).remove(0);
    let (directory, name) =
        (say_one("SHOW unix_socket_directories"), format!(".s.PGSQL.{}", say_one("SHOW port")));
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(&name)).unwrap();
    let server = Path::new(&directory).join(&name);
    let swallows = Arc::new(swallows);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), UnixStream::connect(&server).unwrap());
            let there = (client.try_clone().unwrap(), server.try_clone().unwrap(), Way::Request);
            let has_task = Arc::new(AtomicBool::new(false));
            for (from, to, way) in [there, (server, client, Way::Answer)] {
                let (swallows, has_task) = (Arc::clone(&swallows), Arc::clone(&has_task));
                let is_swallowed = move |bytes: &[u8]| {
                    if way == Way::Request && has_body(bytes) {
                        has_task.store(true, Ordering::SeqCst);
                    }
                    swallows(way, bytes, has_task.load(Ordering::SeqCst))
                };
                std::thread::spawn(move || copy(from, to, is_swallowed));
            }
        }
    });
    (url.replace(&directory, &folder.path().display().to_string()), folder)
}

/// Whether these bytes hold the body of the task that is made.
fn has_body(bytes: &[u8]) -> bool {
    has(bytes, BODY)
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Copies until one side ends, or what was read is to be swallowed; ends both.
fn copy(mut from: UnixStream, mut to: UnixStream, swallows: impl Fn(&[u8]) -> bool) {
    let mut bytes = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if swallows(&bytes[..count]) || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    for side in [from, to] {
        // Whoever ended first has done it already.
        let _ = side.shutdown(Shutdown::Both);
    }
}

/// Has a task made by a server whose connection ends, and whose database turns
/// read-only, as soon as `when` holds of what goes through it. The server goes on
/// through the folder.
fn create_when_it_turns(
    backend: &PostgresBackend,
    when: impl Fn(Way, &[u8]) -> bool + Send + Sync + 'static,
) -> (World, Result<Arc<Task>, Error>, TempDir) {
    let is_armed = Arc::new(AtomicBool::new(false));
    let (armed, url) = (Arc::clone(&is_armed), backend.url());
    let (through, folder) = proxy(&backend.url(), move |way, bytes, has_task| {
        let is_now = has_task
            && armed.load(Ordering::SeqCst)
            && when(way, bytes)
            && armed.swap(false, Ordering::SeqCst);
        if is_now {
            set_read_only(&url, true);
        }
        is_now
    });
    let world = World::new(Another::new(&through, "server-1"));
    let device = world.device(0);
    is_armed.store(true, Ordering::SeqCst);
    let made = world.create_as(0, spec(&device));
    assert!(!is_armed.load(Ordering::SeqCst), "the connection ended");
    (world, made, folder)
}

#[test]
fn a_commit_whose_answer_was_lost_is_found_where_nothing_can_be_written() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let is_committed = move |way, _: &[u8]| {
        way == Way::Answer && say(&url, &["SELECT count(*) FROM tasks_open"])[0][0] == "1"
    };
    let (world, made, _folder) = create_when_it_turns(&backend, is_committed);
    let task = made.unwrap();
    assert_eq!(world.get(task.id).task, *task);
    wait_for(&world, READ_ONLY);
}

#[test]
fn a_commit_that_never_arrived_is_known_not_to_have_been_where_nothing_can_be_written() {
    let backend = PostgresBackend::new();
    // Of all that is sent it alone has the body of the task.
    let is_commit = |way, bytes: &[u8]| way == Way::Request && has_body(bytes);
    let (world, made, _folder) = create_when_it_turns(&backend, is_commit);
    // Had it waited for a connection that can write, it would be that there is none.
    assert_eq!(made.unwrap_err(), Error::Unavailable { reason: StorageFault::ReadOnly });
    assert_eq!(world.list(0, TaskFilter::default(), 1, 1).total, 0);
}

#[test]
fn a_database_that_loses_each_connection_on_which_it_is_looked_at_is_told_to_be_out_of_reach() {
    let backend = PostgresBackend::new();
    let is_armed = Arc::new(AtomicBool::new(false));
    let armed = Arc::clone(&is_armed);
    let (through, _folder) = proxy(&backend.url(), move |way, bytes, _| {
        way == Way::Request && armed.load(Ordering::SeqCst) && has(bytes, "transaction_read_only")
    });
    let world = World::new(Another::new(&through, "server-1"));
    assert_eq!(world.store().write_fault(), None);
    is_armed.store(true, Ordering::SeqCst);
    wait_for(&world, Some(StorageFault::Unreachable));
    is_armed.store(false, Ordering::SeqCst);
    wait_for(&world, None);
}
