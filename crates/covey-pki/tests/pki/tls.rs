//! Real handshakes in memory: both sides trust the root alone.

use std::sync::Arc;

use covey_pki::{
    Authority, CertificateLifetimes, IssuedDevice, ServerCertResolver, ServerNames, https_server_config,
};
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use rustls::client::ClientConnection;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ServerConnection, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, ServerName, UnixTime};
use time::{Duration, OffsetDateTime};

use crate::{NOW, chain, new_authority, request};

#[derive(Debug)]
pub struct At(pub OffsetDateTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = self.0 - OffsetDateTime::UNIX_EPOCH;
        Some(UnixTime::since_unix_epoch(since_epoch.try_into().unwrap()))
    }
}

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub fn root_of(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root_der().clone()).unwrap();
    Arc::new(roots)
}

/// A listener that demands device certificates.
fn device_listener(authority: &Authority, now: OffsetDateTime) -> Arc<ServerConfig> {
    let names = ServerNames::from_hosts(["localhost"]);
    let certificate = authority.server_certificate(&names, now).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(root_of(authority), provider()).build().unwrap();
    Arc::new(
        ServerConfig::builder_with_details(provider(), Arc::new(At(now)))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(ServerCertResolver::new(&certificate).unwrap())),
    )
}

fn device(
    trusted: &Authority,
    issued: &IssuedDevice,
    key: PrivateKeyDer<'static>,
    version: &'static SupportedProtocolVersion,
    now: OffsetDateTime,
) -> ClientConfig {
    ClientConfig::builder_with_details(provider(), Arc::new(At(now)))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(root_of(trusted))
        .with_client_auth_cert(chain(&issued.certificate_pem), key)
        .unwrap()
}

fn own_key(issued: &IssuedDevice) -> PrivateKeyDer<'static> {
    let pem = issued.private_key_pem.as_ref().unwrap().expose();
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Carries bytes to and fro until both have finished or one refuses.
pub fn handshake(
    client: ClientConfig,
    server: Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    for _ in 0..20 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

#[test]
fn a_device_and_the_server_accept_each_other_by_the_root_alone() {
    let (_dir, authority) = new_authority();
    let listener = device_listener(&authority, NOW);
    let made = authority.issue_device("device_1-", NOW).unwrap();
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let asked = authority.sign_device_request("rsa-device", &request::request(None, &rsa), NOW).unwrap();
    let rsa = || PrivateKeyDer::from(rustls_pki_types::PrivatePkcs8KeyDer::from(rsa.serialize_der()));
    for version in [&TLS12, &TLS13] {
        for (issued, key) in [(&made, own_key(&made)), (&asked, rsa())] {
            let client = device(&authority, issued, key, version, NOW);
            let (_, server) = handshake(client, listener.clone()).unwrap();
            assert_eq!(server.protocol_version(), Some(version.version));
            let peer = &server.peer_certificates().unwrap()[0];
            let (_, peer) = x509_parser::parse_x509_certificate(peer).unwrap();
            assert_eq!(peer.serial.to_str_radix(16), issued.serial_hex);
        }
    }
}

#[test]
fn devices_of_another_ca_are_refused_in_both_directions() {
    let (_dir, authority) = new_authority();
    let (_other_dir, other) = new_authority();
    let listener = device_listener(&authority, NOW);
    let stranger = other.issue_device("stranger", NOW).unwrap();
    for version in [&TLS12, &TLS13] {
        let client = device(&authority, &stranger, own_key(&stranger), version, NOW);
        let error = handshake(client, listener.clone()).unwrap_err();
        assert!(error.to_string().contains("UnknownIssuer"), "{error}");
        // And a device trusts no server of another CA.
        let client = device(&other, &stranger, own_key(&stranger), version, NOW);
        let error = handshake(client, listener.clone()).unwrap_err();
        assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    }
}

#[test]
fn an_expired_device_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let lifetimes = CertificateLifetimes {
        device: std::time::Duration::from_secs(60),
        ..CertificateLifetimes::default()
    };
    let authority = Authority::open_or_create(dir.path(), lifetimes, NOW).unwrap();
    let issued = authority.issue_device("d1", NOW).unwrap();
    for (age, accepted) in [(-240, true), (59, true), (61, false)] {
        let now = NOW + Duration::seconds(age);
        let listener = device_listener(&authority, now);
        let client = device(&authority, &issued, own_key(&issued), &TLS13, now);
        let result = handshake(client, listener);
        assert_eq!(result.is_ok(), accepted, "{age}");
        if let Err(error) = result {
            assert!(error.to_string().to_lowercase().contains("expired"), "{error}");
        }
    }
}

#[test]
fn a_server_certificate_does_not_pass_as_a_device() {
    let (_dir, authority) = new_authority();
    let listener = device_listener(&authority, NOW);
    let names = ServerNames::from_hosts(["localhost"]);
    let server = authority.server_certificate(&names, NOW).unwrap();
    let client = ClientConfig::builder_with_details(provider(), Arc::new(At(NOW)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(root_of(&authority))
        .with_client_auth_cert(server.chain().to_vec(), server.key().clone_key())
        .unwrap();
    assert!(handshake(client, listener).is_err());
}

#[test]
fn https_speaks_both_http_versions_and_swaps_its_certificate() {
    let (_dir, authority) = new_authority();
    let names = ServerNames::from_hosts(["localhost", "127.0.0.1"]);
    let first = authority.server_certificate(&names, NOW).unwrap();
    let resolver = Arc::new(ServerCertResolver::new(&first).unwrap());
    let config = https_server_config(resolver.clone()).unwrap();
    let connect = |version, alpn: &[u8]| {
        let mut client = ClientConfig::builder_with_details(provider(), Arc::new(At(NOW)))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(root_of(&authority))
            .with_no_client_auth();
        client.alpn_protocols = vec![alpn.to_vec()];
        let (client, _) = handshake(client, config.clone()).unwrap();
        assert_eq!(client.alpn_protocol(), Some(alpn));
        client.peer_certificates().unwrap()[0].clone()
    };
    for (version, alpn) in [(&TLS12, &b"h2"[..]), (&TLS13, b"h2"), (&TLS13, b"http/1.1")] {
        assert_eq!(connect(version, alpn), first.chain()[0]);
    }
    std::fs::remove_file(first.key_path()).unwrap();
    let fresh = authority.server_certificate(&names, NOW).unwrap();
    resolver.replace(&fresh).unwrap();
    assert_ne!(fresh.chain()[0], first.chain()[0]);
    assert_eq!(connect(&TLS13, b"h2"), fresh.chain()[0]);
}
