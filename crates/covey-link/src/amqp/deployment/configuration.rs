//! `rabbitmq.conf` and `enabled_plugins`.

use std::fmt::Write;

use crate::amqp::deployment::Deployment;

/// `enabled_plugins`, an Erlang term.
pub(super) const PLUGINS: &str = "[rabbitmq_event_exchange,rabbitmq_management,rabbitmq_mqtt].\n";

/// `rabbitmq.conf`.
pub(super) fn render(deployment: &Deployment) -> String {
    let Deployment { vhost, mqtts, amqps, management, tls_dir, config_dir, .. } = deployment;
    let mut text = format!(
        "# RabbitMQ 4 for a deployment of Covey, made by: covey rabbitmq config
# All other settings keep RabbitMQ's defaults. Check with: rabbitmq-diagnostics environment

## Who may connect: mutual TLS everywhere, nothing in clear text
listeners.tcp = none
listeners.ssl.1 = {amqps}
mqtt.listeners.tcp = none
mqtt.listeners.ssl.1 = {mqtts}
management.ssl.ip = {management_ip}
management.ssl.port = {management_port}

# server.pem holds the broker's certificate, then the issuing CA; ca.pem the root of the deployment
ssl_options.cacertfile = {tls_dir}/ca.pem
ssl_options.certfile = {tls_dir}/server.pem
ssl_options.keyfile = {tls_dir}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
# Devices send their certificate and the issuing CA
ssl_options.depth = 2
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
management.ssl.cacertfile = {tls_dir}/ca.pem
management.ssl.certfile = {tls_dir}/server.pem
management.ssl.keyfile = {tls_dir}/server.key

# Servers log in with a password over TLS; nobody without a name
auth_mechanisms.1 = PLAIN
anonymous_login_user = none

## Devices: the certificate is the device
# The user is the CommonName, which is the serial number
mqtt.ssl_cert_login = true
ssl_cert_login_from = common_name
# The client id must be the DNS name in the certificate, which is the serial number too
mqtt.ssl_cert_client_id_from = subject_alternative_name
mqtt.ssl_cert_login_san_type = dns
mqtt.allow_anonymous = false
mqtt.vhost = {vhost}
# Limits of MQTT: packets in bytes, the session of a device that is away in seconds
mqtt.max_packet_size_unauthenticated = 65536
mqtt.max_packet_size_authenticated = 1048576
mqtt.max_session_expiry_interval_seconds = 3600
mqtt.prefetch = 32
mqtt.tcp_listen_options.backlog = 4096
mqtt.tcp_listen_options.nodelay = true

## Created at the first start: the virtual host, two users, limits. Because there are definitions, RabbitMQ
## does not create the user guest, an administrator with a known password
load_definitions = {config_dir}/definitions.json

## The broker reports each connect and disconnect to the servers here
event_exchange.vhost = {vhost}

## Health
# A connection that gives no sign of life for this many seconds is closed
heartbeat = 10
# All headers of a message go in one frame, and user properties are headers. Those of
# the largest MQTT packet must fit; otherwise they end the connection of every server.
frame_max = 2097152
tcp_listen_options.backlog = 1024
tcp_listen_options.nodelay = true
channel_max = 64
# Above this much memory, or below this much free disk, the broker blocks publishers: Covey answers
# calls with 503 until that is over, and loses none
vm_memory_high_watermark.relative = 0.6
disk_free_limit.absolute = 2GB
# One log line for each connection of each device would be too much
log.connection.level = warning
",
        management_ip = management.ip(),
        management_port = management.port(),
    );
    if !deployment.cluster_nodes.is_empty() {
        text.push_str(
            "
## The cluster: the same files on each node, and one Erlang cookie
cluster_formation.peer_discovery_backend = classic_config
",
        );
        for (index, node) in deployment.cluster_nodes.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "cluster_formation.classic_config.nodes.{} = {node}", index + 1);
        }
        text.push_str("cluster_formation.target_cluster_size_hint = ");
        let _ = writeln!(text, "{}", deployment.cluster_nodes.len());
        text.push_str(
            "# The side of a network split with fewer nodes stops, so that no part goes on by itself
cluster_partition_handling = pause_minority
queue_leader_locator = balanced
",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listener_wants_a_certificate() {
        let text = render(&Deployment::default());
        for line in [
            "listeners.tcp = none",
            "mqtt.listeners.tcp = none",
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = true",
            "mqtt.ssl_cert_login = true",
            "mqtt.ssl_cert_client_id_from = subject_alternative_name",
            "mqtt.allow_anonymous = false",
            "anonymous_login_user = none",
            "event_exchange.vhost = covey",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
        assert!(!text.contains("cluster_formation"));
    }

    #[test]
    fn a_cluster_knows_its_nodes() {
        let cluster_nodes = vec!["rabbit@a".to_owned(), "rabbit@b".to_owned(), "rabbit@c".to_owned()];
        let text = render(&Deployment { cluster_nodes, ..Deployment::default() });
        assert!(text.contains("cluster_formation.classic_config.nodes.3 = rabbit@c\n"));
        assert!(text.contains("cluster_formation.target_cluster_size_hint = 3\n"));
    }
}
