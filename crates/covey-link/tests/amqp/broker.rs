//! The RabbitMQ that the environment names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use covey_core::port::CertificateIssuer;
use covey_link::TlsFiles;
pub use covey_link::amqp::{AmqpLink as Link, Options, Running};
use covey_pki::{Authority, CertificateLifetimes};
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::sync::{Mutex, MutexGuard};

use crate::no_certificates::NoCertificates;

/// Whether a PUBACK says what became of a message.
pub const ACKNOWLEDGES_AFTER_COMMIT: bool = false;
/// How long a link that is up takes until its server is ready for a test.
pub const UP_TO_SETTLED: Duration = Duration::ZERO;
/// One test at a time.
static IN_USE: Mutex<()> = Mutex::const_new(());
static NUMBER: AtomicU32 = AtomicU32::new(0);

pub struct Broker {
    pub amqp: String,
    pub management: String,
    pub port: u16,
    pub server_files: Option<TlsFiles>,
    authority: Authority,
    folder: TempDir,
    run: u32,
    _turn: MutexGuard<'static, ()>,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("these tests need RabbitMQ: set {name}"))
}

impl Broker {
    pub async fn take() -> Self {
        let turn = IN_USE.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let pki = std::path::PathBuf::from(variable("COVEY_TEST_PKI"));
        let authority =
            Authority::open_or_create(&pki, CertificateLifetimes::default(), OffsetDateTime::now_utc())
                .unwrap();
        let mut broker = Self {
            amqp: variable("COVEY_TEST_AMQP"),
            management: variable("COVEY_TEST_RABBITMQ_MANAGEMENT"),
            port: variable("COVEY_TEST_MQTTS_PORT").parse().unwrap(),
            server_files: None,
            authority,
            folder,
            run: std::process::id(),
            _turn: turn,
        };
        if broker.amqp.starts_with("amqps:") {
            let issued =
                broker.authority.issue_service_client("covey.server", OffsetDateTime::now_utc()).unwrap();
            let files = broker.files("server", &issued.certificate_pem, issued.private_key_pem.expose());
            broker.server_files = Some(files);
        }
        broker
    }

    /// Who signs what a site stores of certificates.
    pub fn issuer(&self) -> Arc<dyn CertificateIssuer> {
        Arc::new(NoCertificates)
    }

    /// What the server `name` of a site is started with.
    pub fn options(&self, name: &str) -> Options {
        Options::new(&self.amqp, Some(&self.management), self.server_files.clone(), name).unwrap()
    }

    /// A serial number that no other test has.
    pub fn sn(&self, name: &str) -> String {
        format!("t{}-{}-{name}", self.run, NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    /// The files of a device.
    pub fn device(&self, sn: &str) -> TlsFiles {
        let issued = self.authority.issue_device(sn, OffsetDateTime::now_utc()).unwrap();
        self.files(sn, &issued.certificate_pem, issued.private_key_pem.unwrap().expose())
    }

    fn files(&self, name: &str, certificate: &str, key: &str) -> TlsFiles {
        let write = |kind: &str, text: &str| {
            let path = self.folder.path().join(format!("{name}.{kind}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        TlsFiles {
            ca: write("ca", self.authority.root_pem()),
            certificate: write("pem", certificate),
            key: write("key", key),
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

fn no_tls() -> rustls::ClientConfig {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}
