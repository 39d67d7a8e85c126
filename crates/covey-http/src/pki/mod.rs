//! `/pki`: what the issuing CA says of the certificates of devices, for whoever asks: the list of those that were revoked
//! (`/pki/crl`), and answers about some (`/pki/ocsp`). No credential is needed, so each stranger may ask a little at a time.

mod crl;
mod ocsp;
mod strangers;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use covey_core::certificate::{Revocation, RevokedCertificate};
use covey_core::id::UnixMs;

use crate::api::Api;
use crl::CrlCache;
use strangers::Strangers;

/// Who signs what is said of certificates.
pub trait RevocationAuthority: Send + Sync + 'static {
    /// The identifiers of the keys of those who sign lists, in lower-case hexadecimal digits: that of today first.
    fn crl_issuers(&self) -> Vec<String>;

    /// The list of these, in DER, by the one with this place among them.
    ///
    /// # Errors
    /// Why it could not be made, for the log.
    fn crl(&self, revoked: &[RevokedCertificate], span: CrlSpan, place: usize) -> Result<Vec<u8>, String>;

    /// Such a list in PEM.
    fn crl_pem(&self, der: &[u8]) -> String;

    /// The serial numbers that a request asks about, in lower-case hexadecimal digits.
    ///
    /// # Errors
    /// The answer to a request that is none.
    fn ocsp_serials(&self, request: &[u8]) -> Result<Vec<String>, Vec<u8>>;

    /// The answer to a request, by what is known of those serial numbers. It may be relied on until an instant.
    fn ocsp_answer(
        &self,
        request: &[u8],
        known: Vec<(String, Option<Revocation>)>,
        now: UnixMs,
        until: UnixMs,
    ) -> Vec<u8>;

    /// The answer to a request that cannot be answered now.
    fn ocsp_try_later(&self) -> Vec<u8>;
}

/// From when to when a list is of use, and its place among those before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlSpan {
    /// Larger than that of every list before it.
    pub number: u64,
    /// When it is made.
    pub this_update: UnixMs,
    /// By when there is another one.
    pub next_update: UnixMs,
}

/// What `/pki` is made of.
pub(crate) struct Pki {
    authority: Arc<dyn RevocationAuthority>,
    crl: CrlCache,
    strangers: Strangers,
}

impl Pki {
    pub(crate) fn of(authority: Arc<dyn RevocationAuthority>) -> Self {
        Self { authority, crl: CrlCache::default(), strangers: Strangers::default() }
    }
}

/// The routes.
pub(crate) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/pki/crl", get(crl::der))
        .route("/pki/crl.pem", get(crl::pem))
        .route("/pki/crl/{identifier}", get(crl::of_issuer))
        .route("/pki/ocsp", axum::routing::post(ocsp::posted))
        .route("/pki/ocsp/{*request}", get(ocsp::in_path))
}
