//! Private keys: a wrapper that cannot be printed by accident, and reading one from PEM.

use std::fmt;

use rcgen::KeyPair;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

/// A private key in PKCS #8 PEM. `Debug` hides it, and there is no `Display`: it can only be
/// taken out by name.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeyPem(String);

impl PrivateKeyPem {
    pub(crate) fn of(key: &KeyPair) -> Self {
        Self(key.serialize_pem())
    }

    /// The key's PEM text. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The key's PEM text, by value. Never log it.
    pub fn into_exposed(self) -> String {
        self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem([hidden])")
    }
}

/// Reads a private key in PKCS #8, SEC 1 or PKCS #1 PEM; `None` if it is none of them.
pub(crate) fn key_from_pem(text: &[u8]) -> Option<KeyPair> {
    let der = PrivateKeyDer::from_pem_slice(text).ok()?;
    KeyPair::try_from(&der).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn debug_output_never_holds_the_key() {
        let pem = PrivateKeyPem::of(&KeyPair::generate().unwrap());
        let body = pem.expose().lines().nth(1).unwrap();
        assert!(!format!("{pem:?} {:#?}", Some(&pem)).contains(body));
    }

    #[test]
    fn text_that_is_no_key_is_refused() {
        assert!(key_from_pem(b"").is_none());
        assert!(key_from_pem(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").is_none());
    }
}
