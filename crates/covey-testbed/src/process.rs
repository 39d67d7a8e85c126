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

impl Kind {
    /// The signal after which it finishes its work and does not wait for its clients.
    fn end_signal(self) -> Signal {
        match self {
            // PostgreSQL would wait for all clients to leave after SIGTERM.
            Self::Postgresql => Signal::INT,
            _ => Signal::TERM,
        }
    }

    /// The signal after which it ends at once and leaves no child behind, and its name for kill(1).
    /// What it has not written is lost.
    pub fn abandon_signal(self) -> (Signal, &'static str) {
        match self {
            Self::Postgresql => (Signal::QUIT, "QUIT"),
            Self::Nginx => (Signal::TERM, "TERM"),
            Self::Epmd | Self::Rabbitmq | Self::Mosquitto => (Signal::KILL, "KILL"),
        }
    }
}

/// One process of this machine. A pid alone may come to name another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// When it began, in clock ticks since the machine started (proc_pid_stat(5), field 22).
    pub began_ticks: u64,
}

impl ProcessId {
    /// The process that has this pid now, if there is one that has not ended.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, began_ticks: began_in(&stat)? })
    }

    pub fn is_running(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
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
    /// Absent before it is started, and after it was ended on purpose.
    pub id: Option<ProcessId>,
    /// Whether somebody has seen it serve since it was started.
    pub is_ready: bool,
}

impl Process {
    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.id.is_some_and(ProcessId::is_running)
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
        (self.id, self.is_ready) = (ProcessId::of(child.id()), false);
        Ok(())
    }

    /// Sends a signal, if it runs.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let running = self.id.filter(|id| id.is_running());
        match running.and_then(|id| Pid::from_raw(id.pid.cast_signed())) {
            Some(pid) => match kill_process(pid, signal) {
                // It ended by itself between the look and the signal.
                Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
                Err(error) => Err(error).with_context(|| format!("cannot signal process {pid:?}")),
            },
            None => Ok(()),
        }
    }

    /// Asks it to end, in the way that it finishes its work but does not wait for its clients.
    pub fn ask_to_end(&self) -> Result<()> {
        self.signal(self.kind.end_signal())
    }

    /// Ends it without its work being finished: its data will not be asked for.
    pub fn abandon(&self) -> Result<()> {
        self.signal(self.kind.abandon_signal().0)
    }

    /// Waits until it has ended, and kills it where that takes longer than it may.
    pub fn wait_for_end(&mut self, bound: Duration) -> Result<()> {
        if !wait_until(bound, || !self.is_running()) {
            self.signal(Signal::KILL)?;
            if !wait_until(bound, || !self.is_running()) {
                bail!("process {:?} does not end, though killed", self.id);
            }
        }
        self.id = None;
        Ok(())
    }

    /// Waits until it answers a probe, unless it has done so since it was started.
    pub fn wait_until_ready(
        &mut self,
        name: &str,
        bound: Duration,
        mut probe: impl FnMut() -> bool,
    ) -> Result<()> {
        if self.is_ready && self.is_running() {
            return Ok(());
        }
        let mut has_ended = false;
        self.is_ready = wait_until(bound, || {
            has_ended = !self.is_running();
            has_ended || probe()
        }) && !has_ended;
        if self.is_ready {
            return Ok(());
        }
        let what = if has_ended { "ended".to_owned() } else { format!("does not serve after {bound:?}") };
        let advice = "if one of its ports was taken by another program: cargo xtask services down --purge";
        bail!("{name} {what}; {advice}; {}", self.last_words())
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

/// When a process began; nothing if only what is left of one is there.
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
            log: folder.join("sleeper.log"),
            ports: BTreeMap::new(),
            id: None,
            is_ready: false,
        }
    }

    #[test]
    fn a_process_runs_until_it_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = sleeper(folder.path());
        assert!(!process.is_running());
        process.spawn().unwrap();
        assert!(process.is_running());
        process.ask_to_end().unwrap();
        process.wait_for_end(Duration::from_secs(5)).unwrap();
        assert!(!process.is_running());
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = sleeper(folder.path());
        let ours = ProcessId::of(std::process::id()).unwrap();
        process.id = Some(ProcessId { began_ticks: ours.began_ticks - 1, ..ours });
        assert!(!process.is_running() && ours.is_running());
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
