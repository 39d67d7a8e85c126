//! Nodes on a real socket, on a clock that stands still as long as anything can be done.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use covey_gateway::gateway::Gateway;
use covey_gateway::mqtt_sn::nodes::{habits, serve};
use covey_gateway::mqtt_sn::packet::{Ack, Packet, Publish, Qos, ReturnCode, Topic, decode};
use covey_gateway::mqtt_sn::session::Settings;
use covey_gateway::mqtt_sn::socket::Socket;
use covey_gateway::node::{Gone, Outcome, Verdict, Write};
use covey_gateway::port::{Hint, Later, Newcomer, Port, Report, Reported};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{connect_with, publish, register, subscribe};

/// For how long a write is wanted before it is asked for again, in milliseconds.
const WANTED_MS: u64 = 300_000;

/// A port with one write at a time, which is handed out until it is over.
#[derive(Default)]
struct OneWrite {
    value: Mutex<Option<&'static str>>,
    finished: Mutex<Vec<u16>>,
    wanted: Arc<Notify>,
}

impl OneWrite {
    fn want(&self, value: Option<&'static str>) {
        *self.value.lock().unwrap() = value;
        self.wanted.notify_one();
    }

    fn finished(&self) -> Vec<u16> {
        self.finished.lock().unwrap().clone()
    }
}

fn ready<T: Send + 'static>(what: T) -> Later<T> {
    Box::pin(std::future::ready(what))
}

impl Port for OneWrite {
    type Node = Arc<str>;
    type Write = ();

    fn join(&self, newcomer: Newcomer) -> Later<Verdict<Arc<str>>> {
        ready(Verdict::Joined(newcomer.uid))
    }

    fn came(&self, _: &Arc<str>, _: &Arc<str>, _: u64, _: &str) {}

    fn report(&self, reports: Vec<Report<Arc<str>>>) -> Later<Vec<Reported>> {
        ready(vec![Reported::Stored; reports.len()])
    }

    fn went(&self, _: &Arc<str>, _: u64, _: Gone) -> Later<()> {
        ready(())
    }

    fn next_write(&self, _: &Arc<str>, now_ms: u64) -> Later<Option<Write<()>>> {
        let value = *self.value.lock().unwrap();
        ready(value.map(|value| Write {
            id: (),
            values: vec![("led".to_owned(), Arc::from(value))],
            until_ms: now_ms + WANTED_MS,
        }))
    }

    fn finish(&self, _: &Arc<str>, (): (), outcome: Outcome) -> Later<()> {
        *self.value.lock().unwrap() = None;
        self.finished.lock().unwrap().push(outcome.status);
        ready(())
    }

    fn next_hint(&self) -> Later<Hint> {
        let wanted = Arc::clone(&self.wanted);
        Box::pin(async move {
            wanted.notified().await;
            Hint::Wanted(vec![Arc::from("7")])
        })
    }
}

/// Node `7`, with the server's side.
struct Node {
    port: Arc<OneWrite>,
    gateway: SocketAddr,
    socket: UdpSocket,
    stop: CancellationToken,
}

impl Node {
    async fn new() -> Self {
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (gateway, port) = (socket.local_address().unwrap(), Arc::new(OneWrite::default()));
        let stop = CancellationToken::new();
        let nodes = Gateway::new(Arc::clone(&port), habits(Duration::from_secs(120)));
        tokio::spawn(serve(nodes, socket, Settings::default(), stop.clone()));
        Self { port, gateway, socket: other_socket(gateway).await, stop }
    }

    /// It comes from another port, as after it was switched off.
    async fn restart(&mut self) {
        self.socket = other_socket(self.gateway).await;
    }

