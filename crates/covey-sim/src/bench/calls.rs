//! `bench calls`: applications call devices and wait for the answers, over
//! REST; the devices answer at once.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use covey_client::{Client, Error as ClientError, TaskRequest, TaskStatus};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::behaviour::methods;
use crate::bench::bed::{Bed, Crew};
use crate::bench::latency::LatencySummary;
use crate::bench::load::{self, LoadOptions, LoadProgress, Pace};
use crate::bench::machine;
use crate::bench::server_work::{self, Memory, ServerCounters, ServerWork};
use crate::error::{Error, Result};
use crate::fleet::Member;
use crate::seed::SplitMix64;

/// How long a caller waits for an answer.
const WAIT: Duration = Duration::from_secs(30);
/// Devices that connect at a time.
const CONNECTING: usize = 64;
/// The parameters of every call: a cell of a locker is opened.
const PAYLOAD: &str = r#"{"dt":[{"cl":5}]}"#;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallsOptions {
    /// Devices, connected all the time.
    pub devices: NonZeroU32,
    /// Calls under way at most.
    pub callers: usize,
    /// Calls that are due each second (open loop); `None`: each caller calls
    /// again when it has its answer (closed loop).
    pub rate_per_s: Option<f64>,
    /// Time that is not recorded, before.
    #[serde(rename = "warmup_s", serialize_with = "as_seconds")]
    pub warmup: Duration,
    /// Time that is recorded.
    #[serde(rename = "duration_s", serialize_with = "as_seconds")]
    pub duration: Duration,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallsResult {
    /// How it was measured.
    pub options: CallsOptions,
    /// Seconds that were recorded.
    pub window_s: f64,
    /// Calls that ended well in that time.
    pub completed: u64,
    /// The same each second.
    pub calls_per_s: f64,
    /// Calls that did not end well, by what went wrong.
    pub errors: BTreeMap<String, u64>,
    /// Calls that had not ended half a minute after the end. Their latency
    /// counts as long as they were waited for.
    pub unfinished: u64,
    /// From the instant a call was due (open loop) or begun (closed loop) to
    /// its answer.
    pub latency: LatencySummary,
    /// The server's resident memory; `None` if it does not tell.
    pub server_memory: Option<Memory>,
    /// What the server did.
    pub server: ServerWork,
    /// The server's processor time for each call, in microseconds.
    pub server_cpu_us_per_call: f64,
    /// The same of this process: all devices and callers.
    pub own_cpu_us_per_call: f64,
}

/// Measures calls.
///
/// # Errors
/// Those of the fleet and of the server, [`Error::NoCall`] if none came to a
/// good end, and [`Error::Stopped`].
pub async fn calls(bed: &Bed, options: CallsOptions) -> Result<CallsResult> {
    let crew = bed.crew(options.devices, options.callers).await?;
    crew.connect(CONNECTING, None, &bed.stop).await?;
    let result = calls_of(bed, &crew, options).await;
    crew.simulation.stop().await;
    result
}

async fn calls_of(bed: &Bed, crew: &Crew, options: CallsOptions) -> Result<CallsResult> {
    let caller = Callers::new(bed.client.clone(), &crew.fleet.members)?;
    let progress = Arc::new(LoadProgress::default());
    let shown = Shown::start(&options, Arc::clone(&progress));
    let recording = tokio::spawn(record(bed.client.clone(), options.clone()));
    let load_options = LoadOptions {
        callers: options.callers,
        pace: options.rate_per_s.map_or(Pace::Closed, Pace::PerSecond),
        warmup: options.warmup,
        duration: options.duration,
    };
    let call = move |number| {
        let caller = caller.clone();
        async move { caller.call(number).await }
    };
    let outcome = load::run(load_options, call, progress, bed.stop.clone()).await;
    shown.end();
    if bed.stop.is_cancelled() {
        recording.abort();
        return Err(Error::Stopped);
    }
    let recorded = match recording.await {
        Ok(recorded) => recorded?,
        Err(_) => return Err(Error::Stopped),
    };
    let Some(latency) = outcome.latencies.summary().filter(|_| outcome.completed > 0) else {
        let why: Vec<_> = outcome.errors.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
        return Err(Error::NoCall { why: why.join(", ") });
    };
    #[allow(clippy::cast_precision_loss)] // a count is far below 2^53
    let completed = outcome.completed as f64;
    Ok(CallsResult {
        window_s: outcome.window.as_secs_f64(),
        completed: outcome.completed,
        calls_per_s: completed / outcome.window.as_secs_f64(),
        errors: outcome.errors,
        unfinished: outcome.unfinished,
        latency,
        server_cpu_us_per_call: recorded.work.cpu_s * 1e6 / completed,
        own_cpu_us_per_call: recorded.own_cpu_s * 1e6 / completed,
        server_memory: recorded.memory,
        server: recorded.work,
        options,
    })
}

