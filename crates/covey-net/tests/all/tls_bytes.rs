//! TLS as bytes: how large records are, bytes that are no TLS, and bytes that come one by one.

use std::sync::Arc;
use std::time::Duration;

use covey_net::{Limits, RECORD_BYTES_MAX, Refused};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::echo::{PATIENCE, Server};
use crate::panics::{self, mutate, numbers};
use crate::pki::Pki;

/// The first byte of a TLS record with an alert, and the code of a fatal one (RFC 8446 §5.1, §6).
const ALERT: u8 = 21;
const FATAL: u8 = 2;

/// A TLS client whose ciphertext is in the test's hands.
struct Tapped {
    client: rustls::ClientConnection,
    tcp: TcpStream,
    /// Sizes of the records that the server sent, headers included.
    records: Vec<usize>,
    received: Vec<u8>,
    /// The beginning of a record of which more must come.
    part: Vec<u8>,
}

impl Tapped {
    async fn new(server: &Server, config: rustls::ClientConfig) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = server.tcp().await;
        tcp.set_nodelay(true).unwrap();
        Self { client, tcp, records: Vec::new(), received: Vec::new(), part: Vec::new() }
    }

    /// What the client has to say.
    fn said(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Sends it in pieces of so many bytes.
    async fn send(&mut self, piece: usize) {
        let bytes = self.said();
        for piece in bytes.chunks(piece) {
            self.tcp.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    }

    async fn receive(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let count = tokio::time::timeout(PATIENCE, self.tcp.read(&mut buffer)).await.unwrap().unwrap();
        assert!(count > 0, "the server has closed");
        self.part.extend_from_slice(&buffer[..count]);
        while self.part.len() >= 5 {
            let size = 5 + usize::from(u16::from_be_bytes([self.part[3], self.part[4]]));
            if self.part.len() < size {
                break;
            }
            self.records.push(size);
            let record: Vec<u8> = self.part.drain(..size).collect();
            let mut rest = &record[..];
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).unwrap();
                let state = self.client.process_new_packets().unwrap();
                let before = self.received.len();
                self.received.resize(before + state.plaintext_bytes_to_read(), 0);
                std::io::Read::read_exact(&mut self.client.reader(), &mut self.received[before..]).unwrap();
            }
        }
    }

    async fn shake_hands(&mut self, piece: usize) {
        while self.client.is_handshaking() {
            self.send(piece).await;
            if self.client.is_handshaking() {
                self.receive().await;
            }
        }
        self.send(piece).await;
    }
}

#[tokio::test]
async fn no_record_is_larger_than_a_small_device_takes_and_all_that_fits_is_in_one() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    for version in [&TLS12, &TLS13] {
        let device = pki.device("dev-1");
        let config = pki.client(&[version], Some((device.chain(), device.key())));
        let mut tapped = Tapped::new(&server, config).await;
        tapped.shake_hands(usize::MAX).await;
        let shaken = tapped.records.len();
        // Fits into one record of the server's.
        let said: Vec<u8> = (0..3_000_u32).map(|place| (place % 251) as u8).collect();
        std::io::Write::write_all(&mut tapped.client.writer(), &said).unwrap();
        tapped.send(usize::MAX).await;
        while tapped.received.len() < said.len() {
            tapped.receive().await;
        }
        assert!(tapped.received == said);
        assert_eq!(tapped.records.len() - shaken, 1, "{:?}", tapped.records);
        // Does not.
        let much = vec![7; 16_000];
        std::io::Write::write_all(&mut tapped.client.writer(), &much).unwrap();
        tapped.send(usize::MAX).await;
        while tapped.received.len() < said.len() + much.len() {
            tapped.receive().await;
        }
        // What counts for a client's buffer is the plaintext; the tag and the nonce come on top.
        let largest = tapped.records.iter().max().unwrap();
        assert!(*largest <= RECORD_BYTES_MAX + 32, "{:?}", tapped.records);
        assert!(*largest > RECORD_BYTES_MAX - 200, "{:?}", tapped.records);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_handshake_may_come_byte_by_byte() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    for version in [&TLS12, &TLS13] {
        let device = pki.device("dev-1");
        let mut config = pki.client(&[version], Some((device.chain(), device.key())));
        // Messages of the handshake then go over many records.
        config.max_fragment_size = Some(64);
        let mut tapped = Tapped::new(&server, config).await;
        tapped.shake_hands(1).await;
        std::io::Write::write_all(&mut tapped.client.writer(), b"hello").unwrap();
        tapped.send(1).await;
        while tapped.received.len() < 5 {
            tapped.receive().await;
        }
        assert_eq!(tapped.received, b"hello");
    }
    server.stop().await;
}

