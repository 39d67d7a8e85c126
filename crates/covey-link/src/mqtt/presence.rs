//! Which devices are connected, and which of them are announced to.
//!
//! Applications see what the broker reports about its clients; where it reports nothing, a
//! device's last message counts. Announcements work the other way round: every device is
//! announced to unless it is known not to listen. The broker says so for each announcement
//! (PUBACK 0x10, MQTT 5 §3.4.2.1); such a device is announced to again when it subscribes,
//! connects or sends something.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use covey_core::device::DeviceIdentity;
use covey_core::id::Sn;
use covey_wire::{Downlink, subscription_reaches};
use dashmap::DashMap;
use tokio::sync::mpsc;

use crate::disconnect_reason::DisconnectReason;
use crate::mqtt::broker_log::{self, Line};
use crate::mqtt::client_events::{self, ClientEvent};
use crate::per_device_order::place_of;

/// How many workers write sightings. All sightings of one device go to one worker, in their order.
pub(super) const WORKERS: usize = 16;
/// How many sightings may wait for a worker. After one that found no room, all devices are
/// resynchronised.
pub(super) const SIGHTINGS_MAX: usize = 4096;
/// How often the last contact of a device that sends all the time is written.
const CONTACT_EVERY: Duration = Duration::from_secs(15);
/// The name of the connection of a device of which only messages are known:
/// the same on every server, so that they do not contradict each other.
pub(super) const CONTACT_SESSION: &str = "last_contact";
/// Where presence comes from, as applications see it in `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Mosquitto's log.
    MosquittoLog,
    /// `$SYS/brokers/…/clients/…`.
    SysClients,
    /// The last message.
    LastContact,
}

impl Source {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::MosquittoLog => "mosquitto_log",
            Self::SysClients => "sys_clients",
            Self::LastContact => "last_contact",
        }
    }
}

/// Something that was seen of a device.
pub(super) enum Sighting {
    /// It has connected.
    Connected {
        sn: Sn,
        session: String,
        address: Option<String>,
        protocol: &'static str,
        is_clean: bool,
        source: Source,
    },
    /// Its connection has ended; which one, if that is known.
    Gone { sn: Sn, session: Option<String>, reason: DisconnectReason },
    /// It has subscribed to its announcements.
    Subscribed { sn: Sn },
    /// It has sent something.
    Contact { device: DeviceIdentity },
    /// It did not hear an announcement.
    Unheard { device: DeviceIdentity },
    /// It has not sent anything for a while.
    Silent { sn: Sn },
}

impl Sighting {
    pub(super) fn sn(&self) -> &Sn {
        match self {
            Self::Connected { sn, .. }
            | Self::Gone { sn, .. }
            | Self::Subscribed { sn }
            | Self::Silent { sn } => sn,
            Self::Contact { device } | Self::Unheard { device } => &device.sn,
        }
    }
}

/// What is known of a registered device.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Its connection, as far as it is known to have one.
    pub(super) session: Option<String>,
    pub(super) source: Source,
    pub(super) has_properties: bool,
    /// Whether this server was the first to hear of the connection.
    pub(super) is_first: bool,
    pub(super) listens: bool,
    pub(super) contact_at: Instant,
    pub(super) retry: Option<(Instant, Duration)>,
}

/// All that is known of devices. Bounded by the registry: a device that is not registered is
/// dropped when it is looked up.
pub(super) struct Presence {
    pub(super) known: DashMap<Sn, Known>,
    workers: Vec<mpsc::Sender<Sighting>>,
    /// Whether a sighting was not written.
    pub(super) has_missed: AtomicBool,
    /// See [`Options::contact_s`](crate::mqtt::Options::contact_s).
    pub(super) contact: Duration,
}

impl Presence {
    pub(super) fn new(contact: Duration) -> (Self, Vec<mpsc::Receiver<Sighting>>) {
        let (workers, inboxes) = (0..WORKERS).map(|_| mpsc::channel(SIGHTINGS_MAX)).unzip();
        let presence = Self { known: DashMap::new(), workers, has_missed: AtomicBool::new(false), contact };
        (presence, inboxes)
    }

    /// Whether a device speaks MQTT 5; assumed of a device of which nothing else is known.
    pub(super) fn has_properties(&self, sn: &Sn) -> bool {
        self.known.get(sn).is_none_or(|known| known.has_properties)
    }

