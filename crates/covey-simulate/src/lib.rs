//! A whole server of Covey with many devices in one thread, under a simulated clock and a simulated network.
//!
//! Listener, connections, sessions, link, engine and SQLite store are those that run elsewhere. What is
//! simulated is outside of them: the clock (tokio's, paused), the network ([`network`]), when the store does its
//! work ([`covey_store::sqlite::ByHand`]), and the devices and applications. Everything that is left to chance is
//! drawn from a seed, so that a run can be repeated: two runs with one seed have one digest.
//!
//! A run has three parts. First devices come and go, connections fail, and the server is killed: another one starts
//! on its store. Then everything works, and whatever
//! was begun has to come to its end. At last devices are gone for good, and nothing may be left of them.

pub mod application;
mod check;
pub mod device;
pub mod network;
pub mod server;
pub mod trace;

use std::sync::Arc;
use std::time::Duration;

use covey_core::access::Caller;
use covey_core::device::{CertificateSpec, DeviceSpec};
use covey_core::event::{DeviceEvent, EventTypes};
use covey_core::id::{DeviceId, RecordNumber, Sn, TaskId};
use covey_core::task::{TaskDetail, TaskStatus};
use covey_core::twin::Twin;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use application::{Accepted, Application, Wishes};
use check::{Found, Looked};
use device::{Device, Door, Owners, Report, Site, serial_number};
use network::Network;
use server::{Machine, Server, ServerError};
use trace::{Broken, Trace};

/// How long everything works before the end, in seconds: more than three leases.
const HEALING_S: u64 = 240;
/// How long after the last goodbye is looked at what became of everything, in seconds.
const WILLS_S: u64 = 25;
/// How long what is left of devices may last, in seconds: a little more than a session.
const AFTERLIFE_S: u64 = 3_700;
/// One run in so many waits for that: nothing happens meanwhile, and it takes longer than all the rest.
const AFTERLIFE_ONE_IN: u32 = 8;
/// How often a server is killed in a run at most.
const KILLS_MAX: usize = 3;
/// How long no server is there after that at most, in milliseconds.
const DOWN_MS_MAX: u64 = 12_000;
/// Before the end of the failures the last server has started, in seconds.
const LAST_KILL_BEFORE_S: u64 = 20;
/// One run in so many in which a server is killed has one first that does not take all devices.
const CRAMPED_ONE_IN: u32 = 6;
/// How many events are read at a time.
const EVENTS_PAGE: u32 = 100;
/// How many requests of the simulation's own are under way at a time.
const BATCH: usize = 1_000;

/// What is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// From what everything is drawn.
    pub seed: u64,
    /// How many devices there are; at most 2^24.
    pub devices: u32,
    /// How many requests applications make for each device, on average.
    pub requests_per_device: u32,
}

/// How a run went that broke no rule.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// From what everything was drawn.
    pub seed: u64,
    /// How many devices there were.
    pub devices: u32,
    /// How long it took on the simulated clock, in seconds.
    pub simulated_s: u64,
    /// How many events devices and applications saw.
    pub events: u64,
    /// The digest of all of them and of what is stored at the end.
    pub digest: String,
    /// How many connections devices had.
    pub connections: u64,
    /// How many tasks were accepted.
    pub tasks: u64,
    /// How many of them were done or failed by their devices' results.
    pub finished: u64,
    /// How many results are stored.
    pub results: u64,
    /// How many results came once more.
    pub repeated_results: u64,
    /// How many events are stored, wills among them.
    pub stored_events: u64,
    /// How many of them are wills.
    pub wills: u64,
    /// How many events came once more.
    pub repeated_events: u64,
    /// How many values were wanted of twins.
    pub wishes: u64,
    /// How often the server was killed.
    pub kills: u64,
    /// How many connections were open when another of the same device took their place.
    pub left_open: u64,
    /// How many operations the store committed.
    pub operations: u64,
    /// In how many transactions.
    pub commits: u64,
}

