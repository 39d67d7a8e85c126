//! The journal: what makes a task that is delivered twice run once. It remembers every task
//! from its start until it expires, with its result, and survives a kill of the process.

mod index;
mod record;

use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard};

use uuid::Uuid;

use crate::answer::Answer;
use crate::error::Error;
use crate::log::{Log, LogFile, Logged, Place, Snapshot};
use index::{Index, State};
use record::Record;

pub(crate) use index::{Bounds, Seen};

/// A result that the server has not committed yet.
#[derive(Debug, Clone)]
pub(crate) struct Unsent {
    pub(crate) task_id: Uuid,
    pub(crate) keep_until: u64,
    pub(crate) answer: Answer,
}

/// The journal of one device.
#[derive(Debug)]
pub(crate) struct Journal(Arc<Log<Index>>);

impl Journal {
    pub(crate) fn in_memory(bounds: Bounds) -> Self {
        Self(Arc::new(Log::in_memory(Index::new(bounds))))
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
        let (file, content) = LogFile::open(place, sn, "journal")?;
        let path = file.path().to_owned();
        let mut index = replay(&content, bounds, &path, now);
        settle_interrupted(&mut index, rerun_interrupted, now);
        index.drop_expired(now, Uuid::nil());
        let log = Log::on_file(index, file, place.sync).map_err(|source| Error::Journal { path, source })?;
        Ok(Self(Arc::new(log)))
    }

    pub(crate) fn seen(&self, task_id: Uuid) -> Seen {
        self.remembered().kept.seen(task_id)
    }

    /// Queues "started". False if the task is known: then it must not run.
    pub(crate) fn begin(&self, task_id: Uuid, keep_until: u64, now: u64) -> bool {
        let mut state = self.remembered();
        if !state.kept.begin(task_id, keep_until, now) {
            return false;
        }
        state.queue(|out| record::push_begin(out, task_id, keep_until));
        true
    }

    /// Queues a result.
    pub(crate) fn finish(&self, task_id: Uuid, keep_until: u64, answer: &Answer, now: u64) {
        let mut state = self.remembered();
        let forgotten = state.kept.forgotten_alive();
        state.kept.finish(task_id, keep_until, answer.clone(), now);
        if state.kept.forgotten_alive() > forgotten {
            tracing::warn!(
                entries = state.kept.len(),
                "journal full of uncommitted results; the oldest is dropped"
            );
        }
        state.queue(|out| record::push_finish(out, task_id, keep_until, answer, false));
    }

    /// Takes a start back: the task never ran, so a repetition may run it.
    pub(crate) fn cancel(&self, task_id: Uuid) {
        let mut state = self.remembered();
        state.kept.forget(task_id);
        state.rewrite();
    }

    /// Notes the server's commit. It is written with the next record: if it is lost, the result
    /// is sent once more and committed again.
    pub(crate) fn commit(&self, task_id: Uuid) -> bool {
        let mut state = self.remembered();
        let news = state.kept.commit(task_id);
        if news {
            state.queue(|out| record::push_commit(out, task_id));
        }
        news
    }

    /// Results of tasks still alive that the server has not committed, oldest first.
    pub(crate) fn unsent(&self, now: u64) -> Vec<Unsent> {
        let state = self.remembered();
        let unsent = state.kept.iter().filter_map(|(task_id, entry)| {
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
        self.remembered().kept.keep_until(task_id)
    }

    /// Makes what was queued durable, off the runtime's threads if it has to wait for a disk.
    pub(crate) async fn flush(&self) -> io::Result<()> {
        self.0.flush().await
    }

    #[cfg(test)]
    fn flush_now(&self) -> io::Result<()> {
        self.0.flush_now()
    }

    fn remembered(&self) -> MutexGuard<'_, Logged<Index>> {
        self.0.lock()
    }
}

impl Snapshot for Index {
    fn snapshot(&self) -> Vec<u8> {
        record::snapshot(self)
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
            "unreadable journal lines skipped (a crash tears at most the last line)"
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
        tracing::info!(%task_id, rerun, "task interrupted by the end of the last run");
        if rerun {
            index.forget(task_id);
        } else {
            index.finish(task_id, keep_until, Answer::error(500, "interrupted"), now);
        }
    }
}

#[cfg(test)]
mod tests;
