//! A CA with certificates of a server and of devices, and what clients of them are configured with.

use std::sync::Arc;

use covey_net::{Identity, ServerTls, certificates_from_pem};
use covey_pki::{Authority, CertificateLifetimes, ServerNames};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use time::OffsetDateTime;

pub struct Pki {
    authority: Authority,
    _folder: tempfile::TempDir,
}

/// A device's certificate with its key.
pub struct Device {
    pub certificate_pem: String,
    pub key_pem: String,
    pub serial_hex: String,
}

impl Device {
    /// Its own certificate, then the one that issued it.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        certificates_from_pem(self.certificate_pem.as_bytes()).unwrap()
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap()
    }
}

impl Pki {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let authority =
            Authority::open_or_create(folder.path(), CertificateLifetimes::default(), now).unwrap();
        Self { authority, _folder: folder }
    }

    /// A new certificate of the server.
    pub fn server(&self) -> Identity {
        let names = ServerNames::from_hosts(["localhost", "127.0.0.1"]);
        let issued = self.authority.issue_service_server(&names, OffsetDateTime::now_utc()).unwrap();
        Identity::from_pem(issued.certificate_pem.as_bytes(), issued.private_key_pem.expose().as_bytes())
            .unwrap()
    }

    pub fn device(&self, sn: &str) -> Device {
        let issued = self.authority.issue_device(sn, OffsetDateTime::now_utc()).unwrap();
        Device {
            certificate_pem: issued.certificate_pem,
            key_pem: issued.private_key_pem.unwrap().expose().to_owned(),
            serial_hex: issued.serial_hex,
        }
    }

    pub fn root(&self) -> CertificateDer<'static> {
        self.authority.root_der().clone()
    }

    /// The root and the issuing CA, as a server trusts them.
    pub fn trusted(&self) -> Vec<CertificateDer<'static>> {
        vec![self.root(), self.authority.issuing_der().clone()]
    }

    pub fn tls(&self) -> Arc<ServerTls> {
        ServerTls::for_devices(self.server(), self.trusted()).unwrap()
    }

    /// What a client with this certificate, or with none, is configured with.
    pub fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        certificate: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match certificate {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        }
    }

    /// A client of both versions with a device's certificate.
    pub fn client_of(&self, device: &Device) -> ClientConfig {
        self.client(rustls::ALL_VERSIONS, Some((device.chain(), device.key())))
    }
}
