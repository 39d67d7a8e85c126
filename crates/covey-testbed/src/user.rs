//! Who uses a set of services, and the keeper that ends them once nobody does:
//! a shell that outlives every user, so that a kill of any of them leaves nothing running.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::process::ProcessId;

/// Holds a file for each user: its name is the pid, its text when that process began.
pub const USERS: &str = "users";
/// Is there while the services are to run until somebody ends them.
pub const KEPT: &str = "kept";
const KEEPER: &str = include_str!("keeper.sh");

/// The process that stands for the run of tests which we are part of: the runner, if one of
/// cargo's started us, since it starts a process for each test or for each file of tests; else ourselves.
pub fn of_this_run() -> Result<ProcessId> {
    let parent = std::os::unix::process::parent_id();
    let name = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    let runner =
        if matches!(name.trim_end(), "cargo" | "cargo-nextest") { ProcessId::of(parent) } else { None };
    runner.or_else(|| ProcessId::of(std::process::id())).context("this system shows no processes in /proc")
}

/// Adds a user of the services in a folder.
pub fn add(dir: &Path, user: ProcessId) -> Result<()> {
    let users = dir.join(USERS);
    fs::create_dir_all(&users)?;
    let file = users.join(user.pid.to_string());
    fs::write(&file, format!("{}\n", user.began_ticks))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Starts the keeper of a folder.
pub fn start_keeper(dir: &Path) -> Result<ProcessId> {
    let child = keeper(dir).spawn().context("cannot run sh")?;
    ProcessId::of(child.id()).context("the keeper of the services ended at once")
}

fn keeper(dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", KEEPER, "covey-testbed-keeper"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at the terminal is meant for the tests; it ends the services after them.
        .process_group(0);
    command
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::process::wait_until;
    use crate::state::Locked;

    fn sleeper() -> (std::process::Child, ProcessId) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        (child, id)
    }

    #[test]
    fn the_keeper_ends_what_runs_once_the_last_user_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("set");
        fs::create_dir(&dir).unwrap();
        let (mut service, service_id) = sleeper();
        let (mut first, first_id) = sleeper();
        let (mut second, second_id) = sleeper();
        for name in ["services.json", "services.lock"] {
            fs::write(dir.join(name), "").unwrap();
        }
        let line = format!("KILL {} {}\n", service_id.pid, service_id.began_ticks);
        // A pid that has come to name another process is left alone.
        let foreign = ProcessId::of(std::process::id()).unwrap();
        let stale = format!("KILL {} {}\n", foreign.pid, foreign.began_ticks - 1);
        fs::write(dir.join("processes"), line + &stale).unwrap();
        add(&dir, first_id).unwrap();
        add(&dir, second_id).unwrap();
        let keeper = start_keeper(&dir).unwrap();
        first.kill().unwrap();
        first.wait().unwrap();
        // More than one look of the keeper.
        std::thread::sleep(Duration::from_millis(2_500));
        assert!(service_id.is_running() && keeper.is_running(), "there is a second user");
        second.kill().unwrap();
        second.wait().unwrap();
        assert!(wait_until(Duration::from_secs(60), || !service_id.is_running()));
        assert!(wait_until(Duration::from_secs(60), || !keeper.is_running() && !dir.exists()));
        service.wait().unwrap();
    }

    #[test]
    fn who_comes_while_the_keeper_removes_the_folder_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, programs) = (folder.path().join("set"), folder.path().join("programs"));
        let [removing, go_on] = ["removing", "go-on"].map(|name| folder.path().join(name));
        fs::create_dir(&programs).unwrap();
        drop(Locked::open(&dir).unwrap());
        // An rm that is interrupted once it has removed the lock.
        let script = format!(
            "#!/bin/sh\n/bin/rm -f \"$2/services.lock\" \"$2/services.json\"\n: >'{}'\n\
             while ! [ -e '{}' ]; do sleep 0.05; done\nexec /bin/rm \"$@\"\n",
            removing.display(),
            go_on.display()
        );
        let source = folder.path().join("source");
        fs::write(&source, script).unwrap();
        // By another process: what a new process of another thread has open for writing cannot be run.
        let installed =
            Command::new("install").args(["-m", "700"]).arg(source).arg(programs.join("rm")).status();
        assert!(installed.unwrap().success());
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut keeper = keeper(&dir).env("PATH", path).spawn().unwrap();
        assert!(wait_until(Duration::from_secs(60), || removing.exists()));
        let ours = Locked::open(&dir).unwrap();
        fs::write(&go_on, "").unwrap();
        assert!(keeper.wait().unwrap().success());
        assert!(dir.join("services.json").exists(), "the keeper of the last run removed what is ours");
        ours.purge().unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(left.len(), 4, "{left:?}");
    }
}
