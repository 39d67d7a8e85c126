//! The MQTT client of one device: made small, so that thousands fit into a process, and set up
//! so that an acknowledgement leaves together with the message that follows from it.

use std::collections::VecDeque;
use std::sync::Arc;

use rumqttc::{
    AckMode, AsyncClient, EventLoop, MqttOptions, NetworkOptions, TlsConfiguration, Transport,
    default_socket_connect,
};
use rustls::ClientConfig;

/// Seconds for TCP, TLS and CONNECT together. Generous: when a whole swarm comes back, the
/// server works through its handshakes.
const CONNECT_TIMEOUT_S: u64 = 30;
/// Our unacknowledged publishes besides events. The client keeps a slot for each, on every device.
const IN_FLIGHT_MAX: u16 = 8;
/// The server's unacknowledged publishes (MQTT 5 Receive Maximum).
const RECEIVE_MAX: u16 = 64;
/// Messages handed to the client and not yet written.
pub(crate) const CHANNEL_MESSAGES: usize = 16;
/// Messages written with one flush.
const BATCH_MESSAGES: usize = 16;
/// Slots for events of one read; grows when needed.
const EVENT_SLOTS: usize = 8;

/// Where and how to connect.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

pub(crate) fn open(
    client_id: &str,
    address: &Address,
    tls: Arc<ClientConfig>,
    keep_alive_s: u16,
    packet_bytes_max: u32,
    events_in_flight_max: u16,
) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(client_id, (address.host.clone(), address.port));
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_TIMEOUT_S);
    options
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)))
        .set_network_options(network)
        .set_keep_alive(keep_alive_s)
        .set_connect_timeout(std::time::Duration::from_secs(CONNECT_TIMEOUT_S))
        // The server announces again by itself, so no session is kept: MQTT 5 section 3.1.2.11.2.
        .set_clean_start(true)
        .set_session_expiry_interval(Some(0))
        .set_receive_maximum(Some(RECEIVE_MAX))
        .set_max_packet_size(Some(packet_bytes_max))
        .set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX.saturating_add(events_in_flight_max))
        .set_max_request_batch(BATCH_MESSAGES)
        // With automatic acknowledgement the client flushes the PUBACK before it looks at what
        // we publish in answer. Acknowledged by hand, both go out in one write.
        .set_ack_mode(AckMode::Manual);
    if address.host.contains(':') {
        // The client joins host and port by a colon, which an IPv6 address needs brackets for.
        options.set_socket_connector(|joined, network| async move {
            let bracketed = match joined.rsplit_once(':') {
                Some((host, port)) => format!("[{host}]:{port}"),
                None => joined,
            };
            default_socket_connect(bracketed, network).await
        });
    }
    let (client, mut event_loop) = AsyncClient::builder(options).capacity(CHANNEL_MESSAGES).build();
    // The client reserves room for 128 events; a device hardly ever has three.
    event_loop.state.events = VecDeque::with_capacity(EVENT_SLOTS);
    (client, event_loop)
}
