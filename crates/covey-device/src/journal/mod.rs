//! The journal: what makes a task that is delivered twice run once. It remembers every task
//! from its start until it expires, with its result, and survives a kill of the process.
//!
//! Records are queued in the order of the calls and written by whoever flushes first; a flush
//! returns after everything queued before it is durable. A failed write queues a rewrite of the
//! whole, so no later success can hide it.

mod file;
mod index;
mod record;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::answer::Answer;
use crate::error::Error;
use file::JournalFile;
use index::{Index, State};
use record::Record;

pub(crate) use index::{Bounds, Seen};

/// A file shorter than this is not compacted.
const COMPACT_BYTES_MIN: usize = 64 * 1024;

/// A result that the server has not committed yet.
#[derive(Debug, Clone)]
pub(crate) struct Unsent {
    pub(crate) task_id: Uuid,
    pub(crate) keep_until: u64,
    pub(crate) answer: Answer,
}

/// Where the journal lives.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) sync: bool,
}

/// The journal of one device.
#[derive(Debug)]
pub(crate) struct Journal {
    state: Mutex<Remembered>,
    /// Taken before `state` by a flush; never the other way round.
    file: Option<Mutex<JournalFile>>,
    sync: bool,
}

#[derive(Debug)]
struct Remembered {
    index: Index,
    /// Lines not yet written. Stays empty without a file.
    queued: Vec<u8>,
    /// The next flush writes everything anew.
    rewrite: bool,
    /// Bytes in the file after the next flush, and after the last rewrite.
    file_bytes: usize,
    compacted_bytes: usize,
}

impl Journal {
    pub(crate) fn in_memory(bounds: Bounds) -> Self {
        Self::with(Index::new(bounds), None)
    }

    /// Opens the journal of an SN in a folder. Tasks that were started and have no result were
    /// cut off by a crash: they get the result `500 {"error":"interrupted"}`, or are forgotten
    /// with `rerun_interrupted`.
    pub(crate) fn open(
        place: &Place,
        sn: &str,
        bounds: Bounds,
        rerun_interrupted: bool,
        now: u64,
    ) -> Result<Self, Error> {
        let (file, content) = JournalFile::open(&place.dir, sn, place.sync)?;
        let mut index = replay(&content, bounds, file.path(), now);
        settle_interrupted(&mut index, rerun_interrupted, now);
        index.drop_expired(now, Uuid::nil());
        let path = file.path().to_owned();
        let journal = Self::with(index, Some(file));
        journal.remembered().rewrite = true;
        journal.flush_now().map_err(|source| Error::Journal { path, source })?;
        Ok(journal)
    }

    fn with(index: Index, file: Option<JournalFile>) -> Self {
        Self {
            state: Mutex::new(Remembered {
                index,
                queued: Vec::new(),
                rewrite: false,
                file_bytes: 0,
                compacted_bytes: 0,
            }),
            sync: file.as_ref().is_some_and(JournalFile::sync),
            file: file.map(Mutex::new),
        }
    }

    pub(crate) fn seen(&self, task_id: Uuid) -> Seen {
        self.remembered().index.seen(task_id)
    }

    /// Queues "started". False if the task is known: then it must not run.
    pub(crate) fn begin(&self, task_id: Uuid, keep_until: u64, now: u64) -> bool {
        let mut state = self.remembered();
        if !state.index.begin(task_id, keep_until, now) {
            return false;
        }
        if self.file.is_some() {
            state.queue(|out| record::push_begin(out, task_id, keep_until));
        }
        true
    }

    /// Queues a result.
    pub(crate) fn finish(&self, task_id: Uuid, keep_until: u64, answer: &Answer, now: u64) {
        let mut state = self.remembered();
        let forgotten = state.index.forgotten_alive();
        state.index.finish(task_id, keep_until, answer.clone(), now);
        if state.index.forgotten_alive() > forgotten {
            tracing::warn!(
                entries = state.index.len(),
                "the journal is full of results that the server has not committed; the oldest is forgotten"
            );
        }
        if self.file.is_some() {
            state.queue(|out| record::push_finish(out, task_id, keep_until, answer, false));
        }
    }

    /// Takes a start back: the task never ran, so a repetition may run it.
    pub(crate) fn cancel(&self, task_id: Uuid) {
        let mut state = self.remembered();
        state.index.forget(task_id);
        state.rewrite = true;
    }

