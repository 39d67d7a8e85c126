//! The gateways that the settings switch on: their listeners, their links, and their life.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use covey_core::Engine;
use covey_core::id::OrgId;
use covey_core::port::{Link, Observer};
use covey_gateway::broker::fernet::Keys;
use covey_gateway::broker::{self, Audience, NodeBroker, Realm};
use covey_gateway::coap::socket::CoapSocket;
use covey_gateway::engine::{Announced, EnginePort, GatewayLink, Policy};
use covey_gateway::gateway::Gateway;
use covey_gateway::mqtt_node::Passwords;
use covey_gateway::unit::{self, Unit};
use covey_gateway::websocket::WebSocketNodes;
use covey_gateway::{coap, mqtt_node, mqtt_sn, websocket};
use covey_http::Files;
use covey_pki::ServerCertResolver;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fault;
use crate::serve::data_dir::Addresses;
use crate::serve::discovery::{Listeners, look_for_units};
use crate::serve::routes::OnHttp;
use crate::serve::units::{self, Listing, UnitRule};
use crate::serve::{bind, reachable};
use crate::settings::{Admission, NodeKeys, Settings};

/// The names of the gateways, which stand in front of the serial numbers of their nodes.
const COAP: &str = "coap";
const MQTT: &str = "mqtt";
const MQTT_SN: &str = "mqttsn";
const WEBSOCKET: &str = "websocket";
const UNIT: &str = covey_core::unit::UNIT_GATEWAY;
/// That of units which announce themselves.
const UNIT_FOUND: &str = "mdns";

/// A listener of nodes, with the link of its gateway.
struct Listener {
    link: Arc<GatewayLink>,
    socket: TcpListener,
}

/// The gateways of a server, each with its listener.
#[derive(Default)]
pub struct Gateways {
    coap: Option<(Arc<GatewayLink>, coap::driver::Listeners)>,
    mqtt: Option<Listener>,
    mqtt_access: mqtt_node::Access,
    mqtt_sn: Option<(Arc<GatewayLink>, mqtt_sn::socket::Socket)>,
    websocket: Option<Listener>,
    units: Option<(Arc<GatewayLink>, Vec<Unit>)>,
    units_found: Option<Arc<GatewayLink>>,
    /// Who counts what is refused of units that announce themselves.
    observer: Option<Arc<dyn Observer>>,
    broker: Option<Broker>,
}

/// The node broker, with the key files of the gateways that may connect.
struct Broker {
    socket: TcpListener,
    realms: Vec<(Arc<GatewayLink>, Keys)>,
}

impl Broker {
    fn bind(settings: &Settings) -> Result<Option<Self>> {
        let Some(address) = settings.node_broker else { return Ok(None) };
        let realms = settings.node_keys.iter().map(|NodeKeys { gateway, file }| {
            // As many as the settings name, once.
            let link = GatewayLink::new(gateway.clone().leak());
            Ok((link, Keys::read(file).map_err(fault::setup)?))
        });
        let realms = realms.collect::<Result<_>>()?;
        if !address.ip().is_loopback() {
            tracing::warn!("whoever reaches {address} sees all nodes and sets their values (--node-broker)");
        }
        Ok(Some(Self { socket: bind("the node broker", "--node-broker", address)?, realms }))
    }
}

/// The listeners of CoAP: the plain one, and that of DTLS with its key file.
pub fn coap_listeners(
    plain: Option<SocketAddr>,
    secure: Option<(SocketAddr, &Path)>,
    interface: Option<&str>,
) -> Result<coap::driver::Listeners> {
    let bind = |address| CoapSocket::bind(address, interface).map_err(fault::setup);
    let secure = match secure {
        Some((address, file)) => {
            let keys = coap::dtls::Keys::read(file).map_err(fault::setup)?;
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(fault::setup)?;
            let sessions = coap::dtls::Sessions::new(Arc::new(keys), seed).map_err(fault::setup)?;
            Some((bind(address)?, sessions))
        }
        None => None,
    };
    Ok(coap::driver::Listeners { plain: plain.map(bind).transpose()?, secure })
}

