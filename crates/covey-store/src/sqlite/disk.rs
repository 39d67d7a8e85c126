//! The disk under the database: how much room it has, and a reserve that is given up when it has none, so that what
//! makes room can still be written (`docs/adr/0022-little-room-on-the-disk.md`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use covey_core::error::StorageFault;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::sqlite::connection;

/// What of the disk must be free by default: this part of it,
const FREE_MIN_PART: u64 = 20;
/// How much of the disk must be free unless told otherwise: a twentieth, and no more than this, in bytes.
/// Limit for the disk, set by `--disk-free-min`: 507 and 0x97 for new work.
const FREE_MIN_DEFAULT_MAX_BYTES: u64 = 1 << 30;
/// How long the reserve is at most, in bytes, and which part of the disk.
/// Limit for the disk: given up when the disk is full, for results, deletions and revocations.
const RESERVE_MAX_BYTES: u64 = 8 << 20;
const RESERVE_PART: u64 = 16;
/// With how little room the log is kept short: less than it would take twice, in bytes, whatever the limit is.
const TIGHT_BYTES: u64 = 128 << 20;
/// How much more than a limit must be free before it holds no more: this part of it.
const MORE_PART: u64 = 16;
/// How much is written to find out whether a failed write found no room, in bytes.
const PROBE_BYTES: u64 = 256 << 10;

/// How much room a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// How many bytes are free.
    pub free_bytes: u64,
    /// How many must be.
    pub free_min_bytes: u64,
}

impl DiskRoom {
    /// The room on the disk of a data directory, of which so many bytes must be free; by default as
    /// [`Disk::open`] has it. Nothing is changed.
    ///
    /// # Errors
    /// A folder that cannot be looked at.
    pub fn of(folder: &Path, free_min_bytes: Option<u64>) -> io::Result<Self> {
        let seen = statvfs(folder)?;
        let by_default = free_min_of(seen.f_blocks.saturating_mul(seen.f_frsize));
        let free_bytes = seen.f_bavail.saturating_mul(seen.f_frsize);
        Ok(Self { free_bytes, free_min_bytes: free_min_bytes.unwrap_or(by_default) })
    }
}

/// How much of a disk must be free unless told otherwise.
fn free_min_of(total_bytes: u64) -> u64 {
    (total_bytes / FREE_MIN_PART).min(FREE_MIN_DEFAULT_MAX_BYTES)
}

/// The disk under a database.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    free_min_bytes: u64,
    /// None where there can be no reserve.
    reserve_bytes: AtomicU64,
    /// What was free when it was looked at last.
    free_bytes: AtomicU64,
    has_reserve: AtomicBool,
    /// Whether what can be used, on the disk and in the database, is less than the limit.
    is_short: AtomicBool,
    /// Whether the disk alone has so little that the log is kept short.
    is_tight: AtomicBool,
}

impl Disk {
    /// The disk of a data directory, of which so many bytes must be free; by default a twentieth, and no more than
    /// 1 GiB. The reserve is made, or given up where nearly nothing is free, so that a start finds room.
    ///
    /// # Errors
    /// A folder that cannot be looked at.
    pub fn open(folder: &Path, free_min_bytes: Option<u64>) -> io::Result<Self> {
        let seen = statvfs(folder)?;
        let total_bytes = seen.f_blocks.saturating_mul(seen.f_frsize);
        let by_default = free_min_of(total_bytes);
        let disk = Self {
            folder: folder.to_owned(),
            free_min_bytes: free_min_bytes.unwrap_or(by_default),
            reserve_bytes: AtomicU64::new((total_bytes / RESERVE_PART).min(RESERVE_MAX_BYTES)),
            free_bytes: AtomicU64::new(seen.f_bavail.saturating_mul(seen.f_frsize)),
            has_reserve: AtomicBool::new(true),
            is_short: AtomicBool::new(false),
            is_tight: AtomicBool::new(false),
        };
        let reserve_bytes = disk.reserve_bytes();
        let is_there = fs::metadata(disk.path()).is_ok_and(|found| found.len() == reserve_bytes);
        if is_there && disk.free_bytes() < reserve_bytes / 2 {
            disk.give_up_reserve();
        } else if !is_there {
            // What there is of another length, as after a start that was cut off or on a disk that has grown,
            // is of more use as room.
            let _ = fs::remove_file(disk.path());
            disk.has_reserve.store(false, Ordering::Relaxed);
            disk.take_reserve();
        }
        Ok(disk)
    }

