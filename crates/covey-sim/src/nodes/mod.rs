//! Simulated nodes: devices that know nothing of Covey and speak a protocol of the field to a gateway, as the firmware in
//! use does. Each has values that change by themselves, and some that can be set.

mod coap;
mod mcu;
mod mqtt;
mod mqtt_sn;
mod node;
mod unit;
mod websocket;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};
use node::Node;

/// How often a node says that it is there.
const ALIVE: Duration = Duration::from_secs(30);
/// The pauses between two attempts of a node to reach its gateway.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What nodes speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeProtocol {
    /// CoAP, each node at an address of its own.
    Coap,
    /// MQTT 3.1.1 over mutual TLS, as microcontrollers behind a small HTTPS API.
    Mcu,
    /// Plain MQTT 3.1.1.
    MqttNode,
    /// MQTT-SN 1.2 over UDP.
    MqttSn,
    /// A WebSocket.
    Websocket,
    /// A TCP unit: it is a server, each at an address of its own.
    Unit(UnitKind),
}

/// What a unit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitKind {
    /// It sends a measurement a line, as long as a connection is open.
    Read,
    /// It waits for a line.
    Update,
}

impl NodeProtocol {
    /// Its name in the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coap => "coap",
            Self::Mcu => "mcu",
            Self::MqttNode => "mqtt-node",
            Self::MqttSn => "mqtt-sn",
            Self::Websocket => "websocket",
            Self::Unit(_) => "unit",
        }
    }

    /// The option of `covey up` that switches its gateway on.
    const fn switch(self) -> &'static str {
        match self {
            Self::Coap => "--coap 127.0.0.1:5683",
            Self::Mcu => "--mcu-http 127.0.0.1:4443",
            Self::MqttNode => "--mqtt-nodes 127.0.0.1:1886",
            Self::MqttSn => "--mqtt-sn 127.0.0.1:1885",
            Self::Websocket => "--websocket-nodes 127.0.0.1:8001",
            Self::Unit(_) => "--unit-gateway",
        }
    }
}

/// Which nodes are simulated.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// What they speak.
    pub protocol: NodeProtocol,
    /// Where their gateway is, as `HOST:PORT`; of microcontrollers, the listener that registers them. Units have none.
    pub gateway: String,
    /// Where microcontrollers connect.
    pub devices: Option<DevicesPort>,
    /// How many.
    pub count: NonZeroU32,
    /// What their uids begin with.
    pub prefix: String,
    /// How often they say a value.
    pub interval: Duration,
    /// The address of the first of those that have one of their own; the others follow.
    pub base_address: Ipv4Addr,
    /// The port of units.
    pub unit_port: u16,
    /// What is left to chance follows from it.
    pub seed: u64,
}

/// Where devices with certificates connect.
#[derive(Clone, Debug)]
pub struct DevicesPort {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The CA of the server that registers them; without it, those that this machine trusts.
    pub ca_pem: Option<String>,
    /// The key of the listener that registers them, if it has one.
    pub key: Option<String>,
    /// What stands in front of their names in their topics, if something does.
    pub topic_prefix: Option<String>,
}

/// What was counted so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeSummary {
    /// What nodes speak.
    pub protocol: &'static str,
    /// How many there are.
    pub nodes: usize,
    /// How many of them their gateway answers; of units, how many are connected.
    pub connected: usize,
    /// How many values they have said.
    pub values: u64,
    /// How many values were written to them.
    pub writes: u64,
    /// How often a connection was lost, or a message not answered.
    pub lost: u64,
    /// Why a connection was lost last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl fmt::Display for NodeSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, nodes, connected, values, writes, lost, why } = self;
        write!(
            f,
            "{connected} of {nodes} {protocol} nodes connected, {values} values said, {writes} written"
        )?;
        if *lost > 0 {
            write!(f, ", {lost} times unanswered or cut off")?;
        }
        why.as_ref().map_or(Ok(()), |why| write!(f, " (last: {why})"))
    }
}

#[derive(Debug, Default)]
struct Tally {
    connected: AtomicUsize,
    values: AtomicU64,
    writes: AtomicU64,
    lost: AtomicU64,
    why: Mutex<Option<String>>,
}

