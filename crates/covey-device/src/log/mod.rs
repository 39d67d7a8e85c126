//! Something kept in memory and logged to a file, so that it survives a kill of the process: the
//! journal of calls and the queue of events.
//!
//! Lines are queued in the order of the changes and written by whoever flushes first; a flush
//! returns after everything queued before it is durable. A failed write queues a rewrite of the
//! whole, so no later success can hide it.

mod file;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use file::{LogFile, Place};

/// A file shorter than this is not compacted.
pub(crate) const COMPACT_BYTES_MIN: usize = 64 * 1024;

/// What a log keeps.
pub(crate) trait Snapshot {
    /// The whole as lines, as a new file would begin.
    fn snapshot(&self) -> Vec<u8>;
}

/// Something kept, and its file.
#[derive(Debug)]
pub(crate) struct Log<K> {
    state: Mutex<Logged<K>>,
    /// `None` without a file, and after [`Log::close`]. Taken before `state` by a flush; never
    /// the other way round.
    file: Mutex<Option<LogFile>>,
    /// Whether a flush waits for a disk; `None` without a file.
    sync: Option<bool>,
}

/// What is kept, and what of it is not written yet.
#[derive(Debug)]
pub(crate) struct Logged<K> {
    pub(crate) kept: K,
    has_file: bool,
    /// Lines not yet written. Stays empty without a file.
    queued: Vec<u8>,
    /// The next flush writes everything anew.
    rewrite: bool,
    /// Bytes in the file after the next flush, and after the last rewrite.
    file_bytes: usize,
    compacted_bytes: usize,
}

impl<K: Snapshot + Send + 'static> Log<K> {
    pub(crate) fn in_memory(kept: K) -> Self {
        Self::with(kept, None, None)
    }

    /// Goes on with a file. What is kept was read from it; it is written anew at once, which
    /// also removes what a crash has torn.
    pub(crate) fn on_file(kept: K, file: LogFile, sync: bool) -> io::Result<Self> {
        let log = Self::with(kept, Some(file), Some(sync));
        log.lock().rewrite();
        log.flush_now()?;
        Ok(log)
    }

    fn with(kept: K, file: Option<LogFile>, sync: Option<bool>) -> Self {
        let state = Logged {
            kept,
            has_file: file.is_some(),
            queued: Vec::new(),
            rewrite: false,
            file_bytes: 0,
            compacted_bytes: 0,
        };
        Self { state: Mutex::new(state), file: Mutex::new(file), sync }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Logged<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what was queued durable, off the runtime's threads if it has to wait for a disk.
    pub(crate) async fn flush(self: &Arc<Self>) -> io::Result<()> {
        match self.sync {
            None => Ok(()),
            Some(false) => self.flush_now(),
            Some(true) => {
                let log = Arc::clone(self);
                tokio::task::spawn_blocking(move || log.flush_now()).await.map_err(io::Error::other)?
            }
        }
    }

    pub(crate) fn flush_now(&self) -> io::Result<()> {
        let mut file = self.file();
        let Some(file) = file.as_mut() else {
            return Ok(());
        };
        let (bytes, rewrite) = self.lock().take();
        let written = if rewrite {
            file.replace(&bytes)
        } else if bytes.is_empty() {
            Ok(())
        } else {
            file.append(&bytes)
        };
        if written.is_err() {
            self.lock().rewrite();
        }
        written
    }

    /// Writes what is queued and gives the file back: another may open it.
    pub(crate) fn close(&self) -> io::Result<()> {
        let written = self.flush_now();
        *self.file() = None;
        written
    }

    fn file(&self) -> MutexGuard<'_, Option<LogFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Snapshot> Logged<K> {
    /// Queues lines, if there is a file.
    pub(crate) fn queue(&mut self, push: impl FnOnce(&mut Vec<u8>)) {
        if self.rewrite || !self.has_file {
            return;
        }
        let before = self.queued.len();
        push(&mut self.queued);
        self.file_bytes += self.queued.len() - before;
        self.rewrite = self.file_bytes > 2 * self.compacted_bytes + COMPACT_BYTES_MIN;
    }

    /// Has everything written anew by the next flush.
    pub(crate) fn rewrite(&mut self) {
        self.rewrite = true;
    }

    /// What to write now, and whether it replaces the file.
    pub(crate) fn take(&mut self) -> (Vec<u8>, bool) {
        if !std::mem::take(&mut self.rewrite) {
            return (std::mem::take(&mut self.queued), false);
        }
        self.queued = Vec::new();
        let all = self.kept.snapshot();
        self.file_bytes = all.len();
        self.compacted_bytes = all.len();
        (all, true)
    }
}
