//! The files that a broker for a deployment is configured by: rendered, not
//! written, so that the same ones come out each time.

mod configuration;
mod definitions;

use std::net::SocketAddr;

use covey_core::id::Sn;

use crate::amqp::AmqpError;

/// What a broker for a deployment is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The virtual host of the deployment.
    pub vhost: String,
    /// The host name by which servers and devices reach the broker.
    pub host: String,
    /// Where devices connect: MQTT over mutual TLS.
    pub mqtts: SocketAddr,
    /// Where servers connect: AMQP over mutual TLS.
    pub amqps: SocketAddr,
    /// Where the management API is, over TLS.
    pub management: SocketAddr,
    /// The folder with `ca.pem`, `server.pem` and `server.key`, as the broker sees it.
    pub tls_dir: String,
    /// The folder of these files, as the broker sees it.
    pub config_dir: String,
    /// The user of the servers. Its name has a dot, so that no device can have it.
    pub user: String,
    /// The user of the servers for the management API.
    pub admin: String,
    /// The nodes of the cluster, such as `rabbit@mq1`; empty for a single node.
    pub cluster_nodes: Vec<String>,
    /// How many connections there may be.
    pub connections_max: u32,
}

/// The passwords of the two users.
#[derive(Clone)]
pub struct Passwords {
    /// Of the servers.
    pub user: String,
    /// Of the servers for the management API.
    pub admin: String,
    /// Eight random bytes, so that equal passwords do not look alike.
    pub salt: [u8; 8],
}

/// A file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentFile {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub text: String,
    /// Whether only its owner may read it.
    pub is_secret: bool,
}

impl Default for Deployment {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Self {
            vhost: "covey".to_owned(),
            host: "localhost".to_owned(),
            mqtts: any(8883),
            amqps: any(5671),
            management: any(15671),
            tls_dir: "/etc/rabbitmq/tls".to_owned(),
            config_dir: "/etc/rabbitmq".to_owned(),
            user: "covey.server".to_owned(),
            admin: "covey.admin".to_owned(),
            cluster_nodes: Vec::new(),
            connections_max: 100_000,
        }
    }
}

impl Deployment {
    /// The files, with these passwords.
    ///
    /// # Errors
    /// [`AmqpError::Setting`] for a name that would be a device's, or that a
    /// file cannot hold.
    pub fn files(&self, passwords: &Passwords) -> Result<Vec<DeploymentFile>, AmqpError> {
        self.check()?;
        let plain = |name, text| DeploymentFile { name, text, is_secret: false };
        Ok(vec![
            plain("rabbitmq.conf", configuration::render(self)),
            plain("enabled_plugins", configuration::PLUGINS.to_owned()),
            DeploymentFile {
                name: "definitions.json",
                text: definitions::render(self, passwords),
                is_secret: true,
            },
            DeploymentFile { name: "covey.env", text: self.environment(passwords), is_secret: true },
        ])
    }

    /// What servers are started with.
    fn environment(&self, passwords: &Passwords) -> String {
        let Self { host, amqps, management, mqtts, user, admin, vhost, .. } = self;
        let (amqps, management, mqtts) = (amqps.port(), management.port(), mqtts.port());
        let encoded = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let (user_password, admin_password) = (encoded(&passwords.user), encoded(&passwords.admin));
        let vhost = encoded(vhost);
        format!(
            "# For servers of this deployment; with a cluster, name the other hosts too: @{host}:{amqps},OTHER:{amqps}/\n\
             COVEY_LINK=amqps://{user}:{user_password}@{host}:{amqps}/{vhost}\n\
             COVEY_RABBITMQ_MANAGEMENT=https://{admin}:{admin_password}@{host}:{management}\n\
             COVEY_DEVICES_URL=mqtts://{host}:{mqtts}\n\
             # And the store that they share:\n\
             # COVEY_STORE=postgres://USER:PASSWORD@HOST/DATABASE\n"
        )
    }

    fn check(&self) -> Result<(), AmqpError> {
        let wrong = |field, problem: &str| Err(AmqpError::Setting { field, problem: problem.to_owned() });
        for (field, name) in [("user", &self.user), ("admin", &self.admin)] {
            if Sn::is_valid(name) {
                return wrong(
                    field,
                    "must have a dot: a device with a certificate of that name would be that user",
                );
            }
        }
        if self.user == self.admin {
            return wrong("admin", "must not be the user of the servers");
        }
        let lines = [&self.vhost, &self.host, &self.tls_dir, &self.config_dir, &self.user, &self.admin];
        if lines.into_iter().chain(&self.cluster_nodes).any(|text| {
            text.is_empty() || text.len() > 200 || text.chars().any(|c| c.is_control() || c.is_whitespace())
        }) {
            return wrong("names and folders", "must be 1 to 200 characters without blanks");
        }
        if !self
            .user
            .chars()
            .chain(self.admin.chars())
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        {
            return wrong("user and admin", "must be letters, digits, . _ -");
        }
        if self.cluster_nodes.iter().any(|node| !node.contains('@')) {
            return wrong("cluster-node", "must be a node's name, such as rabbit@mq1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn passwords() -> Passwords {
        Passwords { user: "one word".to_owned(), admin: "another".to_owned(), salt: [1, 2, 3, 4, 5, 6, 7, 8] }
    }

    #[test]
    fn passwords_are_in_secret_files_only() {
        let files = Deployment::default().files(&passwords()).unwrap();
        for file in &files {
            let shows = file.text.contains("one%20word") || file.text.contains("another");
            assert_eq!(shows, file.name == "covey.env", "{}", file.name);
            assert!(!shows || file.is_secret);
        }
        assert!(files.iter().any(|file| file.name == "definitions.json" && file.is_secret));
    }

    #[test]
    fn the_committed_example_is_what_is_rendered() {
        for file in Deployment::default().files(&passwords()).unwrap() {
            let example = match file.name {
                "rabbitmq.conf" => include_str!("../../../../../deploy/rabbitmq/rabbitmq.conf"),
                "enabled_plugins" => include_str!("../../../../../deploy/rabbitmq/enabled_plugins"),
                "definitions.json" => include_str!("../../../../../deploy/rabbitmq/definitions.json"),
                _ => continue,
            };
            // The example's users have no passwords.
            let mut text = file.text;
            if file.name == "definitions.json" {
                let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
                for user in value["users"].as_array_mut().unwrap() {
                    user["password_hash"] = "".into();
                }
                text = serde_json::to_string_pretty(&value).unwrap() + "\n";
            }
            assert_eq!(text, example, "{}", file.name);
        }
    }

    #[test]
    fn a_user_whose_name_a_device_could_have_is_refused() {
        for name in ["covey", "admin", "guest"] {
            let user = Deployment { user: name.to_owned(), ..Deployment::default() };
            let admin = Deployment { admin: name.to_owned(), ..Deployment::default() };
            assert!(user.files(&passwords()).is_err() && admin.files(&passwords()).is_err(), "{name}");
        }
        let broken = Deployment { vhost: "a\nb".to_owned(), ..Deployment::default() };
        assert!(broken.files(&passwords()).is_err());
    }
}
