//! A whole server of Covey with many devices in one thread, under a simulated clock and a simulated network.
//!
//! Listener, connections, sessions, link, engine and SQLite store are those that run elsewhere. What is
//! simulated is outside of them: the clock (tokio's, paused), the network ([`network`]), when the store does its
//! work ([`covey_store::sqlite::ByHand`]), and the devices and applications. Everything that is left to chance is
//! drawn from a seed, so that a run can be repeated: two runs with one seed have one digest.
//!
//! A run has three parts. First devices come and go, and connections fail. Then everything works, and whatever
//! was begun has to come to its end. At last devices are gone for good, and nothing may be left of them.

pub mod application;
mod check;
pub mod device;
pub mod network;
pub mod server;
pub mod trace;

use std::sync::Arc;
use std::time::Duration;

use covey_core::device::{CertificateSpec, DeviceSpec};
use covey_core::id::{Sn, TaskId};
use covey_core::task::{TaskDetail, TaskStatus};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use application::{Accepted, Application};
use device::{Device, Owners, Report, Site, serial_number};
use network::Network;
use server::{Server, ServerError};
use trace::{Broken, Trace};

/// How long everything works before the end, in seconds: more than three leases.
const HEALING_S: u64 = 240;
/// How long what is left of devices may last, in seconds: a little more than a session.
const AFTERLIFE_S: u64 = 3_700;
/// One run in so many waits for that: nothing happens meanwhile, and it takes longer than all the rest.
const AFTERLIFE_ONE_IN: u32 = 8;
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

async fn simulate(plan: Plan, progress: &mut dyn FnMut(u64)) -> Result<Outcome, SimulationError> {
    let Plan { seed, devices, requests_per_device } = plan;
    let begin = Instant::now();
    let trace = Trace::new(devices);
    let mut random = StdRng::seed_from_u64(seed);
    let (network, listener) = Network::new();
    let server = Server::start(seed, devices as usize * 2 + 16, listener).await?;
    let certificates = register(&server, devices).await?;
    let heals_at = Instant::now() + Duration::from_secs(random.random_range(60..=180));
    let ends_at = heals_at + Duration::from_secs(HEALING_S);
    let owners = Owners::default();
    let site = Site { network, trace: trace.clone(), owners, devices, heals_at, ends_at, seed };
    let mut living = JoinSet::new();
    for (number, certificate) in (0..devices).zip(&certificates) {
        living.spawn(Device::new(site.clone(), number, certificate).run());
    }
    let accepted = Accepted::default();
    let requests = u64::from(devices) * u64::from(requests_per_device);
    let (engine, caller) = (Arc::clone(&server.engine), server.caller.clone());
    let application =
        Application { site: site.clone(), engine, caller, accepted: accepted.clone(), requests };
    tokio::spawn(Arc::new(application).run());
    while Instant::now() < ends_at {
        sleep(Duration::from_secs(1)).await;
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
    let accepted = accepted.all();
    unfinished(&server, &site, &accepted).await?;
    stop_if_broken(&trace)?;
    if random.random_ratio(1, AFTERLIFE_ONE_IN) {
        sleep_until(ends_at + Duration::from_secs(AFTERLIFE_S)).await;
        nothing_left(&server, &trace);
    }
    progress(begin.elapsed().as_secs());
    let tasks = tasks(&server, &site, &accepted).await?;
    check::check(&trace, &accepted, &tasks, &reports);
    stop_if_broken(&trace)?;
    for (_, detail) in &tasks {
        trace.add_bytes(format!("{detail:?}").as_bytes());
    }
    let counted = server.counts.now();
    let is_finished = |status| matches!(status, TaskStatus::Done | TaskStatus::Failed);
    let (events, digest) = trace.digest();
    Ok(Outcome {
        seed,
        devices,
        simulated_s: begin.elapsed().as_secs(),
        events,
        digest,
        connections: counted.connections,
        tasks: accepted.len() as u64,
        finished: tasks.iter().filter(|(_, detail)| is_finished(detail.task.status)).count() as u64,
        results: tasks.iter().map(|(_, detail)| detail.results.len() as u64).sum(),
        repeated_results: counted.duplicate_results,
        operations: counted.operations,
        commits: counted.commits,
    })
}

fn stop_if_broken(trace: &Trace) -> Result<(), SimulationError> {
    trace.first_broken().map_or(Ok(()), |broken| Err(SimulationError::Broken(Box::new(broken))))
}

/// Registers the devices; answers the serial numbers of their certificates.
async fn register(server: &Server, devices: u32) -> Result<Vec<String>, ServerError> {
    let mut certificates = Vec::new();
    for first in (0..devices).step_by(BATCH) {
        let mut registering = JoinSet::new();
        for number in first..devices.min(first.saturating_add(BATCH as u32)) {
            let (engine, caller) = (Arc::clone(&server.engine), server.caller.clone());
            registering.spawn(async move {
                let sn = Some(Sn::parse(&serial_number(number))?);
                let spec = DeviceSpec { sn, certificate: CertificateSpec::WithKey, ..DeviceSpec::default() };
                let (_, issued) = engine.for_caller(&caller).device_register(spec).await?;
                let serial = issued.map(|issued| issued.record.serial_hex).unwrap_or_default();
                Ok::<_, covey_core::Error>((number, serial))
            });
        }
        let mut registered = Vec::new();
        for one in registering.join_all().await {
            registered.push(one?);
        }
        registered.sort_unstable();
        certificates.extend(registered.into_iter().map(|(_, serial)| serial));
    }
    Ok(certificates)
}

/// What must hold at every moment.
fn watch(server: &Server, site: &Site) {
    let (sessions, devices) = (server.link.sessions(), site.devices as usize);
    if sessions > devices {
        let details = format!("{sessions} sessions of {devices} devices");
        site.trace.broken(0, "no session is without its device", details);
    }
    let listening = server.engine.server().listening();
    if listening > devices {
        site.trace.broken(0, "no more listen than there are devices", listening.to_string());
    }
}

/// Whatever could be finished is finished when everything has worked for a while.
async fn unfinished(server: &Server, site: &Site, accepted: &[TaskId]) -> Result<(), ServerError> {
    let now = server.engine.now();
    for (device, detail) in tasks(server, site, accepted).await? {
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

/// All accepted tasks with their results, and whose they are.
async fn tasks(
    server: &Server,
    site: &Site,
    accepted: &[TaskId],
) -> Result<Vec<(u32, TaskDetail)>, ServerError> {
    let mut found = Vec::new();
    for batch in accepted.chunks(BATCH) {
        let mut looking = JoinSet::new();
        for task in batch.iter().copied() {
            let (engine, caller) = (Arc::clone(&server.engine), server.caller.clone());
            let device = site.owners.of(task.0).unwrap_or_default();
            looking.spawn(async move {
                engine.for_caller(&caller).task_get(task).await.map(|detail| (device, detail))
            });
        }
        for one in looking.join_all().await {
            found.push(one?);
        }
    }
    found.sort_by_key(|(_, detail)| detail.task.seq);
    Ok(found)
}
