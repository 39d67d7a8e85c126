//! `covey gateway`: a gateway as a program of its own, near the nodes, which tells a node broker of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use covey_gateway::broker::Dial;
use covey_gateway::broker::fernet::{Keys, default_path};
use covey_gateway::broker::remote::{Naming, Remote, RemotePort};
use covey_gateway::gateway::Gateway;
use covey_gateway::node::Habits;
use covey_gateway::unit::{self, Unit};
use covey_gateway::{coap, mqtt_node, mqtt_sn, websocket};
use tokio_util::sync::CancellationToken;

use crate::command::discover;
use crate::command::output::Output;
use crate::fault;
use crate::logging::{self, LogFormat};
use crate::serve::gateways::coap_listeners;
use crate::serve::units::{self, UnitRule};
use crate::serve::{Signals, bind, passwords, reachable, taken};

/// Where CoAP nodes are heard, unless somebody says otherwise.
const COAP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), coap::socket::PORT);

/// `covey gateway`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    covey gateway websocket --broker ws://covey.example:8000 --websocket-nodes 0.0.0.0:8001\n  \
    covey gateway coap --broker ws://covey.example:8000 --coap [::]:5683\n  \
    covey gateway coap --broker ws://covey.example:8000 --coaps [::]:5684 --coap-psk ./coap-psk\n  \
    covey gateway mqtt --broker wss://covey.example/gw --ca ca.pem --key-file ./node-keys --mqtt-nodes 0.0.0.0:1886\n  \
    covey gateway units --broker ws://covey.example:8000 --import config.json\n  \
    covey gateway coap --discover --ca ca.pem --key-file ./node-keys --coap [::]:5683\n\n\
    The broker is a server of Covey (covey up --node-broker 0.0.0.0:8000 --node-keys FILE) or one of others that speaks \
    the same (docs/gateways-broker.md). Both have the same key file (covey key fernet).\n\
    While the broker is away nodes are served on: of each resource the newest value is kept and told when it is back.")]
pub struct GatewayArgs {
    #[command(subcommand)]
    command: GatewayCommand,
}

#[derive(Subcommand)]
enum GatewayCommand {
    /// Speak for nodes that speak CoAP, and say that they are alive
    Coap {
        #[command(flatten)]
        broker: BrokerArgs,
        /// Address for the nodes, which are asked at port 5683; the unspecified one of IPv6 takes IPv4 too
        /// [default: 127.0.0.1:5683, unless there is --coaps]
        #[arg(long, env = "COVEY_COAP", value_name = "ADDR")]
        coap: Option<SocketAddr>,
        /// Address for nodes over DTLS, usually port 5684
        #[arg(long, env = "COVEY_COAPS", value_name = "ADDR", requires = "coap_psk")]
        coaps: Option<SocketAddr>,
        /// Pre-shared keys of nodes over DTLS: a line IDENTITY:KEY or IDENTITY:KEY:UID,UID for each, the key in hexadecimal
        /// digits, as psktool writes it; mode 0600
        #[arg(long, env = "COVEY_COAP_PSK", value_name = "FILE", requires = "coaps")]
        coap_psk: Option<PathBuf>,
        /// Network interface over which nodes with link-local addresses are reached, such as eth0
        #[arg(long, env = "COVEY_COAP_INTERFACE", value_name = "NAME")]
        coap_interface: Option<String>,
        /// After how many seconds of silence a node is out
        #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=2_592_000))]
        nodes_out_after: u32,
    },
    /// Speak for nodes that open a WebSocket, and are there as long as it is open
    Websocket {
        #[command(flatten)]
        broker: BrokerArgs,
        /// Address for the nodes; port 0 for any that is free, which standard output tells
        #[arg(long, env = "COVEY_WEBSOCKET_NODES", value_name = "ADDR", default_value = "127.0.0.1:8001")]
        websocket_nodes: SocketAddr,
        /// Origins whose pages may connect as nodes, such as https://dashboard.example, beside those of this host
        #[arg(long, env = "COVEY_NODE_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
        node_origins: Vec<String>,
    },
    /// Speak for nodes that publish over plain MQTT 3.1.1 or 5
    Mqtt {
        #[command(flatten)]
        broker: BrokerArgs,
        /// Address for the nodes; port 0 for any that is free, which standard output tells
        #[arg(long, env = "COVEY_MQTT_NODES", value_name = "ADDR", default_value = "127.0.0.1:1886")]
        mqtt_nodes: SocketAddr,
        /// Password file of the nodes, as mosquitto_passwd writes it [default: none: whoever reaches the listener]
        #[arg(long, env = "COVEY_MQTT_NODES_PASSWORD_FILE", value_name = "FILE")]
        mqtt_nodes_password_file: Option<PathBuf>,
        /// After how many seconds of silence a node is out
        #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=2_592_000))]
        nodes_out_after: u32,
    },
    /// Speak for nodes that publish over MQTT-SN 1.2, in datagrams, such as the firmware of RIOT
    MqttSn {
        #[command(flatten)]
        broker: BrokerArgs,
        /// Address for the nodes; port 0 for any that is free, which standard output tells
        #[arg(long, env = "COVEY_MQTT_SN", value_name = "ADDR", default_value = "127.0.0.1:1885")]
        mqtt_sn: SocketAddr,
        /// After how many seconds of silence a node is out
        #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=2_592_000))]
        nodes_out_after: u32,
    },
    /// Speak with TCP units: microcontrollers that are servers and hold one connection
    #[command(
        after_help = "Example: covey gateway units --broker ws://covey.example:8000 --key-file ./node-keys --units units.json\n\
        A unit holds one connection: no server and no other gateway may speak with the same."
    )]
    Units {
        #[command(flatten)]
        broker: BrokerArgs,
        #[command(flatten)]
        file: UnitsFile,
        /// Addresses at which units may be: ranges such as 10.1.0.0/16, and the words private, loopback, all
        #[arg(
            long,
            env = "COVEY_UNITS_ALLOW",
            value_name = "RANGE",
            value_delimiter = ',',
            default_value = "private"
        )]
        units_allow: Vec<String>,
    },
}

