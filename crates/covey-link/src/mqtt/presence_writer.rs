//! Writes what was seen of devices: who is connected goes to the store, who listens to the engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use covey_core::Engine;
use covey_core::device::{Connection, DeviceIdentity};
use covey_core::error::Error;
use covey_core::id::Sn;
use covey_core::port::Refusal;
use tokio::sync::mpsc;

use crate::disconnect_reason::DisconnectReason;
use crate::identities::Identities;
use crate::mqtt::accounts::Accounts;
use crate::mqtt::connection::Backoff;
use crate::mqtt::link::NAME;
use crate::mqtt::presence::{CONTACT_SESSION, Known, Presence, Sighting, Source};
use crate::mqtt::state::State;
use crate::refusal_log::RefusalLog;

/// How often one sighting is tried while the store fails.
const ATTEMPTS_MAX: u32 = 8;
/// The first and the longest wait before announcing again to a device that did not listen, where
/// the broker does not report subscriptions.
const RETRY_MIN: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Writes sightings.
pub(super) struct PresenceWriter {
    pub(super) engine: Arc<Engine>,
    pub(super) identities: Arc<Identities>,
    pub(super) presence: Arc<Presence>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) refusals: Arc<RefusalLog>,
    pub(super) state: Arc<State>,
}

impl PresenceWriter {
    /// Writes the sightings of some devices until the link stops.
    pub(super) async fn run(self: Arc<Self>, mut inbox: mpsc::Receiver<Sighting>) {
        loop {
            let sighting = tokio::select! {
                sighting = inbox.recv() => sighting,
                () = self.state.stop.cancelled() => return,
            };
            let Some(sighting) = sighting else { return };
            let mut backoff = Backoff::new();
            for attempt in 1..=ATTEMPTS_MAX {
                match self.write(&sighting).await {
                    Ok(()) => break,
                    Err(problem) => {
                        tracing::warn!(sn = %sighting.sn(), %problem, attempt, "presence not written");
                        if attempt == ATTEMPTS_MAX {
                            self.presence.has_missed.store(true, Ordering::Release);
                        }
                        tokio::time::sleep(backoff.after_failure()).await;
                    }
                }
            }
        }
    }

    async fn write(&self, sighting: &Sighting) -> Result<(), Error> {
        match sighting {
            Sighting::Connected { sn, session, address, protocol, is_clean, source } => {
                let Some(device) = self.identities.of(&self.engine, sn).await? else {
                    self.refusals.count(Refusal::NotAdmitted);
                    self.presence.forget(sn);
                    tracing::warn!(%sn, "unregistered device connected to the broker");
                    self.accounts.expel(sn.clone());
                    return Ok(());
                };
                let details = details(address.as_deref(), Some(protocol), *source);
                let connection = Connection { session: session.clone(), details, ..Connection::default() };
                let is_first = self.engine.for_device(&device).connected_to_broker(connection).await?;
                let known = Known {
                    session: Some(session.clone()),
                    source: *source,
                    has_properties: *protocol == "MQTT 5",
                    is_first,
                    listens: false,
                    contact_at: Instant::now(),
                    retry: None,
                };
                self.presence.known.insert(sn.clone(), known);
                // A resumed session may have subscriptions. A clean one has none; the broker reports
                // when it subscribes.
                if *is_clean {
                    self.engine.for_device(&device).unsubscribed();
                } else {
                    self.listens(&device);
                }
            }
            Sighting::Subscribed { sn } => {
                if let Some(device) = self.identities.of(&self.engine, sn).await? {
                    self.listens(&device);
                }
            }
            Sighting::Gone { sn, session, reason } => self.gone(sn, session.as_deref(), *reason).await?,
            Sighting::Contact { device } => self.contact(device).await?,
            Sighting::Unheard { device } => {
                self.engine.for_device(device).unsubscribed();
                if let Some(mut known) = self.presence.known.get_mut(&device.sn) {
                    known.listens = false;
                    // Mosquitto reports when it subscribes; elsewhere announcing is retried.
                    if known.session.is_some() && known.source != Source::MosquittoLog {
                        let wait =
                            known.retry.map_or(RETRY_MIN, |(_, wait)| wait.saturating_mul(2).min(RETRY_MAX));
                        known.retry = Some((Instant::now() + wait, wait));
                    }
                }
            }
            Sighting::Silent { sn } => self.silent(sn).await?,
        }
        Ok(())
    }