impl Gateways {
    /// Opens the listeners.
    pub fn bind(settings: &Settings, unit_rule: &UnitRule) -> Result<Self> {
        let listener = |what, option, name, address: Option<SocketAddr>| -> Result<Option<Listener>> {
            let Some(address) = address else { return Ok(None) };
            Ok(Some(Listener { link: GatewayLink::new(name), socket: bind(what, option, address)? }))
        };
        let gateways = Self {
            coap: {
                let secure = settings.coaps.zip(settings.coap_psk.as_deref());
                let listeners = coap_listeners(settings.coap, secure, settings.coap_interface.as_deref())?;
                let is_any = listeners.plain.is_some() || listeners.secure.is_some();
                is_any.then(|| (GatewayLink::new(COAP), listeners))
            },
            mqtt: listener("MQTT nodes", "--mqtt-nodes", MQTT, settings.mqtt_nodes)?,
            mqtt_access: mqtt_node::Access::default(),
            mqtt_sn: match settings.mqtt_sn {
                Some(address) => {
                    let socket = mqtt_sn::socket::Socket::bind(address);
                    Some((
                        GatewayLink::new(MQTT_SN),
                        socket.map_err(|error| taken("MQTT-SN", "--mqtt-sn", address, &error))?,
                    ))
                }
                None => None,
            },
            websocket: listener("WebSocket nodes", "--websocket-nodes", WEBSOCKET, settings.websocket_nodes)?,
            units: match (&settings.units, settings.unit_gateway) {
                (Some(file), _) => {
                    Some((GatewayLink::new(UNIT), units::of_file(file, units::ANY_FILE, unit_rule)?))
                }
                (None, true) => Some((GatewayLink::new(UNIT), Vec::new())),
                (None, false) => None,
            },
            units_found: settings.mdns.then(|| GatewayLink::new(UNIT_FOUND)),
            observer: None,
            broker: Broker::bind(settings)?,
        };
        if settings.nodes == Admission::Open
            && settings.node_listeners().any(|address| !address.ip().is_loopback())
        {
            tracing::warn!("any node that reaches this server joins by itself (--nodes open)");
        }
        Ok(gateways)
    }

    /// Asks of MQTT nodes what the settings say; the listener has the server's certificate, if it speaks TLS.
    pub fn ask_of_mqtt_nodes(
        &mut self,
        settings: &Settings,
        certificate: &Arc<ServerCertResolver>,
    ) -> Result<()> {
        self.mqtt_access = mqtt_access(settings, certificate)?;
        Ok(())
    }

    /// Says who counts what is refused.
    pub fn count_with(&mut self, observer: &Arc<dyn Observer>) {
        self.observer = Some(Arc::clone(observer));
    }

    /// The gateways as the core sees them.
    pub fn links(&self) -> impl Iterator<Item = Arc<dyn Link>> {
        let listeners = self.mqtt.iter().chain(&self.websocket).map(|listener| &listener.link);
        let others = self.units.iter().map(|(link, _)| link).chain(self.mqtt_sn.iter().map(|(link, _)| link));
        let others = others.chain(self.coap.iter().map(|(link, _)| link)).chain(&self.units_found);
        let realms = self.broker.iter().flat_map(|broker| broker.realms.iter().map(|(link, _)| link));
        listeners.chain(others).chain(realms).map(|link| Arc::clone(link) as Arc<dyn Link>)
    }

    /// The addresses at which they listen.
    pub fn listeners(&self) -> Result<Vec<SocketAddr>> {
        let sockets = self.mqtt.iter().chain(&self.websocket).map(|listener| &listener.socket);
        let sockets = sockets.chain(self.broker.iter().map(|broker| &broker.socket));
        let mut addresses = sockets.map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        if let Some((_, listeners)) = &self.coap {
            let sockets = listeners.plain.iter().chain(listeners.secure.iter().map(|(socket, _)| socket));
            for socket in sockets {
                addresses.push(socket.local_addr()?);
            }
        }
        if let Some((_, socket)) = &self.mqtt_sn {
            addresses.push(socket.local_address()?);
        }
        Ok(addresses)
    }

