//! The authority as one that says which certificates were revoked.

use std::collections::HashMap;
use std::sync::Arc;

use covey_core::certificate::{Revocation, RevocationReason, RevokedCertificate};
use covey_core::id::UnixMs;
use covey_http::{CrlSpan, RevocationAuthority};
use covey_pki::{Authority, OcspRefusal, OcspSpan, OcspStatus, RevokedEntry};
use time::OffsetDateTime;

/// It signs with the issuing CA.
pub struct Revocations(pub Arc<Authority>);

impl RevocationAuthority for Revocations {
    fn crl_issuers(&self) -> Vec<String> {
        self.0.crl_issuers()
    }

    fn crl_pem(&self, der: &[u8]) -> String {
        covey_pki::crl_to_pem(der)
    }

    fn crl(&self, revoked: &[RevokedCertificate], span: CrlSpan, place: usize) -> Result<Vec<u8>, String> {
        let entries: Vec<_> = revoked.iter().map(entry).collect();
        let span = covey_pki::CrlSpan {
            number: span.number,
            this_update: instant(span.this_update),
            next_update: instant(span.next_update),
        };
        self.0.crl(&entries, span, place).map_err(|error| error.to_string())
    }

    fn ocsp_serials(&self, request: &[u8]) -> Result<Vec<String>, Vec<u8>> {
        self.0.ocsp_serials(request).map_err(refusal)
    }

    fn ocsp_answer(
        &self,
        request: &[u8],
        known: Vec<(String, Option<Revocation>)>,
        now: UnixMs,
        until: UnixMs,
    ) -> Vec<u8> {
        let known: HashMap<_, _> =
            known.into_iter().map(|(serial_hex, revocation)| (serial_hex, status(revocation))).collect();
        let span = OcspSpan { this_update: instant(now), next_update: instant(until) };
        self.0.ocsp_answer(request, &known, span).unwrap_or_else(refusal)
    }

    fn ocsp_try_later(&self) -> Vec<u8> {
        refusal(OcspRefusal::TryLater)
    }
}

fn entry(revoked: &RevokedCertificate) -> RevokedEntry {
    let Revocation { at, reason } = revoked.revocation;
    RevokedEntry {
        serial_hex: revoked.serial_hex.clone(),
        revoked_at_s: at.seconds(),
        reason: number(reason),
    }
}

fn status(revocation: Option<Revocation>) -> OcspStatus {
    match revocation {
        None => OcspStatus::Good,
        Some(Revocation { at, reason }) => OcspStatus::Revoked { at_s: at.seconds(), reason: number(reason) },
    }
}

/// All are below 11 (RFC 5280 section 5.3.1).
const fn number(reason: RevocationReason) -> u8 {
    reason as u8
}

fn instant(at: UnixMs) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn refusal(refusal: OcspRefusal) -> Vec<u8> {
    refusal.to_der().unwrap_or_else(|error| {
        tracing::error!(%error, "a refusal was not written");
        Vec::new()
    })
}
