//! The list of revoked certificates (RFC 5280 section 5).

use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use time::OffsetDateTime;

use crate::authority::Authority;
use crate::certificate::{hex, in_pem};
use crate::revocation::RevocationError;
use crate::revocation::signer::Signer;

/// A certificate that was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedEntry {
    /// Its serial number in hexadecimal digits.
    pub serial_hex: String,
    /// When it was revoked, Unix time.
    pub revoked_at_s: i64,
    /// Why, as a number of RFC 5280 section 5.3.1.
    pub reason: u8,
}

/// A list in PEM.
pub fn crl_to_pem(der: &[u8]) -> String {
    in_pem("X509 CRL", der)
}

/// From when to when a list is of use, and its place among those before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrlSpan {
    /// Larger than that of every list before it.
    pub number: u64,
    /// When it is made.
    pub this_update: OffsetDateTime,
    /// By when there is another one.
    pub next_update: OffsetDateTime,
}

impl Authority {
    /// The identifiers of the keys of those who sign lists, in lowercase hex: of the issuing CA, then of those of before.
    pub fn crl_issuers(&self) -> Vec<String> {
        let signers = self.issuers().filter_map(|(der, issuer)| Signer::new(der, issuer).ok());
        signers.map(|signer| hex(&signer.key_identifier)).collect()
    }

    /// The list of what was revoked, in DER: signed by the issuing CA, or by the one of before with this place among
    /// [`crl_issuers`](Self::crl_issuers).
    ///
    /// # Errors
    /// An entry that is none.
    pub fn crl(
        &self,
        revoked: &[RevokedEntry],
        span: CrlSpan,
        place: usize,
    ) -> Result<Vec<u8>, RevocationError> {
        let (der, issuer) = self.issuers().nth(place).ok_or(RevocationError::Key)?;
        let signer = Signer::new(der, issuer)?;
        let revoked_certs = revoked.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let params = CertificateRevocationListParams {
            this_update: span.this_update,
            next_update: span.next_update,
            crl_number: SerialNumber::from(span.number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::PreSpecified(signer.key_identifier.clone()),
        };
        Ok(params.signed_by(signer.issuer)?.der().to_vec())
    }
}

fn entry(revoked: &RevokedEntry) -> Result<RevokedCertParams, RevocationError> {
    let RevokedEntry { serial_hex, revoked_at_s, reason } = revoked;
    let serial = serial_bytes(serial_hex)
        .ok_or_else(|| RevocationError::Serial { serial: crate::error::shortened(serial_hex) })?;
    let at = OffsetDateTime::from_unix_timestamp(*revoked_at_s).map_err(|_| RevocationError::Instant)?;
    Ok(RevokedCertParams {
        serial_number: SerialNumber::from_slice(&serial),
        revocation_time: at,
        reason_code: Some(reason_of(*reason)?),
        invalidity_date: None,
    })
}

/// A serial number out of hexadecimal digits.
pub(super) fn serial_bytes(hex: &str) -> Option<Vec<u8>> {
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex || hex.is_empty() || hex.len() % 2 == 1 || hex.len() > 40 {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

fn reason_of(number: u8) -> Result<RevocationReason, RevocationError> {
    Ok(match number {
        0 => RevocationReason::Unspecified,
        1 => RevocationReason::KeyCompromise,
        2 => RevocationReason::CaCompromise,
        3 => RevocationReason::AffiliationChanged,
        4 => RevocationReason::Superseded,
        5 => RevocationReason::CessationOfOperation,
        9 => RevocationReason::PrivilegeWithdrawn,
        10 => RevocationReason::AaCompromise,
        _ => return Err(RevocationError::Reason { number }),
    })
}
