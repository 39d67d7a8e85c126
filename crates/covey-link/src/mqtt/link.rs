//! The core's side of the link: what it is told to announce, admit and revoke.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use covey_core::id::Sn;
use covey_core::port::{Announcement, BoxFuture, Clock, Link, LinkState, Observer};
use tokio::sync::{mpsc, oneshot};

use crate::LinkStatus;
use crate::mqtt::accounts::{ORDERS_MAX, Order};
use crate::mqtt::announcer::ANNOUNCEMENTS_MAX;
use crate::mqtt::connection;
use crate::mqtt::error::MqttError;
use crate::mqtt::options::Options;
use crate::mqtt::state::State;
use crate::refusal_log::RefusalLog;

/// The name of this link among those of a server.
pub const NAME: &str = "mqtt";
/// How long the registration of a device waits for its account.
const ADMIT_TIMEOUT: Duration = Duration::from_secs(3);

/// The way from the core to the devices at the broker.
pub struct MqttLink {
    pub(super) options: Options,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) refusals: Arc<RefusalLog>,
    pub(super) state: Arc<State>,
    announcements: mpsc::Sender<Announcement>,
    orders: mpsc::Sender<Order>,
    /// The receiving ends, until the link runs.
    inboxes: Mutex<Option<Inboxes>>,
}

/// What the core asks of a running link.
pub(super) struct Inboxes {
    pub(super) announcements: mpsc::Receiver<Announcement>,
    pub(super) orders: mpsc::Receiver<Order>,
}

impl MqttLink {
    /// A link that does not run yet. The engine is built on it, then
    /// [`Running::start`](crate::mqtt::Running::start) is called with both.
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
        let (announcements, announcements_inbox) = mpsc::channel(ANNOUNCEMENTS_MAX);
        let (orders, orders_inbox) = mpsc::channel(ORDERS_MAX);
        let inboxes = Inboxes { announcements: announcements_inbox, orders: orders_inbox };
        Ok(Arc::new(Self {
            options,
            clock,
            refusals: Arc::new(RefusalLog::new(observer)),
            state: Arc::new(State::new()),
            announcements,
            orders,
            inboxes: Mutex::new(Some(inboxes)),
        }))
    }

    /// Whether messages can go both ways.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.state.status()
    }

    /// How many announcements were not handed to the broker. Nothing is lost by
    /// one: the task is announced again.
    #[must_use]
    pub fn announcements_dropped(&self) -> u64 {
        self.state.announcements_dropped()
    }

    pub(super) fn take_inboxes(&self) -> Option<Inboxes> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Link for MqttLink {
    fn announce(&self, task: Announcement) {
        if self.announcements.try_send(task).is_err() {
            self.state.drop_announcement();
        }
    }

    fn revoke(&self, sn: &Sn) {
        if self.orders.try_send(Order::Revoke(sn.clone())).is_err() {
            tracing::error!(%sn, "account not removed: too many wait; the next audit removes it");
        }
    }

    /// The broker knows names and not certificates, so the device's connection ends, and its account with the last
    /// certificate.
    fn revoke_certificate(&self, sn: &Sn, _: &str) {
        self.revoke(sn);
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn admit(&self, sn: &Sn) -> BoxFuture<'static, ()> {
        let sn = sn.clone();
        let (done, is_done) = oneshot::channel();
        let order = self.orders.try_send(Order::Admit(sn.clone(), done));
        let orders = self.orders.clone();
        Box::pin(async move {
            let admitting = async {
                // Those that found no room wait for it, as long as a registration waits.
                if let Err(mpsc::error::TrySendError::Full(order)) = order {
                    orders.send(order).await.ok()?;
                }
                is_done.await.ok()
            };
            if tokio::time::timeout(ADMIT_TIMEOUT, admitting).await.ok().flatten().is_none() {
                tracing::warn!(%sn, "account not confirmed by the broker; the next audit makes it");
            }
        })
    }

    fn is_blocked(&self) -> bool {
        self.state.is_refusing()
    }

    fn state(&self) -> LinkState {
        self.state.link_state()
    }

    fn problem(&self) -> Option<String> {
        self.state.outage.problem()
    }

    fn is_shared(&self) -> bool {
        true
    }
}
