//! The certificate that the client of a connection has shown.

use std::sync::OnceLock;

use covey_core::id::UnixMs;
use rustls_pki_types::CertificateDer;

use super::{ClientCertificate, ProxyTrust};

/// What the client of a connection has shown. That it holds the key of the
/// first certificate was proved in the handshake.
#[derive(Debug)]
pub(crate) struct Peer {
    chain: Vec<CertificateDer<'static>>,
    certificate: Option<ClientCertificate>,
    /// Found out when it is first asked, and the same for the whole connection.
    is_proxy: OnceLock<bool>,
}

impl Peer {
    /// From the chain of a TLS session; none if that is empty.
    pub(crate) fn of(chain: &[CertificateDer<'static>]) -> Option<Self> {
        let certificate = ClientCertificate::read(chain.first()?).ok();
        Some(Self { chain: chain.to_vec(), certificate, is_proxy: OnceLock::new() })
    }

    /// The certificate, if it can be a credential.
    pub(crate) fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_ref()
    }

    /// The certificate as it was shown with those behind it, whatever it may be used for.
    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Whether it is a proxy that may hand on the certificates of its clients.
    pub(crate) fn is_proxy(&self, trust: &ProxyTrust, now: UnixMs) -> bool {
        *self.is_proxy.get_or_init(|| trust.holds_for(&self.chain, now))
    }
}
