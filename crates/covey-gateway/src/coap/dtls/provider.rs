//! The cryptography that the DTLS library works with: that which is in the program already (AWS-LC, and AES-CCM of
//! RustCrypto, which AWS-LC for Rust does not have), for one cipher suite.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use aes::Aes128;
use aws_lc_rs::aead::{AES_128_GCM, Aad as GcmAad, LessSafeKey, Nonce as GcmNonce, UnboundKey};
use aws_lc_rs::{digest, hmac, rand};
use ccm::aead::AeadInPlace;
use ccm::consts::{U8, U12};
use ccm::{Ccm, KeyInit};
use dimpl::crypto::{
    Aad, Buf, Cipher, CryptoProvider, Dtls12CipherSuite, Dtls13CipherSuite, HashAlgorithm, HashContext,
    HashProvider, HmacProvider, KeyProvider, Nonce, SecureRandom, SignatureAlgorithm, SignatureVerifier,
    SigningKey, SupportedDtls12CipherSuite, SupportedDtls13CipherSuite, TmpBuf,
};
use dimpl::{CryptoError, CryptoOperation};

use super::hello::Cookie;

/// How many bytes the tags of CCM_8 and of GCM have.
const CCM_TAG_BYTES: usize = 8;
const GCM_TAG_BYTES: usize = 16;

/// The cookie that the library is to find good: the one that its message was checked for
/// ([`Cookies`](super::hello::Cookies)). The library makes cookies of its own, which say nothing of an address; it makes
/// them with [`HmacProvider::hmac_sha256`], and uses that for nothing else.
#[derive(Debug, Default)]
pub(super) struct Attested(Mutex<Option<Cookie>>);

impl Attested {
    /// Has the library find this cookie good, or none but its own.
    pub fn set(&self, cookie: Option<Cookie>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = cookie;
    }
}

impl HmacProvider for Attested {
    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> Result<[u8; 32], CryptoError> {
        if let Some(cookie) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(cookie);
        }
        let mut out = [0; 32];
        self.hmac(HashAlgorithm::SHA256, key, data, &mut out)?;
        Ok(out)
    }

    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        if hash != HashAlgorithm::SHA256 {
            return Err(CryptoError::UnsupportedHmacHash(hash));
        }
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
        let tag = tag.as_ref();
        out.get_mut(..tag.len()).ok_or(failed(CryptoOperation::ComputeHmac))?.copy_from_slice(tag);
        Ok(tag.len())
    }
}

/// What the library works with.
pub(super) fn provider(cookies: &'static Attested) -> CryptoProvider {
    CryptoProvider {
        kx_groups: &[],
        signature_verification: &NoCertificates,
        key_provider: &NoCertificates,
        secure_random: &Random,
        hash_provider: &Sha256,
        hmac_provider: cookies,
        cipher_suites: &[&PskAes128Ccm8],
        // No session has it: the library asks of each provider that it could.
        dtls13_cipher_suites: &[&Aes128Gcm],
    }
}

const fn failed(operation: CryptoOperation) -> CryptoError {
    CryptoError::OperationFailed(operation)
}

#[derive(Debug)]
struct Random;

impl SecureRandom for Random {
    fn fill(&self, buf: &mut [u8]) -> Result<(), CryptoError> {
        rand::fill(buf).map_err(|_| failed(CryptoOperation::FillRandom))
    }
}

#[derive(Debug)]
struct Sha256;

impl HashProvider for Sha256 {
    fn create_hash(&self, _: HashAlgorithm) -> Box<dyn HashContext> {
        // That of all suites above.
        Box::new(Hashing(digest::Context::new(&digest::SHA256)))
    }
}

struct Hashing(digest::Context);

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashing")
    }
}

impl HashContext for Hashing {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        out.clear();
        out.extend_from_slice(self.0.clone().finish().as_ref());
    }
}

/// Nobody shows a certificate.
#[derive(Debug)]
struct NoCertificates;

impl SignatureVerifier for NoCertificates {
    fn verify_signature(
        &self,
        _: &[u8],
        _: &[u8],
        _: &[u8],
        _: HashAlgorithm,
        _: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        Err(failed(CryptoOperation::VerifySignature))
    }
}

