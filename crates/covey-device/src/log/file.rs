//! The file of a log: locked against a second process, appended to, and replaced by rename.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Where logs live.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) sync: bool,
}

/// The open file. Whoever holds it is the only writer.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    /// Whether writes are made durable (fdatasync) before they count.
    sync: bool,
}

impl LogFile {
    /// Opens or creates `<dir>/<sn>.<kind>` (mode 0600) and returns it with its content.
    pub(crate) fn open(place: &Place, sn: &str, kind: &str) -> Result<(Self, Vec<u8>), Error> {
        let Place { dir, sync } = place;
        let path = dir.join(format!("{sn}.{kind}"));
        let failed = |source| Error::Journal { path: path.clone(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut file = private_options().read(true).append(true).create(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::JournalInUse { path }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(failed)?;
        Ok((Self { path, file, sync: *sync }, content))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        if self.sync {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Replaces the content: a new file is written beside the old one, locked, and renamed over
    /// it, so that a crash leaves either the one or the other.
    pub(crate) fn replace(&mut self, content: &[u8]) -> io::Result<()> {
        let mut new_path = self.path.clone().into_os_string();
        new_path.push(".new");
        let new_path = PathBuf::from(new_path);
        match std::fs::remove_file(&new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut new = private_options().append(true).create_new(true).open(&new_path)?;
        new.try_lock()?;
        new.write_all(content)?;
        if self.sync {
            new.sync_all()?;
        }
        std::fs::rename(&new_path, &self.path)?;
        if self.sync
            && let Some(dir) = self.path.parent()
        {
            File::open(dir)?.sync_all()?;
        }
        self.file = new;
        Ok(())
    }
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
