//! The MQTT connection of a device that does nothing but send events: no
//! reconnecting, no queue, one write for as many messages as may be on their
//! way. It shares the machine with the server that it measures, so it has to
//! cost as little as it can.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use covey_wire::{Downlink, Uplink, property, uplink};
use rumqttc::{
    ConnAck, Connect, ConnectAuth, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode,
    Packet, Publish, PublishProperties, QoS, Subscribe, SubscribeFilter,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::behaviour::events::SENSOR;

/// How long a connection may take, with TLS and CONNECT.
const CONNECT_WAIT: Duration = Duration::from_secs(60);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// Longer than a run, so that a device that has little to send need not ping.
const KEEP_ALIVE_S: u16 = 3_600;
/// Bytes that are read at once.
const READ_BYTES: usize = 8 * 1024;
/// Largest packet that is taken, in bytes.
const PACKET_BYTES_MAX: u32 = 1024 * 1024;
/// Unacknowledged messages a server allows unless it says otherwise (MQTT 5 §3.2.2.3.3).
const RECEIVE_MAXIMUM_DEFAULT: u16 = u16::MAX;

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// Reads `mqtts://host:port`, an IPv6 address in brackets.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("mqtts://")?;
        let (host, port) = rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
}

/// An event as it is sent: the same again is a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) number: u32,
    pub(super) time_s: u64,
}

/// A connected device.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    incoming: BytesMut,
    outgoing: BytesMut,
    /// The next message; only what differs is written anew.
    publish: Publish,
    /// How many messages the server allows on their way.
    pub(super) receive_maximum: u16,
}

impl Connection {
    /// Connects, and subscribes to the answers to events if they are wanted.
    pub(super) async fn open(
        address: &Address,
        tls: Arc<ClientConfig>,
        sn: &str,
        with_eva: bool,
    ) -> io::Result<Self> {
        let connecting = Self::open_in_time(address, tls, sn, with_eva);
        tokio::time::timeout(CONNECT_WAIT, connecting).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    async fn open_in_time(
        address: &Address,
        tls: Arc<ClientConfig>,
        sn: &str,
        with_eva: bool,
    ) -> io::Result<Self> {
        let socket = TcpStream::connect((address.host.as_str(), address.port)).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(tls).connect(name, socket).await?;
        let mut connection = Self {
            stream,
            incoming: BytesMut::with_capacity(READ_BYTES),
            outgoing: BytesMut::new(),
            publish: template(sn),
            receive_maximum: RECEIVE_MAXIMUM_DEFAULT,
        };
        let connect = Connect {
            keep_alive: KEEP_ALIVE_S,
            client_id: sn.to_owned(),
            clean_start: true,
            properties: Some(ConnectProperties::new()),
        };
        connection.push(&Packet::Connect(connect, None, ConnectAuth::None))?;
        match connection.answer().await? {
            Packet::ConnAck(ConnAck { code: ConnectReturnCode::Success, properties, .. }) => {
                let allowed = properties.and_then(|known| known.receive_max);
                connection.receive_maximum = allowed.unwrap_or(RECEIVE_MAXIMUM_DEFAULT);
            }
            Packet::ConnAck(ConnAck { code, .. }) => {
                return Err(io::Error::other(format!("refused: {code:?}")));
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        if with_eva {
            let filter = SubscribeFilter::new(Downlink::Eva.topic(sn), QoS::AtMostOnce);
            let mut subscribe = Subscribe::new(filter, None);
            subscribe.pkid = 1;
            connection.push(&Packet::Subscribe(subscribe))?;
            connection.answer().await?;
        }
        Ok(connection)
    }

    /// Writes a message into memory.
    pub(super) fn push_event(&mut self, pkid: u16, event: Numbered) -> io::Result<()> {
        let Numbered { number, time_s } = event;
        self.publish.pkid = pkid;
        self.publish.payload = payload(event);
        if let Some(properties) = &mut self.publish.properties {
            for (name, value) in &mut properties.user_properties {
                match name.as_str() {
                    property::DEV_EVENT_ID => rewrite(value, number.into()),
                    property::DEV_TIMESTAMP => rewrite(value, time_s),
                    _ => {}
                }
            }
        }
        self.publish.write(&mut self.outgoing).map_err(io::Error::other)?;
        Ok(())
    }

    fn push(&mut self, packet: &Packet) -> io::Result<()> {
        packet.write(&mut self.outgoing, None).map(|_| ()).map_err(io::Error::other)
    }

    /// Sends what is in memory.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        self.stream.write_all_buf(&mut self.outgoing).await?;
        self.stream.flush().await
    }

    /// A packet that has come in whole.
    pub(super) fn next_packet(&mut self) -> io::Result<Option<Packet>> {
        match Packet::read(&mut self.incoming, Some(PACKET_BYTES_MAX)) {
            Ok(packet) => Ok(Some(packet)),
            Err(rumqttc::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Reads more. May be dropped at any time.
    pub(super) async fn read(&mut self) -> io::Result<()> {
        self.incoming.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.incoming).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Sends what is in memory, and waits for the next packet.
    pub(super) async fn answer(&mut self) -> io::Result<Packet> {
        self.flush().await?;
        loop {
            if let Some(packet) = self.next_packet()? {
                return Ok(packet);
            }
            self.read().await?;
        }
    }

    /// Says goodbye.
    pub(super) async fn close(mut self) {
        let goodbye = Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection));
        if self.push(&goodbye).is_ok() {
            let last_words = async {
                if self.flush().await.is_ok() {
                    let _ = self.stream.shutdown().await;
                }
            };
            let _ = tokio::time::timeout(GOODBYE, last_words).await;
        }
    }
}

fn template(sn: &str) -> Publish {
    let user = uplink::event(SENSOR, 0, 0, None).user.into_iter();
    let properties = PublishProperties {
        user_properties: user.map(|(name, value)| (name.to_owned(), value)).collect(),
        ..PublishProperties::default()
    };
    Publish::new(Uplink::Evt.topic(sn), QoS::AtLeastOnce, Bytes::new(), Some(properties))
}

/// The body of a field device: tags, and a value between 15 and 25.
fn payload(Numbered { number, time_s }: Numbered) -> Bytes {
    let mut body = String::with_capacity(96);
    let (whole, hundredths) = (15 + number % 10, number % 100);
    // Writing into memory cannot fail.
    let _ = write!(
        body,
        r#"{{"101":{number},"102":{time_s},"200":{SENSOR},"300":[{{"310":{whole}.{hundredths:02}}}]}}"#
    );
    Bytes::from(body)
}

fn rewrite(text: &mut String, number: u64) {
    text.clear();
    let _ = write!(text, "{number}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read() {
        let address = |host: &str, port| Some(Address { host: host.to_owned(), port });
        assert_eq!(Address::parse("mqtts://localhost:8883"), address("localhost", 8883));
        assert_eq!(Address::parse("mqtts://[::1]:1/"), address("::1", 1));
        for bad in ["localhost:8883", "mqtts://localhost", "mqtts://localhost:port"] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_body_is_that_of_a_field_device() {
        let body = payload(Numbered { number: 107, time_s: 5 });
        assert_eq!(&body[..], br#"{"101":107,"102":5,"200":46,"300":[{"310":22.07}]}"#);
        let parsed: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(parsed.is_object());
    }
}
