//! `covey bench`: how many calls a second, how long they take, what a device
//! costs, on this machine.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use covey_sim::bench::{
    Bed, CallsOptions, ConnectOptions, Header, Measurement, OwnServer, Report, SuiteOptions, calls, connect,
    plot, suite,
};
use covey_sim::parse_duration;

use crate::command::connection::{Connection, Target};
use crate::command::sim::{broker_url, ca_pem, explained, stop_on_signal};
use crate::fault;

/// Arguments of `covey bench`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    covey bench --own-server calls --devices 200 --callers 64 --duration 30s\n  \
    covey bench --own-server calls --rate 1000 --plot latency.svg\n  \
    covey bench connect --devices 5000\n  \
    covey bench --own-server suite --out ./bench\n\n\
    Server, devices and callers share the cores of this machine, unless the server is elsewhere.")]
pub struct BenchArgs {
    #[command(flatten)]
    pub target: Target,
    /// Start a private server in a temporary folder (TMPDIR) for this, and stop it afterwards
    #[arg(long, global = true, conflicts_with = "url")]
    own_server: bool,
    /// What the serial numbers of the devices begin with
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
    /// Let many devices join, and call some of them
    Connect(ConnectArgs),
    /// The standard set, written to a folder as JSON, Markdown and plots
    Suite(SuiteArgs),
}

#[derive(Args)]
struct CallsArgs {
    /// Devices
    #[arg(long, value_name = "N", default_value = "200")]
    devices: NonZeroU32,
    /// Calls under way at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    callers: u16,
    /// Make so many calls due each second, whatever the server does (open loop; latency counts from
    /// the instant a call is due); without it, each caller calls again when it has its answer
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Time before anything is recorded
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
    /// Devices that are connecting at a time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Attempts a second at most; without it, as fast as it goes
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
    /// Time that is recorded of each measurement of calls
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
    let own_server = start_own_server(&mut args).await?;
    let connection = Connection::open(&args.target)?;
    let bed = Bed {
        client: connection.client.clone(),
        mqtts: args.broker.clone().unwrap_or_else(|| broker_url(&connection)),
        ca_pem: ca_pem(&args.target),
        identities: args.identities,
        prefix: args.prefix,
        stop,
    };
    let header = Header::now(connection.client.base_url(), own_server.is_some());
    let measured = match args.what {
        What::Calls(what) => {
            calls(&bed, what.options()).await.map(|result| Report::of(header, Measurement::Calls(result)))
        }
        What::Connect(what) => {
            connect(&bed, what.options()).await.map(|result| Report::of(header, Measurement::Connect(result)))
        }
        What::Suite(what) => suite(&bed, header, &what.options()).await,
    };
    // Ends before its port is missed.
    drop(own_server);
    let report = measured.map_err(|error| explained(error, &connection))?;
    if let Some(path) = &args.plot {
        plot(&report.measurements, path).map_err(fault::setup)?;
    }
    if connection.output.json {
        connection.output.json(&report)?;
    } else {
        connection.output.text(&report.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn start_own_server(args: &mut BenchArgs) -> Result<Option<OwnServer>> {
    if !args.own_server {
        return Ok(None);
    }
    let server = OwnServer::start(&std::env::current_exe()?).await.map_err(fault::setup)?;
    args.target = Target { url: None, key: None, ca: None, data: server.data_dir(), json: args.target.json };
    args.identities = server.identities_dir();
    args.broker = None;
    Ok(Some(server))
}

impl CallsArgs {
    fn options(self) -> CallsOptions {
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
    fn options(self) -> ConnectOptions {
        ConnectOptions {
            devices: self.devices,
            concurrency: self.concurrency.into(),
            rate_per_s: self.rate,
            settle: self.settle,
            calls: self.calls,
        }
    }
}

impl SuiteArgs {
    fn options(self) -> SuiteOptions {
        SuiteOptions {
            out: self.out,
            devices: self.devices,
            joining_devices: self.joining_devices,
            duration: self.duration.max(Duration::from_millis(100)),
        }
    }
}
