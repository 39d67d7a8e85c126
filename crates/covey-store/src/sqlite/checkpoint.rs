//! Checkpoints: moving pages from the write-ahead log into the database file,
//! in a thread and on a connection of their own, so that no caller waits for
//! them (SQLite "Write-Ahead Logging" §3.2: a passive checkpoint blocks nobody).

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use covey_core::error::StorageFault;
use rusqlite::Connection;

use crate::error::StoreError;
use crate::sqlite::disk::Disk;
use crate::sqlite::{connection, fault};
use crate::write_state::{LOOK_PAUSE, WriteState};

/// After how many pages written a checkpoint is asked for.
const PAGES_BETWEEN: u64 = 2_000;

/// How many pages the log may have before a checkpoint holds the writer up. The
/// passive kind never ends the log while someone always writes.
const LOG_PAGES_MAX: i64 = 16_000;

/// The same two where the disk has little room: what is in the log alone must find room in the database file when
/// none is left beside the reserve, and the log gives its own room back.
const TIGHT_PAGES_BETWEEN: u64 = 32;
const TIGHT_LOG_PAGES_MAX: i64 = 2_000;
/// How long a page is, in bytes.
const PAGE_BYTES: u64 = 4_096;

/// Keeps the writer from beginning while a checkpoint ends the log. SQLite's
/// own lock is not fair: a writer that never pauses would hardly let it in.
#[derive(Default)]
struct Hold {
    is_held: Mutex<bool>,
    changed: Condvar,
}

impl Hold {
    fn set(&self, is_held: bool) {
        *self.is_held.lock().unwrap_or_else(PoisonError::into_inner) = is_held;
        self.changed.notify_all();
    }

    /// Waits no longer than the checkpoint itself would.
    fn wait(&self) {
        let is_held = self.is_held.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(is_held, connection::BUSY_TIMEOUT, |is_held| *is_held));
    }
}

/// Asks for checkpoints.
pub(super) struct Checkpoints {
    wanted: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    pages_since: u64,
    hold: Arc<Hold>,
    disk: Option<Arc<Disk>>,
}

/// About how many pages a group of operations writes, at least.
const PAGES_PER_GROUP: u64 = 8;

impl Checkpoints {
    pub(super) fn start(
        path: &Path,
        disk: Option<Arc<Disk>>,
        state: Arc<WriteState>,
    ) -> Result<Self, StoreError> {
        let connection = connection::open_for_writing(path)?;
        // One may be under way and one may wait; more than that says nothing new.
        let (wanted, asked) = sync_channel(1);
        let hold = Arc::<Hold>::default();
        let work = Work { connection, hold: Arc::clone(&hold), disk: disk.clone(), state };
        let thread = super::spawn("store-checkpoint".to_owned(), move || work.run(&asked))?;
        Ok(Self { wanted: Some(wanted), thread: Some(thread), pages_since: 0, hold, disk })
    }

    /// A group of `operations` was committed.
    pub(super) fn committed(&mut self, operations: usize) {
        self.pages_since += PAGES_PER_GROUP + operations as u64;
        let is_tight = self.disk.as_ref().is_some_and(|disk| disk.is_tight());
        let pages_between = if is_tight { TIGHT_PAGES_BETWEEN } else { PAGES_BETWEEN };
        if self.pages_since >= pages_between {
            self.pages_since = 0;
            if let Some(wanted) = &self.wanted {
                // A full channel means that one is asked for already.
                let _ = wanted.try_send(());
            }
        }
    }

    /// Waits while a checkpoint ends the log.
    pub(super) fn give_way(&self) {
        self.hold.wait();
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has no more consequence than a log that stays long.
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Work {
    connection: Connection,
    hold: Arc<Hold>,
    disk: Option<Arc<Disk>>,
    state: Arc<WriteState>,
}

impl Work {
    /// Looks at the disk each second, and makes checkpoints when they are asked for.
    fn run(self, asked: &Receiver<()>) {
        let mut was_tight = false;
        loop {
            self.look();
            let is_tight = self.is_tight();
            if is_tight && !was_tight {
                // The log has room that the disk needs, however little is in it.
                self.make("PASSIVE");
                self.end("TRUNCATE");
            }
            was_tight = is_tight;
            match asked.recv_timeout(LOOK_PAUSE) {
                // The writer sees to the log itself, as it alone knows what the little room is for.
                Ok(()) | Err(RecvTimeoutError::Timeout) if self.state.is_full() => {}
                Ok(()) => self.checkpoint(is_tight),
                Err(RecvTimeoutError::Timeout) => {
                    // Large groups write more pages than are guessed.
                    let log = checkpoint(&self.connection, "NOOP").unwrap_or_default();
                    if log.pages > LOG_PAGES_MAX || is_tight && log.left() > 0 {
                        self.checkpoint(is_tight);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.make("TRUNCATE");
    }

    fn checkpoint(&self, is_tight: bool) {
        let (pages_max, end) =
            if is_tight { (TIGHT_LOG_PAGES_MAX, "TRUNCATE") } else { (LOG_PAGES_MAX, "RESTART") };
        if self.make("PASSIVE") > pages_max {
            self.end(end);
        }
    }

    /// Ends the log while the writer waits. Most pages were moved just now, so this takes a moment.
    fn end(&self, mode: &str) {
        self.hold.set(true);
        self.make(mode);
        self.hold.set(false);
    }

    /// Answers how many pages are in the log.
    fn make(&self, mode: &str) -> i64 {
        let done = checkpoint(&self.connection, mode).map(|log| log.pages);
        done.unwrap_or_else(|error| {
            tracing::warn!(mode, %error, "checkpoint failed; the write-ahead log grows until the next one");
            let fault = fault(&error);
            if let (StorageFault::Full, Some(disk)) = (fault, &self.disk) {
                disk.give_up_reserve();
            }
            self.state.met(fault);
            0
        })
    }

    fn is_tight(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.is_tight())
    }

    /// Looks how much room there is, on the disk and in the database.
    fn look(&self) {
        let Some(disk) = &self.disk else { return };
        let number = |sql| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap_or_default();
        let reusable_bytes = number("PRAGMA freelist_count").saturating_mul(number("PRAGMA page_size"));
        disk.look(reusable_bytes.unsigned_abs());
    }
}

/// What is in the log, in pages.
#[derive(Clone, Copy, Default)]
struct Log {
    pages: i64,
    moved: i64,
}

impl Log {
    /// How many pages are in the log alone.
    fn left(self) -> i64 {
        self.pages.saturating_sub(self.moved)
    }
}

/// Moves what is in the log alone into the database if there is room for all of it there, so that the log is used
/// from its beginning again. A part of it would take the room and help nobody.
pub(super) fn empty_log(connection: &Connection, free_bytes: u64) {
    let outcome = checkpoint(connection, "NOOP").and_then(|log| {
        let needed_bytes = log.left().unsigned_abs().saturating_mul(PAGE_BYTES);
        if needed_bytes > free_bytes { Ok(log) } else { checkpoint(connection, "PASSIVE") }
    });
    if let Err(error) = outcome {
        tracing::warn!(%error, "checkpoint failed");
    }
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Log> {
    let (busy, pages, moved) =
        connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })?;
    if mode != "NOOP" {
        tracing::debug!(mode, busy, log_pages = pages, moved_pages = moved, "checkpoint");
    }
    Ok(Log { pages, moved })
}
