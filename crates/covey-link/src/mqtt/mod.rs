//! The link over any MQTT 5 broker, which several servers may share.
//!
//! Servers are clients of the broker like devices are. What devices publish
//! comes over shared subscriptions (MQTT 5 §4.8.2), so that one server gets
//! each message; what is told of devices' connections, every server hears.
//! The broker checks certificates and topics; what it must be configured to do
//! is in docs/mqtt-brokers.md.

mod accounts;
mod broker_log;
mod client_events;
mod connection;
mod downlink;
mod dynamic_security;
mod error;
mod notes;
mod options;
mod presence;
mod running;
mod session_store;
mod shared;
mod sight;
mod uplink;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use covey_core::id::Sn;
use covey_core::port::{Announcement, BoxFuture, Clock, Event, Link, Observer, Refusal};
use tokio::sync::{mpsc, oneshot};

use crate::LinkStatus;
use crate::complaints::Complaints;
use crate::mqtt::accounts::{ORDERS_MAX, Order};

pub use error::MqttError;
pub use options::Options;
pub use running::Running;

/// How long the broker may be out of reach before new calls are refused.
const DOWN_PATIENCE: Duration = Duration::from_secs(5);
/// How long the registration of a device waits for its account.
const ADMIT_TIMEOUT: Duration = Duration::from_secs(3);

/// The name of this link.
pub const NAME: &str = "mqtt";

/// The way from the core to the devices at the broker.
pub struct MqttLink {
    options: Options,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    standing: Mutex<Standing>,
    announcements: mpsc::Sender<Announcement>,
    announcements_dropped: AtomicU64,
    orders: mpsc::Sender<Order>,
    complaints: Complaints,
    /// The other ends, until the link runs.
    outlets: Mutex<Option<Outlets>>,
}

/// How the link is, and since when.
struct Standing {
    status: LinkStatus,
    since: Instant,
}

/// What a link has been told and a running link works off.
struct Outlets {
    announcements: mpsc::Receiver<Announcement>,
    orders: mpsc::Receiver<Order>,
}

impl MqttLink {
    /// A link that does not run yet. The engine is built on it, then
    /// [`Running::start`] is called with both.
    ///
    /// # Errors
    /// [`MqttError`] for options or certificate files that cannot be used.
    pub fn new(
        options: Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, MqttError> {
        options.check()?;
        connection::transport(&options)?;
        let (announcements, announcements_out) = mpsc::channel(downlink::ANNOUNCEMENTS_MAX);
        let (orders, orders_out) = mpsc::channel(ORDERS_MAX);
        Ok(Arc::new(Self {
            options,
            clock,
            observer,
            standing: Mutex::new(Standing { status: LinkStatus::Down, since: Instant::now() }),
            announcements,
            announcements_dropped: AtomicU64::new(0),
            orders,
            complaints: Complaints::default(),
            outlets: Mutex::new(Some(Outlets { announcements: announcements_out, orders: orders_out })),
        }))
    }

    /// Whether messages can go both ways.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.standing().status
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many announcements were not handed to the broker. Nothing is lost by
    /// one: the task is announced again.
    #[must_use]
    pub fn announcements_dropped(&self) -> u64 {
        self.announcements_dropped.load(Ordering::Relaxed)
    }

    fn set_status(&self, status: LinkStatus) {
        let mut standing = self.standing();
        if standing.status != status {
            *standing = Standing { status, since: Instant::now() };
        }
    }

    fn refuse(&self, reason: Refusal) {
        self.observer.happened(Event::Refused(reason));
    }

    /// Counts a refusal, if nobody else does.
    fn count(&self, refusal: Option<Refusal>) {
        if let Some(refusal) = refusal {
            self.refuse(refusal);
        }
    }

    fn drop_announcement(&self) {
        self.announcements_dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn take_outlets(&self) -> Option<Outlets> {
        self.outlets.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Link for MqttLink {
    fn announce(&self, task: Announcement) {
        if self.announcements.try_send(task).is_err() {
            self.drop_announcement();
        }
    }

    fn revoke(&self, sn: &Sn) {
        if self.orders.try_send(Order::Revoke(sn.clone())).is_err() {
            tracing::error!(%sn, "an account is not removed now: too many wait; the next audit removes it");
        }
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn admit(&self, sn: &Sn) -> BoxFuture<'static, ()> {
        let sn = sn.clone();
        let (done, is_done) = oneshot::channel();
        let is_ordered = self.orders.try_send(Order::Admit(sn.clone(), done)).is_ok();
        Box::pin(async move {
            let confirmed = tokio::time::timeout(ADMIT_TIMEOUT, is_done);
            if !is_ordered || !matches!(confirmed.await, Ok(Ok(()))) {
                tracing::warn!(%sn, "the broker has not confirmed the account; the next audit makes it");
            }
        })
    }

    fn is_blocked(&self) -> bool {
        let standing = self.standing();
        standing.status != LinkStatus::Up && standing.since.elapsed() > DOWN_PATIENCE
    }

    fn is_shared(&self) -> bool {
        true
    }
}