/// Calls devices, each time another one.
#[derive(Clone)]
pub(crate) struct Callers {
    client: Client,
    requests: Arc<[TaskRequest]>,
}

impl Callers {
    pub(crate) fn new(client: Client, members: &[Member]) -> Result<Self> {
        let request = |member: &Member| {
            TaskRequest::for_device_id(member.device_id)
                .with_method_code(methods::OPEN_CELL)
                .with_payload(PAYLOAD)
        };
        let requests = members.iter().map(request).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { client, requests: requests.into() })
    }

    /// Makes the call with this number, which decides the device; what went
    /// wrong in a word.
    pub(crate) async fn call(&self, number: u64) -> Result<(), String> {
        let device = SplitMix64::new(number).next_below(self.requests.len() as u64);
        let request = usize::try_from(device).ok().and_then(|device| self.requests.get(device));
        let request = request.ok_or("no device")?;
        match self.client.call(request, WAIT).await {
            Ok(outcome) if outcome.task.status == TaskStatus::Done => Ok(()),
            Ok(outcome) if outcome.is_final() => Err(outcome.task.status.name().to_lowercase()),
            Ok(_) => Err("no answer in time".to_owned()),
            Err(ClientError::Refused { status, .. }) => Err(format!("http {status}")),
            Err(ClientError::Unreachable { .. }) => Err("unreachable".to_owned()),
            Err(ClientError::Interrupted { .. }) => Err("interrupted".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What was seen of the server and this process while calls were recorded.
struct Recorded {
    work: ServerWork,
    memory: Option<Memory>,
    own_cpu_s: f64,
}

/// Watches the server from the end of the warm-up to the end of the run.
async fn record(client: Client, options: CallsOptions) -> Result<Recorded> {
    tokio::time::sleep(options.warmup).await;
    let (before, own_before) = (ServerCounters::read(&client).await?, machine::cpu_seconds());
    let stop = CancellationToken::new();
    let watching = tokio::spawn(server_work::watch(client.clone(), options.duration, stop.clone()));
    tokio::time::sleep(options.duration).await;
    let own_cpu_s = machine::cpu_seconds() - own_before;
    let after = ServerCounters::read(&client).await?;
    stop.cancel();
    let samples = watching.await.unwrap_or_default();
    Ok(Recorded { work: after.work_since(&before), memory: Memory::of(&samples), own_cpu_s })
}

/// A line on standard error, if that is a terminal, that counts.
struct Shown {
    line: ProgressBar,
    task: tokio::task::JoinHandle<()>,
}

impl Shown {
    fn start(options: &CallsOptions, progress: Arc<LoadProgress>) -> Self {
        let line = ProgressBar::new_spinner();
        let all_s = (options.warmup + options.duration).as_secs();
        let shown = line.clone();
        let task = tokio::spawn(async move {
            let mut last = 0;
            for second in 1.. {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let completed = progress.completed.load(Ordering::Relaxed);
                let failed = progress.failed.load(Ordering::Relaxed);
                let now = completed - last;
                shown.set_message(format!("{second} of {all_s} s: {now} calls/s, {failed} failed"));
                shown.tick();
                last = completed;
            }
        });
        Self { line, task }
    }

    fn end(self) {
        self.task.abort();
        self.line.finish_and_clear();
    }
}

pub(crate) fn as_seconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}
