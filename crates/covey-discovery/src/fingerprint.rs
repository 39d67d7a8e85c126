//! Fingerprints of CA certificates: what a server announces, and what a client compares it with, to choose.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::error::DiscoveryError;

/// How many characters a fingerprint has.
pub(crate) const FINGERPRINT_CHARS: usize = 64;

/// The fingerprints of all certificates in a text of PEM: SHA-256 of each in DER, as 64 hexadecimal digits.
///
/// # Errors
/// A text without a certificate.
pub fn fingerprints(pem: &[u8]) -> Result<Vec<String>, DiscoveryError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| DiscoveryError::NoCertificate)?;
    if certificates.is_empty() {
        return Err(DiscoveryError::NoCertificate);
    }
    Ok(certificates.iter().map(|certificate| fingerprint(certificate)).collect())
}

/// The fingerprint of one certificate in DER.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text looks like one.
pub(crate) fn is_fingerprint(text: &str) -> bool {
    text.len() == FINGERPRINT_CHARS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_fingerprint_is_that_of_the_der() {
        let pem = b"-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fingerprints(pem).unwrap(), [abc]);
        assert!(is_fingerprint(abc));
        for pem in ["", "hello", "-----BEGIN PRIVATE KEY-----\nYWJj\n-----END PRIVATE KEY-----\n"] {
            assert!(matches!(fingerprints(pem.as_bytes()), Err(DiscoveryError::NoCertificate)), "{pem}");
        }
        for text in ["", "BA7816", &abc.to_uppercase(), &abc[1..]] {
            assert!(!is_fingerprint(text), "{text}");
        }
    }
}
