//! The embedded link: the MQTT broker `rmqtt` inside the process, driven by its hooks.
//!
//! The ACL hook handles a message of a device, because the broker awaits that hook before the
//! PUBACK and takes its answer as the PUBACK's reason code. For an event the answer comes later,
//! so that many events of one device share a commit; the broker keeps the order of the PUBACKs.
//! Messages to a device go straight into its session. No topic is routed between devices.

mod admission;
mod hooks;
mod listener;
mod publish;
mod sessions;

use std::sync::Arc;

use covey_core::Engine;
use covey_core::id::Sn;
use covey_core::port::{Announcement, BoxFuture, Clock, Link, Observer};
use covey_wire::downlink::ResponseForm;
use rmqtt::context::ServerContext;

use crate::conversion;
use crate::refusal_log::RefusalLog;

pub use listener::{Broker, BrokerError, BrokerOptions, TlsFiles};

/// The name of this link.
pub const NAME: &str = "embedded";

/// The way from the core to the devices that are connected here.
pub struct EmbeddedLink {
    sessions: sessions::Sessions,
    clock: Arc<dyn Clock>,
    refusals: RefusalLog,
    /// The name of this server among those of its deployment.
    server: String,
}

impl EmbeddedLink {
    /// A link without devices, of the server with this name. The engine is built on it, then the
    /// [`Broker`] is started with both.
    #[must_use]
    pub fn new(server: &str, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<Self> {
        let (sessions, refusals) = (sessions::Sessions::default(), RefusalLog::new(observer));
        Arc::new(Self { sessions, clock, refusals, server: server.to_owned() })
    }

    /// How many devices are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.sessions.online()
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
        // Nothing to prepare: the broker asks at every CONNECT.
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
    response_form: ResponseForm,
}
