//! A client of bare bytes, which may say what no library would.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::owner::Server;
use crate::echo::PATIENCE;

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A packet as it came: its first byte and what follows the fixed header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub first: u8,
    pub body: Vec<u8>,
}

impl Packet {
    /// The kind of the packet (MQTT 5 §2.1.2).
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// Topic, packet id (0 with QoS 0) and body of a PUBLISH without properties.
    pub fn publish(&self, version: u8) -> (String, u16, Vec<u8>) {
        assert_eq!(self.kind(), 3, "{self:?}");
        let end = 2 + usize::from(u16::from_be_bytes([self.body[0], self.body[1]]));
        let topic = String::from_utf8(self.body[2..end].to_vec()).unwrap();
        let has_id = self.first & 6 != 0;
        let id = if has_id { u16::from_be_bytes([self.body[end], self.body[end + 1]]) } else { 0 };
        let mut at = end + if has_id { 2 } else { 0 };
        if version == 5 {
            at += 1 + usize::from(self.body[at]);
        }
        (topic, id, self.body[at..].to_vec())
    }

    pub fn is_repeated(&self) -> bool {
        self.first & 8 != 0
    }
}

pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut size = body.len();
    loop {
        let digit = u8::try_from(size % 128).unwrap();
        size /= 128;
        bytes.push(digit | if size > 0 { 128 } else { 0 });
        if size == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// How to connect.
pub struct Connect<'a> {
    pub version: u8,
    pub client_id: &'a str,
    pub clean: bool,
    pub keep_alive_s: u16,
    /// Session Expiry Interval in seconds; MQTT 5 alone.
    pub expiry_s: u32,
    /// Topic, body and Will Delay Interval.
    pub will: Option<(&'a str, &'a str, u32)>,
    /// Further properties.
    pub properties: Vec<u8>,
}

impl<'a> Connect<'a> {
    pub fn v5(client_id: &'a str) -> Self {
        let (version, keep_alive_s, will) = (5, 60, None);
        Self { version, client_id, clean: true, keep_alive_s, expiry_s: 0, will, properties: Vec::new() }
    }

    pub fn v311(client_id: &'a str) -> Self {
        Self { version: 4, ..Self::v5(client_id) }
    }

    /// With a session that is kept.
    pub fn kept(self) -> Self {
        Self { clean: false, expiry_s: 3_600, ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = text("MQTT");
        body.extend([self.version, u8::from(self.clean) << 1 | if self.will.is_some() { 0x0C } else { 0 }]);
        body.extend(self.keep_alive_s.to_be_bytes());
        if self.version == 5 {
            let mut properties = vec![0x11];
            properties.extend(self.expiry_s.to_be_bytes());
            properties.extend(&self.properties);
            body.push(u8::try_from(properties.len()).unwrap());
            body.extend(properties);
        }
        body.extend(text(self.client_id));
        if let Some((topic, words, delay_s)) = self.will {
            if self.version == 5 {
                body.extend([5, 0x18]);
                body.extend(delay_s.to_be_bytes());
            }
            body.extend(text(topic));
            body.extend(text(words));
        }
        packet(0x10, &body)
    }
}

pub struct Raw {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
    version: u8,
}

impl Raw {
    /// Over TCP or TLS, whichever the server speaks; `sn` names the certificate.
    pub async fn open(server: &Server, sn: &str) -> Self {
        Self::open_plain(server.address).await.with(server, sn).await
    }

    /// To an endpoint without TLS.
    pub async fn open_plain(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        Self { stream: Box::new(tcp), read: Vec::new(), version: 5 }
    }

    async fn with(self, server: &Server, sn: &str) -> Self {
        if server.is_plain() {
            return self;
        }
        let config = server.pki.client_of(&server.device(sn));
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        Self { stream: Box::new(connector.connect(name, self.stream).await.unwrap()), ..self }
    }

    /// Connects and is let in; answers whether a session goes on.
    pub async fn connect(server: &Server, connect: &Connect<'_>) -> (Self, bool) {
        let mut raw = Self::open(server, connect.client_id).await;
        let connack = raw.say(connect).await;
        assert_eq!((connack.kind(), connack.body[1]), (2, 0), "{connack:?}");
        (raw, connack.body[0] == 1)
    }

    /// Sends a CONNECT; answers the CONNACK.
    pub async fn say(&mut self, connect: &Connect<'_>) -> Packet {
        self.version = connect.version;
        self.send(&connect.bytes()).await;
        self.next().await
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    pub fn publish_bytes(&self, topic: &str, qos: u8, id: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = text(topic);
        if qos > 0 {
            bytes.extend(id.to_be_bytes());
        }
        if self.version == 5 {
            bytes.push(0);
        }
        bytes.extend(body);
        packet(0x30 | qos << 1, &bytes)
    }

    pub async fn publish(&mut self, topic: &str, qos: u8, id: u16, body: &str) {
        let bytes = self.publish_bytes(topic, qos, id, body.as_bytes());
        self.send(&bytes).await;
    }

    /// Subscribes with QoS 2; answers the reason code.
    pub async fn subscribe(&mut self, filter: &str) -> u8 {
        let mut body = vec![0, 77];
        if self.version == 5 {
            body.push(0);
        }
        body.extend(text(filter));
        body.push(2);
        self.send(&packet(0x82, &body)).await;
        let suback = self.next().await;
        assert_eq!(suback.kind(), 9, "{suback:?}");
        *suback.body.last().unwrap()
    }

    pub async fn acknowledge(&mut self, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.send(&[0x40, 2, high, low]).await;
    }

    /// The next packet.
    pub async fn next(&mut self) -> Packet {
        self.next_or_end().await.expect("the connection has ended")
    }

    /// The next packet, or the end of the connection.
    pub async fn next_or_end(&mut self) -> Option<Packet> {
        timeout(PATIENCE, self.read_packet()).await.expect("nothing has come")
    }

    /// That nothing comes for a while.
    pub async fn hears_nothing(&mut self) {
        let heard = timeout(Duration::from_millis(200), self.read_packet()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    /// The DISCONNECT with its reason code, and that the connection ends with it.
    pub async fn until_disconnected(&mut self) -> u8 {
        let mut reason = None;
        while let Some(packet) = self.next_or_end().await {
            if packet.kind() == 14 {
                reason = Some(packet.body.first().copied().unwrap_or(0));
            }
        }
        reason.expect("it ended without a DISCONNECT")
    }

    /// That the connection ends and nothing is said.
    pub async fn until_closed(&mut self) {
        let said = self.next_or_end().await;
        assert_eq!(said, None);
    }

    async fn read_packet(&mut self) -> Option<Packet> {
        loop {
            if let Some((packet, size)) = split(&self.read) {
                self.read.drain(..size);
                return Some(packet);
            }
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

fn split(bytes: &[u8]) -> Option<(Packet, usize)> {
    let (mut size, mut shift, mut at) = (0, 0, 1);
    loop {
        let digit = *bytes.get(at)?;
        size |= usize::from(digit & 127) << shift;
        shift += 7;
        at += 1;
        if digit < 128 {
            break;
        }
    }
    let body = bytes.get(at..at + size)?.to_vec();
    Some((Packet { first: bytes[0], body }, at + size))
}