impl KeyProvider for NoCertificates {
    fn load_private_key(&self, _: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        Err(failed(CryptoOperation::Sign))
    }
}

/// TLS_PSK_WITH_AES_128_CCM_8 (RFC 6655), which every implementation of CoAP with pre-shared keys has (RFC 7252 §9.1.3.1).
#[derive(Debug)]
struct PskAes128Ccm8;

impl SupportedDtls12CipherSuite for PskAes128Ccm8 {
    fn suite(&self) -> Dtls12CipherSuite {
        Dtls12CipherSuite::PSK_AES128_CCM_8
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn key_lengths(&self) -> (usize, usize, usize) {
        (0, 16, 4)
    }

    fn explicit_nonce_len(&self) -> usize {
        8
    }

    fn tag_len(&self) -> usize {
        CCM_TAG_BYTES
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        let cipher = Ccm::new_from_slice(key).map_err(|_| failed(CryptoOperation::CreateCipher))?;
        Ok(Box::new(Ccm8(cipher)))
    }
}

struct Ccm8(Ccm<Aes128, U8, U12>);

impl fmt::Debug for Ccm8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ccm8")
    }
}

impl Cipher for Ccm8 {
    fn encrypt(&mut self, plaintext: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let tag = self.0.encrypt_in_place_detached(&nonce.0.into(), &aad, plaintext.as_mut());
        let tag = tag.map_err(|_| failed(CryptoOperation::Encrypt))?;
        plaintext.extend_from_slice(&tag);
        Ok(())
    }

    fn decrypt(&mut self, ciphertext: &mut TmpBuf<'_>, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let wrong = || failed(CryptoOperation::Decrypt);
        let text_bytes = ciphertext.len().checked_sub(CCM_TAG_BYTES).ok_or_else(wrong)?;
        let (text, tag) = ciphertext.as_mut().split_at_mut_checked(text_bytes).ok_or_else(wrong)?;
        let tag = <[u8; CCM_TAG_BYTES]>::try_from(&*tag).map_err(|_| wrong())?;
        self.0.decrypt_in_place_detached(&nonce.0.into(), &aad, text, &tag.into()).map_err(|_| wrong())?;
        ciphertext.truncate(text_bytes);
        Ok(())
    }
}

/// TLS_AES_128_GCM_SHA256 (RFC 9147).
#[derive(Debug)]
struct Aes128Gcm;

impl SupportedDtls13CipherSuite for Aes128Gcm {
    fn suite(&self) -> Dtls13CipherSuite {
        Dtls13CipherSuite::AES_128_GCM_SHA256
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn key_len(&self) -> usize {
        16
    }

    fn iv_len(&self) -> usize {
        12
    }

    fn tag_len(&self) -> usize {
        GCM_TAG_BYTES
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        let key = UnboundKey::new(&AES_128_GCM, key).map_err(|_| failed(CryptoOperation::CreateCipher))?;
        Ok(Box::new(Gcm(LessSafeKey::new(key))))
    }

    fn encrypt_sn(&self, sn_key: &[u8], sample: &[u8; 16]) -> [u8; 16] {
        use aes::cipher::BlockEncrypt;
        let mut block = (*sample).into();
        if let Ok(cipher) = Aes128::new_from_slice(sn_key) {
            cipher.encrypt_block(&mut block);
        }
        block.into()
    }
}

#[derive(Debug)]
struct Gcm(LessSafeKey);

impl Cipher for Gcm {
    fn encrypt(&mut self, plaintext: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = GcmNonce::assume_unique_for_key(nonce.0);
        self.0
            .seal_in_place_append_tag(nonce, GcmAad::from(&aad[..]), plaintext)
            .map_err(|_| failed(CryptoOperation::Encrypt))
    }

    fn decrypt(&mut self, ciphertext: &mut TmpBuf<'_>, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = GcmNonce::assume_unique_for_key(nonce.0);
        let opened = self.0.open_in_place(nonce, GcmAad::from(&aad[..]), ciphertext.as_mut());
        let text_bytes = opened.map_err(|_| failed(CryptoOperation::Decrypt))?.len();
        ciphertext.truncate(text_bytes);
        Ok(())
    }
}
