//! What is measured one after the other: a single measurement, or the standard
//! set, always the same, so that two runs can be compared.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bench::bed::Bed;
use crate::bench::calls::{CallsOptions, calls};
use crate::bench::connect::{ConnectOptions, connect};
use crate::bench::events::{EventsOptions, StreamsOptions, events, streams};
use crate::bench::organisations::{OrganisationsOptions, organisations};
use crate::bench::plot::plot;
use crate::bench::report::{Measurement, Report, write_file};
use crate::error::{Error, Result};
use crate::quantity::Rate;

/// A measurement that is still to be made.
#[derive(Clone, Debug, PartialEq)]
pub enum Planned {
    /// Calls of devices.
    Calls(CallsOptions),
    /// Devices that join.
    Connect(ConnectOptions),
    /// Events of devices.
    Events(EventsOptions),
    /// Open streams.
    Streams(StreamsOptions),
    /// Many organisations beside one that floods.
    Organisations(OrganisationsOptions),
}

/// How much of the standard set.
#[derive(Clone, Debug)]
pub struct SuiteOptions {
    /// Devices of the measurements of calls.
    pub devices: NonZeroU32,
    /// Devices that join.
    pub joining_devices: NonZeroU32,
    /// Streams that are open.
    pub streams: NonZeroU32,
    /// Time that is recorded of each measurement of calls and events.
    pub duration: Duration,
}

/// The folder of a suite's files: `bench.json`, `bench.md`, and a plot for
/// each measurement.
#[derive(Clone, Debug)]
pub struct SuiteFolder(PathBuf);

impl Planned {
    /// Measures.
    ///
    /// # Errors
    /// Those of the measurement.
    pub async fn run(self, bed: &Bed) -> Result<Measurement> {
        match self {
            Self::Calls(options) => calls(bed, options).await.map(Measurement::Calls),
            Self::Connect(options) => connect(bed, options).await.map(Measurement::Connect),
            Self::Events(options) => events(bed, options).await.map(Measurement::Events),
            Self::Streams(options) => streams(bed, options).await.map(Measurement::Streams),
            Self::Organisations(options) => organisations(bed, options).await.map(Measurement::Organisations),
        }
    }

    /// What the private server of this measurement is started with, besides its
    /// folder and its listeners.
    #[must_use]
    pub fn server_arguments(&self) -> &'static [&'static str] {
        match self {
            Self::Calls(_) | Self::Connect(_) | Self::Streams(_) | Self::Organisations(_) => &[],
            // What holds back a device that sends too much is not what is measured.
            Self::Events(_) => &["--events-per-second-max", "0", "--device-bytes-per-day-max", "0"],
        }
    }
}

/// The standard set, each with its name. Joining comes first: on a server that
/// has worked before, devices would move into memory that it has already.
#[must_use]
pub fn suite(options: &SuiteOptions) -> Vec<(&'static str, Planned)> {
    let joining = ConnectOptions {
        devices: options.joining_devices,
        concurrency: 256,
        rate_per_s: None,
        settle: Duration::from_secs(10),
        calls: 200,
    };
    let calls = |callers, rate_per_s| {
        Planned::Calls(CallsOptions {
            devices: options.devices,
            callers,
            rate_per_s,
            warmup: Duration::from_secs(2),
            duration: options.duration,
        })
    };
    let events = EventsOptions {
        devices: options.devices,
        window: 16,
        duplicates: Rate::A_TENTH,
        rate_per_s: None,
        with_eva: false,
        stream_events: 200,
        warmup: Duration::from_secs(2),
        duration: options.duration,
    };
    let streams = StreamsOptions {
        streams: options.streams,
        events: NonZeroU32::MIN.saturating_add(49),
        settle: Duration::from_secs(5),
    };
    vec![
        ("connect", Planned::Connect(joining)),
        ("calls-1-caller", calls(1, None)),
        ("calls-64-callers", calls(64, None)),
        ("calls-256-callers", calls(256, None)),
        ("calls-1000-per-s", calls(128, Some(1_000.0))),
        ("events", Planned::Events(events)),
        ("streams", Planned::Streams(streams)),
    ]
}

impl SuiteFolder {
    /// Makes the folder if it is missing.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn create(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|source| Error::Output { path: path.to_owned(), source })?;
        Ok(Self(path.to_owned()))
    }

    /// Writes the report as it is after a measurement with this name, so that a
    /// suite that is stopped is not lost, and the plot of that measurement.
    ///
    /// # Errors
    /// [`Error::Output`] and [`Error::Plot`].
    pub fn write(&self, report: &Report, name: &str) -> Result<()> {
        write_file(&self.0.join("bench.json"), &report.json())?;
        write_file(&self.0.join("bench.md"), &report.markdown())?;
        match report.measurements.last() {
            Some(last) => plot(std::slice::from_ref(last), &self.0.join(format!("{name}.svg"))),
            None => Ok(()),
        }
    }
}
