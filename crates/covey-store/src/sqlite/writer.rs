//! The thread that writes: group commit.

use std::sync::Arc;
use std::time::Instant;

use covey_core::error::StorageFault;
use covey_core::port::{Clock, Event, Job, Observer, Step};
use rusqlite::Connection;

use crate::guard::AbortOnPanic;
use crate::queue::{Exit, Nothing};
use crate::relief::keep_relief;
use crate::sqlite::checkpoint::{self, Checkpoints};
use crate::sqlite::disk::Disk;
use crate::sqlite::fault;
use crate::sqlite::transaction::SqliteTransaction;
use crate::write_state::{LOOK_PAUSE, WriteState};

/// Writes and takes back an entry of nobody's: it needs room for 128 KiB, and its
/// commit reaches the disk.
const TRIAL: &str = "BEGIN IMMEDIATE; \
     INSERT INTO idempotency (org_id, key, request_digest, task_id, created_at) \
     VALUES (0, '', zeroblob(131072), zeroblob(16), 0); \
     DELETE FROM idempotency WHERE org_id = 0 AND key = ''; COMMIT";

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) group_max: usize,
    /// None for a database in memory.
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) state: Arc<WriteState>,
    /// None for a database in memory.
    pub(super) disk: Option<Arc<Disk>>,
    /// When it was looked last whether writes succeed.
    pub(super) looked: Instant,
}

type Group = Vec<Box<dyn Job>>;

/// Why a transaction failed.
#[derive(Clone, Copy)]
enum Failure {
    /// One of its jobs met a fault.
    OfJob(StorageFault),
    /// It could not begin or commit, which every job in it would meet again.
    OfAll(StorageFault),
}

impl Failure {
    /// The same, with its fault as somebody sees it.
    fn seen(self, see: impl FnOnce(StorageFault) -> StorageFault) -> Self {
        match self {
            Self::OfJob(fault) => Self::OfJob(see(fault)),
            Self::OfAll(fault) => Self::OfAll(see(fault)),
        }
    }

    fn fault(self) -> StorageFault {
        match self {
            Self::OfJob(fault) | Self::OfAll(fault) => fault,
        }
    }
}

impl Writer {
    /// Runs until the store is dropped and every job is settled.
    pub(super) fn run(mut self, queue: &Exit<Box<dyn Job>>) {
        let _guard = AbortOnPanic;
        let mut group = Group::new();
        loop {
            // What makes room comes also while nothing else succeeds; and a fault of another kind may have
            // come after the one for which the reserve was given up.
            let is_wanted =
                self.state.of_writes().is_some() || self.disk.as_ref().is_some_and(|disk| disk.is_full());
            if is_wanted && self.looked.elapsed() >= LOOK_PAUSE {
                self.look();
            }
            // A fault may also be met beside this thread, which then has nothing to do.
            match queue.take_group(&mut group, self.group_max, Some(LOOK_PAUSE)) {
                Ok(()) => self.commit_when_free(&mut group),
                Err(Nothing::Came) => {}
                Err(Nothing::Left) => return,
            }
        }
    }

    /// Commits one group of those that wait; answers how many there were.
    pub(super) fn commit_one_group(&mut self, queue: &Exit<Box<dyn Job>>) -> usize {
        let mut group = Group::new();
        queue.take_group_now(&mut group, self.group_max);
        let count = group.len();
        if count > 0 {
            self.commit_when_free(&mut group);
        }
        count
    }

