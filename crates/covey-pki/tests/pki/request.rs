//! Signing requests: those of real tool chains are signed, weak and wrong ones are refused.

use covey_pki::{DEVICE_REQUEST_BYTES_MAX, PkiError};
use proptest::prop_assert_eq;
use proptest::test_runner::TestRunner;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm,
};
use x509_parser::parse_x509_certificate;

use crate::{NOW, chain, new_authority};

const SN: &str = "fixture-device-1";
const RSA_2048: &str = include_str!("requests/rsa2048-with-extensions.csr");

pub fn request(common_name: Option<&str>, key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(common_name) = common_name {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    params.serialize_request(key).unwrap().pem().unwrap()
}

#[test]
fn every_accepted_kind_of_key_gets_a_certificate_for_that_key() {
    let (_dir, authority) = new_authority();
    let kinds: [&'static SignatureAlgorithm; 4] =
        [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA256];
    for kind in kinds {
        let key = KeyPair::generate_for(kind).unwrap();
        for common_name in [Some(SN), None] {
            let issued = authority.sign_device_request(SN, &request(common_name, &key), NOW).unwrap();
            assert!(issued.private_key_pem.is_none());
            let chain = chain(&issued.certificate_pem);
            let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
            assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
            assert_eq!(leaf.subject().to_string(), format!("CN={SN}"));
        }
    }
}

#[test]
fn nothing_but_the_key_is_taken_from_a_request() {
    let (_dir, authority) = new_authority();
    let issued = authority.sign_device_request(SN, RSA_2048, NOW).unwrap();
    let chain = chain(&issued.certificate_pem);
    let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
    assert_eq!(leaf.subject().to_string(), format!("CN={SN}"));
    assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
    assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 1);
    assert!(!leaf.extended_key_usage().unwrap().unwrap().value.server_auth);
    assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    // Alternative name, key use, extended key use, constraints, and the two key identifiers.
    assert_eq!(leaf.extensions().len(), 6);
}

#[test]
fn old_headers_line_ends_and_text_around_a_request_do_not_matter() {
    let (_dir, authority) = new_authority();
    for pem in [
        RSA_2048.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
        RSA_2048.replace('\n', "\r\n"),
        format!("Certificate Request:\n    Data:\n{RSA_2048}\n\n"),
    ] {
        authority.sign_device_request(SN, &pem, NOW).unwrap();
    }
}

#[test]
fn weak_and_unknown_keys_are_refused_by_name() {
    let (_dir, authority) = new_authority();
    let sign = |pem: &str| authority.sign_device_request(SN, pem, NOW).unwrap_err();
    assert!(matches!(sign(include_str!("requests/rsa1024.csr")), PkiError::RequestKeySize { bits: 1024 }));
    assert!(matches!(sign(include_str!("requests/rsa2048-sha1.csr")), PkiError::RequestSignatureAlgorithm));
    assert!(matches!(sign(include_str!("requests/secp256k1.csr")), PkiError::RequestKeyUnsupported));
    let p521 = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
    assert!(matches!(sign(&request(Some(SN), &p521)), PkiError::RequestKeyUnsupported));
}

#[test]
fn a_request_that_names_another_device_is_refused() {
    let (_dir, authority) = new_authority();
    let error = authority.sign_device_request("another-device", RSA_2048, NOW).unwrap_err();
    assert!(error.is_request_fault());
    let text = error.to_string();
    assert!(text.contains(SN) && text.contains("another-device"), "{text}");
}

#[test]
fn a_request_for_a_key_the_sender_does_not_hold_is_refused() {
    /// Signs with one key and claims another.
    struct Liar(KeyPair, KeyPair);
    impl PublicKeyData for Liar {
        fn der_bytes(&self) -> &[u8] {
            self.0.der_bytes()
        }
        fn algorithm(&self) -> &'static SignatureAlgorithm {
            self.0.algorithm()
        }
    }
    impl rcgen::SigningKey for Liar {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            self.1.sign(message)
        }
    }
    let (_dir, authority) = new_authority();
    let liar = Liar(KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let pem = params.serialize_request(&liar).unwrap().pem().unwrap();
    assert!(matches!(authority.sign_device_request(SN, &pem, NOW), Err(PkiError::RequestSignature)));
}

#[test]
fn garbage_and_other_pem_are_unreadable_and_large_input_is_not_read() {
    let (_dir, authority) = new_authority();
    for text in ["", "garbage", authority.root_pem(), "-----BEGIN CERTIFICATE REQUEST-----"] {
        assert!(matches!(authority.sign_device_request(SN, text, NOW), Err(PkiError::RequestUnreadable)));
    }
    let large = RSA_2048.to_owned() + &" ".repeat(DEVICE_REQUEST_BYTES_MAX);
    assert!(matches!(authority.sign_device_request(SN, &large, NOW), Err(PkiError::RequestTooLarge { .. })));
}

#[test]
fn a_changed_request_is_never_signed_for_another_key() {
    let (_dir, authority) = new_authority();
    let sign = |pem: &str| {
        let issued = authority.sign_device_request(SN, pem, NOW).ok()?;
        let chain = chain(&issued.certificate_pem);
        let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
        Some(leaf.public_key().raw.to_vec())
    };
    let original = sign(RSA_2048).unwrap();
    let position = 0..RSA_2048.len();
    let character = "[A-Za-z0-9+/=\\-\n ]";
    TestRunner::default()
        .run(&(position, character), |(position, character)| {
            let mut changed = RSA_2048.to_owned();
            changed.replace_range(position..=position, &character);
            if let Some(key) = sign(&changed) {
                prop_assert_eq!(key, original.clone());
            }
            Ok(())
        })
        .unwrap();
}
