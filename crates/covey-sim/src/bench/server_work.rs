//! What the server says of its own work (`/metrics`): how long its steps took,
//! how it grouped its commits, its processor time, and its memory over time.

use std::time::{Duration, Instant};

use covey_client::{Client, metric_value};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// The steps that the server measures: those of a call in their order, and that of an event.
const STEPS: [&str; 8] = ["create", "wait", "take", "run", "finish", "call", "commit", "event"];
/// Samples of the memory in a run, about.
const SAMPLES: u32 = 20;
/// Reading the metrics costs the server a query.
const SAMPLE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The server's counters at one instant. What it does not tell is 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerCounters {
    steps: [(f64, f64); STEPS.len()],
    commits: f64,
    grouped: f64,
    groups: f64,
    cpu_s: f64,
    resident_bytes: f64,
}

/// What the server did between two instants.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerWork {
    /// Its steps. They overlap: `call` is from the creation to the final
    /// result, with all others inside.
    pub steps: Vec<StepWork>,
    /// Commits of its store.
    pub commits: u64,
    /// Operations that shared a commit, on average.
    pub operations_per_commit: f64,
    /// Processor time, user and system, in seconds.
    pub cpu_s: f64,
}

/// What one step of the server took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepWork {
    /// Its name.
    pub step: &'static str,
    /// How often it was done.
    pub count: u64,
    /// How long it took on average, in microseconds.
    pub mean_us: f64,
}

/// The server's resident memory over the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// When the run began, in bytes.
    pub before_bytes: u64,
    /// When it ended, in bytes.
    pub after_bytes: u64,
    /// The slope of the line that fits the samples best (least squares), in
    /// bytes per second.
    pub slope_bytes_per_s: f64,
    /// The same of the second half of the samples: caches fill in the first.
    pub late_slope_bytes_per_s: f64,
    /// How many samples there are.
    pub samples: usize,
}

impl ServerCounters {
    /// Asks the server.
    pub(crate) async fn read(client: &Client) -> covey_client::Result<Self> {
        Ok(Self::parse(&client.metrics().await?))
    }

    fn parse(text: &str) -> Self {
        let value = |name| metric_value(text, name, &[]).unwrap_or(0.0);
        let step = |step, name| metric_value(text, name, &[("step", step)]).unwrap_or(0.0);
        Self {
            steps: STEPS
                .map(|name| (step(name, "covey_step_seconds_sum"), step(name, "covey_step_seconds_count"))),
            commits: value("covey_store_commits_total"),
            grouped: value("covey_store_group_size_sum"),
            groups: value("covey_store_group_size_count"),
            cpu_s: value("process_cpu_seconds_total"),
            resident_bytes: value("process_resident_memory_bytes"),
        }
    }

    /// Resident memory in bytes; 0 if the server does not tell.
    pub(crate) fn resident_bytes(&self) -> u64 {
        whole(self.resident_bytes)
    }

    pub(crate) fn work_since(&self, before: &Self) -> ServerWork {
        let steps = STEPS.iter().zip(self.steps.iter().zip(&before.steps)).map(|(step, (after, before))| {
            let (seconds, count) = (after.0 - before.0, after.1 - before.1);
            StepWork { step, count: whole(count), mean_us: ratio(seconds * 1e6, count) }
        });
        ServerWork {
            steps: steps.collect(),
            commits: whole(self.commits - before.commits),
            operations_per_commit: ratio(self.grouped - before.grouped, self.groups - before.groups),
            cpu_s: self.cpu_s - before.cpu_s,
        }
    }
}

/// Samples the server's counters until it is stopped; with the instants.
pub(crate) async fn watch(
    client: Client,
    run: Duration,
    stop: CancellationToken,
) -> Vec<(Instant, ServerCounters)> {
    let mut samples = Vec::new();
    let mut ticks = tokio::time::interval((run / SAMPLES).max(SAMPLE_INTERVAL_MIN));
    loop {
        tokio::select! {
            () = stop.cancelled() => return samples,
            _ = ticks.tick() => {}
        }
        // One that fails is one less; a server that is gone shows in the calls.
        if let Ok(counters) = ServerCounters::read(&client).await {
            samples.push((Instant::now(), counters));
        }
    }
}

