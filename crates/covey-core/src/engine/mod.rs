//! The engine: one method for each thing that can be asked for, behind three
//! faces: [`Engine::for_caller`] for applications, [`Engine::for_device`] for
//! devices, [`Engine::server`] for the server itself, which alone looks across
//! organisations. Each takes the request through the store and, after the
//! commit, tells those whom it concerns.

pub(crate) mod after_commit;
mod peers;
mod scans;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::access::{Caller, TakenNames};
use crate::announcer::Announcer;
use crate::audit::Refusals;
use crate::budget::{AllMeters, Budgets};
use crate::device::DeviceIdentity;
use crate::engine::after_commit::AfterCommit;
pub(crate) use crate::engine::scans::SCANS_PER_ORG_MAX;
use crate::engine::scans::{Scan, Scans};
use crate::error::{Error, Result, StorageFault};
use crate::event::SeriesCache;
use crate::feed::Feed;
use crate::id::UnixMs;
use crate::limits::Limits;
use crate::links::Links;
use crate::operation::{Answer, Operation, OperationJob};
use crate::own_limits::LimitTable;
use crate::port::{CertificateIssuer, Clock, Ids, KeyHasher, Observer, PageRequest, Peers, ReadKind, Store};
use crate::quota::Holdings;
use crate::retention::{RetentionClass, RetentionDays};
use crate::task::TaskCount;
use crate::unit::UnitAddressRule;
use crate::usage::Heard;
use crate::watch::Watchers;
use crate::webhook::WebhookSender;

/// The parts that an engine is made of.
pub struct Parts {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// The ways to devices.
    pub links: Links,
    /// The other servers of the deployment.
    pub peers: Arc<dyn Peers>,
    /// Who signs certificates.
    pub issuer: Arc<dyn CertificateIssuer>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where identifiers come from.
    pub ids: Arc<dyn Ids>,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// How API keys are digested.
    pub key_hasher: KeyHasher,
    /// The limits in force.
    pub limits: Limits,
    /// For how many days things are kept.
    pub retention: RetentionDays,
    /// What devices, keys and organisations may ask.
    pub budgets: Budgets,
    /// The type codes of gauges (device-events "Gauges").
    pub gauge_types: Vec<i64>,
    /// Where units may be.
    pub unit_rule: UnitAddressRule,
    /// Who sends webhooks.
    pub webhooks: Arc<dyn WebhookSender>,
    /// How long a message of a webhook is tried, in milliseconds.
    pub webhook_retry_ms: i64,
}

/// The domain of Covey, ready to be asked.
pub struct Engine {
    pub(crate) parts: Parts,
    pub(crate) after_commit: Arc<AfterCommit>,
    pub(crate) meters: AllMeters,
    pub(crate) taken_names: TakenNames,
    pub(crate) swept: Mutex<Swept>,
    pub(crate) series: SeriesCache,
    pub(crate) refusals: Refusals,
    pub(crate) own_limits: LimitTable,
    scans: Scans,
}

/// How far the sweeps have come.
#[derive(Clone, Copy, Default)]
pub(crate) struct Swept {
    /// The last lapse of a lease that was seen: its instant and its task's `seq`.
    pub(crate) lapse: (UnixMs, i64),
    /// How many overdue tasks like the last ones one sweep can take in.
    pub(crate) tasks_fitting: u32,
    /// When all idempotency keys that were too old had last been forgotten.
    pub(crate) keys_at: UnixMs,
    /// Where the forgetting of what is too old has come to.
    pub(crate) pruned: [i64; RetentionClass::NAMES.len()],
    /// Until when it was looked at which certificates were revoked.
    pub(crate) revoked_seen: UnixMs,
    /// When what is kept was last written and asked for, by the clock that never goes back, in milliseconds.
    pub(crate) counted_at_ms: Option<u64>,
}

/// How many tasks one sweep takes at a time.
/// Limit for each sweep: the rest follows at once.
pub(crate) const SWEEP_MAX: u32 = 1_000;
/// And how many overdue ones at least, however large they are.
pub(crate) const SWEEP_TASKS_MIN: u32 = 16;
/// How long idempotency keys may be kept beyond their time, in milliseconds.
pub(crate) const KEYS_SWEEP_MS: i64 = 60_000;

/// What an application can ask for, under its credential.
#[derive(Clone, Copy)]
pub struct ForCaller<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) caller: &'a Caller,
}

/// What a device can ask for, under its certificate.
#[derive(Clone, Copy)]
pub struct ForDevice<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) device: &'a DeviceIdentity,
}

/// What the server asks for itself, across all organisations. No handler of a
/// request from outside has business here, but for letting someone in.
#[derive(Clone, Copy)]
pub struct ForServer<'a> {
    pub(crate) engine: &'a Engine,
}

/// Largest page of a list.
/// Limit for each list: 422.
pub(crate) const PAGE_SIZE_MAX: u32 = 1_000;

