//! The server of a simulation: engine, embedded link, sessions and SQLite store as they are, on a clock and
//! a network that are not. The machine that it runs on outlives it: its store is there when the next one starts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use covey_core::access::{Caller, Rights};
use covey_core::background::{self, Timer, Work};
use covey_core::device::{CertificateRecord, IssuedCertificate};
use covey_core::error::Result as CoreResult;
use covey_core::id::{OrgId, Sn, TaskId, UnixMs};
use covey_core::limits::Limits;
use covey_core::links::Links;
use covey_core::port::{
    BoxFuture, CertificateIssuer, CertificateKey, Clock, Event, Ids, NoPeers, Observer, Step,
};
use covey_core::retention::{RetentionClass, RetentionDays};
use covey_core::webhook::NoWebhooks;
use covey_core::{Engine, Error, Parts};
use covey_link::ResponseForm;
use covey_link::embedded::{DeviceLimits, EmbeddedLink, serving};
use covey_store::StoreError;
use covey_store::sqlite::ByHand;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::device::{Door, Owners};
use crate::network::Network;

/// The instant at which every run begins, in Unix milliseconds.
pub const BEGIN: UnixMs = UnixMs(1_790_000_000_000);
/// The ids of tasks count up from here (RFC 9562 §5.7: later ones sort later).
const TASKS_FROM: u128 = 0x0190_0000_0000_7000_8000_0000_0000_0000;
/// How many jobs, and how many reads, may wait for the store.
const QUEUE_MAX: usize = 20_000;
/// How many jobs share a commit.
const GROUP_MAX: usize = 512;
/// How long a turn of the store takes at most, in milliseconds.
const TURN_MS_MAX: u64 = 6;
/// How long it now and then takes, as on a disk that is busy.
const STALL_MS_MAX: u64 = 2_000;
/// Largest packet of a device, in bytes.
const PACKET_BYTES_MAX: u32 = 64 * 1024;
/// How long is waited for a commit with which the server is to be killed, in seconds.
const KILL_WAIT_S: u64 = 5;
/// What the server is called.
const SERVER_NAME: &str = "simulated";
/// How long a certificate is valid, in milliseconds.
const CERTIFICATE_MS: i64 = 10 * 365 * 86_400_000;

/// The clock of a run: it stands still while anything is to be done.
struct SimulatedClock(Instant);