impl Memory {
    /// `None` without samples, or if the server does not tell its memory.
    pub(crate) fn of(samples: &[(Instant, ServerCounters)]) -> Option<Self> {
        let ((start, first), (_, last)) = (samples.first()?, samples.last()?);
        if first.resident_bytes() == 0 {
            return None;
        }
        let points: Vec<(f64, f64)> = samples
            .iter()
            .map(|(at, counters)| {
                (at.saturating_duration_since(*start).as_secs_f64(), counters.resident_bytes)
            })
            .collect();
        Some(Self {
            before_bytes: first.resident_bytes(),
            after_bytes: last.resident_bytes(),
            slope_bytes_per_s: slope(&points),
            late_slope_bytes_per_s: slope(points.split_at(points.len() / 2).1),
            samples: samples.len(),
        })
    }
}

/// Ordinary least squares: the covariance of both over the variance of the first.
#[allow(clippy::cast_precision_loss)] // a run has far fewer than 2^53 samples
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let covariance = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>();
    ratio(covariance, points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum())
}

fn ratio(of: f64, to: f64) -> f64 {
    if to == 0.0 { 0.0 } else { of / to }
}

/// A counter as a whole number; one that went back (a restart) is 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, and is not negative
fn whole(value: f64) -> u64 {
    value.max(0.0).round() as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn page(calls: u32, commits: u32, resident: u32) -> String {
        format!(
            "covey_step_seconds_sum{{step=\"create\"}} {}\ncovey_step_seconds_count{{step=\"create\"}} {calls}\n\
             covey_store_commits_total {commits}\ncovey_store_group_size_sum {}\n\
             covey_store_group_size_count {commits}\nprocess_cpu_seconds_total {}\n\
             process_resident_memory_bytes {resident}\n# EOF\n",
            f64::from(calls) * 0.002,
            commits * 4,
            f64::from(calls) * 0.001,
        )
    }

    #[test]
    fn the_work_between_two_instants_is_their_difference() {
        let before = ServerCounters::parse(&page(100, 10, 1));
        let work = ServerCounters::parse(&page(1_100, 260, 1)).work_since(&before);
        let create = work.steps.iter().find(|step| step.step == "create").unwrap();
        assert_eq!(create.count, 1_000);
        assert!((create.mean_us - 2_000.0).abs() < 1e-3);
        assert_eq!(work.commits, 250);
        assert!((work.operations_per_commit - 4.0).abs() < 1e-9);
        assert!((work.cpu_s - 1.0).abs() < 1e-9);
        let untouched = work.steps.iter().find(|step| step.step == "finish").unwrap();
        assert_eq!((untouched.count, untouched.mean_us), (0, 0.0));
    }

    #[test]
    fn flat_memory_has_no_slope_and_a_leak_has_its_own() {
        let start = Instant::now();
        let samples = |bytes_per_s: u32| {
            let sample = |second: u32| {
                let counters = ServerCounters::parse(&page(0, 0, 1_000_000 + second * bytes_per_s));
                (start + Duration::from_secs(second.into()), counters)
            };
            (0..10).map(sample).collect::<Vec<_>>()
        };
        assert_eq!(Memory::of(&samples(0)).unwrap().slope_bytes_per_s, 0.0);
        let leak = Memory::of(&samples(4_096)).unwrap();
        assert!((leak.slope_bytes_per_s - 4_096.0).abs() < 1e-6);
        assert!((leak.late_slope_bytes_per_s - 4_096.0).abs() < 1e-6);
        assert_eq!((leak.before_bytes, leak.after_bytes), (1_000_000, 1_036_864));
        assert_eq!(Memory::of(&[]), None);
        assert_eq!(Memory::of(&[(start, ServerCounters::default())]), None);
    }
}
