//! What a listener shows in a TLS handshake and what it asks of clients, renewable while it listens.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::NetError;
use crate::imported::{ImportedCa, Issuers};

/// Largest TLS record that is sent, its header included, in bytes. Small devices have room for one
/// of 4 KiB, not for the 16 KiB that TLS allows.
/// Limit for each record: what is longer goes in several.
pub const RECORD_BYTES_MAX: usize = 4096;

/// A server's certificate, then those that issued it, and its private key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// An identity out of DER.
    #[must_use]
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key }
    }

    /// Reads both from PEM.
    ///
    /// # Errors
    /// [`NetError::Pem`] for a text without certificates, or without a private key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, NetError> {
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| NetError::Pem { must: "a private key", problem: error.to_string() })?;
        Ok(Self { chain: certificates_from_pem(chain)?, key })
    }
}

/// The certificates in a PEM text, such as those that devices' certificates must lead to.
///
/// # Errors
/// [`NetError::Pem`] if one cannot be read or there is none.
pub fn certificates_from_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let wrong = |problem: String| NetError::Pem { must: "certificates", problem };
    let found = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("there is none in it".to_owned())) } else { Ok(found) }
}

/// TLS of a listener for devices: mutual, 1.2 and 1.3.
///
/// Clients must show a certificate that leads to one of the `trusted` certificates. One of these may
/// be an issuing CA: a device then need not send more than its own certificate, which is what many
/// small TLS libraries can do.
///
/// There are neither tickets nor sessions to resume: some TLS libraries of devices stop at a ticket
/// of TLS 1.3, and a resumed session would go on with a certificate that was not looked at again.
pub struct ServerTls {
    current: RwLock<Current>,
    /// Whether a client without a certificate is let in.
    is_certificate_optional: bool,
}

impl ServerTls {
    /// # Errors
    /// [`NetError::Tls`] if a certificate or the key cannot be used.
    pub fn for_devices(
        identity: Identity,
        trusted: Vec<CertificateDer<'static>>,
    ) -> Result<Arc<Self>, NetError> {
        Self::for_devices_of(identity, trusted, &[])
    }

    /// The same, which lets in devices of CAs of others, too: in the place of the serial numbers of their certificates stands
    /// something else ([`ImportedCa::prefix`]).
    ///
    /// # Errors
    /// As [`for_devices`](Self::for_devices).
    pub fn for_devices_of(
        identity: Identity,
        trusted: Vec<CertificateDer<'static>>,
        imported: &[ImportedCa],
    ) -> Result<Arc<Self>, NetError> {
        let current = RwLock::new(for_devices(identity, trusted, imported)?);
        Ok(Arc::new(Self { current, is_certificate_optional: false }))
    }

    /// TLS of a listener whose clients need no certificate, and may show one that leads to one of the `trusted`, if there
    /// are any; another one ends the handshake. The server's certificate is that of the resolver, which renews it by itself.
    ///
    /// # Errors
    /// [`NetError::Tls`] or [`NetError::Trusted`] if a certificate cannot be used.
    pub fn for_anyone(
        resolver: Arc<dyn ResolvesServerCert>,
        trusted: Vec<CertificateDer<'static>>,
    ) -> Result<Arc<Self>, NetError> {
        let provider = provider();
        let clients = match trusted.is_empty() {
            true => WebPkiClientVerifier::no_client_auth(),
            false => WebPkiClientVerifier::builder_with_provider(roots(trusted)?, Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| NetError::Trusted(error.to_string()))?,
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(resolver);
        let current = RwLock::new(Current { config: Arc::new(for_small_libraries(config)), issuers: None });
        Ok(Arc::new(Self { current, is_certificate_optional: true }))
    }

    pub(crate) fn is_certificate_optional(&self) -> bool {
        self.is_certificate_optional
    }

    /// Uses these from the next handshake on. Connections that stand, and handshakes under way, keep
    /// what they began with.
    ///
    /// # Errors
    /// [`NetError::Tls`] if a certificate or the key cannot be used; what was used before goes on.
    pub fn renew(&self, identity: Identity, trusted: Vec<CertificateDer<'static>>) -> Result<(), NetError> {
        self.renew_of(identity, trusted, &[])
    }

    /// The same with CAs of others.
    ///
    /// # Errors
    /// As [`renew`](Self::renew).
    pub fn renew_of(
        &self,
        identity: Identity,
        trusted: Vec<CertificateDer<'static>>,
        imported: &[ImportedCa],
    ) -> Result<(), NetError> {
        let renewed = for_devices(identity, trusted, imported)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// Who issued what devices show, where that is looked at.
    pub(crate) fn issuers(&self) -> Option<Arc<Issuers>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).issuers.clone()
    }
}

/// What is used from the next handshake on.
struct Current {
    config: Arc<ServerConfig>,
    issuers: Option<Arc<Issuers>>,
}

fn for_devices(
    identity: Identity,
    trusted: Vec<CertificateDer<'static>>,
    imported: &[ImportedCa],
) -> Result<Current, NetError> {
    let provider = provider();
    let issuers = Arc::new(Issuers::new(roots_of(trusted)?, imported, &provider)?);
    let clients: Arc<Issuers> = Arc::clone(&issuers);
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(clients)
        .with_single_cert(identity.chain, identity.key)?;
    Ok(Current { config: Arc::new(for_small_libraries(config)), issuers: Some(issuers) })
}

fn roots(trusted: Vec<CertificateDer<'static>>) -> Result<Arc<RootCertStore>, NetError> {
    roots_of(trusted).map(Arc::new)
}

fn roots_of(trusted: Vec<CertificateDer<'static>>) -> Result<RootCertStore, NetError> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// Small records, and no tickets.
fn for_small_libraries(mut config: ServerConfig) -> ServerConfig {
    config.max_fragment_size = Some(RECORD_BYTES_MAX);
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config
}

/// Named here and passed on, so that nothing depends on a process-wide default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
