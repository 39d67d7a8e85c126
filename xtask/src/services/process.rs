//! A service's process: how it is started, whether it runs, how it is ended.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// How often to look whether a process has ended or is ready.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of a log that an error shows.
const LOG_LINES_SHOWN: usize = 12;

/// What a process is, as far as starting and ending differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Postgresql,
    Epmd,
    Rabbitmq,
    Mosquitto,
    Nginx,
}

/// All that is needed to start a process again on its data, and to end it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    pub kind: Kind,
    /// The exact command line.
    pub command: Vec<String>,
    /// The whole environment: nothing is taken over from ours.
    pub environment: BTreeMap<String, String>,
    /// The working directory.
    pub folder: PathBuf,
    /// Where its standard output and error go.
    pub log: PathBuf,
    /// Ports on 127.0.0.1 by what they are for.
    pub ports: BTreeMap<String, u16>,
    /// Absent when it was ended on purpose.
    pub pid: Option<u32>,
    /// When the process began, in clock ticks since the machine started: a
    /// pid alone may come to name another process.
    pub began_ticks: Option<u64>,
}

impl Process {
    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        let Some(pid) = self.pid else { return false };
        began_ticks(pid).is_some() && began_ticks(pid) == self.began_ticks
    }

    /// Starts it, and does not wait until it is ready. It outlives us.
    pub fn spawn(&mut self) -> Result<()> {
        let (program, arguments) = self.command.split_first().context("a process without a command")?;
        raise_open_files();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C at the terminal is meant for us, not for it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        self.pid = Some(child.id());
        self.began_ticks = began_ticks(child.id());
        Ok(())
    }

    /// Sends a signal, if it runs.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        match pid {
            Some(pid) if self.is_running() => match kill_process(pid, signal) {
                // It ended by itself between the look and the signal.
                Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
                Err(error) => Err(error).with_context(|| format!("cannot signal process {pid:?}")),
            },
            _ => Ok(()),
        }
    }

    /// Asks it to end, in the way that it finishes its work but does not wait for its clients.
    pub fn ask_to_end(&self) -> Result<()> {
        match self.kind {
            // PostgreSQL would wait for all clients to leave after SIGTERM.
            Kind::Postgresql => self.signal(Signal::INT),
            _ => self.signal(Signal::TERM),
        }
    }

    /// Waits until it has ended, and kills it where that takes longer than it may.
    pub fn wait_for_end(&mut self, bound: Duration) -> Result<()> {
        if !wait_until(bound, || !self.is_running()) {
            self.signal(Signal::KILL)?;
            if !wait_until(bound, || !self.is_running()) {
                bail!("process {:?} does not end, though killed", self.pid);
            }
        }
        self.pid = None;
        self.began_ticks = None;
        Ok(())
    }

    /// What to say when it did not come to serve.
    pub fn not_started(&self, name: &str, bound_seconds: u64) -> String {
        let what = if self.is_running() {
            format!("does not serve after {bound_seconds} s")
        } else {
            "ended".to_owned()
        };
        let advice = "if one of its ports was taken by another program: cargo xtask services down --purge";
        format!("{name} {what}; {advice}; {}", self.last_words())
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n  ");
        format!("{} ends with:\n  {shown}", self.log.display())
    }
}

/// Looks again and again until something holds; tells whether it came to hold in time.
pub fn wait_until(bound: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if began.elapsed() > bound {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// When a process began; nothing if there is none, or only what is left of one.
fn began_ticks(pid: u32) -> Option<u64> {
    began_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads proc_pid_stat(5): the name in brackets may hold anything, so count
/// from the last bracket; the state is field 3, the start is field 22.
fn began_in(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let is_ended = matches!(*fields.first()?, "Z" | "X");
    if is_ended { None } else { fields.get(19)?.parse().ok() }
}

/// Brokers need a descriptor for each connection: as many as the system lets us have.
fn raise_open_files() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What it was before is enough for few connections, and services say so themselves.
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sleeper(folder: &std::path::Path) -> Process {
        Process {
            kind: Kind::Epmd,
            command: vec!["/bin/sleep".to_owned(), "60".to_owned()],
            environment: BTreeMap::new(),
            folder: folder.to_owned(),
            log: folder.join(format!("sleeper-{}.log", std::process::id())),
            ports: BTreeMap::new(),
            pid: None,
            began_ticks: None,
        }
    }

    #[test]
    fn a_process_runs_until_it_is_ended() {
        let mut process = sleeper(&std::env::temp_dir());
        assert!(!process.is_running());
        process.spawn().unwrap();
        assert!(process.is_running());
        process.ask_to_end().unwrap();
        process.wait_for_end(Duration::from_secs(5)).unwrap();
        assert!(!process.is_running());
        std::fs::remove_file(&process.log).unwrap();
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_ours() {
        let mut process = sleeper(&std::env::temp_dir());
        process.pid = Some(std::process::id());
        process.began_ticks = began_ticks(std::process::id()).map(|ticks| ticks - 1);
        assert!(!process.is_running());
        process.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn a_name_with_brackets_does_not_confuse_and_what_is_left_of_a_process_does_not_run() {
        let stat = |state: &str| format!("7 (a) b) {state} {} 42 0 0", ["1"; 18].join(" "));
        assert_eq!(began_in(&stat("S")), Some(42));
        assert_eq!(began_in(&stat("Z")), None);
        assert_eq!(began_in(""), None);
    }
}
