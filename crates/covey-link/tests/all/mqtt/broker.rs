//! A Mosquitto of one test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use covey_core::port::{CertificateIssuer, Clock, Observer};
use covey_link::mqtt::{MqttLink, Options, Running};
use covey_link::{LinkStatus, TlsFiles};
use covey_pki::{Authority, CertificateLifetimes};
use covey_testbed::{Deployment, Shape, Store, Testbed};
use time::OffsetDateTime;

use crate::broker::AnyBroker;
use crate::no_certificates::NoCertificates;

pub struct Broker {
    pub port: u16,
    authority: Authority,
    folder: tempfile::TempDir,
    deployment: Deployment,
}

impl Broker {
    /// One with the files of `deploy/mosquitto`.
    pub fn start() -> Self {
        Self::start_with(covey_testbed::Link::Mosquitto)
    }

    /// One without the plugin and without a log that is published: `deploy/mosquitto/acl` in its place.
    pub fn start_plain() -> Self {
        Self::start_with(covey_testbed::Link::MosquittoPlain)
    }

    fn start_with(link: covey_testbed::Link) -> Self {
        let testbed = Testbed::shared().unwrap();
        let deployment = testbed.deployment(Shape { store: Store::Sqlite, link }).unwrap();
        let port = deployment.variable("COVEY_LINK").unwrap().rsplit(':').next().unwrap().parse().unwrap();
        let authority = open_authority(&testbed.pki().unwrap());
        Self { port, authority, folder: tempfile::tempdir().unwrap(), deployment }
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&self) {
        self.deployment.testbed().kill(&self.deployment.mosquitto()).unwrap();
    }

    /// Runs it on what it has.
    pub fn run(&self) {
        self.deployment.testbed().start(&self.deployment.mosquitto()).unwrap();
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.deployment.testbed().log(&self.deployment.mosquitto()).unwrap()
    }

    /// The accounts that it has stored.
    pub fn accounts(&self) -> String {
        let folder = self.deployment.testbed().dir().join(self.deployment.mosquitto());
        std::fs::read_to_string(folder.join("dynamic-security.json")).unwrap_or_default()
    }

    /// One of Mosquitto's own clients, which are no clients of ours.
    pub fn mosquitto(&self, program: &str, files: &TlsFiles) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command
            .arg("--cafile")
            .arg(&files.ca)
            .arg("--cert")
            .arg(&files.certificate)
            .arg("--key")
            .arg(&files.key);
        command
    }

    /// The files of a client that is no device.
    pub fn service(&self, name: &str) -> TlsFiles {
        let issued = self.authority.issue_service_client(name, OffsetDateTime::now_utc()).unwrap();
        self.files(name, &issued.certificate_pem, issued.private_key_pem.expose())
    }

    /// The files of a device that another CA, of the same names, has signed.
    pub fn foreign(&self, sn: &str) -> TlsFiles {
        let other = open_authority(&self.folder.path().join("other"));
        let issued = other.issue_device(sn, OffsetDateTime::now_utc()).unwrap();
        self.files(
            &format!("foreign-{sn}"),
            &issued.certificate_pem,
            issued.private_key_pem.unwrap().expose(),
        )
    }

    fn files(&self, name: &str, certificate: &str, key: &str) -> TlsFiles {
        let file = |kind: &str, text: &str| -> PathBuf {
            let path = self.folder.path().join(format!("{name}.{kind}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        TlsFiles {
            ca: self.authority.root_path(),
            certificate: file("pem", certificate),
            key: file("key", key),
        }
    }
}

fn open_authority(folder: &Path) -> Authority {
    let lifetimes = CertificateLifetimes::default();
    Authority::open_or_create(folder, lifetimes, OffsetDateTime::now_utc()).unwrap()
}

impl AnyBroker for Broker {
    type Options = Options;
    type Link = MqttLink;
    type Running = Running;
    const ACKNOWLEDGES_AFTER_COMMIT: bool = false;
    /// The first audit tells whether accounts are kept.
    const UP_TO_SETTLED: Duration = Duration::from_millis(150);

    fn port(&self) -> u16 {
        self.port
    }

    fn device(&self, sn: &str) -> TlsFiles {
        let issued = self.authority.issue_device(sn, OffsetDateTime::now_utc()).unwrap();
        self.files(sn, &issued.certificate_pem, issued.private_key_pem.unwrap().expose())
    }

    fn issuer(&self) -> Arc<dyn CertificateIssuer> {
        Arc::new(NoCertificates)
    }

    fn options(&self, name: &str) -> Options {
        let url = self.deployment.variable("COVEY_LINK").unwrap();
        Options::new(url, Some(self.service(&format!("covey.{name}"))), name).unwrap()
    }

    fn link(options: Options, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<MqttLink> {
        MqttLink::new(options, clock, observer).unwrap()
    }

    fn is_up(link: &MqttLink) -> bool {
        link.status() == LinkStatus::Up
    }

    async fn run(link: Arc<MqttLink>, engine: Arc<Engine>) -> Running {
        Running::start(link, engine).await.unwrap()
    }

    async fn stop(running: Running) {
        running.stop().await;
    }
}