    /// Whether there was so little room that the reserve is not there.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.has_reserve.load(Ordering::Relaxed)
    }

    /// How many bytes were free when it was looked last.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    pub(super) fn is_tight(&self) -> bool {
        self.is_tight.load(Ordering::Relaxed)
    }

    /// Looks how much room there is; the database has so many bytes that it will use again.
    pub(super) fn look(&self, reusable_bytes: u64) {
        let Ok(free_bytes) = self.measure() else { return };
        let usable_bytes = free_bytes.saturating_add(reusable_bytes);
        let was_short = self.is_short();
        // Pages that are used again go through the log, for which the disk itself must have room.
        let log_bytes = self.reserve_bytes().min(self.free_min_bytes);
        let is_short = is_below(usable_bytes, self.free_min_bytes, was_short)
            || is_below(free_bytes, log_bytes, was_short);
        let tight_bytes = self.free_min_bytes.max(TIGHT_BYTES);
        self.is_tight.store(is_below(free_bytes, tight_bytes, self.is_tight()), Ordering::Relaxed);
        self.is_short.store(is_short, Ordering::Relaxed);
        let (free_min_bytes, folder) = (self.free_min_bytes, self.folder.display());
        match (was_short, is_short) {
            (false, true) => tracing::warn!(
                %folder, free_bytes, reusable_bytes, free_min_bytes,
                "disk is nearly full; new tasks, events and devices are refused (--disk-free-min)"
            ),
            (true, false) => {
                tracing::info!(%folder, free_bytes, reusable_bytes, "disk has room again; all is taken");
            }
            _ => {}
        }
    }

    /// Gives the reserve up.
    pub(super) fn give_up_reserve(&self) {
        if !self.has_reserve.swap(false, Ordering::Relaxed) {
            return;
        }
        let reserve_bytes = self.reserve_bytes();
        if reserve_bytes == 0 {
            tracing::warn!("disk is full, and there is no reserve");
            return;
        }
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(%error, "reserve not given up");
            }
            _ => tracing::warn!(
                reserve_bytes,
                "disk is full; its reserve is given up for deletions and revocations"
            ),
        }
    }

    /// Makes the reserve again if half of it is left then; answers whether it is there.
    pub(super) fn take_reserve(&self) -> bool {
        if !self.is_full() {
            return true;
        }
        let reserve_bytes = self.reserve_bytes();
        let enough_bytes = reserve_bytes.saturating_add(reserve_bytes / 2);
        if self.measure().is_ok_and(|free_bytes| free_bytes < enough_bytes) {
            return false;
        }
        let is_there = match self.make_reserve(reserve_bytes) {
            Ok(()) => true,
            Err(error) if is_no_room(&error) => false,
            // It will fail the next time as well, and what is stored must not depend on it.
            Err(error) => {
                let path = self.path();
                tracing::warn!(path = %path.display(), %error, "no reserve can be made; a full disk takes no deletions");
                self.reserve_bytes.store(0, Ordering::Relaxed);
                true
            }
        };
        if !is_there || self.reserve_bytes() == 0 {
            // What there is of it is of more use as room.
            let _ = fs::remove_file(self.path());
        }
        self.has_reserve.store(is_there, Ordering::Relaxed);
        is_there
    }

    fn make_reserve(&self, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        take_room(&self.path(), bytes)?.sync_all()?;
        File::open(&self.folder)?.sync_all()
    }

    /// What a fault of a write is, now that the disk is asked as well.
    pub(super) fn seen_in(&self, fault: StorageFault) -> StorageFault {
        if fault == StorageFault::Io && self.has_no_room() { StorageFault::Full } else { fault }
    }

    /// Whether a write that failed may have found no room, though the system said something else to SQLite: a
    /// quota that is used up is a fault like any other there.
    fn has_no_room(&self) -> bool {
        let path = self.folder.join("probe");
        let outcome = take_room(&path, PROBE_BYTES);
        let _ = fs::remove_file(path);
        outcome.is_err_and(|error| is_no_room(&error))
    }

    /// How many bytes are free now; none where that cannot be known.
    pub(super) fn measure_free(&self) -> u64 {
        self.measure().unwrap_or_default()
    }

    fn measure(&self) -> io::Result<u64> {
        let seen = statvfs(&self.folder)?;
        let free_bytes = seen.f_bavail.saturating_mul(seen.f_frsize);
        self.free_bytes.store(free_bytes, Ordering::Relaxed);
        Ok(free_bytes)
    }

    /// Where the reserve is.
    fn path(&self) -> PathBuf {
        self.folder.join("reserve")
    }
}

/// Makes a file of this length whose room is taken.
fn take_room(path: &Path, bytes: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = connection::make_private(options.create(true).truncate(true), path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        // Not every file system can; what is written takes room on most of them.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            io::copy(&mut io::Read::take(io::repeat(0x5a), bytes), &mut file)?;
            file.flush()?;
        }
        outcome => outcome?,
    }
    Ok(file)
}

/// Whether there was no room, of the disk or of its user's quota.
fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether that is less than the limit. Where it was, it is until there is a little more, so that what lies
/// at the limit does not change from one look to the next.
fn is_below(bytes: u64, limit_bytes: u64, was_below: bool) -> bool {
    let more_bytes = if was_below { limit_bytes / MORE_PART } else { 0 };
    bytes < limit_bytes.saturating_add(more_bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_below_a_limit_is_so_until_there_is_more_than_the_limit() {
        assert!(is_below(159, 160, false) && !is_below(160, 160, false));
        assert!(is_below(169, 160, true) && !is_below(170, 160, true));
        assert!(!is_below(0, 0, true), "no limit is never missed");
    }

    #[test]
    fn a_reserve_that_was_left_with_another_length_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");
        fs::write(&path, "some").unwrap();
        let disk = Disk::open(folder.path(), Some(0)).unwrap();
        assert!(!disk.is_full());
        assert_eq!(fs::metadata(&path).unwrap().len(), disk.reserve_bytes());
    }

    #[test]
    fn a_reserve_that_cannot_be_made_is_done_without() {
        let folder = tempfile::tempdir().unwrap();
        // A folder stands where it would be.
        fs::create_dir(folder.path().join("reserve")).unwrap();
        let disk = Disk::open(folder.path(), Some(0)).unwrap();
        assert_eq!((disk.is_full(), disk.reserve_bytes()), (false, 0));
        disk.give_up_reserve();
        assert!(
            disk.is_full() && disk.take_reserve() && !disk.is_full(),
            "a trial says whether there is room"
        );
    }

    #[test]
    fn the_lack_of_room_and_a_used_quota_are_told_from_other_faults() {
        use rustix::io::Errno;
        let told =
            [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::ROFS].map(|errno| is_no_room(&errno.into()));
        assert_eq!(told, [true, true, false, false]);
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path(), Some(0)).unwrap();
        assert!(!disk.has_no_room() && !folder.path().join("probe").exists());
    }
}