impl Tally {
    fn said(&self, values: usize) {
        self.values.fetch_add(values as u64, Ordering::Relaxed);
    }

    fn lost(&self, why: &std::io::Error) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
    }

    fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One node's connection in the count, as long as this lives.
struct Counted<'a>(&'a Tally);

impl<'a> Counted<'a> {
    fn new(tally: &'a Tally) -> Self {
        tally.connected.fetch_add(1, Ordering::Relaxed);
        Self(tally)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all nodes of a simulation share.
struct Shared {
    options: NodeOptions,
    gateway: Option<SocketAddr>,
    /// What registers microcontrollers.
    registry: Option<mcu::Registry>,
    tally: Tally,
    /// Tells once for each node that its gateway has answered.
    answered: mpsc::Sender<()>,
}

impl Shared {
    /// A node is connected: its gateway has answered.
    fn connected(&self) -> Counted<'_> {
        // Nobody listens once all have begun.
        let _ = self.answered.try_send(());
        Counted::new(&self.tally)
    }

    fn gateway(&self) -> std::io::Result<SocketAddr> {
        self.gateway.ok_or_else(|| std::io::Error::other("there is no gateway"))
    }
}

/// Where a node is, for those who must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodePlace {
    /// Its uid; of a unit, its name.
    pub name: String,
    /// Where it listens, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// What it does, of a unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<UnitKind>,
}

/// Nodes that run.
pub struct NodeSimulation {
    shared: Arc<Shared>,
    places: Vec<NodePlace>,
    running: TaskTracker,
    stop: CancellationToken,
}

impl NodeSimulation {
    /// Starts them, and waits until their gateway has answered one; units only listen.
    ///
    /// # Errors
    /// A gateway that does not answer within `wait`, an address that cannot be used, or `stop`.
    pub async fn start(options: NodeOptions, wait: Duration, stop: &CancellationToken) -> Result<Self> {
        let (answered, mut first) = mpsc::channel(1);
        let missing = || Error::NoGateway {
            protocol: options.protocol.name(),
            address: options.gateway.clone(),
            switch: options.protocol.switch(),
        };
        let is_unit = matches!(options.protocol, NodeProtocol::Unit(_));
        let gateway = if is_unit { None } else { Some(resolve(&options).await?) };
        let is_tcp =
            matches!(options.protocol, NodeProtocol::Mcu | NodeProtocol::MqttNode | NodeProtocol::Websocket);
        if let Some(gateway) = gateway.filter(|_| is_tcp) {
            // Over TCP it is known at once that nobody listens.
            let connected = timeout(wait, TcpStream::connect(gateway)).await;
            connected.map_err(drop).and_then(|connected| connected.map_err(drop)).map_err(|()| missing())?;
        }
        let missing = missing();
        let registry = mcu::Registry::of(&options)?;
        let shared = Arc::new(Shared { options, gateway, registry, tally: Tally::default(), answered });
        let mut simulation =
            Self { shared, places: Vec::new(), running: TaskTracker::new(), stop: CancellationToken::new() };
        for number in 1..=simulation.shared.options.count.get() {
            simulation.begin(number, stop).await?;
        }
        simulation.running.close();
        if is_unit {
            return Ok(simulation);
        }
        let has_answered = tokio::select! {
            answered = timeout(wait, first.recv()) => answered.is_ok(),
            () = stop.cancelled() => return Err(Error::Stopped),
        };
        if has_answered {
            return Ok(simulation);
        }
        simulation.stop().await;
        match &simulation.shared.options.devices {
            Some(DevicesPort { host, port, .. }) => {
                let why = simulation.shared.tally.why().unwrap_or_else(|| "there is no answer".to_owned());
                Err(Error::NoDevicesPort { host: host.clone(), port: *port, why })
            }
            None => Err(missing),
        }
    }