    async fn gone(&self, sn: &Sn, ended: Option<&str>, reason: DisconnectReason) -> Result<(), Error> {
        let session = self.presence.known.get(sn).and_then(|known| known.session.clone());
        // It has connected again since.
        if ended.is_some_and(|ended| {
            session.as_deref().is_some_and(|now| now != CONTACT_SESSION && !now.starts_with(ended))
        }) {
            return Ok(());
        }
        let Some(device) = self.identities.of(&self.engine, sn).await? else {
            self.presence.forget(sn);
            return Ok(());
        };
        self.engine.for_device(&device).unsubscribed();
        if let Some(session) = session {
            self.engine.for_device(&device).disconnected_from_broker(reason.end(session)).await?;
        }
        if let Some(mut known) = self.presence.known.get_mut(sn) {
            known.session = None;
            known.listens = false;
            known.retry = None;
        }
        Ok(())
    }

    /// A device sent something: it is connected, whatever else is known.
    async fn contact(&self, device: &DeviceIdentity) -> Result<(), Error> {
        let sn = &device.sn;
        let (is_told, is_listening) = self.presence.known.get(sn).map_or((false, false), |known| {
            (known.session.as_deref().is_some_and(|session| session != CONTACT_SESSION), known.listens)
        });
        if !is_told {
            let details = details(None, None, Source::LastContact);
            let session = CONTACT_SESSION.to_owned();
            let connection = Connection { session, details, ..Connection::default() };
            self.engine.for_device(device).connected_to_broker(connection).await?;
            let mut known = self.presence.known.entry(sn.clone()).or_insert_with(Known::unseen);
            known.session = Some(CONTACT_SESSION.to_owned());
            known.source = Source::LastContact;
            known.is_first = true;
            known.contact_at = Instant::now();
        }
        if !is_listening {
            self.listens(device);
        }
        Ok(())
    }

    /// A device of which only messages are known has sent none for a while. It
    /// may still listen.
    async fn silent(&self, sn: &Sn) -> Result<(), Error> {
        let is_silent = self.presence.known.get(sn).is_some_and(|known| {
            known.session.as_deref() == Some(CONTACT_SESSION)
                && known.contact_at.elapsed() > self.presence.contact
        });
        if !is_silent {
            return Ok(());
        }
        if let Some(device) = self.identities.of(&self.engine, sn).await? {
            let connection = DisconnectReason::Silent.end(CONTACT_SESSION.to_owned());
            self.engine.for_device(&device).disconnected_from_broker(connection).await?;
        }
        if let Some(mut known) = self.presence.known.get_mut(sn) {
            known.session = None;
        }
        Ok(())
    }

    /// A device listens. The server that wrote its connection first announces to it.
    pub(super) fn listens(&self, device: &DeviceIdentity) {
        let mut known = self.presence.known.entry(device.sn.clone()).or_insert_with(Known::unseen);
        known.listens = true;
        if known.is_first {
            self.engine.for_device(device).subscribed(NAME);
        } else {
            self.engine.for_device(device).subscribed_elsewhere(NAME);
        }
    }
}

fn details(address: Option<&str>, protocol: Option<&str>, source: Source) -> Vec<(String, String)> {
    let detail = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    address
        .map(|value| detail("address", value))
        .into_iter()
        .chain(protocol.map(|value| detail("protocol", value)))
        .chain([detail("source", source.name())])
        .collect()
}
