//! A virtual host of RabbitMQ.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use covey_core::Engine;
use covey_core::port::{CertificateIssuer, Clock, Observer};
use covey_link::amqp::{AmqpLink, Options, Running};
use covey_link::{LinkStatus, TlsFiles};
use covey_pki::{Authority, CertificateLifetimes};
use covey_testbed::{Deployment, Link, Shape, Store, Testbed};
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::broker::AnyBroker;
use crate::no_certificates::NoCertificates;

const SHAPE: Shape = Shape { store: Store::Sqlite, link: Link::Rabbitmq };

pub struct Broker {
    pub amqp: String,
    management: String,
    pub port: u16,
    authority: Authority,
    folder: TempDir,
    _deployment: Deployment,
}

impl Broker {
    pub fn start() -> Self {
        let testbed = Testbed::shared().unwrap();
        let deployment = testbed.deployment(SHAPE).unwrap();
        let variable = |name: &str| deployment.variable(name).unwrap().to_owned();
        let (lifetimes, now) = (CertificateLifetimes::default(), OffsetDateTime::now_utc());
        Self {
            amqp: variable("COVEY_LINK"),
            management: variable("COVEY_RABBITMQ_MANAGEMENT"),
            port: variable("COVEY_DEVICES_URL").rsplit(':').next().unwrap().parse().unwrap(),
            authority: Authority::open_or_create(&testbed.pki().unwrap(), lifetimes, now).unwrap(),
            folder: tempfile::tempdir().unwrap(),
            _deployment: deployment,
        }
    }

    /// The name of the virtual host.
    pub fn vhost(&self) -> &str {
        self.amqp.rsplit('/').next().unwrap()
    }

    /// Asks the management API, as an operator would.
    pub async fn api(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Option<Value> {
        let client =
            reqwest::Client::builder().tls_backend_preconfigured(no_tls()).no_proxy().build().unwrap();
        let mut request = client.request(method, format!("{}/api/{path}", self.management));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        if !answer.status().is_success() {
            return None;
        }
        Some(serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    pub async fn user(&self, name: &str) -> Option<Value> {
        self.api(reqwest::Method::GET, &format!("users/{name}"), None).await
    }
}

impl AnyBroker for Broker {
    type Options = Options;
    type Link = AmqpLink;
    type Running = Running;
    const ACKNOWLEDGES_AFTER_COMMIT: bool = false;

    fn port(&self) -> u16 {
        self.port
    }

    /// Users belong to all virtual hosts.
    fn sn(&self, name: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        format!("t{}-{}-{name}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    fn device(&self, sn: &str) -> TlsFiles {
        let issued = self.authority.issue_device(sn, OffsetDateTime::now_utc()).unwrap();
        let write = |kind: &str, text: &str| {
            let path = self.folder.path().join(format!("{sn}.{kind}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        TlsFiles {
            ca: write("ca", self.authority.root_pem()),
            certificate: write("pem", &issued.certificate_pem),
            key: write("key", issued.private_key_pem.unwrap().expose()),
        }
    }

    fn issuer(&self) -> Arc<dyn CertificateIssuer> {
        Arc::new(NoCertificates)
    }

    fn options(&self, name: &str) -> Options {
        Options::new(&self.amqp, Some(&self.management), None, name).unwrap()
    }

    fn link(options: Options, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<AmqpLink> {
        AmqpLink::new(options, clock, observer).unwrap()
    }

    fn is_up(link: &AmqpLink) -> bool {
        link.status() == LinkStatus::Up
    }

    async fn run(link: Arc<AmqpLink>, engine: Arc<Engine>) -> Running {
        Running::start(link, engine).await.unwrap()
    }

    async fn stop(running: Running) {
        running.stop().await;
    }
}

fn no_tls() -> rustls::ClientConfig {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}