    async fn begin(&mut self, number: u32, stop_beginning: &CancellationToken) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let NodeOptions { protocol, ref prefix, seed, base_address, unit_port, .. } = shared.options;
        let node = Node::new(format!("{prefix}-{number:05}"), seed);
        let mut place = NodePlace { name: node.uid.clone(), address: None, kind: None };
        let address = |port| {
            let ip = Ipv4Addr::from(u32::from(base_address).wrapping_add(number - 1));
            SocketAddr::new(IpAddr::V4(ip), port)
        };
        let taken = |address, source| Error::NodeAddress { address, source };
        let stop = self.stop.clone();
        match protocol {
            NodeProtocol::Coap => {
                let address = address(coap::PORT);
                let server = coap::bind(address).await.map_err(|source| taken(address, source))?;
                place.address = Some(address);
                let node = async move { coap::run(&shared, node, server, &stop).await };
                self.running.spawn(node);
            }
            NodeProtocol::Unit(kind) => {
                let address = address(unit_port);
                let listener = unit::bind(address).map_err(|source| taken(address, source))?;
                let address = listener.local_addr().map_err(|source| taken(address, source))?;
                (place.address, place.kind) = (Some(address), Some(kind));
                let node = async move { unit::run(&shared, node, &listener, kind, &stop).await };
                self.running.spawn(node);
            }
            NodeProtocol::Mcu => {
                let topic_prefix =
                    shared.options.devices.as_ref().and_then(|devices| devices.topic_prefix.as_deref());
                let device = mcu::Microcontroller::new(node.uid, topic_prefix);
                if number == 1 {
                    // What keeps the first one from being registered is told at once.
                    let registered = stop_beginning.run_until_cancelled(device.register(&shared));
                    registered.await.ok_or(Error::Stopped)??;
                }
                let life = async move { again(&shared, &stop, || mcu::run(&shared, &device, &stop)).await };
                self.running.spawn(life);
            }
            NodeProtocol::MqttNode => {
                self.running
                    .spawn(async move { again(&shared, &stop, || mqtt::run(&shared, &node, &stop)).await });
            }
            NodeProtocol::MqttSn => {
                let life = async move { again(&shared, &stop, || mqtt_sn::run(&shared, &node, &stop)).await };
                self.running.spawn(life);
            }
            NodeProtocol::Websocket => {
                let life =
                    async move { again(&shared, &stop, || websocket::run(&shared, &node, &stop)).await };
                self.running.spawn(life);
            }
        }
        self.places.push(place);
        Ok(())
    }

    /// Where each node is.
    #[must_use]
    pub fn places(&self) -> &[NodePlace] {
        &self.places
    }

    /// What was counted so far.
    #[must_use]
    pub fn summary(&self) -> NodeSummary {
        let Shared { options, tally, .. } = &*self.shared;
        NodeSummary {
            protocol: options.protocol.name(),
            nodes: self.places.len(),
            connected: tally.connected.load(Ordering::Relaxed),
            values: tally.values.load(Ordering::Relaxed),
            writes: tally.writes.load(Ordering::Relaxed),
            lost: tally.lost.load(Ordering::Relaxed),
            why: tally.why(),
        }
    }

    /// Ends them; those whose protocol has a goodbye say it.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.running.wait().await;
    }
}

async fn resolve(options: &NodeOptions) -> Result<SocketAddr> {
    let wrong = || Error::GatewayAddress { address: options.gateway.clone() };
    let found = tokio::net::lookup_host(&options.gateway).await.map_err(|_| wrong())?;
    // CoAP nodes have addresses of IPv4.
    let needs_v4 = options.protocol == NodeProtocol::Coap;
    found.into_iter().find(|address| address.is_ipv4() || !needs_v4).ok_or_else(wrong)
}

/// Lets a node live again and again until `stop`, with growing pauses while its gateway is away.
async fn again<F: Future<Output = std::io::Result<()>>>(
    shared: &Shared,
    stop: &CancellationToken,
    live: impl Fn() -> F,
) {
    let mut pause = RETRY_MIN;
    while !stop.is_cancelled() {
        let began = Instant::now();
        if let Err(error) = live().await {
            tracing::debug!(%error, "a node has lost its gateway");
            shared.tally.lost(&error);
        }
        if began.elapsed() > RETRY_MAX {
            pause = RETRY_MIN;
        }
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}
