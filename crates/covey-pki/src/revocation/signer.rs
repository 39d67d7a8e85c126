//! An issuing CA as one that speaks of its certificates: how requests name it, and its signature.

use const_oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_SHA_1, ID_SHA_256, SHA_256_WITH_RSA_ENCRYPTION,
};
use const_oid::db::rfc8410::ID_ED_25519;
use der::Any;
use der::asn1::{BitString, Null, OctetString};
use rcgen::{
    Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    SigningKey,
};
use rustls_pki_types::CertificateDer;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use spki::AlgorithmIdentifierOwned;
use x509_ocsp::{CertId, ResponderId};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use crate::certificate;
use crate::revocation::RevocationError;

/// The digests of a CA's name and of its key by which requests name it (RFC 6960 section 4.1.1).
struct Names {
    name: Vec<u8>,
    key: Vec<u8>,
}

impl Names {
    fn by<D: Digest>(certificate: &X509Certificate<'_>) -> Self {
        let key = &certificate.public_key().subject_public_key.data;
        Self {
            name: D::digest(certificate.subject().as_raw()).to_vec(),
            key: D::digest(key.as_ref()).to_vec(),
        }
    }

    fn are_of(&self, asked: &CertId) -> bool {
        asked.issuer_name_hash.as_bytes() == self.name && asked.issuer_key_hash.as_bytes() == self.key
    }
}

/// An issuing CA.
pub(super) struct Signer<'a> {
    pub(super) issuer: &'a Issuer<'static, KeyPair>,
    by_sha1: Names,
    by_sha256: Names,
    /// The identifier of its key, as its certificate has it.
    pub(super) key_identifier: Vec<u8>,
}

impl<'a> Signer<'a> {
    pub(super) fn new(
        der: &CertificateDer<'static>,
        issuer: &'a Issuer<'static, KeyPair>,
    ) -> Result<Self, RevocationError> {
        let parsed = certificate::parse(der).ok_or(RevocationError::Key)?;
        let (by_sha1, by_sha256) = (Names::by::<Sha1>(&parsed), Names::by::<Sha256>(&parsed));
        let told = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
            _ => None,
        });
        // Where the certificate names none, the digest of RFC 5280 section 4.2.1.2 (1).
        let key_identifier = told.unwrap_or_else(|| by_sha1.key.clone());
        Ok(Self { issuer, by_sha1, by_sha256, key_identifier })
    }

    /// Whether a request is about a certificate of this CA.
    pub(super) fn is_named_by(&self, asked: &CertId) -> bool {
        match asked.hash_algorithm.oid {
            ID_SHA_1 => self.by_sha1.are_of(asked),
            ID_SHA_256 => self.by_sha256.are_of(asked),
            _ => false,
        }
    }

    /// How answers name it: always by SHA-1 (RFC 6960 section 4.2.1).
    pub(super) fn responder_id(&self) -> Result<ResponderId, RevocationError> {
        Ok(ResponderId::ByKey(OctetString::new(self.by_sha1.key.clone())?))
    }

    /// The name of the signatures of its key.
    pub(super) fn algorithm(&self) -> Result<AlgorithmIdentifierOwned, RevocationError> {
        let key = self.issuer.key();
        let of = |oid, parameters| AlgorithmIdentifierOwned { oid, parameters };
        Ok(match key.algorithm() {
            kind if kind == &PKCS_ECDSA_P256_SHA256 => of(ECDSA_WITH_SHA_256, None),
            kind if kind == &PKCS_ECDSA_P384_SHA384 => of(ECDSA_WITH_SHA_384, None),
            kind if kind == &PKCS_ED25519 => of(ID_ED_25519, None),
            kind if kind == &PKCS_RSA_SHA256 => of(SHA_256_WITH_RSA_ENCRYPTION, Some(Any::from(Null))),
            _ => return Err(RevocationError::Key),
        })
    }

    /// Its signature.
    pub(super) fn sign(&self, message: &[u8]) -> Result<BitString, RevocationError> {
        Ok(BitString::from_bytes(&self.issuer.key().sign(message)?)?)
    }
}
