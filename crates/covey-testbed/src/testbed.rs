//! A set of services in a folder: started when they are first asked for, used side by side by
//! any number of tests, ended when the last user is gone.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::deployment::{self, Environment};
use crate::pki::Pki;
use crate::process::{Kind, ProcessId};
use crate::rabbitmq::{self, Size};
use crate::service::{self, Service};
use crate::shape::Shape;
use crate::state::Locked;
use crate::{mosquitto, nginx, package, postgresql, secret, user, workspace};

/// RabbitMQ takes the longest: it closes its queues one by one.
const END_SECONDS_MAX: Duration = Duration::from_secs(30);
/// What the databases of tests lose in a power cut nobody will ask for; a kill of the server costs nothing of it.
const SHARED_SETTINGS: [&str; 4] =
    ["fsync = off", "full_page_writes = off", "autovacuum = off", "shared_buffers = 64MB"];

/// A set of services.
#[derive(Clone, Debug)]
pub struct Testbed {
    dir: PathBuf,
}

impl Testbed {
    /// The set that all tests of this work tree share. It is used by this run of tests from now on,
    /// and ended when no run uses it any more.
    pub fn shared() -> Result<Self> {
        Self::shared_by(user::of_this_run()?)
    }

    /// The same, used by another process.
    pub fn shared_by(user: ProcessId) -> Result<Self> {
        let testbed = Self { dir: Self::shared_dir() };
        let mut locked = testbed.open()?;
        if locked.state.processes.is_empty() {
            locked.state.postgresql_settings = SHARED_SETTINGS.map(str::to_owned).to_vec();
            locked.save()?;
        }
        locked.use_by(user)?;
        Ok(testbed)
    }

    /// The folder of that set: not in the work tree, whose parents may be closed to PostgreSQL's user.
    pub fn shared_dir() -> PathBuf {
        let user = rustix::process::geteuid().as_raw();
        let tree = workspace().display().to_string();
        // FNV-1a: two trees have two folders.
        let tree = tree.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        PathBuf::from(format!("/tmp/covey-testbed-{user}-{tree:016x}"))
    }

    /// A set of a test's own, whose processes may be killed without disturbing anybody else.
    /// `settings` are lines for `postgresql.conf`.
    pub fn own(settings: &[&str]) -> Result<OwnTestbed> {
        let folder = tempfile::Builder::new().prefix("covey-testbed-").tempdir_in("/tmp")?;
        // Others than root must come in: PostgreSQL is someone else.
        let testbed = Self { dir: folder.path().join("set") };
        set_open(folder.path())?;
        let mut locked = testbed.open()?;
        locked.state.postgresql_settings = settings.iter().map(|line| (*line).to_owned()).collect();
        locked.save()?;
        locked
            .use_by(ProcessId::of(std::process::id()).context("this system shows no processes in /proc")?)?;
        drop(locked);
        Ok(OwnTestbed { testbed, _folder: folder })
    }

    /// The set in a folder, which may be yet to be made.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn open(&self) -> Result<Locked> {
        Locked::open(&self.dir)
    }

    pub(crate) fn open_existing(&self) -> Result<Locked> {
        match Locked::open_existing(&self.dir)? {
            Some(locked) => Ok(locked),
            None => {
                bail!("there are no services in {}; start them: cargo xtask services up", self.dir.display())
            }
        }
    }

    /// Starts services that do not run, and waits until they serve.
    pub fn up(&self, services: &[Service]) -> Result<()> {
        service::up(&mut self.open()?, services)
    }

    /// Makes a deployment of a test's own: a database, a vhost, or a broker. It goes with what is returned.
    pub fn deployment(&self, shape: Shape) -> Result<Deployment> {
        let us = ProcessId::of(std::process::id()).context("this system shows no processes in /proc")?;
        let name = format!("t{}", &secret::password()?[..10]);
        // Made before the deployment is, so that one that was made halfway is removed as well.
        let mut made = Deployment { testbed: self.clone(), name, environment: Environment::default() };
        made.environment = deployment::make(&self.dir, &made.name, shape, Some(us))?;
        Ok(made)
    }

    /// The address of a database for PostgreSQL's administrator; PostgreSQL is started when it does not run.
    pub fn postgresql_url(&self, database: &str) -> Result<String> {
        let mut locked = self.open()?;
        service::up(&mut locked, &[Service::Postgresql])?;
        Ok(postgresql::admin_url(&postgresql::facts(&locked)?, database))
    }

    /// Writes a file into PostgreSQL's data folder. What it says holds after `signal` with SIGHUP or a new start.
    pub fn write_postgresql_data(&self, name: &str, text: &str) -> Result<()> {
        postgresql::write_data(&mut self.open()?, name, text)
    }

    /// The folder of the CA that the services trust, as `covey up --pki-from` takes it.
    pub fn pki(&self) -> Result<PathBuf> {
        Ok(Pki::open(&self.open()?.state.dir)?.folder())
    }

    /// Does something once for all who share the set, who wait meanwhile.
    pub fn once(&self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let done = self.dir.join(format!("once-{name}"));
        let _one_at_a_time = package::lock(&done.with_extension("lock"))?;
        if !done.exists() {
            work()?;
            fs::write(done, "")?;
        }
        Ok(())
    }

    /// The port on 127.0.0.1 that a process has for something.
    pub fn port(&self, process: &str, purpose: &str) -> Result<u16> {
        let mut locked = self.open()?;
        let port = locked.state.process(process)?.ports.get(purpose).copied();
        port.with_context(|| format!("{process} has no port for {purpose}"))
    }

    /// The id of a process, if it was started.
    pub fn pid(&self, process: &str) -> Result<Option<u32>> {
        Ok(self.open_existing()?.state.process(process)?.id.map(|id| id.pid))
    }

    /// What a process wrote to its log so far.
    pub fn log(&self, process: &str) -> Result<String> {
        let log = self.open_existing()?.state.process(process)?.log.clone();
        Ok(String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned())
    }

    /// Sends a signal to a process.
    pub fn signal(&self, process: &str, signal: Signal) -> Result<()> {
        self.open_existing()?.state.process(process)?.signal(signal)
    }

    /// Ends a process at once, as a power cut would.
    pub fn kill(&self, process: &str) -> Result<()> {
        let mut locked = self.open_existing()?;
        let process = locked.state.process(process)?;
        process.signal(Signal::KILL)?;
        process.wait_for_end(END_SECONDS_MAX)?;
        locked.save()
    }

    /// Ends a process in good order.
    pub fn stop(&self, process: &str) -> Result<()> {
        let mut locked = self.open_existing()?;
        let process = locked.state.process(process)?;
        process.ask_to_end()?;
        process.wait_for_end(END_SECONDS_MAX)?;
        locked.save()
    }

    /// Starts a process again on its data and ports, and waits until it serves.
    pub fn start(&self, process: &str) -> Result<()> {
        start(&mut self.open_existing()?, process)
    }

    /// Ends everything, and removes its data where `purge` says so.
    pub fn down(&self, purge: bool) -> Result<()> {
        match Locked::open_existing(&self.dir)? {
            Some(locked) => down(locked, purge),
            None => Ok(()),
        }
    }
}

