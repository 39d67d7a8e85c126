//! A gateway on a real socket.

use std::net::SocketAddr;
use std::time::Duration;

use covey_gateway::mqtt_sn::packet::{Filter, Name, Packet, Qos, Subscribe, Topic, decode};
use covey_gateway::mqtt_sn::session::{Answer, Delivery, Event, Reason, Sent, Settings};
use covey_gateway::mqtt_sn::socket::{Counting, Handle, Socket};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{connect, publish};

const PATIENCE: Duration = Duration::from_secs(20);

struct Started {
    address: SocketAddr,
    handle: Handle,
    events: Receiver<Event>,
    counting: Counting,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

fn start(address: &str) -> Started {
    started(Socket::bind(address.parse().unwrap()).unwrap())
}

fn started(socket: Socket) -> Started {
    let (address, counting) = (socket.local_address().unwrap(), socket.counting());
    let stop = CancellationToken::new();
    let (handle, events, running) = socket.start(Settings::default(), stop.clone());
    Started { address, handle, events, counting, stop, running: tokio::spawn(running) }
}

impl Started {
    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }
}

async fn client(gateway: SocketAddr) -> UdpSocket {
    let local = if gateway.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
    let socket = UdpSocket::bind(local).await.unwrap();
    socket.connect(gateway).await.unwrap();
    socket
}

async fn say(client: &UdpSocket, packet: &Packet<'_>) {
    let mut bytes = Vec::new();
    packet.encode(&mut bytes).unwrap();
    client.send(&bytes).await.unwrap();
}