    /// Writes down where nodes reach the gateways; `is_tls` is that of MQTT nodes.
    pub fn tell(&self, is_tls: bool, addresses: &mut Addresses) -> Result<()> {
        let url = |scheme: &str, listener: &Option<Listener>| -> Result<Option<String>> {
            let Some(listener) = listener else { return Ok(None) };
            Ok(Some(format!("{scheme}://{}", reachable(listener.socket.local_addr()?))))
        };
        if let Some((_, coap::driver::Listeners { plain, secure })) = &self.coap {
            let url = |scheme: &str, socket: &CoapSocket| -> Result<String> {
                Ok(format!("{scheme}://{}", reachable(socket.local_addr()?)))
            };
            addresses.coap = plain.as_ref().map(|socket| url("coap", socket)).transpose()?;
            addresses.coaps = secure.as_ref().map(|(socket, _)| url("coaps", socket)).transpose()?;
        }
        addresses.mqtt_nodes = url(if is_tls { "mqtts" } else { "mqtt" }, &self.mqtt)?;
        if let Some((_, socket)) = &self.mqtt_sn {
            addresses.mqtt_sn = Some(format!("mqtt-sn://{}", reachable(socket.local_address()?)));
        }
        addresses.websocket_nodes = url("ws", &self.websocket)?;
        if let Some(broker) = &self.broker {
            addresses.node_broker = Some(format!("ws://{}", reachable(broker.socket.local_addr()?)));
        }
        Ok(())
    }

    /// Where nodes and gateways of others are heard, for whoever announces it.
    pub fn reached(&self, is_tls: bool, https: SocketAddr, mqtts: Option<SocketAddr>) -> Result<Listeners> {
        let coap = self.coap.as_ref().map(|(_, listeners)| listeners);
        let (plain, secure) =
            (coap.and_then(|coap| coap.plain.as_ref()), coap.and_then(|coap| coap.secure.as_ref()));
        Ok(Listeners {
            https,
            mqtts,
            // One with TLS would need a name of its own beside that of devices.
            mqtt_nodes: self
                .mqtt
                .as_ref()
                .filter(|_| !is_tls)
                .map(|listener| listener.socket.local_addr())
                .transpose()?,
            coap: plain.map(CoapSocket::local_addr).transpose()?,
            coaps: secure.map(|(socket, _)| socket.local_addr()).transpose()?,
            node_broker: self.broker.as_ref().map(|broker| broker.socket.local_addr()).transpose()?,
        })
    }