impl Clock for SimulatedClock {
    fn now(&self) -> UnixMs {
        BEGIN.plus_ms(i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Numbers in place of ids.
#[derive(Default)]
struct CountedIds {
    last: AtomicU64,
    owners: Owners,
}

impl CountedIds {
    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Ids for CountedIds {
    fn task_id(&self) -> TaskId {
        let task = Uuid::from_u128(TASKS_FROM + u128::from(self.next()));
        self.owners.made(task);
        TaskId(task)
    }

    fn sn(&self) -> Sn {
        let text = format!("sn-{}", self.next());
        // Letters, digits and a hyphen, and never long.
        Sn::parse(&text).unwrap_or_else(|_| unreachable!("{text} is a serial number"))
    }

    fn api_key(&self) -> String {
        format!("key-{}", self.next())
    }
}

/// The number of a task among all of a run.
#[must_use]
pub fn task_number(task: Uuid) -> u64 {
    u64::try_from(task.as_u128().saturating_sub(TASKS_FROM)).unwrap_or(u64::MAX)
}

/// The task with this number.
#[must_use]
pub fn task_of_number(number: u64) -> Uuid {
    Uuid::from_u128(TASKS_FROM + u128::from(number))
}

/// Certificates are their serial numbers: there is no TLS.
#[derive(Default)]
struct SerialNumbers(AtomicU64);

impl CertificateIssuer for SerialNumbers {
    fn issue(&self, _: &Sn, _: CertificateKey<'_>, now: UnixMs) -> CoreResult<IssuedCertificate> {
        let serial = self.0.fetch_add(1, Ordering::Relaxed) + 0xa000;
        let record =
            CertificateRecord { serial_hex: format!("{serial:x}"), not_after: now.plus_ms(CERTIFICATE_MS) };
        let (certificate_pem, ca_pem) = (String::new(), String::new());
        Ok(IssuedCertificate { record, certificate_pem, ca_pem, private_key_pem: None })
    }

    /// No device of a simulation enrols.
    fn issue_claim(&self, _: UnixMs, _: UnixMs) -> CoreResult<IssuedCertificate> {
        Err(covey_core::Error::not_found("issuer of claims"))
    }
}

/// What the server counted.
#[derive(Default)]
pub struct Counts(Mutex<Counted>);

/// Some of what the server counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Results that came a second time.
    pub duplicate_results: u64,
    /// Events that came a second time.
    pub duplicate_events: u64,
    /// Operations that were committed.
    pub operations: u64,
    /// Commits.
    pub commits: u64,
    /// Connections that began.
    pub connections: u64,
}

impl Counts {
    /// What was counted until now.
    #[must_use]
    pub fn now(&self) -> Counted {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Counts {
    fn took(&self, _: Step, _: u64) {}

    fn happened(&self, event: Event) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::DuplicateResult => counted.duplicate_results += 1,
            Event::DuplicateEvent => counted.duplicate_events += 1,
            Event::Connected => counted.connections += 1,
            Event::Committed { operations } => {
                counted.commits += 1;
                counted.operations += operations as u64;
            }
            _ => {}
        }
    }
}

struct TokioTimer;

impl Timer for TokioTimer {
    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(sleep(Duration::from_millis(ms)))
    }

    fn failed(&self, _: Work, _: &Error) {}

    fn forgotten(&self, _: RetentionClass, _: u64) {}
}

fn key_digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// What is there whether a server runs or not.
pub struct Machine {
    network: Network,
    hand: Arc<Mutex<ByHand>>,
    clock: Arc<dyn Clock>,
    ids: Arc<CountedIds>,
    issuer: Arc<SerialNumbers>,
    seed: u64,
    /// What all servers counted.
    pub counts: Arc<Counts>,
}

/// A server that runs.
pub struct Server {
    /// Its domain.
    pub engine: Arc<Engine>,
    /// Its devices.
    pub link: Arc<EmbeddedLink>,
    /// How many sessions it has at most.
    pub sessions_max: usize,
    killer: Arc<Killer>,
    running: Vec<JoinHandle<()>>,
}

/// How a server is killed with a commit: between that and everything that comes of it.
struct Killer {
    network: Network,
    is_wanted: AtomicBool,
    done: Notify,
}

fn lock(hand: &Mutex<ByHand>) -> MutexGuard<'_, ByHand> {
    hand.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// A machine with an empty store. It says whose the tasks are that the server itself makes.
    ///
    /// # Errors
    /// A store that cannot be made.
    pub fn new(seed: u64, network: Network, owners: Owners) -> Result<Self, ServerError> {
        let clock: Arc<dyn Clock> = Arc::new(SimulatedClock(Instant::now()));
        let counts = Arc::<Counts>::default();
        let observer: Arc<dyn Observer> = Arc::clone(&counts) as _;
        let hand = ByHand::new(QUEUE_MAX, GROUP_MAX, Arc::clone(&clock), observer)?;
        let ids = Arc::new(CountedIds { owners, ..CountedIds::default() });
        let (hand, issuer) = (Arc::new(Mutex::new(hand)), Arc::default());
        Ok(Self { network, hand, clock, ids, issuer, seed, counts })
    }

    /// Starts a server on what is stored, with room for so many sessions.
    ///
    /// # Errors
    /// What the engine refuses.
    pub async fn start(&mut self, sessions_max: usize) -> Result<Server, ServerError> {
        // Each server has a disk that is fast and slow at other times.
        self.seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x5707);
        let (clock, observer) = (Arc::clone(&self.clock), Arc::clone(&self.counts) as Arc<dyn Observer>);
        let told = Arc::new(Notify::new());
        let tell = Arc::clone(&told);
        let store = lock(&self.hand).store(Arc::new(move || tell.notify_one()));
        let link = EmbeddedLink::new(SERVER_NAME, Arc::clone(&clock), Arc::clone(&observer));
        let engine = Arc::new(Engine::new(Parts {
            store: Arc::new(store),
            links: Links::new([Arc::clone(&link) as _]),
            peers: Arc::new(NoPeers),
            issuer: Arc::clone(&self.issuer) as _,
            clock,
            ids: Arc::clone(&self.ids) as _,
            observer,
            key_hasher: key_digest,
            limits: Limits::default(),
            retention: RetentionDays::default(),
            budgets: covey_core::budget::Budgets::default(),
            gauge_types: Vec::new(),
            unit_rule: Arc::new(|_| Ok(())),
            webhooks: Arc::new(NoWebhooks),
            webhook_retry_ms: 86_400_000,
        }));
        let (network, is_wanted) = (self.network.clone(), AtomicBool::new(false));
        let killer = Arc::new(Killer { network, is_wanted, done: Notify::new() });
        let random = StdRng::seed_from_u64(self.seed);
        let mut running = vec![tokio::spawn(work(Arc::clone(&self.hand), told, Arc::clone(&killer), random))];
        engine.server().presence_clear(SERVER_NAME).await?;
        let limits = DeviceLimits {
            sessions_max,
            files: None,
            packet_bytes_max: PACKET_BYTES_MAX,
            held_bytes_max: covey_link::embedded::HELD_BYTES_MAX,
            response_form: ResponseForm::default(),
        };
        let (shutdown, listener) = (CancellationToken::new(), self.network.listen());
        running.push(tokio::spawn(serving(&link, Arc::clone(&engine), listener, None, limits, shutdown)));
        let timer: Arc<dyn Timer> = Arc::new(TokioTimer);
        for work in Work::ALONE {
            running.push(tokio::spawn(background::run(work, Arc::clone(&engine), Arc::clone(&timer))));
        }
        Ok(Server { engine, link, sessions_max, killer, running })
    }

