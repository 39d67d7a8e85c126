//! The thread that writes: group commit in two trips, or in one if all that is
//! needed is remembered.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use covey_core::error::StorageFault;
use covey_core::port::{Clock, Event, Job, Needs, Observer, Step};
use crossbeam_channel::Receiver;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::guard::AbortOnPanic;
use crate::postgres::connection::Connector;
use crate::postgres::fault::Failure;
use crate::postgres::memory::Memory;
use crate::postgres::peers::Exchange;
use crate::postgres::session::{Session, WriterId};
use crate::postgres::transaction::{Committed, PostgresTransaction};

/// How often a group that stood in another's way is run again.
const AGAIN_MAX: u32 = 8;
/// For how long, whatever the number.
const AGAIN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long jobs that wait do so for a connection that is being made.
const CONNECT_GRACE: Duration = Duration::from_millis(500);
/// How long an attempt to connect may take in all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long jobs wait to learn whether a commit whose answer was lost took place.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(15);
/// The pauses between attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

type Group = Vec<Box<dyn Job>>;
type Connecting = Pin<Box<dyn Future<Output = Result<Session, Failure>> + Send>>;

/// The writer's way to the database.
enum Line {
    Open(Box<Session>),
    Opening(Connecting),
    /// Not to be tried before this instant.
    Closed {
        until: Instant,
    },
}

pub(super) struct Writer {
    runtime: Runtime,
    connector: Connector,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    queue: Receiver<Box<dyn Job>>,
    group_max: usize,
    line: Line,
    id: Option<WriterId>,
    pause: Duration,
    exchange: Arc<Exchange>,
    memory: Memory,
    /// Since when this server was alone when it began to remember.
    remembers_since: Option<u64>,
}

/// How a group ended, if it was not lost.
type Attempt = Result<(), Failure>;

impl Writer {
    /// A writer that is connected.
    pub(super) fn new(
        runtime: Runtime,
        connector: Connector,
        session: Session,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        exchange: Arc<Exchange>,
        queue: Receiver<Box<dyn Job>>,
    ) -> Self {
        let group_max = connector.options().group_max.max(1);
        let id = Some(session.writer);
        let line = Line::Open(Box::new(session));
        let (pause, memory, remembers_since) = (PAUSE_MIN, Memory::default(), None);
        Self {
            runtime,
            connector,
            clock,
            observer,
            queue,
            group_max,
            line,
            id,
            pause,
            exchange,
            memory,
            remembers_since,
        }
    }

    /// Runs until the last sender is gone and every job is settled.
    pub(super) fn run(mut self) {
        let _guard = AbortOnPanic;
        let mut group = Group::new();
        while let Ok(first) = self.queue.recv() {
            group.push(first);
            group.extend(self.queue.try_iter().take(self.group_max - 1));
            self.commit(&mut group);
        }
    }

    /// Runs a group of jobs in one transaction and settles them.
    fn commit(&mut self, group: &mut Group) {
        let outcome = self.persist(group);
        match outcome {
            Err(Failure::OfJob(StorageFault::Io) | Failure::Again) if group.len() > 1 => {
                // One job may have spoilt it for all: each gets its own chance.
                for job in group.drain(..) {
                    let mut alone = vec![job];
                    let outcome = self.persist(&mut alone).map_err(Failure::fault);
                    alone.into_iter().for_each(|job| job.settle(outcome));
                }
            }
            outcome => {
                let outcome = outcome.map_err(Failure::fault);
                group.drain(..).for_each(|job| job.settle(outcome));
            }
        }
    }

    /// Runs a group, again where that is safe and may help.
    fn persist(&mut self, group: &mut Group) -> Attempt {
        let began_us = self.clock.monotonic_us();
        let begun = Instant::now();
        let mut outcome = Err(Failure::Lost);
        for _ in 0..=AGAIN_MAX {
            outcome = self.attempt(group);
            if !matches!(outcome, Err(Failure::Again)) {
                break;
            }
            if begun.elapsed() > AGAIN_TIMEOUT {
                outcome = Err(Failure::OfAll(StorageFault::Io));
                break;
            }
        }
        match outcome {
            Ok(()) => {
                let took_us = self.clock.monotonic_us().saturating_sub(began_us);
                self.observer.took(Step::Commit, took_us);
                self.observer.happened(Event::Committed { operations: group.len() });
            }
            Err(failure) => {
                tracing::error!(operations = group.len(), fault = %failure.fault(), "a transaction failed");
            }
        }
        outcome
    }

