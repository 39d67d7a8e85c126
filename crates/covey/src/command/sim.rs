//! `covey sim`: devices that are simulated, with latency and faults, for
//! whoever has none at hand yet, or not as many.

use std::io::{IsTerminal, stderr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use covey_sim::{
    Behaviour, Burst, EventBehaviour, Fleet, FleetOptions, JoinOptions, Latency, OfflinePattern, Rate,
    Sensor, Simulation, SimulationOptions, Summary, allow_open_files, parse_duration,
};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::command::connection::{Connection, Target};
use crate::command::discover;
use crate::command::output::Output;
use crate::command::sim_nodes::{self, NodeArgs};
use crate::fault;

/// How long a device may take to join before the next one takes its turn.
const JOIN_WAIT: Duration = Duration::from_secs(5);
/// Of how many that take longer it is said why.
const MISSING_SHOWN: usize = 3;

/// Arguments of `covey sim`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    covey sim --identity ./lamp-1                  run the device that `covey device add` wrote there\n  \
    covey sim --count 1000 --latency 5ms..50ms     run a swarm of new devices\n  \
    covey sim --count 10 --failure-rate 0.1 --duplicate-rate 0.1 --offline 30s/10s\n  \
    covey sim --count 10 --sensor-interval 5s      let each send a value that goes up and down\n  \
    covey sim --event-burst 500 --event-burst-every 10s --event-duplicates 10%\n  \
    covey sim --protocol coap --count 10           run nodes that know nothing of Covey, for a gateway\n  \
    covey sim --protocol mcu --count 3             run microcontrollers for covey up --mcu-http\n  \
    covey sim --protocol unit --kind read --count 3 --list units.json\n\n\
    What the devices can do (method code or name):\n  \
    20 hello, 21 reboot, 51 open_cell {\"dt\":[{\"cl\":5}]}, 1000 echo, 1001 progress {\"steps\":3},\n    \
    65000 twin.set, for whatever resource\n\n\
    What they tell unasked (event type):\n  \
    13 cell opened {\"301\":5}, 14 cell closed, 44 health check (a gauge) {\"320\":uptime in s}, 46 sensor {\"310\":21.5};\n  \
    the object is in \"300\", beside \"101\" number, \"102\" time and \"200\" type")]
pub struct SimArgs {
    #[command(flatten)]
    pub target: Target,
    /// Number of devices; the first run registers them, later runs use them again
    #[arg(long, value_name = "N", default_value = "1")]
    count: NonZeroU32,
    /// Beginning of their serial numbers: sim gives sim-00001, sim-00002, …
    #[arg(long, value_name = "TEXT", default_value = "sim")]
    prefix: String,
    /// Folder for their certificates and keys
    #[arg(long, value_name = "DIR", default_value = "./covey-sim")]
    identities: PathBuf,
    /// Run the one device of this folder (ca.pem, cert.pem, key.pem) instead
    #[arg(long, value_name = "DIR", conflicts_with_all = ["count", "prefix", "identities"])]
    identity: Option<PathBuf>,
    /// Let that device renew its certificate from the server's HTTPS listener, https://HOST:PORT, and store it in its folder
    #[arg(long, value_name = "URL", requires = "identity")]
    renew_from: Option<String>,
    /// Where devices connect, mqtts://HOST:PORT; without it, where the server says
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Stop after this time, such as 30s; without it, run until interrupted
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    run_for: Option<Duration>,
    /// Devices that connect at a time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    #[command(flatten)]
    nodes: NodeArgs,
    #[command(flatten)]
    behaviour: BehaviourArgs,
    #[command(flatten)]
    events: EventArgs,
}

/// What the devices tell unasked.
#[derive(Args)]
#[command(next_help_heading = "Events")]
struct EventArgs {
    /// Time between two health checks of a device, a tenth more or less; 0s for none
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    health_check_interval: Duration,
    /// Time from method 51 to the event "cell opened"
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    cell_opened_after: Duration,
    /// Time from method 51 to the event "cell closed"
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    cell_closed_after: Duration,
    /// Time between two values of a sensor that follows a sine wave; without it, no sensor
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    sensor_interval: Option<Duration>,
    /// Period of the sensor's sine wave
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = interval, requires = "sensor_interval")]
    sensor_period: Duration,
    /// Amplitude of the sensor's sine wave
    #[arg(long, value_name = "NUMBER", default_value_t = 5.0, value_parser = finite, requires = "sensor_interval")]
    sensor_amplitude: f64,
    /// Mean of the sensor's values
    #[arg(long, value_name = "NUMBER", default_value_t = 20.0, value_parser = finite, requires = "sensor_interval", allow_negative_numbers = true)]
    sensor_mean: f64,
    /// How often a device sends an event twice: 0 never to 1 always, or 10%
    #[arg(long, value_name = "RATE", default_value = "0")]
    event_duplicates: Rate,
    /// Events in a burst that a device sends again and again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), requires = "event_burst_every")]
    event_burst: Option<u32>,
    /// Time between two bursts
    #[arg(long, value_name = "DURATION", value_parser = interval, requires = "event_burst")]
    event_burst_every: Option<Duration>,
}

