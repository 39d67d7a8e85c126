//! Checkpoints: moving pages from the write-ahead log into the database file,
//! in a thread and on a connection of their own, so that no caller waits for
//! them (SQLite "Write-Ahead Logging" §3.2: a passive checkpoint blocks nobody).

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use rusqlite::Connection;

use crate::error::StoreError;
use crate::sqlite::connection;

/// After how many pages written a checkpoint is asked for.
const PAGES_BETWEEN: u64 = 2_000;

/// How many pages the log may have before a checkpoint holds the writer up. The
/// passive kind never ends the log while someone always writes.
const LOG_PAGES_MAX: i64 = 16_000;

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
    wanted: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pages_since: u64,
    hold: Arc<Hold>,
}

/// About how many pages a group of operations writes, at least.
const PAGES_PER_GROUP: u64 = 8;

impl Checkpoints {
    pub(super) fn start(path: &Path) -> Result<Self, StoreError> {
        let connection = connection::open_for_writing(path)?;
        // One may be under way and one may wait; more than that says nothing new.
        let (wanted, asked) = crossbeam_channel::bounded(1);
        let hold = Arc::<Hold>::default();
        let holds = Arc::clone(&hold);
        let thread = super::spawn("store-checkpoint".to_owned(), move || run(&connection, &asked, &holds))?;
        Ok(Self { wanted: Some(wanted), thread: Some(thread), pages_since: 0, hold })
    }

    /// A group of `operations` was committed.
    pub(super) fn committed(&mut self, operations: usize) {
        self.pages_since += PAGES_PER_GROUP + operations as u64;
        if self.pages_since >= PAGES_BETWEEN {
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

fn run(connection: &Connection, asked: &Receiver<()>, hold: &Hold) {
    while asked.recv().is_ok() {
        if checkpoint(connection, "PASSIVE") > LOG_PAGES_MAX {
            // Most pages were moved just now, so this takes a moment.
            hold.set(true);
            checkpoint(connection, "RESTART");
            hold.set(false);
        }
    }
    checkpoint(connection, "TRUNCATE");
}

/// Answers how many pages are in the log.
fn checkpoint(connection: &Connection, mode: &str) -> i64 {
    let outcome = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    match outcome {
        Ok((busy, log_pages, moved_pages)) => {
            tracing::debug!(mode, busy, log_pages, moved_pages, "checkpoint");
            log_pages
        }
        Err(error) => {
            tracing::warn!(mode, %error, "checkpoint failed; the write-ahead log grows until the next one");
            0
        }
    }
}
