//! Real services: what a test starts is its own, and is gone after it, also when it was killed.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use covey_testbed::{Link, Service, Shape, Signal, Store, Testbed};
use serde_json::Value;

const BOTH: Shape = Shape { store: Store::Postgres, link: Link::Mosquitto };

fn covey_testbed(dir: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_covey-testbed"));
    let done = command.arg("--dir").arg(dir).args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn user() -> Child {
    Command::new("sleep").arg("600").spawn().unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn services_end_with_the_last_user_though_it_is_killed() {
    let folder = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    std::process::Command::new("chmod").arg("755").arg(folder.path()).status().unwrap();
    let dir = folder.path().join("set");
    let (mut first, mut second) = (user(), user());
    covey_testbed(&dir, &["--while", &first.id().to_string(), "env", "--shape", "postgres+mosquitto"]);
    covey_testbed(&dir, &["--while", &second.id().to_string(), "up", "postgresql"]);
    let status: Value = serde_json::from_str(&covey_testbed(&dir, &["status", "--json"])).unwrap();
    let processes = status["processes"].as_object().unwrap();
    let pids: Vec<u64> = processes.values().map(|process| process["pid"].as_u64().unwrap()).collect();
    let is_running = |pid: &u64| Path::new(&format!("/proc/{pid}/cwd")).read_link().is_ok();
    assert_eq!(processes.keys().collect::<Vec<_>>(), ["mosquitto-default", "postgresql"]);
    first.kill().unwrap();
    first.wait().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(pids.iter().all(is_running), "the second user is still there");
    second.kill().unwrap();
    second.wait().unwrap();
    until("all is gone", || !pids.iter().any(is_running) && !dir.exists());
}

#[test]
fn services_that_are_kept_run_until_they_are_ended() {
    let folder = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    let mut user = user();
    covey_testbed(folder.path(), &["--while", &user.id().to_string(), "env", "--shape", "sqlite+mosquitto"]);
    covey_testbed(folder.path(), &["env", "--shape", "sqlite+mosquitto"]);
    user.kill().unwrap();
    user.wait().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let shown = covey_testbed(folder.path(), &["status"]);
    assert!(shown.lines().any(|line| line.starts_with("mosquitto-default  up")), "{shown}");
    covey_testbed(folder.path(), &["kill", "mosquitto-default"]);
    assert!(covey_testbed(folder.path(), &["status"]).contains("down"));
    covey_testbed(folder.path(), &["start", "mosquitto-default"]);
    covey_testbed(folder.path(), &["down"]);
    assert!(covey_testbed(folder.path(), &["status"]).contains("down"));
    covey_testbed(folder.path(), &["down", "--purge"]);
    assert!(!folder.path().exists());
}

#[test]
fn a_deployment_of_a_test_is_its_own_and_goes_with_it() {
    let testbed = Testbed::shared().unwrap();
    let (one, other) = (testbed.deployment(BOTH).unwrap(), testbed.deployment(BOTH).unwrap());
    for name in ["COVEY_STORE", "COVEY_LINK"] {
        assert_ne!(one.variable(name).unwrap(), other.variable(name).unwrap());
    }
    assert!(one.variable("COVEY_RABBITMQ_MANAGEMENT").is_err());
    let (process, pid) = (one.mosquitto(), testbed.pid(&one.mosquitto()).unwrap().unwrap());
    drop(one);
    assert!(testbed.pid(&process).is_err() && !Path::new(&format!("/proc/{pid}/cwd")).exists());
    assert!(testbed.pid(&other.mosquitto()).is_ok());
}

#[test]
fn a_process_of_an_own_set_may_be_killed_and_comes_back_on_its_port() {
    let own = Testbed::own(&["max_connections = 20"]).unwrap();
    own.up(&[Service::Postgresql]).unwrap();
    let (dir, port) = (own.dir().to_owned(), own.port("postgresql", "postgresql").unwrap());
    let before = own.pid("postgresql").unwrap().unwrap();
    own.signal("postgresql", Signal::HUP).unwrap();
    own.kill("postgresql").unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    own.start("postgresql").unwrap();
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_ne!(own.pid("postgresql").unwrap().unwrap(), before);
    assert!(own.log("postgresql").unwrap().contains("ready to accept connections"));
    let pid = own.pid("postgresql").unwrap().unwrap();
    drop(own);
    // Its port may be another set's by now.
    assert!(!dir.exists() && !Path::new(&format!("/proc/{pid}/cwd")).exists());
}

#[test]
fn what_is_done_once_is_done_once_for_all() {
    let own = Testbed::own(&[]).unwrap();
    let mut count = 0;
    for _ in 0..3 {
        own.once("count", || {
            count += 1;
            Ok(())
        })
        .unwrap();
    }
    assert_eq!(count, 1);
}