#[tokio::test]
async fn early_data_with_the_end_of_the_handshake_is_not_lost() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    let device = pki.device("dev-1");
    let config = pki.client(&[&TLS13], Some((device.chain(), device.key())));
    let mut tapped = Tapped::new(&server, config).await;
    while tapped.client.is_handshaking() {
        if tapped.client.wants_write() && tapped.records.is_empty() {
            tapped.send(usize::MAX).await;
        }
        tapped.receive().await;
    }
    // Certificate, Finished and the first bytes in one write.
    std::io::Write::write_all(&mut tapped.client.writer(), b"hello").unwrap();
    tapped.send(usize::MAX).await;
    while tapped.received.len() < 5 {
        tapped.receive().await;
    }
    assert_eq!(tapped.received, b"hello");
    server.stop().await;
}

/// Sends bytes and reads to the end of the connection.
async fn answer_to(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = server.tcp().await;
    tcp.write_all(bytes).await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn bytes_that_are_no_tls_get_an_alert_and_are_told_of() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    let connect = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc";
    let cases: [&[u8]; 3] = [connect, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[0xFF; 3_000]];
    for bytes in cases {
        let answer = answer_to(&server, bytes).await;
        assert_eq!((answer[0], answer[5]), (ALERT, FATAL), "{answer:?}");
    }
    server.until_refused(|why| matches!(why, Refused::Handshake(_))).await;
    server.stop().await;
}

/// After the first record rustls remembers how much of the buffer it has seen: the call that writes
/// the alert must be given the same bytes.
#[tokio::test]
async fn garbage_behind_a_part_of_a_client_hello_gets_an_alert() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    // A handshake record with the first 10 bytes of a ClientHello of 500.
    let mut bytes = vec![22, 3, 1, 0, 10, 1, 0, 1, 0xF4, 3, 3, 1, 2, 3, 4];
    let whole_records = bytes.clone();
    bytes.extend([99, 9, 9, 0, 1, 0]);
    let answer = answer_to(&server, &bytes).await;
    assert_eq!((answer[0], answer[5]), (ALERT, FATAL), "{answer:?}");
    // In two reads as well.
    let mut tcp = server.tcp().await;
    tcp.write_all(&whole_records).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    tcp.write_all(&[99, 9, 9, 0, 1, 0]).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!((answer[0], answer[5]), (ALERT, FATAL), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_handshake_message_without_end_is_given_up() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    let mut tcp = server.tcp().await;
    // A ClientHello of 16 MiB less one byte, in records of 1 KiB.
    let mut record = vec![22, 3, 1, 4, 0, 1, 0xFF, 0xFF, 0xFF];
    record.resize(5 + 1024, 0);
    let mut next = vec![22, 3, 1, 4, 0];
    next.resize(5 + 1024, 0);
    let mut sent = 0;
    let sending = async {
        while tcp.write_all(if sent == 0 { &record } else { &next }).await.is_ok() {
            sent += record.len();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, sending).await.expect("it takes all of it");
    let refusal = server.until_refused(|why| matches!(why, Refused::Handshake(_))).await;
    assert_eq!(refusal.count, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_name_or_none_and_any_application_protocol_are_fine() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    let device = pki.device("dev-1");
    let mut config = pki.client_of(&device);
    config.alpn_protocols = vec![b"mqtt".to_vec(), b"x-amzn-mqtt-ca".to_vec()];
    for has_name in [false, true] {
        config.enable_sni = has_name;
        let connector = TlsConnector::from(Arc::new(config.clone()));
        let mut client = server.connect_by(&connector).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        client.read_exact(&mut back).await.unwrap();
    }
    server.stop().await;
}

/// Each message of a client is changed in turn: the first, the one that ends the handshake, and what is
/// said after it.
#[tokio::test]
async fn no_bytes_in_a_handshake_end_more_than_their_own_connection() {
    let panics = panics::count();
    let pki = Pki::new();
    let limits = Limits { half_open_ms_max: 2_000, ..Limits::default() };
    let server = Server::start(Some(pki.tls()), limits);
    let device = pki.device("dev-1");
    let mut random = numbers(0x2545_F491_4F6C_DD1D);
    for round in 0..150 {
        let version = if round % 2 == 0 { &TLS12 } else { &TLS13 };
        let config = pki.client(&[version], Some((device.chain(), device.key())));
        let mut tapped = Tapped::new(&server, config).await;
        if round % 3 > 0 {
            tapped.send(usize::MAX).await;
            tapped.receive().await;
        }
        if round % 3 > 1 && tapped.client.is_handshaking() {
            tapped.shake_hands(usize::MAX).await;
        }
        if !tapped.client.is_handshaking() {
            std::io::Write::write_all(&mut tapped.client.writer(), &[7; 300]).unwrap();
        }
        let mut bytes = tapped.said();
        mutate(&mut bytes, &mut random);
        // It may have been closed by now.
        let _ = tapped.tcp.write_all(&bytes).await;
        let _ = tapped.tcp.shutdown().await;
        let mut answer = Vec::new();
        drop(tokio::time::timeout(PATIENCE, tapped.tcp.read_to_end(&mut answer)).await.expect("it stays"));
    }
    let mut good = server.connect(&pki.client_of(&device)).await.unwrap();
    good.write_all(b"hello").await.unwrap();
    good.read_exact(&mut [0; 5]).await.unwrap();
    server.stop().await;
    assert_eq!(panics::count(), panics);
}
