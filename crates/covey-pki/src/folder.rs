//! The folder that keeps keys and certificates: private from the first byte, written so that a
//! kill at any instant leaves a state the next start can use or complete.
//!
//! One file is replaced by: write beside it, fsync, rename, fsync the folder. A set of files (the
//! CA) must never be half there, nor mixed with another, so it goes through two sub-folders:
//!
//! 1. `.unfinished/` is filled and fsynced. A start that finds it throws it away.
//! 2. It is renamed to `.finished/`: from here on the set exists.
//! 3. Its files are moved into the folder one by one. A start that finds `.finished/` goes on.
//!
//! A set that takes the place of another one goes by `.replacing/` in place of `.finished/`: its files are moved over those
//! that are there.
//!
//! Renaming the whole folder into place would be one step, but cannot be done where the folder is
//! a mount point or its parent is not ours to write.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::PkiError;

const UNFINISHED: &str = ".unfinished";
const FINISHED: &str = ".finished";
const REPLACING: &str = ".replacing";
const LOCK: &str = ".lock";

/// More than any key or chain needs; a larger file is not read to its end.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Certificates: mode 0644.
    Public,
    /// Private keys: mode 0600 from their creation on.
    Secret,
}

/// A file to be written.
pub(crate) struct NewFile<'a> {
    pub(crate) name: &'a str,
    pub(crate) access: Access,
    pub(crate) text: &'a str,
}

/// A private key's text as read.
pub(crate) struct KeyFile {
    pub(crate) text: Vec<u8>,
    /// The permission bits that were too wide and have been narrowed to 0600.
    pub(crate) narrowed_from: Option<u32>,
}

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

/// Proof that this process alone writes to the folder; ends when dropped or the process dies.
pub(crate) struct FolderLock {
    _file: File,
}