/// Which units.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct UnitsFile {
    /// A list of units, as JSON (docs/units.md)
    #[arg(long, env = "COVEY_UNITS", value_name = "FILE")]
    units: Option<PathBuf>,
    /// The config.json of a base unit: its clients are units that are read
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
}

impl UnitsFile {
    fn read(&self, allowed: &[String]) -> Result<Vec<Unit>> {
        let rule = UnitRule::new(allowed)?;
        match (&self.units, &self.import) {
            (Some(file), _) => units::of_file(file, units::ANY_FILE, &rule),
            (None, Some(file)) => units::of_file(file, units::BASE_UNIT_FILE, &rule),
            (None, None) => Err(fault::setup("name the units with --units or --import")),
        }
    }
}

/// Which broker, and what is shown to it.
#[derive(Args)]
struct BrokerArgs {
    /// The node broker, as ws://HOST:PORT/gw, or wss:// for TLS; the path is /gw unless it is said
    #[arg(long, env = "COVEY_BROKER", value_name = "URL", required_unless_present = "discover")]
    broker: Option<String>,
    /// Find the broker on the local network, where a server announces itself (covey up --mdns --node-broker …); with
    /// =NAME, one of several. The server must prove itself by --ca. Not looked at with --broker
    #[arg(
        long,
        env = "COVEY_DISCOVER",
        value_name = "NAME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = discover::ANY
    )]
    discover: Option<String>,
    /// Key file that the broker has, too (covey key fernet) [default: ~/.pyaiot/keys]
    #[arg(long, env = "COVEY_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Certificates in PEM that the broker's must lead to, with wss:// and --discover [default: those that this machine trusts]
    #[arg(long, env = "COVEY_BROKER_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// What to log: error, warn, info, debug or trace, also by target
    #[arg(long, env = "COVEY_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
    /// How log lines look
    #[arg(long, env = "COVEY_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Runs `covey gateway`.
