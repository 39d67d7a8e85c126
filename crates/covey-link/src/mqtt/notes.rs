//! Takes note of what was seen of devices: the store is told who is connected,
//! the engine who listens.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use covey_core::device::{Connection, DeviceIdentity};
use covey_core::error::Error;
use covey_core::id::Sn;
use covey_core::port::Refusal;
use tokio::sync::mpsc;

use crate::ending;
use crate::mqtt::connection::Backoff;
use crate::mqtt::presence::{CONTACT_SESSION, Known, Sighting, Source};
use crate::mqtt::shared::Shared;

/// How often a failing store is asked again about one sighting.
const ATTEMPTS_MAX: u32 = 8;
/// The first and the longest wait before a device that does not listen, of a
/// broker that does not tell of subscriptions, is tried again.
const RETRY_MIN: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Takes note of what is seen of some of the devices.
pub(super) async fn take_note(shared: Arc<Shared>, mut inbox: mpsc::Receiver<Sighting>) {
    loop {
        let sighting = tokio::select! {
            sighting = inbox.recv() => sighting,
            () = shared.stop.cancelled() => return,
        };
        let Some(sighting) = sighting else { return };
        let mut backoff = Backoff::new();
        for attempt in 1..=ATTEMPTS_MAX {
            match note_one(&shared, &sighting).await {
                Ok(()) => break,
                Err(problem) => {
                    tracing::warn!(sn = %sighting.sn(), %problem, attempt, "a connection could not be noted");
                    if attempt == ATTEMPTS_MAX {
                        shared.presence.has_missed.store(true, Ordering::Release);
                    }
                    tokio::time::sleep(backoff.after_failure()).await;
                }
            }
        }
    }
}

async fn note_one(shared: &Shared, sighting: &Sighting) -> Result<(), Error> {
    match sighting {
        Sighting::Connected { sn, session, address, protocol, is_clean, source } => {
            let Some(device) = shared.identities.of(&shared.engine, sn).await? else {
                shared.link.refuse(Refusal::NotAdmitted);
                shared.presence.forget(sn);
                tracing::warn!(%sn, "a device that is not registered has connected to the broker");
                shared.accounts.expel(sn.clone());
                return Ok(());
            };
            let details = details(address.as_deref(), Some(protocol), *source);
            let connection = Connection { session: session.clone(), details, ..Connection::default() };
            let is_first = shared.engine.for_device(&device).connected_to_broker(connection).await?;
            let known = Known {
                session: Some(session.clone()),
                source: *source,
                has_properties: *protocol == "MQTT 5",
                is_first,
                listens: false,
                contact_at: Instant::now(),
                retry: None,
            };
            shared.presence.known.insert(sn.clone(), known);
            // A session that goes on may have its subscriptions; a clean one
            // has none, and is heard of when it subscribes.
            if *is_clean {
                shared.engine.for_device(&device).unsubscribed();
            } else {
                listens(shared, &device);
            }
        }
        Sighting::Subscribed { sn } => {
            if let Some(device) = shared.identities.of(&shared.engine, sn).await? {
                listens(shared, &device);
            }
        }
        Sighting::Gone { sn, session, reason } => gone(shared, sn, session.as_deref(), reason).await?,
        Sighting::Contact { device } => contact(shared, device).await?,
        Sighting::Unheard { device } => {
            shared.engine.for_device(device).unsubscribed();
            if let Some(mut known) = shared.presence.known.get_mut(&device.sn) {
                known.listens = false;
                // Mosquitto tells when it subscribes; of others it is tried again.
                if known.session.is_some() && known.source != Source::MosquittoLog {
                    let wait =
                        known.retry.map_or(RETRY_MIN, |(_, wait)| wait.saturating_mul(2).min(RETRY_MAX));
                    known.retry = Some((Instant::now() + wait, wait));
                }
            }
        }
        Sighting::Silent { sn } => silent(shared, sn).await?,
    }
    Ok(())
}

async fn gone(shared: &Shared, sn: &Sn, ended: Option<&str>, reason: &str) -> Result<(), Error> {
    let session = shared.presence.known.get(sn).and_then(|known| known.session.clone());
    // It has connected again since.
    if ended.is_some_and(|ended| {
        session.as_deref().is_some_and(|now| now != CONTACT_SESSION && !now.starts_with(ended))
    }) {
        return Ok(());
    }
    let Some(device) = shared.identities.of(&shared.engine, sn).await? else {
        shared.presence.forget(sn);
        return Ok(());
    };
    shared.engine.for_device(&device).unsubscribed();
    if let Some(session) = session {
        let details = vec![("reason".to_owned(), reason.to_owned())];
        let reason = ending::reason(reason);
        let connection = Connection { session, reason, details, ..Connection::default() };
        shared.engine.for_device(&device).disconnected_from_broker(connection).await?;
    }
    if let Some(mut known) = shared.presence.known.get_mut(sn) {
        known.session = None;
        known.listens = false;
        known.retry = None;
    }
    Ok(())
}

/// A device has sent something: it is connected, whatever else is known.
async fn contact(shared: &Shared, device: &DeviceIdentity) -> Result<(), Error> {
    let sn = &device.sn;
    let (is_told, is_listening) = shared.presence.known.get(sn).map_or((false, false), |known| {
        (known.session.as_deref().is_some_and(|session| session != CONTACT_SESSION), known.listens)
    });
    if !is_told {
        let details = details(None, None, Source::LastContact);
        let session = CONTACT_SESSION.to_owned();
        let connection = Connection { session, details, ..Connection::default() };
        shared.engine.for_device(device).connected_to_broker(connection).await?;
        let mut known = shared.presence.known.entry(sn.clone()).or_insert_with(Known::unseen);
        known.session = Some(CONTACT_SESSION.to_owned());
        known.source = Source::LastContact;
        known.is_first = true;
        known.contact_at = Instant::now();
    }
    if !is_listening {
        listens(shared, device);
    }
    Ok(())
}

/// A device of which only messages are known has sent none for a while. It
/// may listen all the same.
async fn silent(shared: &Shared, sn: &Sn) -> Result<(), Error> {
    let is_silent = shared.presence.known.get(sn).is_some_and(|known| {
        known.session.as_deref() == Some(CONTACT_SESSION)
            && known.contact_at.elapsed() > shared.presence.contact
    });
    if !is_silent {
        return Ok(());
    }
    if let Some(device) = shared.identities.of(&shared.engine, sn).await? {
        let words = "not heard of for a while";
        let details = vec![("reason".to_owned(), words.to_owned())];
        let (session, reason) = (CONTACT_SESSION.to_owned(), ending::reason(words));
        let connection = Connection { session, reason, details, ..Connection::default() };
        shared.engine.for_device(&device).disconnected_from_broker(connection).await?;
    }
    if let Some(mut known) = shared.presence.known.get_mut(sn) {
        known.session = None;
    }
    Ok(())
}

/// A device listens; the server that was first to hear of it announces.
pub(super) fn listens(shared: &Shared, device: &DeviceIdentity) {
    let mut known = shared.presence.known.entry(device.sn.clone()).or_insert_with(Known::unseen);
    known.listens = true;
    if known.is_first {
        shared.engine.for_device(device).subscribed(crate::mqtt::NAME);
    } else {
        shared.engine.for_device(device).subscribed_elsewhere(crate::mqtt::NAME);
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