impl Engine {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let after_commit = AfterCommit {
            announcer: Announcer::new(parts.limits.announcements_max),
            watchers: Arc::default(),
            feed: Arc::new(Feed::new(parts.limits.stream_bytes_max)),
            links: parts.links.clone(),
            peers: Arc::clone(&parts.peers),
            observer: Arc::clone(&parts.observer),
            clock: Arc::clone(&parts.clock),
            webhooks: Arc::clone(&parts.webhooks),
            holdings: Holdings::new(parts.limits.device_bytes_max, parts.limits.org_bytes_max),
            heard: Heard::default(),
        };
        let meters = AllMeters::new(&parts.budgets);
        let swept = Mutex::new(Swept { revoked_seen: parts.clock.now(), ..Swept::default() });
        let after_commit = Arc::new(after_commit);
        let (taken_names, series, scans) = (TakenNames::default(), SeriesCache::default(), Scans::default());
        let (refusals, own_limits) = (Refusals::default(), LimitTable::default());
        Self { parts, after_commit, meters, taken_names, swept, series, refusals, own_limits, scans }
    }

    /// What an application can ask for.
    #[must_use]
    pub const fn for_caller<'a>(&'a self, caller: &'a Caller) -> ForCaller<'a> {
        ForCaller { engine: self, caller }
    }

    /// What a device can ask for.
    #[must_use]
    pub const fn for_device<'a>(&'a self, device: &'a DeviceIdentity) -> ForDevice<'a> {
        ForDevice { engine: self, device }
    }

    /// What the server asks for itself.
    #[must_use]
    pub const fn server(&self) -> ForServer<'_> {
        ForServer { engine: self }
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.parts.limits
    }

    /// The present instant, by the engine's clock.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        self.parts.clock.now()
    }

    /// Runs an operation and waits for its commit.
    pub(crate) async fn execute<O: Operation>(&self, operation: O) -> Result<O::Output> {
        self.execute_then(operation, |_, _| ()).await
    }

    /// Runs an operation, does what follows from it once it is committed, and
    /// waits for both. It is done even if nobody waits any more.
    pub(crate) async fn execute_then<O: Operation>(
        &self,
        operation: O,
        then: impl FnOnce(&AfterCommit, &O::Output) + Send + 'static,
    ) -> Result<O::Output> {
        self.execute_with(operation, then).await.map(|(output, ())| output)
    }

    /// The same, where something comes of what follows.
    pub(crate) async fn execute_with<O: Operation, R: Send + 'static>(
        &self,
        operation: O,
        then: impl FnOnce(&AfterCommit, &O::Output) -> R + Send + 'static,
    ) -> Result<(O::Output, R)> {
        let answer = self.submit(operation, then)?;
        answer.await.unwrap_or(Err(Error::from(StorageFault::Stopped)))
    }

    pub(crate) fn submit<O: Operation, R: Send + 'static>(
        &self,
        operation: O,
        then: impl FnOnce(&AfterCommit, &O::Output) -> R + Send + 'static,
    ) -> Result<Answer<O, R>> {
        if let Some(fault) = self.parts.store.room().refuses(O::NEED) {
            return Err(fault.into());
        }
        if let Some((org, device)) = operation.adds_to() {
            self.after_commit.demand_quota(org, device)?;
        }
        let after_commit = Arc::clone(&self.after_commit);
        let (job, answer) = OperationJob::new(operation, move |output| then(&after_commit, output));
        self.parts.store.submit(job)?;
        Ok(answer)
    }

    pub(crate) fn pruned(&self, kept: RetentionClass) -> i64 {
        let place = RetentionClass::NAMES.iter().position(|(known, ..)| *known == kept);
        place.and_then(|place| self.swept().pruned.get(place).copied()).unwrap_or(0)
    }

    pub(crate) fn set_pruned(&self, kept: RetentionClass, after: i64) {
        let place = RetentionClass::NAMES.iter().position(|(known, ..)| *known == kept);
        if let Some(pruned) = place.and_then(|place| self.swept().pruned.get_mut(place).map(|_| place)) {
            self.swept().pruned[pruned] = after;
        }
    }

    pub(crate) fn swept(&self) -> MutexGuard<'_, Swept> {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> ForCaller<'a> {
    /// Begins a read; one that may cost much is counted until what is answered is dropped.
    pub(crate) fn begin_read(self, kind: ReadKind) -> Result<Option<Scan<'a>>> {
        self.engine.scans.begin(self.caller.org, kind)
    }
}

impl<'a> ForServer<'a> {
    /// Those who wait for tasks.
    #[must_use]
    pub fn watchers(self) -> &'a Arc<Watchers> {
        &self.engine.after_commit.watchers
    }

    /// How many devices listen for announcements.
    #[must_use]
    pub fn listening(self) -> usize {
        self.engine.after_commit.announcer.listening()
    }

    /// How many tasks are in each state, over all organisations.
    ///
    /// # Errors
    /// The store's.
    pub async fn task_counts_of_every_org(self) -> Result<Vec<TaskCount>> {
        self.engine.parts.store.task_counts_of_every_org().await
    }
}

impl PageRequest {
    /// Checks a page's number and size.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `page` or `size`.
    pub fn validate(self) -> Result<Self> {
        if self.page == 0 || self.page > 1_000_000_000 {
            return Err(Error::invalid("page", "must be 1 to 1000000000"));
        }
        if self.size == 0 || self.size > PAGE_SIZE_MAX {
            return Err(Error::invalid("size", "must be 1 to 1000"));
        }
        Ok(self)
    }

    /// How many entries come before this page.
    #[must_use]
    pub fn offset(self) -> u64 {
        u64::from(self.page.saturating_sub(1)) * u64::from(self.size)
    }
}
