//! A fleet at work: devices join a few at a time, are called, and leave.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use covey_device::{Status, TlsRoots};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::behaviour::Behaviour;
use crate::behaviour::methods::{self, Shared};
use crate::error::{Error, Result};
use crate::fleet::device::{self, Slot, Workshop};
use crate::fleet::register::{Member, progress_bar};

/// What is simulated.
#[derive(Clone, Debug)]
pub struct SimulationOptions {
    /// Where devices connect, `mqtts://host:port`.
    pub server: String,
    /// How they behave.
    pub behaviour: Behaviour,
    /// From which all chance follows.
    pub seed: u64,
}

/// How devices join.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JoinOptions {
    /// Devices that are connecting at a time.
    pub concurrency: usize,
    /// Attempts a second at most; `None`: as fast as it goes.
    pub per_second: Option<f64>,
    /// How long to wait for a device before the next may join in its place.
    pub wait_max: Duration,
}

/// How joining went.
#[derive(Clone, Debug)]
pub struct JoinReport {
    /// How long each device that joined took, from its first attempt to its
    /// subscription.
    pub joined: Vec<Duration>,
    /// Devices that were not connected in time, with what their connection says.
    pub missing: Vec<(Arc<str>, String)>,
    /// From the first attempt to the last subscription.
    pub took: Duration,
}

/// A simulation at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Devices of the simulation.
    pub devices: usize,
    /// Devices that are connected and subscribed.
    pub connected: usize,
    /// Connections so far.
    pub connects: u64,
    /// Calls that reached a method.
    pub calls: u64,
    /// Those answered with 400 or more.
    pub failures: u64,
    /// Those never answered, as the behaviour has it.
    pub dropped: u64,
    /// Results sent twice, as the behaviour has it.
    pub sent_twice: u64,
    /// Deliveries of a call that the device had already.
    pub duplicates_suppressed: u64,
    /// Events that devices told of.
    pub events: u64,
    /// Messages with them, repetitions included.
    pub events_sent: u64,
    /// Events that the server has.
    pub events_acknowledged: u64,
    /// Events that it will not take, and those for which a device had no room.
    pub events_refused: u64,
    /// Events sent twice, as the behaviour has it.
    pub events_sent_twice: u64,
}

/// Devices at work. They stop when this is dropped; [`Simulation::stop`] waits
/// for it.
pub struct Simulation {
    slots: Vec<Arc<Slot>>,
    workshop: Arc<Workshop>,
    running: TaskTracker,
    stop: CancellationToken,
}

