//! RabbitMQ 4: one node, or three that make one broker.

mod configuration;
mod management;
pub mod tenancy;
mod unpack;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use self::management::Management;
use self::unpack::Installation;
use crate::pki::Identity;
use crate::process::{Kind, Process};
use crate::secret;
use crate::shape::Link;
use crate::state::{Broker, Locked, Login, Node};

const ADMIN: &str = "covey.admin";
const START_SECONDS_MAX: Duration = Duration::from_secs(240);
const EPMD_SECONDS_MAX: Duration = Duration::from_secs(5);

/// One of the two brokers that a set of services may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Single,
    Cluster,
}

impl Size {
    /// The name of its folder, and of the processes that it has one of.
    fn name(self) -> &'static str {
        match self {
            Self::Single => "rabbitmq",
            Self::Cluster => "rabbitmq-cluster",
        }
    }

    /// The names of its nodes' processes.
    fn nodes(self) -> &'static [&'static str] {
        match self {
            Self::Single => &["rabbitmq"],
            Self::Cluster => &["rabbit1", "rabbit2", "rabbit3"],
        }
    }

    /// How many deployments it has room for: each costs a TLS listener on each node.
    fn vhosts(self) -> usize {
        match self {
            Self::Single => 32,
            Self::Cluster => 8,
        }
    }

    /// The process that the nodes find each other by.
    pub fn epmd(self) -> String {
        format!("{}-epmd", self.name())
    }

    /// What is known of it, if it was ever started.
    pub fn facts(self, locked: &Locked) -> Option<&Broker> {
        match self {
            Self::Single => locked.state.rabbitmq.as_ref(),
            Self::Cluster => locked.state.rabbitmq_cluster.as_ref(),
        }
    }

    /// Which one a link needs, if any.
    pub fn of_link(link: Link) -> Option<Self> {
        match link {
            Link::Rabbitmq => Some(Self::Single),
            Link::RabbitmqCluster => Some(Self::Cluster),
            Link::Embedded | Link::Mosquitto | Link::MosquittoPlain => None,
        }
    }

    /// Which one a node's process belongs to.
    pub fn of_node(process: &str) -> Option<Self> {
        [Self::Single, Self::Cluster].into_iter().find(|size| size.nodes().contains(&process))
    }
}

/// Unpacks what is missing.
pub fn install() -> Result<()> {
    Installation::open().map(drop)
}

/// Starts the nodes that do not run, without waiting for them.
pub fn begin(locked: &mut Locked, size: Size, tls: &Identity) -> Result<()> {
    if size.facts(locked).is_none() {
        create(locked, size, tls)?;
    }
    for node in size.nodes() {
        begin_node(locked, size, node)?;
    }
    Ok(())
}

/// Starts one node, and what nodes find each other by, if they do not run.
pub fn begin_node(locked: &mut Locked, size: Size, node: &str) -> Result<()> {
    let epmd = locked.state.process(&size.epmd())?;
    if !epmd.is_running() {
        epmd.spawn()?;
        let port = epmd.ports.get("epmd").copied().unwrap_or_default();
        epmd.wait_until_ready("epmd", EPMD_SECONDS_MAX, || {
            std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).is_ok()
        })?;
    }
    let process = locked.state.process(node)?;
    if !process.is_running() {
        process.spawn()?;
    }
    locked.save()
}

/// Waits until all nodes serve.
pub fn wait(locked: &mut Locked, size: Size) -> Result<()> {
    for node in size.nodes() {
        wait_for_node(locked, size, node)?;
    }
    Ok(())
}

/// Waits until one node serves on all its ports, and knows the others that run.
pub fn wait_for_node(locked: &mut Locked, size: Size, process: &str) -> Result<()> {
    let broker = size.facts(locked).context("RabbitMQ was never started")?.clone();
    let node = broker.nodes.iter().find(|node| node.process == process).context("no such node")?;
    let api = Management::at(node.management, &broker.admin);
    let process = locked.state.process(process)?;
    process.wait_until_ready(&node.name, START_SECONDS_MAX, || serves(&api, node))?;
    locked.save()
}

/// Whether a node listens on all its ports. A node opens them last of all.
fn serves(api: &Management, node: &Node) -> bool {
    let Ok(overview) = api.get("overview") else { return false };
    let listens = |port: u16| match overview["listeners"].as_array() {
        Some(all) => all.iter().any(|one| one["node"] == node.name.as_str() && one["port"] == port),
        // A node that collects no metrics does not list them (RabbitMQ 4.3).
        None => std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).is_ok(),
    };
    [node.amqp, node.amqps].into_iter().chain(node.mqtts.iter().copied()).all(listens)
}

