//! A kill of the process: no event that was accepted is lost by it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use covey_device::Device;
use serde_json::json;

use crate::play::Play;

/// More than the child gets to, before it is killed.
const EVENTS_MAX: usize = 100_000;
const DIR: &str = "COVEY_EVENTS_DIR";

async fn device(dir: &std::path::Path) -> Device {
    let play = Play::begin().await;
    play.device().journal_dir(dir).event_queue_entries_max(EVENTS_MAX).build().unwrap()
}

/// What the process does that is killed: it accepts events and says each one's number.
async fn accept_events(dir: &std::path::Path) {
    let device = device(dir).await;
    for _ in 0..EVENTS_MAX {
        let ticket = device.event(13).payload(json!({ "300": [{ "310": 1 }] })).send().await.unwrap();
        println!("\naccepted {}", ticket.number());
    }
}

#[tokio::test]
async fn what_was_accepted_before_a_kill_is_there_after_it() {
    // This very test, started once more as the process that is killed.
    if let Some(dir) = std::env::var_os(DIR) {
        return accept_events(dir.as_ref()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut accepted = Vec::<usize>::new();
    for kill_after in [1, 9, 40, 5] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::what_was_accepted_before_a_kill_is_there_after_it", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut numbers = lines.filter_map(|line| {
            line.strip_prefix("accepted ").and_then(|number| number.parse::<usize>().ok())
        });
        accepted.extend(numbers.by_ref().take(kill_after));
        // The child goes on meanwhile, so this is anywhere in the middle of an event.
        child.kill().unwrap();
        child.wait().unwrap();
        accepted.extend(numbers);
    }
    assert!(accepted.len() >= 55);
    let device = device(dir.path()).await;
    let waiting = device.events().waiting();
    let next = device.event(13).send().await.unwrap().number() as usize;
    // Each number once and none left out: so all that were told are there.
    assert_eq!(waiting + 1, next);
    assert!(accepted.is_sorted_by(|one, next| one < next));
    assert!(accepted.last().unwrap() < &next);
}
