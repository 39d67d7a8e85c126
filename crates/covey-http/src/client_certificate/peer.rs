//! The certificate that the client of a connection has shown, on its way from
//! the TLS session to the requests of that connection.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::http::Request;
use covey_core::id::UnixMs;
use rustls_pki_types::CertificateDer;
use tower_service::Service;

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
    pub(crate) fn of(chain: &[CertificateDer<'static>]) -> Option<Arc<Self>> {
        let certificate = ClientCertificate::read(chain.first()?).ok();
        Some(Arc::new(Self { chain: chain.to_vec(), certificate, is_proxy: OnceLock::new() }))
    }

    /// The certificate, if it can be a credential.
    pub(crate) fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_ref()
    }

    /// Whether it is a proxy that may hand on the certificates of its clients.
    pub(crate) fn is_proxy(&self, trust: &ProxyTrust, now: UnixMs) -> bool {
        *self.is_proxy.get_or_init(|| trust.holds_for(&self.chain, now))
    }
}

/// A service whose requests carry the [`Peer`] of their connection.
#[derive(Clone)]
pub(crate) struct WithPeer<S> {
    inner: S,
    peer: Option<Arc<Peer>>,
}

impl<S> WithPeer<S> {
    pub(crate) fn new(inner: S, peer: Option<Arc<Peer>>) -> Self {
        Self { inner, peer }
    }
}

impl<S, B> Service<Request<B>> for WithPeer<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(Arc::clone(peer));
        }
        self.inner.call(request)
    }
}