fn interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(interval) if interval >= Duration::from_millis(1) => Ok(interval),
        Ok(_) => Err("write 1ms or more".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("write a number".to_owned()),
    }
}

/// How the devices behave.
#[derive(Args)]
#[command(next_help_heading = "Behaviour")]
struct BehaviourArgs {
    /// How long a device works on a call: 5ms, or a range such as 5ms..50ms
    #[arg(long, value_name = "DURATION", default_value = "0ms")]
    latency: Latency,
    /// How often a device answers 500: 0 never to 1 always
    #[arg(long, value_name = "RATE", default_value = "0")]
    failure_rate: Rate,
    /// How often a device sends its result twice: 0 never to 1 always
    #[arg(long, value_name = "RATE", default_value = "0")]
    duplicate_rate: Rate,
    /// How often a device takes a task and never answers: 0 never to 1 always
    #[arg(long, value_name = "RATE", default_value = "0")]
    drop_rate: Rate,
    /// Time online and time offline, again and again, such as 30s/10s
    #[arg(long, value_name = "ON/OFF")]
    offline: Option<OfflinePattern>,
    /// Poll for tasks at this interval in seconds, instead of subscribing to announcements
    #[arg(long, value_name = "SECONDS", value_parser = poll_interval)]
    poll: Option<Duration>,
    /// Seed: random behaviour follows from this number and the serial numbers
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
}

fn poll_interval(text: &str) -> Result<Duration, String> {
    let seconds = text.trim_end_matches('s').parse().map_err(|_| "write a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(interval) if interval >= Duration::from_millis(10) => Ok(interval),
        _ => Err("write 0.01 seconds or more".to_owned()),
    }
}

