//! A node that publishes over plain MQTT 3.1.1: an empty client id, a clean session, QoS 1.

use std::io;
use std::sync::atomic::Ordering;

use bytes::{Buf, BytesMut};
use covey_wire::mqtt::{
    Ack, Connect, Delivery, Disconnect, Framing, Packet, PacketId, Properties, ProtocolVersion, Publish, Qos,
    ReasonCode, Sender, Subscribe, SubscribeList, SubscriptionOptions, decode, frame,
};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::node::Node;
use super::{ALIVE, Shared};

const VERSION: ProtocolVersion = ProtocolVersion::V311;
/// The keep-alive time, in seconds: three signs of life.
const KEEP_ALIVE_S: u16 = 90;
/// Largest packet that is taken, in bytes.
const PACKET_BYTES_MAX: usize = 64 * 1024;

/// A connection to the gateway.
pub(super) struct Connection<S> {
    stream: S,
    incoming: BytesMut,
    outgoing: Vec<u8>,
    last_id: u16,
}

/// What the gateway has said.
pub(super) enum Heard {
    /// It lets the node in.
    Connected,
    /// It has noted what the node listens to.
    Subscribed,
    /// A message.
    Message { topic: String, payload: Vec<u8> },
    /// Something that asks for nothing.
    Nothing,
}

/// Lives until `stop`, or until the connection ends.
pub(super) async fn run(shared: &Shared, node: &Node, stop: &CancellationToken) -> io::Result<()> {
    let stream = TcpStream::connect(shared.gateway()?).await?;
    stream.set_nodelay(true)?;
    let mut connection = Connection::open(stream, "").await?;
    let mut counted = None;
    let interval = shared.options.interval;
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut alive = interval_at(Instant::now() + ALIVE, ALIVE);
    loop {
        tokio::select! {
            () = stop.cancelled() => return connection.close().await,
            _ = ticks.tick(), if counted.is_some() => {
                let (name, value) = node.change();
                connection.say(shared, node, name, &value)?;
            }
            _ = alive.tick(), if counted.is_some() => connection.check(node)?,
            heard = connection.hear() => match heard? {
                Heard::Connected => {
                    let uid = &node.uid;
                    let (discover, set) = (format!("gateway/{uid}/discover"), format!("gateway/{uid}/+/set"));
                    connection.subscribe(&["gateway/check", &discover, &set], Qos::AtLeastOnce)?;
                }
                Heard::Subscribed => {
                    counted = Some(shared.connected());
                    connection.check(node)?;
                }
                Heard::Message { topic, payload } => answer(shared, node, &mut connection, &topic, &payload)?,
                Heard::Nothing => {}
            },
        }
        connection.flush().await?;
    }
}

