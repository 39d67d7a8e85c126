//! A certificate with its key in the forms that others want: PKCS #12, and DER.

use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey, PrivateKeyChain,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};

use crate::error::PkiError;
use crate::key::key_from_pem;

/// Rounds of the derivation of a key from a password, as OpenSSL 3 and Java have them or more.
const PASSWORD_ROUNDS: u32 = 10_000;
/// Longest password of a bundle, in characters.
/// Limit for each bundle: 422.
pub const BUNDLE_PASSWORD_CHARS_MAX: usize = 128;

/// A certificate with its key in PKCS #12 (RFC 7292): the chain and the root, under a name. Keys and certificates are
/// encrypted with AES-256 (PBES2, HMAC-SHA256), the whole is authenticated with HMAC-SHA256.
///
/// # Errors
/// [`PkiError::BundlePassword`] for a password that cannot be one; [`PkiError::Form`] for texts that are no chain with
/// its key.
pub fn pkcs12(
    name: &str,
    chain_pem: &str,
    root_pem: &str,
    key_pem: &str,
    password: &str,
) -> Result<Vec<u8>, PkiError> {
    check_bundle_password(password)?;
    let chain = certificates(&[chain_pem, root_pem])?;
    let leaf = chain.first().ok_or(PkiError::Form)?;
    let id: [u8; 20] = std::array::from_fn({
        let digest = Sha256::digest(leaf.as_ref());
        move |place| digest[place]
    });
    let key = PrivateKey::from_der(&key_der(key_pem)?).map_err(|_| PkiError::Form)?;
    let each = chain.iter().map(|der| Certificate::from_der(der).map_err(|_| PkiError::Form));
    let chain = PrivateKeyChain::new(id.to_vec(), key, each.collect::<Result<Vec<_>, _>>()?);
    let mut store = KeyStore::new();
    store.add_entry(name, KeyStoreEntry::PrivateKeyChain(chain));
    store
        .writer(password)
        .encryption_algorithm(EncryptionAlgorithm::PbeWithHmacSha256AndAes256)
        .encryption_iterations(PASSWORD_ROUNDS)
        .mac_algorithm(MacAlgorithm::HmacSha256)
        .mac_iterations(PASSWORD_ROUNDS)
        .write()
        .map_err(|_| PkiError::Form)
}

/// Each certificate of these texts in DER, in their order.
///
/// # Errors
/// [`PkiError::Form`] if one is broken, or there is none.
pub fn certificates_der(pems: &[&str]) -> Result<Vec<Vec<u8>>, PkiError> {
    Ok(certificates(pems)?.iter().map(|der| der.to_vec()).collect())
}

/// A private key in PKCS #8 DER.
///
/// # Errors
/// [`PkiError::Form`] for a text that is no key.
pub fn key_der(pem: &str) -> Result<Vec<u8>, PkiError> {
    let key = key_from_pem(pem.as_bytes()).ok_or(PkiError::Form)?;
    match PrivatePkcs8KeyDer::from(key).into() {
        PrivateKeyDer::Pkcs8(key) => Ok(key.secret_pkcs8_der().to_vec()),
        _ => Err(PkiError::Form),
    }
}

fn certificates(pems: &[&str]) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let each = pems.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()));
    let found: Vec<_> = each.collect::<Result<_, _>>().map_err(|_| PkiError::Form)?;
    if found.is_empty() { Err(PkiError::Form) } else { Ok(found) }
}

/// Checks the password of a bundle. Programs differ in what they make of characters outside ASCII, and a key whose password
/// two programs read differently is lost.
///
/// # Errors
/// [`PkiError::BundlePassword`].
pub fn check_bundle_password(password: &str) -> Result<(), PkiError> {
    let is_good = (1..=BUNDLE_PASSWORD_CHARS_MAX).contains(&password.len())
        && password.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if is_good { Ok(()) } else { Err(PkiError::BundlePassword) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_password_is_of_characters_that_all_programs_read_alike() {
        for good in ["a", "covey 1!", &"x".repeat(BUNDLE_PASSWORD_CHARS_MAX)] {
            assert!(check_bundle_password(good).is_ok(), "{good}");
        }
        for bad in ["", "ü", "a\n", &"x".repeat(BUNDLE_PASSWORD_CHARS_MAX + 1)] {
            assert!(matches!(check_bundle_password(bad), Err(PkiError::BundlePassword)), "{bad}");
        }
    }

    #[test]
    fn what_is_no_certificate_or_key_is_put_into_no_form() {
        assert!(matches!(key_der("hello"), Err(PkiError::Form)));
        assert!(matches!(certificates_der(&["hello"]), Err(PkiError::Form)));
        assert!(matches!(pkcs12("a", "hello", "", "hello", "secret"), Err(PkiError::Form)));
    }
}
