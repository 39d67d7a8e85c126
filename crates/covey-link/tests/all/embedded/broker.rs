//! The embedded broker as the tests of all links see a broker: something that
//! is there, with a port and certificates.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use covey_core::Engine;
use covey_core::device::{CertificateRecord, IssuedCertificate};
use covey_core::error::Result;
use covey_core::id::{Sn, UnixMs};
use covey_core::port::{Announcement, BoxFuture, CertificateIssuer, CertificateKey, Clock, Observer};
use covey_link::TlsFiles;
use covey_link::embedded::{Broker as Embedded, BrokerOptions, EmbeddedLink, TlsFiles as ServerFiles};
use covey_pki::{Authority, CertificateLifetimes, ServerNames};
use time::OffsetDateTime;

use crate::broker::AnyBroker;

pub struct Broker {
    pub port: u16,
    folder: tempfile::TempDir,
    issuer: Arc<Issuer>,
}

/// Signs certificates, and keeps those of devices in files.
struct Issuer {
    authority: Authority,
    folder: PathBuf,
    issued: Mutex<HashMap<String, TlsFiles>>,
}

impl CertificateIssuer for Issuer {
    fn issue(&self, sn: &Sn, _: CertificateKey<'_>, now: UnixMs) -> Result<IssuedCertificate> {
        let now = OffsetDateTime::from_unix_timestamp(now.seconds()).unwrap();
        let issued = self.authority.issue_device(sn.as_str(), now).unwrap();
        let file = |kind: &str, text: &str| -> PathBuf {
            let path = self.folder.join(format!("{sn}.{kind}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = TlsFiles {
            ca: self.authority.root_path(),
            certificate: file("pem", &issued.certificate_pem),
            key: file("key", issued.private_key_pem.unwrap().expose()),
        };
        self.issued.lock().unwrap().insert(sn.to_string(), files);
        Ok(IssuedCertificate {
            record: CertificateRecord {
                serial_hex: issued.serial_hex,
                not_after: UnixMs(issued.not_after_s * 1_000),
            },
            certificate_pem: issued.certificate_pem,
            ca_pem: issued.ca_pem,
            private_key_pem: None,
        })
    }

    fn issue_claim(&self, _: UnixMs, _: UnixMs) -> Result<IssuedCertificate> {
        Err(covey_core::Error::not_found("issuer of claims"))
    }
}

impl Broker {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (pki, now) = (folder.path().join("pki"), OffsetDateTime::now_utc());
        let authority = Authority::open_or_create(&pki, CertificateLifetimes::default(), now).unwrap();
        let names = ServerNames::from_hosts(["localhost", "127.0.0.1"]);
        let server = authority.issue_service_server(&names, now).unwrap();
        std::fs::write(folder.path().join("server.pem"), &server.certificate_pem).unwrap();
        std::fs::write(folder.path().join("server.key"), server.private_key_pem.expose()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let issuer = Issuer { authority, folder: folder.path().to_owned(), issued: Mutex::default() };
        Self { port, folder, issuer: Arc::new(issuer) }
    }
}

/// What a server is started with.
pub struct Options {
    name: String,
    broker: BrokerOptions,
}

/// The link, with what its broker is started with.
pub struct Link {
    embedded: Arc<EmbeddedLink>,
    broker: BrokerOptions,
}

impl covey_core::port::Link for Link {
    fn announce(&self, task: Announcement) {
        self.embedded.announce(task);
    }

    fn revoke(&self, sn: &Sn) {
        self.embedded.revoke(sn);
    }

    fn name(&self) -> &'static str {
        covey_link::embedded::NAME
    }

    fn admit(&self, sn: &Sn) -> BoxFuture<'static, ()> {
        self.embedded.admit(sn)
    }

    fn is_shared(&self) -> bool {
        self.embedded.is_shared()
    }
}

impl AnyBroker for Broker {
    type Options = Options;
    type Link = Link;
    type Running = Embedded;
    const ACKNOWLEDGES_AFTER_COMMIT: bool = true;

    fn port(&self) -> u16 {
        self.port
    }

    /// It must have been registered.
    fn device(&self, sn: &str) -> TlsFiles {
        self.issuer.issued.lock().unwrap()[sn].clone()
    }

    fn issuer(&self) -> Arc<dyn CertificateIssuer> {
        self.issuer.clone()
    }

    fn options(&self, name: &str) -> Options {
        let file = |name: &str| Path::new(self.folder.path()).join(name);
        let tls = ServerFiles {
            certificate: file("server.pem"),
            key: file("server.key"),
            device_root: self.issuer.authority.root_path(),
            device_issuer: self.issuer.authority.issuing_path(),
            former_issuers: self.issuer.authority.former_path(),
            imported: Vec::new(),
        };
        let broker = BrokerOptions {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
            tls,
            sessions_max: 1_000,
            files: None,
            packet_bytes_max: 1024 * 1024,
            held_bytes_max: covey_link::embedded::HELD_BYTES_MAX,
            response_form: Default::default(),
        };
        Options { name: name.to_owned(), broker }
    }

    fn link(options: Options, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<Link> {
        let embedded = EmbeddedLink::new(&options.name, clock, observer);
        Arc::new(Link { embedded, broker: options.broker })
    }

    /// From the start on.
    fn is_up(_: &Link) -> bool {
        true
    }

    async fn run(link: Arc<Link>, engine: Arc<Engine>) -> Embedded {
        Embedded::start(Arc::clone(&link.embedded), engine, link.broker.clone()).await.unwrap()
    }

    async fn stop(running: Embedded) {
        running.stop().await;
    }
}