/// Does what a message of the gateway asks for.
fn answer(
    shared: &Shared,
    node: &Node,
    connection: &mut Connection<TcpStream>,
    topic: &str,
    payload: &[u8],
) -> io::Result<()> {
    if topic == "gateway/check" {
        return connection.check(node);
    }
    let asked = topic.strip_prefix("gateway/").and_then(|rest| rest.strip_prefix(&*node.uid));
    match (asked.and_then(|rest| rest.strip_prefix('/')), payload) {
        (Some("discover"), b"resources") => {
            let names: Vec<_> = Node::names().collect();
            connection.publish(&format!("node/{}/resources", node.uid), &json!(names).to_string())
        }
        (Some("discover"), b"values") => {
            node.values().iter().try_for_each(|(name, value)| connection.say(shared, node, name, value))
        }
        (Some(set), _) => {
            let Some(resource) = set.strip_suffix("/set") else { return Ok(()) };
            let Ok(name) = node.set(resource, payload) else { return Ok(()) };
            shared.tally.writes.fetch_add(1, Ordering::Relaxed);
            connection.say(shared, node, name, &node.value(name).unwrap_or_default())
        }
        (None, _) => Ok(()),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Begins a session that the gateway forgets when it ends.
    pub(super) async fn open(stream: S, client_id: &str) -> io::Result<Self> {
        let mut connection = Self { stream, incoming: BytesMut::new(), outgoing: Vec::new(), last_id: 0 };
        connection.push(&Packet::Connect(Connect {
            version: VERSION,
            clean_start: true,
            keep_alive_s: KEEP_ALIVE_S,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: Properties::NONE,
        }))?;
        connection.flush().await?;
        Ok(connection)
    }

    /// Says goodbye.
    pub(super) async fn close(mut self) -> io::Result<()> {
        let goodbye = Disconnect { reason: ReasonCode::Success, properties: Properties::NONE };
        self.push(&Packet::Disconnect(goodbye))?;
        self.flush().await
    }

    pub(super) fn push(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        packet.encode(VERSION, &mut self.outgoing).map(drop).map_err(io::Error::other)
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.outgoing).await?;
        self.outgoing.clear();
        // What TLS holds back.
        self.stream.flush().await
    }

    fn next_id(&mut self) -> PacketId {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.last_id).unwrap_or(PacketId::MIN)
    }

    pub(super) fn subscribe(&mut self, filters: &[&str], qos: Qos) -> io::Result<()> {
        let mut list = SubscribeList::new(VERSION);
        for filter in filters {
            list.push(filter, SubscriptionOptions::qos(qos)).map_err(io::Error::other)?;
        }
        let packet_id = self.next_id();
        let filters = list.filters();
        self.push(&Packet::Subscribe(Subscribe { packet_id, filters, properties: Properties::NONE }))
    }

    fn check(&mut self, node: &Node) -> io::Result<()> {
        self.publish("node/check", &json!({"id": node.uid}).to_string())
    }

    fn say(&mut self, shared: &Shared, node: &Node, name: &str, value: &str) -> io::Result<()> {
        shared.tally.said(1);
        self.publish(&format!("node/{}/{name}", node.uid), &json!({ "value": value }).to_string())
    }

    fn publish(&mut self, topic: &str, body: &str) -> io::Result<()> {
        let packet_id = self.next_id();
        self.publish_as(Delivery::AtLeastOnce { packet_id, is_repeated: false }, topic, body)
    }

    pub(super) fn publish_as(&mut self, delivery: Delivery, topic: &str, body: &str) -> io::Result<()> {
        let (properties, payload) = (Properties::NONE, body.as_bytes());
        self.push(&Packet::Publish(Publish { delivery, retain: false, topic, properties, payload }))
    }

    /// The next packet. Nothing is lost when this is dropped half way.
    pub(super) async fn hear(&mut self) -> io::Result<Heard> {
        loop {
            if let Framing::Frame(found) =
                frame(&self.incoming, PACKET_BYTES_MAX).map_err(io::Error::other)?
            {
                let size = found.size();
                let bytes = self.incoming.split_to(size).freeze();
                return self.take(bytes.chunk());
            }
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<Heard> {
        let Framing::Frame(found) = frame(bytes, PACKET_BYTES_MAX).map_err(io::Error::other)? else {
            return Ok(Heard::Nothing);
        };
        match decode(found, VERSION, Sender::Server).map_err(io::Error::other)? {
            Packet::ConnAck(connack) if connack.reason == ReasonCode::Success => Ok(Heard::Connected),
            Packet::ConnAck(connack) => {
                Err(io::Error::other(format!("the gateway refuses the connection: {:?}", connack.reason)))
            }
            Packet::SubAck(suback) if suback.reasons.iter().any(ReasonCode::is_failure) => {
                Err(io::Error::other("the gateway refuses the subscription"))
            }
            Packet::SubAck(_) => Ok(Heard::Subscribed),
            Packet::Publish(publish) => {
                let heard =
                    Heard::Message { topic: publish.topic.to_owned(), payload: publish.payload.to_vec() };
                if let Some(packet_id) = publish.delivery.packet_id() {
                    let (reason, properties) = (ReasonCode::Success, Properties::NONE);
                    self.push(&Packet::PubAck(Ack { packet_id, reason, properties }))?;
                }
                Ok(heard)
            }
            _ => Ok(Heard::Nothing),
        }
    }
}
