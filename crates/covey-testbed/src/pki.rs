//! The certificates of a set of services: one CA, made by Covey itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use covey_pki::{Authority, CertificateLifetimes, IssuedService, ServerNames};
use time::OffsetDateTime;

use crate::secret;

/// A CA with the certificates that it has issued for services.
pub struct Pki {
    dir: PathBuf,
    authority: Authority,
}

/// A certificate with its key, and the root to trust.
pub struct Identity {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pki {
    /// The CA in the folder of the services, made when it is missing.
    pub fn open(services: &Path) -> Result<Self> {
        let folder = services.join("pki");
        let now = OffsetDateTime::now_utc();
        let authority = Authority::open_or_create(&folder, CertificateLifetimes::default(), now)
            .with_context(|| format!("cannot make a CA in {}", folder.display()))?;
        Ok(Self { dir: services.to_owned(), authority })
    }

    /// The folder of the CA, as `covey up --pki-from` takes it.
    pub fn folder(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The certificate of a server on this machine.
    pub fn server(&self) -> Result<Identity> {
        self.identity("server", "server", |authority, now| {
            let names = ServerNames::from_hosts(["localhost", "127.0.0.1"]);
            Ok(authority.issue_service_server(&names, now)?)
        })
    }

    /// The certificate of a client with this CN: of a Covey server that comes
    /// to a broker, or of a proxy that comes to a Covey server.
    pub fn client(&self, name: &str) -> Result<Identity> {
        self.identity("client", name, |authority, now| Ok(authority.issue_service_client(name, now)?))
    }

    /// A certificate in a folder of its own, made when it is missing.
    fn identity(
        &self,
        kind: &str,
        folder: &str,
        issue: impl FnOnce(&Authority, OffsetDateTime) -> Result<IssuedService>,
    ) -> Result<Identity> {
        let out = self.dir.join("tls").join(folder);
        let identity = Identity {
            ca: out.join("ca.pem"),
            certificate: out.join(format!("{kind}.pem")),
            key: out.join(format!("{kind}.key")),
        };
        if identity.ca.exists() && identity.certificate.exists() && identity.key.exists() {
            return Ok(identity);
        }
        let issued = issue(&self.authority, OffsetDateTime::now_utc())
            .with_context(|| format!("cannot issue the certificate of {folder}"))?;
        fs::create_dir_all(&out)?;
        secret::write(&identity.key, issued.private_key_pem.expose(), 0o600)?;
        secret::write(&identity.certificate, &issued.certificate_pem, 0o644)?;
        secret::write(&identity.ca, &issued.ca_pem, 0o644)?;
        Ok(identity)
    }
}
