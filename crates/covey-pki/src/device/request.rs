//! Reading a device's signing request: what is accepted, and the public key that comes out.
//!
//! The request is parsed here and not by rcgen's own reader, which refuses requests with
//! extensions it does not know; device tool chains put many such things in.

use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData,
    SignatureAlgorithm,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_RSASSAPSS,
    OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::error::{PkiError, shortened};

/// Bytes a signing request may have at most, in PEM.
pub const DEVICE_REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Bits an RSA key must have at least (NIST SP 800-57 part 1: 112 bits of strength).
pub const RSA_KEY_BITS_MIN: usize = 2048;

/// Bits an RSA key may have at most: beyond it TLS libraries refuse the handshake.
const RSA_KEY_BITS_MAX: usize = 8192;

/// Bytes of an uncompressed point (RFC 5480 section 2.2): 0x04, X, Y.
const P256_POINT_BYTES: usize = 1 + 2 * 32;
const P384_POINT_BYTES: usize = 1 + 2 * 48;

const ED25519_KEY_BYTES: usize = 32;

/// The header that older tool chains write.
const OLD_LABEL: &str = "NEW CERTIFICATE REQUEST";
const LABEL: &str = "CERTIFICATE REQUEST";

/// A public key whose holder has proved to hold the private one.
pub(crate) struct VerifiedPublicKey {
    key: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl PublicKeyData for VerifiedPublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// Reads a signing request for the device `sn`, checks it, and takes its public key out.
pub(crate) fn verified_public_key(sn: &str, csr_pem: &str) -> Result<VerifiedPublicKey, PkiError> {
    if csr_pem.len() > DEVICE_REQUEST_BYTES_MAX {
        return Err(PkiError::RequestTooLarge { bytes: csr_pem.len(), bytes_max: DEVICE_REQUEST_BYTES_MAX });
    }
    let pem = csr_pem.replace(OLD_LABEL, LABEL);
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| PkiError::RequestUnreadable)?;
    let (rest, request) =
        X509CertificationRequest::from_der(&der).map_err(|_| PkiError::RequestUnreadable)?;
    if !rest.is_empty() {
        return Err(PkiError::RequestUnreadable);
    }
    check_common_name(sn, &request)?;
    // The key first: "too short" tells more than "signature algorithm not accepted".
    let public_key = accepted_key(&request.certification_request_info.subject_pki)?;
    check_signature(&request)?;
    Ok(public_key)
}

fn check_common_name(sn: &str, request: &X509CertificationRequest<'_>) -> Result<(), PkiError> {
    let subject = &request.certification_request_info.subject;
    for attribute in subject.iter_common_name() {
        // A name that is no plain text cannot be an SN.
        let common_name = attribute.as_str().unwrap_or("(unreadable)");
        if common_name != sn {
            return Err(PkiError::RequestNameMismatch {
                common_name: shortened(common_name),
                sn: sn.to_owned(),
            });
        }
    }
    Ok(())
}

/// Checks that the sender holds the private key (RFC 2986 section 3).
fn check_signature(request: &X509CertificationRequest<'_>) -> Result<(), PkiError> {
    // A list of our own, because the verifier would also take SHA-1.
    let accepted = [
        OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA,
        OID_PKCS1_SHA512WITHRSA,
        OID_PKCS1_RSASSAPSS,
        OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384,
        OID_SIG_ED25519,
    ];
    if !accepted.contains(&request.signature_algorithm.algorithm) {
        return Err(PkiError::RequestSignatureAlgorithm);
    }
    request.verify_signature().map_err(|error| match error {
        X509Error::SignatureUnsupportedAlgorithm => PkiError::RequestSignatureAlgorithm,
        _ => PkiError::RequestSignature,
    })
}

/// The key, if it is of a kind and size that is accepted. Whether it is a sound key (a point on
/// its curve, an odd exponent) shows when the signature is verified with it.
fn accepted_key(info: &SubjectPublicKeyInfo<'_>) -> Result<VerifiedPublicKey, PkiError> {
    let bits = &info.subject_public_key;
    if bits.unused_bits != 0 {
        return Err(PkiError::RequestKeyUnsupported);
    }
    let kind = &info.algorithm.algorithm;
    let algorithm = if *kind == OID_PKCS1_RSAENCRYPTION {
        check_rsa_size(info)?;
        // What is written into the certificate for the key is rsaEncryption alone; the hash in
        // the name has no part in it.
        &PKCS_RSA_SHA256
    } else if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        accepted_curve(info)?
    } else if *kind == OID_SIG_ED25519 && bits.data.len() == ED25519_KEY_BYTES {
        &PKCS_ED25519
    } else {
        return Err(PkiError::RequestKeyUnsupported);
    };
    Ok(VerifiedPublicKey { key: bits.data.to_vec(), algorithm })
}

fn check_rsa_size(info: &SubjectPublicKeyInfo<'_>) -> Result<(), PkiError> {
    let Ok(PublicKey::RSA(rsa)) = info.parsed() else {
        return Err(PkiError::RequestUnreadable);
    };
    let zeros = rsa.modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = &rsa.modulus[zeros..];
    let bits = modulus.first().map_or(0, |top| modulus.len() * 8 - top.leading_zeros() as usize);
    if (RSA_KEY_BITS_MIN..=RSA_KEY_BITS_MAX).contains(&bits) {
        Ok(())
    } else {
        Err(PkiError::RequestKeySize { bits })
    }
}

fn accepted_curve(info: &SubjectPublicKeyInfo<'_>) -> Result<&'static SignatureAlgorithm, PkiError> {
    let curve = info
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok())
        .ok_or(PkiError::RequestKeyUnsupported)?;
    let point = &info.subject_public_key.data;
    // TLS knows uncompressed points only (RFC 8446 section 4.2.8.2).
    let uncompressed = point.first() == Some(&0x04);
    if curve == OID_EC_P256 && uncompressed && point.len() == P256_POINT_BYTES {
        Ok(&PKCS_ECDSA_P256_SHA256)
    } else if curve == OID_NIST_EC_P384 && uncompressed && point.len() == P384_POINT_BYTES {
        Ok(&PKCS_ECDSA_P384_SHA384)
    } else {
        Err(PkiError::RequestKeyUnsupported)
    }
}
