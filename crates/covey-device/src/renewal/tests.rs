//! When a certificate is renewed, how long is waited after a failure, and what is done before one is asked for.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cms::cert::x509::Certificate;
use cms::cert::x509::der::{Decode, Encode};
use cms::content_info::ContentInfo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

#[test]
fn a_certificate_is_renewed_when_a_third_of_its_life_is_left_or_a_little_more() {
    for (from, to) in [(0, 300), (1_000, 1_000 + 315_532_800), (7, 7), (9, 2)] {
        let life = (to - from).max(0);
        for _ in 0..50 {
            let due = due(from, to);
            assert!((to - life / 3 - life / 20..=to - life / 3).contains(&due), "{from} {to} {due}");
        }
    }
}

#[test]
fn waits_grow_to_an_hour_and_begin_there_after_a_refusal() {
    let mut backoff = Backoff::new(RETRY);
    let refused = |status| RenewalError::Refused { status, detail: String::new() };
    for (failure, error) in
        [RenewalError::Timeout, refused(503), refused(429)].iter().cycle().take(30).enumerate()
    {
        let most = RETRY.min * 2_u32.pow(u32::try_from(failure + 1).unwrap().min(20));
        let wait = wait_after(error, &mut backoff);
        assert!((RETRY.min..=most.min(RETRY.max)).contains(&wait), "{failure} {wait:?}");
        for status in [401, 403, 409] {
            assert!((RETRY.max / 2..=RETRY.max).contains(&wait_after(&refused(status), &mut backoff)));
        }
    }
}

fn named(name: &str, is_ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    params
}

fn key_of(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

/// A server that shows these certificates to whoever asks for those of the CA, and refuses to renew any; answers where it
/// is, and what it is asked.
async fn server(
    acceptor: TlsAcceptor,
    shown: Vec<CertificateDer<'static>>,
) -> (Place, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place =
        Place::parse(&format!("https://localhost:{}", listener.local_addr().unwrap().port())).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let each = shown.iter().map(|der| Certificate::from_der(der).unwrap()).collect::<Vec<_>>();
    let body = STANDARD.encode(ContentInfo::try_from(each).unwrap().to_der().unwrap());
    tokio::spawn(async move {
        loop {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            let mut bytes = vec![0; 16 * 1024];
            let count = stream.read(&mut bytes).await.unwrap();
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            let (status, body) =
                if text.starts_with("GET ") { ("200 OK", body.as_str()) } else { ("409 Conflict", "") };
            heard.lock().unwrap().push(text.split(' ').take(2).collect::<Vec<_>>().join(" "));
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (place, asked)
}

#[tokio::test]
async fn no_certificate_is_asked_for_that_could_not_be_verified_or_stored() {
    let root = CertifiedIssuer::self_signed(named("root", true), KeyPair::generate().unwrap()).unwrap();
    let (issuing_key, server_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let issuing = named("issuing", true).signed_by(&issuing_key, &root).unwrap();
    let server_certificate = named("server", false).signed_by(&server_key, &root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth();
    let config =
        config.with_single_cert(vec![server_certificate.der().clone()], key_of(&server_key)).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let tls =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let tls = Arc::new(tls.unwrap().with_root_certificates(roots).with_no_client_auth());
    let shown =
        CertifiedKey::from_der(vec![server_certificate.der().clone()], key_of(&server_key), &provider);
    let shown = Shown::new(shown.unwrap());

    let dir = tempfile::tempdir().unwrap();
    let (root, issuing) = (root.der().clone(), issuing.der().clone());
    let renewed = async |shows: &[&CertificateDer<'static>], dir: PathBuf| {
        let (place, asked) = server(acceptor.clone(), shows.iter().map(|der| (*der).clone()).collect()).await;
        let (tls, shown) = (Arc::clone(&tls), Arc::clone(&shown));
        let outcome = Renewal { sn: "lamp".into(), place, dir, tls, shown }.renew().await;
        let asked = asked.lock().unwrap().clone();
        (outcome.unwrap_err(), asked)
    };
    let cacerts = "GET /.well-known/est/cacerts";
    let (error, asked) = renewed(&[&root], dir.path().to_owned()).await;
    assert!(matches!(error, RenewalError::Issuer), "{error}");
    assert_eq!(asked, [cacerts]);
    let (error, asked) = renewed(&[&root, &issuing], dir.path().join("gone")).await;
    assert!(matches!(error, RenewalError::Store { .. }), "{error}");
    assert_eq!(asked, [cacerts]);
    let (error, asked) = renewed(&[&issuing, &root], dir.path().to_owned()).await;
    assert!(matches!(error, RenewalError::Refused { status: 409, .. }), "{error}");
    assert_eq!(asked, [cacerts, "POST /.well-known/est/simplereenroll"]);
}
