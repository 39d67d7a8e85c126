//! The engine: one method for each thing that an application or a device can
//! ask for. Each takes the request through the store and, after the commit,
//! tells those whom it concerns.

mod device;
mod event;
mod outlet;
mod peers;
mod retention;
mod task;
mod twin;
mod webhook;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::announcer::Announcer;
use crate::engine::outlet::Outlet;
use crate::error::{Error, Result, StorageFault};
use crate::event::{Flood, Throttle};
use crate::id::UnixMs;
use crate::limits::Limits;
use crate::operation::{Operation, OperationJob};
use crate::port::{
    CertificateIssuer, Clock, Event, Ids, KeyHasher, Link, NoWebhooks, Observer, PageRequest, Peers, Step,
    Store, TaskCount, WebhookSender,
};
use crate::retention::{Kept, RetentionDays};
use crate::watch::Watchers;

/// The parts that an engine is made of.
pub struct Parts {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// The way to devices.
    pub link: Arc<dyn Link>,
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
    /// How many events a device may send.
    pub flood: Flood,
    /// The type codes of gauges (device-events "Gauges").
    pub gauge_types: Vec<i64>,
}

/// The domain of Covey, ready to be asked.
pub struct Engine {
    parts: Parts,
    outlet: Arc<Outlet>,
    throttle: Throttle,
    webhooks: Arc<dyn WebhookSender>,
    webhook_retry_ms: i64,
    swept: Mutex<Swept>,
}

/// How far the sweeps have come.
#[derive(Clone, Copy, Default)]
struct Swept {
    /// The last lapse of a lease that was seen: its instant and its task's `seq`.
    lapse: (UnixMs, i64),
    /// When all idempotency keys that were too old had last been forgotten.
    keys_at: UnixMs,
    /// Where the forgetting of what is too old has come to.
    pruned: [i64; Kept::NAMES.len()],
}

/// How many tasks one sweep takes at a time.
const SWEEP_MAX: u32 = 1_000;
/// How long idempotency keys may be kept beyond their time, in milliseconds.
const KEYS_SWEEP_MS: i64 = 60_000;

/// How long a message of a webhook is tried unless an operator says otherwise,
/// in milliseconds.
const WEBHOOK_RETRY_MS: i64 = 24 * 3_600_000;

/// Largest page of a list.
pub(crate) const PAGE_SIZE_MAX: u32 = 1_000;

impl Engine {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let outlet = Outlet {
            announcer: Announcer::new(parts.limits.announcements_max),
            watchers: Arc::default(),
            feed: Arc::default(),
            link: Arc::clone(&parts.link),
            peers: Arc::clone(&parts.peers),
            observer: Arc::clone(&parts.observer),
        };
        let throttle = Throttle::new(parts.flood);
        let webhooks = Arc::new(NoWebhooks);
        let webhook_retry_ms = WEBHOOK_RETRY_MS;
        Self {
            parts,
            outlet: Arc::new(outlet),
            throttle,
            webhooks,
            webhook_retry_ms,
            swept: Mutex::default(),
        }
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.parts.limits
    }

    /// Why the store can store nothing now; see [`Store::write_fault`].
    #[must_use]
    pub fn write_fault(&self) -> Option<StorageFault> {
        self.parts.store.write_fault()
    }

    /// The present instant, by the engine's clock.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        self.parts.clock.now()
    }

    /// Those who wait for tasks.
    #[must_use]
    pub fn watchers(&self) -> &Arc<Watchers> {
        &self.outlet.watchers
    }

    /// How many devices listen for announcements.
    #[must_use]
    pub fn listening(&self) -> usize {
        self.outlet.announcer.listening()
    }

    /// How many tasks are in each state, over all organisations.
    ///
    /// # Errors
    /// The store's.
    pub async fn task_counts_of_every_org(&self) -> Result<Vec<TaskCount>> {
        self.parts.store.task_counts_of_every_org().await
    }

    /// Runs an operation and waits for its commit.
    async fn execute<O: Operation>(&self, operation: O) -> Result<O::Output> {
        self.execute_then(operation, |_, _| ()).await
    }

    /// Runs an operation, tells those whom it concerns, and waits for both. It
    /// is carried out and told even if nobody waits any more.
    async fn execute_then<O: Operation>(
        &self,
        operation: O,
        tell: impl FnOnce(&Outlet, &O::Output) + Send + 'static,
    ) -> Result<O::Output> {
        let outlet = Arc::clone(&self.outlet);
        let (job, answer) = OperationJob::new(operation, move |output| tell(&outlet, output));
        self.parts.store.submit(job)?;
        answer.await.unwrap_or(Err(Error::from(StorageFault::Stopped)))
    }

    /// Runs an operation whose answer nobody waits for, and tells those whom it concerns.
    fn execute_later<O: Operation>(
        &self,
        operation: O,
        tell: impl FnOnce(&Outlet, &O::Output) + Send + 'static,
    ) -> Result<()> {
        let outlet = Arc::clone(&self.outlet);
        let (job, _) = OperationJob::new(operation, move |output| tell(&outlet, output));
        Ok(self.parts.store.submit(job)?)
    }

    fn took_since(&self, step: Step, began_us: u64) {
        let now_us = self.parts.clock.monotonic_us();
        self.parts.observer.took(step, now_us.saturating_sub(began_us));
    }

    /// Reports how long a step took by the times that are stored with a task.
    fn took_between(&self, step: Step, from: UnixMs, to: UnixMs) {
        let duration_ms = u64::try_from(to.since_ms(from)).unwrap_or(0);
        self.parts.observer.took(step, duration_ms.saturating_mul(1_000));
    }

    fn count(&self, event: Event) {
        self.parts.observer.happened(event);
    }

    fn pruned(&self, kept: Kept) -> i64 {
        let place = Kept::NAMES.iter().position(|(known, ..)| *known == kept);
        place.and_then(|place| self.swept().pruned.get(place).copied()).unwrap_or(0)
    }

    fn set_pruned(&self, kept: Kept, after: i64) {
        let place = Kept::NAMES.iter().position(|(known, ..)| *known == kept);
        if let Some(pruned) = place.and_then(|place| self.swept().pruned.get_mut(place).map(|_| place)) {
            self.swept().pruned[pruned] = after;
        }
    }

    fn swept(&self) -> MutexGuard<'_, Swept> {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner)
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
