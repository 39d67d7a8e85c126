//! A server played by a script: it accepts devices over mutual TLS, and the script decides what
//! each event is answered with.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use covey_device::{Device, DeviceBuilder, Identity};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rumqttc::{
    ConnAck, ConnectReturnCode, Packet, PubAck, PubAckReason, Publish, PublishProperties, QoS, SubAck,
    SubscribeReasonCode,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Longest wait for something that must happen.
pub const SOON: Duration = Duration::from_secs(20);
pub const SN: &str = "lamp-1";

/// An event as the server received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub connection: usize,
    pub type_code: u32,
    pub number: u32,
    pub body: String,
    pkid: u16,
}

/// What the script has the server do.
#[derive(Debug, Clone)]
pub enum Cue {
    Acknowledge(Received, PubAckReason),
    /// Sends an `eva` about an event.
    Tell(Received, &'static str),
    /// Closes the connection.
    Hangup,
}

pub struct Play {
    pub received: mpsc::UnboundedReceiver<Received>,
    pub cues: mpsc::UnboundedSender<Cue>,
    port: u16,
    ca_pem: String,
    certificate_pem: String,
    key_pem: String,
}

impl Play {
    pub async fn begin() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let signed = |params: CertificateParams| {
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &ca).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        let (server_pem, server_key) = signed(CertificateParams::new(["localhost".to_owned()]).unwrap());
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, SN);
        let (certificate_pem, key_pem) = signed(params);
        let acceptor = acceptor(&ca.pem(), &server_pem, &server_key);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (received_tx, received) = mpsc::unbounded_channel();
        let (cues, cues_rx) = mpsc::unbounded_channel();
        tokio::spawn(serve(listener, acceptor, received_tx, cues_rx));
        Self { received, cues, port, ca_pem: ca.pem(), certificate_pem, key_pem }
    }

    pub fn device(&self) -> DeviceBuilder {
        let identity = Identity::from_pem(
            self.ca_pem.as_bytes(),
            self.certificate_pem.as_bytes(),
            self.key_pem.as_bytes(),
        );
        Device::builder()
            .server(format!("mqtts://localhost:{}", self.port))
            .identity(identity.unwrap())
            .reconnect_delay(Duration::from_millis(10), Duration::from_millis(50))
    }

    pub async fn next(&mut self) -> Received {
        tokio::time::timeout(SOON, self.received.recv()).await.expect("an event in time").unwrap()
    }

    pub fn acknowledge(&self, event: &Received, reason: PubAckReason) {
        self.cues.send(Cue::Acknowledge(event.clone(), reason)).unwrap();
    }

    pub fn tell(&self, event: &Received, status: &'static str) {
        self.cues.send(Cue::Tell(event.clone(), status)).unwrap();
    }

    /// Takes so many events and acknowledges each at once.
    pub async fn take(&mut self, count: usize) -> Vec<u32> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            let event = self.next().await;
            self.acknowledge(&event, PubAckReason::Success);
            numbers.push(event.number);
        }
        numbers
    }
}

fn acceptor(ca_pem: &str, server_pem: &str, server_key: &str) -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(server_pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(server_key.as_bytes()).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    received: mpsc::UnboundedSender<Received>,
    mut cues: mpsc::UnboundedReceiver<Cue>,
) {
    for connection in 1.. {
        let (socket, _) = listener.accept().await.unwrap();
        // A device that goes away meanwhile ends its connection, not the play.
        if let Ok(mut stream) = acceptor.accept(socket).await {
            let _ = converse(&mut stream, connection, &received, &mut cues).await;
        }
    }
}

async fn converse(
    stream: &mut TlsStream<TcpStream>,
    connection: usize,
    received: &mpsc::UnboundedSender<Received>,
    cues: &mut mpsc::UnboundedReceiver<Cue>,
) -> io::Result<()> {
    let (mut incoming, mut outgoing) = (BytesMut::new(), BytesMut::new());
    loop {
        while let Ok(packet) = Packet::read(&mut incoming, None) {
            if let Some(answer) = answer(packet, connection, received) {
                answer.write(&mut outgoing, None).map_err(io::Error::other)?;
            }
        }
        stream.write_all_buf(&mut outgoing).await?;
        stream.flush().await?;
        tokio::select! {
            read = stream.read_buf(&mut incoming) => if read? == 0 {
                return Ok(());
            },
            cue = cues.recv() => match cue {
                None | Some(Cue::Hangup) => return Ok(()),
                // What is about an earlier connection cannot be said on this one.
                Some(Cue::Acknowledge(event, _)) if event.connection != connection => {}
                Some(Cue::Acknowledge(event, reason)) => {
                    let puback = PubAck { reason, ..PubAck::new(event.pkid, None) };
                    Packet::PubAck(puback).write(&mut outgoing, None).map_err(io::Error::other)?;
                }
                Some(Cue::Tell(event, status)) => {
                    eva(&event, status).write(&mut outgoing, None).map_err(io::Error::other)?;
                }
            },
        }
    }
}

fn answer(packet: Packet, connection: usize, received: &mpsc::UnboundedSender<Received>) -> Option<Packet> {
    match packet {
        Packet::Connect(..) => Some(Packet::ConnAck(ConnAck {
            session_present: false,
            code: ConnectReturnCode::Success,
            properties: None,
        })),
        Packet::Subscribe(subscribe) => {
            let granted = subscribe.filters.iter().map(|_| SubscribeReasonCode::Success(QoS::AtLeastOnce));
            Some(Packet::SubAck(SubAck {
                pkid: subscribe.pkid,
                return_codes: granted.collect(),
                properties: None,
            }))
        }
        Packet::Publish(publish) => {
            assert_eq!(publish.topic, format!("dev/{SN}/evt"));
            // Nobody listens any more when the test is over.
            let _ = received.send(read_event(connection, publish));
            None
        }
        Packet::PingReq => Some(Packet::PingResp),
        _ => None,
    }
}

fn read_event(connection: usize, publish: Publish) -> Received {
    let properties = publish.properties.unwrap_or_default().user_properties;
    let integer = |name: &str| {
        properties.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok()).unwrap()
    };
    Received {
        connection,
        type_code: integer("event_type_code"),
        number: integer("dev_event_id"),
        body: String::from_utf8(publish.payload.to_vec()).unwrap(),
        pkid: publish.pkid,
    }
}

fn eva(event: &Received, status: &str) -> Packet {
    let properties = PublishProperties {
        user_properties: vec![
            ("event_type_code".to_owned(), event.type_code.to_string()),
            ("dev_event_id".to_owned(), event.number.to_string()),
        ],
        ..PublishProperties::default()
    };
    let body = format!("{{\"status\":\"{status}\"}}");
    Packet::Publish(Publish::new(format!("srv/{SN}/eva"), QoS::AtMostOnce, body, Some(properties)))
}
