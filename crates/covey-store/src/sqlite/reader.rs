//! The threads that read, in lanes (`docs/adr/0021-reads-in-lanes-writes-in-turns.md`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use covey_core::error::{Error, StorageFault};
use covey_core::port::{Found, Lane, ReadKind, Turn};
use futures_channel::oneshot;
use rusqlite::Connection;
use rusqlite::ffi::ErrorCode;

use crate::error::StoreError;
use crate::queue::{LANES, LaneQueue, Readers};
use crate::sqlite::{Options, Sqlite, connection, fault, spawn};
use crate::write_state::WriteState;

/// After how many instructions of SQLite's machine it is looked whether a read must end: some
/// tens of microseconds.
const STEPS_BETWEEN_LOOKS: i32 = 1_000;
/// By how much less processor time a thread that scans gets where there is not enough (nice(2)).
#[cfg(target_os = "linux")]
const SCAN_NICENESS: i32 = 10;

/// What a read does. It tells the state of damage that it finds.
type Ask = Box<dyn FnOnce(&Connection, &WriteState) + Send>;

/// A read on its way to a thread.
struct Read {
    /// None for one that is over before this could matter.
    end: Option<End>,
    ask: Ask,
}

/// When a read ends that is not through.
struct End {
    is_gone: Arc<AtomicBool>,
    time_max: Duration,
}

impl Read {
    /// Whether nobody waits for it any more.
    fn is_gone(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.is_gone.load(Ordering::Relaxed))
    }

    /// Reads. The look whether it must end is this read's own, so it cannot hit the next one.
    fn run(self, connection: &mut Connection, state: &WriteState) {
        if self.is_gone() {
            return;
        }
        let Some(End { is_gone, time_max }) = self.end else { return (self.ask)(connection, state) };
        let until = Instant::now() + time_max;
        let must_end = move || is_gone.load(Ordering::Relaxed) || Instant::now() >= until;
        let watched = connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(must_end));
        (self.ask)(connection, state);
        let unwatched = connection.progress_handler(0, None::<fn() -> bool>);
        if let Err(error) = watched.and(unwatched) {
            tracing::error!(%error, "SQLite");
        }
    }
}

/// Says that nobody waits any more.
struct GoneOnDrop(Arc<AtomicBool>);

impl Drop for GoneOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct State {
    queue: LaneQueue<Read>,
    idle: usize,
    is_closed: bool,
}

struct LaneOfReads {
    state: Mutex<State>,
    changed: Condvar,
}

impl LaneOfReads {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whole whenever it is unlocked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, turn: Turn, read: Read) -> Result<(), StorageFault> {
        let mut state = self.state();
        if state.is_closed {
            return Err(StorageFault::Stopped);
        }
        let refused = state.queue.put(turn, read).err();
        let is_waited_for = state.idle > 0;
        drop(state);
        if let Some(read) = refused {
            drop(read);
            return Err(StorageFault::Overloaded);
        }
        if is_waited_for {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// The next read, once one of this turn has ended; none once there will be none any more.
    fn next(&self, ended: Option<Turn>) -> Option<(Turn, Read)> {
        let mut state = self.state();
        if let Some(turn) = ended {
            state.queue.end(turn);
            if state.is_closed {
                self.changed.notify_all();
            }
        }
        loop {
            if let Some(begun) = state.queue.begin() {
                return Some(begun);
            }
            if state.is_closed && state.queue.len() == 0 {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }
}

/// The reads that wait, by lane.
#[derive(Clone)]
pub(super) struct Reads(Arc<[LaneOfReads; LANES]>);

impl Reads {
    /// Lanes in each of which so many may wait.
    pub(super) fn new(readers: Readers, waiting_max: usize) -> Self {
        Self(Arc::new(Lane::ALL.map(|lane| LaneOfReads {
            state: Mutex::new(State {
                queue: LaneQueue::new(lane, readers, waiting_max),
                idle: 0,
                is_closed: false,
            }),
            changed: Condvar::new(),
        })))
    }

    /// Starts the threads that read.
    pub(super) fn start(
        &self,
        options: &Options,
        state: &Arc<WriteState>,
    ) -> Result<Vec<JoinHandle<()>>, StoreError> {
        let mut threads = Vec::new();
        for lane in Lane::ALL {
            for number in 0..options.readers.of(lane) {
                let mut connection = connection::open_for_reading(&options.path)?;
                let (reads, state) = (self.clone(), Arc::clone(state));
                let run = move || {
                    if lane == Lane::Scan {
                        give_way();
                    }
                    let mut ended = None;
                    while let Some((turn, read)) = reads.of(lane).next(ended) {
                        read.run(&mut connection, &state);
                        ended = Some(turn);
                    }
                };
                threads.push(spawn(format!("store-{}-{number}", lane.name()), run)?);
            }
        }
        Ok(threads)
    }

    fn of(&self, lane: Lane) -> &LaneOfReads {
        &self.0[lane as usize]
    }

    /// Does the reads that wait in the present thread; answers how many there were.
    pub(super) fn run_all(&self, connection: &Connection, state: &WriteState) -> usize {
        let mut count = 0;
        for lane in Lane::ALL.map(|lane| self.of(lane)) {
            loop {
                // Not under the lock: what waits for an answer may ask again.
                let begun = lane.state().queue.begin();
                let Some((turn, read)) = begun else { break };
                if !read.is_gone() {
                    (read.ask)(connection, state);
                }
                lane.state().queue.end(turn);
                count += 1;
            }
        }
        count
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        Lane::ALL.into_iter().map(|lane| self.of(lane).state().queue.len()).sum()
    }

    /// Takes no more; what waits is still done.
    pub(super) fn close(&self) {
        self.0.iter().for_each(LaneOfReads::close);
    }

    /// Takes no more, and drops what waits.
    pub(super) fn abandon(&self) {
        self.close();
        for lane in &*self.0 {
            let waiting = lane.state().queue.take_all();
            drop(waiting);
        }
    }
}

/// Lets all other threads go first where processor time is short.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), SCAN_NICENESS) {
        tracing::debug!(%error, "a thread that scans has the same priority as others");
    }
}

impl Sqlite {
    /// Reads in the lane of this kind, in its turn. Where that may take long it ends when the future is dropped.
    pub(super) fn read<T: Send + 'static>(
        &self,
        kind: ReadKind,
        turn: Turn,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Found<'_, T> {
        let (reply, answer) = oneshot::channel();
        let ask = Box::new(move |connection: &Connection, state: &WriteState| {
            let outcome = query(connection).map_err(|error| told(kind, &error, state));
            // Whoever asked may have gone away.
            let _ = reply.send(outcome);
        });
        let (end, gone_on_drop) = match kind.ms_max() {
            None => (None, None),
            Some(ms) => {
                let is_gone = Arc::<AtomicBool>::default();
                let end = End { is_gone: Arc::clone(&is_gone), time_max: Duration::from_millis(ms) };
                (Some(end), Some(GoneOnDrop(is_gone)))
            }
        };
        let sent = self.reads.of(kind.lane()).put(turn, Read { end, ask });
        self.tell_hand();
        Box::pin(async move {
            let _gone_on_drop = gone_on_drop;
            sent?;
            answer.await.unwrap_or(Err(Error::from(StorageFault::Stopped)))
        })
    }
}

