//! A device of a simulation: it connects, works, goes without a word, and comes back.
//!
//! It is a small model of a device that keeps to the contract: what it cannot be wrong about, it holds the
//! server to. Packets are written and read by the codec of `covey-wire`; the rules of a session are its own.

mod connection;
mod manner;
mod message;
mod session;
mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use covey_net::PeerCertificate;
use covey_wire::mqtt::ProtocolVersion;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::network::{Cut, Network};
use crate::server::task_number;
use crate::trace::Trace;
use connection::Connection;
pub use manner::Manner;
use session::Session;
use work::Work;

/// Whose task is it? By the number of the task.
#[derive(Clone, Default)]
pub struct Owners(Arc<Mutex<BTreeMap<u64, u32>>>);

impl Owners {
    /// A task is for this device.
    pub fn set(&self, task: Uuid, device: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(task_number(task), device);
    }

    /// For which device a task is.
    #[must_use]
    pub fn of(&self, task: Uuid) -> Option<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&task_number(task)).copied()
    }

    /// A task that was made about `back` tasks ago.
    #[must_use]
    pub fn recent(&self, back: usize) -> Option<Uuid> {
        let owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        owners.keys().rev().nth(back).map(|number| crate::server::task_of_number(*number))
    }
}

/// What all devices share.
#[derive(Clone)]
pub struct Site {
    /// The way to the server.
    pub network: Network,
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
        Self { number, sn, certificate, manner, random, site, session: Session::default(), work: Work::new() }
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
        Report { device: self.number, results: results.collect(), named: named.collect() }
    }

    /// One connection, from its first byte to its last.
    async fn live(&mut self) -> Cut {
        let latency_ms =
            if self.is_healing() { 20 } else { self.random.random_range(1..=self.manner.latency_ms_max) };
        let line_seed = self.random.random();
        let end = self.site.network.dial(self.number, self.certificate.clone(), latency_ms, line_seed);
        let mut connection = Connection::begin(self, end);
        let how = connection.run(self).await;
        connection.cut(self, how);
        how
    }

    async fn pause(&mut self, average_ms: u64) {
        let ms = self.random.random_range(0..=average_ms.saturating_mul(2));
        sleep(Duration::from_millis(ms)).await;
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
