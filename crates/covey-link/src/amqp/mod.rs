//! The link of a distributed deployment: RabbitMQ 4, which speaks MQTT with the
//! devices and AMQP 0-9-1 with any number of servers.
//!
//! Two connections: one publishes and may be blocked by the broker when it
//! runs out of memory or disk, the other takes what devices send and hears who
//! connects, and must go on then. A message of a device goes to one of the
//! servers; it is acknowledged after the commit, and after the broker has
//! confirmed the reply. Each server hears of each connect.
//!
//! The broker lets a device in if it has an account of the device's serial
//! number. Accounts are kept in step with the store over the management API.

mod accounts;
mod acks;
mod broker_clock;
mod connection;
mod dead;
mod deployment;
mod error;
mod intake;
mod management;
mod message;
mod options;
mod presence;
mod publisher;
mod running;
mod socket;
mod state;
mod topology;

use std::sync::Arc;

use covey_core::Engine;
use covey_core::id::Sn;
use covey_core::port::{Announcement, BoxFuture, Clock, Link, LinkState, Observer};
use tokio::sync::mpsc;

pub use accounts::{Audit, Difference, DifferenceKind, Registry, StoreRegistry, audit};
pub use dead::{DeadLetter, DeadLetters, Redriven};
pub use deployment::{Deployment, DeploymentFile, Passwords};
pub use error::AmqpError;
pub use options::Options;
pub use running::Running;

use crate::LinkStatus;
use crate::amqp::accounts::Accounts;
use crate::amqp::publisher::Publisher;
use crate::amqp::state::State;
use crate::identities::Identities;
use crate::refusal_log::RefusalLog;

/// How many announcements may wait to be published. What does not fit is
/// announced anew once there is room.
const ANNOUNCEMENTS_WAITING_MAX: usize = 16_384;

/// The name of this link.
pub const NAME: &str = "amqp";

/// The way from the core to devices that are connected to RabbitMQ.
pub struct AmqpLink {
    options: Options,
    clock: Arc<dyn Clock>,
    state: Arc<State>,
    publisher: Arc<Publisher>,
    accounts: Accounts,
    identities: Identities,
    refusals: RefusalLog,
    announcements: mpsc::Sender<Announcement>,
    /// The other end, until the link is started.
    waiting: std::sync::Mutex<Option<Waiting>>,
}

/// What was handed over before the link was started, and what comes after.
struct Waiting {
    announcements: mpsc::Receiver<Announcement>,
    accounts: accounts::Waiting,
}

impl AmqpLink {
    /// A link that is not connected yet. The engine is built on it, then it is
    /// started with both ([`Running::start`]).
    ///
    /// # Errors
    /// TLS files that cannot be used.
    pub fn new(
        options: Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, AmqpError> {
        let (announcements, waiting_announcements) = mpsc::channel(ANNOUNCEMENTS_WAITING_MAX);
        let (accounts, waiting_accounts) = Accounts::new(&options)?;
        let state = Arc::new(State::default());
        let waiting = Waiting { announcements: waiting_announcements, accounts: waiting_accounts };
        Ok(Arc::new(Self {
            publisher: Arc::new(Publisher::new(Arc::clone(&state))),
            accounts,
            identities: Identities::default(),
            refusals: RefusalLog::new(observer),
            announcements,
            waiting: std::sync::Mutex::new(Some(waiting)),
            options,
            clock,
            state,
        }))
    }

    /// How the link is.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.state.status()
    }

    /// How many messages for devices found nobody who listened, since the start.
    #[must_use]
    pub fn unheard(&self) -> u64 {
        self.publisher.returned()
    }

    fn take_waiting(&self) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    /// The device of a serial number, as it was not long ago.
    async fn device(
        &self,
        engine: &Engine,
        sn: &Sn,
    ) -> covey_core::error::Result<Option<Arc<covey_core::device::DeviceIdentity>>> {
        self.identities.of(engine, sn).await
    }
}

impl Link for AmqpLink {
    fn announce(&self, task: Announcement) {
        if let Err(refused) = self.announcements.try_send(task) {
            self.publisher.unheard(&refused.into_inner());
        }
    }

    fn revoke(&self, sn: &Sn) {
        self.identities.forget(sn);
        self.accounts.revoke(sn);
    }

    /// The broker knows names and not certificates, so all connections of the device end, and its account with the last
    /// certificate.
    fn revoke_certificate(&self, sn: &Sn, _: &str) {
        self.revoke(sn);
    }

    fn admit(&self, sn: &Sn) -> BoxFuture<'static, ()> {
        self.identities.forget(sn);
        self.accounts.admit(sn)
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn is_shared(&self) -> bool {
        true
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

    fn clock_ahead_ms(&self) -> Option<(i64, i64)> {
        self.options.clock.ahead_ms()
    }
}
