//! Handing the server certificate to rustls so that it can be swapped while connections run.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use super::ServerCertificate;
use super::client::ProofOfKey;
use crate::error::PkiError;

/// Gives every new handshake the certificate of the moment; handshakes under way and connections
/// that stand keep theirs.
#[derive(Debug)]
pub struct ServerCertResolver {
    current: ArcSwap<CertifiedKey>,
}

impl ServerCertResolver {
    /// Starts with this certificate.
    ///
    /// # Errors
    /// [`PkiError::Tls`] if rustls cannot use the key.
    pub fn new(certificate: &ServerCertificate) -> Result<Self, PkiError> {
        Ok(Self { current: ArcSwap::from_pointee(certified_key(certificate)?) })
    }

    /// Uses this certificate from the next handshake on.
    ///
    /// # Errors
    /// [`PkiError::Tls`] if rustls cannot use the key; the one before stays.
    pub fn replace(&self, certificate: &ServerCertificate) -> Result<(), PkiError> {
        self.current.store(Arc::new(certified_key(certificate)?));
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertResolver {
    /// The one certificate has all names, so the name that the client asks for does not matter.
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// What an HTTPS listener needs: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 (RFC 7301). Clients may show a
/// certificate of any issuer if they hold its key; whether it means anything is not decided here.
///
/// # Errors
/// [`PkiError::Tls`], which would mean that rustls was built without these versions.
pub fn https_server_config(resolver: Arc<ServerCertResolver>) -> Result<Arc<ServerConfig>, PkiError> {
    https_server_config_for_renewals(resolver, Duration::ZERO)
}

/// The same, and the certificate of a client may have ended so long ago: there is something that it is still good for,
/// such as its own renewal. Whoever asks what a certificate stands for looks at its end.
///
/// # Errors
/// As of [`https_server_config`].
pub fn https_server_config_for_renewals(
    resolver: Arc<ServerCertResolver>,
    expired_max: Duration,
) -> Result<Arc<ServerConfig>, PkiError> {
    let provider = provider();
    let client_certificates = ProofOfKey::by(&provider, expired_max);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(client_certificates)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certified_key(certificate: &ServerCertificate) -> Result<CertifiedKey, PkiError> {
    Ok(CertifiedKey::from_der(certificate.chain().to_vec(), certificate.key().clone_key(), &provider())?)
}

/// Named here and passed on, so that nothing depends on a process-wide default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
