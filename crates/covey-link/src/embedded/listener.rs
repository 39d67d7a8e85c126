//! The broker's listener: bound, started, renewed and stopped.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use covey_core::port::Refusal;
use covey_wire::downlink::ResponseForm;
use rmqtt::context::{RefusedConnection, ServerContext};
use rmqtt::net::{Builder, Listener};
use rmqtt::server::MqttServer;
use rmqtt::types::ListenerId;
use tokio::task::JoinHandle;

use crate::embedded::{EmbeddedLink, Shared, hooks};

/// The files that TLS is made of. The broker reads them when it binds.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, then the issuing CA.
    pub certificate: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
    /// The root that devices' certificates must lead to.
    pub device_root: PathBuf,
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
    /// Largest MQTT packet, in bytes.
    pub packet_bytes_max: u32,
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
        /// What the broker said.
        problem: String,
    },
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// How many handshakes may be under way.
const HANDSHAKES_MAX: usize = 1024;
/// How long a TLS handshake, and the CONNECT after it, may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a message may take to be written before the connection is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How many messages that were sent may wait for their PUBACK, each way.
const INFLIGHT_MAX: NonZeroU16 = match NonZeroU16::new(32) {
    Some(count) => count,
    None => NonZeroU16::MIN,
};
/// How many messages may wait for a session.
const QUEUE_MAX: usize = 256;
/// How many subscriptions a session may have.
const SUBSCRIPTIONS_MAX: usize = 16;
/// How long the broker keeps a session of a device that is away. What it keeps
/// is the subscription; tasks are announced again from the store.
const SESSION_EXPIRY_MAX: Duration = Duration::from_secs(3600);
/// A message is not sent again within a connection (MQTT 5 §4.4).
const RETRY_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// The broker, listening.
pub struct Broker {
    shared: Shared,
    options: BrokerOptions,
    accepting: JoinHandle<()>,
    listener_id: ListenerId,
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
        // The broker's own socket shares its port, so that a renewed listener
        // can take over from it; whether somebody else has the port is asked
        // here with one that does not.
        let bind = |source| BrokerError::Bind { address: options.address, source };
        let probe = TcpListener::bind(options.address).map_err(bind)?;
        options.address = probe.local_addr().map_err(bind)?;
        drop(probe);
        let listener = listen(&options)?;
        let sessions_max = isize::try_from(options.sessions_max).unwrap_or(isize::MAX);
        let broker = ServerContext::new()
            .busy_check_enable(false)
            .mqtt_max_sessions(sessions_max)
            .refused_connection(tell_refused(&link))
            .build()
            .await;
        let shared = Shared { link, engine, broker, response_form: options.response_form };
        hooks::register(&shared).await;
        let listener_id = ListenerId::from(1_u8);
        let accepting = accept(&shared, listener, listener_id);
        Ok(Self { shared, options, accepting, listener_id })
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
    /// TLS files that cannot be used; the old listener then goes on.
    pub fn renew(&mut self) -> Result<(), BrokerError> {
        let listener = listen(&self.options)?;
        let old_id = self.listener_id;
        self.listener_id = self.listener_id.wrapping_add(1).max(1);
        let renewed = accept(&self.shared, listener, self.listener_id);
        let old = std::mem::replace(&mut self.accepting, renewed);
        old.abort();
        self.shared.broker.listen_cfgs.remove(&old_id);
        Ok(())
    }

    /// Stops accepting and ends all connections.
    pub async fn stop(self) {
        self.accepting.abort();
        self.shared.link.close_all();
        let ended = async {
            while self.shared.link.connected() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // Devices still connected by then see the socket close.
        let _ = tokio::time::timeout(Duration::from_secs(2), ended).await;
    }
}

/// The broker's text for a CONNECT that admission refused and logged.
const REFUSED_BY_ADMISSION: &str = "Authentication failed";

/// Counts and logs connections that end before there is a session: a TLS
/// handshake that fails, a certificate of another CA, bytes that are no MQTT.
fn tell_refused(link: &Arc<EmbeddedLink>) -> RefusedConnection {
    let link = Arc::clone(link);
    Arc::new(move |address, why| {
        let why = why.to_string();
        if why != REFUSED_BY_ADMISSION {
            link.refusals.count(Refusal::Protocol);
            tracing::warn!(%address, why, "connection refused");
        }
    })
}

fn listen(options: &BrokerOptions) -> Result<Listener, BrokerError> {
    let address = options.address;
    let file = |path: &PathBuf| Some(path.to_string_lossy().into_owned());
    let builder = Builder::new()
        .name("mqtts")
        .laddr(address)
        .backlog(BACKLOG)
        .nodelay(true)
        .reuseaddr(Some(true))
        .reuseport(Some(true))
        .allow_anonymous(false)
        .max_connections(options.sessions_max)
        .max_handshaking_limit(HANDSHAKES_MAX)
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        .send_timeout(SEND_TIMEOUT)
        .max_packet_size(options.packet_bytes_max)
        .max_inflight(INFLIGHT_MAX)
        .max_mqueue_len(QUEUE_MAX)
        .max_subscriptions(SUBSCRIPTIONS_MAX)
        .max_session_expiry_interval(SESSION_EXPIRY_MAX)
        .session_expiry_interval(SESSION_EXPIRY_MAX)
        .message_retry_interval(RETRY_INTERVAL)
        .tls_cross_certificate(true)
        .tls_cert(file(&options.tls.certificate))
        .tls_key(file(&options.tls.key))
        .tls_client_ca_certs(file(&options.tls.device_root))
        .collect_cert_info(true);
    let listener = builder
        .bind()
        .map_err(|error| BrokerError::Bind { address, source: std::io::Error::other(error.to_string()) })?;
    listener.tls().map_err(|error| BrokerError::Tls { address, problem: format!("{error:#}") })
}

fn accept(shared: &Shared, listener: Listener, id: ListenerId) -> JoinHandle<()> {
    let server = MqttServer::new(shared.broker.clone()).listener_by_id(listener, id).build();
    tokio::spawn(async move {
        if let Err(error) = server.run().await {
            tracing::error!(%error, "MQTT listener stopped");
        }
    })
}
