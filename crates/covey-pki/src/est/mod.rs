//! The forms of EST (RFC 7030, RFC 8951): certificates alone in PKCS #7, a request in DER, the attributes that a
//! request should have, and whom a client's certificate stands for. As bytes: who asks, and how, is the business of others.

mod client;
mod request;

use cms::content_info::ContentInfo;
use der::asn1::{AnyRef, ObjectIdentifier, SetOfVec};
use der::{Decode, Encode};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

pub(crate) use client::is_for_claims;
pub use client::{ClientOfAuthority, RA_PURPOSE};
pub use request::{NamedRequest, named_request};

use crate::authority::Authority;
use crate::error::PkiError;

/// ECDSA with SHA-256 (RFC 5758 section 3.2).
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// Elliptic curves by name, and P-256 (RFC 5480 sections 2.1.1 and 2.1.1.1).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// The first certificate of a PEM text alone in PKCS #7 (RFC 7030 section 4.2.3: only the certificate that was issued).
///
/// # Errors
/// [`PkiError::Form`] for a text without certificates.
pub fn first_alone(pem: &str) -> Result<Vec<u8>, PkiError> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| PkiError::Form)?;
    certificates_alone(&[&certificate])
}

/// What a request should have (RFC 7030 section 4.5.2): a key on P-256, and a signature with SHA-256. Others are taken, too.
///
/// # Errors
/// [`PkiError::Form`], which cannot be: it is made of constants.
pub fn request_attributes() -> Result<Vec<u8>, PkiError> {
    let made = || -> der::Result<Vec<u8>> {
        let curves = SetOfVec::try_from(vec![P256])?;
        let key = [EC_PUBLIC_KEY.to_der()?, curves.to_der()?].concat();
        let key = AnyRef::new(der::Tag::Sequence, &key)?.to_der()?;
        AnyRef::new(der::Tag::Sequence, &[key, ECDSA_WITH_SHA256.to_der()?].concat())?.to_der()
    };
    made().map_err(|_| PkiError::Form)
}

/// Certificates alone in PKCS #7: no signature, and nothing that is signed (RFC 5652 section 5.2).
fn certificates_alone(certificates: &[&CertificateDer<'_>]) -> Result<Vec<u8>, PkiError> {
    let made = || -> der::Result<Vec<u8>> {
        let each = certificates.iter().map(|der| cms::cert::x509::Certificate::from_der(der));
        ContentInfo::try_from(each.collect::<der::Result<Vec<_>>>()?)?.to_der()
    };
    made().map_err(|_| PkiError::Form)
}

impl Authority {
    /// What devices trust, and what signs them or has signed them before, alone in PKCS #7 (RFC 7030 section 4.1.3).
    ///
    /// # Errors
    /// [`PkiError::Form`] for a CA certificate that has no form of DER.
    pub fn certificates_alone(&self) -> Result<Vec<u8>, PkiError> {
        certificates_alone(&std::iter::once(self.root_der()).chain(self.issuing_ders()).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_text_without_a_certificate_is_refused() {
        assert!(matches!(first_alone("hello"), Err(PkiError::Form)));
    }

    #[test]
    fn the_attributes_name_a_curve_and_a_signature() {
        let der = request_attributes().unwrap();
        // SEQUENCE { SEQUENCE { ecPublicKey, SET { P-256 } }, ecdsa-with-SHA256 }
        let shown: String = der.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, "3021301506072a8648ce3d0201310a06082a8648ce3d03010706082a8648ce3d040302");
    }
}