    /// Commits a group, once no checkpoint ends the log.
    fn commit_when_free(&mut self, group: &mut Group) {
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.give_way();
        }
        self.commit(group);
    }

    /// Looks whether writes succeed again. On a disk that was full they do once the reserve is there again.
    fn look(&mut self) {
        self.looked = Instant::now();
        if let Some(disk) = self.disk.as_ref().filter(|disk| disk.is_full() && self.checkpoints.is_some()) {
            // It may be the log that has filled the disk.
            checkpoint::give_log_back(&self.connection, disk.measure_free());
        }
        if self.disk.as_ref().is_some_and(|disk| !disk.take_reserve()) {
            self.state.set(Some(StorageFault::Full));
            return;
        }
        let outcome = self.connection.execute_batch(TRIAL);
        self.roll_back();
        let fault = outcome.err().map(|error| self.seen(fault(&error)));
        if fault == Some(StorageFault::Full) {
            self.give_up_reserve();
        }
        self.state.set(fault);
    }

    fn seen(&self, fault: StorageFault) -> StorageFault {
        self.disk.as_ref().map_or(fault, |disk| disk.seen_in(fault))
    }

    fn give_up_reserve(&self) {
        if let Some(disk) = &self.disk {
            disk.give_up_reserve();
        }
    }

    /// Runs what makes room or shuts somebody out, in the room that was kept for it: each by itself, and before each
    /// the log is emptied as far as can be, so that it is used from its beginning again.
    fn relieve(&mut self, group: &mut Group) {
        self.give_up_reserve();
        keep_relief(group);
        for job in group.drain(..) {
            if self.checkpoints.is_some() {
                let free_bytes = self.disk.as_ref().map_or(u64::MAX, |disk| disk.measure_free());
                checkpoint::empty_log(&self.connection, free_bytes);
            }
            let mut alone = vec![job];
            let outcome = self.attempt(&mut alone).map_err(Failure::fault);
            alone.into_iter().for_each(|job| job.settle(outcome));
        }
    }

    /// Undoes what was begun and not committed.
    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "rollback failed");
        }
    }

    /// Runs a group of jobs in one transaction and settles them.
    fn commit(&mut self, group: &mut Group) {
        if self.state.is_full() {
            return self.relieve(group);
        }
        let outcome = self.attempt(group);
        match outcome {
            Err(failure) if failure.fault() == StorageFault::Full => self.relieve(group),
            Err(Failure::OfJob(StorageFault::Io | StorageFault::Damaged)) if group.len() > 1 => {
                // One job may have spoilt it for all: each gets its own chance.
                for job in group.drain(..) {
                    // As any other group of one, also where the room ends meanwhile.
                    self.commit(&mut vec![job]);
                }
            }
            outcome => {
                let outcome = outcome.map_err(Failure::fault);
                group.drain(..).for_each(|job| job.settle(outcome));
            }
        }
    }

    fn attempt(&mut self, group: &mut Group) -> Result<(), Failure> {
        let began_us = self.clock.monotonic_us();
        let outcome = self.transact(group);
        self.roll_back();
        match outcome {
            Ok(()) => {
                let took_us = self.clock.monotonic_us().saturating_sub(began_us);
                self.observer.took(Step::Commit, took_us);
                self.observer.happened(Event::Committed { operations: group.len() });
                if let Some(checkpoints) = &mut self.checkpoints {
                    checkpoints.committed(group.len());
                }
                self.state.written();
                Ok(())
            }
            Err(failure) => {
                let failure = failure.seen(|fault| self.seen(fault));
                let fault = failure.fault();
                let is_news = self.state.of_writes() != Some(fault);
                self.state.met(fault);
                tracing::error!(operations = group.len(), %fault, "transaction failed");
                // Any other fault that one job met may be its own.
                if matches!(
                    failure,
                    Failure::OfAll(_) | Failure::OfJob(StorageFault::Full | StorageFault::ReadOnly)
                ) {
                    if is_news {
                        self.looked = Instant::now();
                    }
                    self.state.set(Some(fault));
                }
                Err(failure)
            }
        }
    }

    fn transact(&mut self, group: &mut Group) -> Result<(), Failure> {
        let run = |sql: &str| {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.raw_execute().map(drop)
        };
        let report = |error: rusqlite::Error| {
            tracing::error!(%error, "SQLite");
            Failure::OfAll(fault(&error))
        };
        run("BEGIN IMMEDIATE").map_err(report)?;
        let mut transaction = SqliteTransaction::new(&self.connection, self.clock.now());
        for job in group.iter_mut() {
            job.run(&mut transaction).map_err(Failure::OfJob)?;
        }
        transaction.flush().map_err(Failure::OfAll)?;
        run("COMMIT").map_err(report)
    }
}