/// Why a run has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// A rule was broken.
    #[error(transparent)]
    Broken(Box<Broken>),
    /// The server could not be started, or refused what no device and no application had to do with.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// There is no runtime.
    #[error("no runtime: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Runs a simulation; `progress` is told about once a simulated second how far it is, in seconds.
///
/// # Errors
/// The first rule that was broken, with the last events of its device.
pub fn run(plan: Plan, progress: &mut dyn FnMut(u64)) -> Result<Outcome, SimulationError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(simulate(plan, progress))
}

/// A server is to be killed.
struct Kill {
    at: Instant,
    down: Duration,
    with_commit: bool,
}

fn draw_kills(random: &mut StdRng, heals_at: Instant) -> Vec<Kill> {
    let begin = Instant::now();
    let ends_at = heals_at - Duration::from_secs(LAST_KILL_BEFORE_S);
    let within_ms = u64::try_from(ends_at.duration_since(begin).as_millis()).unwrap_or(u64::MAX);
    let mut kills: Vec<Kill> = (0..random.random_range(0..=KILLS_MAX))
        .map(|_| Kill {
            at: begin + Duration::from_millis(random.random_range(0..=within_ms)),
            down: Duration::from_millis(random.random_range(0..=DOWN_MS_MAX)),
            with_commit: random.random_bool(0.5),
        })
        .collect();
    kills.sort_unstable_by_key(|kill| kill.at);
    kills
}

