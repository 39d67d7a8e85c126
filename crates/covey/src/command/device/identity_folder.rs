//! The folder with all that a device needs to connect: `ca.pem`, `cert.pem`
//! and `key.pem`. Either all of it is written, or nothing is.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The root certificate by which the device knows the server.
pub const CA_FILE: &str = "ca.pem";
/// The device's certificate, then the issuing one.
pub const CERTIFICATE_FILE: &str = "cert.pem";
/// The device's private key.
pub const KEY_FILE: &str = "key.pem";
/// Certificates and key in PKCS #12.
pub const PKCS12_FILE: &str = "device.p12";
/// In DER: the root certificate, the device's, the issuing one, and the device's private key as PKCS #8.
pub const DER_FILES: [&str; 4] = ["ca.der", "cert.der", "issuer.der", KEY_DER_FILE];
const KEY_DER_FILE: &str = "key.der";
/// What is for its owner alone.
const SECRET_FILES: [&str; 3] = [KEY_FILE, PKCS12_FILE, KEY_DER_FILE];

/// A folder whose files are reserved, and given back if they are not written.
///
/// A private key is shown once. So that it is not lost because a folder cannot
/// be written, this is made before a device is registered.
#[derive(Debug)]
pub struct IdentityFolder {
    path: PathBuf,
    is_new: bool,
    files: Vec<Reserved>,
    is_written: bool,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Choose another folder, or force.
    #[error("{} is there already: give another folder with --out, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// Choose another folder, or mend this one.
    #[error("cannot write {}: {source}; give another folder with --out", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

#[derive(Debug)]
struct Reserved {
    name: &'static str,
    path: PathBuf,
    unfinished: PathBuf,
    file: File,
    /// Whether the empty file at `path` is ours.
    is_ours: bool,
}

impl IdentityFolder {
    /// Makes the folder if it is missing, for its owner alone, and reserves the
    /// files.
    pub fn reserve(path: &Path, names: &[&'static str], force: bool) -> Result<Self, FolderError> {
        let is_new = make_folder(path).map_err(|source| FolderError::Io { path: path.to_owned(), source })?;
        let mut folder = Self { path: path.to_owned(), is_new, files: Vec::new(), is_written: false };
        for name in names {
            let reserved = Reserved::reserve(path, name, force)?;
            folder.files.push(reserved);
        }
        Ok(folder)
    }

    /// Writes the files, named as they were reserved.
    pub fn write(mut self, contents: &[(&'static str, &[u8])]) -> Result<(), FolderError> {
        for reserved in &mut self.files {
            let content = contents.iter().find(|(name, _)| *name == reserved.name);
            let bytes = content.map_or(&[][..], |(_, bytes)| bytes);
            let written = reserved.file.write_all(bytes).and_then(|()| reserved.file.sync_all());
            written.map_err(|source| FolderError::Io { path: reserved.unfinished.clone(), source })?;
        }
        for reserved in &self.files {
            fs::rename(&reserved.unfinished, &reserved.path)
                .map_err(|source| FolderError::Io { path: reserved.path.clone(), source })?;
        }
        self.is_written = true;
        let synced = File::open(&self.path).and_then(|folder| folder.sync_all());
        synced.map_err(|source| FolderError::Io { path: self.path.clone(), source })
    }
}

impl Drop for IdentityFolder {
    fn drop(&mut self) {
        if self.is_written {
            return;
        }
        // There is nothing left to do about what cannot be removed.
        for reserved in &self.files {
            let _ = fs::remove_file(&reserved.unfinished);
            if reserved.is_ours {
                let _ = fs::remove_file(&reserved.path);
            }
        }
        if self.is_new {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

impl Reserved {
    /// Reserves a name by an empty file that did not exist, unless an old file
    /// may be replaced; what is written goes to a file beside it first.
    fn reserve(folder: &Path, name: &'static str, force: bool) -> Result<Self, FolderError> {
        let path = folder.join(name);
        let mode = if SECRET_FILES.contains(&name) { 0o600 } else { 0o644 };
        let create = |path: &Path| OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let io = |path: &Path, source| FolderError::Io { path: path.to_owned(), source };
        let is_ours = match create(&path) {
            Ok(_) => true,
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io(&path, error)),
            Err(_) if !force => return Err(FolderError::Exists(path)),
            Err(_) => false,
        };
        let unfinished = folder.join(format!(".{name}.{}", std::process::id()));
        match create(&unfinished) {
            Ok(file) => Ok(Self { name, path, unfinished, file, is_ours }),
            Err(error) => {
                if is_ours {
                    let _ = fs::remove_file(&path);
                }
                Err(io(&unfinished, error))
            }
        }
    }
}

/// Makes a folder for its owner alone; answers whether it was missing.
fn make_folder(path: &Path) -> io::Result<bool> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NAMES: [&str; 3] = [CA_FILE, CERTIFICATE_FILE, KEY_FILE];
    const CONTENTS: [(&str, &[u8]); 3] = [(CA_FILE, b"ca"), (CERTIFICATE_FILE, b"cert"), (KEY_FILE, b"key")];

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names_in(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_folder_and_its_key_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/lamp-1");
        IdentityFolder::reserve(&path, &NAMES, false).unwrap().write(&CONTENTS).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(KEY_FILE)), 0o600);
        assert_eq!(names_in(&path), NAMES);
        assert_eq!(fs::read_to_string(path.join(KEY_FILE)).unwrap(), "key");
    }

    #[test]
    fn nothing_is_replaced_unless_forced() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join(KEY_FILE);
        fs::write(&key, "old").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = IdentityFolder::reserve(dir.path(), &NAMES, false).unwrap_err();
        assert!(matches!(&refused, FolderError::Exists(path) if *path == key), "{refused}");
        assert_eq!(names_in(dir.path()), [KEY_FILE]);
        assert_eq!(fs::read_to_string(&key).unwrap(), "old");

        IdentityFolder::reserve(dir.path(), &NAMES, true).unwrap().write(&CONTENTS).unwrap();
        assert_eq!(names_in(dir.path()), NAMES);
        assert_eq!(fs::read_to_string(&key).unwrap(), "key");
        assert_eq!(mode(&key), 0o600);
    }

    #[test]
    fn a_folder_that_was_not_written_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lamp-1");
        drop(IdentityFolder::reserve(&path, &NAMES, false).unwrap());
        assert!(!path.exists());

        fs::write(dir.path().join(CA_FILE), "old").unwrap();
        drop(IdentityFolder::reserve(dir.path(), &NAMES, true).unwrap());
        assert_eq!(names_in(dir.path()), [CA_FILE]);
        assert_eq!(fs::read_to_string(dir.path().join(CA_FILE)).unwrap(), "old");
    }

    #[test]
    fn two_cannot_reserve_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = IdentityFolder::reserve(dir.path(), &NAMES, false).unwrap();
        assert!(IdentityFolder::reserve(dir.path(), &NAMES, false).is_err());
        assert!(IdentityFolder::reserve(dir.path(), &NAMES, true).is_err());
        first.write(&CONTENTS).unwrap();
        assert_eq!(names_in(dir.path()), NAMES);
        assert!(IdentityFolder::reserve(&dir.path().join(CA_FILE), &NAMES, false).is_err());
    }
}
