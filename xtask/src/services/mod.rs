//! The services of the distributed shapes on this machine, for tests and for
//! trying things out: `cargo xtask services up|down|status|env`.

mod arguments;
mod deployment;
mod mosquitto;
mod nginx;
mod package;
mod pki;
mod port;
mod postgresql;
mod process;
mod rabbitmq;
mod report;
mod secret;
mod shape;
mod state;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use self::arguments::{Action, DEFAULT_DEPLOYMENT, Request, Service};
use self::pki::Pki;
use self::process::Kind;
use self::rabbitmq::Size;
use self::shape::{Link, Shape, Store};
use self::state::Locked;

const HELP: &str = "cargo xtask services COMMAND [--dir DIR]

  up [NAME…]        start services, installing what is missing: postgresql, rabbitmq,
                    mosquitto, nginx (these, when no name is given), rabbitmq-cluster
                    (three nodes)
  down [--purge]    end all of them; with --purge remove their data too
  status [--json]   what runs, and on which ports
  env --shape STORE+LINK [--for NAME] [--json]
                    start what the shape needs, make the deployment NAME (default: default)
                    with a database, a vhost or a Mosquitto of its own, and print its
                    environment: eval \"$(cargo xtask services env --shape postgres+rabbitmq)\"
                    STORE: sqlite postgres; LINK: embedded rabbitmq rabbitmq-cluster mosquitto
  env --drop NAME   remove that deployment's data everywhere
  kill PROCESS      end a process of `status` at once, as a power cut would (SIGKILL)
  stop PROCESS      end it in good order
  start PROCESS     start it again on its data and ports, and wait until it serves

  --dir DIR         the folder of the set of services (default: target/services); several
                    sets run side by side. DIR/services.json tells everything, passwords too.";

/// RabbitMQ takes the longest: it closes its queues one by one.
const END_SECONDS_MAX: u64 = 30;

/// Does what the arguments after `services` say.
pub fn run(arguments: &[String]) -> Result<()> {
    if arguments.first().is_none_or(|word| ["help", "--help", "-h"].contains(&word.as_str())) {
        println!("{HELP}");
        return Ok(());
    }
    let request = Request::parse(arguments)?;
    let dir = request.dir.unwrap_or_else(|| crate::root().join("target/services"));
    match request.action {
        Action::Up(services) => {
            let mut locked = Locked::open(&dir)?;
            up(&mut locked, &services)?;
            print!("{}", report::table(&locked.state));
            Ok(())
        }
        Action::Environment { shape, deployment, json } => environment(&dir, shape, &deployment, json),
        Action::Status { json } => status(&dir, json),
        Action::Down { purge } => match Locked::open_existing(&dir)? {
            Some(locked) => down(locked, purge),
            None => Ok(()),
        },
        Action::Drop { deployment } => deployment::remove(&mut existing(&dir)?, &deployment),
        Action::Kill(name) => {
            let mut locked = existing(&dir)?;
            let process = locked.state.process(&name)?;
            process.signal(Signal::KILL)?;
            process.wait_for_end(Duration::from_secs(END_SECONDS_MAX))?;
            locked.save()
        }
        Action::Stop(name) => {
            let mut locked = existing(&dir)?;
            let process = locked.state.process(&name)?;
            process.ask_to_end()?;
            process.wait_for_end(Duration::from_secs(END_SECONDS_MAX))?;
            locked.save()
        }
        Action::Start(name) => start(&mut existing(&dir)?, &name),
    }
}

fn existing(dir: &Path) -> Result<Locked> {
    match Locked::open_existing(dir)? {
        Some(locked) => Ok(locked),
        None => bail!("there are no services in {}; start them: cargo xtask services up", dir.display()),
    }
}