async fn simulate(plan: Plan, progress: &mut dyn FnMut(u64)) -> Result<Outcome, SimulationError> {
    let Plan { seed, devices, requests_per_device } = plan;
    let begin = Instant::now();
    let trace = Trace::new(devices);
    let mut random = StdRng::seed_from_u64(seed);
    let (network, owners, door) = (Network::default(), Owners::default(), Door::default());
    let mut machine = Machine::new(seed, network.clone(), owners.clone())?;
    let heals_in = Duration::from_secs(random.random_range(60..=180));
    let kills = draw_kills(&mut random, Instant::now() + heals_in);
    let sessions_max = devices as usize * 2 + 16;
    let is_cramped = !kills.is_empty() && random.random_ratio(1, CRAMPED_ONE_IN);
    let sessions_max_first = if is_cramped { (devices as usize * 3 / 4).max(1) } else { sessions_max };
    let mut server = machine.start(sessions_max_first).await?;
    door.open(&server.engine);
    let caller = server.add_caller().await?;
    let registered = register(&server, &caller, devices).await?;
    let heals_at = Instant::now() + heals_in;
    let ends_at = heals_at + Duration::from_secs(HEALING_S);
    let site = Site { network, door, trace: trace.clone(), owners, devices, heals_at, ends_at, seed };
    let mut living = JoinSet::new();
    for (number, (_, certificate)) in (0..devices).zip(&registered) {
        living.spawn(Device::new(site.clone(), number, certificate).run());
    }
    let ids: Arc<[DeviceId]> = registered.iter().map(|(id, _)| *id).collect();
    let (accepted, wishes) = (Accepted::default(), Wishes::default());
    let application = Application {
        site: site.clone(),
        caller: caller.clone(),
        devices: Arc::clone(&ids),
        accepted: accepted.clone(),
        wishes: wishes.clone(),
        requests: u64::from(devices) * u64::from(requests_per_device),
    };
    tokio::spawn(Arc::new(application).run());
    let mut kills = kills.into_iter().peekable();
    while Instant::now() < ends_at {
        let next_at = Instant::now() + Duration::from_secs(1);
        sleep_until(kills.peek().map_or(next_at, |kill| kill.at.min(next_at))).await;
        if let Some(kill) = kills.next_if(|kill| kill.at <= Instant::now()) {
            machine.kill(server, kill.with_commit, &site.door).await;
            trace.add(0, "the server is killed", kill.with_commit.into(), 0);
            sleep(kill.down).await;
            server = machine.start(sessions_max).await?;
            site.door.open(&server.engine);
        }
        watch(&server, &site);
        stop_if_broken(&trace)?;
        progress(begin.elapsed().as_secs());
    }
    let mut reports: Vec<Report> = Vec::new();
    while let Some(ended) = living.join_next().await {
        match ended {
            Ok(report) => reports.push(report),
            Err(error) => trace.broken(0, "a device does not panic", error.to_string()),
        }
    }
    reports.sort_by_key(|report| report.device);
    unfinished(&server, &caller, &site).await?;
    stop_if_broken(&trace)?;
    if random.random_ratio(1, AFTERLIFE_ONE_IN) {
        sleep_until(ends_at + Duration::from_secs(AFTERLIFE_S)).await;
        nothing_left(&server, &trace);
    } else {
        // Wills are stored, and what came last.
        sleep(Duration::from_secs(WILLS_S)).await;
    }
    progress(begin.elapsed().as_secs());
    let found = Found {
        accepted: accepted.all(),
        wishes: wishes.all(),
        tasks: tasks(&server, &caller, &site).await?,
        events: events(&server, &caller).await?,
        twins: twins(&server, &caller, &ids).await?,
        kills: site.door.kills(),
    };
    let Looked { wills } = check::check(&trace, &found, &reports);
    stop_if_broken(&trace)?;
    for (_, detail) in &found.tasks {
        trace.add_bytes(format!("{detail:?}").as_bytes());
    }
    for event in &found.events {
        trace.add_bytes(format!("{event:?}").as_bytes());
    }
    let counted = machine.counts.now();
    let is_finished = |status| matches!(status, TaskStatus::Done | TaskStatus::Failed);
    let (events, digest) = trace.digest();
    let Found { tasks, .. } = &found;
    Ok(Outcome {
        seed,
        devices,
        simulated_s: begin.elapsed().as_secs(),
        events,
        digest,
        connections: counted.connections,
        tasks: tasks.len() as u64,
        finished: tasks.iter().filter(|(_, detail)| is_finished(detail.task.status)).count() as u64,
        results: tasks.iter().map(|(_, detail)| detail.results.len() as u64).sum(),
        repeated_results: counted.duplicate_results,
        stored_events: found.events.len() as u64,
        wills,
        repeated_events: counted.duplicate_events,
        wishes: found.wishes.len() as u64,
        kills: found.kills.len() as u64,
        left_open: reports.iter().map(|report| report.left_open).sum(),
        operations: counted.operations,
        commits: counted.commits,
    })
}

fn stop_if_broken(trace: &Trace) -> Result<(), SimulationError> {
    trace.first_broken().map_or(Ok(()), |broken| Err(SimulationError::Broken(Box::new(broken))))
}

/// Registers the devices; answers their numbers and the serial numbers of their certificates.
async fn register(
    server: &Server,
    caller: &Caller,
    devices: u32,
) -> Result<Vec<(DeviceId, String)>, ServerError> {
    let mut all = Vec::new();
    for first in (0..devices).step_by(BATCH) {
        let mut registering = JoinSet::new();
        for number in first..devices.min(first.saturating_add(BATCH as u32)) {
            let (engine, caller) = (Arc::clone(&server.engine), caller.clone());
            registering.spawn(async move {
                let sn = Some(Sn::parse(&serial_number(number))?);
                let spec = DeviceSpec { sn, certificate: CertificateSpec::WithKey, ..DeviceSpec::default() };
                let (device, issued) = engine.for_caller(&caller).device_register(spec).await?;
                let serial = issued.map(|issued| issued.record.serial_hex).unwrap_or_default();
                Ok::<_, covey_core::Error>((number, device.identity.device_id, serial))
            });
        }
        let mut registered = Vec::new();
        for one in registering.join_all().await {
            registered.push(one?);
        }
        registered.sort_unstable();
        all.extend(registered.into_iter().map(|(_, id, serial)| (id, serial)));
    }
    Ok(all)
}

