//! `covey bench`: how many calls a second, how long they take, what a device
//! costs, on this machine.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use covey_sim::bench::{
    Bed, CallsOptions, ConnectOptions, EventsOptions, Header, OrganisationsOptions, OwnServer, Planned,
    Report, StreamsOptions, SuiteFolder, SuiteOptions, plot, suite,
};
use covey_sim::{Rate, parse_duration};
use tokio_util::sync::CancellationToken;

use crate::command::connection::{Connection, Target};
use crate::command::discover;
use crate::command::output::Output;
use crate::command::sim::{broker_url, ca_pem, explained, stop_on_signal};
use crate::fault;

/// Arguments of `covey bench`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    covey bench --own-server calls --devices 200 --callers 64 --duration 30s\n  \
    covey bench --own-server calls --rate 1000 --plot latency.svg\n  \
    covey bench connect --devices 5000\n  \
    covey bench --own-server events --devices 200 --duplicates 10%\n  \
    covey bench --own-server streams --streams 5000\n  \
    covey bench --own-server organisations --organisations 64\n  \
    covey bench --own-server suite --out ./bench\n\n\
    Server, devices and callers share the cores of this machine, unless the server is elsewhere.")]
pub struct BenchArgs {
    #[command(flatten)]
    pub target: Target,
    /// Start a private server in a temporary folder (under TMPDIR) for each measurement, and stop it afterwards
    #[arg(long, global = true, conflicts_with = "url")]
    own_server: bool,
    /// Beginning of the devices' serial numbers
    #[arg(long, value_name = "TEXT", default_value = "bench", global = true)]
    prefix: String,
    /// Folder for the certificates and keys of the devices
    #[arg(long, value_name = "DIR", default_value = "./covey-sim", global = true)]
    identities: PathBuf,
    /// Where devices connect, mqtts://HOST:PORT; without it, where the server says
    #[arg(long, value_name = "URL", global = true)]
    broker: Option<String>,
    /// Draw the latencies by percentile into this file (SVG)
    #[arg(long, value_name = "FILE", global = true, help_heading = "Output")]
    plot: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Call devices and wait for their answers
    Calls(CallsArgs),
    /// Connect many devices, and call some of them
    Connect(ConnectArgs),
    /// Let devices send events, some of them twice, and check that each is stored once
    Events(EventsArgs),
    /// Open many streams, and send events that go to all of them
    Streams(StreamsArgs),
    /// Let many organisations call at half of the capacity together while one floods: what each of them keeps
    Organisations(OrganisationsArgs),
    /// The standard set, written to a folder as JSON, Markdown and plots
    Suite(SuiteArgs),
}

#[derive(Args)]
struct CallsArgs {
    /// Devices
    #[arg(long, value_name = "N", default_value = "200")]
    devices: NonZeroU32,
    /// Calls under way, at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    callers: u16,
    /// Make so many calls due each second, whatever the server does (open loop; latency counts from
    /// the instant a call is due); without it, each caller calls again when it has its answer
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Warm-up: time before anything is recorded
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    warmup: Duration,
    /// Time that is recorded
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
}

#[derive(Args)]
struct ConnectArgs {
    /// Devices
    #[arg(long, value_name = "N", default_value = "5000")]
    devices: NonZeroU32,
    /// Devices that connect at a time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Connections per second, at most; without it, as fast as possible
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Time between the last connection and the measurement of memory
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    settle: Duration,
    /// Calls afterwards, one after the other, to devices at random
    #[arg(long, value_name = "N", default_value = "200")]
    calls: u32,
}

#[derive(Args)]
#[command(after_help = "A server limits each device to --events-per-second-max events (200 by default) and \
    --device-bytes-per-day-max bytes. Start it with 0 for both, as --own-server does.")]
struct EventsArgs {
    /// Devices
    #[arg(long, value_name = "N", default_value = "200")]
    devices: NonZeroU32,
    /// Messages of a device under way, at most
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// How many of the events are sent a second time: 10%, or 0.1
    #[arg(long, value_name = "RATE", default_value = "10%")]
    duplicates: Rate,
    /// Make so many events due each second, whatever the server does (open loop; latency counts from
    /// the instant an event is due); without it, as many as the server takes
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Have the devices subscribe to the answers to events (eva), as devices in the field do
    #[arg(long)]
    eva: bool,
    /// Events afterwards, one after the other, to measure the way to an open stream; 0 for none
    #[arg(long, value_name = "N", default_value = "200")]
    stream_events: u32,
    /// Warm-up: time before anything is recorded
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    warmup: Duration,
    /// Time that is recorded
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
}

#[derive(Args)]
struct StreamsArgs {
    /// Streams (server-sent events) that are open
    #[arg(long, value_name = "N", default_value = "1000")]
    streams: NonZeroU32,
    /// Events, one after the other, each of which goes to all streams
    #[arg(long, value_name = "N", default_value = "50")]
    events: NonZeroU32,
    /// Time between the last stream's opening and the measurement of memory
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    settle: Duration,
}

#[derive(Args)]
struct OrganisationsArgs {
    /// Organisations, with a key and a device each; the server keeps them
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(2..=1_000))]
    organisations: u32,
    /// Calls under way: of all while the capacity is measured, then of the one that floods
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    callers: u16,
    /// Warm-up of each of the two parts: time before anything is recorded
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    warmup: Duration,
    /// Time that is recorded of each of the two parts
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
}

