//! A process that is killed: what was acknowledged is there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use covey_core::id::{ResultId, TaskId};
use covey_core::task::{TaskFilter, TaskStatus};
use covey_store::sqlite::{Options, verify};

use crate::child;
use crate::world::sqlite::SqliteBackend;
use crate::world::{World, result, spec};

/// How often the process is killed, each time on what it had left.
const KILLS: u64 = 6;

const TEST: &str = "sqlite::crashes::what_was_acknowledged_survives_a_kill_at_any_instant";

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_instant() {
    if let Some(orders) = child::orders() {
        return write_until_killed(Path::new(&orders[0]), orders[1].parse().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for kill in 0..KILLS {
        let orders = [folder.path().to_str().unwrap(), &kill.to_string()];
        let mut child = child::command(TEST, &orders).stdout(Stdio::piped()).spawn().unwrap();
        acknowledged.extend(lines_until_killed(&mut child, Duration::from_millis(20 + 37 * kill)));
    }
    let path = folder.path().join("covey.db");
    verify(&path).unwrap();
    let world = World::on_what_is_there(SqliteBackend::at(Options::new(&path)), u64::from(u32::MAX));
    assert!(acknowledged.len() > 100, "only {} writes were acknowledged", acknowledged.len());
    for line in &acknowledged {
        let words: Vec<_> = line.split(' ').collect();
        let detail = world.get(TaskId(words[1].parse().unwrap()));
        match words[0] {
            "created" => {}
            "taken" => assert!(detail.task.status >= TaskStatus::Lock, "{line}"),
            "finished" => {
                let number = ResultId(words[2].parse().unwrap());
                assert_eq!(detail.task.status, TaskStatus::Done, "{line}");
                assert_eq!(detail.results.iter().map(|one| one.id).collect::<Vec<_>>(), [number], "{line}");
            }
            other => panic!("{other}"),
        }
    }
    let all = world.list(0, TaskFilter { status: Some(TaskStatus::Done), ..Default::default() }, 1, 1).total;
    let counts = futures_executor::block_on(world.engine().server().task_counts_of_every_org()).unwrap();
    let done = counts.iter().find(|count| count.status == TaskStatus::Done).unwrap();
    assert_eq!(done.count, all);
}

/// Reads what a process says, kills it after a while, and reads to the end.
/// The last line may have been cut off, and then counts for nothing.
fn lines_until_killed(child: &mut Child, after: Duration) -> Vec<String> {
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut killer = None;
    while said.read_line(&mut line).unwrap() > 0 {
        let is_whole = line.ends_with('\n');
        // The harness speaks on the same stream, sometimes on the same line.
        if is_whole && let Some(start) = line.find("> ") {
            killer = killer.or_else(|| Some(std::time::Instant::now() + after));
            lines.push(line[start + 2..].trim_end().to_owned());
        }
        line.clear();
        if killer.is_some_and(|at| at <= std::time::Instant::now()) {
            let _ = child.kill();
        }
    }
    child.wait().unwrap();
    lines
}

/// What the child does: it says each thing that was acknowledged.
fn write_until_killed(folder: &Path, run: u64) {
    let backend = SqliteBackend::at(Options::new(folder.join("covey.db")));
    let world = World::on_what_is_there(backend, run * 1_000_000);
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(format!("> {line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let device = world.device(0);
                loop {
                    let task = world.create(spec(&device));
                    say(format!("created {}", task.id));
                    let taken = world.poll(&device).unwrap();
                    say(format!("taken {}", taken.id));
                    let outcome = world.finish(&device, taken.id, result(200, 0, "body")).unwrap();
                    say(format!("finished {} {}", taken.id, outcome.result_id.0));
                }
            });
        }
    });
}
