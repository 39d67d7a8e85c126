//! A device of a simulation: it connects, works, goes without a word, and comes back.
//!
//! It is a small model of a device that keeps to the contract: what it cannot be wrong about, it holds the
//! server to. Packets are written and read by the codec of `covey-wire`; the rules of a session are its own.

mod connection;
mod manner;
mod message;
mod session;
mod taken_over;
mod will;
mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use covey_core::Engine;
use covey_net::PeerCertificate;
use covey_wire::mqtt::{ProtocolVersion, Qos};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::network::{Cut, Network};
use crate::server::{BEGIN, task_number};
use crate::trace::Trace;
use connection::Connection;
pub use manner::Manner;
pub use message::Event;
use session::Session;
pub use will::Will;
use work::Work;

/// Whose task is it? By the number of the task.
#[derive(Clone, Default)]
pub struct Owners(Arc<Mutex<Owned>>);

#[derive(Default)]
struct Owned {
    devices: BTreeMap<u64, u32>,
    /// For which device the server makes tasks at the moment.
    of_server: Option<u32>,
}

impl Owners {
    fn owned(&self) -> MutexGuard<'_, Owned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task is for this device.
    pub fn set(&self, task: Uuid, device: u32) {
        self.owned().devices.insert(task_number(task), device);
    }

    /// Tasks that the server makes from now on are for this device.
    pub fn server_makes_for(&self, device: Option<u32>) {
        self.owned().of_server = device;
    }

    /// The server has made the id of a task.
    pub fn made(&self, task: Uuid) {
        let mut owned = self.owned();
        if let Some(device) = owned.of_server {
            owned.devices.insert(task_number(task), device);
        }
    }

    /// For which device a task is.
    #[must_use]
    pub fn of(&self, task: Uuid) -> Option<u32> {
        self.owned().devices.get(&task_number(task)).copied()
    }

    /// A task that was made about `back` tasks ago.
    #[must_use]
    pub fn recent(&self, back: usize) -> Option<Uuid> {
        self.owned().devices.keys().rev().nth(back).map(|number| crate::server::task_of_number(*number))
    }

    /// All tasks that were asked for, also those of which nobody knows whether they were accepted.
    #[must_use]
    pub fn all(&self) -> Vec<(Uuid, u32)> {
        let owned = self.owned();
        owned
            .devices
            .iter()
            .map(|(number, device)| (crate::server::task_of_number(*number), *device))
            .collect()
    }
}

/// Where the servers are to be found, one after the other.
#[derive(Clone, Default)]
pub struct Door(Arc<Mutex<Servers>>);

#[derive(Default)]
struct Servers {
    present: Option<Arc<Engine>>,
    kills: Vec<Instant>,
}

impl Door {
    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server is there.
    pub fn open(&self, engine: &Arc<Engine>) {
        self.servers().present = Some(Arc::clone(engine));
    }

    /// The server has just been killed.
    pub fn killed(&self) {
        let mut servers = self.servers();
        servers.present = None;
        servers.kills.push(Instant::now());
    }

    /// The server that runs, if one does.
    #[must_use]
    pub fn engine(&self) -> Option<Arc<Engine>> {
        self.servers().present.clone()
    }

    /// The number of the present server, or of the next: how many were killed before.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.servers().kills.len() as u64
    }

    /// When servers were killed.
    #[must_use]
    pub fn kills(&self) -> Vec<Instant> {
        self.servers().kills.clone()
    }

    /// When the server with this number was killed, if it was.
    #[must_use]
    pub fn killed_at(&self, number: u64) -> Option<Instant> {
        self.servers().kills.get(usize::try_from(number).ok()?).copied()
    }
}

/// What all devices share.
#[derive(Clone)]
pub struct Site {
    /// The way to the server.
    pub network: Network,
    /// The servers as applications find them.
    pub door: Door,
    /// Where everything is written down.
    pub trace: Trace,
    /// Whose tasks are whose.
    pub owners: Owners,
    /// How many devices there are.
    pub devices: u32,
    /// From when on nothing fails any more.
    pub heals_at: Instant,
    /// When devices go for good.
    pub ends_at: Instant,
    /// The seed of the run.
    pub seed: u64,
}

/// The serial number of the device with this number.
#[must_use]
pub fn serial_number(device: u32) -> String {
    format!("dev{device}")
}

/// A result that a device has made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its task.
    pub task: Uuid,
    /// The device's own number of it.
    pub ext_id: i64,
    /// Its status code.
    pub status_code: i64,
    /// Its body, as JSON.
    pub body: String,
    /// The server has said that it is stored.
    pub is_proved: bool,
    /// It was sent at least once.
    pub was_sent: bool,
}

