//! Who is let in by TLS, and what a client is shown.

use std::sync::Arc;

use covey_net::{Limits, PeerCertificate, Refused, ServerTls};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, HandshakeKind, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::echo::Server;
use crate::pki::Pki;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Sends bytes and waits until they have come back.
async fn echo(client: &mut TlsStream<TcpStream>, bytes: &[u8]) -> std::io::Result<()> {
    let mut back = vec![0; bytes.len()];
    client.write_all(bytes).await?;
    client.read_exact(&mut back).await?;
    assert!(back == bytes);
    Ok(())
}

/// The alert with which a handshake ended.
fn alert(error: &std::io::Error) -> AlertDescription {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        other => panic!("{error}: {other:?}"),
    }
}

#[tokio::test]
async fn a_device_is_known_by_its_certificate_with_tls_1_2_and_1_3() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    for version in VERSIONS {
        let device = pki.device("dev-1");
        let config = pki.client(&[version], Some((device.chain(), device.key())));
        let mut client = server.connect(&config).await.unwrap();
        echo(&mut client, b"hello").await.unwrap();
        assert_eq!(client.get_ref().1.protocol_version(), Some(version.version));
        let certificate = server.echo.certificates.lock().unwrap().pop().unwrap().unwrap();
        let known = PeerCertificate {
            common_name: Some("dev-1".into()),
            serial_hex: device.serial_hex.as_str().into(),
        };
        assert_eq!(certificate, known);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_without_its_issuer_is_let_in_where_the_issuing_ca_is_trusted() {
    let pki = Pki::new();
    for version in VERSIONS {
        let device = pki.device("dev-1");
        let leaf = device.chain().swap_remove(0);
        let config = pki.client(&[version], Some((vec![leaf], device.key())));
        let server = Server::start(Some(pki.tls()), Limits::default());
        echo(&mut server.connect(&config).await.unwrap(), b"hello").await.unwrap();
        server.stop().await;

        let root_alone = ServerTls::for_devices(pki.server(), vec![pki.root()]).unwrap();
        let server = Server::start(Some(root_alone), Limits::default());
        let refused = async { echo(&mut server.connect(&config).await?, b"hello").await };
        assert_eq!(alert(&refused.await.unwrap_err()), AlertDescription::UnknownCA);
        server.stop().await;
    }
}

#[tokio::test]
async fn who_shows_no_certificate_or_one_of_another_ca_gets_an_alert_and_the_owner_is_told() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = Server::start(Some(pki.tls()), Limits::default());
    for version in VERSIONS {
        let nothing = pki.client(&[version], None);
        let refused = async { echo(&mut server.connect(&nothing).await?, b"hello").await };
        // TLS 1.2 has no alert of its own for it (RFC 5246 §7.4.6).
        let expected = [AlertDescription::CertificateRequired, AlertDescription::HandshakeFailure];
        let got = alert(&refused.await.unwrap_err());
        assert!(expected.contains(&got), "{got:?}");
        let foreign = other.device("dev-1");
        let foreign = pki.client(&[version], Some((foreign.chain(), foreign.key())));
        let refused = async { echo(&mut server.connect(&foreign).await?, b"hello").await };
        assert_eq!(alert(&refused.await.unwrap_err()), AlertDescription::UnknownCA);
    }
    for text in ["peer sent no certificates", "UnknownIssuer"] {
        let refusal =
            server.until_refused(|why| matches!(why, Refused::Handshake(said) if said.contains(text))).await;
        assert_eq!(refusal.count, 1);
    }
    assert!(server.echo.certificates.lock().unwrap().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_resumed_and_no_ticket_is_sent() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    for version in VERSIONS {
        let device = pki.device("dev-1");
        // One configuration, so that a ticket of the first connection would serve the second.
        let config = pki.client(&[version], Some((device.chain(), device.key())));
        let connector = TlsConnector::from(Arc::new(config));
        for _ in 0..3 {
            let mut client = server.connect_by(&connector).await.unwrap();
            echo(&mut client, b"hello").await.unwrap();
            let tls = client.get_ref().1;
            assert_eq!(tls.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(tls.tls13_tickets_received(), 0);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_the_old_ones_stay() {
    let pki = Pki::new();
    let tls = pki.tls();
    let server = Server::start(Some(Arc::clone(&tls)), Limits::default());
    let config = pki.client_of(&pki.device("dev-1"));
    let shown = |client: &TlsStream<TcpStream>| client.get_ref().1.peer_certificates().unwrap()[0].clone();
    let mut before = server.connect(&config).await.unwrap();
    echo(&mut before, b"before").await.unwrap();
    tls.renew(pki.server(), pki.trusted()).unwrap();
    let mut after = server.connect(&config).await.unwrap();
    echo(&mut after, b"after").await.unwrap();
    assert_ne!(shown(&before), shown(&after));
    echo(&mut before, b"and still").await.unwrap();
    // What cannot be used changes nothing.
    assert!(tls.renew(pki.server(), Vec::new()).is_err());
    let mut later = server.connect(&config).await.unwrap();
    echo(&mut later, b"later").await.unwrap();
    assert_eq!(shown(&after), shown(&later));
    server.stop().await;
}

#[tokio::test]
async fn keys_are_updated_when_the_client_asks_for_it() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    let mut client = server.connect(&pki.client_of(&pki.device("dev-1"))).await.unwrap();
    for round in 0..5 {
        // RFC 8446 §4.6.3: the server answers with an update of its own before it says more.
        client.get_mut().1.refresh_traffic_keys().unwrap();
        echo(&mut client, format!("round {round}").as_bytes()).await.unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn a_connection_ends_with_close_notify_and_much_goes_through_it() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    for version in VERSIONS {
        let device = pki.device("dev-1");
        let config = pki.client(&[version], Some((device.chain(), device.key())));
        let client = server.connect(&config).await.unwrap();
        let (mut from, mut to) = tokio::io::split(client);
        let much: Vec<u8> = (0..3_000_000_u32).map(|place| (place % 251) as u8).collect();
        let sent = much.clone();
        // The client writes all of it and reads nothing for as long as the sockets take it.
        let writing = tokio::spawn(async move {
            to.write_all(&sent).await.unwrap();
            to
        });
        let mut back = vec![0; much.len()];
        from.read_exact(&mut back).await.unwrap();
        assert!(back == much);
        let mut to = writing.await.unwrap();
        to.shutdown().await.unwrap();
        // Without close_notify this would be an error (RFC 8446 §6.1).
        assert_eq!(from.read(&mut [0; 8]).await.unwrap(), 0);
    }
    server.stop().await;
}
