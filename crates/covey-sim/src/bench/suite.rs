//! `bench suite`: the standard set, always the same, so that two runs can be
//! compared; written as JSON, as a table in Markdown and as plots.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bench::bed::Bed;
use crate::bench::calls::{CallsOptions, calls};
use crate::bench::connect::{ConnectOptions, connect};
use crate::bench::plot::plot;
use crate::bench::report::{Header, Measurement, Report, write_file};
use crate::error::{Error, Result};

/// How much of the standard set.
#[derive(Clone, Debug)]
pub struct SuiteOptions {
    /// Where the files go.
    pub out: PathBuf,
    /// Devices of the measurements of calls.
    pub devices: NonZeroU32,
    /// Devices that join.
    pub joining_devices: NonZeroU32,
    /// Time that is recorded of each measurement of calls.
    pub duration: Duration,
}

/// Runs the standard set and writes its files: `bench.json`, `bench.md` and a
/// plot for each measurement.
///
/// # Errors
/// Those of the measurements, and [`Error::Output`].
pub async fn suite(bed: &Bed, header: Header, options: &SuiteOptions) -> Result<Report> {
    let out = &options.out;
    std::fs::create_dir_all(out).map_err(|source| Error::Output { path: out.clone(), source })?;
    let mut report = Report { header, measurements: Vec::new() };
    for (name, callers, rate_per_s) in [
        ("calls-1", 1, None),
        ("calls-64", 64, None),
        ("calls-256", 256, None),
        ("calls-1000-per-s", 128, Some(1_000.0)),
    ] {
        let measured = CallsOptions {
            devices: options.devices,
            callers,
            rate_per_s,
            warmup: Duration::from_secs(2),
            duration: options.duration,
        };
        add(&mut report, out, name, Measurement::Calls(calls(bed, measured).await?))?;
    }
    let joining = ConnectOptions {
        devices: options.joining_devices,
        concurrency: 256,
        rate_per_s: None,
        settle: Duration::from_secs(10),
        calls: 200,
    };
    add(&mut report, out, "connect", Measurement::Connect(connect(bed, joining).await?))?;
    Ok(report)
}

/// Writes what there is after each measurement: a suite that is stopped is not
/// lost. Its plot comes last, so that one that fails leaves the numbers.
fn add(report: &mut Report, out: &Path, name: &str, measurement: Measurement) -> Result<()> {
    report.measurements.push(measurement);
    write_file(&out.join("bench.json"), &report.json())?;
    write_file(&out.join("bench.md"), &report.markdown())?;
    match report.measurements.last() {
        Some(last) => plot(std::slice::from_ref(last), &out.join(format!("{name}.svg"))),
        None => Ok(()),
    }
}
