//! The link of the embedded mode: the MQTT broker `rmqtt` inside the process,
//! driven by its hooks.
//!
//! A message of a device is handled in the ACL hook, because that hook is
//! awaited before the PUBACK and its answer is the PUBACK's reason code: first
//! who sends it, then one operation of the core, then the code. For an event
//! the answer comes later, so that many events of one device share a commit;
//! the broker keeps the order of the PUBACKs. What the
//! server says to a device goes straight into that device's session; topics
//! are never routed from one device to another.

mod admission;
mod hooks;
mod listener;
mod sessions;
mod uplink;

use std::sync::Arc;

use covey_core::Engine;
use covey_core::id::Sn;
use covey_core::port::{Announcement, BoxFuture, Clock, Event, Link, Observer, Refusal};
use rmqtt::context::ServerContext;

use crate::complaints::Complaints;
use crate::conversion;

pub use listener::{Broker, BrokerError, BrokerOptions, TlsFiles};

/// The name of this link.
pub const NAME: &str = "embedded";

/// The way from the core to the devices that are connected here.
pub struct EmbeddedLink {
    sessions: sessions::Sessions,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    /// The name of this server among those of its deployment.
    server: String,
    complaints: Complaints,
}

impl EmbeddedLink {
    /// A link without devices, of the server with this name. The engine is built on it, then the
    /// [`Broker`] is started with both.
    #[must_use]
    pub fn new(server: &str, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<Self> {
        let sessions = sessions::Sessions::default();
        let (server, complaints) = (server.to_owned(), Complaints::default());
        Arc::new(Self { sessions, clock, observer, server, complaints })
    }

    /// How many devices are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.sessions.online()
    }

    fn refuse(&self, reason: Refusal) {
        self.observer.happened(Event::Refused(reason));
    }

    /// Ends all connections, saying that the server shuts down.
    fn close_all(&self) {
        self.sessions.close_all();
    }
}

impl Link for EmbeddedLink {
    fn announce(&self, task: Announcement) {
        let message = conversion::announcement(&task, self.clock.now());
        self.sessions.send(task.sn.as_str(), Some(task.device), &message);
    }

    fn revoke(&self, sn: &Sn) {
        self.sessions.revoke(sn.as_str());
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn admit(&self, _: &Sn) -> BoxFuture<'static, ()> {
        // Whoever is registered is admitted: the broker asks at every CONNECT.
        Box::pin(std::future::ready(()))
    }

    fn is_shared(&self) -> bool {
        false
    }
}

/// What the hooks are made of.
#[derive(Clone)]
struct Shared {
    link: Arc<EmbeddedLink>,
    engine: Arc<Engine>,
    broker: ServerContext,
}
