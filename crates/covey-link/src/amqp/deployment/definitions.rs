//! `definitions.json`: the virtual host, its limits, and two users with what
//! they need and no more.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::amqp::deployment::{Deployment, Passwords};

/// How many queues each connection may come with: a device has one a quality
/// of service.
const QUEUES_PER_CONNECTION: u32 = 2;

/// The file.
pub(super) fn render(deployment: &Deployment, passwords: &Passwords) -> String {
    let [a, b, c, d, e, f, g, h] = passwords.salt;
    let hash = |password: &str, salt| json!(password_hash(password, salt));
    let algorithm = "rabbit_password_hashing_sha256";
    let Deployment { vhost, user, admin, connections_max, .. } = deployment;
    let queues_max = connections_max.saturating_mul(QUEUES_PER_CONNECTION).saturating_add(1_000);
    let value: Value = json!({
        "vhosts": [{ "name": vhost }],
        "users": [
            { "name": user, "password_hash": hash(&passwords.user, [a, b, c, d]),
              "hashing_algorithm": algorithm, "tags": [] },
            // Making and deleting the accounts of devices takes an administrator.
            { "name": admin, "password_hash": hash(&passwords.admin, [e, f, g, h]),
              "hashing_algorithm": algorithm, "tags": ["administrator"] },
        ],
        "permissions": [
            { "user": user, "vhost": vhost,
              "configure": "^covey\\.",
              "write": "^(amq\\.topic|covey\\..*)$",
              "read": "^(amq\\.topic|amq\\.rabbitmq\\.event|covey\\..*)$" },
            // It looks at bindings, and touches no message.
            { "user": admin, "vhost": vhost, "configure": "^$", "write": "^$", "read": "^$" },
        ],
        "topic_permissions": [
            { "user": user, "vhost": vhost, "exchange": "amq.topic",
              "write": "^(srv|dev)\\.", "read": "^dev\\." },
            { "user": user, "vhost": vhost, "exchange": "amq.rabbitmq.event",
              "write": "^$", "read": "^(connection\\.(created|closed)|binding\\.(created|deleted))$" },
        ],
        "parameters": [
            { "component": "vhost-limits", "vhost": vhost, "name": "limits",
              "value": { "max-connections": connections_max, "max-queues": queues_max } },
        ],
    });
    // A value that was made here always serialises.
    let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
    text.push('\n');
    text
}

/// A password as RabbitMQ keeps it: four bytes of salt, then SHA-256 of salt
/// and password, in Base64 (RabbitMQ "Credentials and Passwords").
fn password_hash(password: &str, salt: [u8; 4]) -> String {
    let mut digest = Sha256::new();
    digest.update(salt);
    digest.update(password.as_bytes());
    let mut hash = salt.to_vec();
    hash.extend_from_slice(&digest.finalize());
    STANDARD.encode(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hashed_as_the_broker_does_it() {
        // The example in RabbitMQ's documentation of the algorithm.
        let hash = password_hash("test12", [0x90, 0x8d, 0xc6, 0x0a]);
        assert_eq!(hash, "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
    }
}