    /// Runs a group once. A connection that is lost before the commit was sent
    /// has changed nothing; after that, the writer's mark tells.
    fn attempt(&mut self, group: &mut Group) -> Attempt {
        let Some(mut session) = self.session(CONNECT_GRACE) else {
            return Err(Failure::OfAll(StorageFault::Unreachable));
        };
        let (outcome, is_sent) = self.transact(&session, group);
        match outcome {
            Ok(committed) => {
                session.group_number = committed.group_number;
                self.line = Line::Open(session);
                Ok(())
            }
            Err(Failure::Lost) => {
                let number = session.group_number + 1;
                drop(session);
                self.line = Line::Closed { until: Instant::now() };
                if is_sent { self.was_committed(number) } else { Err(Failure::Again) }
            }
            Err(failure) => {
                let rolled_back = self.runtime.block_on(async {
                    timeout(CONNECT_TIMEOUT, session.client.batch_execute("ROLLBACK")).await
                });
                // A standby must not be kept: another host may be the primary now.
                let is_good =
                    matches!(rolled_back, Ok(Ok(()))) && failure != Failure::OfAll(StorageFault::ReadOnly);
                self.line =
                    if is_good { Line::Open(session) } else { Line::Closed { until: Instant::now() } };
                Err(failure)
            }
        }
    }

    /// Whether this writer's group of that number was committed. Answers `Again`
    /// if it was not.
    fn was_committed(&mut self, number: i64) -> Attempt {
        let begun = Instant::now();
        while begun.elapsed() < OUTCOME_TIMEOUT {
            if let Some(session) = self.session(PAUSE_MAX) {
                let is_committed = session.group_number >= number;
                tracing::info!(is_committed, "a commit whose answer was lost was looked up");
                self.line = Line::Open(session);
                return if is_committed { Ok(()) } else { Err(Failure::Again) };
            }
            // Those who wait behind it need not: nothing of theirs was begun.
            self.queue.try_iter().for_each(|job| job.settle(Err(StorageFault::Unreachable)));
            std::thread::sleep(PAUSE_MIN);
        }
        tracing::error!("whether a commit took place could not be learnt; its callers are told to try again");
        Err(Failure::OfAll(StorageFault::Unreachable))
    }

    /// The connection, made anew if need be and if that takes no longer than
    /// `grace`. A connection that was just lost is worth several attempts; one
    /// that could not be had before is tried again after a pause.
    fn session(&mut self, grace: Duration) -> Option<Box<Session>> {
        let deadline = Instant::now() + grace;
        loop {
            let line = std::mem::replace(&mut self.line, Line::Closed { until: Instant::now() });
            let mut opening = match line {
                Line::Open(session) if !session.client.is_closed() => return Some(session),
                Line::Closed { until } if until > Instant::now() => {
                    self.line = Line::Closed { until };
                    return None;
                }
                Line::Opening(opening) => opening,
                Line::Open(_) | Line::Closed { .. } => self.opening(),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match self.runtime.block_on(async { timeout(left, &mut opening).await }) {
                Err(_) => {
                    self.line = Line::Opening(opening);
                    return None;
                }
                Ok(Ok(session)) => {
                    self.pause = PAUSE_MIN;
                    self.id = Some(session.writer);
                    // It may be another primary, or one that was restored.
                    self.memory.clear();
                    tracing::info!(place = %self.connector.options().place(), "connected to PostgreSQL");
                    return Some(Box::new(session));
                }
                Ok(Err(_)) if self.pause == PAUSE_MIN && left > PAUSE_MIN => std::thread::sleep(PAUSE_MIN),
                Ok(Err(failure)) => {
                    tracing::warn!(?failure, pause = ?self.pause, "PostgreSQL cannot be reached");
                    self.line = Line::Closed { until: Instant::now() + self.pause };
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                    return None;
                }
            }
        }
    }

    fn opening(&self) -> Connecting {
        let (connector, id) = (self.connector.clone(), self.id);
        Box::pin(async move {
            let opened = timeout(CONNECT_TIMEOUT, Session::open(&connector, id)).await;
            opened.unwrap_or(Err(Failure::Lost))
        })
    }

    /// Runs a group in a transaction. Also answers whether the commit was sent.
    fn transact(&mut self, session: &Session, group: &mut Group) -> (Result<Committed, Failure>, bool) {
        let mut needs = Needs::default();
        group.iter().for_each(|job| job.needs(&mut needs));
        let mut transaction = PostgresTransaction::new(session, &self.runtime, self.clock.now());
        // Whatever was remembered before a visit may have changed during it.
        let alone_since = self.exchange.alone_since();
        if alone_since != self.remembers_since {
            self.memory.clear();
            self.remembers_since = alone_since;
        }
        let memory = alone_since.map(|_| &mut self.memory);
        let run = |transaction: &mut PostgresTransaction<'_>| {
            transaction.fetch(&needs, memory)?;
            for job in group.iter_mut() {
                let outcome = job.run(transaction);
                // What the database said goes before what the job made of it.
                transaction.checked()?;
                outcome.map_err(Failure::OfJob)?;
            }
            transaction.commit()
        };
        let outcome = run(&mut transaction);
        let is_commit_sent = transaction.is_commit_sent();
        // What was taken out of it is lost with the transaction, and what is
        // left may be what it failed for.
        if outcome.is_ok() && alone_since.is_some() {
            transaction.keep(&mut self.memory);
        } else {
            self.memory.clear();
        }
        (outcome, is_commit_sent)
    }
}
