//! `covey sim --protocol`: nodes that know nothing of Covey, for the gateways of a server.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use covey_client::LocalServer;
use covey_sim::nodes::{DevicesPort, NodeOptions, NodePlace, NodeProtocol, NodeSimulation, UnitKind};
use covey_sim::{allow_open_files, parse_duration};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::command::connection::{MQTTS_PORT, Target, host_and_port, read_ca};
use crate::command::output::Output;
use crate::command::sim::{show_each_second, told};
use crate::fault;

/// How long a gateway may take to answer the first node.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// Of how many nodes it is said where they are.
const PLACES_SHOWN: usize = 10;

/// Which nodes.
#[derive(Args)]
#[command(next_help_heading = "Nodes")]
pub struct NodeArgs {
    /// Run nodes that know nothing of Covey, and speak this to a gateway: each has values that change (temperature,
    /// pressure, imu), and some that can be set (led, robot, name); a microcontroller has pins and a clock. --count,
    /// --prefix, --for and --seed are of them, too
    #[arg(long, value_name = "PROTOCOL", conflicts_with = "identity")]
    protocol: Option<Protocol>,
    /// Where the gateway is, HOST:PORT; without it, where the server on this machine says. Of microcontrollers it is the
    /// listener --mcu-http, and they connect to port 8883 of its host unless --broker says otherwise
    #[arg(long, value_name = "HOST:PORT", requires = "protocol")]
    gateway: Option<String>,
    /// Time between two values of a node; a microcontroller says them when it is asked
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = interval)]
    interval: Duration,
    /// Address of the first CoAP node or unit; the others have those that follow. A gateway knows CoAP nodes by their
    /// addresses, and units are servers
    #[arg(long, value_name = "ADDRESS", default_value = "127.64.0.1")]
    base_address: Ipv4Addr,
    /// What units do: read sends a number a line, update takes one as its led
    #[arg(long, value_name = "KIND", default_value = "read")]
    kind: Kind,
    /// The port of units
    #[arg(long, value_name = "PORT", default_value_t = 8888)]
    unit_port: u16,
    /// File with the key of the listener that registers microcontrollers, as covey up --mcu-http-key-file has it
    #[arg(long, value_name = "FILE", requires = "protocol")]
    mcu_http_key_file: Option<PathBuf>,
    /// What stands in front of the names of microcontrollers in their topics, as covey up --mcu-topic-prefix has it
    #[arg(long, value_name = "PREFIX", requires = "protocol")]
    mcu_topic_prefix: Option<String>,
    /// Write the units to this file, for covey up --units FILE --units-allow 127.64.0.0/10
    #[arg(long, value_name = "FILE", requires = "protocol")]
    pub list: Option<PathBuf>,
}

/// What nodes speak.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    /// CoAP (covey up --coap 127.0.0.1:5683)
    Coap,
    /// MQTT over mutual TLS, as microcontrollers behind a small HTTPS API (covey up --mcu-http 127.0.0.1:4443)
    Mcu,
    /// Plain MQTT (covey up --mqtt-nodes 127.0.0.1:1886)
    MqttNode,
    /// MQTT-SN (covey up --mqtt-sn 127.0.0.1:1885)
    MqttSn,
    /// A WebSocket (covey up --websocket-nodes 127.0.0.1:8001)
    Websocket,
    /// A line of text over TCP (covey up --units FILE, or --unit-gateway)
    Unit,
}

/// What units do.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Read,
    Update,
}

fn interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(interval) if interval >= Duration::from_millis(10) => Ok(interval),
        Ok(_) => Err("write 10ms or more".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl NodeArgs {
    /// The nodes that are wanted, if any are.
    pub fn options(
        &self,
        target: &Target,
        broker: Option<&str>,
        count: NonZeroU32,
        prefix: &str,
        seed: u64,
    ) -> Result<Option<NodeOptions>> {
        let Some(protocol) = self.protocol else { return Ok(None) };
        let gateway = match &self.gateway {
            Some(gateway) => gateway.clone(),
            None => found(protocol, target)?,
        };
        let devices = match (protocol, broker) {
            (Protocol::Mcu, _) => Some(self.devices_port(target, broker, &gateway)?),
            (_, Some(_)) => {
                return Err(fault::setup("of nodes only --protocol mcu connects to --broker: leave it out"));
            }
            (_, None) => None,
        };
        let kind = match self.kind {
            Kind::Read => UnitKind::Read,
            Kind::Update => UnitKind::Update,
        };
        let protocol = match protocol {
            Protocol::Coap => NodeProtocol::Coap,
            Protocol::Mcu => NodeProtocol::Mcu,
            Protocol::MqttNode => NodeProtocol::MqttNode,
            Protocol::MqttSn => NodeProtocol::MqttSn,
            Protocol::Websocket => NodeProtocol::Websocket,
            Protocol::Unit => NodeProtocol::Unit(kind),
        };
        Ok(Some(NodeOptions {
            protocol,
            gateway,
            devices,
            count,
            prefix: prefix.to_owned(),
            interval: self.interval,
            base_address: self.base_address,
            unit_port: self.unit_port,
            seed,
        }))
    }

    /// Where microcontrollers connect. Without --gateway, all is as the server on this machine says.
    fn devices_port(&self, target: &Target, broker: Option<&str>, gateway: &str) -> Result<DevicesPort> {
        let local = match self.gateway {
            Some(_) => None,
            None => Some(LocalServer::find(&target.data).map_err(fault::setup)?),
        };
        let url = broker.or_else(|| local.as_ref()?.addresses.mqtts.as_deref());
        let (host, port) = match url {
            Some(url) => url
                .strip_prefix("mqtts://")
                .and_then(host_and_port)
                .ok_or_else(|| told(covey_sim::Error::Broker { url: url.to_owned() }))?,
            None => {
                let address = || told(covey_sim::Error::GatewayAddress { address: gateway.to_owned() });
                (host_and_port(gateway).ok_or_else(address)?.0, MQTTS_PORT)
            }
        };
        let ca_pem = match (&local, target.ca.as_deref().filter(|path| !path.as_os_str().is_empty())) {
            (Some(local), _) => Some(local.ca_pem().map_err(fault::setup)?),
            (None, ca) => ca.map(read_ca).transpose()?,
        };
        let key = self.mcu_http_key_file.as_deref().map(read_key).transpose()?;
        Ok(DevicesPort { host, port, ca_pem, key, topic_prefix: self.mcu_topic_prefix.clone() })
    }
}

fn read_key(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file);
    let text =
        text.map_err(|error| fault::setup(format!("cannot read the key file {}: {error}", file.display())))?;
    Ok(text.trim_ascii().to_owned())
}

