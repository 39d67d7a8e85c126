//! The files that a node of RabbitMQ is configured by.

use std::path::Path;

use serde_json::{Value, json};

use crate::pki::Identity;
use crate::state::{Broker, Login, Node};

/// Lines that are put behind the others in `rabbitmq.conf`.
const MORE_VARIABLE: &str = "COVEY_RABBITMQ_CONF";

/// `enabled_plugins`, an Erlang term.
pub const PLUGINS: &str = "[rabbitmq_event_exchange,rabbitmq_management,rabbitmq_mqtt].\n";

/// `rabbitmq.conf` of one node.
pub fn node(node: &Node, broker: &Broker, tls: &Identity, definitions: &Path) -> String {
    let Node { amqp, amqps, management, .. } = node;
    let mut text = format!(
        "# All on loopback; devices come with certificates only.\n\
         listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         listeners.ssl.1 = 127.0.0.1:{amqps}\n\
         tcp_listen_options.nodelay = true\n\
         distribution.listener.interface = 127.0.0.1\n\
         management.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {management}\n\
         load_definitions = {}\n\
         # Events of all vhosts, in one place; each tells its vhost.\n\
         event_exchange.vhost = /\n\
         ssl_options.cacertfile = {}\n\
         ssl_options.certfile = {}\n\
         ssl_options.keyfile = {}\n\
         ssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = true\n\
         # A device is its certificate: the CN is the user, the SAN the client id.\n\
         mqtt.allow_anonymous = false\n\
         mqtt.ssl_cert_login = true\n\
         ssl_cert_login_from = common_name\n\
         mqtt.ssl_cert_client_id_from = subject_alternative_name\n\
         mqtt.ssl_cert_login_san_type = dns\n\
         mqtt.tcp_listen_options.nodelay = true\n\
         mqtt.max_packet_size_authenticated = 1048576\n\
         # The user properties of the largest packet fit into one frame.\n\
         frame_max = 2097152\n\
         heartbeat = 10\n\
         mqtt.listeners.tcp = none\n",
        definitions.display(),
        tls.ca.display(),
        tls.certificate.display(),
        tls.key.display(),
    );
    for (index, port) in node.mqtts.iter().enumerate() {
        text.push_str(&format!("mqtt.listeners.ssl.{} = 127.0.0.1:{port}\n", index + 1));
    }
    if broker.nodes.len() > 1 {
        text.push_str("cluster_formation.peer_discovery_backend = classic_config\n");
        for (index, node) in broker.nodes.iter().enumerate() {
            text.push_str(&format!("cluster_formation.classic_config.nodes.{} = {}\n", index + 1, node.name));
        }
    }
    // For what only some releases know.
    if let Ok(more) = std::env::var(MORE_VARIABLE) {
        text.push_str(&format!("{more}\n"));
    }
    text
}

/// What is there from the first start. That there are definitions keeps
/// RabbitMQ from making its user `guest`.
pub fn definitions(broker: &Broker) -> Value {
    let mapping: serde_json::Map<String, Value> = broker
        .nodes
        .iter()
        .flat_map(|node| node.mqtts.iter().zip(&broker.vhosts))
        .map(|(port, vhost)| (port.to_string(), json!(vhost)))
        .collect();
    let Login { user, password } = &broker.admin;
    json!({
        "users": [{"name": user, "password": password, "tags": ["administrator"]}],
        "vhosts": [{"name": "/"}],
        "permissions": [{"user": user, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
        "global_parameters": [{"name": "mqtt_port_to_vhost_mapping", "value": mapping}],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::*;

    fn broker() -> Broker {
        let node = |number: u16| Node {
            name: format!("rabbit{number}@localhost"),
            process: format!("rabbit{number}"),
            amqp: 100 * number,
            amqps: 100 * number + 1,
            management: 100 * number + 2,
            mqtts: vec![100 * number + 10, 100 * number + 11],
        };
        Broker {
            admin: Login { user: "admin".to_owned(), password: "word".to_owned() },
            nodes: vec![node(1), node(2)],
            vhosts: vec!["covey-01".to_owned(), "covey-02".to_owned()],
            ctl: PathBuf::new(),
        }
    }

    #[test]
    fn devices_need_certificates_and_every_listener_is_on_loopback() {
        let tls = Identity { ca: "/ca".into(), certificate: "/c".into(), key: "/k".into() };
        let text = node(&broker().nodes[1], &broker(), &tls, Path::new("/d.json"));
        for line in [
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = true",
            "mqtt.ssl_cert_client_id_from = subject_alternative_name",
            "mqtt.listeners.tcp = none",
            "mqtt.listeners.ssl.2 = 127.0.0.1:211",
            "cluster_formation.classic_config.nodes.2 = rabbit2@localhost",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        for line in text.lines().filter(|line| line.contains("listeners.") && !line.ends_with("none")) {
            assert!(line.contains("127.0.0.1:"), "{line}");
        }
    }

    #[test]
    fn each_port_of_each_node_leads_to_its_vhost_and_guest_is_not_made() {
        let made = definitions(&broker());
        let mapping = &made["global_parameters"][0]["value"];
        for (port, vhost) in
            [("110", "covey-01"), ("111", "covey-02"), ("210", "covey-01"), ("211", "covey-02")]
        {
            assert_eq!(mapping[port], vhost);
        }
        assert_eq!(made["users"].as_array().unwrap().len(), 1);
        assert_eq!(made["users"][0]["name"], "admin");
    }
}
