//! Putting a device together: where the server is, who the device is, what it answers, and the
//! limits it keeps.

mod address;
mod events;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::answer::Answer;
use crate::call::Call;
use crate::clock::unix_now_s;
use crate::device::Device;
use crate::error::Error;
use crate::events::{self as device_events, EventSettings, Events};
use crate::handlers::Handlers;
use crate::identity::{Identity, TlsRoots};
use crate::journal::{Bounds, Journal};
use crate::log::Place as LogPlace;
#[cfg(feature = "renew")]
use crate::renewal::{Place, Renewal};
use crate::session::{Delays, Settings};
use crate::status::Counters;
use crate::twin::{Applied, Desired};
use address::parse_address;

/// Options of a device. Each method says its default.
#[derive(Debug)]
#[must_use = "a builder does nothing until build()"]
pub struct DeviceBuilder {
    server: Option<String>,
    identity: IdentitySource,
    tls_roots: Option<TlsRoots>,
    handlers: Arc<Handlers>,
    journal_dir: Option<PathBuf>,
    journal_sync: bool,
    journal_bounds: Bounds,
    event_bounds: device_events::Bounds,
    event_settings: EventSettings,
    events_in_flight_max: u16,
    rerun_interrupted: bool,
    concurrent_calls_max: usize,
    announce_ack: bool,
    request_at_most_once: bool,
    poll_interval: Option<Duration>,
    delays: Delays,
    stop_when_refused: bool,
    keep_alive_s: u16,
    packet_bytes_max: u32,
    shutdown_grace: Duration,
    #[cfg(feature = "renew")]
    renew_from: Option<String>,
}

#[derive(Debug)]
enum IdentitySource {
    Missing,
    Dir(PathBuf),
    Given(Box<Identity>),
}

impl Device {
    /// Begins a device.
    pub fn builder() -> DeviceBuilder {
        DeviceBuilder::new()
    }
}

impl DeviceBuilder {
    fn new() -> Self {
        Self {
            server: None,
            identity: IdentitySource::Missing,
            tls_roots: None,
            handlers: Arc::default(),
            journal_dir: None,
            journal_sync: true,
            journal_bounds: Bounds { entries_max: 1_000, bytes_max: 16 * 1024 * 1024 },
            event_bounds: device_events::Bounds { entries_max: 10_000, bytes_max: 16 * 1024 * 1024 },
            event_settings: EventSettings::default(),
            events_in_flight_max: 8,
            rerun_interrupted: false,
            concurrent_calls_max: 1,
            announce_ack: false,
            request_at_most_once: false,
            poll_interval: None,
            delays: Delays { min: Duration::from_millis(100), max: Duration::from_secs(30) },
            stop_when_refused: false,
            keep_alive_s: 60,
            packet_bytes_max: 1024 * 1024,
            shutdown_grace: Duration::from_secs(10),
            #[cfg(feature = "renew")]
            renew_from: None,
        }
    }

    /// The server, `mqtts://host:port` (port 8883 if left out). Required.
    pub fn server(mut self, url: impl Into<String>) -> Self {
        self.server = Some(url.into());
        self
    }