/// Runs simulated devices until it is told to stop.
pub async fn run(mut args: SimArgs) -> Result<ExitCode> {
    let output = Output::new(args.target.json);
    let stop = stop_on_signal()?;
    if let Some(options) = args.nodes.options(
        &args.target,
        args.broker.as_deref(),
        args.count,
        &args.prefix,
        args.behaviour.seed,
    )? {
        if let Some(run_for) = args.run_for {
            stop_after(run_for, stop.clone());
        }
        return sim_nodes::run(options, args.nodes.list.as_deref(), output, &stop).await;
    }
    args.settle().await?;
    let (fleet, server) = match (&args.identity, &args.broker) {
        (Some(dir), Some(broker)) => (of_folder(&args, dir)?, broker.clone()),
        _ => found(&args, output, &stop).await?,
    };
    allow_open_files(fleet.members.len() as u64).map_err(told)?;
    let (behaviour, seed) = args.behaviour.settled(args.events.settled());
    output.note(&format!("{} devices connect to {server}", fleet.members.len()));
    let options = SimulationOptions { server, behaviour, seed };
    let simulation = Simulation::new(&fleet.members, options).map_err(told)?;
    if let Some(run_for) = args.run_for {
        stop_after(run_for, stop.clone());
    }
    let shown = join_and_show(&simulation, args.concurrency.into(), output, &stop).await;
    let connected = simulation.summary().connected;
    simulation.stop().await;
    shown?;
    let last = Summary { connected, ..simulation.summary() };
    if output.json {
        output.json(&last)?;
    } else {
        output.text(&last.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The one device of a folder.
fn of_folder(args: &SimArgs, dir: &Path) -> Result<Fleet> {
    match &args.renew_from {
        Some(url) => Fleet::of_folder_renewing(dir, url).map_err(told),
        None => Fleet::of_folder(dir).map_err(told),
    }
}

impl SimArgs {
    /// Finds the server where it is to be found. A device that has its identity needs its broker alone, and no API key.
    async fn settle(&mut self) -> Result<()> {
        let is_given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        match (&self.identity, &self.target.discover) {
            (Some(_), _) if self.broker.is_some() => {}
            (Some(dir), Some(name)) if is_given(&self.target.discover) && !is_given(&self.target.url) => {
                let name = Some(name.as_str()).filter(|name| *name != discover::ANY);
                self.broker = Some(covey_sim::discover_broker(dir, name).await.map_err(told)?);
            }
            _ => self.target = discover::settle(self.target.clone()).await?,
        }
        Ok(())
    }
}

impl BehaviourArgs {
    fn settled(&self, events: EventBehaviour) -> (Behaviour, u64) {
        let behaviour = Behaviour {
            latency: self.latency,
            failure_rate: self.failure_rate,
            duplicate_rate: self.duplicate_rate,
            drop_rate: self.drop_rate,
            offline: self.offline,
            poll: self.poll,
            events,
        };
        (behaviour, self.seed)
    }
}

impl EventArgs {
    fn settled(&self) -> EventBehaviour {
        let health_check = Some(self.health_check_interval).filter(|interval| !interval.is_zero());
        let burst = self.event_burst.and_then(NonZeroU32::new).zip(self.event_burst_every);
        EventBehaviour {
            health_check,
            cell_opened_after: Some(self.cell_opened_after),
            cell_closed_after: Some(self.cell_closed_after),
            sensor: self.sensor_interval.map(|interval| Sensor {
                interval,
                period: self.sensor_period,
                amplitude: self.sensor_amplitude,
                mean: self.sensor_mean,
            }),
            duplicates: self.event_duplicates,
            burst: burst.map(|(events, every)| Burst { events, every }),
        }
    }
}

fn stop_after(duration: Duration, stop: CancellationToken) {
    tokio::spawn(async move {
        tokio::time::sleep(duration).await;
        stop.cancel();
    });
}

async fn join_and_show(
    simulation: &Simulation,
    concurrency: usize,
    output: Output,
    stop: &CancellationToken,
) -> Result<()> {
    let join = JoinOptions { concurrency, per_second: None, wait_max: JOIN_WAIT };
    let report = match simulation.join(join, stop).await {
        // Who stops it while devices join wants to know what there was all the same.
        Err(covey_sim::Error::Stopped) => return Ok(()),
        joined => joined.map_err(told)?,
    };
    for (sn, why) in report.missing.iter().take(MISSING_SHOWN) {
        output.note(&format!("{sn} is not connected yet: {why}"));
    }
    show(simulation, output, stop).await
}

/// The devices, and where they connect.
async fn found(args: &SimArgs, output: Output, stop: &CancellationToken) -> Result<(Fleet, String)> {
    let connection = Connection::open(&args.target)?;
    let server = args.broker.clone().unwrap_or_else(|| broker_url(&connection));
    let Some(dir) = &args.identity else {
        let options = FleetOptions {
            count: args.count,
            prefix: args.prefix.clone(),
            identities: args.identities.clone(),
            ca_pem: ca_pem(&args.target),
        };
        let fleet = tokio::select! {
            fleet = Fleet::prepare(&connection.client, &options) => fleet,
            () = stop.cancelled() => Err(covey_sim::Error::Stopped),
        };
        let fleet = fleet.map_err(|error| explained(error, &connection))?;
        if fleet.registered > 0 {
            let folder = args.identities.display();
            output.note(&format!("{} devices registered; their keys are in {folder}", fleet.registered));
        }
        return Ok((fleet, server));
    };
    Ok((of_folder(args, dir)?, server))
}

/// Says each second how it goes: as a line that changes in a terminal, as
/// lines of JSON for programs, else not at all.
async fn show(simulation: &Simulation, output: Output, stop: &CancellationToken) -> Result<()> {
    show_each_second(|| simulation.summary(), output, stop).await
}

/// The same of whatever is simulated.
pub async fn show_each_second<S: serde::Serialize + std::fmt::Display>(
    summary: impl Fn() -> S,
    output: Output,
    stop: &CancellationToken,
) -> Result<()> {
    let line = if output.json || !stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{msg}")?)
    };
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        if output.json {
            output.json(&summary())?;
        } else if !line.is_hidden() {
            line.set_message(summary().to_string());
            line.tick();
        }
    }
    line.finish_and_clear();
    Ok(())
}

/// Where the devices of a server connect.
pub fn broker_url(connection: &Connection) -> String {
    let broker = connection.broker();
    let host = if broker.host.contains(':') { format!("[{}]", broker.host) } else { broker.host };
    format!("mqtts://{host}:{}", broker.port)
}

/// The CA of the server on this machine, if that is the one.
pub fn ca_pem(target: &Target) -> Option<String> {
    if target.url.as_deref().is_some_and(|url| !url.is_empty()) {
        return None;
    }
    covey_client::LocalServer::find(&target.data).and_then(|server| server.ca_pem()).ok()
}

/// Cancelled on the first SIGINT or SIGTERM; a second one ends the program, as
/// it would have without this.
pub fn stop_on_signal() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let told = stop.clone();
    tokio::spawn(async move {
        for is_first in [true, false] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if is_first {
                told.cancel();
            }
        }
        std::process::exit(130);
    });
    Ok(stop)
}

/// Says in one line what to do about an error.
pub fn explained(error: covey_sim::Error, connection: &Connection) -> anyhow::Error {
    match error {
        covey_sim::Error::Client(error) => connection.explained(error.into()),
        other => told(other),
    }
}

pub fn told(error: covey_sim::Error) -> anyhow::Error {
    fault::setup(error)
}