/// PostgreSQL runs as a user of its own, who must be able to pass.
fn set_open(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?)
}

/// A set of a test's own, ended and removed with this.
#[derive(Debug)]
pub struct OwnTestbed {
    testbed: Testbed,
    _folder: tempfile::TempDir,
}

impl Deref for OwnTestbed {
    type Target = Testbed;

    fn deref(&self) -> &Testbed {
        &self.testbed
    }
}

impl Drop for OwnTestbed {
    fn drop(&mut self) {
        if let Err(error) = self.testbed.down(true) {
            eprintln!("testbed: cannot end the services in {}: {error:#}", self.testbed.dir.display());
        }
    }
}

/// What one test has in a set of services, removed with this.
#[derive(Debug)]
pub struct Deployment {
    testbed: Testbed,
    name: String,
    environment: Environment,
}

impl Deployment {
    /// A variable that tells `covey up` of the deployment, such as `COVEY_STORE`.
    pub fn variable(&self, name: &str) -> Result<&str> {
        self.environment.get(name).with_context(|| format!("the shape of {} has no {name}", self.name))
    }

    /// The set that it is in.
    pub fn testbed(&self) -> &Testbed {
        &self.testbed
    }

    /// The name of its Mosquitto among the processes.
    pub fn mosquitto(&self) -> String {
        mosquitto::process_name(&self.name)
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if let Err(error) = deployment::remove(&self.testbed.dir, &self.name) {
            eprintln!("testbed: cannot remove the deployment {}: {error:#}", self.name);
        }
    }
}

/// Ends everything: first those that use others, and epmd last, which nodes speak to while they end.
/// What is to be removed need not be written any more.
fn down(mut locked: Locked, purge: bool) -> Result<()> {
    for kinds in [&[Kind::Mosquitto, Kind::Nginx, Kind::Rabbitmq, Kind::Postgresql][..], &[Kind::Epmd]] {
        let mut chosen: Vec<_> =
            locked.state.processes.values_mut().filter(|process| kinds.contains(&process.kind)).collect();
        for process in &chosen {
            if purge { process.abandon()? } else { process.ask_to_end()? }
        }
        for process in &mut chosen {
            process.wait_for_end(END_SECONDS_MAX)?;
        }
        locked.save()?;
    }
    if purge { locked.purge() } else { Ok(()) }
}

fn start(locked: &mut Locked, name: &str) -> Result<()> {
    let process = locked.state.process(name)?;
    match process.kind {
        Kind::Postgresql => {
            postgresql::restart(locked)?;
            postgresql::wait(locked)
        }
        Kind::Rabbitmq => {
            let size = Size::of_node(name).with_context(|| format!("{name} belongs to no broker"))?;
            rabbitmq::begin_node(locked, size, name)?;
            rabbitmq::wait_for_node(locked, size, name)
        }
        kind => {
            if !process.is_running() {
                process.spawn()?;
                locked.save()?;
            }
            match kind {
                Kind::Mosquitto => mosquitto::wait(locked, name),
                Kind::Nginx => nginx::wait(locked),
                _ => Ok(()),
            }
        }
    }
}