    /// The folder with `ca.pem`, `cert.pem` and `key.pem`, as `covey device add SN --out DIR`
    /// writes it. It is read by [`build`](Self::build). This or [`identity`](Self::identity) is
    /// required.
    pub fn identity_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.identity = IdentitySource::Dir(dir.as_ref().to_owned());
        self
    }

    /// An identity from elsewhere, e.g. [`Identity::from_pem`].
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = IdentitySource::Given(Box::new(identity));
        self
    }

    /// Trusted roots shared by many devices of this process, instead of the identity's own CA.
    pub fn tls_roots(mut self, roots: &TlsRoots) -> Self {
        self.tls_roots = Some(roots.clone());
        self
    }

    /// Handlers shared by many devices. Replaces what was registered before.
    pub fn handlers(mut self, handlers: Arc<Handlers>) -> Self {
        self.handlers = handlers;
        self
    }

    /// Answers a method code; see [`Handlers::on`].
    pub fn on<F, R>(self, method_code: u16, handler: F) -> Self
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Answer>> + Send + 'static,
    {
        self.register(|handlers| handlers.on(method_code, handler))
    }

    /// Answers a method name; see [`Handlers::on_method`].
    pub fn on_method<F, R>(self, name: &str, handler: F) -> Self
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Answer>> + Send + 'static,
    {
        self.register(|handlers| handlers.on_method(name, handler))
    }

    /// Sets a resource of the device's twin; see [`Handlers::on_desired`].
    pub fn on_desired<F, R>(self, resource: &str, handler: F) -> Self
    where
        F: Fn(Desired) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Applied>> + Send + 'static,
    {
        self.register(|handlers| handlers.on_desired(resource, handler))
    }

    /// Answers whatever no other handler takes. Without it: 501.
    pub fn fallback<F, R>(self, handler: F) -> Self
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Answer>> + Send + 'static,
    {
        self.register(|handlers| handlers.fallback(handler))
    }

    fn register(mut self, add: impl FnOnce(Handlers) -> Handlers) -> Self {
        let handlers = std::mem::take(Arc::make_mut(&mut self.handlers));
        self.handlers = Arc::new(add(handlers));
        self
    }

    /// The folder of the journal, `<dir>/<SN>.journal`, and of the queue of events,
    /// `<dir>/<SN>.events`. Default: none, both are in memory. Then a task is still executed once over reconnects and restarts of the *server*, but a
    /// restart of the *device* forgets: a task cut off by it runs again when the server delivers
    /// it again; results not yet committed and events not yet sent are lost; and events are
    /// numbered from a number at random.
    pub fn journal_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.journal_dir = Some(dir.as_ref().to_owned());
        self
    }

    /// Whether the journal waits for the disk (fdatasync) before a call runs and before its
    /// result goes, and the queue of events before an event is accepted. Default: yes. Without
    /// it a power failure may forget the last calls and events; a kill of the process does not.
    /// For simulators with thousands of devices.
    pub fn journal_sync(mut self, sync: bool) -> Self {
        self.journal_sync = sync;
        self
    }

    /// Tasks the journal remembers; default 1,000. When it is full, tasks that have expired go
    /// first, then the oldest committed ones, then the oldest not committed. At least the number
    /// of concurrent calls plus one.
    pub fn journal_entries_max(mut self, entries: usize) -> Self {
        self.journal_bounds.entries_max = entries;
        self
    }

    /// Bytes of results the journal remembers (160 added for each task); default 16 MiB. The
    /// file may be somewhat over twice as large before it is compacted.
    pub fn journal_bytes_max(mut self, bytes: usize) -> Self {
        self.journal_bounds.bytes_max = bytes;
        self
    }

    /// Whether a task that was cut off by a crash of the device runs again. Default: no, at
    /// most once: it is answered with 500 `{"error":"interrupted"}`.
    pub fn rerun_interrupted(mut self, rerun: bool) -> Self {
        self.rerun_interrupted = rerun;
        self
    }

    /// Calls that run at the same time; default 1, in the server's order. A task is asked for
    /// only when there is a free hand, so that priorities stay with the server.
    pub fn concurrent_calls_max(mut self, calls: usize) -> Self {
        self.concurrent_calls_max = calls;
        self
    }

    /// Whether announcements are acknowledged with `ack` (the task goes from READY to PENDING).
    /// Default: no, it costs a message for each call, and the `req` that follows says more.
    pub fn announce_ack(mut self, ack: bool) -> Self {
        self.announce_ack = ack;
        self
    }

    /// Sends `req` (and `ack`) with QoS 0 instead of 1: saves an acknowledgement. A lost one is
    /// sent again after 10 s. Default: no.
    pub fn request_at_most_once(mut self, at_most_once: bool) -> Self {
        self.request_at_most_once = at_most_once;
        self
    }

    /// Poll mode: no announcements; the device asks for its next task every `interval`, and at
    /// once after each task. Default: push mode.
    pub fn poll_every(mut self, interval: Duration) -> Self {
        self.poll_interval = Some(interval);
        self
    }

    /// Bounds of the wait between connection attempts, which grows from one to the other at
    /// random; default 100 ms to 30 s.
    pub fn reconnect_delay(mut self, min: Duration, max: Duration) -> Self {
        self.delays = Delays { min: min.min(max), max };
        self
    }

    /// Whether [`Device::run`] ends when the server refuses the device (unknown, revoked, wrong
    /// certificate). Default: no, it is tried again at half to the whole of the longest wait.
    pub fn stop_when_refused(mut self, stop: bool) -> Self {
        self.stop_when_refused = stop;
        self
    }

    /// MQTT keep alive in seconds; default 60, 0 for none. The server may set another.
    pub fn keep_alive_s(mut self, seconds: u16) -> Self {
        self.keep_alive_s = seconds;
        self
    }

    /// Largest message the server may send, in bytes; default 1 MiB. At least 1 KiB.
    pub fn packet_bytes_max(mut self, bytes: u32) -> Self {
        self.packet_bytes_max = bytes.max(1024);
        self
    }

    /// How long [`Device::run`] waits for running calls, and for commits of their results, when
    /// it is told to stop; default 10 s.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.shutdown_grace = grace;
        self
    }

    /// The server's HTTPS listener, `https://host:port`, from which the device renews its certificate when a third of its
    /// life is left. It needs [`identity_dir`](Self::identity_dir), where `renewed.pem` is stored. Default: none, it does not.
    #[cfg(feature = "renew")]
    pub fn renew_from(mut self, url: impl Into<String>) -> Self {
        self.renew_from = Some(url.into());
        self
    }

    /// Reads the identity, opens the journal and the events, and makes the device. Nothing is connected yet.
    ///
    /// # Errors
    /// See [`Error`]; each says what to put right.
    pub fn build(self) -> Result<Device, Error> {
        let address = parse_address(self.server.as_deref().unwrap_or_default())?;
        let (identity, dir) = match self.identity {
            IdentitySource::Missing => return Err(Error::IdentityMissing),
            IdentitySource::Dir(dir) => (Identity::from_dir(&dir)?, Some(dir)),
            IdentitySource::Given(identity) => (*identity, None),
        };
        let tls = identity.client_config(self.tls_roots.as_ref())?;
        #[cfg(feature = "renew")]
        let (tls, renewal) = match (self.renew_from, dir) {
            (None, _) => (tls, None),
            (Some(_), None) => return Err(Error::RenewalFolder),
            (Some(url), Some(dir)) => {
                let (tls, shown) = identity.renewable(self.tls_roots.as_ref())?;
                let mut over_https = tls.clone();
                // One that is resumed would go on with the certificate of before.
                over_https.resumption = rustls::client::Resumption::disabled();
                let (sn, place) = (identity.sn_shared(), Place::parse(&url)?);
                (tls, Some(Renewal { sn, place, dir, tls: Arc::new(over_https), shown }))
            }
        };
        #[cfg(not(feature = "renew"))]
        drop(dir);
        let tls = Arc::new(tls);
        let concurrent_calls_max = self.concurrent_calls_max.max(1);
        let bounds = Bounds {
            entries_max: self.journal_bounds.entries_max.max(concurrent_calls_max + 1),
            bytes_max: self.journal_bounds.bytes_max,
        };
        let counters = Counters::default();
        let (event_bounds, event_settings) = (self.event_bounds, self.event_settings);
        let (journal, events) = match self.journal_dir {
            None => (
                Journal::in_memory(bounds),
                Events::in_memory(event_bounds, event_settings, counters.clone()),
            ),
            Some(dir) => {
                let place = LogPlace { dir, sync: self.journal_sync };
                let sn = identity.sn();
                let journal = Journal::open(&place, sn, bounds, self.rerun_interrupted, unix_now_s())?;
                let events = Events::open(&place, sn, event_bounds, event_settings, counters.clone())?;
                (journal, events)
            }
        };
        let settings = Settings {
            sn: identity.sn_shared(),
            address,
            concurrent_calls_max,
            events_in_flight_max: self.events_in_flight_max,
            announce_ack: self.announce_ack,
            request_at_most_once: self.request_at_most_once,
            poll_interval: self.poll_interval,
            delays: self.delays,
            stop_when_refused: self.stop_when_refused,
            keep_alive_s: self.keep_alive_s,
            packet_bytes_max: self.packet_bytes_max,
            shutdown_grace: self.shutdown_grace,
        };
        let device = Device::new(settings, tls, self.handlers, journal, events, counters);
        #[cfg(feature = "renew")]
        let device = device.renewing(renewal);
        Ok(device)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_device_without_an_identity_is_told_so() {
        let error = Device::builder().server("mqtts://localhost").build();
        assert!(matches!(error, Err(Error::IdentityMissing)));
    }
}
