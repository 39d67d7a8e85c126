//! The data directory: one server at a time, and files that only their owner
//! may read.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::fault;

/// How long a start waits for the server before it, in milliseconds: one that was killed holds the
/// directory until the system has closed its sockets, which takes a while with many devices.
/// Limit for the start: it says which process holds the directory, and ends.
const HELD_MS_MAX: u64 = 5_000;
/// How often it looks, in milliseconds.
const HELD_PAUSE_MS: u64 = 20;

/// The folder of the CA in it.
pub const PKI: &str = "pki";
/// The file of the first API key in it.
pub const ADMIN_KEY: &str = "admin.key";

/// The data directory of a server that runs, or of a command in its place.
pub struct DataDir {
    path: PathBuf,
    /// Held as long as that runs; the system gives it back when the
    /// process ends, however it ends.
    _lock: File,
}

/// Where the server can be reached, as written to `addresses.json`.
#[derive(Default, Serialize)]
pub struct Addresses {
    pub http: String,
    pub https: String,
    pub mqtts: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coap: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coaps: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt_nodes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt_sn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket_nodes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_broker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcu_http: Option<String>,
}

impl DataDir {
    /// Makes the directory if it is missing, and takes hold of it.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|error| unusable(path, &error))?;
        }
        let shown = path.display();
        let (began, pause) = (Instant::now(), Duration::from_millis(HELD_PAUSE_MS));
        let mut has_waited = false;
        loop {
            if let Some(dir) = Self::hold(path)? {
                // The system gives back the lock a moment before the listeners, which were opened after it.
                std::thread::sleep(if has_waited { pause } else { Duration::ZERO });
                return Ok(dir);
            }
            has_waited = true;
            if began.elapsed() >= Duration::from_millis(HELD_MS_MAX) {
                return Err(fault::setup(format!(
                    "another server runs on {shown}; stop it, or give another folder with --data"
                )));
            }
            std::thread::sleep(pause);
        }
    }

    /// Takes hold of a directory that is there, unless a server runs on it.
    pub fn hold(path: &Path) -> Result<Option<Self>> {
        let cannot = |error: std::io::Error| unusable(path, &error);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
        let dir = Self { path: path.to_owned(), _lock: lock };
        // What an earlier run wrote there does not hold for this one.
        match fs::remove_file(dir.addresses_path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(cannot(error)),
            _ => Ok(Some(dir)),
        }
    }

    /// Whether a server runs on a directory; nothing in it is changed.
    pub fn is_held(path: &Path) -> std::io::Result<bool> {
        let lock = match File::open(path.join("lock")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            lock => lock?,
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn pki_path(&self) -> PathBuf {
        self.path.join(PKI)
    }

    pub fn admin_key_path(&self) -> PathBuf {
        self.path.join(ADMIN_KEY)
    }

    pub fn addresses_path(&self) -> PathBuf {
        self.path.join("addresses.json")
    }

    /// The first API key's clear text, if it was written before.
    pub fn admin_key(&self) -> Result<Option<String>> {
        match fs::read_to_string(self.admin_key_path()) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(fault::setup(format!("cannot read {}: {error}", self.admin_key_path().display())))
            }
        }
    }

    /// Writes the first API key's clear text, for its owner alone.
    pub fn write_admin_key(&self, clear_text: &str) -> Result<()> {
        self.write(&self.admin_key_path(), format!("{clear_text}\n").as_bytes(), 0o600)
    }

    /// Removes the clear text of a key that was not stored after all.
    pub fn remove_admin_key(&self) -> Result<()> {
        fs::remove_file(self.admin_key_path()).map_err(|error| {
            fault::setup(format!("cannot remove {}: {error}", self.admin_key_path().display()))
        })
    }

    /// Tells where the server can be reached, now that it can.
    pub fn write_addresses(&self, addresses: &Addresses) -> Result<()> {
        let text = serde_json::to_string(addresses)?;
        self.write(&self.addresses_path(), text.as_bytes(), 0o644)
    }

    /// Writes a file so that it is there whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        write(path, bytes, mode)
    }
}

/// Writes a file for its owner alone, so that it is there whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes, 0o600)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let write = || {
        let unfinished = path.with_extension("unfinished");
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&unfinished)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error: std::io::Error| fault::setup(format!("cannot write {}: {error}", path.display())))
}

fn unusable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let shown = path.display();
    fault::setup(format!("cannot use the data directory {shown}: {error}; give another with --data"))
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Whoever finds no addresses knows that no server runs.
        let _ = fs::remove_file(self.addresses_path());
    }
}