impl Folder {
    /// Makes the folder (mode 0700) if it is missing. The mode of one that exists stays as the
    /// operator chose it.
    pub(crate) fn open(path: &Path) -> Result<Self, PkiError> {
        let missing: Vec<_> = path.ancestors().take_while(|part| !part.exists()).collect();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        mode::of_new_folder(&mut builder);
        builder.create(path).map_err(|source| PkiError::Write { path: path.to_owned(), source })?;
        for made in missing {
            // The parent of a relative path's first part is the empty path, meaning here.
            match made.parent() {
                Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new("."))?,
                Some(parent) => sync_folder(parent)?,
                None => {}
            }
        }
        Ok(Self { path: path.to_owned() })
    }

    /// A folder that is there, to be read.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.path
    }

    /// Waits until no other process or thread writes to the folder.
    pub(crate) fn lock(&self) -> Result<FolderLock, PkiError> {
        let path = self.path(LOCK);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        mode::of_new_file(&mut options, Access::Secret);
        let lock = options.open(&path).and_then(|file| match file.lock() {
            // Some network file systems have no locks; one server alone is safe without.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
            other => other.map(|()| file),
        });
        lock.map(|file| FolderLock { _file: file }).map_err(|source| PkiError::Write { path, source })
    }

    pub(crate) fn has(&self, name: &str) -> Result<bool, PkiError> {
        let path = self.path(name);
        path.try_exists().map_err(|source| PkiError::Read { path, source })
    }

    /// Whether a file is there, or will be once a set that was cut off is completed.
    pub(crate) fn will_have(&self, name: &str) -> Result<bool, PkiError> {
        for place in [Path::new(""), Path::new(FINISHED), Path::new(REPLACING)] {
            let path = self.path(place.join(name));
            if path.try_exists().map_err(|source| PkiError::Read { path, source })? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The file's content, or `None` if there is no such file.
    pub(crate) fn read(&self, name: impl AsRef<Path>) -> Result<Option<Vec<u8>>, PkiError> {
        let path = self.path(name);
        match File::open(&path) {
            Ok(file) => read_bounded(file).map(Some).map_err(|source| PkiError::Read { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PkiError::Read { path, source }),
        }
    }

    /// A private key's text, or `None` if there is no such file. Permissions wider than 0600 are
    /// narrowed, and an error if they cannot be.
    pub(crate) fn read_key(&self, name: &str) -> Result<Option<KeyFile>, PkiError> {
        let path = self.path(name);
        let narrowed_from = match mode::narrow(&path) {
            Ok(narrowed_from) => narrowed_from,
            Err((mode, source)) if mode != 0 => {
                return Err(PkiError::KeyPermissions { path, mode, source });
            }
            Err((_, source)) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err((_, source)) => return Err(PkiError::Read { path, source }),
        };
        Ok(self.read(name)?.map(|text| KeyFile { text, narrowed_from }))
    }

    /// Writes or replaces one file in one step.
    pub(crate) fn write(&self, _lock: &FolderLock, file: &NewFile<'_>) -> Result<(), PkiError> {
        let beside = self.path(format!(".{}.new", file.name));
        // Left by a process that was killed while it wrote; the lock says that nobody writes now.
        remove_if_there(&beside)?;
        create(&beside, file)?;
        rename(&beside, &self.path(file.name))?;
        sync_folder(&self.path)
    }

    /// Writes files that belong together: after a kill either all will be there or none.
    pub(crate) fn write_set(&self, lock: &FolderLock, files: &[NewFile<'_>]) -> Result<(), PkiError> {
        self.write_set_as(lock, files, FINISHED)
    }

    /// The same in the place of those that are there: after a kill they are all of before, or all new.
    pub(crate) fn replace_set(&self, lock: &FolderLock, files: &[NewFile<'_>]) -> Result<(), PkiError> {
        self.write_set_as(lock, files, REPLACING)
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) -> Result<(), PkiError> {
        remove_if_there(&self.path(name))?;
        sync_folder(&self.path)
    }

    fn write_set_as(&self, lock: &FolderLock, files: &[NewFile<'_>], as_name: &str) -> Result<(), PkiError> {
        let unfinished = self.path(UNFINISHED);
        let mut builder = fs::DirBuilder::new();
        mode::of_new_folder(&mut builder);
        builder.create(&unfinished).map_err(|source| PkiError::Write { path: unfinished.clone(), source })?;
        for file in files {
            create(&unfinished.join(file.name), file)?;
        }
        sync_folder(&unfinished)?;
        rename(&unfinished, &self.path(as_name))?;
        sync_folder(&self.path)?;
        self.recover_set(lock)
    }

    /// Throws away a set whose writing was cut off before all of it was there, and completes one
    /// that was all there but not yet in its place.
    pub(crate) fn recover_set(&self, _lock: &FolderLock) -> Result<(), PkiError> {
        let unfinished = self.path(UNFINISHED);
        if self.has(UNFINISHED)? {
            fs::remove_dir_all(&unfinished).map_err(|source| PkiError::Write { path: unfinished, source })?;
        }
        for set in [FINISHED, REPLACING] {
            if !self.has(set)? {
                continue;
            }
            let finished = self.path(set);
            for name in names_in(&finished)? {
                let (from, to) = (finished.join(&name), self.path.join(&name));
                if set == REPLACING { rename(&from, &to)? } else { self.move_into_place(&from, &to)? }
            }
            sync_folder(&self.path)?;
            fs::remove_dir(&finished).map_err(|source| PkiError::Write { path: finished, source })?;
            sync_folder(&self.path)?;
        }
        Ok(())
    }

    /// Moves one file of a set, and never over a different one.
    fn move_into_place(&self, from: &Path, to: &Path) -> Result<(), PkiError> {
        let read =
            |path: &Path| fs::read(path).map_err(|source| PkiError::Read { path: path.to_owned(), source });
        if to.exists() && read(from)? != read(to)? {
            return Err(PkiError::Mixed { unfinished: from.to_owned(), existing: to.to_owned() });
        }
        rename(from, to)
    }
}

fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut content)?;
    Ok(content)
}

fn create(path: &Path, file: &NewFile<'_>) -> Result<(), PkiError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    mode::of_new_file(&mut options, file.access);
    let written = options.open(path).and_then(|mut open| {
        mode::settle(&open, file.access)?;
        open.write_all(file.text.as_bytes())?;
        open.sync_all()
    });
    written.map_err(|source| PkiError::Write { path: path.to_owned(), source })
}

fn rename(from: &Path, to: &Path) -> Result<(), PkiError> {
    fs::rename(from, to).map_err(|source| PkiError::Write { path: to.to_owned(), source })
}

fn remove_if_there(path: &Path) -> Result<(), PkiError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PkiError::Write { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn names_in(folder: &Path) -> Result<Vec<std::ffi::OsString>, PkiError> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect())
        .map_err(|source| PkiError::Read { path: folder.to_owned(), source })
}

/// Makes renames in `folder` survive a power cut.
fn sync_folder(folder: &Path) -> Result<(), PkiError> {
    // Only Unix can open a folder as a file; elsewhere renames are as durable as they are.
    if !cfg!(unix) {
        return Ok(());
    }
    File::open(folder)
        .and_then(|open| open.sync_all())
        .map_err(|source| PkiError::Write { path: folder.to_owned(), source })
}

/// Permission bits, where the operating system has them.
#[cfg(unix)]
mod mode {
    use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
    use std::path::Path;

    use super::Access;

    fn bits(access: Access) -> u32 {
        match access {
            Access::Public => 0o644,
            Access::Secret => 0o600,
        }
    }

    pub(super) fn of_new_folder(builder: &mut DirBuilder) {
        builder.mode(0o700);
    }

    pub(super) fn of_new_file(options: &mut OpenOptions, access: Access) {
        options.mode(bits(access));
    }

    /// Sets the bits again on the open file, because the process's umask may have taken some.
    pub(super) fn settle(file: &File, access: Access) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(bits(access)))
    }

    /// Closes a key to others. `Ok`: the bits it had if they were too wide. `Err`: the bits (0 if
    /// unknown) and why.
    pub(super) fn narrow(path: &Path) -> Result<Option<u32>, (u32, io::Error)> {
        let metadata = fs::metadata(path).map_err(|error| (0, error))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 == 0 {
            return Ok(None);
        }
        fs::set_permissions(path, Permissions::from_mode(bits(Access::Secret)))
            .map_err(|error| (mode, error))?;
        Ok(Some(mode))
    }
}

/// Permission bits, where the operating system has none: the folder's own access list counts.
#[cfg(not(unix))]
mod mode {
    use std::fs::{DirBuilder, File, OpenOptions};
    use std::io;
    use std::path::Path;

    use super::Access;

    pub(super) fn of_new_folder(_builder: &mut DirBuilder) {}

    pub(super) fn of_new_file(_options: &mut OpenOptions, _access: Access) {}

    pub(super) fn settle(_file: &File, _access: Access) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn narrow(path: &Path) -> Result<Option<u32>, (u32, io::Error)> {
        std::fs::metadata(path).map(|_| None).map_err(|error| (0, error))
    }
}