/// Where the server on this machine has the gateway.
fn found(protocol: Protocol, target: &Target) -> Result<String> {
    let (what, option, at) = match protocol {
        Protocol::Coap => ("CoAP", "--coap", "127.0.0.1:5683"),
        Protocol::Mcu => ("microcontrollers", "--mcu-http", "127.0.0.1:4443"),
        Protocol::MqttNode => ("MQTT nodes", "--mqtt-nodes", "127.0.0.1:1886"),
        Protocol::MqttSn => ("MQTT-SN", "--mqtt-sn", "127.0.0.1:1885"),
        Protocol::Websocket => ("WebSocket nodes", "--websocket-nodes", "127.0.0.1:8001"),
        // They are servers.
        Protocol::Unit => return Ok(String::new()),
    };
    let server = LocalServer::find(&target.data).map_err(|error| {
        fault::setup(format!("{error}; of a gateway elsewhere say where it is: --gateway HOST:PORT"))
    })?;
    let url = match protocol {
        Protocol::Coap => server.addresses.coap,
        Protocol::Mcu => server.addresses.mcu_http,
        Protocol::MqttNode => server.addresses.mqtt_nodes,
        Protocol::MqttSn => server.addresses.mqtt_sn,
        Protocol::Websocket | Protocol::Unit => server.addresses.websocket_nodes,
    };
    let address = url.as_deref().and_then(|url| url.split_once("://")).map(|(_, address)| address.to_owned());
    address.ok_or_else(|| {
        fault::setup(format!(
            "the server in {} has no gateway for {what}: start it with covey up {option} {at}, or give --gateway HOST:PORT",
            target.data.display()
        ))
    })
}

/// Runs nodes until they are told to stop.
pub async fn run(
    options: NodeOptions,
    list: Option<&Path>,
    output: Output,
    stop: &CancellationToken,
) -> Result<ExitCode> {
    allow_open_files(u64::from(options.count.get()) * 2).map_err(told)?;
    let (protocol, gateway) = (options.protocol, options.gateway.clone());
    let simulation = match NodeSimulation::start(options, ANSWER_WAIT, stop).await {
        // Who stops it before there is an answer knows that.
        Err(covey_sim::Error::Stopped) => return Ok(ExitCode::SUCCESS),
        Err(covey_sim::Error::Client(error)) => return Err(not_registered(&error)),
        started => started.map_err(told)?,
    };
    let places = simulation.places();
    if let Some(file) = list {
        write_list(file, places)?;
    }
    if output.json {
        places.iter().try_for_each(|place| output.json(place))?;
    } else {
        let to = if gateway.is_empty() { String::new() } else { format!(" speak to {gateway}") };
        output.note(&format!("{} {} nodes{to}", places.len(), protocol.name()));
        let addresses = places.iter().filter_map(|place| Some((&place.name, place.address?)));
        for (name, address) in addresses.take(PLACES_SHOWN) {
            output.text(&format!("{name} {address}"))?;
        }
    }
    let shown = show_each_second(|| simulation.summary(), output, stop).await;
    let last = simulation.summary();
    simulation.stop().await;
    shown?;
    if output.json {
        output.json(&last)?;
    } else {
        output.text(&last.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what to do where a microcontroller cannot be registered.
fn not_registered(error: &covey_client::Error) -> anyhow::Error {
    use covey_client::Error::{Refused, Untrusted};
    let advice = match error {
        Untrusted { .. } => "give the CA certificate of the server with --ca",
        Refused { status: 401, .. } => "give the key of the listener with --mcu-http-key-file",
        Refused { status: 400 | 409 | 422, .. } => "give other names with --prefix",
        Refused { status: 429, .. } => "try again in a minute",
        _ => "look whether the server has --mcu-http there",
    };
    let because = error.root_cause().map(|cause| format!(" ({cause})")).unwrap_or_default();
    fault::setup(format!("no microcontroller can be registered: {error}{because}; {advice}"))
}

/// Writes units as `covey up --units` reads them.
fn write_list(file: &Path, places: &[NodePlace]) -> Result<()> {
    let units = places.iter().filter_map(|place| {
        let (address, kind) = (place.address?, place.kind?);
        let resource = match kind {
            UnitKind::Read => "value",
            UnitKind::Update => "led",
        };
        let (ip, port) = (address.ip(), address.port());
        Some(json!({"address": ip, "port": port, "kind": kind, "name": place.name, "resource": resource}))
    });
    let text = format!("{}\n", json!({"units": units.collect::<Vec<_>>()}));
    std::fs::write(file, text)
        .map_err(|error| fault::setup(format!("cannot write {}: {error}", file.display())))
}
