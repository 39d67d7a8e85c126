//! Trusted proxies: which connections are theirs, and the header in which they
//! hand on the certificate of a client.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use covey_core::id::UnixMs;
use percent_encoding::percent_decode;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::ClientCertificate;

/// The common name of a proxy's certificate. It has a dot, which the serial
/// number of a device never has, so no device gets a certificate with it.
pub const PROXY_NAME: &str = "covey.proxy";
/// The header in which a proxy hands on the certificate of its client: PEM,
/// percent-encoded (nginx: `$ssl_client_escaped_cert`).
pub const HANDED_ON_HEADER: &str = "x-covey-client-cert";

/// What makes a connection one of a trusted proxy.
#[derive(Debug)]
pub(crate) struct ProxyTrust {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ProxyTrust {
    /// Trust in certificates that were issued under this root.
    pub(crate) fn under(root: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self { verifier })
    }

    /// Whether the owner of this chain is a trusted proxy. That it holds the
    /// key was proved in the handshake; here it is about issuer, time, use for
    /// TLS clients (RFC 5280 §6), and name.
    pub(super) fn holds_for(&self, chain: &[CertificateDer<'_>], now: UnixMs) -> bool {
        let Some((leaf, issuers)) = chain.split_first() else { return false };
        let since_epoch = Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
        let now = UnixTime::since_unix_epoch(since_epoch);
        has_name(leaf, PROXY_NAME) && self.verifier.verify_client_cert(leaf, issuers, now).is_ok()
    }
}

/// Whether a certificate's subject has this common name and no other.
fn has_name(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(([], certificate)) = X509Certificate::from_der(leaf) else { return false };
    let mut names = certificate.subject().iter_common_name();
    let is_it = names.next().is_some_and(|found| found.as_str() == Ok(name));
    is_it && names.next().is_none()
}

/// The certificate that a proxy hands on. Only for requests on a connection of
/// a trusted proxy: anyone can write a header.
pub(crate) fn handed_on(headers: &HeaderMap) -> Option<ClientCertificate> {
    ClientCertificate::read_pem(&handed_on_pem(headers)?).ok()
}

/// The same, whatever it may be used for.
pub(crate) fn handed_on_der(headers: &HeaderMap) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(handed_on_pem(headers)?.as_bytes()).ok()
}

fn handed_on_pem(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(HANDED_ON_HEADER).iter();
    let value = values.next()?;
    // A proxy sends one. A second one is from someone else, and so may be the first.
    if values.next().is_some() {
        return None;
    }
    let pem = percent_decode(value.as_bytes()).decode_utf8().ok()?;
    Some(pem.into_owned())
}
