//! The listener for devices: bound, started, renewed and stopped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use covey_core::Engine;
use covey_core::device_session::{SESSION_EXPIRY_S_MAX, SUBSCRIPTION_BYTES_MAX, SUBSCRIPTIONS_MAX};
use covey_core::task::PAYLOAD_BYTES_MAX;
use covey_net::mqtt::{Endpoint, Hub, MqttLimits, serve};
use covey_net::{
    Files, Identity, ImportedCa, Incoming, Limits, NetError, ServerTls, certificates_from_pem, listener,
};
use covey_wire::downlink::ResponseForm;
use covey_wire::mqtt::session;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::embedded::EmbeddedLink;
use crate::embedded::devices::Devices;

/// The files that TLS is made of. The broker reads them when it starts and when it is renewed.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, then those between it and the root.
    pub certificate: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
    /// The root that devices' certificates must lead to.
    pub device_root: PathBuf,
    /// The issuing CA: devices whose certificate it issued may send it alone.
    pub device_issuer: PathBuf,
    /// The issuing CAs of before, if there are any whose certificates are still good.
    pub former_issuers: Option<PathBuf>,
    /// CAs of others, each with what stands before the serial numbers of its certificates in the registry.
    pub imported: Vec<ImportedCa>,
}

/// How the broker is run.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Where to listen; port 0 means any free one.
    pub address: SocketAddr,
    /// The files that TLS is made of.
    pub tls: TlsFiles,
    /// How many sessions there may be.
    pub sessions_max: usize,
    /// The open files that it may have for connections; without them as many as sessions.
    pub files: Option<Files>,
    /// Largest MQTT packet, in bytes.
    pub packet_bytes_max: u32,
    /// How much may be kept for all devices together, in bytes.
    pub held_bytes_max: usize,
    /// What the body of an `rsp` with a task is.
    pub response_form: ResponseForm,
}

/// Why the broker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address is taken or may not be used.
    #[error("cannot listen for devices on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate or the key cannot be used.
    #[error("cannot set up TLS for devices on {address}: {problem}")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// What is wrong.
        problem: String,
    },
}

/// How many connections may be half-open: no CONNECT has come.
/// Limit for the listener: the oldest of the address with most is closed.
const HALF_OPEN_MAX: usize = 2_048;
/// How many half-open connections may come from one address: half, since whole sites come from one.
/// Limit for each address: its oldest is closed.
const HALF_OPEN_PER_ADDRESS_MAX: usize = HALF_OPEN_MAX / 2;
/// How long a TLS handshake and the CONNECT after it may take together, in milliseconds.
/// Limit for each connection: it is closed.
const HALF_OPEN_MS_MAX: u64 = 15_000;
/// How many messages that were sent may wait for their PUBACK, each way.
/// Limit for each device: the device's connection is not read, and nothing more is sent, until PUBACKs come.
const IN_FLIGHT_MAX: u16 = 32;
/// How many messages may wait for a session.
/// Limit for each device: announcements are left out; they come again when the device is there.
const WAITING_MAX: usize = 256;
/// How much may wait for a device that does not read or acknowledge, in bytes: as many `rsp` as may be
/// under way, each of the largest size.
/// Limit for each device: 0x97 and the connection is closed.
const UNREAD_BYTES_MAX: usize = IN_FLIGHT_MAX as usize * PAYLOAD_BYTES_MAX;
/// How much is kept for a device that is away, in bytes.
/// Limit for each device: later messages are dropped, and come again by the contract.
const AWAY_BYTES_MAX: usize = 1024 * 1024;
/// How long devices may take to hear that the server stops, in milliseconds.
/// Limit for the server: connections are cut.
const SHUTDOWN_MS_MAX: u64 = 2_000;

