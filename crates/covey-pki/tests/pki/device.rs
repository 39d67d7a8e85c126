//! What stands in a device certificate.

use covey_pki::{Authority, CertificateLifetimes, PkiError};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use time::Duration;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::parse_x509_certificate;
use x509_parser::public_key::PublicKey;

use crate::{NOW, chain, new_authority};

#[test]
fn a_device_certificate_says_client_sn_and_nothing_else() {
    let (_dir, authority) = new_authority();
    let sn = "a3b0000000c10221d290825";
    let issued = authority.issue_device(sn, NOW).unwrap();
    assert_eq!(issued.ca_pem, authority.root_pem());
    let chain = chain(&issued.certificate_pem);
    assert_eq!(chain.len(), 2);
    assert_eq!(&chain[1], authority.issuing_der());

    let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
    let (_, issuing) = parse_x509_certificate(authority.issuing_der()).unwrap();
    leaf.verify_signature(Some(issuing.public_key())).unwrap();
    assert_eq!(leaf.subject().to_string(), format!("CN={sn}"));
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::DNSName(sn)]);
    let uses = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(uses.client_auth && !uses.server_auth && !uses.any && uses.other.is_empty());
    assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 1);
    assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
    assert_eq!(leaf.serial.to_str_radix(16), issued.serial_hex);
    assert_eq!(leaf.validity().not_after.timestamp(), issued.not_after_s);
    assert_eq!(leaf.validity().not_before.to_datetime(), NOW - Duration::minutes(5));

    let key_id_of = |wanted: &x509_parser::certificate::X509Certificate<'_>, own: bool| {
        wanted.extensions().iter().find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) if own => Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) if !own => {
                Some(id.key_identifier.as_ref()?.0.to_vec())
            }
            _ => None,
        })
    };
    assert!(key_id_of(&leaf, true).is_some());
    assert_eq!(key_id_of(&leaf, false), key_id_of(&issuing, true));
}

#[test]
fn certificates_of_one_device_differ_in_key_and_serial() {
    let (_dir, authority) = new_authority();
    let first = authority.issue_device("d_1", NOW).unwrap();
    let second = authority.issue_device("d_1", NOW).unwrap();
    assert_ne!(first.serial_hex, second.serial_hex);
    assert_ne!(first.fingerprint_sha256, second.fingerprint_sha256);
    assert_ne!(first.private_key_pem, second.private_key_pem);
    let key = first.private_key_pem.clone().unwrap();
    assert!(!format!("{first:?}").contains(key.expose().lines().nth(1).unwrap()));
}

#[test]
fn a_device_that_knows_rsa_alone_gets_such_a_key_of_2048_bits() {
    let (_dir, authority) = new_authority();
    let issued = authority.issue_device_with_rsa_key("ft900device1", NOW).unwrap();
    let chain = chain(&issued.certificate_pem);
    let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
    assert_eq!(leaf.subject().to_string(), "CN=ft900device1");
    let PublicKey::RSA(public) = leaf.public_key().parsed().unwrap() else { panic!("no RSA key") };
    assert_eq!((public.key_size(), public.try_exponent().unwrap()), (2_048, 65_537));
    let (_, issuing) = parse_x509_certificate(authority.issuing_der()).unwrap();
    leaf.verify_signature(Some(issuing.public_key())).unwrap();
    // The private key is that of the certificate.
    let key = PrivateKeyDer::from_pem_slice(issued.private_key_pem.unwrap().expose().as_bytes()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let of_key = key.public_key().unwrap();
    assert_eq!(of_key.as_ref(), leaf.public_key().raw);
    assert!(authority.issue_device_with_rsa_key("a/b", NOW).is_err());
}

#[test]
fn no_device_certificate_outlives_the_issuing_ca() {
    let (_dir, authority) = new_authority();
    let end_s = authority.issuing_not_after().unix_timestamp();
    for now in [NOW, NOW + Duration::days(3000)] {
        let issued = authority.issue_device("d1", now).unwrap();
        assert_eq!(issued.not_after_s, end_s);
    }
    let dir = tempfile::tempdir().unwrap();
    let lifetimes = CertificateLifetimes {
        device: std::time::Duration::from_secs(20),
        ..CertificateLifetimes::default()
    };
    let short = Authority::open_or_create(dir.path(), lifetimes, NOW).unwrap();
    let issued = short.issue_device("d1", NOW).unwrap();
    assert_eq!(issued.not_after_s, NOW.unix_timestamp() + 20);
}

#[test]
fn an_sn_outside_the_alphabet_gets_no_certificate() {
    let (_dir, authority) = new_authority();
    for sn in ["", "a.b", "a/b", "a b", "é", "a\0", &"a".repeat(65)] {
        assert!(matches!(authority.issue_device(sn, NOW), Err(PkiError::DeviceSn { .. })));
        assert!(matches!(authority.sign_device_request(sn, "", NOW), Err(PkiError::DeviceSn { .. })));
    }
    for sn in ["a", "-", "_-_", &"Z".repeat(64)] {
        authority.issue_device(sn, NOW).unwrap();
    }
}
