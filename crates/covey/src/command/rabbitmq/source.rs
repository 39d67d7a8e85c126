//! Which broker and which devices: the same settings as `covey up`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use covey_link::TlsFiles;
use covey_link::amqp;

use crate::fault;
use crate::settings::{Options, ServiceUrl, Settings};

/// The settings of the server that matter here.
#[derive(Args)]
pub struct Source {
    /// Configuration file in TOML
    #[arg(long, env = "COVEY_CONFIG", value_name = "FILE", help_heading = "Settings")]
    config: Option<PathBuf>,
    /// The data directory of the server [default: ./covey-data]
    #[arg(long, env = "COVEY_DATA", value_name = "DIR", help_heading = "Settings")]
    data: Option<PathBuf>,
    /// amqps://USER:PASSWORD@HOST/VHOST
    #[arg(long, env = "COVEY_LINK", value_name = "URL", hide_env_values = true, help_heading = "Settings")]
    link: Option<ServiceUrl>,
    /// CA certificate of the broker (PEM) [default: the deployment's CA]
    #[arg(long, env = "COVEY_LINK_CA", value_name = "FILE", help_heading = "Settings")]
    link_ca: Option<PathBuf>,
    /// Client certificate for the broker (PEM) [default: the one that the server has made]
    #[arg(long, env = "COVEY_LINK_CERTIFICATE", value_name = "FILE", help_heading = "Settings")]
    link_certificate: Option<PathBuf>,
    /// Private key of that certificate (PEM)
    #[arg(long, env = "COVEY_LINK_KEY", value_name = "FILE", help_heading = "Settings")]
    link_key: Option<PathBuf>,
    /// The management API, https://USER:PASSWORD@HOST:15671
    #[arg(
        long,
        env = "COVEY_RABBITMQ_MANAGEMENT",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Settings"
    )]
    rabbitmq_management: Option<ServiceUrl>,
    /// Where tasks are stored: sqlite, or postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(long, env = "COVEY_STORE", value_name = "URL", hide_env_values = true, help_heading = "Settings")]
    store: Option<ServiceUrl>,
}

impl Source {
    /// The settings in force.
    pub fn settle(self) -> Result<Settings> {
        let options = Options {
            data: self.data,
            link: self.link,
            link_ca: self.link_ca,
            link_certificate: self.link_certificate,
            link_key: self.link_key,
            rabbitmq_management: self.rabbitmq_management,
            store: self.store,
            ..Options::default()
        };
        Settings::settle(options, self.config.as_deref())
    }
}

/// How to reach the broker.
pub fn broker(settings: &Settings) -> Result<amqp::Options> {
    let scheme = settings.link.scheme();
    if !matches!(scheme, "amqp" | "amqps") {
        return Err(fault::setup("this is for RabbitMQ: give its address with --link or COVEY_LINK"));
    }
    let pki = settings.data.join("pki");
    let or = |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| pki.join(name));
    let tls = (scheme == "amqps").then(|| TlsFiles {
        ca: or(&settings.link_ca, "ca.pem"),
        certificate: or(&settings.link_certificate, "link.pem"),
        key: or(&settings.link_key, "link.key"),
    });
    let management = settings.rabbitmq_management.as_ref().map(ServiceUrl::exposed);
    amqp::Options::new(settings.link.exposed(), management, tls, "command").map_err(fault::setup)
}
