//! What is known of a set of services, kept in `services.json` in their folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::port::{self, FreePorts};
use crate::process::{Process, ProcessId};
use crate::{secret, user};

const STATE: &str = "services.json";
const LOCK: &str = "services.lock";
/// What runs, for the keeper: a shell reads no JSON.
const PROCESSES: &str = "processes";
/// A folder written by another version of this program is not guessed at.
const VERSION: u32 = 2;

/// A set of services and who uses them.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    pub version: u32,
    /// The folder itself, absolute.
    pub dir: PathBuf,
    /// The first of its block of ports.
    pub first_port: u16,
    /// Who ends the services when the last user is gone.
    pub keeper: Option<ProcessId>,
    /// Lines for `postgresql.conf` when PostgreSQL is made.
    pub postgresql_settings: Vec<String>,
    /// By name: `postgresql`, `rabbitmq`, `rabbit1`, `mosquitto-default`, `nginx`, …
    pub processes: BTreeMap<String, Process>,
    pub postgresql: Option<Postgresql>,
    pub rabbitmq: Option<Broker>,
    pub rabbitmq_cluster: Option<Broker>,
    /// By name, as given to `env --for`.
    pub deployments: BTreeMap<String, Deployment>,
}

/// The database server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Postgresql {
    /// The folder of `psql` and the others.
    pub programs: PathBuf,
    pub port: u16,
    pub admin: Login,
    /// Where its Unix socket is; absent where the folder's path is too long for one.
    pub socket_dir: Option<PathBuf>,
}

/// RabbitMQ: one node, or several that make one broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Broker {
    pub admin: Login,
    pub nodes: Vec<Node>,
    /// Each is for one deployment; devices reach it by a port of its own.
    pub vhosts: Vec<String>,
    /// A script that runs `rabbitmqctl` for the first node, or for another one with `-n`.
    pub ctl: PathBuf,
}

/// A node of RabbitMQ, with its ports on 127.0.0.1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Such as `rabbit1@localhost`.
    pub name: String,
    /// Its name among the processes.
    pub process: String,
    pub amqp: u16,
    pub amqps: u16,
    pub management: u16,
    /// One for each vhost, in the same order.
    pub mqtts: Vec<u16>,
}

/// A name with its password.
#[derive(Clone, Serialize, Deserialize)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Login({})", self.user)
    }
}

/// What belongs to one deployment of Covey and to no other.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Deployment {
    /// Whose it is: once this process is gone, anybody may remove the deployment.
    pub owner: Option<ProcessId>,
    pub database: Option<Database>,
    pub rabbitmq: Option<Tenancy>,
    pub rabbitmq_cluster: Option<Tenancy>,
    /// The name of its Mosquitto among the processes.
    pub mosquitto: Option<String>,
}

/// A database with its owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Database {
    pub name: String,
    pub owner: Login,
    pub is_made: bool,
}

/// A place in a broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tenancy {
    /// Which of the broker's vhosts.
    pub vhost_index: usize,
    pub vhost: String,
    /// Who speaks AMQP.
    pub server: Login,
    /// Who registers devices with the management API.
    pub management: Login,
    pub is_made: bool,
}

/// A state that nobody else changes at the same time.
pub struct Locked {
    pub state: State,
    _lock: File,
}

impl Locked {
    /// Opens the folder, or makes it; waits while another call works on it.
    pub fn open(dir: &Path) -> Result<Self> {
        let (dir, lock) = lock(dir)?;
        let path = dir.join(STATE);
        if !path.exists() {
            refuse_foreign_folder(&dir)?;
            let claim = port::claim(&dir, STATE)?;
            let locked = Self { state: State::new(dir, claim.first), _lock: lock };
            locked.save()?;
            return Ok(locked);
        }
        let state = read(&path)?;
        if state.dir != dir {
            bail!("{} was moved here from {}: move it back or remove it", dir.display(), state.dir.display());
        }
        Ok(Self { state, _lock: lock })
    }

    /// Opens the folder if there is a set of services in it.
    pub fn open_existing(dir: &Path) -> Result<Option<Self>> {
        if dir.join(STATE).exists() { Self::open(dir).map(Some) } else { Ok(None) }
    }

    /// Writes what is known. To be called after each change, so that a kill
    /// of ours leaves no process that nobody knows of.
    pub fn save(&self) -> Result<()> {
        let lines = self.state.processes.values().filter_map(|process| {
            let ProcessId { pid, began_ticks } = process.id?;
            Some(format!("{} {pid} {began_ticks}\n", process.kind.abandon_signal().1))
        });
        secret::write(&self.state.dir.join(PROCESSES), &lines.collect::<String>(), 0o600)?;
        let text = serde_json::to_string_pretty(&self.state)?;
        secret::write(&self.state.dir.join(STATE), &format!("{text}\n"), 0o600)
    }