async fn hear(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 9_000];
    let length = timeout(PATIENCE, client.recv(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(length);
    buffer
}

/// A whole life: connect, register, publish, be written to, be ended.
async fn live(gateway: &mut Started, client: UdpSocket) {
    say(&client, &connect("n1")).await;
    assert_eq!(hear(&client).await, [3, 0x05, 0]);
    let Event::Connected { client: who, from, .. } = gateway.event().await else { panic!() };
    let local = client.local_addr().unwrap();
    assert_eq!((from.ip().to_canonical(), from.port()), (local.ip(), local.port()));
    say(&client, &super::register(1, "node/check")).await;
    assert_eq!(hear(&client).await, [7, 0x0B, 0, 1, 0, 1, 0]);
    say(&client, &publish(Qos::AtLeastOnce, Topic::Normal(1), 2, "{}")).await;
    let Event::Published { receipt: Some(receipt), .. } = gateway.event().await else { panic!() };
    gateway.handle.accepted(receipt, Answer::Taken);
    assert_eq!(hear(&client).await, [7, 0x0D, 0, 1, 0, 2, 0]);
    let publish = |token| gateway.handle.publish(who, token, "gateway/led".into(), (*b"1").into(), true);
    assert!(publish(8));
    let not_sent =
        Event::Delivered { client: who, token: 8, delivery: Delivery::NotSent(Sent::NotSubscribed) };
    assert_eq!(timeout(PATIENCE, gateway.events.recv()).await.unwrap().unwrap(), not_sent);
    let filter = Filter::Name(Name(b"gateway/led"));
    let subscribe = Subscribe { is_repeated: false, qos: Qos::AtLeastOnce, msg_id: 3, filter };
    say(&client, &Packet::Subscribe(subscribe)).await;
    assert_eq!(hear(&client).await[1], 0x13);
    assert!(matches!(
        timeout(PATIENCE, gateway.events.recv()).await.unwrap().unwrap(),
        Event::Subscribed { .. }
    ));
    assert!(gateway.handle.publish(who, 9, "gateway/led".into(), (*b"1").into(), true));
    let heard = hear(&client).await;
    let Packet::Publish(message) = decode(&heard).unwrap() else { panic!() };
    assert_eq!(message.payload, b"1");
    say(&client, &Packet::PubAck(super::ack(message.topic.id(), message.msg_id, 0))).await;
    let accepted = Event::Delivered { client: who, token: 9, delivery: Delivery::Accepted };
    assert_eq!(gateway.event().await, accepted);
    assert!(gateway.handle.disconnect(who));
    assert_eq!(hear(&client).await, [2, 0x18]);
    assert_eq!(gateway.event().await, Event::Gone { client: who, reason: Reason::Ended, will: None });
}

#[tokio::test]
async fn a_node_lives_over_ipv4() {
    let mut gateway = start("127.0.0.1:0");
    let client = client(gateway.address).await;
    live(&mut gateway, client).await;
}

#[tokio::test]
async fn one_socket_takes_ipv6_and_ipv4() {
    let mut gateway = started(Socket::bind_all(0).unwrap());
    let port = gateway.address.port();
    let client_of_6 = client(format!("[::1]:{port}").parse().unwrap()).await;
    live(&mut gateway, client_of_6).await;
    let client_of_4 = client(format!("127.0.0.1:{port}").parse().unwrap()).await;
    live(&mut gateway, client_of_4).await;
}

#[tokio::test]
async fn what_is_no_message_is_counted_and_harms_nobody() {
    let mut gateway = start("127.0.0.1:0");
    let client = client(gateway.address).await;
    for rubbish in [&b""[..], b"x", &[0; 100], &[0xFF; 9_000]] {
        client.send(rubbish).await.unwrap();
    }
    say(&client, &connect("n1")).await;
    assert_eq!(hear(&client).await, [3, 0x05, 0]);
    assert!(matches!(gateway.event().await, Event::Connected { .. }));
    let counts = gateway.counting.now();
    assert_eq!((counts.received, counts.refused, counts.connected), (5, 4, 1));
}

#[tokio::test]
async fn a_gateway_that_stops_says_so() {
    let mut gateway = start("127.0.0.1:0");
    let client = client(gateway.address).await;
    say(&client, &connect("n1")).await;
    hear(&client).await;
    gateway.event().await;
    gateway.stop.cancel();
    assert_eq!(hear(&client).await, [2, 0x18]);
    timeout(PATIENCE, gateway.running).await.unwrap().unwrap();
    assert_eq!(gateway.events.recv().await, None);
    assert!(!gateway.handle.disconnect(any_client()));
}

/// A handle of nobody.
fn any_client() -> covey_gateway::mqtt_sn::session::Client {
    let mut world = super::World::new();
    world.connected(1, "n1")
}

#[tokio::test]
async fn a_gateway_without_an_owner_ends() {
    let gateway = start("127.0.0.1:0");
    drop(gateway.events);
    timeout(PATIENCE, gateway.running).await.unwrap().unwrap();
}

/// The owner takes nothing: datagrams wait in the system, and nothing that was acknowledged is lost when it goes on.
#[tokio::test]
async fn an_owner_that_is_slow_gets_all_that_was_kept() {
    let mut gateway = start("127.0.0.1:0");
    let client = client(gateway.address).await;
    for number in 0..3_000_u16 {
        say(&client, &publish(Qos::WithoutConnection, Topic::Short(*b"ab"), 0, &number.to_string())).await;
    }
    let mut last = None;
    for _ in 0..1_000 {
        let Event::PublishedUnconnected { payload, .. } = gateway.event().await else { panic!() };
        let number: u16 = std::str::from_utf8(&payload).unwrap().parse().unwrap();
        assert!(last.is_none_or(|last| last < number));
        last = Some(number);
    }
}

/// A retransmission over a real clock.
#[tokio::test]
async fn what_is_not_acknowledged_comes_again() {
    let socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_address().unwrap();
    let settings = Settings { retry_ms: 50, retries: 2, ..Settings::default() };
    let (handle, mut events, running) = socket.start(settings, CancellationToken::new());
    tokio::spawn(running);
    let client = client(address).await;
    say(&client, &connect("n1")).await;
    hear(&client).await;
    let Some(Event::Connected { client: who, .. }) = events.recv().await else { panic!() };
    let filter = Filter::Short(*b"ab");
    let subscribe = Subscribe { is_repeated: false, qos: Qos::AtLeastOnce, msg_id: 3, filter };
    say(&client, &Packet::Subscribe(subscribe)).await;
    hear(&client).await;
    events.recv().await;
    assert!(handle.publish(who, 1, "ab".into(), (*b"x").into(), true));
    for flags in [0x22, 0xA2, 0xA2] {
        assert_eq!(hear(&client).await[2], flags);
    }
    let unanswered = Event::Delivered { client: who, token: 1, delivery: Delivery::Unanswered };
    assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap(), Some(unanswered));
}
