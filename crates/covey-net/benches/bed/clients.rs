//! Devices that connect, subscribe, and say nothing more.
#![allow(dead_code, reason = "not every program waits for the end")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use covey_net::certificates_from_pem;
use covey_pki::{Authority, CertificateLifetimes};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A device's name, and what it connects with.
pub type Identity = (String, TlsConnector);

/// Makes so many devices of the CA in a folder.
pub fn identities(pki: &Path, count: usize, is_old: bool) -> Arc<[Identity]> {
    let now = OffsetDateTime::now_utc();
    let authority = Authority::open_or_create(pki, CertificateLifetimes::default(), now).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.root_der().clone()).unwrap();
    let version = if is_old { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
    let one = |number: usize| {
        let sn = format!("bench-{number:06}");
        let issued = authority.issue_device(&sn, now).unwrap();
        let chain = certificates_from_pem(issued.certificate_pem.as_bytes()).unwrap();
        let key = issued.private_key_pem.unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).unwrap())
            .unwrap();
        config.resumption = rustls::client::Resumption::disabled();
        (sn, TlsConnector::from(Arc::new(config)))
    };
    (0..count).map(one).collect()
}

/// Connects all of them, so many at a time.
pub async fn connect(server: SocketAddr, all: &[Identity], at_a_time: usize) -> Vec<TlsStream<TcpStream>> {
    let (next, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(all.to_vec()));
    let workers = (0..at_a_time).map(|_| {
        let (next, all) = (Arc::clone(&next), Arc::clone(&all));
        tokio::spawn(async move {
            let mut live = Vec::new();
            while let Some(identity) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                live.push(connect_one(server, identity).await);
            }
            live
        })
    });
    let mut live = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        live.extend(worker.await.unwrap());
    }
    live
}

async fn connect_one(server: SocketAddr, (sn, connector): &Identity) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(server).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
    let mut connect = text("MQTT");
    // MQTT 5, Clean Start, Keep Alive 0, no properties.
    connect.extend([5, 2, 0, 0, 0]);
    connect.extend(text(sn));
    say(&mut stream, 0x10, &connect).await;
    let connack = hear(&mut stream).await;
    assert_eq!((connack.0, connack.1[1]), (0x20, 0), "{connack:?}");
    let mut subscribe = vec![0, 1, 0];
    subscribe.extend(text(&format!("srv/{sn}/+")));
    subscribe.push(1);
    say(&mut stream, 0x82, &subscribe).await;
    assert_eq!(hear(&mut stream).await.0, 0x90);
    stream
}

pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// Sends a packet of less than 128 bytes.
async fn say(stream: &mut TlsStream<TcpStream>, first: u8, body: &[u8]) {
    let mut packet = vec![first, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    stream.write_all(&packet).await.unwrap();
}

/// Receives one.
async fn hear(stream: &mut TlsStream<TcpStream>) -> (u8, Vec<u8>) {
    let mut header = [0; 2];
    stream.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; usize::from(header[1])];
    stream.read_exact(&mut body).await.unwrap();
    (header[0], body)
}

/// Reads until the server has closed all of them; answers how many it has told that it shuts down.
pub async fn told_of_shutdown(live: Vec<TlsStream<TcpStream>>) -> usize {
    let reading = live.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            let mut said = Vec::new();
            // DISCONNECT with 0x8B.
            stream.read_to_end(&mut said).await.is_ok()
                && said.first() == Some(&0xE0)
                && said.get(2) == Some(&0x8B)
        })
    });
    let mut told = 0;
    for one in reading.collect::<Vec<_>>() {
        told += usize::from(one.await.unwrap());
    }
    told
}