fn create(locked: &mut Locked, size: Size, tls: &Identity) -> Result<()> {
    let installation = Installation::open()?;
    let dir = locked.state.dir.join(size.name());
    // What a first start left when it was cut short.
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    secret::folder(&dir)?;
    let mut free = locked.state.free_ports();
    let epmd_port = free.take()?;
    let mut nodes = Vec::new();
    for process in size.nodes() {
        nodes.push(Node {
            name: format!("{}@localhost", if size == Size::Single { "rabbit" } else { process }),
            process: (*process).to_owned(),
            amqp: free.take()?,
            amqps: free.take()?,
            management: free.take()?,
            mqtts: free.take_many(size.vhosts())?,
        });
    }
    let broker = Broker {
        admin: Login { user: ADMIN.to_owned(), password: secret::password()? },
        nodes,
        vhosts: (1..=size.vhosts()).map(|number| format!("covey-{number:02}")).collect(),
        ctl: dir.join("rabbitmqctl"),
    };
    // The nodes trust each other, and rabbitmqctl, by this.
    secret::write(&dir.join(".erlang.cookie"), &secret::password()?, 0o400)?;
    let definitions = dir.join("definitions.json");
    secret::write(&definitions, &configuration::definitions(&broker).to_string(), 0o600)?;
    secret::write(&dir.join("enabled_plugins"), configuration::PLUGINS, 0o600)?;
    let mut processes = BTreeMap::new();
    for node in &broker.nodes {
        let conf = dir.join(format!("{}.conf", node.process));
        secret::write(&conf, &configuration::node(node, &broker, tls, &definitions), 0o600)?;
        let distribution = free.take()?;
        let environment = environment(&installation, &dir, node, epmd_port, distribution, &conf);
        if processes.is_empty() {
            secret::write(&broker.ctl, &ctl_script(&installation, &environment)?, 0o700)?;
        }
        processes.insert(
            node.process.clone(),
            node_process(&installation, &dir, node, distribution, environment)?,
        );
    }
    processes.insert(size.epmd(), epmd_process(&installation, &dir, epmd_port)?);
    locked.state.processes.append(&mut processes);
    match size {
        Size::Single => locked.state.rabbitmq = Some(broker),
        Size::Cluster => locked.state.rabbitmq_cluster = Some(broker),
    }
    locked.save()
}

fn environment(
    installation: &Installation,
    dir: &Path,
    node: &Node,
    epmd: u16,
    distribution: u16,
    conf: &Path,
) -> BTreeMap<String, String> {
    let at = |name: String| dir.join(name).display().to_string();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", installation.erlang_programs().display());
    [
        ("PATH", path),
        ("HOME", dir.display().to_string()),
        ("LANG", "C.UTF-8".to_owned()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("ERL_EPMD_PORT", epmd.to_string()),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        ("RABBITMQ_NODENAME", node.name.clone()),
        ("RABBITMQ_CONFIG_FILE", conf.display().to_string()),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins".to_owned())),
        ("RABBITMQ_MNESIA_BASE", at("data".to_owned())),
        ("RABBITMQ_LOG_BASE", at("log".to_owned())),
        // Schedulers that wait busily would take a small machine's processors from the tests.
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +sbwtdcpu none +sbwtdio none".to_owned()),
        // The start script then becomes the node, so that its pid is the node's.
        ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn node_process(
    installation: &Installation,
    dir: &Path,
    node: &Node,
    distribution: u16,
    environment: BTreeMap<String, String>,
) -> Result<Process> {
    let mut ports: BTreeMap<String, u16> = [
        ("amqp", node.amqp),
        ("amqps", node.amqps),
        ("management", node.management),
        ("distribution", distribution),
    ]
    .map(|(name, port)| (name.to_owned(), port))
    .into();
    ports.extend(
        node.mqtts.iter().enumerate().map(|(index, port)| (format!("mqtts-{:02}", index + 1), *port)),
    );
    Ok(Process {
        kind: Kind::Rabbitmq,
        command: vec![installation.programs()?.join("rabbitmq-server").display().to_string()],
        environment,
        folder: dir.to_owned(),
        log: dir.with_file_name(format!("{}.log", node.process)),
        ports,
        id: None,
        is_ready: false,
    })
}

fn epmd_process(installation: &Installation, dir: &Path, port: u16) -> Result<Process> {
    let epmd = installation.epmd()?.display().to_string();
    Ok(Process {
        kind: Kind::Epmd,
        command: vec![
            epmd,
            "-address".to_owned(),
            "127.0.0.1".to_owned(),
            "-port".to_owned(),
            port.to_string(),
        ],
        environment: BTreeMap::new(),
        folder: dir.to_owned(),
        log: dir.with_extension("epmd.log"),
        ports: BTreeMap::from([("epmd".to_owned(), port)]),
        id: None,
        is_ready: false,
    })
}

/// A script for people and for fault tests: `rabbitmqctl` with this broker's surroundings.
fn ctl_script(installation: &Installation, environment: &BTreeMap<String, String>) -> Result<String> {
    let mut text =
        "#!/bin/sh\n# rabbitmqctl for the broker in this folder; -n NODE for another node\n".to_owned();
    // Those that would make a second node of it are left out.
    for (name, value) in environment.iter().filter(|(name, _)| *name != "RABBITMQ_DIST_PORT") {
        text.push_str(&format!("export {name}={}\n", crate::quoted(value)));
    }
    let program = installation.programs()?.join("rabbitmqctl").display().to_string();
    text.push_str(&format!("exec {} \"$@\"\n", crate::quoted(&program)));
    Ok(text)
}
