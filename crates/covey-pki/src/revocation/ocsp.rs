//! Answers to who asks whether certificates are good (RFC 6960; the nonce as in RFC 9654).

use std::collections::HashMap;

use const_oid::db::rfc6960::ID_PKIX_OCSP_NONCE;
use der::asn1::{GeneralizedTime, OctetString};
use der::{Decode, Encode};
use time::OffsetDateTime;
use x509_cert::ext::pkix::CrlReason;
use x509_cert::ext::{Extension, Extensions};
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse, ResponseData,
    RevokedInfo, SingleResponse, Version,
};

use crate::authority::Authority;
use crate::certificate::hex;
use crate::revocation::RevocationError;
use crate::revocation::signer::Signer;

/// Bytes a request may have.
/// Limit for each request: it is refused as malformed.
pub const OCSP_REQUEST_BYTES_MAX: usize = 4 * 1024;
/// How many certificates one request may ask about.
/// Limit for each request: it is refused as malformed.
pub const OCSP_CERTIFICATES_MAX: usize = 16;
/// Bytes the nonce of a request may have (RFC 9654 section 2.1).
/// Limit for each request: it is refused as malformed.
pub const OCSP_NONCE_BYTES_MAX: usize = 128;

/// What is known of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OcspStatus {
    /// It was issued and not revoked.
    Good,
    /// It was revoked.
    Revoked {
        /// When, Unix time.
        at_s: i64,
        /// Why, as a number of RFC 5280 section 5.3.1.
        reason: u8,
    },
}

/// From when to when an answer is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OcspSpan {
    /// When it is made.
    pub this_update: OffsetDateTime,
    /// Until when it may be relied on.
    pub next_update: OffsetDateTime,
}

/// Why a request gets no answer about certificates. It tells nothing of them, and nobody signs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OcspRefusal {
    /// It is not what RFC 6960 says, or beyond a bound.
    Malformed,
    /// It cannot be answered now.
    TryLater,
    /// The server made a mistake.
    Internal,
}

impl OcspRefusal {
    /// What is sent, in DER.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_der(self) -> Result<Vec<u8>, RevocationError> {
        let response = match self {
            Self::Malformed => OcspResponse::malformed_request(),
            Self::TryLater => OcspResponse::try_later(),
            Self::Internal => OcspResponse::internal_error(),
        };
        Ok(response.to_der()?)
    }
}

/// A request that was understood.
struct Asked {
    certificates: Vec<CertId>,
    /// The extension, as it came.
    nonce: Option<Extension>,
}

impl Authority {
    /// The serial numbers of the certificates of this CA that a request asks about, in hexadecimal digits.
    ///
    /// # Errors
    /// A request that is none, or beyond a bound.
    pub fn ocsp_serials(&self, request: &[u8]) -> Result<Vec<String>, OcspRefusal> {
        let asked = read(request)?;
        let signer = self.signer_of(&asked).map_err(|_| OcspRefusal::Internal)?;
        Ok(asked.certificates.iter().filter(|id| signer.is_named_by(id)).map(serial_hex).collect())
    }

    /// The answer to a request, signed by the issuing CA, in DER. A certificate that is not among those that are `known`,
    /// or of another CA, is unknown.
    ///
    /// # Errors
    /// A request that is none; a mistake of this program.
    pub fn ocsp_answer(
        &self,
        request: &[u8],
        known: &HashMap<String, OcspStatus>,
        span: OcspSpan,
    ) -> Result<Vec<u8>, OcspRefusal> {
        let asked = read(request)?;
        self.answer(asked, known, span).map_err(|_| OcspRefusal::Internal)
    }

    fn answer(
        &self,
        asked: Asked,
        known: &HashMap<String, OcspStatus>,
        span: OcspSpan,
    ) -> Result<Vec<u8>, RevocationError> {
        let signer = self.signer_of(&asked)?;
        let (this_update, next_update) = (instant(span.this_update)?, instant(span.next_update)?);
        let mut responses = Vec::new();
        for cert_id in asked.certificates {
            let known = known.get(&serial_hex(&cert_id)).filter(|_| signer.is_named_by(&cert_id));
            responses.push(SingleResponse {
                cert_status: known.map_or(Ok(CertStatus::unknown()), |status| cert_status(*status))?,
                cert_id,
                this_update,
                next_update: Some(next_update),
                single_extensions: None,
            });
        }
        let data = ResponseData {
            version: Version::V1,
            responder_id: signer.responder_id()?,
            produced_at: this_update,
            responses,
            response_extensions: asked.nonce.map(|nonce| vec![nonce]),
        };
        let signature = signer.sign(&data.to_der()?)?;
        let response = BasicOcspResponse {
            tbs_response_data: data,
            signature_algorithm: signer.algorithm()?,
            signature,
            // Who asks has the CA's certificate: it is in the request.
            certs: None,
        };
        Ok(OcspResponse::successful(response)?.to_der()?)
    }