    /// Takes a line of the broker's log.
    pub(super) fn log_line(&self, topic: &str, payload: &[u8]) {
        let Ok(line) = std::str::from_utf8(payload) else { return };
        let line = match topic.strip_prefix("$SYS/broker/log/") {
            Some("N") => broker_log::notice(line),
            Some("M/subscribe") => broker_log::subscription(line),
            _ => None,
        };
        let source = Source::MosquittoLog;
        match line {
            Some(Line::Connected { sn, session, address, level, is_clean }) => {
                let protocol = if level == 5 { "MQTT 5" } else { "MQTT 3.1.1" };
                let address = Some(address.to_owned());
                // At once: a message of this connection may be the next thing that comes.
                self.known.entry(sn.clone()).or_insert_with(Known::unseen).has_properties = level == 5;
                self.note(Sighting::Connected { sn, session, address, protocol, is_clean, source });
            }
            Some(Line::Gone { sn, reason }) => self.note(Sighting::Gone { sn, session: None, reason }),
            Some(Line::Subscribed { sn, filter }) if hears_announcements(&sn, filter) => {
                self.note(Sighting::Subscribed { sn });
            }
            Some(Line::Subscribed { .. }) | None => {}
        }
    }

    /// Takes an event of the broker about a client.
    pub(super) fn client_event(&self, topic: &str, payload: &[u8]) {
        let source = Source::SysClients;
        match client_events::read(topic, payload) {
            Some(ClientEvent::Connected { sn, session, address, level }) => {
                let protocol = if level == 5 { "MQTT 5" } else { "MQTT 3.1.1" };
                // Whether it will subscribe is not known: it is tried.
                self.note(Sighting::Connected { sn, session, address, protocol, is_clean: false, source });
            }
            Some(ClientEvent::Gone { sn, session }) => {
                let reason = DisconnectReason::Unknown;
                self.note(Sighting::Gone { sn, session, reason });
            }
            Some(ClientEvent::Subscribed { sn, filter }) if hears_announcements(&sn, &filter) => {
                self.note(Sighting::Subscribed { sn });
            }
            Some(ClientEvent::Subscribed { .. }) | None => {}
        }
    }

    /// A device has sent something.
    pub(super) fn contact(&self, device: &DeviceIdentity) {
        if let Some(mut known) = self.known.get_mut(&device.sn) {
            let is_recent = known.contact_at.elapsed() < CONTACT_EVERY;
            if known.session.is_some() && known.listens && is_recent {
                return;
            }
            known.contact_at = Instant::now();
            let needs_nothing =
                known.listens && known.session.as_deref().is_some_and(|at| at != CONTACT_SESSION);
            if needs_nothing {
                return;
            }
        }
        self.note(Sighting::Contact { device: device.clone() });
    }

    /// A device did not hear an announcement.
    pub(super) fn unheard(&self, device: DeviceIdentity) {
        self.note(Sighting::Unheard { device });
    }

    /// A device is registered; whether it is connected is not known, so it is
    /// announced to.
    pub(super) fn assume_listening(&self, sn: &Sn) {
        let mut known = self.known.entry(sn.clone()).or_insert_with(Known::unseen);
        known.listens = true;
        known.retry = None;
    }

    /// A device was connected when this server last knew, or another does.
    pub(super) fn assume_connected(&self, sn: &Sn, session: String) {
        let mut known = self.known.entry(sn.clone()).or_insert_with(Known::unseen);
        if known.session.is_none() {
            known.has_properties = !session.ends_with(" p2") && !session.ends_with(" p4");
            known.source =
                if session == CONTACT_SESSION { Source::LastContact } else { Source::MosquittoLog };
            known.session = Some(session);
        }
    }

    /// Forgets devices that are no longer registered.
    pub(super) fn forget(&self, sn: &Sn) {
        self.known.remove(sn);
    }

    /// What time has done: devices that were silent for too long, and devices
    /// that are to be tried again.
    pub(super) fn tick(&self) -> Vec<Sn> {
        let mut again = Vec::new();
        let mut silent = Vec::new();
        for mut entry in self.known.iter_mut() {
            let sn = entry.key().clone();
            let known = entry.value_mut();
            if known.session.as_deref() == Some(CONTACT_SESSION) && known.contact_at.elapsed() > self.contact
            {
                silent.push(sn.clone());
            }
            if let Some((at, wait)) = known.retry
                && at <= Instant::now()
            {
                known.retry = Some((Instant::now() + wait, wait));
                again.push(sn);
            }
        }
        silent.into_iter().for_each(|sn| self.note(Sighting::Silent { sn }));
        again
    }

    fn note(&self, sighting: Sighting) {
        let place = place_of(sighting.sn(), WORKERS);
        let is_taken = self.workers.get(place).is_some_and(|worker| worker.try_send(sighting).is_ok());
        if !is_taken {
            self.has_missed.store(true, Ordering::Release);
        }
    }
}

impl Known {
    pub(super) fn unseen() -> Self {
        Self {
            session: None,
            source: Source::LastContact,
            has_properties: true,
            is_first: true,
            listens: false,
            contact_at: Instant::now(),
            retry: None,
        }
    }
}

fn hears_announcements(sn: &Sn, filter: &str) -> bool {
    subscription_reaches(sn.as_str(), filter).is_some_and(|reaches| reaches.contains(Downlink::Tsk))
}
