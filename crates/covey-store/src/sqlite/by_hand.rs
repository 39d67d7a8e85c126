//! A store in memory whose work is done when its owner says so, in the owner's thread: for simulations, in
//! which nothing may happen by itself.
//!
//! Operations, statements and transactions are those of the store with threads. One connection writes and
//! reads: a read comes between two transactions, so that it sees what is committed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use covey_core::port::{Clock, Job, Observer};

use crate::error::StoreError;
use crate::queue::{self, Exit, Readers};
use crate::sqlite::reader::Reads;
use crate::sqlite::writer::Writer;
use crate::sqlite::{Sqlite, connection, migrations, record};
use crate::write_state::WriteState;

/// The place of a database that is in memory (SQLite "In-Memory Databases").
const IN_MEMORY: &str = ":memory:";
/// Reads come one after the other.
const READERS: Readers = Readers { points: 1, pages: 1, scans: 1 };

/// The hand that does a store's work.
pub struct ByHand {
    writer: Writer,
    jobs: Exit<Box<dyn Job>>,
    reads: Reads,
    queue_max: usize,
}

impl ByHand {
    /// An empty database. Up to `queue_max` jobs, and as many reads, may wait; up to `group_max` jobs share
    /// one commit.
    ///
    /// # Errors
    /// A schema that SQLite does not take.
    pub fn new(
        queue_max: usize,
        group_max: usize,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StoreError> {
        let path = PathBuf::from(IN_MEMORY);
        let mut connection =
            connection::open_in_memory().map_err(|source| StoreError::Open { path: path.clone(), source })?;
        migrations::run(&mut connection, &path)?;
        let (group_max, state) = (group_max.max(1), Arc::<WriteState>::default());
        let writer = Writer {
            connection,
            clock,
            observer,
            group_max,
            checkpoints: None,
            state,
            disk: None,
            looked: Instant::now(),
        };
        let ((_, jobs), reads) = (queue::of_jobs(queue_max), Reads::new(READERS, queue_max));
        Ok(Self { writer, jobs, reads, queue_max })
    }

    /// The store, for a server. `told` is called whenever there is something to do.
    ///
    /// What waits for the hand in a store that was made before is lost, as when a server is killed; what was
    /// committed stays.
    pub fn store(&mut self, told: Arc<dyn Fn() + Send + Sync>) -> Sqlite {
        let (jobs, job_queue) = queue::of_jobs(self.queue_max);
        let reads = Reads::new(READERS, self.queue_max);
        self.reads.abandon();
        (self.jobs, self.reads) = (job_queue, reads.clone());
        Sqlite {
            path: PathBuf::from(IN_MEMORY),
            jobs: Some(jobs),
            reads,
            write_state: Arc::clone(&self.writer.state),
            disk: None,
            threads: Vec::new(),
            hand: Some(told),
            // The database is in memory and of our making: that it cannot be read is met by the first job, too.
            began_after: record::head(&self.writer.connection).unwrap_or_default(),
        }
    }

    /// Does the reads that wait; answers how many there were.
    pub fn read(&self) -> usize {
        self.reads.run_all(&self.writer.connection, &self.writer.state)
    }

    /// Runs the jobs that wait in one transaction, at most as many as a group has, and settles them; answers
    /// how many there were.
    pub fn write(&mut self) -> usize {
        self.writer.commit_one_group(&self.jobs)
    }

    /// How many jobs and reads wait.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.jobs.len(), self.reads.len())
    }
}
