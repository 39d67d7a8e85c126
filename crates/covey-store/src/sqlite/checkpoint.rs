//! Checkpoints: moving pages from the write-ahead log into the database file,
//! in a thread and on a connection of their own, so that no caller waits for
//! them (SQLite "Write-Ahead Logging" §3.2: a passive checkpoint blocks nobody).

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use covey_core::error::StorageFault;
use rusqlite::Connection;

use crate::error::StoreError;
use crate::sqlite::disk::Disk;
use crate::sqlite::{connection, fault};
use crate::write_state::{LOOK_PAUSE, WriteState};

/// After how many pages written a checkpoint is asked for, and made if they are in the log indeed: what many
/// operations change together is fewer pages than is guessed, and each page that is moved less often costs less.
const PAGES_BETWEEN: u64 = 2_000;

/// How many pages the log may have before a checkpoint holds the writer up. The
/// passive kind never ends the log while someone always writes.
/// Limit for the database's log: the writer waits for a checkpoint.
const LOG_PAGES_MAX: i64 = 16_000;

/// The same two where the disk has little room: what is in the log alone must find room in the database file when
/// none is left beside the reserve, and the log gives its own room back.
const TIGHT_PAGES_BETWEEN: u64 = 32;
const TIGHT_LOG_PAGES_MAX: i64 = 2_000;
/// How long a checkpoint that ends the log waits for those who read in it, and holds up who writes.
const END_WAIT: Duration = Duration::from_millis(200);

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
        drop(self.changed.wait_timeout_while(is_held, END_WAIT, |is_held| *is_held));
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
        let open = |source| StoreError::Open { path: path.to_owned(), source };
        connection.busy_timeout(END_WAIT).map_err(open)?;
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
                Ok(()) => {
                    // What keeps it from looking keeps it from moving pages, too, and is told then.
                    let is_due = self.log().is_none_or(|log| log.left() >= PAGES_BETWEEN.cast_signed());
                    if is_tight || is_due {
                        self.checkpoint(is_tight);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    // Large groups write more pages than are guessed.
                    let log = self.log().unwrap_or_default();
                    if log.pages > LOG_PAGES_MAX || is_tight && log.left() > 0 {
                        self.checkpoint(is_tight);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.make("TRUNCATE");
    }

    /// What is in the log now, if that can be seen.
    fn log(&self) -> Option<Log> {
        checkpoint(&self.connection, "NOOP").ok()
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
            let fault = self.disk.as_ref().map_or(fault(&error), |disk| disk.seen_in(fault(&error)));
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
    move_log(connection, free_bytes, "PASSIVE");
}

/// The same, and gives back the room that the log has, which may be all that there is.
pub(super) fn give_log_back(connection: &Connection, free_bytes: u64) {
    let waits = |time| connection.busy_timeout(time).inspect_err(|error| tracing::warn!(%error, "SQLite"));
    // Nobody who reads for long holds up who writes.
    if waits(END_WAIT).is_ok() {
        move_log(connection, free_bytes, "TRUNCATE");
        let _ = waits(connection::BUSY_TIMEOUT);
    }
}

fn move_log(connection: &Connection, free_bytes: u64, mode: &str) {
    let outcome = growth_bytes(connection).and_then(|growth_bytes| {
        if growth_bytes > free_bytes { Ok(Log::default()) } else { checkpoint(connection, mode) }
    });
    if let Err(error) = outcome {
        tracing::warn!(%error, "checkpoint failed");
    }
}

/// How much longer the database file will be when all of the log was moved into it, in bytes: pages that it
/// has already are written where they are.
fn growth_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let whole_bytes = number("PRAGMA page_count")?.saturating_mul(number("PRAGMA page_size")?);
    let file = connection.path().and_then(|path| std::fs::metadata(path).ok());
    Ok(whole_bytes.saturating_sub(file.map_or(0, |file| file.len())))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_log_is_emptied_where_the_database_has_the_pages_and_given_back_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.db");
        let connection = connection::open_for_writing(&path).unwrap();
        let run = |sql: &str| connection.execute_batch(sql).unwrap();
        let left = || checkpoint(&connection, "NOOP").unwrap().left();
        let log_bytes = || std::fs::metadata(folder.path().join("some.db-wal")).unwrap().len();
        run("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB); \
             WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 100) \
             INSERT INTO t SELECT n, zeroblob(3000) FROM s");
        let whole = left();
        assert!(whole > 50);
        empty_log(&connection, 0);
        assert_eq!(left(), whole, "the file would grow");
        empty_log(&connection, u64::MAX);
        assert_eq!(left(), 0);
        // The same pages again: for these there is room, however little is free.
        run("UPDATE t SET b = zeroblob(2999)");
        assert!(left() > 50);
        empty_log(&connection, 0);
        assert_eq!(left(), 0);
        assert!(log_bytes() > 0);
        give_log_back(&connection, 0);
        assert_eq!(log_bytes(), 0);
    }
}
