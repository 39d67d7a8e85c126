//! The engine: one method for each thing that an application or a device can
//! ask for. Each takes the request through the store and, after the commit,
//! tells those whom it concerns.

mod device;
mod outlet;
mod peers;
mod task;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::announcer::Announcer;
use crate::engine::outlet::Outlet;
use crate::error::{Error, Result, StorageFault};
use crate::id::UnixMs;
use crate::limits::Limits;
use crate::operation::{Operation, OperationJob};
use crate::port::{
    CertificateIssuer, Clock, Event, Ids, KeyHasher, Link, Observer, PageRequest, Peers, Step, Store,
    TaskCount,
};
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
}

/// The domain of Covey, ready to be asked.
pub struct Engine {
    parts: Parts,
    outlet: Arc<Outlet>,
    swept: Mutex<Swept>,
}

/// How far the sweeps have come.
#[derive(Clone, Copy, Default)]
struct Swept {
    /// The last lapse of a lease that was seen: its instant and its task's `seq`.
    lapse: (UnixMs, i64),
    /// When all idempotency keys that were too old had last been forgotten.
    keys_at: UnixMs,
}

/// How many tasks one sweep takes at a time.
const SWEEP_MAX: u32 = 1_000;
/// How long idempotency keys may be kept beyond their time, in milliseconds.
const KEYS_SWEEP_MS: i64 = 60_000;

/// Largest page of a list.
pub(crate) const PAGE_SIZE_MAX: u32 = 1_000;

impl Engine {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let outlet = Outlet {
            announcer: Announcer::new(parts.limits.announcements_max),
            watchers: Arc::default(),
            link: Arc::clone(&parts.link),
            peers: Arc::clone(&parts.peers),
            observer: Arc::clone(&parts.observer),
        };
        Self { parts, outlet: Arc::new(outlet), swept: Mutex::default() }
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

    /// Runs an operation whose answer nobody needs.
    fn execute_later<O: Operation>(&self, operation: O) -> Result<()> {
        let (job, _) = OperationJob::new(operation, |_| ());
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