/// What must hold at every moment.
fn watch(server: &Server, site: &Site) {
    let (sessions, devices) = (server.link.sessions(), site.devices as usize);
    if sessions > devices {
        let details = format!("{sessions} sessions of {devices} devices");
        site.trace.broken(0, "no session is without its device", details);
    }
    if sessions > server.sessions_max {
        let details = format!("{sessions} of {}", server.sessions_max);
        site.trace.broken(0, "there are no more sessions than there may be", details);
    }
    let listening = server.engine.server().listening();
    if listening > devices {
        site.trace.broken(0, "no more listen than there are devices", listening.to_string());
    }
}

/// Whatever could be finished is finished when everything has worked for a while.
async fn unfinished(server: &Server, caller: &Caller, site: &Site) -> Result<(), ServerError> {
    let now = server.engine.now();
    for (device, detail) in tasks(server, caller, site).await? {
        if detail.task.is_live(now) {
            let rule = "what was accepted is finished once everything works";
            site.trace.broken(device, rule, format!("{detail:?}"));
        }
    }
    Ok(())
}

/// Of devices that have been gone for long enough nothing is left.
fn nothing_left(server: &Server, trace: &Trace) {
    let left = [
        ("connections", server.link.connected()),
        ("sessions", server.link.sessions()),
        ("listening", server.engine.server().listening()),
    ];
    for (what, count) in left.into_iter().filter(|(_, count)| *count > 0) {
        trace.broken(0, "nothing is left of devices that are gone", format!("{what}: {count}"));
    }
}

/// All tasks with their results, and whose they are: also those of which nobody was told whether they are accepted.
async fn tasks(server: &Server, caller: &Caller, site: &Site) -> Result<Vec<(u32, TaskDetail)>, ServerError> {
    let mut found = Vec::new();
    for batch in site.owners.all().chunks(BATCH) {
        let mut looking = JoinSet::new();
        for (task, device) in batch.iter().copied() {
            let (engine, caller) = (Arc::clone(&server.engine), caller.clone());
            looking.spawn(async move { (device, engine.for_caller(&caller).task_get(TaskId(task)).await) });
        }
        for one in looking.join_all().await {
            match one {
                (device, Ok(detail)) => found.push((device, detail)),
                (_, Err(covey_core::Error::NotFound { .. })) => {}
                (_, Err(error)) => return Err(error.into()),
            }
        }
    }
    found.sort_by_key(|(_, detail)| detail.task.seq);
    Ok(found)
}

/// All events of devices, in the order in which they were stored.
async fn events(server: &Server, caller: &Caller) -> Result<Vec<DeviceEvent>, ServerError> {
    let mut found: Vec<DeviceEvent> = Vec::new();
    loop {
        let after = found.last().map_or(RecordNumber(0), |last| last.id);
        let for_caller = server.engine.for_caller(caller);
        let page = for_caller.event_next(None, EventTypes::OfDevices, Some(after), EVENTS_PAGE).await?;
        if page.is_empty() {
            return Ok(found);
        }
        found.extend(page);
    }
}

/// All twins, in the order of the devices.
async fn twins(server: &Server, caller: &Caller, devices: &[DeviceId]) -> Result<Vec<Twin>, ServerError> {
    let mut found = Vec::new();
    for batch in devices.chunks(BATCH) {
        let mut looking = JoinSet::new();
        for device in batch.iter().copied() {
            let (engine, caller) = (Arc::clone(&server.engine), caller.clone());
            looking.spawn(async move { engine.for_caller(&caller).twin_get(device).await });
        }
        for one in looking.join_all().await {
            found.push(one?);
        }
    }
    found.sort_by_key(|twin| twin.device.device_id);
    Ok(found)
}
