//! `bench connect`: how fast devices join, what an idle one costs the server,
//! and how a call goes among them.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bench::bed::{Bed, Crew};
use crate::bench::calls::{Callers, as_seconds};
use crate::bench::latency::{Latencies, LatencySummary};
use crate::bench::machine;
use crate::bench::server_work::ServerCounters;
use crate::error::{Error, Result};
use crate::fleet::JoinReport;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnectOptions {
    /// Devices that join.
    pub devices: NonZeroU32,
    /// Devices that are connecting at a time.
    pub concurrency: usize,
    /// Attempts a second at most; `None`: as fast as it goes.
    pub rate_per_s: Option<f64>,
    /// Time between the last connection and the measurement of memory.
    #[serde(rename = "settle_s", serialize_with = "as_seconds")]
    pub settle: Duration,
    /// Calls afterwards, one after the other.
    pub calls: u32,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnectResult {
    /// How it was measured.
    pub options: ConnectOptions,
    /// From the first attempt to the last subscription, in seconds.
    pub joined_s: f64,
    /// Devices that joined each second.
    pub connects_per_s: f64,
    /// From a device's first attempt to its subscription.
    pub joining: LatencySummary,
    /// The server's processor time for each device that joined, in microseconds.
    pub server_cpu_us_per_connect: f64,
    /// The server's resident memory without the devices, in bytes.
    pub server_before_bytes: u64,
    /// With them, after the time to settle, in bytes.
    pub server_after_bytes: u64,
    /// The difference for each device, in bytes.
    pub server_bytes_per_device: f64,
    /// The same of this process, the devices' own side.
    pub own_bytes_per_device: f64,
    /// Calls among the connected devices; `None` if none were asked for.
    pub calls: Option<LatencySummary>,
    /// Calls that did not end well.
    pub calls_failed: u32,
}

/// Measures joining.
///
/// # Errors
/// Those of the fleet and of the server, [`Error::NoCall`] and [`Error::Stopped`].
pub async fn connect(bed: &Bed, options: ConnectOptions) -> Result<ConnectResult> {
    let crew = bed.crew(options.devices, 1).await?;
    let result = connect_of(bed, &crew, options).await;
    crew.simulation.stop().await;
    result
}

async fn connect_of(bed: &Bed, crew: &Crew, options: ConnectOptions) -> Result<ConnectResult> {
    let own_before = machine::resident_bytes();
    let before = ServerCounters::read(&bed.client).await?;
    let report = crew.connect(options.concurrency, options.rate_per_s, &bed.stop).await?;
    let joined = ServerCounters::read(&bed.client).await?;
    tokio::select! {
        () = tokio::time::sleep(options.settle) => {}
        () = bed.stop.cancelled() => return Err(Error::Stopped),
    }
    let after = ServerCounters::read(&bed.client).await?;
    let own_after = machine::resident_bytes();
    let (calls, calls_failed) = call_some(bed, crew, options.calls).await?;

    let devices = f64::from(options.devices.get());
    let joined_s = report.took.as_secs_f64();
    Ok(ConnectResult {
        joined_s,
        connects_per_s: devices / joined_s.max(f64::EPSILON),
        joining: joining(&report)?,
        server_cpu_us_per_connect: joined.work_since(&before).cpu_s * 1e6 / devices,
        server_before_bytes: before.resident_bytes(),
        server_after_bytes: after.resident_bytes(),
        server_bytes_per_device: growth(before.resident_bytes(), after.resident_bytes()) / devices,
        own_bytes_per_device: growth(own_before, own_after) / devices,
        calls,
        calls_failed,
        options,
    })
}

fn joining(report: &JoinReport) -> Result<LatencySummary> {
    let mut latencies = Latencies::new();
    for duration in &report.joined {
        latencies.record(*duration);
    }
    // There is at least one device, and all of them came.
    latencies.summary().ok_or(Error::Stopped)
}

/// One caller, one call after the other, each to another device.
async fn call_some(bed: &Bed, crew: &Crew, calls: u32) -> Result<(Option<LatencySummary>, u32)> {
    let callers = Callers::new(bed.client.clone(), &crew.fleet.members)?;
    let (mut latencies, mut failed, mut last) = (Latencies::new(), 0, String::new());
    for number in 0..calls {
        let began = Instant::now();
        let outcome = tokio::select! {
            outcome = callers.call(number.into()) => outcome,
            () = bed.stop.cancelled() => return Err(Error::Stopped),
        };
        match outcome {
            Ok(()) => latencies.record(began.elapsed()),
            Err(kind) => (failed, last) = (failed + 1, kind),
        }
    }
    if calls > 0 && failed == calls {
        return Err(Error::NoCall { why: format!("{failed} × {last}") });
    }
    Ok((latencies.summary(), failed))
}

#[allow(clippy::cast_precision_loss)] // memory is far below 2^53 bytes
pub(crate) fn growth(before: u64, after: u64) -> f64 {
    after as f64 - before as f64
}