    /// Starts them, and answers those that are spoken to on the HTTP listeners, too, and the units that are spoken with.
    /// What ends them is `stop`.
    pub fn start(
        self,
        engine: &Arc<Engine>,
        settings: &Settings,
        unit_rule: &Arc<UnitRule>,
        files: Option<&Files>,
        running: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(OnHttp, Option<watch::Receiver<Vec<Unit>>>)> {
        let (mut on_http, mut spoken_with) = (OnHttp::default(), None);
        let policy = Policy {
            org: OrgId(settings.nodes_org),
            admission: settings.nodes.into(),
            server: settings.server_name.clone(),
        };
        let audience = self.broker.is_some().then(Audience::new);
        let port_of = |link: &Arc<GatewayLink>, protocol, policy: &Policy, announced: Option<Announced>| {
            let (engine, link) = (Arc::clone(engine), Arc::clone(link));
            let port = EnginePort::announcing(engine, link, protocol, policy.clone(), announced)
                .map_err(fault::setup)?;
            if let Some(audience) = audience.clone() {
                port.tell_resets(Box::new(move |node| audience.reset(node)));
            }
            Ok::<_, anyhow::Error>(port)
        };
        let port = |link: &Arc<GatewayLink>, protocol, policy: &Policy| port_of(link, protocol, policy, None);
        if let (Some(Broker { socket, realms }), Some(audience)) = (self.broker, &audience) {
            let realms = realms.into_iter().map(|(link, keys)| {
                let announced = Announced::default();
                let port = port_of(&link, "gateway", &policy, Some(Arc::clone(&announced)))?;
                let gateway = Gateway::new(port, broker::HABITS);
                count(&link, &gateway, Vec::new);
                Ok(Realm { keys, gateway, announced })
            });
            let parts = broker::Parts {
                engine: Arc::clone(engine),
                org: policy.org,
                ttl_minutes: settings.node_broker_ttl.into(),
                origins: websocket::Origins::new(settings.node_origins.iter().cloned()),
                realms: realms.collect::<Result<_>>()?,
            };
            let broker = NodeBroker::open(parts, Arc::clone(audience), stop.clone());
            on_http.broker = Some(Arc::clone(&broker));
            running.spawn(broker.serve(socket, files.cloned()));
        }
        if let Some((link, listeners)) = self.coap {
            let habits = coap::nodes::habits(settings.nodes_silence(COAP));
            let gateway = Gateway::new(port(&link, "CoAP", &policy)?, habits);
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(fault::setup)?;
            let counts = Arc::<coap::driver::Counts>::default();
            let counted = Arc::clone(&counts);
            count(&link, &gateway, move || counted.named());
            running.spawn(coap::nodes::serve(gateway, listeners, seed, counts, stop.clone()));
        }
        if let Some(listener) = self.mqtt {
            let gateway = Gateway::new(
                port(&listener.link, "MQTT", &policy)?,
                mqtt_node::habits(settings.nodes_silence(MQTT)),
            );
            count(&listener.link, &gateway, Vec::new);
            let access = self.mqtt_access;
            running.spawn(mqtt_node::serve(gateway, listener.socket, access, files.cloned(), stop.clone()));
        }
        if let Some((link, socket)) = self.mqtt_sn {
            let habits = mqtt_sn::nodes::habits(settings.nodes_silence(MQTT_SN));
            let gateway = Gateway::new(port(&link, "MQTT-SN", &policy)?, habits);
            let counting = socket.counting();
            count(&link, &gateway, move || counting.now().named());
            running.spawn(mqtt_sn::nodes::serve(
                gateway,
                socket,
                mqtt_sn::session::Settings::default(),
                stop.clone(),
            ));
        }
        if let Some(listener) = self.websocket {
            let gateway = Gateway::new(port(&listener.link, "WebSocket", &policy)?, websocket::HABITS);
            count(&listener.link, &gateway, Vec::new);
            let origins = websocket::Origins::new(settings.node_origins.iter().cloned());
            let nodes = WebSocketNodes::open(gateway, origins, stop.clone());
            // Whoever reaches the HTTPS listener would join by itself where nobody has insisted on that.
            let is_safe = settings.nodes != Admission::Open || settings.nodes_insist;
            if is_safe || settings.https.ip().is_loopback() {
                on_http.nodes = Some(Arc::clone(&nodes));
            }
            running.spawn(nodes.serve(listener.socket, files.cloned()));
        }
        if let (Some(link), Some(observer)) = (self.units_found, self.observer) {
            // Nobody has said yes to them, whoever else may join.
            let admission = match policy.admission {
                covey_core::node::Admission::Open => covey_core::node::Admission::Approve,
                admission => admission,
            };
            let policy = Policy { admission, ..policy.clone() };
            let gateway = Gateway::new(port(&link, "TCP", &policy)?, unit::habits());
            let counts = Arc::<unit::Counts>::default();
            let counted = Arc::clone(&counts);
            count(&link, &gateway, move || counted.named());
            let listed = self.units.iter().flat_map(|(_, units)| units.iter().map(|unit| unit.address));
            let (tell, looks) = mpsc::channel(1);
            let rule = Arc::clone(unit_rule);
            running.spawn(look_for_units(rule, listed.collect(), tell, observer, stop.clone()));
            running.spawn(unit::serve_found(gateway, looks, counts, stop.clone()));
        }
        if let Some((link, of_file)) = self.units {
            // Now it is known where the server listens.
            units::demand_allowed(&of_file, unit_rule)?;
            // Who lists a unit has said yes to it.
            let policy = Policy { admission: covey_core::node::Admission::Open, ..policy };
            let gateway = Gateway::new(port(&link, "TCP", &policy)?, unit::habits());
            let listing = Listing {
                engine: Arc::clone(engine),
                org: policy.org,
                server: policy.server,
                link,
                rule: Arc::clone(unit_rule),
                of_file,
            };
            let counts = Arc::<unit::Counts>::default();
            let counted = Arc::clone(&counts);
            count(&listing.link, &gateway, move || counted.named());
            let (sender, listed) = watch::channel(listing.of_file.clone());
            spoken_with = Some(listed.clone());
            let stop = stop.clone();
            running.spawn(async move {
                tokio::join!(
                    listing.follow(sender, &stop),
                    unit::serve(gateway, listed, counts, stop.clone())
                );
                listing.release().await;
            });
        }
        Ok((on_http, spoken_with))
    }
}

/// Has a link tell what its gateway counts, beside what its protocol does.
fn count(
    link: &GatewayLink,
    gateway: &Arc<Gateway<EnginePort>>,
    of_protocol: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static,
) {
    // The engine has the link, and the gateway has the engine.
    let gateway = Arc::downgrade(gateway);
    link.count_with(Box::new(move || {
        let mut counts = of_protocol();
        counts.extend(gateway.upgrade().map(|gateway| ("not_heard", gateway.not_heard())));
        counts
    }));
}

/// An address for datagrams that is not to be had.
pub fn taken(what: &str, option: &str, address: SocketAddr, error: &dyn std::fmt::Display) -> anyhow::Error {
    fault::setup(format!(
        "cannot listen for {what} on {address}: {error}; stop what uses the port, or give another with {option}"
    ))
}

/// What is asked of MQTT nodes, as the settings say, with the server's certificate.
fn mqtt_access(settings: &Settings, certificate: &Arc<ServerCertResolver>) -> Result<mqtt_node::Access> {
    let Some(address) = settings.mqtt_nodes else { return Ok(mqtt_node::Access::default()) };
    let passwords = settings.mqtt_nodes_password_file.as_deref().map(passwords).transpose()?;
    if passwords.is_some() && !settings.mqtt_nodes_tls && !address.ip().is_loopback() {
        tracing::warn!("passwords of MQTT nodes travel unencrypted without --mqtt-nodes-tls");
    }
    let clients = settings.mqtt_nodes_client_ca.as_deref();
    let wrong = |file: &Path, why: &dyn std::fmt::Display| {
        fault::setup(format!("--mqtt-nodes-client-ca {}: {why}", file.display()))
    };
    let read = |file: &Path| std::fs::read(file).map_err(|error| wrong(file, &error));
    let trusted = clients.map(read).transpose()?;
    let tls = || {
        mqtt_node::tls(Arc::clone(certificate) as _, trusted.as_deref()).map_err(|error| match clients {
            Some(file) => wrong(file, &error),
            None => fault::setup(error),
        })
    };
    let tls = settings.mqtt_nodes_tls.then(tls).transpose()?;
    let takes_certificates = clients.is_some();
    Ok(mqtt_node::Access { tls, passwords, takes_certificates })
}

/// Reads a password file of MQTT nodes.
pub fn passwords(file: &Path) -> Result<Arc<Passwords>> {
    let wrong = |why: String| fault::setup(format!("the password file {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    Ok(Arc::new(Passwords::read(&text).map_err(wrong)?))
}