    async fn say(&self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes).unwrap();
        self.socket.send(&bytes).await.unwrap();
    }

    /// Hears until what is heard is this.
    async fn hear<T>(&self, what: &str, is_it: impl Fn(Packet<'_>) -> Option<T>) -> T {
        let mut buffer = [0; 1_024];
        let hearing = async {
            loop {
                let length = self.socket.recv(&mut buffer).await.unwrap();
                if let Some(found) = is_it(decode(&buffer[..length]).unwrap()) {
                    return found;
                }
            }
        };
        timeout(Duration::from_secs(9), hearing).await.unwrap_or_else(|_| panic!("no {what}"))
    }

    async fn connect(&self) {
        self.say(&connect_with("7", false, true, 1_000)).await;
        self.hear("CONNACK", |packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await;
    }

    async fn subscribe(&self) {
        self.say(&subscribe(2, "gateway/7/+/set")).await;
        self.hear("SUBACK", |packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
    }

    /// It says that it is there, or what its LED is.
    async fn publish(&self, topic: &str, body: &str) {
        self.say(&register(3, topic)).await;
        let id = |packet: Packet<'_>| match packet {
            Packet::RegAck(ack) => Some(ack.topic_id),
            _ => None,
        };
        let topic = Topic::Normal(self.hear("REGACK", id).await);
        self.say(&publish(Qos::AtLeastOnce, topic, 4, body)).await;
        self.hear("PUBACK", |packet| matches!(packet, Packet::PubAck(_)).then_some(())).await;
    }

    async fn check(&self) {
        self.publish("node/check", r#"{"id": "7"}"#).await;
    }

    /// What is written to its LED, which it acknowledges.
    async fn written(&self) -> String {
        loop {
            let heard = |packet: Packet<'_>| match packet {
                Packet::Register { topic_id, msg_id, .. } => Some((topic_id, msg_id, None)),
                Packet::Publish(Publish { topic: Topic::Normal(topic_id), msg_id, payload, .. }) => {
                    Some((topic_id, msg_id, Some(String::from_utf8_lossy(payload).into_owned())))
                }
                _ => None,
            };
            let (topic_id, msg_id, value) = self.hear("value", heard).await;
            let ack = Ack { topic_id, msg_id, code: ReturnCode::ACCEPTED };
            let Some(value) = value else {
                self.say(&Packet::RegAck(ack)).await;
                continue;
            };
            self.say(&Packet::PubAck(ack)).await;
            return value;
        }
    }

    /// It sleeps.
    async fn sleep(&self, for_s: u16) {
        self.say(&Packet::Disconnect(Some(for_s))).await;
        self.hear("DISCONNECT", |packet| matches!(packet, Packet::Disconnect(_)).then_some(())).await;
    }

    async fn wake(&self) {
        self.say(&Packet::PingReq(Some(covey_gateway::mqtt_sn::packet::Name(b"7")))).await;
    }

    /// With which status its write ends.
    async fn finished(&self) -> u16 {
        let ends = async {
            loop {
                if let Some(status) = self.port.finished().last() {
                    return *status;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), ends).await.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn other_socket(gateway: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(gateway).await.unwrap();
    socket
}

#[tokio::test(start_paused = true)]
async fn a_write_to_a_node_that_sleeps_is_open_until_it_wakes_and_then_done() {
    let node = Node::new().await;
    node.connect().await;
    node.subscribe().await;
    node.check().await;
    node.sleep(3_600).await;
    node.port.want(Some("1"));
    // Longer than a write is handed out once.
    sleep(Duration::from_millis(3 * WANTED_MS)).await;
    assert_eq!(node.port.finished(), [0_u16; 0]);
    node.wake().await;
    assert_eq!(node.written().await, "1");
    node.hear("PINGRESP", |packet| matches!(packet, Packet::PingResp).then_some(())).await;
    node.publish("node/7/led", r#"{"value": "1"}"#).await;
    assert_eq!(node.finished().await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_sleeper_gets_the_newest_of_what_was_wanted_and_nothing_that_nobody_wants_any_more() {
    let node = Node::new().await;
    node.connect().await;
    node.subscribe().await;
    node.check().await;
    node.sleep(3_600).await;
    node.port.want(Some("1"));
    sleep(Duration::from_millis(WANTED_MS / 2)).await;
    node.port.want(Some("2"));
    sleep(Duration::from_millis(WANTED_MS)).await;
    node.wake().await;
    assert_eq!(node.written().await, "2");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_lost_with_its_sleeper_is_done_when_that_comes_back() {
    let mut node = Node::new().await;
    node.connect().await;
    node.subscribe().await;
    node.check().await;
    node.sleep(60).await;
    node.port.want(Some("1"));
    sleep(Duration::from_secs(89)).await;
    assert_eq!(node.port.finished(), [0_u16; 0]);
    // After one and a half times what it said it is taken for lost.
    sleep(Duration::from_secs(10)).await;
    node.restart().await;
    node.connect().await;
    node.check().await;
    node.subscribe().await;
    assert_eq!(node.written().await, "1");
    node.publish("node/7/led", r#"{"value": "1"}"#).await;
    assert_eq!(node.finished().await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_a_node_that_speaks_before_it_subscribes() {
    let node = Node::new().await;
    node.port.want(Some("1"));
    node.connect().await;
    node.check().await;
    for _ in 0..5 {
        sleep(Duration::from_secs(1)).await;
        node.publish("node/7/led", r#"{"value": "0"}"#).await;
    }
    assert_eq!(node.port.finished(), [0_u16; 0]);
    node.subscribe().await;
    assert_eq!(node.written().await, "1");
    node.publish("node/7/led", r#"{"value": "1"}"#).await;
    assert_eq!(node.finished().await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_write_to_a_node_that_subscribes_to_nothing_is_refused() {
    let node = Node::new().await;
    node.port.want(Some("1"));
    node.connect().await;
    node.check().await;
    assert_eq!(node.finished().await, 409);
}
