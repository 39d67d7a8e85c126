//! The thread that writes: group commit in two trips, or in one if all that is
//! needed is remembered.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use covey_core::audit::AuditHead;
use covey_core::error::StorageFault;
use covey_core::port::{Clock, Event, Job, Observer, ReadSet, Step};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::guard::AbortOnPanic;
use crate::postgres::connection::Connector;
use crate::postgres::fault::Failure;
use crate::postgres::peers::Exchange;
use crate::postgres::session::{self, Session, WriterId};
use crate::postgres::write::cross_group_cache::CrossGroupCache;
use crate::postgres::write::transaction::{Committed, PostgresTransaction};
use crate::queue::{Exit, Nothing};
use crate::relief::keep_relief;
use crate::write_state::{LOOK_PAUSE, WriteState};

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
/// The same while the database may only be read and is a standby, to which the
/// commit may still be on its way.
const STANDBY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a look at a database to which nothing is written may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// The pauses between attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

type Group = Vec<Box<dyn Job>>;
type Connecting = Pin<Box<dyn Future<Output = Result<Session, Failure>> + Send>>;

/// The writer's way to the database.
enum Line {
    Open(Box<Session>),
    /// Under way, after this.
    Opening(Connecting, StorageFault),
    /// Not to be tried before this instant, because of this.
    Closed {
        until: Instant,
        fault: StorageFault,
    },
}

impl Line {
    /// To be tried at once.
    fn lost() -> Self {
        Self::Closed { until: Instant::now(), fault: StorageFault::Unreachable }
    }
}

pub(crate) struct Writer {
    runtime: Runtime,
    connector: Connector,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    queue: Exit<Box<dyn Job>>,
    group_max: usize,
    line: Line,
    id: Option<WriterId>,
    pause: Duration,
    exchange: Arc<Exchange>,
    state: Arc<WriteState>,
    /// When it was looked last whether a write succeeds.
    looked: Instant,
    /// Whether there was no room when it was found out last; a trial ends that, whatever other fault came
    /// after it.
    must_try: bool,
    cross_group: CrossGroupCache,
    /// The end of this server's chain of the audit log, as of the last commit; none where another one may have come
    /// between.
    audit_head: Option<AuditHead>,
    /// Since when this server was alone when it began to remember.
    remembers_since: Option<u64>,
}

/// How a group ended, if it was not lost.
type Attempt = Result<(), Failure>;

