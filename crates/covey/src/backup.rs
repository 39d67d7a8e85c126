//! Backups: a copy of the data directory as of one moment, checked, while the
//! server runs; and the way back.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use covey_doctor::backup::Trace;
use covey_store::sqlite;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fault;

/// The list of what a backup holds, in the backup.
const MANIFEST: &str = "manifest.json";
/// The folder of keys and certificates.
const PKI: &str = "pki";
/// The first API key.
const ADMIN_KEY: &str = "admin.key";
/// Longest name of a file of keys or certificates, in bytes.
/// Limit for each file of a backup: it is refused.
const KEY_FILE_NAME_BYTES_MAX: usize = 128;

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
    let began_at = time::OffsetDateTime::now_utc().unix_timestamp();
    let mut files = copy_secrets(data, to)?;
    let copy = sqlite::file_in(to);
    sqlite::backup(&database, &copy).map_err(fault::setup)?;
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    File::open(&copy)?.sync_all()?;
    files.push(entry(to, Path::new(file_name(&copy)))?);
    let created_at = time::OffsetDateTime::now_utc().unix_timestamp();
    let manifest = Manifest { version: env!("CARGO_PKG_VERSION").to_owned(), created_at, files };
    write_new(&to.join(MANIFEST), serde_json::to_string_pretty(&manifest)?.as_bytes())?;
    sync_folders(to)?;
    let to = std::path::absolute(to).unwrap_or_else(|_| to.to_owned());
    // The backup is whole, whatever becomes of this.
    if let Err(error) = trace(began_at, Some(to)).leave(data) {
        eprintln!(
            "covey: covey doctor will not know of this backup: cannot write {}: {error}",
            data.display()
        );
    }
    Ok(manifest)
}

/// Leaves word that a backup was made by another program just now.
pub fn note_made_elsewhere(data: &Path) -> Result<()> {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let left = trace(now, None).leave(data);
    left.map_err(|error| fault::setup(format!("cannot write to {}: {error}", data.display())))
}

fn trace(at: i64, to: Option<PathBuf>) -> Trace {
    Trace { at, to, version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Fills a data directory that does not exist, or is empty, from a backup.
pub fn restore(from: &Path, data: &Path) -> Result<Manifest> {
    let text = fs::read_to_string(from.join(MANIFEST)).map_err(|error| {
        fault::setup(format!("{} is no backup of Covey: cannot read its {MANIFEST}: {error}", from.display()))
    })?;
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| fault::setup(format!("the backup's {MANIFEST} is damaged: {error}")))?;
    check_names(from, &manifest)?;
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
    sync_folders(data)?;
    Ok(manifest)
}

/// Refuses a list that no backup of ours has: whoever wrote it may want a file of its choice to be read from, or
/// written to, another place.
fn check_names(from: &Path, manifest: &Manifest) -> Result<()> {
    let refused = |path: &Path, problem: &str| {
        Err(fault::setup(format!("the backup's {MANIFEST} names {path:?}: {problem}; use another backup")))
    };
    let pki = from.join(PKI);
    if fs::symlink_metadata(&pki).is_ok_and(|found| !found.is_dir()) {
        return refused(Path::new(PKI), "it is no folder, but a link or a file");
    }
    let mut names = HashSet::new();
    for Entry { path, .. } in &manifest.files {
        if !is_of_a_backup(path) {
            return refused(
                path,
                "a backup holds covey.db, admin.key, and *.pem and *.key in pki, and nothing else",
            );
        }
        if !names.insert(path) {
            return refused(path, "it is named twice");
        }
        let found = fs::symlink_metadata(from.join(path));
        let found = found
            .map_err(|error| fault::setup(format!("cannot read {}: {error}", from.join(path).display())))?;
        if !found.is_file() {
            return refused(path, "it is no file, but a link or a folder");
        }
    }
    let database = sqlite::file_in(Path::new(""));
    if names.contains(&database) {
        return Ok(());
    }
    Err(fault::setup(format!(
        "the backup's {MANIFEST} does not name {}; use another backup",
        database.display()
    )))
}

/// Whether a backup holds files of this name. It is compared as it is written, so that no second name for a place
/// is taken.
fn is_of_a_backup(path: &Path) -> bool {
    let Some(name) = path.to_str() else { return false };
    name == ADMIN_KEY
        || name == file_name(&sqlite::file_in(Path::new("")))
        || name.strip_prefix(PKI).and_then(|name| name.strip_prefix('/')).is_some_and(is_key_file)
}

/// Whether a file in the folder of keys is a key or a certificate, by its name.
fn is_key_file(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    name.len() <= KEY_FILE_NAME_BYTES_MAX
        && name.bytes().all(is_plain)
        && [".pem", ".key"].iter().any(|end| name.strip_suffix(end).is_some_and(|stem| !stem.is_empty()))
        && !name.starts_with('.')
}

/// Copies keys, certificates and the first API key. They are copied before the
/// database, so that every certificate in it is of a CA in the backup.
fn copy_secrets(data: &Path, to: &Path) -> Result<Vec<Entry>> {
    let mut paths = Vec::new();
    for found in fs::read_dir(data.join(PKI)).context("cannot read the folder of keys")? {
        let found = found?;
        let name = found.file_name();
        if !found.file_type()?.is_file() || name.as_encoded_bytes().first() == Some(&b'.') {
            continue;
        }
        if name.to_str().is_some_and(is_key_file) {
            paths.push(Path::new(PKI).join(name));
        } else {
            eprintln!(
                "covey: not in the backup: {}; of {PKI} it holds *.pem and *.key",
                found.path().display()
            );
        }
    }
    if data.join(ADMIN_KEY).exists() {
        paths.push(ADMIN_KEY.into());
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

/// Has the names of all files reach the disk, that of the folder as well.
fn sync_folders(folder: &Path) -> Result<()> {
    let pki = folder.join(PKI);
    let above = folder.canonicalize()?.parent().map(Path::to_owned);
    for path in [Some(pki).filter(|pki| pki.exists()), Some(folder.to_owned()), above].into_iter().flatten() {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let read =
        File::open(from).map_err(|error| fault::setup(format!("cannot read {}: {error}", from.display())))?;
    write_new(to, read)
}

fn write_new(path: &Path, mut text: impl Read) -> Result<()> {
    let mut write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        io::copy(&mut text, &mut file)?;
        file.flush()?;
        file.sync_all()
    };
    write().map_err(|error: io::Error| fault::setup(format!("cannot write {}: {error}", path.display())))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_holds_plain_names_of_its_list_and_nothing_else() {
        for good in
            ["covey.db", "admin.key", "pki/ca.pem", "pki/issuing.key", "pki/issuing-2024.pem", "pki/link.key"]
        {
            assert!(is_of_a_backup(Path::new(good)), "{good}");
        }
        let long = format!("pki/{}.pem", "x".repeat(KEY_FILE_NAME_BYTES_MAX));
        for bad in [
            "",
            ".",
            "..",
            "../covey.db",
            "/etc/passwd",
            "/covey.db",
            "./covey.db",
            "covey.db-wal",
            "covey.db/",
            "lock",
            "pki",
            "pki/",
            "pki/..",
            "pki/../x.pem",
            "pki/a/b.pem",
            "pki//ca.pem",
            "pki/./ca.pem",
            "pki/.pem",
            "pki/.x.pem",
            "pki/ca.sh",
            "pki/ca.pem\n",
            "pki\\ca.pem",
            "pkica.pem",
            "PKI/ca.pem",
            "manifest.json",
            &long,
        ] {
            assert!(!is_of_a_backup(Path::new(bad)), "{bad}");
        }
    }
}