impl Simulation {
    /// Prepares devices; none is connected yet.
    ///
    /// # Errors
    /// [`Error::Device`] for an identity that cannot be used.
    pub fn new(members: &[Member], options: SimulationOptions) -> Result<Self> {
        let SimulationOptions { server, behaviour, seed } = options;
        let shared = Arc::new(Shared::new(behaviour, seed, members.iter().map(|member| &member.sn)));
        let handlers = Arc::new(methods::handlers(&shared));
        let mut roots: HashMap<Arc<str>, TlsRoots> = HashMap::new();
        let mut slots = Vec::with_capacity(members.len());
        for member in members {
            let Some(state) = shared.device(&member.sn) else { continue };
            let roots = match roots.get(&member.ca_pem) {
                Some(roots) => roots.clone(),
                None => {
                    let made = TlsRoots::from_ca_pem(member.ca_pem.as_bytes())?;
                    roots.insert(Arc::clone(&member.ca_pem), made.clone());
                    made
                }
            };
            slots.push(Arc::new(Slot::new(member.clone(), roots, Arc::clone(state))));
        }
        Ok(Self {
            slots,
            workshop: Arc::new(Workshop { server, handlers, shared }),
            running: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Starts all devices, a few at a time.
    ///
    /// # Errors
    /// [`Error::Device`] for an identity that cannot be used, [`Error::Stopped`].
    pub async fn join(&self, options: JoinOptions, stop: &CancellationToken) -> Result<JoinReport> {
        let bar = progress_bar("connecting", self.slots.len());
        let queue = Arc::new(JoinQueue {
            options,
            slots: self.slots.clone(),
            workshop: Arc::clone(&self.workshop),
            running: self.running.clone(),
            stop_devices: self.stop.clone(),
            next: AtomicUsize::new(0),
            start: Instant::now(),
        });
        let mut workers = JoinSet::new();
        for _ in 0..options.concurrency.clamp(1, self.slots.len().max(1)) {
            let (queue, bar) = (Arc::clone(&queue), bar.clone());
            workers.spawn(async move { queue.work(|| bar.inc(1)).await });
        }
        let mut report = JoinReport { joined: Vec::new(), missing: Vec::new(), took: Duration::ZERO };
        loop {
            let ended = tokio::select! {
                ended = workers.join_next() => ended,
                () = stop.cancelled() => return Err(Error::Stopped),
            };
            let Some(ended) = ended else { break };
            // A worker is not cancelled, and does not panic.
            let Ok(part) = ended else { continue };
            let part = part?;
            report.joined.extend(part.joined);
            report.missing.extend(part.missing);
            report.took = report.took.max(part.took);
        }
        bar.finish_and_clear();
        Ok(report)
    }

    /// How it is now.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let tally = &self.workshop.shared.tally;
        let mut summary = Summary {
            devices: self.slots.len(),
            calls: tally.calls.load(Ordering::Relaxed),
            failures: tally.failures.load(Ordering::Relaxed),
            dropped: tally.dropped.load(Ordering::Relaxed),
            sent_twice: tally.sent_twice.load(Ordering::Relaxed),
            events: tally.events.load(Ordering::Relaxed),
            events_refused: tally.events_not_queued.load(Ordering::Relaxed),
            events_sent_twice: tally.events_sent_twice.load(Ordering::Relaxed),
            ..Summary::default()
        };
        for slot in &self.slots {
            let counted = slot.counted();
            summary.connected += usize::from(slot.is_connected());
            summary.connects += counted.connects;
            summary.duplicates_suppressed += counted.duplicates_suppressed;
            summary.events_sent += counted.events_sent;
            summary.events_acknowledged += counted.events_acknowledged;
            summary.events_refused += counted.events_refused;
        }
        summary
    }

    /// Lets all devices leave, and waits until they have.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.running.close();
        self.running.wait().await;
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("devices", &self.slots.len()).finish_non_exhaustive()
    }
}

/// For people: one line.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} connected, {} calls, {} failures, {} duplicates suppressed",
            self.connected, self.devices, self.calls, self.failures, self.duplicates_suppressed
        )?;
        if self.dropped > 0 {
            write!(f, ", {} never answered", self.dropped)?;
        }
        if self.sent_twice > 0 {
            write!(f, ", {} sent twice", self.sent_twice)?;
        }
        if self.events > 0 {
            write!(
                f,
                "; {} events, {} sent, {} acknowledged, {} refused",
                self.events, self.events_sent, self.events_acknowledged, self.events_refused
            )?;
        }
        if self.events_sent_twice > 0 {
            write!(f, ", {} sent twice", self.events_sent_twice)?;
        }
        Ok(())
    }
}

/// The devices that still have to join.
struct JoinQueue {
    options: JoinOptions,
    slots: Vec<Arc<Slot>>,
    workshop: Arc<Workshop>,
    running: TaskTracker,
    stop_devices: CancellationToken,
    next: AtomicUsize,
    start: Instant,
}

impl JoinQueue {
    /// Takes one device after the other; `took` is until the last of them.
    async fn work(&self, joined: impl Fn()) -> Result<JoinReport> {
        let mut report = JoinReport { joined: Vec::new(), missing: Vec::new(), took: Duration::ZERO };
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(slot) = self.slots.get(number) else { return Ok(report) };
            if let Some(per_second) = self.options.per_second {
                #[allow(clippy::cast_precision_loss)] // far fewer than 2^53 devices
                let due = Duration::from_secs_f64(number as f64 / per_second);
                tokio::time::sleep_until((self.start + due).into()).await;
            }
            let began = Instant::now();
            let device = slot.build(&self.workshop)?;
            let live =
                device::run(Arc::clone(slot), Arc::clone(&self.workshop), device, self.stop_devices.clone());
            self.running.spawn(live);
            match self.until_connected(slot).await {
                Ok(()) => {
                    report.joined.push(began.elapsed());
                    report.took = self.start.elapsed();
                }
                Err(why) => report.missing.push((Arc::clone(&slot.member.sn), why)),
            }
            joined();
        }
    }

    async fn until_connected(&self, slot: &Slot) -> Result<(), String> {
        let Some(mut status) = slot.status() else {
            return Err("it has left".to_owned());
        };
        let connected = status.wait_for(|status| *status == Status::Connected);
        let outcome =
            tokio::time::timeout(self.options.wait_max, connected).await.map(|seen| seen.map(|_| ()));
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("it has left".to_owned()),
            Err(_) => Err(match &*status.borrow() {
                Status::Refused(refusal) => refusal.to_string(),
                _ => "no connection".to_owned(),
            }),
        }
    }
}
