//! What the HTTPS listener makes of certificates that clients show.

use std::sync::Arc;

use covey_pki::{Authority, CertificateLifetimes, ServerCertResolver, ServerNames, https_server_config};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use crate::tls::{At, handshake, provider, root_of};
use crate::{NOW, chain, new_authority, open};

/// The listener, as it is at `now`.
fn listener(authority: &Authority, now: OffsetDateTime) -> Arc<ServerConfig> {
    let names = ServerNames::from_hosts(["localhost"]);
    let certificate = authority.server_certificate(&names, NOW).unwrap();
    let config = https_server_config(Arc::new(ServerCertResolver::new(&certificate).unwrap())).unwrap();
    let mut config = ServerConfig::clone(&config);
    config.time_provider = Arc::new(At(now));
    Arc::new(config)
}

/// Shows what it is given, whether or not certificate and key belong together.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn client(
    authority: &Authority,
    shown: Option<(&CertificateDer<'static>, &KeyPair)>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(At(NOW)))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(root_of(authority));
    let Some((certificate, key)) = shown else { return builder.with_no_client_auth() };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = any_supported_type(&key).unwrap();
    builder.with_client_cert_resolver(Arc::new(Shows(Arc::new(CertifiedKey::new(
        vec![certificate.clone()],
        key,
    )))))
}

/// A certificate that nobody but its owner has signed, valid for an hour around [`NOW`].
fn self_signed(uses: &[ExtendedKeyUsagePurpose]) -> (CertificateDer<'static>, KeyPair) {
    let mut params = CertificateParams::new(["app.example".to_owned()]).unwrap();
    params.extended_key_usages = uses.to_vec();
    params.not_before = NOW - Duration::minutes(30);
    params.not_after = NOW + Duration::minutes(30);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().der().clone(), key)
}

#[test]
fn a_certificate_of_any_issuer_is_taken_and_so_is_none() {
    let (_dir, authority) = new_authority();
    let listener = listener(&authority, NOW);
    for version in [&TLS12, &TLS13] {
        for uses in [&[][..], &[ExtendedKeyUsagePurpose::ClientAuth]] {
            let (certificate, key) = self_signed(uses);
            let (_, server) =
                handshake(client(&authority, Some((&certificate, &key)), version), listener.clone()).unwrap();
            assert_eq!(server.peer_certificates().unwrap(), std::slice::from_ref(&certificate));
        }
        let (_, server) = handshake(client(&authority, None, version), listener.clone()).unwrap();
        assert!(server.peer_certificates().is_none());
    }
}

#[test]
fn who_does_not_hold_the_key_is_refused() {
    let (_dir, authority) = new_authority();
    let listener = listener(&authority, NOW);
    let (certificate, _) = self_signed(&[]);
    let other_key = KeyPair::generate().unwrap();
    for version in [&TLS12, &TLS13] {
        let thief = client(&authority, Some((&certificate, &other_key)), version);
        let error = handshake(thief, listener.clone()).unwrap_err();
        assert!(error.to_string().contains("BadSignature"), "{error}");
    }
}

#[test]
fn a_certificate_outside_its_time_or_not_for_clients_is_refused() {
    let (_dir, authority) = new_authority();
    let (certificate, key) = self_signed(&[]);
    for version in [&TLS12, &TLS13] {
        for (minutes, refusal) in [(-31, "NotValidYet"), (-30, ""), (30, ""), (31, "Expired")] {
            let listener = listener(&authority, NOW + Duration::minutes(minutes));
            let shown = handshake(client(&authority, Some((&certificate, &key)), version), listener);
            match shown {
                Ok(_) => assert_eq!(refusal, "", "{minutes}"),
                Err(error) => assert!(!refusal.is_empty() && error.to_string().contains(refusal), "{error}"),
            }
        }
        let (certificate, key) = self_signed(&[ExtendedKeyUsagePurpose::ServerAuth]);
        let shown = client(&authority, Some((&certificate, &key)), version);
        let error = handshake(shown, listener(&authority, NOW)).unwrap_err();
        assert!(error.to_string().contains("InvalidPurpose"), "{error}");
    }
}

#[test]
fn an_issuing_ca_of_before_is_shown_and_what_it_has_signed_is_known_without_it() {
    let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (root, pki, lifetimes) =
        (root.path().join("root"), dir.path().join("pki"), CertificateLifetimes::default());
    Authority::create_root(&root, lifetimes, NOW).unwrap();
    let issuing_anew = || {
        let request = std::fs::read_to_string(Authority::request_issuing(&pki).unwrap()).unwrap();
        let signed = Authority::sign_issuing(&root, &request, lifetimes, NOW).unwrap();
        Authority::install_issuing(&pki, &signed, NOW).unwrap();
        open(&dir, NOW)
    };
    let before = issuing_anew();
    let device = chain(&before.issue_device("lamp", NOW).unwrap().certificate_pem);
    let (former, leaf) = (before.issuing_der().clone(), &device[..1]);
    drop(before);
    let authority = issuing_anew();
    assert_eq!(authority.client_of(leaf).unwrap().common_name, "lamp");
    let shown = authority.certificates_alone().unwrap();
    for der in [authority.root_der(), authority.issuing_der(), &former] {
        assert!(shown.windows(der.len()).any(|part| part == der.as_ref()));
    }
    // Those of another deployment are nobody's here.
    assert_eq!(new_authority().1.client_of(&device), None);
}
