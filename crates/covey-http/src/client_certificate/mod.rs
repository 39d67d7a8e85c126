//! Client certificates as credentials. One is registered by its fingerprint,
//! as a key that is pinned: its issuer does not matter, and its owner must
//! have proved to hold the key in a TLS handshake, with this server or with a
//! trusted proxy.

mod peer;
mod proxy;

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use covey_core::id::UnixMs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Version;

pub(crate) use peer::Peer;
pub use proxy::{HANDED_ON_HEADER, PROXY_NAME};
pub(crate) use proxy::{ProxyTrust, handed_on, handed_on_der};

/// What the text begins with under which a certificate is registered. No API
/// key begins with it, and none that does is taken from a header.
pub(crate) use covey_core::access::CERTIFICATE_TEXT_PREFIX as CREDENTIAL_PREFIX;
/// Longest certificate in PEM that may be registered, in bytes.
/// Limit for each certificate: 422.
pub(crate) const CERTIFICATE_PEM_BYTES_MAX: usize = 16 * 1024;

/// Shortest RSA key, in bits; TLS here takes none that is shorter.
const RSA_KEY_BITS_MIN: usize = 2048;
/// RSA (RFC 3279 §2.3.1).
const RSA: &str = "1.2.840.113549.1.1.1";
/// Elliptic curves by name (RFC 5480 §2.1.1).
const ELLIPTIC: &str = "1.2.840.10045.2.1";
/// P-256, P-384 and P-521 (RFC 5480 §2.1.1.1), the curves of TLS here.
const CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];
/// Ed25519 (RFC 8410 §3).
const ED25519: &str = "1.3.101.112";

/// What counts of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    sha256_hex: String,
    serial_hex: String,
    valid_s: RangeInclusive<i64>,
}

impl ClientCertificate {
    /// Reads the DER of one certificate.
    ///
    /// # Errors
    /// Why it can be no credential.
    pub(crate) fn read(der: &[u8]) -> Result<Self, &'static str> {
        let Ok(([], certificate)) = X509Certificate::from_der(der) else {
            return Err("is no certificate (X.509)");
        };
        if certificate.version() != X509Version::V3 {
            return Err("must be a certificate of X.509 version 3");
        }
        // Absent, it may be used for anything (RFC 5280 §4.2.1.12).
        let uses = certificate.extended_key_usage().map_err(|_| "has an extension that cannot be read")?;
        if uses.is_some_and(|uses| !uses.value.client_auth && !uses.value.any) {
            return Err("must be for TLS clients: its extended key usage lacks clientAuth");
        }
        if !has_good_key(&certificate) {
            return Err(
                "must have an RSA key of at least 2048 bits, or one on P-256, P-384, P-521 or Ed25519",
            );
        }
        let validity = certificate.validity();
        Ok(Self {
            sha256_hex: hex(&Sha256::digest(der)),
            serial_hex: hex(serial(&certificate)),
            valid_s: validity.not_before.timestamp()..=validity.not_after.timestamp(),
        })
    }

    /// Reads the first certificate of a PEM text; those that issued it may follow.
    ///
    /// # Errors
    /// Why it can be no credential.
    pub(crate) fn read_pem(text: &str) -> Result<Self, &'static str> {
        if text.len() > CERTIFICATE_PEM_BYTES_MAX {
            return Err("must be at most 16384 bytes");
        }
        if text.contains("PRIVATE KEY-----") {
            return Err("must hold the certificate alone; the private key stays with its owner");
        }
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| "is no certificate in PEM")?;
        Self::read(&der)
    }

    /// SHA-256 of the DER, in lowercase hex: the fingerprint as openssl shows
    /// it, without colons.
    pub(crate) fn sha256_hex(&self) -> &str {
        &self.sha256_hex
    }

    /// Its serial number, in lowercase hex, as devices' certificates are registered.
    pub(crate) fn serial_hex(&self) -> &str {
        &self.serial_hex
    }

    /// The text under which it is registered.
    pub(crate) fn credential(&self) -> String {
        format!("{CREDENTIAL_PREFIX}{}", self.sha256_hex)
    }

    /// Whether it is in its time, both ends included (RFC 5280 §4.1.2.5).
    pub(crate) fn is_valid_at(&self, now: UnixMs) -> bool {
        self.valid_s.contains(&now.0.div_euclid(1_000))
    }

    /// Until when it is valid.
    pub(crate) fn valid_until(&self) -> UnixMs {
        UnixMs(self.valid_s.end().saturating_mul(1_000))
    }

    /// Whether its time is over.
    pub(crate) fn is_over_at(&self, now: UnixMs) -> bool {
        now.0.div_euclid(1_000) > *self.valid_s.end()
    }
}

/// The serial number without the zero byte that DER puts before a high bit.
fn serial<'c>(certificate: &'c X509Certificate<'_>) -> &'c [u8] {
    match certificate.raw_serial() {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    }
}

fn has_good_key(certificate: &X509Certificate<'_>) -> bool {
    let key = certificate.public_key();
    match key.algorithm.algorithm.to_id_string().as_str() {
        RSA => matches!(key.parsed(), Ok(PublicKey::RSA(rsa)) if rsa.key_size() >= RSA_KEY_BITS_MIN),
        ELLIPTIC => {
            let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
            curve.is_some_and(|curve| CURVES.contains(&curve.to_id_string().as_str()))
        }
        other => other == ED25519,
    }
}

/// Lowercase hex, two digits a byte.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