    /// Lets the services run as long as this process, or another user, does. All that they hold
    /// goes with the last user.
    pub fn use_by(&mut self, user: ProcessId) -> Result<()> {
        if self.state.is_kept() {
            return Ok(());
        }
        user::add(&self.state.dir, user)?;
        if !self.state.keeper.is_some_and(ProcessId::is_running) {
            self.state.keeper = Some(user::start_keeper(&self.state.dir)?);
            self.save()?;
        }
        Ok(())
    }

    /// Lets the services run until somebody ends them.
    pub fn keep(&self) -> Result<()> {
        Ok(fs::write(self.state.dir.join(user::KEPT), "")?)
    }

    /// Removes the folder and all that is in it: out of the way first, so that whoever comes meanwhile
    /// begins in a new folder of the old name.
    pub fn purge(self) -> Result<()> {
        let dir = &self.state.dir;
        let mut ended = dir.clone().into_os_string();
        ended.push(format!(".ended-{}", std::process::id()));
        fs::rename(dir, &ended)
            .and_then(|()| fs::remove_dir_all(&ended))
            .with_context(|| format!("cannot remove {}", dir.display()))
    }
}

impl State {
    fn new(dir: PathBuf, first_port: u16) -> Self {
        Self {
            version: VERSION,
            dir,
            first_port,
            keeper: None,
            postgresql_settings: Vec::new(),
            processes: BTreeMap::new(),
            postgresql: None,
            rabbitmq: None,
            rabbitmq_cluster: None,
            deployments: BTreeMap::new(),
        }
    }

    /// Whether the services run until somebody ends them.
    pub fn is_kept(&self) -> bool {
        self.dir.join(user::KEPT).exists()
    }

    /// Ports that are free now and belong to none of our services that may be down.
    pub fn free_ports(&self) -> FreePorts {
        FreePorts::new(
            self.first_port,
            self.processes.values().flat_map(|process| process.ports.values().copied()),
        )
    }

    /// A process by its name, or an error that tells the names.
    pub fn process(&mut self, name: &str) -> Result<&mut Process> {
        let names: Vec<&str> = self.processes.keys().map(String::as_str).collect();
        let known = names.join(" ");
        self.processes
            .get_mut(name)
            .with_context(|| format!("there is no process {name}; there are: {known}"))
    }
}

/// Makes a folder where there is none, and locks it.
fn lock(dir: &Path) -> Result<(PathBuf, File)> {
    loop {
        match lock_what_is_there(dir) {
            Ok(Some(locked)) => return Ok(locked),
            Ok(None) => {}
            // Somebody has removed the folder since we made it.
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|cause| cause.kind() == std::io::ErrorKind::NotFound)
}

/// Nothing where the folder was removed while we waited for the lock.
fn lock_what_is_there(dir: &Path) -> Result<Option<(PathBuf, File)>> {
    // Readable by all: PostgreSQL runs as a user of its own. What is secret within is closed.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let found = dir.canonicalize()?;
    let (ours, owner) = (rustix::process::geteuid().as_raw(), fs::metadata(&found)?.uid());
    if owner != ours {
        bail!("{} belongs to the user {owner}, and not to us", found.display());
    }
    let path = found.join(LOCK);
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.lock().context("cannot lock the folder of the services")?;
    let is_there =
        fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|held| held.ino() == now.ino()));
    Ok(is_there.then_some((found, file)))
}

fn read(path: &Path) -> Result<State> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str::<State>(&text).ok().filter(|state| state.version == VERSION).with_context(|| {
        format!("{} is of another version: end its services by hand, remove it", path.display())
    })
}

/// A folder that holds other things must not come to be removed by `down --purge`.
fn refuse_foreign_folder(dir: &Path) -> Result<()> {
    let is_foreign = fs::read_dir(dir)?.flatten().any(|entry| entry.file_name() != LOCK);
    if is_foreign {
        bail!("{} holds other things; choose an empty folder with --dir", dir.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_saved_is_found_again_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("set");
        let mut locked = Locked::open(&dir).unwrap();
        let login = Login { user: "u".to_owned(), password: "word".to_owned() };
        assert!(!format!("{login:?}").contains("word"));
        let database = Some(Database { name: "d".to_owned(), owner: login, is_made: true });
        locked.state.deployments.insert("x".to_owned(), Deployment { database, ..Deployment::default() });
        locked.save().unwrap();
        drop(locked);
        assert_eq!(fs::metadata(dir.join(STATE)).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Locked::open_existing(&dir).unwrap().unwrap();
        assert_eq!(again.state.deployments["x"].database.as_ref().unwrap().owner.password, "word");
        again.purge().unwrap();
        assert!(Locked::open_existing(&dir).unwrap().is_none());
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
        assert!(Locked::open(folder.path()).is_err());
    }
}