pub async fn run(args: GatewayArgs) -> Result<ExitCode> {
    match args.command {
        GatewayCommand::Coap { broker, coap: address, coaps, coap_psk, coap_interface, nodes_out_after } => {
            let silence = Duration::from_secs(nodes_out_after.into());
            let running = Running::start(&broker, Naming::AsSaid, coap::nodes::habits(silence)).await?;
            let address = address.or_else(|| coaps.is_none().then_some(COAP));
            let secure = coaps.zip(coap_psk.as_deref());
            let listeners = coap_listeners(address, secure, coap_interface.as_deref())?;
            for (scheme, socket) in [
                ("coap", listeners.plain.as_ref()),
                ("coaps", listeners.secure.as_ref().map(|(socket, _)| socket)),
            ] {
                if let Some(socket) = socket {
                    running.say(scheme, socket.local_addr()?)?;
                }
            }
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(fault::setup)?;
            let (gateway, stop) = (Arc::clone(&running.gateway), running.stop.clone());
            let nodes = coap::nodes::serve(gateway, listeners, seed, Arc::default(), stop);
            running.serve(nodes).await
        }
        GatewayCommand::Websocket { broker, websocket_nodes, node_origins } => {
            let running = Running::start(&broker, Naming::Anew, websocket::HABITS).await?;
            let socket = bind("WebSocket nodes", "--websocket-nodes", websocket_nodes)?;
            running.say("ws", socket.local_addr()?)?;
            let origins = websocket::Origins::new(node_origins);
            let nodes =
                websocket::WebSocketNodes::open(Arc::clone(&running.gateway), origins, running.stop.clone());
            running.serve(nodes.serve(socket, None)).await
        }
        GatewayCommand::Mqtt { broker, mqtt_nodes, mqtt_nodes_password_file, nodes_out_after } => {
            let passwords = mqtt_nodes_password_file.as_deref().map(passwords).transpose()?;
            let silence = Duration::from_secs(nodes_out_after.into());
            let running = Running::start(&broker, Naming::Anew, mqtt_node::habits(silence)).await?;
            let socket = bind("MQTT nodes", "--mqtt-nodes", mqtt_nodes)?;
            running.say("mqtt", socket.local_addr()?)?;
            let nodes = {
                let access = mqtt_node::Access { passwords, ..mqtt_node::Access::default() };
                mqtt_node::serve(Arc::clone(&running.gateway), socket, access, None, running.stop.clone())
            };
            running.serve(nodes).await
        }
        GatewayCommand::MqttSn { broker, mqtt_sn: address, nodes_out_after } => {
            let silence = Duration::from_secs(nodes_out_after.into());
            let running = Running::start(&broker, Naming::Anew, mqtt_sn::nodes::habits(silence)).await?;
            let socket = mqtt_sn::socket::Socket::bind(address);
            let socket = socket.map_err(|error| taken("MQTT-SN nodes", "--mqtt-sn", address, &error))?;
            running.say("mqtt-sn", socket.local_address()?)?;
            let settings = mqtt_sn::session::Settings::default();
            let nodes =
                mqtt_sn::nodes::serve(Arc::clone(&running.gateway), socket, settings, running.stop.clone());
            running.serve(nodes).await
        }
        GatewayCommand::Units { broker, file, units_allow } => {
            let listed = file.read(&units_allow)?;
            let running = Running::start(&broker, Naming::AsSaid, unit::habits()).await?;
            let (count, broker) = (listed.len(), running.dial.url());
            Output::new(false).text(&format!("{count} units, broker {broker}"))?;
            let gateway = Arc::clone(&running.gateway);
            let nodes = unit::serve(gateway, units::fixed(listed), Arc::default(), running.stop.clone());
            running.serve(nodes).await
        }
    }
}

/// A gateway with its way to the broker. Another protocol needs an arm of [`run`] and no more.
struct Running {
    gateway: Arc<Gateway<Remote>>,
    port: Arc<RemotePort>,
    dial: Dial,
    stop: CancellationToken,
    /// Heard from the start: who reads where nodes are may also send a signal.
    signals: Signals,
}

impl Running {
    async fn start(args: &BrokerArgs, naming: Naming, habits: Habits) -> Result<Self> {
        logging::start(&args.log, args.log_format)?;
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            tracing::warn!(%error, "the limit of open files is not known");
        }
        let file = args.key_file.clone().or_else(default_path);
        let file =
            file.ok_or_else(|| fault::setup("there is no home folder: name the key file with --key-file"))?;
        let keys = Keys::read(&file).map_err(|error| {
            fault::setup(format!(
                "{error}; copy that of the broker here, or make one for both: covey key fernet"
            ))
        })?;
        let broker = match (&args.broker, &args.discover) {
            (Some(url), _) => url.clone(),
            (None, wanted) => {
                let wanted = wanted.as_deref().filter(|name| !name.is_empty()).unwrap_or(discover::ANY);
                discover::node_broker(wanted, args.ca.as_deref()).await?
            }
        };
        let dial = Dial::new(&broker, keys, args.ca.as_deref()).map_err(fault::setup)?;
        let port = RemotePort::new(naming);
        let gateway = Gateway::new(Arc::new(Remote(Arc::clone(&port))), habits);
        Ok(Self { gateway, port, dial, stop: CancellationToken::new(), signals: Signals::listen()? })
    }

    fn say(&self, scheme: &str, address: SocketAddr) -> Result<()> {
        let (nodes, broker) = (reachable(address), self.dial.url());
        Ok(Output::new(false).text(&format!("nodes at {scheme}://{nodes}, broker {broker}"))?)
    }

    async fn serve(self, nodes: impl Future<Output = ()>) -> Result<ExitCode> {
        let Self { port, dial, stop, mut signals, .. } = self;
        let told = async {
            signals.wait().await;
            stop.cancel();
        };
        tokio::join!(nodes, port.run(dial, stop.clone()), told);
        Ok(ExitCode::SUCCESS)
    }
}
