//! The disk under the database: how much room it has, and a reserve that is given up when it has none, so that what
//! makes room can still be written (`docs/adr/0022-little-room-on-the-disk.md`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::sqlite::connection;

/// What of the disk must be free by default: this part of it,
const FREE_MIN_PART: u64 = 20;
/// and no more than this, in bytes.
const FREE_MIN_DEFAULT_MAX_BYTES: u64 = 1 << 30;
/// How long the reserve is at most, in bytes, and which part of the disk.
const RESERVE_MAX_BYTES: u64 = 8 << 20;
const RESERVE_PART: u64 = 16;
/// With how little room the log is kept short: less than it would take twice, in bytes, whatever the limit is.
const TIGHT_BYTES: u64 = 128 << 20;
/// How much more than the limit must be free before what is new is taken again: this part of the limit.
const MORE_PART: u64 = 16;

/// The disk under a database.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    free_min_bytes: u64,
    reserve_bytes: u64,
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
        let by_default = (total_bytes / FREE_MIN_PART).min(FREE_MIN_DEFAULT_MAX_BYTES);
        let disk = Self {
            folder: folder.to_owned(),
            free_min_bytes: free_min_bytes.unwrap_or(by_default),
            reserve_bytes: (total_bytes / RESERVE_PART).min(RESERVE_MAX_BYTES),
            free_bytes: AtomicU64::new(seen.f_bavail.saturating_mul(seen.f_frsize)),
            has_reserve: AtomicBool::new(true),
            is_short: AtomicBool::new(false),
            is_tight: AtomicBool::new(false),
        };
        let is_there = fs::metadata(disk.path()).is_ok_and(|found| found.len() == disk.reserve_bytes);
        if disk.free_bytes() < disk.reserve_bytes / 2 {
            disk.give_up_reserve();
        } else if !is_there {
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
        let more_bytes = if was_short { self.free_min_bytes / MORE_PART } else { 0 };
        let wanted_bytes = self.free_min_bytes.saturating_add(more_bytes);
        // Pages that are used again go through the log, for which the disk itself must have room.
        let is_short =
            usable_bytes < wanted_bytes || free_bytes < self.reserve_bytes.min(self.free_min_bytes);
        self.is_tight.store(free_bytes < self.free_min_bytes.max(TIGHT_BYTES), Ordering::Relaxed);
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
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(%error, "reserve not given up");
            }
            _ => {
                let reserve_bytes = self.reserve_bytes;
                tracing::warn!(
                    reserve_bytes,
                    "disk is full; its reserve is given up for deletions and revocations"
                );
            }
        }
    }

    /// Makes the reserve again if half of it is left then; answers whether it is there.
    pub(super) fn take_reserve(&self) -> bool {
        if !self.is_full() {
            return true;
        }
        let enough_bytes = self.reserve_bytes.saturating_add(self.reserve_bytes / 2);
        if self.measure().is_ok_and(|free_bytes| free_bytes < enough_bytes) {
            return false;
        }
        let made = self.make_reserve();
        if let Err(error) = &made {
            tracing::warn!(%error, "reserve not made");
            // What there is of it is of more use as room.
            let _ = fs::remove_file(self.path());
        }
        self.has_reserve.store(made.is_ok(), Ordering::Relaxed);
        made.is_ok()
    }

    fn make_reserve(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = connection::make_private(options.create(true).truncate(true), &self.path())?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.reserve_bytes) {
            // Not every file system can; what is written takes room on most of them.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                io::copy(&mut io::Read::take(io::repeat(0x5a), self.reserve_bytes), &mut file)?;
                file.flush()?;
            }
            outcome => outcome?,
        }
        file.sync_all()?;
        File::open(&self.folder)?.sync_all()
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