impl Writer {
    /// A writer that is connected.
    pub(crate) fn new(
        runtime: Runtime,
        connector: Connector,
        session: Session,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        exchange: Arc<Exchange>,
        queue: Exit<Box<dyn Job>>,
    ) -> Self {
        let group_max = connector.options().group_max.max(1);
        let id = Some(session.writer);
        let line = Line::Open(Box::new(session));
        let (pause, cross_group, remembers_since) = (PAUSE_MIN, CrossGroupCache::default(), None);
        let audit_head = None;
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
            state: Arc::default(),
            looked: Instant::now(),
            must_try: false,
            cross_group,
            audit_head,
            remembers_since,
        }
    }

    /// Whether its writes succeed.
    pub(crate) fn state(&self) -> Arc<WriteState> {
        Arc::clone(&self.state)
    }

    /// Runs until the store is dropped and every job is settled.
    pub(crate) fn run(mut self) {
        let _guard = AbortOnPanic;
        let mut group = Group::new();
        loop {
            // What makes room comes also while there is none.
            if self.must_try && self.looked.elapsed() >= LOOK_PAUSE {
                self.look();
            }
            match self.queue.take_group(&mut group, self.group_max, Some(LOOK_PAUSE)) {
                Ok(()) => self.commit(&mut group),
                Err(Nothing::Came) => self.look(),
                Err(Nothing::Left) => return,
            }
        }
    }

    /// Looks whether a write would succeed. A connection that was lost while
    /// nobody used it is made anew.
    fn look(&mut self) {
        self.looked = Instant::now();
        let mut fault = StorageFault::Unreachable;
        for _ in 0..2 {
            let Ok(session) = self.session(CONNECT_GRACE) else { return };
            let looked = self.runtime.block_on(async { timeout(LOOK_TIMEOUT, session.may_write()).await });
            fault = match looked {
                Ok(Ok(true)) => {
                    let fault = self.must_try.then(|| self.try_room(&session)).flatten();
                    self.must_try = fault.is_some();
                    self.line = Line::Open(session);
                    return self.state.set(fault);
                }
                // A standby must not be kept: another host may be the primary now.
                Ok(Ok(false)) => StorageFault::ReadOnly,
                Ok(Err(failure)) => failure.fault(),
                Err(_) => StorageFault::Unreachable,
            };
            self.line = Line::lost();
            if fault != StorageFault::Unreachable {
                break;
            }
        }
        self.state.set(Some(fault));
    }

    /// Whether there is room again; if not, why.
    fn try_room(&self, session: &Session) -> Option<StorageFault> {
        let tried = self.runtime.block_on(async { timeout(LOOK_TIMEOUT, session.try_room()).await });
        match tried {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure.fault()),
            Err(_) => Some(StorageFault::Unreachable),
        }
    }

    /// Runs a group of jobs in one transaction and settles them.
    fn commit(&mut self, group: &mut Group) {
        if self.state.is_full() {
            return self.relieve(group);
        }
        let outcome = self.persist(group);
        match outcome {
            Err(failure) if failure.fault() == StorageFault::Full && group.len() > 1 => self.relieve(group),
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

    /// Runs what makes room or shuts somebody out: each by itself, since one may find room where not all do.
    fn relieve(&mut self, group: &mut Group) {
        keep_relief(group);
        for job in group.drain(..) {
            let mut alone = vec![job];
            let outcome = self.persist(&mut alone).map_err(Failure::fault);
            alone.into_iter().for_each(|job| job.settle(outcome));
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
                tracing::error!(operations = group.len(), fault = %failure.fault(), "transaction failed");
                if let Failure::OfAll(fault) = failure {
                    if self.state.of_writes() != Some(fault) {
                        self.looked = Instant::now();
                    }
                    self.must_try |= fault == StorageFault::Full;
                    self.state.set(Some(fault));
                }
            }
        }
        outcome
    }

    /// Runs a group once. A connection that is lost before the commit was sent
    /// has changed nothing; after that, the writer's mark tells.
    fn attempt(&mut self, group: &mut Group) -> Attempt {
        let mut session = self.session(CONNECT_GRACE).map_err(Failure::OfAll)?;
        let (outcome, is_sent) = self.transact(&session, group);
        match outcome {
            Ok(committed) => {
                if committed.group_number > session.group_number {
                    self.state.written();
                }
                session.group_number = committed.group_number;
                self.line = Line::Open(session);
                Ok(())
            }
            Err(Failure::Lost) => {
                let number = session.group_number + 1;
                drop(session);
                self.line = Line::lost();
                if is_sent { self.was_committed(number) } else { Err(Failure::Again) }
            }
            Err(failure) => {
                let rolled_back = self.runtime.block_on(async {
                    timeout(CONNECT_TIMEOUT, session.client.batch_execute("ROLLBACK")).await
                });
                // A standby must not be kept: another host may be the primary now.
                let is_good =
                    matches!(rolled_back, Ok(Ok(()))) && failure != Failure::OfAll(StorageFault::ReadOnly);
                self.line = if is_good { Line::Open(session) } else { Line::lost() };
                Err(failure)
            }
        }
    }

    /// Whether this writer's group of that number was committed. Answers `Again`
    /// if it was not.
    fn was_committed(&mut self, number: i64) -> Attempt {
        let begun = Instant::now();
        while begun.elapsed() < OUTCOME_TIMEOUT {
            match self.session(PAUSE_MAX) {
                Ok(session) => {
                    let is_committed = session.group_number >= number;
                    tracing::info!(is_committed, "outcome of an unanswered commit found");
                    self.line = Line::Open(session);
                    return if is_committed { Ok(()) } else { Err(Failure::Again) };
                }
                Err(fault @ StorageFault::ReadOnly) => match self.read_mark() {
                    Some(mark) if mark.group_number >= number => return Ok(()),
                    Some(mark) if !mark.is_of_standby => return Err(Failure::OfAll(fault)),
                    _ if begun.elapsed() > STANDBY_TIMEOUT => return Err(Failure::OfAll(fault)),
                    _ => {}
                },
                Err(_) => {}
            }
            // Those who wait behind it need not: nothing of theirs was begun.
            let behind = self.queue.take_all();
            behind.into_iter().for_each(|job| job.settle(Err(StorageFault::Unreachable)));
            std::thread::sleep(PAUSE_MIN);
        }
        tracing::error!("commit outcome unknown; callers are told to retry");
        Err(Failure::OfAll(StorageFault::Unreachable))
    }

    /// The writer's mark, where a connection that could write cannot be had.
    fn read_mark(&self) -> Option<session::Mark> {
        let read = async {
            timeout(CONNECT_TIMEOUT, session::read_mark(&self.connector, self.id?)).await.ok()?.ok()
        };
        self.runtime.block_on(read)
    }

    /// The connection; what prevents it is kept for those who ask.
    fn session(&mut self, grace: Duration) -> Result<Box<Session>, StorageFault> {
        self.connected(grace).inspect_err(|fault| self.state.set(Some(*fault)))
    }

    /// The connection, made anew if need be and if that takes no longer than
    /// `grace`. A connection that was just lost is worth several attempts; one
    /// that could not be had before is tried again after a pause.
    fn connected(&mut self, grace: Duration) -> Result<Box<Session>, StorageFault> {
        let deadline = Instant::now() + grace;
        loop {
            let line = std::mem::replace(&mut self.line, Line::lost());
            let (mut opening, fault) = match line {
                Line::Open(session) if !session.client.is_closed() => return Ok(session),
                Line::Closed { until, fault } if until > Instant::now() => {
                    self.line = Line::Closed { until, fault };
                    return Err(fault);
                }
                Line::Opening(opening, fault) => (opening, fault),
                Line::Closed { fault, .. } => (self.opening(), fault),
                Line::Open(_) => (self.opening(), StorageFault::Unreachable),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match self.runtime.block_on(async { timeout(left, &mut opening).await }) {
                Err(_) => {
                    self.line = Line::Opening(opening, fault);
                    return Err(fault);
                }
                Ok(Ok(session)) => {
                    self.pause = PAUSE_MIN;
                    self.id = Some(session.writer);
                    // It may be another primary, or one that was restored.
                    self.cross_group.clear();
                    tracing::info!(place = %self.connector.options().place(), "connected to PostgreSQL");
                    return Ok(Box::new(session));
                }
                Ok(Err(failure))
                    if failure.fault() == StorageFault::Unreachable
                        && self.pause == PAUSE_MIN
                        && left > PAUSE_MIN =>
                {
                    std::thread::sleep(PAUSE_MIN);
                }
                Ok(Err(failure)) => {
                    let fault = failure.fault();
                    tracing::warn!(%fault, pause = ?self.pause, "no connection to PostgreSQL that can write");
                    self.line = Line::Closed { until: Instant::now() + self.pause, fault };
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                    return Err(fault);
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
        let mut reads = ReadSet::default();
        group.iter().for_each(|job| job.read_set(&mut reads));
        let mut transaction =
            PostgresTransaction::new(session, &self.runtime, self.clock.now(), self.audit_head.take());
        // Whatever was remembered before a visit may have changed during it.
        let alone_since = self.exchange.alone_since();
        if alone_since != self.remembers_since {
            self.cross_group.clear();
            self.remembers_since = alone_since;
        }
        let cross_group = alone_since.map(|_| &mut self.cross_group);
        let run = |transaction: &mut PostgresTransaction<'_>| {
            transaction.prefetch(&reads, cross_group)?;
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
        self.audit_head = transaction.audit_head.filter(|_| outcome.is_ok());
        // What was taken out of it is lost with the transaction, and what is
        // left may be what it failed for.
        if outcome.is_ok() && alone_since.is_some() {
            transaction.keep(&mut self.cross_group);
        } else {
            self.cross_group.clear();
        }
        (outcome, is_commit_sent)
    }
}
