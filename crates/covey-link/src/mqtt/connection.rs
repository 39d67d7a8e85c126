//! The MQTT client of a server: how it is set up, and how long it waits
//! before it tries again.

use std::time::Duration;

use rand::RngExt;
use rumqttc::{
    AckMode, AsyncClient, EventLoop, MqttOptions, NetworkOptions, TlsConfiguration, Transport,
    default_socket_connect,
};

use crate::mqtt::session_store::EmptySession;
use crate::mqtt::{MqttError, Options};
use crate::tls;

/// TCP, TLS and CONNECT together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A broker that is silent for longer has gone (MQTT 5 §3.1.2.10).
const KEEP_ALIVE_S: u16 = 5;
/// How many messages to devices may wait for their PUBACK. The broker's own
/// Receive Maximum bounds it further.
const INFLIGHT_MAX: u16 = 256;
/// How many messages may be handed to the client and not be written.
const REQUESTS_MAX: usize = 1024;
/// How many messages are written with one flush.
const BATCH_MESSAGES: usize = 64;
/// The first and the longest wait before the next attempt.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A client that will connect when it is polled.
pub(super) fn open(options: &Options) -> Result<(AsyncClient, EventLoop), MqttError> {
    let mut mqtt = MqttOptions::new(options.client_id(), (options.host.clone(), options.port));
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    mqtt.set_transport(transport(options)?)
        .set_network_options(network)
        .set_connect_timeout(CONNECT_TIMEOUT)
        .set_keep_alive(KEEP_ALIVE_S)
        .set_clean_start(false)
        .set_session_expiry_interval(Some(options.session_expiry_s))
        .set_session_store(EmptySession {
            session_expiry_s: options.session_expiry_s,
            inflight_max: INFLIGHT_MAX,
        })
        .set_receive_maximum(Some(options.receive_max))
        .set_max_packet_size(Some(options.packet_bytes_max))
        .set_outgoing_inflight_upper_limit(INFLIGHT_MAX)
        .set_max_request_batch(BATCH_MESSAGES)
        .set_ack_mode(AckMode::Manual);
    if options.host.contains(':') {
        // The client joins host and port by a colon, which an IPv6 address needs brackets for.
        mqtt.set_socket_connector(|joined, network| async move {
            let bracketed = match joined.rsplit_once(':') {
                Some((host, port)) => format!("[{host}]:{port}"),
                None => joined,
            };
            default_socket_connect(bracketed, network).await
        });
    }
    AsyncClient::builder(mqtt)
        .capacity(REQUESTS_MAX)
        .try_build()
        .map_err(|error| MqttError::Client { problem: error.to_string() })
}

/// TLS with what the files hold now.
pub(super) fn transport(options: &Options) -> Result<Transport, MqttError> {
    Ok(match &options.tls {
        None => Transport::tcp(),
        Some(files) => {
            let config = std::sync::Arc::new(tls::client_config(Some(files))?);
            Transport::tls_with_config(TlsConfiguration::Rustls(config))
        }
    })
}

/// How long to wait after failures: it doubles, and is spread so that several
/// servers do not come back at the same instant.
#[derive(Debug)]
pub(super) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { ceiling: WAIT_MIN }
    }

    pub(super) fn reset(&mut self) {
        self.ceiling = WAIT_MIN;
    }

    /// The wait after one more failure.
    pub(super) fn after_failure(&mut self) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = ceiling.saturating_mul(2).min(WAIT_MAX);
        rand::rng().random_range(ceiling / 2..=ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_begin_anew() {
        let mut backoff = Backoff::new();
        for expected_ms in [100_u64, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let ceiling = Duration::from_millis(expected_ms);
            let wait = backoff.after_failure();
            assert!(wait >= ceiling / 2 && wait <= ceiling, "{wait:?} for {ceiling:?}");
        }
        backoff.reset();
        assert!(backoff.after_failure() <= WAIT_MIN);
    }
}
