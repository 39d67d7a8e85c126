//! The keys of an issuer, from one document: PEM, a JWK, or a set of JWKs (RFC 7517 §5).

use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use crate::algorithm::Algorithm;
use crate::key::{KeyFault, PublicKey};

/// Largest document with keys, in bytes.
/// Limit for each issuer: it is not taken, and the keys that were read before go on to be used.
pub const KEY_SET_BYTES_MAX: usize = 256 * 1024;
/// How many keys of an issuer are used.
/// Limit for each issuer: others are passed over.
const KEYS_MAX: usize = 100;

/// The keys of an issuer that can be used.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<PublicKey>,
    passed_over: usize,
}

impl KeySet {
    /// Reads a document. Of a set, keys are passed over that cannot be used here (RFC 7517 §5); one with a private key is not taken,
    /// since whoever reads it can sign.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(document: &[u8]) -> Result<Self, KeyFault> {
        if document.len() > KEY_SET_BYTES_MAX {
            return Err(KeyFault::TooLarge);
        }
        if document.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Self::read_pem(document);
        }
        let document: Value = serde_json::from_slice(document).map_err(|_| KeyFault::Form)?;
        match document.get("keys") {
            Some(Value::Array(keys)) if keys.iter().any(|jwk| jwk.get("d").is_some()) => {
                Err(KeyFault::Private)
            }
            Some(Value::Array(keys)) => Self::of(keys.iter().map(PublicKey::of_jwk)),
            None if document.get("kty").is_some() => {
                Ok(Self { keys: vec![PublicKey::of_jwk(&document)?], passed_over: 0 })
            }
            _ => Err(KeyFault::Form),
        }
    }

    fn read_pem(document: &[u8]) -> Result<Self, KeyFault> {
        let text = str::from_utf8(document).map_err(|_| KeyFault::Form)?;
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyFault::Private);
        }
        let keys: Result<Vec<_>, _> = SubjectPublicKeyInfoDer::pem_slice_iter(document).collect();
        let keys = keys.ok().filter(|keys| !keys.is_empty()).ok_or(KeyFault::Form)?;
        Self::of(keys.iter().map(|der| PublicKey::of_spki(der)))
    }

    /// JWKs, of which so many are used.
    pub(crate) fn of_jwks(jwks: impl Iterator<Item = Value>, keys_max: usize) -> Self {
        Self::within(jwks.map(|jwk| PublicKey::of_jwk(&jwk)), keys_max)
    }

    fn of(found: impl Iterator<Item = Result<PublicKey, KeyFault>>) -> Result<Self, KeyFault> {
        let set = Self::within(found, KEYS_MAX);
        if set.keys.is_empty() { Err(KeyFault::None) } else { Ok(set) }
    }

    fn within(found: impl Iterator<Item = Result<PublicKey, KeyFault>>, keys_max: usize) -> Self {
        let mut set = Self::default();
        for key in found {
            match key {
                Ok(key) if set.keys.len() < keys_max => set.keys.push(key),
                _ => set.passed_over += 1,
            }
        }
        set
    }

    /// How many keys it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// How many keys of the document are not used.
    #[must_use]
    pub fn passed_over(&self) -> usize {
        self.passed_over
    }

    /// The one key that a token may be signed by that says it is signed so: the one of its name; where the token has no name, or
    /// the key has none, the only one of this algorithm. So each token costs one signature at most.
    pub(crate) fn key(&self, algorithm: Algorithm, id: Option<&str>) -> Option<&PublicKey> {
        let fitting = || self.keys.iter().filter(|key| key.algorithm == algorithm);
        let named = id.and_then(|id| fitting().find(|key| key.id.as_deref() == Some(id)));
        named.or_else(|| {
            let mut others = fitting().filter(|key| id.is_none() || key.id.is_none());
            let only = others.next()?;
            others.next().is_none().then_some(only)
        })
    }
}
