//! What every certificate here has in common: serial number, fingerprint, and how one is read
//! back from PEM.

use rcgen::SerialNumber;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::error::PkiError;
use crate::lifetime::Validity;

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// A random serial number of 16 bytes. The top bits are fixed to 01, so that it is positive (RFC
/// 5280 section 4.1.2.2) and always 32 hex digits; 126 random bits are left.
pub(crate) fn random_serial() -> Result<[u8; 16], PkiError> {
    let mut serial = [0_u8; 16];
    getrandom::fill(&mut serial).map_err(|source| PkiError::Random { source })?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

pub(crate) fn serial_number(serial: [u8; 16]) -> SerialNumber {
    SerialNumber::from_slice(&serial)
}

/// SHA-256 of the certificate's DER, in lowercase hex: what `openssl x509 -fingerprint -sha256`
/// shows with colons.
pub(crate) fn fingerprint_sha256(der: &[u8]) -> String {
    hex(&Sha256::digest(der))
}

/// Lowercase hex, two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Parses one certificate; `None` if it is none or bytes follow it.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    match X509Certificate::from_der(der.as_ref()) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

/// From when to when a certificate is valid; `None` for dates that cannot be represented.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> Option<Validity> {
    let moment = |seconds| OffsetDateTime::from_unix_timestamp(seconds).ok();
    Some(Validity {
        not_before: moment(certificate.validity().not_before.timestamp())?,
        not_after: moment(certificate.validity().not_after.timestamp())?,
    })
}

/// The first certificate of a PEM text: its DER and its own PEM block, without what stands around
/// it.
pub(crate) fn first_from_pem(text: &str) -> Option<(CertificateDer<'static>, String)> {
    let der = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
    let begin = text.find(PEM_BEGIN)?;
    let end = begin + text[begin..].find(PEM_END)? + PEM_END.len();
    Some((der, format!("{}\n", &text[begin..end])))
}

/// DER under a label, in PEM (RFC 7468).
pub(crate) fn in_pem(label: &'static str, der: &[u8]) -> String {
    // Only a label that is none is refused, and these are ours.
    der::pem::encode_string(label, der::pem::LineEnding::LF, der).unwrap_or_default()
}

/// A certificate in PEM.
pub(crate) fn to_pem(der: &CertificateDer<'_>) -> String {
    in_pem("CERTIFICATE", der)
}

/// All certificates of a PEM text, in order; `None` if one is broken.
pub(crate) fn chain_from_pem(text: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn serials_are_positive_and_never_short() {
        for _ in 0..200 {
            let serial = random_serial().unwrap();
            assert!((0x40..0x80).contains(&serial[0]));
            assert_eq!(hex(&serial).len(), 32);
        }
    }

    #[test]
    fn fingerprints_are_lowercase_hex() {
        assert_eq!(
            fingerprint_sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
