//! A node that speaks MQTT-SN 1.2 over UDP: a clean session under its uid, topics registered before they are used, QoS 1.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use covey_wire::mqtt_sn::{
    Ack, Connect, Filter, Name, PROTOCOL_ID, Packet, Publish, Qos, ReturnCode, Subscribe, Topic, decode,
};
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::node::Node;
use super::{ALIVE, Shared};

/// How long an answer is waited for before a message is sent again (§7.2 `T_retry`).
const RETRY: Duration = Duration::from_secs(2);
/// How often a message is sent before the gateway is given up (§7.2 `N_retry`).
const ATTEMPTS_MAX: u32 = 5;
/// The keep-alive time, in seconds: three signs of life.
const KEEP_ALIVE_S: u16 = 90;
/// Largest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// A client of the gateway. It has one message on its way at a time (§6.5), and takes what comes meanwhile.
struct Client<'a> {
    socket: UdpSocket,
    node: &'a Node,
    shared: &'a Shared,
    last_id: u16,
    /// The ids of topics that the node has registered.
    own: HashMap<String, u16>,
    /// The names of topics by the ids that the gateway has told.
    told: HashMap<u16, String>,
    heard: VecDeque<(String, Vec<u8>)>,
    buffer: Vec<u8>,
}

/// An answer of the gateway, as far as it is one.
enum Reply {
    Connected,
    /// REGACK, PUBACK or SUBACK of a message, with the topic id.
    Acknowledged {
        msg_id: u16,
        topic_id: u16,
    },
    Refused(ReturnCode),
    Nothing,
}

