//! A public key, from a JWK (RFC 7517) or a PEM block (RFC 7468 §13).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::verify;
use serde_json::Value;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey as ParsedKey;

use crate::algorithm::Algorithm;
use crate::compact::Compact;

/// Smallest RSA key, in bytes (RFC 7518 §3.3).
const RSA_BYTES_MIN: usize = 256;
/// Largest RSA key, in bytes: checking a signature takes longer with a larger one.
/// Limit for each key: it is not used.
const RSA_BYTES_MAX: usize = 1_024;
/// P-256 (RFC 5480 §2.1.1.1) and Ed25519 (RFC 8410 §3).
const P256_OID: &str = "1.2.840.10045.3.1.7";
const ED25519_OID: &str = "1.3.101.112";

/// Why a key is not used, or a document with keys not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The document is too large.
    #[error("is larger than 256 KiB")]
    TooLarge,
    /// Neither PEM nor JSON with keys.
    #[error("is neither a public key as PEM, nor a JWK, nor a set of them")]
    Form,
    /// It holds what nobody else may know.
    #[error("holds a private key or a shared secret: give the public key alone")]
    Private,
    /// None of its keys can be used.
    #[error("has no key for RS256 (2048 to 8192 bits), ES256 or EdDSA (Ed25519)")]
    None,
}

/// A key that tokens may be signed by.
#[derive(Clone, Debug)]
pub(crate) struct PublicKey {
    pub(crate) id: Option<String>,
    pub(crate) algorithm: Algorithm,
    key: DecodingKey,
}

impl PublicKey {
    /// Whether it has signed a token. The algorithm is the key's, so that no token chooses how a key is used (RFC 8725 §3.1).
    pub(crate) fn has_signed(&self, token: &Compact<'_>) -> bool {
        let signed = token.signed.as_bytes();
        verify(token.signature, signed, &self.key, self.algorithm.of_library()).unwrap_or(false)
    }

    /// A key as JSON.
    pub(crate) fn of_jwk(jwk: &Value) -> Result<Self, KeyFault> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if jwk.get("d").is_some() || jwk.get("k").is_some() {
            return Err(KeyFault::Private);
        }
        let bytes = |name: &str| text(name).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let (algorithm, key) = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => {
                let (n, e) = bytes("n").zip(bytes("e")).ok_or(KeyFault::None)?;
                (Algorithm::Rs256, rsa(&n, &e)?)
            }
            (Some("EC"), Some("P-256")) => {
                let (x, y) = bytes("x").zip(bytes("y")).ok_or(KeyFault::None)?;
                (Algorithm::Es256, ec(&[&[4], x.as_slice(), &y].concat())?)
            }
            (Some("OKP"), Some("Ed25519")) => (Algorithm::EdDsa, ed(&bytes("x").ok_or(KeyFault::None)?)?),
            _ => return Err(KeyFault::None),
        };
        let is_for_it = jwk.get("alg").is_none_or(|alg| {
            alg.as_str().and_then(Algorithm::from_name).is_some_and(|named| named == algorithm)
        });
        let is_for_signatures = jwk.get("use").is_none_or(|used| used.as_str() == Some("sig"))
            && jwk
                .get("key_ops")
                .is_none_or(|ops| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify")));
        if !is_for_it || !is_for_signatures {
            return Err(KeyFault::None);
        }
        Ok(Self { id: text("kid").map(ToOwned::to_owned), algorithm, key })
    }

    /// A key as X.509 has it.
    pub(crate) fn of_spki(der: &[u8]) -> Result<Self, KeyFault> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyFault::Form)?;
        let parameters = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let (algorithm, key) = match info.parsed().map_err(|_| KeyFault::Form)? {
            ParsedKey::RSA(parts) => (Algorithm::Rs256, rsa(parts.modulus, parts.exponent)?),
            ParsedKey::EC(point) if parameters.is_some_and(|oid| oid.to_id_string() == P256_OID) => {
                (Algorithm::Es256, ec(point.data())?)
            }
            _ if info.algorithm.algorithm.to_id_string() == ED25519_OID => {
                (Algorithm::EdDsa, ed(&info.subject_public_key.data)?)
            }
            _ => return Err(KeyFault::None),
        };
        Ok(Self { id: None, algorithm, key })
    }
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<DecodingKey, KeyFault> {
    let trimmed = |number: &[u8]| {
        let begin = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
        number[begin..].to_vec()
    };
    let (modulus, exponent) = (trimmed(modulus), trimmed(exponent));
    if !(RSA_BYTES_MIN..=RSA_BYTES_MAX).contains(&modulus.len()) || exponent.is_empty() {
        return Err(KeyFault::None);
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn ec(point: &[u8]) -> Result<DecodingKey, KeyFault> {
    (point.len() == 65).then(|| DecodingKey::from_ec_der(point)).ok_or(KeyFault::None)
}

fn ed(key: &[u8]) -> Result<DecodingKey, KeyFault> {
    (key.len() == 32).then(|| DecodingKey::from_ed_der(key)).ok_or(KeyFault::None)
}