#[derive(Args)]
struct SuiteArgs {
    /// Folder for bench.json, bench.md and the plots
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Devices that are called
    #[arg(long, value_name = "N", default_value = "200")]
    devices: NonZeroU32,
    /// Devices that join
    #[arg(long, value_name = "N", default_value = "5000")]
    joining_devices: NonZeroU32,
    /// Streams that are open
    #[arg(long, value_name = "N", default_value = "1000")]
    streams: NonZeroU32,
    /// Time that is recorded of each measurement of calls and events
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1e6).contains(&rate) => Ok(rate),
        _ => Err("write a number from 0.001 to 1000000".to_owned()),
    }
}

/// Measures, and tells.
pub async fn run(mut args: BenchArgs) -> Result<ExitCode> {
    let stop = stop_on_signal()?;
    if !args.own_server {
        args.target = discover::settle(args.target).await?;
    }
    let output = Output::new(args.target.json);
    let folder = match &args.what {
        What::Suite(what) => Some(SuiteFolder::create(&what.out).map_err(fault::setup)?),
        What::Calls(_) | What::Connect(_) | What::Events(_) | What::Streams(_) | What::Organisations(_) => {
            None
        }
    };
    let server = if args.own_server {
        None
    } else {
        Some(Connection::open(&args.target)?.client.base_url().to_owned())
    };
    let mut report = Report::new(Header::now(server));
    for (name, planned) in args.what.plan() {
        let place = Place::open(&args, &planned).await?;
        let bed = place.bed(&args, stop.clone());
        let measured = planned.run(&bed).await;
        report.measurements.push(measured.map_err(|error| explained(error, &place.connection))?);
        if let Some(folder) = &folder {
            folder.write(&report, name).map_err(fault::setup)?;
            output.note(&format!("{name} is done"));
        }
    }
    if let Some(path) = &args.plot {
        plot(&report.measurements, path).map_err(fault::setup)?;
    }
    if output.json {
        output.json(&report)?;
    } else {
        output.text(&report.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The server of one measurement.
struct Place {
    connection: Connection,
    target: Target,
    /// Ends with this place.
    own: Option<OwnServer>,
}

impl Place {
    async fn open(args: &BenchArgs, planned: &Planned) -> Result<Self> {
        if !args.own_server {
            let target = args.target.clone();
            return Ok(Self { connection: Connection::open(&target)?, target, own: None });
        }
        let program = std::env::current_exe()?;
        let own = OwnServer::start(&program, planned.server_arguments()).await.map_err(fault::setup)?;
        let target = Target {
            url: None,
            discover: None,
            key: None,
            ca: None,
            data: own.data_dir(),
            json: args.target.json,
        };
        Ok(Self { connection: Connection::open(&target)?, target, own: Some(own) })
    }

    fn bed(&self, args: &BenchArgs, stop: CancellationToken) -> Bed {
        // An address that was given is not that of a server started for this.
        let broker = args.broker.clone().filter(|_| self.own.is_none());
        Bed {
            client: self.connection.client.clone(),
            mqtts: broker.unwrap_or_else(|| broker_url(&self.connection)),
            ca_pem: ca_pem(&self.target),
            identities: self.own.as_ref().map_or_else(|| args.identities.clone(), OwnServer::identities_dir),
            prefix: args.prefix.clone(),
            stop,
        }
    }
}

impl What {
    /// What to measure, each with its name.
    fn plan(&self) -> Vec<(&'static str, Planned)> {
        match self {
            Self::Calls(what) => vec![("calls", Planned::Calls(what.options()))],
            Self::Connect(what) => vec![("connect", Planned::Connect(what.options()))],
            Self::Events(what) => vec![("events", Planned::Events(what.options()))],
            Self::Streams(what) => vec![("streams", Planned::Streams(what.options()))],
            Self::Organisations(what) => vec![("organisations", Planned::Organisations(what.options()))],
            Self::Suite(what) => suite(&what.options()),
        }
    }
}

impl CallsArgs {
    fn options(&self) -> CallsOptions {
        CallsOptions {
            devices: self.devices,
            callers: self.callers.into(),
            rate_per_s: self.rate,
            warmup: self.warmup,
            duration: self.duration.max(Duration::from_millis(100)),
        }
    }
}

impl ConnectArgs {
    fn options(&self) -> ConnectOptions {
        ConnectOptions {
            devices: self.devices,
            concurrency: self.concurrency.into(),
            rate_per_s: self.rate,
            settle: self.settle,
            calls: self.calls,
        }
    }
}

impl EventsArgs {
    fn options(&self) -> EventsOptions {
        EventsOptions {
            devices: self.devices,
            window: self.window,
            duplicates: self.duplicates,
            rate_per_s: self.rate,
            with_eva: self.eva,
            stream_events: self.stream_events,
            warmup: self.warmup,
            duration: self.duration.max(Duration::from_millis(100)),
        }
    }
}

impl StreamsArgs {
    fn options(&self) -> StreamsOptions {
        StreamsOptions { streams: self.streams, events: self.events, settle: self.settle }
    }
}

impl OrganisationsArgs {
    fn options(&self) -> OrganisationsOptions {
        OrganisationsOptions {
            organisations: NonZeroU32::new(self.organisations).unwrap_or(NonZeroU32::MIN),
            callers: self.callers.into(),
            warmup: self.warmup,
            duration: self.duration.max(Duration::from_millis(100)),
        }
    }
}

impl SuiteArgs {
    fn options(&self) -> SuiteOptions {
        SuiteOptions {
            devices: self.devices,
            joining_devices: self.joining_devices,
            streams: self.streams,
            duration: self.duration.max(Duration::from_millis(100)),
        }
    }
}