/// Lives until `stop`, or until the gateway does not answer.
pub(super) async fn run(shared: &Shared, node: &Node, stop: &CancellationToken) -> io::Result<()> {
    let gateway = shared.gateway()?;
    let any: SocketAddr = match gateway {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(gateway).await?;
    let buffer = vec![0; MESSAGE_BYTES_MAX];
    let (own, told, heard) = (HashMap::new(), HashMap::new(), VecDeque::new());
    let mut client = Client { socket, node, shared, last_id: 0, own, told, heard, buffer };
    let living = client.live();
    match stop.run_until_cancelled(living).await {
        Some(ended) => ended,
        None => client.send(&Packet::Disconnect(None)).await,
    }
}

impl Client<'_> {
    async fn live(&mut self) -> io::Result<()> {
        let uid = &self.node.uid;
        let connect = Connect {
            has_will: false,
            is_clean: true,
            protocol_id: PROTOCOL_ID,
            keep_alive_s: KEEP_ALIVE_S,
            client_id: Name(uid.as_bytes()),
        };
        self.ask(&Packet::Connect(connect), 0).await?;
        let _counted = self.shared.connected();
        for filter in
            ["gateway/check".to_owned(), format!("gateway/{uid}/discover"), format!("gateway/{uid}/+/set")]
        {
            self.subscribe(&filter).await?;
        }
        self.check().await?;
        let interval = self.shared.options.interval;
        let mut ticks = interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut alive = interval_at(Instant::now() + ALIVE, ALIVE);
        loop {
            while let Some((topic, payload)) = self.heard.pop_front() {
                self.answer(&topic, &payload).await?;
            }
            tokio::select! {
                _ = ticks.tick() => {
                    let (name, value) = self.node.change();
                    self.say(name, &value).await?;
                }
                _ = alive.tick() => self.check().await?,
                length = self.socket.recv(&mut self.buffer) => {
                    self.take(length?).await?;
                }
            }
        }
    }

    /// Does what a message of the gateway asks for.
    async fn answer(&mut self, topic: &str, payload: &[u8]) -> io::Result<()> {
        if topic == "gateway/check" {
            return self.check().await;
        }
        let node = self.node;
        let asked = topic.strip_prefix("gateway/").and_then(|rest| rest.strip_prefix(&*node.uid));
        match (asked.and_then(|rest| rest.strip_prefix('/')), payload) {
            (Some("discover"), b"resources") => {
                let names: Vec<_> = Node::names().collect();
                self.publish(&format!("node/{}/resources", node.uid), &json!(names).to_string()).await
            }
            (Some("discover"), b"values") => {
                for (name, value) in node.values() {
                    self.say(name, &value).await?;
                }
                Ok(())
            }
            (Some(set), _) => {
                let Some(resource) = set.strip_suffix("/set") else { return Ok(()) };
                let Ok(name) = node.set(resource, payload) else { return Ok(()) };
                self.shared.tally.writes.fetch_add(1, Ordering::Relaxed);
                self.say(name, &node.value(name).unwrap_or_default()).await
            }
            (None, _) => Ok(()),
        }
    }

    async fn check(&mut self) -> io::Result<()> {
        self.publish("node/check", &json!({"id": self.node.uid}).to_string()).await
    }

    async fn say(&mut self, name: &str, value: &str) -> io::Result<()> {
        self.shared.tally.said(1);
        let topic = format!("node/{}/{name}", self.node.uid);
        self.publish(&topic, &json!({ "value": value }).to_string()).await
    }

    async fn subscribe(&mut self, filter: &str) -> io::Result<()> {
        let msg_id = self.next_id();
        let (is_repeated, qos) = (false, Qos::AtLeastOnce);
        let subscribed = Filter::Name(Name(filter.as_bytes()));
        let packet = Packet::Subscribe(Subscribe { is_repeated, qos, msg_id, filter: subscribed });
        let topic_id = self.ask(&packet, msg_id).await?;
        if topic_id != 0 {
            self.told.insert(topic_id, filter.to_owned());
        }
        Ok(())
    }

    async fn publish(&mut self, topic: &str, body: &str) -> io::Result<()> {
        let id = match self.own.get(topic) {
            Some(id) => *id,
            None => {
                let msg_id = self.next_id();
                let name = Name(topic.as_bytes());
                let id = self.ask(&Packet::Register { topic_id: 0, msg_id, name }, msg_id).await?;
                self.own.insert(topic.to_owned(), id);
                id
            }
        };
        let msg_id = self.next_id();
        let publish = Publish {
            is_repeated: false,
            qos: Qos::AtLeastOnce,
            retain: false,
            topic: Topic::Normal(id),
            msg_id,
            payload: body.as_bytes(),
        };
        self.ask(&Packet::Publish(publish), msg_id).await.map(drop)
    }

    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    async fn send(&self, packet: &Packet<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes).map_err(io::Error::other)?;
        self.socket.send(&bytes).await.map(drop)
    }

    /// Sends a message until it is answered; answers the topic id. A CONNECT has the id 0.
    async fn ask(&mut self, packet: &Packet<'_>, msg_id: u16) -> io::Result<u16> {
        let is_connect = matches!(packet, Packet::Connect(_));
        for _ in 0..ATTEMPTS_MAX {
            self.send(packet).await?;
            let answered = async {
                loop {
                    match self.receive().await? {
                        Reply::Connected if is_connect => return Ok(0),
                        Reply::Acknowledged { msg_id: of, topic_id } if of == msg_id && !is_connect => {
                            return Ok(topic_id);
                        }
                        Reply::Refused(ReturnCode(code)) => {
                            return Err(io::Error::other(format!("the gateway refuses a message: {code}")));
                        }
                        _ => {}
                    }
                }
            };
            if let Ok(answer) = timeout(RETRY, answered).await {
                return answer;
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    async fn receive(&mut self) -> io::Result<Reply> {
        let length = self.socket.recv(&mut self.buffer).await?;
        self.take(length).await
    }

    /// Takes a datagram of so many bytes. A message of the gateway is acknowledged and kept.
    async fn take(&mut self, length: usize) -> io::Result<Reply> {
        let Ok(packet) = decode(&self.buffer[..length]) else { return Ok(Reply::Nothing) };
        match packet {
            Packet::ConnAck(ReturnCode::ACCEPTED) => return Ok(Reply::Connected),
            Packet::ConnAck(code) => return Ok(Reply::Refused(code)),
            Packet::RegAck(ack) | Packet::PubAck(ack) => {
                let Ack { topic_id, msg_id, code } = ack;
                let is_taken = code == ReturnCode::ACCEPTED;
                return Ok(if is_taken {
                    Reply::Acknowledged { msg_id, topic_id }
                } else {
                    Reply::Refused(code)
                });
            }
            Packet::SubAck(ack) if ack.code == ReturnCode::ACCEPTED => {
                return Ok(Reply::Acknowledged { msg_id: ack.msg_id, topic_id: ack.topic_id });
            }
            Packet::SubAck(ack) => return Ok(Reply::Refused(ack.code)),
            Packet::Register { topic_id, msg_id, name } => {
                if let Ok(name) = name.text() {
                    self.told.insert(topic_id, name.to_owned());
                }
                self.send(&Packet::RegAck(Ack { topic_id, msg_id, code: ReturnCode::ACCEPTED })).await?;
            }
            Packet::Publish(publish) => {
                let Publish { qos, topic, msg_id, payload, .. } = publish;
                let known = match topic {
                    Topic::Normal(id) => self.told.get(&id).cloned(),
                    // The gateway's check has a predefined id.
                    Topic::Predefined(_) => Some("gateway/check".to_owned()),
                    Topic::Short(_) => None,
                };
                let payload = payload.to_vec();
                let code = if known.is_some() { ReturnCode::ACCEPTED } else { ReturnCode::INVALID_TOPIC_ID };
                if qos == Qos::AtLeastOnce {
                    self.send(&Packet::PubAck(Ack { topic_id: topic.id(), msg_id, code })).await?;
                }
                self.heard.extend(known.map(|topic| (topic, payload)));
            }
            Packet::PingReq(_) => self.send(&Packet::PingResp).await?,
            Packet::Disconnect(_) => return Err(io::Error::other("the gateway has disconnected the node")),
            _ => {}
        }
        Ok(Reply::Nothing)
    }
}