/// The broker, listening.
pub struct Broker {
    options: BrokerOptions,
    tls: Arc<ServerTls>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Broker {
    /// Binds the address and begins to accept devices.
    ///
    /// # Errors
    /// An address that is taken, or TLS files that cannot be used.
    pub async fn start(
        link: Arc<EmbeddedLink>,
        engine: Arc<Engine>,
        mut options: BrokerOptions,
    ) -> Result<Self, BrokerError> {
        let address = options.address;
        let problem = |error: NetError| match error {
            NetError::Bind { address, source } => BrokerError::Bind { address, source },
            other => BrokerError::Tls { address, problem: other.to_string() },
        };
        let (identity, trusted) = read(&options)?;
        let imported = &options.tls.imported;
        let tls = ServerTls::for_devices_of(identity, trusted, imported).map_err(problem)?;
        let listener = listener::bind(address).map_err(problem)?;
        let bind = |source| BrokerError::Bind { address, source };
        options.address = listener.local_addr().map_err(bind)?;
        let shutdown = CancellationToken::new();
        let limits = DeviceLimits {
            sessions_max: options.sessions_max,
            files: options.files.clone(),
            packet_bytes_max: options.packet_bytes_max,
            held_bytes_max: options.held_bytes_max,
            response_form: options.response_form,
        };
        let serving = serving(&link, engine, listener, Some(Arc::clone(&tls)), limits, shutdown.clone());
        let serving = tokio::spawn(serving);
        Ok(Self { options, tls, shutdown, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.options.address
    }

    /// Begins to accept with the certificate that the files hold now. Devices
    /// that are connected stay so.
    ///
    /// # Errors
    /// TLS files that cannot be used; the broker then goes on with what it had.
    pub fn renew(&mut self) -> Result<(), BrokerError> {
        let (identity, trusted) = read(&self.options)?;
        let address = self.options.address;
        self.tls
            .renew_of(identity, trusted, &self.options.tls.imported)
            .map_err(|error| BrokerError::Tls { address, problem: error.to_string() })
    }

    /// Stops accepting and ends all connections.
    pub async fn stop(self) {
        self.shutdown.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "MQTT listener failed");
        }
    }
}

/// What devices may ask of the broker.
#[derive(Clone, Debug)]
pub struct DeviceLimits {
    /// How many sessions there may be.
    pub sessions_max: usize,
    /// The open files that there may be for connections; without them as many as sessions.
    pub files: Option<Files>,
    /// Largest MQTT packet, in bytes.
    pub packet_bytes_max: u32,
    /// How much may be kept for all devices together, in bytes.
    pub held_bytes_max: usize,
    /// What the body of an `rsp` with a task is.
    pub response_form: ResponseForm,
}

/// How much may be kept for all devices that do not take it, in bytes.
/// Limit for the server, set by `--sessions-bytes-max`: 0x97 to those for whom most is kept, and their sessions end.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Serves the devices that come through `listener`, until `shutdown`: what [`Broker`] does, for whatever
/// connections come from. Without `tls` a device is let in by the certificate that comes with its
/// connection ([`covey_net::Accepted`]). Called in a runtime. The link has the devices from now on, and no others after them.
pub fn serving<L: Incoming>(
    link: &Arc<EmbeddedLink>,
    engine: Arc<Engine>,
    listener: L,
    tls: Option<Arc<ServerTls>>,
    limits: DeviceLimits,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + use<L> {
    if let Some(microcontrollers) = link.microcontrollers.get() {
        microcontrollers.begin(&engine);
    }
    let devices = Devices::new(Arc::clone(link), engine, limits.response_form);
    let hub = Hub::new(devices, mqtt_limits(&limits));
    // The link of a broker that has stopped stays without one: nothing starts a second.
    let _ = link.hub.set(Arc::downgrade(&hub));
    let listener_limits = Limits {
        connections_max: limits.sessions_max,
        files: limits.files,
        // Of devices that were let in any number may come from one address, as those behind a load balancer do.
        connections_per_address_max: usize::MAX,
        half_open_max: HALF_OPEN_MAX,
        half_open_per_address_max: HALF_OPEN_PER_ADDRESS_MAX,
        half_open_ms_max: HALF_OPEN_MS_MAX,
        shutdown_ms_max: SHUTDOWN_MS_MAX,
    };
    serve(hub, vec![Endpoint { listener, tls, limits: listener_limits }], shutdown)
}

fn mqtt_limits(limits: &DeviceLimits) -> MqttLimits {
    MqttLimits {
        session: session::Limits {
            packet_bytes_max: limits.packet_bytes_max,
            receive_max: IN_FLIGHT_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            waiting_messages_max: WAITING_MAX,
            waiting_bytes_max: UNREAD_BYTES_MAX,
            away_bytes_max: AWAY_BYTES_MAX,
            subscriptions_max: SUBSCRIPTIONS_MAX,
            subscription_bytes_max: SUBSCRIPTION_BYTES_MAX,
            session_expiry_s_max: SESSION_EXPIRY_S_MAX,
            // Nobody may subscribe to what a device publishes, so that nobody can see that nothing is kept;
            // a device that asks for it need not be turned away.
            retain_available: true,
            ..session::Limits::default()
        },
        sessions_max: limits.sessions_max,
        unread_bytes_max: UNREAD_BYTES_MAX,
        held_bytes_max: limits.held_bytes_max,
        ..MqttLimits::default()
    }
}

type Certificates = Vec<rustls_pki_types::CertificateDer<'static>>;

/// The server's identity, and what devices' certificates must lead to.
fn read(options: &BrokerOptions) -> Result<(Identity, Certificates), BrokerError> {
    let TlsFiles { certificate, key, device_root, device_issuer, former_issuers, .. } = &options.tls;
    let address = options.address;
    let in_file = |path: &PathBuf, problem: String| BrokerError::Tls {
        address,
        problem: format!("{}: {problem}", path.display()),
    };
    let text = |path: &PathBuf| std::fs::read(path).map_err(|error| in_file(path, error.to_string()));
    let identity = Identity::from_pem(&text(certificate)?, &text(key)?)
        .map_err(|error| in_file(certificate, error.to_string()))?;
    let mut trusted = Vec::new();
    // Small TLS libraries send a device's own certificate only: then the one that issued it is the root.
    for path in [device_root, device_issuer].into_iter().chain(former_issuers) {
        trusted
            .extend(certificates_from_pem(&text(path)?).map_err(|error| in_file(path, error.to_string()))?);
    }
    Ok((identity, trusted))
}
