//! What only the store on SQLite promises: the plans of its statements, its
//! file, and what becomes of it when the disk or the process fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../bench/mod.rs"]
mod bench;

mod backups;
mod crashes;
mod disks;
mod files;
mod plans;
mod retention;

use std::path::Path;
use std::process::Command;

/// Where a child process works; a test that is a child does nothing without it.
const CHILD_FOLDER: &str = "COVEY_TEST_FOLDER";

/// The arguments under which this very program runs one of its own tests.
fn arguments_of(test: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    [program.as_str(), "--exact", test, "--ignored", "--nocapture"].map(ToOwned::to_owned).to_vec()
}

/// One of this program's own tests as a process of its own.
fn child(test: &str, folder: &Path) -> Command {
    let arguments = arguments_of(test);
    let mut command = Command::new(&arguments[0]);
    command.args(&arguments[1..]).env(CHILD_FOLDER, folder);
    command
}
