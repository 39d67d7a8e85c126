//! Backups: a copy of the data directory as of one moment, checked, while the
//! server runs; and the way back.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use covey_store::sqlite;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fault;

/// The list of what a backup holds, in the backup.
const MANIFEST: &str = "manifest.json";
/// The folder of keys and certificates.
const PKI: &str = "pki";

/// What a backup holds.
#[derive(Serialize, Deserialize)]
pub struct Manifest {
    /// The version of Covey that made it.
    pub version: String,
    /// When it was made, in Unix seconds.
    pub created_at: i64,
    /// Its files.
    pub files: Vec<Entry>,
}

/// One file of a backup.
#[derive(Serialize, Deserialize)]
pub struct Entry {
    /// Where it is, from the folder of the backup.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
    /// Its SHA-256 digest in hexadecimal digits.
    pub sha256: String,
}

/// Makes a backup of a data directory in a new folder.
pub fn backup(data: &Path, to: &Path) -> Result<Manifest> {
    let database = sqlite::file_in(data);
    if !database.exists() {
        return Err(fault::setup(format!(
            "there is no database in {}; name the data directory with --data",
            data.display()
        )));
    }
    make_new_folder(to)?;
    let mut files = copy_secrets(data, to)?;
    let copy = sqlite::file_in(to);
    sqlite::backup(&database, &copy).map_err(fault::setup)?;
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    File::open(&copy)?.sync_all()?;
    files.push(entry(to, Path::new(file_name(&copy)))?);
    let created_at = time::OffsetDateTime::now_utc().unix_timestamp();
    let manifest = Manifest { version: env!("CARGO_PKG_VERSION").to_owned(), created_at, files };
    write_new(&to.join(MANIFEST), serde_json::to_string_pretty(&manifest)?.as_bytes())?;
    File::open(to)?.sync_all()?;
    Ok(manifest)
}

/// Fills a data directory that does not exist, or is empty, from a backup.
pub fn restore(from: &Path, data: &Path) -> Result<Manifest> {
    let text = fs::read_to_string(from.join(MANIFEST)).map_err(|error| {
        fault::setup(format!("{} is no backup of Covey: cannot read its {MANIFEST}: {error}", from.display()))
    })?;
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| fault::setup(format!("the backup's {MANIFEST} is damaged: {error}")))?;
    for file in &manifest.files {
        let found = entry(from, &file.path)?;
        if found.sha256 != file.sha256 {
            let path = file.path.display();
            return Err(fault::setup(format!("the backup's file {path} is damaged; use another backup")));
        }
    }
    sqlite::verify(&sqlite::file_in(from)).map_err(fault::setup)?;
    make_new_folder(data)?;
    for file in &manifest.files {
        copy(&from.join(&file.path), &data.join(&file.path))?;
    }
    File::open(data)?.sync_all()?;
    Ok(manifest)
}

/// Copies keys, certificates and the first API key. They are copied before the
/// database, so that every certificate in it is of a CA in the backup.
fn copy_secrets(data: &Path, to: &Path) -> Result<Vec<Entry>> {
    let mut paths = Vec::new();
    for found in fs::read_dir(data.join(PKI)).context("cannot read the folder of keys")? {
        let found = found?;
        let name = found.file_name();
        let is_hidden = name.as_encoded_bytes().first() == Some(&b'.');
        if found.file_type()?.is_file() && !is_hidden {
            paths.push(Path::new(PKI).join(name));
        }
    }
    if data.join("admin.key").exists() {
        paths.push("admin.key".into());
    }
    paths.sort();
    let mut entries = Vec::new();
    for path in paths {
        copy(&data.join(&path), &to.join(&path))?;
        entries.push(entry(to, &path)?);
    }
    Ok(entries)
}

/// Makes a folder that only its owner may enter; one that is there must be empty.
fn make_new_folder(path: &Path) -> Result<()> {
    let cannot = |error: std::io::Error| fault::setup(format!("cannot write to {}: {error}", path.display()));
    if path.exists() && fs::read_dir(path).map_err(cannot)?.next().is_some() {
        let shown = path.display();
        return Err(fault::setup(format!("{shown} is not empty; name a folder that does not exist yet")));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(cannot)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let bytes =
        fs::read(from).map_err(|error| fault::setup(format!("cannot read {}: {error}", from.display())))?;
    write_new(to, &bytes)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error: std::io::Error| fault::setup(format!("cannot write {}: {error}", path.display())))
}

fn entry(folder: &Path, path: &Path) -> Result<Entry> {
    let whole = folder.join(path);
    let read = || {
        let mut digest = Sha256::new();
        let mut file = File::open(&whole)?;
        let mut buffer = vec![0; 64 * 1024];
        let mut bytes = 0;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            bytes += count as u64;
            digest.update(buffer.get(..count).unwrap_or_default());
        }
        let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Entry { path: path.to_owned(), bytes, sha256 })
    };
    read().map_err(|error: std::io::Error| fault::setup(format!("cannot read {}: {error}", whole.display())))
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default()
}