/// Starts services: first all of them, then waits for each, so that the slow ones start side by side.
fn up(locked: &mut Locked, services: &[Service]) -> Result<Pki> {
    let pki = Pki::open(&locked.state.dir)?;
    let tls = pki.server()?;
    let has = |service: Service| services.contains(&service);
    let brokers = [(Service::Rabbitmq, Size::Single), (Service::RabbitmqCluster, Size::Cluster)];
    // Whatever is missing is said before anything runs.
    for service in services {
        match service {
            Service::Postgresql => postgresql::install().map(drop)?,
            Service::Rabbitmq | Service::RabbitmqCluster => rabbitmq::install()?,
            Service::Mosquitto => mosquitto::install().map(drop)?,
            Service::Nginx => nginx::install().map(drop)?,
        }
    }
    for (service, size) in brokers {
        if has(service) {
            rabbitmq::begin(locked, size, &tls)?;
        }
    }
    if has(Service::Postgresql) {
        postgresql::begin(locked, &tls)?;
    }
    if has(Service::Nginx) {
        nginx::begin(locked, &tls)?;
        nginx::wait(locked)?;
    }
    if has(Service::Mosquitto) {
        let process = mosquitto::start(locked, DEFAULT_DEPLOYMENT, &tls)?;
        locked.state.deployments.entry(DEFAULT_DEPLOYMENT.to_owned()).or_default().mosquitto = Some(process);
        locked.save()?;
    }
    if has(Service::Postgresql) {
        postgresql::wait(locked)?;
    }
    for (service, size) in brokers {
        if has(service) {
            rabbitmq::wait(locked, size)?;
        }
    }
    Ok(pki)
}

fn environment(dir: &Path, shape: Shape, name: &str, json: bool) -> Result<()> {
    let mut locked = Locked::open(dir)?;
    let mut services = Vec::new();
    if shape.store == Store::Postgres {
        services.push(Service::Postgresql);
    }
    match shape.link {
        // A deployment's Mosquitto is started when its environment is made.
        Link::Embedded | Link::Mosquitto => {}
        Link::Rabbitmq => services.push(Service::Rabbitmq),
        Link::RabbitmqCluster => services.push(Service::RabbitmqCluster),
    }
    let pki = up(&mut locked, &services)?;
    let environment = deployment::environment(&mut locked, &pki, name, shape)?;
    if json {
        println!("{:#}", environment.json(deployment::certificates(&pki)?));
    } else {
        print!("{}", environment.shell());
    }
    Ok(())
}

fn status(dir: &Path, json: bool) -> Result<()> {
    match (Locked::open_existing(dir)?, json) {
        (Some(locked), false) => print!("{}", report::table(&locked.state)),
        (Some(locked), true) => println!("{:#}", report::json(&locked.state)),
        (None, false) => println!("no services in {}", dir.display()),
        (None, true) => println!("{:#}", serde_json::json!({"dir": dir, "processes": {}, "deployments": []})),
    }
    Ok(())
}

/// Ends everything: first those that use others, and epmd last, which nodes speak to while they end.
fn down(mut locked: Locked, purge: bool) -> Result<()> {
    for kinds in [&[Kind::Mosquitto, Kind::Nginx, Kind::Rabbitmq, Kind::Postgresql][..], &[Kind::Epmd]] {
        let mut chosen: Vec<_> =
            locked.state.processes.values_mut().filter(|process| kinds.contains(&process.kind)).collect();
        for process in &chosen {
            process.ask_to_end()?;
        }
        for process in &mut chosen {
            process.wait_for_end(Duration::from_secs(END_SECONDS_MAX))?;
        }
        locked.save()?;
    }
    if purge { locked.purge() } else { Ok(()) }
}

/// Starts one process again, on its data and ports.
fn start(locked: &mut Locked, name: &str) -> Result<()> {
    let process = locked.state.process(name)?;
    match process.kind {
        Kind::Postgresql => {
            postgresql::restart(locked)?;
            postgresql::wait(locked)
        }
        Kind::Rabbitmq => {
            let size = Size::of_node(name).with_context(|| format!("{name} belongs to no broker"))?;
            rabbitmq::begin_node(locked, size, name)?;
            rabbitmq::wait_for_node(locked, size, name)
        }
        kind => {
            if !process.is_running() {
                process.spawn()?;
                locked.save()?;
            }
            match kind {
                Kind::Mosquitto => mosquitto::wait(locked, name),
                Kind::Nginx => nginx::wait(locked),
                _ => Ok(()),
            }
        }
    }
}

/// A word for a shell, whatever it holds.
fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.:_-+".contains(&byte));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