    /// Kills a server: what it had in memory is lost, and what waits for its store. With a commit, if one comes soon:
    /// then that is stored, and nobody has been told.
    pub async fn kill(&self, server: Server, with_commit: bool, door: &Door) {
        if with_commit {
            server.killer.is_wanted.store(true, Ordering::Relaxed);
            let _ = timeout(Duration::from_secs(KILL_WAIT_S), server.killer.done.notified()).await;
        }
        self.network.kill();
        door.killed();
        server.running.iter().for_each(JoinHandle::abort);
        // Nothing of it may do anything for the one after it.
        drop(lock(&self.hand).store(Arc::new(|| ())));
        for running in server.running {
            let _ = running.await;
        }
    }
}

impl Server {
    /// An application that may do everything.
    ///
    /// # Errors
    /// What the engine refuses.
    pub async fn add_caller(&self) -> Result<Caller, ServerError> {
        let root = Caller::server(OrgId(0), "root", Rights::ALL);
        let made = self.engine.for_caller(&root).api_key_add("acme", "application", Rights::ALL).await?;
        Ok(Caller::of(&made.key))
    }
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The store could not be made.
    #[error("the store could not be made: {0}")]
    Store(#[from] StoreError),
    /// The engine refused.
    #[error("the engine refused: {0}")]
    Engine(#[from] Error),
}

/// The hand that does the store's work, turn by turn.
async fn work(hand: Arc<Mutex<ByHand>>, told: Arc<Notify>, killer: Arc<Killer>, mut random: StdRng) {
    loop {
        told.notified().await;
        while lock(&hand).waiting() != (0, 0) {
            let stalls = random.random_bool(0.001);
            let turn_ms = random.random_range(0..=if stalls { STALL_MS_MAX } else { TURN_MS_MAX });
            sleep(Duration::from_millis(turn_ms)).await;
            lock(&hand).read();
            // What waits for the disk gathers meanwhile.
            if random.random_bool(0.7) {
                let count = lock(&hand).write();
                if count > 0 && killer.is_wanted.swap(false, Ordering::Relaxed) {
                    killer.network.kill();
                    killer.done.notify_one();
                    return;
                }
            }
        }
    }
}
