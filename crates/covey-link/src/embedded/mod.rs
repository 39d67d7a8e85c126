//! The embedded link: devices connect to this process, which speaks MQTT with them itself
//! ([`covey_net::mqtt`], [`covey_wire::mqtt`]).
//!
//! | what | is in |
//! | --- | --- |
//! | the listener: bound, renewed, stopped | `broker.rs` |
//! | who may connect | `admission.rs` |
//! | connections, subscriptions and messages as the engine sees them | `devices.rs` |
//! | devices' sessions in the store | `kept_sessions.rs` |
//! | a message to a device, as large as it takes | `delivery.rs` |
//! | microcontrollers, which have topics of their own | `microcontrollers/` |
//! | who goes on publishing where it may not | `trespass.rs` |
//!
//! The PUBACK of a message comes after the commit and has its reason code. No topic is routed between devices.

mod admission;
mod broker;
mod delivery;
mod devices;
mod kept_sessions;
mod microcontrollers;
mod trespass;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use covey_core::id::{DeviceKey, Sn};
use covey_core::port::{Announcement, BoxFuture, Clock, Link, Observer, Refusal};
use covey_net::mqtt::{Handle, Hub};
use covey_wire::downlink::DownlinkMessage;
use covey_wire::mqtt::ReasonCode;

use crate::conversion;
use crate::refusal_log::RefusalLog;
use delivery::Sent;
use devices::Devices;
use trespass::Trespasses;

pub use microcontrollers::Microcontrollers;

pub use covey_net::ImportedCa;

pub use broker::{Broker, BrokerError, BrokerOptions, DeviceLimits, HELD_BYTES_MAX, TlsFiles, serving};

/// The name of this link.
pub const NAME: &str = "embedded";

/// The way from the core to the devices that are connected here.
pub struct EmbeddedLink {
    /// Set when the [`Broker`] starts, which owns it.
    hub: OnceLock<Weak<Hub<Devices>>>,
    clock: Arc<dyn Clock>,
    refusals: RefusalLog,
    trespasses: Trespasses,
    /// The microcontrollers, where the server takes any.
    microcontrollers: OnceLock<Arc<Microcontrollers>>,
    /// The name of this server among those of its deployment.
    server: String,
}

impl EmbeddedLink {
    /// A link without devices, of the server with this name. The engine is built on it, then the
    /// [`Broker`] is started with both.
    #[must_use]
    pub fn new(server: &str, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<Self> {
        let refusals = RefusalLog::new(observer);
        let trespasses = Trespasses::default();
        let (hub, microcontrollers) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { hub, clock, refusals, trespasses, microcontrollers, server: server.to_owned() })
    }

    /// Takes microcontrollers too, whose topics begin with this prefix if there is one: the link that the engine
    /// reaches them by, beside this one. Without it they are turned away.
    pub fn taking_microcontrollers(self: &Arc<Self>, prefix: Option<&str>) -> Arc<Microcontrollers> {
        let made = || Microcontrollers::new(&Arc::downgrade(self), prefix);
        Arc::clone(self.microcontrollers.get_or_init(made))
    }

    /// How many devices are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.hub().map_or(0, |hub| hub.connected())
    }

    /// How many sessions there are, those of devices that are away included.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.hub().map_or(0, |hub| hub.sessions())
    }

    /// None before the broker starts and after it has stopped.
    fn hub(&self) -> Option<Arc<Hub<Devices>>> {
        self.hub.get()?.upgrade()
    }

    /// A device was refused a topic; answers for how long it is put out, if it is.
    fn put_out(&self, sn: &Sn) -> Option<Duration> {
        let pause = self.trespasses.note(sn, self.clock.monotonic_us() / 1_000)?;
        self.refusals.count(Refusal::PutOut);
        tracing::warn!(%sn, pause_s = pause.as_secs(), "device put out: it goes on where it may not");
        Some(pause)
    }

    /// Sends a message to the device with this serial number, if it is this registration of it.
    fn send(&self, sn: &Sn, device: DeviceKey, token: u64, message: &DownlinkMessage) -> Sent {
        let sent = self.hub().and_then(|hub| {
            hub.with(sn.as_str(), |client| delivery::send(client, sn, device, token, message))
        });
        sent.unwrap_or(Sent::Done)
    }
}

impl Link for EmbeddedLink {
    fn announce(&self, task: Announcement) {
        let message = conversion::announcement(&task, self.clock.now());
        if self.send(&task.sn, task.device, delivery::token(&task), &message) == Sent::TooLarge {
            tracing::warn!(
                sn = %task.sn,
                task = %task.id,
                "task not announced: larger than the device takes; it waits for a poll"
            );
        }
    }

    fn revoke(&self, sn: &Sn) {
        if let Some(hub) = self.hub() {
            hub.forget(sn.as_str(), ReasonCode::NotAuthorized, "the device was retired");
        }
    }

    fn revoke_certificate(&self, sn: &Sn, serial_hex: &str) {
        let close = |client: &mut Handle<'_, devices::Device>| {
            if client.client().came_with(serial_hex) {
                client.close(ReasonCode::NotAuthorized, "the certificate was revoked");
            }
        };
        // Its session stays, for who comes with a certificate that is good.
        self.hub().and_then(|hub| hub.with(sn.as_str(), close));
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn admit(&self, _: &Sn) -> BoxFuture<'static, ()> {
        // Nothing to prepare: every CONNECT is looked up.
        Box::pin(std::future::ready(()))
    }

    fn is_shared(&self) -> bool {
        false
    }
}