    /// Notes the server's commit. It is written with the next record: if it is lost, the result
    /// is sent once more and committed again.
    pub(crate) fn commit(&self, task_id: Uuid) -> bool {
        let mut state = self.remembered();
        let news = state.index.commit(task_id);
        if news && self.file.is_some() {
            state.queue(|out| record::push_commit(out, task_id));
        }
        news
    }

    /// Results of tasks still alive that the server has not committed, oldest first.
    pub(crate) fn unsent(&self, now: u64) -> Vec<Unsent> {
        let state = self.remembered();
        let unsent = state.index.iter().filter_map(|(task_id, entry)| {
            let State::Finished { answer, committed } = &entry.state else {
                return None;
            };
            (!committed && entry.keep_until > now).then(|| Unsent {
                task_id,
                keep_until: entry.keep_until,
                answer: answer.clone(),
            })
        });
        unsent.collect()
    }

    /// Until when a known task is remembered.
    pub(crate) fn keep_until(&self, task_id: Uuid) -> Option<u64> {
        self.remembered().index.keep_until(task_id)
    }

    /// Makes what was queued durable, off the runtime's threads if it has to wait for a disk.
    pub(crate) async fn flush(self: &Arc<Self>) -> io::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        if !self.sync {
            return self.flush_now();
        }
        let journal = Arc::clone(self);
        tokio::task::spawn_blocking(move || journal.flush_now()).await.map_err(io::Error::other)?
    }

    pub(crate) fn flush_now(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, rewrite) = self.remembered().take();
        let written = if rewrite {
            file.replace(&bytes)
        } else if bytes.is_empty() {
            Ok(())
        } else {
            file.append(&bytes)
        };
        if written.is_err() {
            self.remembered().rewrite = true;
        }
        written
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn queue(&mut self, push: impl FnOnce(&mut Vec<u8>)) {
        if self.rewrite {
            return;
        }
        let before = self.queued.len();
        push(&mut self.queued);
        self.file_bytes += self.queued.len() - before;
        self.rewrite = self.file_bytes > 2 * self.compacted_bytes + COMPACT_BYTES_MIN;
    }

    /// What to write now, and whether it replaces the file.
    fn take(&mut self) -> (Vec<u8>, bool) {
        if !std::mem::take(&mut self.rewrite) {
            return (std::mem::take(&mut self.queued), false);
        }
        self.queued = Vec::new();
        let all = record::snapshot(&self.index);
        self.file_bytes = all.len();
        self.compacted_bytes = all.len();
        (all, true)
    }
}

/// Rebuilds the index from a file's content. Lines that cannot be read are skipped: after a
/// crash the last one may be torn, and what it would have said was never acted upon.
fn replay(content: &[u8], bounds: Bounds, path: &Path, now: u64) -> Index {
    let mut index = Index::new(bounds);
    let mut unreadable = 0_usize;
    for line in content.split(|byte| *byte == b'\n') {
        match record::parse(line) {
            Some(Record::Begin { task_id, keep_until }) => {
                index.begin(task_id, keep_until, now);
            }
            Some(Record::Finish { task_id, keep_until, answer, committed }) => {
                index.finish(task_id, keep_until, answer, now);
                if committed {
                    index.commit(task_id);
                }
            }
            Some(Record::Commit { task_id }) => {
                index.commit(task_id);
            }
            None if line.is_empty() => {}
            None => unreadable += 1,
        }
    }
    if unreadable > 0 {
        tracing::warn!(
            path = %path.display(),
            unreadable,
            "the journal has lines that cannot be read (a crash tears at most the last one); they are skipped"
        );
    }
    index
}

fn settle_interrupted(index: &mut Index, rerun: bool, now: u64) {
    let interrupted: Vec<(Uuid, u64)> = index
        .iter()
        .filter(|(_, entry)| matches!(entry.state, State::Running))
        .map(|(task_id, entry)| (task_id, entry.keep_until))
        .collect();
    for (task_id, keep_until) in interrupted {
        tracing::info!(%task_id, rerun, "this task was cut off by the end of the last run");
        if rerun {
            index.forget(task_id);
        } else {
            index.finish(task_id, keep_until, Answer::error(500, "interrupted"), now);
        }
    }
}

#[cfg(test)]
mod tests;