/// What a fault means for whoever reads.
fn told(kind: ReadKind, error: &rusqlite::Error, state: &WriteState) -> Error {
    if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
        tracing::debug!(read = kind.name(), "read given up");
        return Error::TookTooLong;
    }
    tracing::error!(%error, read = kind.name(), "SQLite");
    let fault = fault(error);
    state.met(fault);
    Error::from(fault)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::id::{OrgId, UnixMs};
    use covey_core::port::{Clock, Event, Observer, Step};
    use futures_executor::block_on;
    use tempfile::TempDir;

    use super::*;

    const ENDLESS: &str =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    /// Less than the time after which a scan ends by itself.
    const SOON: Duration = Duration::from_secs(5);

    struct Nothing;

    impl Clock for Nothing {
        fn now(&self) -> UnixMs {
            UnixMs(0)
        }

        fn monotonic_us(&self) -> u64 {
            0
        }
    }

    impl Observer for Nothing {
        fn took(&self, _: Step, _: u64) {}

        fn happened(&self, _: Event) {}
    }

    fn store(scans: usize) -> (TempDir, Sqlite) {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(folder.path().join("covey.db"));
        let options = Options { readers: Readers { scans, ..options.readers }, ..options };
        let store = Sqlite::open(&options, Arc::new(Nothing), Arc::new(Nothing)).unwrap();
        (folder, store)
    }

    fn ask<'a>(store: &'a Sqlite, kind: ReadKind, org: i64, sql: &'static str) -> Found<'a, i64> {
        store.read(kind, Turn::Org(OrgId(org)), move |connection| {
            connection.query_row(sql, [], |row| row.get(0))
        })
    }

    #[test]
    fn nothing_waits_behind_scans_and_they_end_with_who_asked() {
        let (_folder, store) = store(2);
        let begun = Instant::now();
        let scans: Vec<_> = (0..20).map(|org| ask(&store, ReadKind::EventSeries, org, ENDLESS)).collect();
        for kind in [ReadKind::ApiKey, ReadKind::SessionOfCertificate, ReadKind::Task, ReadKind::TaskList] {
            assert_eq!(block_on(ask(&store, kind, 1, "SELECT 1")), Ok(1), "{kind:?}");
        }
        drop(scans);
        assert_eq!(block_on(ask(&store, ReadKind::EventSeries, 1, "SELECT 1")), Ok(1));
        assert!(begun.elapsed() < SOON);
    }

    #[test]
    fn one_organisation_leaves_others_a_thread_that_scans() {
        let (_folder, store) = store(2);
        let begun = Instant::now();
        let _scans: Vec<_> = (0..20).map(|_| ask(&store, ReadKind::EventSeries, 1, ENDLESS)).collect();
        assert_eq!(block_on(ask(&store, ReadKind::EventSeries, 2, "SELECT 1")), Ok(1));
        assert!(begun.elapsed() < SOON);
    }

    #[test]
    fn the_end_of_one_read_does_not_hit_the_next() {
        let (_folder, store) = store(1);
        for round in 0..300 {
            let scan = ask(&store, ReadKind::EventSeries, 1, ENDLESS);
            std::thread::sleep(Duration::from_micros(round * 7 % 400));
            drop(scan);
            assert_eq!(block_on(ask(&store, ReadKind::EventSeries, 1, "SELECT 1")), Ok(1), "round {round}");
        }
    }

    #[test]
    fn a_read_ends_after_its_time_and_the_connection_reads_on() {
        let mut connection = Connection::open_in_memory().unwrap();
        let (reply, answer) = oneshot::channel();
        let ask = Box::new(move |connection: &Connection, state: &WriteState| {
            let counted = connection.query_row(ENDLESS, [], |row| row.get::<_, i64>(0));
            reply.send(counted.map_err(|error| told(ReadKind::EventSeries, &error, state))).unwrap();
        });
        let end = Some(End { is_gone: Arc::default(), time_max: Duration::from_millis(30) });
        Read { end, ask }.run(&mut connection, &WriteState::default());
        assert_eq!(block_on(answer).unwrap(), Err(Error::TookTooLong));
        let row = connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0));
        assert_eq!(row.unwrap(), 1);
    }
}
