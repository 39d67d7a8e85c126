//! The device itself: built, watched, and run until it is told to stop.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::events::{EventDraft, Events, StopsEvents};
use crate::handlers::Handlers;
use crate::journal::Journal;
use crate::session::{self, Parts, Settings};
use crate::status::{Counters, Status, StatusSender};

/// A device, ready to run.
pub struct Device {
    parts: Parts,
    #[cfg(feature = "renew")]
    renewal: Option<crate::renewal::Renewal>,
}

impl Device {
    pub(crate) fn new(
        settings: Settings,
        tls: Arc<ClientConfig>,
        handlers: Arc<Handlers>,
        journal: Journal,
        events: Events,
        counters: Counters,
    ) -> Self {
        Self {
            parts: Parts {
                settings,
                tls,
                handlers,
                journal: Arc::new(journal),
                status: Arc::new(StatusSender::new()),
                counters,
                events: StopsEvents(events),
            },
            #[cfg(feature = "renew")]
            renewal: None,
        }
    }

    #[cfg(feature = "renew")]
    pub(crate) fn renewing(self, renewal: Option<crate::renewal::Renewal>) -> Self {
        Self { renewal, ..self }
    }

    /// The SN, from the certificate.
    #[must_use]
    pub fn sn(&self) -> &str {
        &self.parts.settings.sn
    }

    /// The connection's status, to be watched while the device runs.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.parts.status.subscribe()
    }

    /// The device's counters, to be read while it runs.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.parts.counters.clone()
    }

    /// The device's way to tell of events, also while it runs.
    #[must_use]
    pub fn events(&self) -> Events {
        self.parts.events.0.clone()
    }

    /// Begins an event; see [`Events::event`].
    pub fn event(&self, type_code: u32) -> EventDraft {
        self.parts.events.0.event(type_code)
    }

    /// Begins an event about a resource of the twin; see [`Events::report`].
    pub fn report(&self, resource: &str, value: impl Serialize) -> EventDraft {
        self.parts.events.0.report(resource, value)
    }

    /// Connects, answers calls, sends events, and connects again whenever the connection is lost,
    /// until `stop` is cancelled. Then it takes no new calls, lets running ones finish, their
    /// results be committed and its events be acknowledged for up to
    /// [`shutdown_grace`](crate::DeviceBuilder::shutdown_grace), and returns.
    ///
    /// A call that is cut off by the end of the grace counts as interrupted; see
    /// [`rerun_interrupted`](crate::DeviceBuilder::rerun_interrupted).
    ///
    /// # Errors
    /// [`Error::Refused`], with [`stop_when_refused`](crate::DeviceBuilder::stop_when_refused) only.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        #[cfg(feature = "renew")]
        let _ends_renewals = self.renewal.map(|renewal| {
            let ended = CancellationToken::new();
            tokio::spawn(renewal.run(ended.clone()));
            ended.drop_guard()
        });
        session::run(self.parts, stop).await
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("settings", &self.parts.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawnable<T: Send + 'static>(_: impl FnOnce(Device, CancellationToken) -> T) {}

    #[test]
    fn a_device_can_be_spawned() {
        spawnable(Device::run);
    }
}
