//! A Mosquitto of one test, in a folder of its own, with certificates of a CA of its own.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use covey_core::port::CertificateIssuer;
use covey_link::TlsFiles;
pub use covey_link::mqtt::{MqttLink as Link, Options, Running};
use covey_pki::{Authority, CertificateLifetimes, ServerNames};
use time::OffsetDateTime;

use crate::no_certificates::NoCertificates;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/mosquitto");

/// Whether a PUBACK says what became of a message.
pub const ACKNOWLEDGES_AFTER_COMMIT: bool = false;
/// How long a link that is up takes until its server is ready for a test: the
/// first audit tells whether accounts are kept.
pub const UP_TO_SETTLED: Duration = Duration::from_millis(150);

pub struct Broker {
    pub folder: tempfile::TempDir,
    pub authority: Authority,
    pub port: u16,
    process: Option<Child>,
}

impl Broker {
    /// Starts one with the files of `deploy/mosquitto`, their paths and port replaced.
    pub fn start() -> Self {
        Self::start_with(&["covey.a", "covey.b"])
    }

    /// One without the plugin and without a log that is published: `deploy/mosquitto/acl` in its place.
    pub fn start_plain() -> Self {
        Self::start_as(&[], |config, state| {
            let plain: Vec<&str> = config
                .lines()
                .filter(|line| !line.starts_with("plugin") && *line != "log_dest topic")
                .collect();
            std::fs::copy(format!("{DEPLOY}/acl"), format!("{state}/acl")).unwrap();
            format!("{}\nacl_file {state}/acl\n", plain.join("\n"))
        })
    }

    /// The same, with the accounts of these servers.
    fn start_with(servers: &[&str]) -> Self {
        Self::start_as(servers, |config, _| config)
    }

    fn start_as(servers: &[&str], adjust: impl FnOnce(String, &str) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let authority =
            Authority::open_or_create(&folder.path().join("pki"), CertificateLifetimes::default(), now)
                .unwrap();
        let names = ServerNames::from_hosts(["localhost", "127.0.0.1"]);
        let server = authority.issue_service_server(&names, now).unwrap();
        let tls = folder.path().join("tls");
        std::fs::create_dir(&tls).unwrap();
        std::fs::write(tls.join("ca.pem"), &server.ca_pem).unwrap();
        std::fs::write(tls.join("server.pem"), &server.certificate_pem).unwrap();
        std::fs::write(tls.join("server.key"), server.private_key_pem.expose()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let state = folder.path().display().to_string();
        let config = std::fs::read_to_string(format!("{DEPLOY}/mosquitto.conf")).unwrap();
        let config = config
            .replace("listener 8883", &format!("listener {port} 127.0.0.1"))
            .replace("/etc/mosquitto/tls", &format!("{state}/tls"))
            .replace("/var/lib/mosquitto", &state);
        let config = adjust(config, &state);
        // Started by root it would become a user that cannot read this folder.
        std::fs::write(folder.path().join("mosquitto.conf"), format!("{config}\nuser root\n")).unwrap();
        let accounts = std::fs::read_to_string(format!("{DEPLOY}/dynamic-security.json")).unwrap();
        let mut accounts: serde_json::Value = serde_json::from_str(&accounts).unwrap();
        let example = accounts["clients"][0].clone();
        assert_eq!(example["username"], "covey.server");
        for server in servers {
            let mut account = example.clone();
            account["username"] = (*server).into();
            accounts["clients"].as_array_mut().unwrap().push(account);
        }
        std::fs::write(folder.path().join("dynamic-security.json"), accounts.to_string()).unwrap();
        let mut broker = Self { folder, authority, port, process: None };
        broker.run();
        broker
    }

    pub fn run(&mut self) {
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("these tests need Mosquitto 2: apt-get install mosquitto");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("mosquitto.log"))
            .unwrap();
        let process = Command::new(program)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("mosquitto.log")).unwrap_or_default()
    }

    /// Who signs what a site stores of certificates.
    pub fn issuer(&self) -> Arc<dyn CertificateIssuer> {
        Arc::new(NoCertificates)
    }

    /// A serial number.
    pub fn sn(&self, name: &str) -> String {
        name.to_owned()
    }

    /// What the server `name` of a site is started with.
    pub fn options(&self, name: &str) -> Options {
        Options::new(&self.url(), Some(self.service(&format!("covey.{name}"))), name).unwrap()
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

    pub fn url(&self) -> String {
        format!("mqtts://127.0.0.1:{}", self.port)
    }

    /// The files of a client that is no device.
    pub fn service(&self, name: &str) -> TlsFiles {
        let issued = self.authority.issue_service_client(name, OffsetDateTime::now_utc()).unwrap();
        self.files(name, &issued.certificate_pem, issued.private_key_pem.expose())
    }

    /// The files of a device.
    pub fn device(&self, sn: &str) -> TlsFiles {
        let issued = self.authority.issue_device(sn, OffsetDateTime::now_utc()).unwrap();
        self.files(sn, &issued.certificate_pem, issued.private_key_pem.unwrap().expose())
    }

    fn files(&self, name: &str, certificate: &str, key: &str) -> TlsFiles {
        let tls = self.folder.path().join("tls");
        let file = |kind: &str, text: &str| -> PathBuf {
            let path = tls.join(format!("{name}.{kind}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        TlsFiles { ca: tls.join("ca.pem"), certificate: file("pem", certificate), key: file("key", key) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