    /// Whom the request names first of those whose certificates are good, else the issuing CA of today.
    fn signer_of(&self, asked: &Asked) -> Result<Signer<'_>, RevocationError> {
        let mut own = None;
        for (der, issuer) in self.issuers() {
            let signer = Signer::new(der, issuer)?;
            if asked.certificates.iter().any(|id| signer.is_named_by(id)) {
                return Ok(signer);
            }
            own.get_or_insert(signer);
        }
        own.ok_or(RevocationError::Key)
    }
}

fn read(request: &[u8]) -> Result<Asked, OcspRefusal> {
    if request.len() > OCSP_REQUEST_BYTES_MAX {
        return Err(OcspRefusal::Malformed);
    }
    let request = OcspRequest::from_der(request).map_err(|_| OcspRefusal::Malformed)?.tbs_request;
    if request.request_list.is_empty() || request.request_list.len() > OCSP_CERTIFICATES_MAX {
        return Err(OcspRefusal::Malformed);
    }
    let nonce = extension_of(request.request_extensions.unwrap_or_default(), true)?;
    let mut certificates = Vec::new();
    for one in request.request_list {
        extension_of(one.single_request_extensions.unwrap_or_default(), false)?;
        certificates.push(one.req_cert);
    }
    Ok(Asked { certificates, nonce })
}

/// The nonce, if there is one. An extension that must be understood and is not refuses the request.
fn extension_of(extensions: Extensions, may_have_nonce: bool) -> Result<Option<Extension>, OcspRefusal> {
    let mut found = None;
    for extension in extensions {
        if may_have_nonce && extension.extn_id == ID_PKIX_OCSP_NONCE {
            let nonce =
                OctetString::from_der(extension.extn_value.as_bytes()).map_err(|_| OcspRefusal::Malformed)?;
            let is_bounded = (1..=OCSP_NONCE_BYTES_MAX).contains(&nonce.as_bytes().len());
            if !is_bounded || found.is_some() {
                return Err(OcspRefusal::Malformed);
            }
            found = Some(Extension { critical: false, ..extension });
        } else if extension.critical {
            return Err(OcspRefusal::Malformed);
        }
    }
    Ok(found)
}

/// As certificates are kept: without the zero byte that DER puts before a number whose first bit is set.
fn serial_hex(id: &CertId) -> String {
    match id.serial_number.as_bytes() {
        [0, rest @ ..] if !rest.is_empty() => hex(rest),
        all => hex(all),
    }
}

fn cert_status(status: OcspStatus) -> Result<CertStatus, RevocationError> {
    let OcspStatus::Revoked { at_s, reason } = status else { return Ok(CertStatus::good()) };
    let at = OffsetDateTime::from_unix_timestamp(at_s).map_err(|_| RevocationError::Instant)?;
    let revocation_reason = match reason {
        // "Unspecified" is better left out (RFC 5280 section 5.3.1).
        0 => None,
        1 => Some(CrlReason::KeyCompromise),
        2 => Some(CrlReason::CaCompromise),
        3 => Some(CrlReason::AffiliationChanged),
        4 => Some(CrlReason::Superseded),
        5 => Some(CrlReason::CessationOfOperation),
        9 => Some(CrlReason::PrivilegeWithdrawn),
        10 => Some(CrlReason::AaCompromise),
        number => return Err(RevocationError::Reason { number }),
    };
    Ok(CertStatus::revoked(RevokedInfo { revocation_time: instant(at)?, revocation_reason }))
}

fn instant(at: OffsetDateTime) -> Result<OcspGeneralizedTime, RevocationError> {
    let seconds = u64::try_from(at.unix_timestamp()).map_err(|_| RevocationError::Instant)?;
    Ok(OcspGeneralizedTime(GeneralizedTime::from_unix_duration(std::time::Duration::from_secs(seconds))?))
}