/// What a device has to say at the end.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its number.
    pub device: u32,
    /// Its results.
    pub results: Vec<Made>,
    /// The tasks that it asked for by their names.
    pub named: Vec<Uuid>,
    /// Its events, in the order of their numbers.
    pub events: Vec<Event>,
    /// Whether its events went out with QoS 1 or 2, so that none may be lost and their order holds.
    pub are_events_sure: bool,
    /// Its wills.
    pub wills: Vec<Will>,
    /// How many of its connections it left open when it began another.
    pub left_open: u64,
}

/// A device.
pub struct Device {
    number: u32,
    sn: String,
    certificate: PeerCertificate,
    manner: Manner,
    random: StdRng,
    site: Site,
    session: Session,
    work: Work,
    wills: Vec<Will>,
    /// How many connections it has begun.
    connections: u64,
    /// Connections that it left open: they are told when another is up.
    left_open: Vec<watch::Sender<Option<Instant>>>,
    left_open_count: u64,
}

impl Device {
    /// The device with this number, and the serial number of its certificate.
    #[must_use]
    pub fn new(site: Site, number: u32, certificate_serial_hex: &str) -> Self {
        let mut random =
            StdRng::seed_from_u64(site.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number));
        let sn = serial_number(number);
        let certificate = PeerCertificate {
            common_name: Some(sn.as_str().into()),
            serial_hex: certificate_serial_hex.into(),
        };
        let manner = Manner::draw(&mut random);
        let (session, work) = (Session::default(), Work::new());
        let (wills, left_open) = (Vec::new(), Vec::new());
        Self {
            number,
            sn,
            certificate,
            manner,
            random,
            site,
            session,
            work,
            wills,
            connections: 0,
            left_open,
            left_open_count: 0,
        }
    }

    /// Lives until the run ends.
    pub async fn run(mut self) -> Report {
        self.pause(5_000).await;
        while Instant::now() < self.site.ends_at {
            let how = self.live().await;
            self.note("cut", how as u64, 0);
            if self.is_healing() {
                self.pause(500).await;
            } else {
                self.pause(self.manner.away_ms).await;
            }
        }
        let results = self.work.results.iter().map(|result| Made {
            task: result.said.task,
            ext_id: result.said.ext_id,
            status_code: i64::from(result.said.status_code),
            body: result.said.body(),
            is_proved: result.is_proved,
            was_sent: result.sent > 0,
        });
        let named = self.work.known.iter().filter(|(_, known)| known.is_named).map(|(task, _)| *task);
        Report {
            device: self.number,
            results: results.collect(),
            named: named.collect(),
            events: self.work.events,
            are_events_sure: self.manner.event_qos != Qos::AtMostOnce,
            wills: self.wills,
            left_open: self.left_open_count,
        }
    }

    /// One connection, from its first byte to its last.
    async fn live(&mut self) -> Cut {
        let latency_ms =
            if self.is_healing() { 20 } else { self.random.random_range(1..=self.manner.latency_ms_max) };
        let line_seed = self.random.random();
        let end = self.site.network.dial(self.number, self.certificate.clone(), latency_ms, line_seed);
        let mut connection = Connection::begin(self, end, latency_ms);
        let how = connection.run(self).await;
        connection.cut(self, how);
        how
    }

    async fn pause(&mut self, average_ms: u64) {
        let ms = self.random.random_range(0..=average_ms.saturating_mul(2));
        sleep(Duration::from_millis(ms)).await;
    }

    /// Seconds since 1970, as the device has it.
    fn unix_s(&self) -> u64 {
        u64::try_from(BEGIN.0).unwrap_or_default() / 1_000 + self.site.trace.now_ms() / 1_000
    }

    fn is_healing(&self) -> bool {
        Instant::now() >= self.site.heals_at
    }

    /// Which version the next connection speaks.
    fn version(&mut self) -> ProtocolVersion {
        let is_other = self.random.random_bool(self.manner.other_version);
        match (self.manner.version, is_other) {
            (ProtocolVersion::V5, false) | (ProtocolVersion::V311, true) => ProtocolVersion::V5,
            _ => ProtocolVersion::V311,
        }
    }

    fn note(&self, what: &'static str, one: u64, other: u64) {
        self.site.trace.add(self.number, what, one, other);
    }

    fn broken(&self, rule: &'static str, details: impl Into<String>) {
        self.site.trace.broken(self.number, rule, details);
    }
}
