//! The store on SQLite: one writer that commits for many, and separate readers.
//!
//! All writes go through one thread. It takes the jobs that wait, organisation
//! by organisation in turns (`crate::queue`), runs them in one transaction,
//! commits once (WAL, `synchronous=FULL`: the commit returns after the fsync),
//! and only then gives each caller its answer. While one commit waits for the
//! disk the next group gathers, so the group grows with the load and nobody
//! waits for a timer.

mod access;
mod audit;
mod audit_retention;
mod backup;
mod by_hand;
mod certificate;
mod checkpoint;
mod conditions;
mod connection;
mod device;
mod device_session;
mod disk;
mod enrolment;
mod event;
mod event_series;
mod first;
mod migrations;
mod node;
mod own_limits;
mod person;
mod presence;
mod quota;
mod reader;
mod record;
mod retention;
mod statement;
mod task;
mod token;
mod transaction;
mod twin;
mod unit;
mod usage;
mod webhook;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use covey_core::error::StorageFault;
use covey_core::id::RecordNumber;
use covey_core::port::{Clock, Found, Job, Observer, Reader, Room, Store};
use covey_core::retention::{Prune, Pruned};

use crate::error::StoreError;
use crate::queue::{self, Entrance, Readers};
use crate::sqlite::reader::Reads;
use crate::write_state::WriteState;

pub use backup::{backup, look, verify};
pub use by_hand::ByHand;
pub use disk::{Disk, DiskRoom};
pub use first::{has_keys, is_missing, make};

/// How a SQLite store is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database file; made if it is missing.
    pub path: PathBuf,
    /// How many threads read.
    pub readers: Readers,
    /// How many jobs, and how many reads, may wait before more are refused; those of one organisation
    /// at most half of it.
    pub queue_max: usize,
    /// How many jobs may share one commit.
    pub group_max: usize,
    /// How many pages of 4 KiB the database may have before it refuses writes
    /// as on a full disk; none for as many as the disk holds.
    pub pages_max: Option<u32>,
    /// The disk, with its reserve; none for a database whose room nobody looks at.
    pub disk: Option<Arc<Disk>>,
}

impl Options {
    /// The defaults, for a file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let readers = Readers { points: 2, pages: 1, scans: 2 };
        let path = path.into();
        Self { path, readers, queue_max: 40_000, group_max: 512, pages_max: None, disk: None }
    }
}

/// A store on SQLite.
pub struct Sqlite {
    path: PathBuf,
    jobs: Option<Entrance<Box<dyn Job>>>,
    reads: Reads,
    write_state: Arc<WriteState>,
    disk: Option<Arc<Disk>>,
    threads: Vec<JoinHandle<()>>,
    /// Told of everything that is put into a queue, where no thread waits for it.
    hand: Option<Arc<dyn Fn() + Send + Sync>>,
    /// The last record that others had written before it was opened.
    began_after: RecordNumber,
}

impl Sqlite {
    /// Opens the database, bringing it to the newest version, and starts the
    /// threads of the store.
    ///
    /// # Errors
    /// A file that cannot be opened, is not ours or is newer than this program.
    pub fn open(
        options: &Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StoreError> {
        let mut writing = connection::open_for_writing(&options.path)?;
        migrations::run(&mut writing, &options.path)?;
        if let Some(pages_max) = options.pages_max {
            connection::limit_pages(&writing, pages_max)
                .map_err(|source| StoreError::Open { path: options.path.clone(), source })?;
        }
        let began_after = record::head(&writing)
            .map_err(|source| StoreError::Open { path: options.path.clone(), source })?;
        let (jobs, job_queue) = queue::of_jobs(options.queue_max);
        let reads = Reads::new(options.readers, options.queue_max);
        let write_state = Arc::<WriteState>::default();
        let disk = options.disk.clone();
        // If anything fails from here on, its drop ends the threads that were started.
        let mut store = Self {
            path: options.path.clone(),
            jobs: Some(jobs),
            reads,
            write_state: Arc::clone(&write_state),
            disk: disk.clone(),
            threads: Vec::new(),
            hand: None,
            began_after,
        };
        store.threads = store.reads.start(options, &write_state)?;
        if disk.as_ref().is_some_and(|disk| disk.is_full()) {
            write_state.set(Some(StorageFault::Full));
        }
        let state = write_state;
        let checkpoints = checkpoint::Checkpoints::start(&options.path, disk.clone(), Arc::clone(&state))?;
        let writer = writer::Writer {
            connection: writing,
            clock,
            observer,
            group_max: options.group_max.max(1),
            checkpoints: Some(checkpoints),
            state,
            disk,
            looked: Instant::now(),
        };
        store.threads.push(spawn("store-write".to_owned(), move || writer.run(&job_queue))?);
        Ok(store)
    }
}

impl Sqlite {
    fn tell_hand(&self) {
        if let Some(hand) = &self.hand {
            hand();
        }
    }
}

impl Reader for Sqlite {}

impl Store for Sqlite {
    fn submit(&self, job: Box<dyn Job>) -> Result<(), StorageFault> {
        self.jobs.as_ref().ok_or(StorageFault::Stopped)?.put_job(job)?;
        self.tell_hand();
        Ok(())
    }

    fn write_fault(&self) -> Option<StorageFault> {
        self.write_state.fault()
    }

    fn room(&self) -> Room {
        if self.write_state.is_full() {
            Room::Full
        } else if self.disk.as_ref().is_some_and(|disk| disk.is_short()) {
            Room::Short
        } else {
            Room::Enough
        }
    }

    fn prune(&self, what: Prune) -> Found<'_, Pruned> {
        self.forget(what)
    }
}

impl Drop for Sqlite {
    /// Lets the threads finish what was submitted, and waits for them.
    fn drop(&mut self) {
        self.jobs = None;
        self.reads.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("store thread panicked");
            }
        }
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new().name(name).spawn(run).map_err(|source| StoreError::Thread { source })
}

/// What a fault of SQLite means for a caller. The details go to the log alone.
fn fault(error: &rusqlite::Error) -> StorageFault {
    use rusqlite::ffi::{
        ErrorCode, SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_DATA, SQLITE_IOERR_READ, SQLITE_IOERR_SHMSIZE,
        SQLITE_IOERR_SHORT_READ,
    };
    match error.sqlite_error().map(|error| (error.code, error.extended_code)) {
        // The index of the log grows as well (SQLite "WAL-mode File Format" §1.3).
        Some((ErrorCode::DiskFull, _) | (_, SQLITE_IOERR_SHMSIZE)) => StorageFault::Full,
        Some((ErrorCode::ReadOnly, _)) => StorageFault::ReadOnly,
        Some((ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)) => StorageFault::Damaged,
        Some((
            _,
            SQLITE_IOERR_READ | SQLITE_IOERR_SHORT_READ | SQLITE_IOERR_DATA | SQLITE_IOERR_CORRUPTFS,
        )) => StorageFault::Damaged,
        _ => StorageFault::Io,
    }
}

/// The statements whose cost must not grow with the number of tasks ever made,
/// by name, for the test that looks at their plans.
#[doc(hidden)]
#[must_use]
pub fn hot_statements() -> Vec<(&'static str, &'static str)> {
    [&task::HOT[..], &audit::PAGES].concat()
}

/// Where the database of a data directory is.
#[must_use]
pub fn file_in(data_dir: &Path) -> PathBuf {
    data_dir.join("covey.db")
}
