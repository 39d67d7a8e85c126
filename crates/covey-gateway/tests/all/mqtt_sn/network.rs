//! Clients and a gateway over a network that loses, doubles and delays, with an owner that is slow, refuses for a time,
//! forgets, and publishes to the clients, which sleep, wake and reboot in between.
//!
//! | what is held | for |
//! | --- | --- |
//! | what was acknowledged was taken | every message of QoS 1 and 2 |
//! | it was taken once | the same, since clients repeat with DUP; of the last one before a reboot perhaps never |
//! | messages are taken in the order in which they were sent | each client |
//! | each message to a client comes to one end, and what was accepted has come | each token |
//! | messages to a client come in their order | each connection |
//! | everything is done | once the network works again |
//!
//! A datagram is delayed by less than clients wait for an answer: one that comes after its repetition and without DUP
//! cannot be told from a new message.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use covey_gateway::mqtt_sn::packet::{
    Ack, Connect, Filter, Name, Packet, Publish, Qos, ReturnCode, Subscribe, Topic, decode,
};
use covey_gateway::mqtt_sn::session::{
    Answer, Client, Delivery, Event, Gateway, Message, Output, Receipt, Sent, Settings,
};
use proptest::prelude::*;

use super::at;

const CLIENTS: u16 = 3;
/// `T_RETRY` of clients and of the gateway, in milliseconds.
const RETRY_MS: u64 = 10_000;
const DELAY_MS_MAX: u64 = 3_000;
/// How long the network has faults, in milliseconds.
const FAULTS_MS: u64 = 400_000;
/// How many messages each client sends.
const MESSAGES: u32 = 25;
const TOKENS: u64 = 20;

#[derive(Clone, Copy, Debug)]
struct Faults {
    seed: u64,
    /// In percent.
    loss: u64,
    doubling: u64,
    later: u64,
    forgetting: u64,
    reboot: u64,
    sleep: u64,
}

fn faults() -> impl Strategy<Value = Faults> {
    (any::<u64>(), 0..45_u64, 0..30_u64, 0..30_u64, 0..10_u64, 0..8_u64, 0..30_u64).prop_map(
        |(seed, loss, doubling, later, forgetting, reboot, sleep)| Faults {
            seed,
            loss,
            doubling,
            later,
            forgetting,
            reboot,
            sleep,
        },
    )
}

enum Step {
    ToGateway {
        port: u16,
        bytes: Vec<u8>,
    },
    ToClient {
        port: u16,
        bytes: Vec<u8>,
    },
    /// A client has waited long enough, unless something has come since.
    Waited {
        port: u16,
        turn: u64,
    },
    Answer(Receipt, Answer),
    /// The owner publishes something to a client.
    Tell {
        port: u16,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Registering,
    Subscribing,
    /// A message waits for PUBACK or PUBREC.
    Publishing,
    /// PUBREC has come.
    Releasing,
    GoingToSleep,
    Sleeping,
    Waking,
    Done,
}

/// A client as the specification wants it.
struct Node {
    port: u16,
    state: State,
    turn: u64,
    /// The datagram that is repeated.
    waits_for: Vec<u8>,
    msg_id: u16,
    topic_id: u16,
    /// The message that is sent now.
    number: u32,
    qos: Qos,
    /// Bodies that were acknowledged.
    acknowledged: Vec<String>,
    /// That may or may not have been taken before a reboot.
    interrupted: BTreeSet<String>,
    topics: HashMap<u16, String>,
    /// Tokens that have come in this connection.
    heard: Vec<u64>,
    all_heard: BTreeSet<u64>,
    seen_ids: BTreeSet<u16>,
}

struct Net {
    gateway: Gateway,
    out: Output,
    now_ms: u64,
    steps: BTreeMap<(u64, u64), Step>,
    count: u64,
    chance: u64,
    faults: Faults,
    nodes: Vec<Node>,
    clients: HashMap<u16, Client>,
    ports: HashMap<Client, u16>,
    /// What the owner has taken, in order.
    taken: Vec<String>,
    next_token: u64,
    /// Tokens without an end.
    open: BTreeSet<u64>,
    accepted: BTreeSet<u64>,
}

impl Net {
    fn new(faults: Faults) -> Self {
        let settings = Settings { seed: faults.seed, retry_ms: RETRY_MS, retries: 8, ..Settings::default() };
        let mut net = Self {
            gateway: Gateway::new(settings),
            out: Output::default(),
            now_ms: 0,
            steps: BTreeMap::new(),
            count: 0,
            chance: faults.seed | 1,
            faults,
            nodes: Vec::new(),
            clients: HashMap::new(),
            ports: HashMap::new(),
            taken: Vec::new(),
            next_token: 0,
            open: BTreeSet::new(),
            accepted: BTreeSet::new(),
        };
        for port in 0..CLIENTS {
            net.nodes.push(Node {
                port,
                state: State::Connecting,
                turn: 0,
                waits_for: Vec::new(),
                msg_id: 0,
                topic_id: 0,
                number: 0,
                qos: Qos::AtLeastOnce,
                acknowledged: Vec::new(),
                interrupted: BTreeSet::new(),
                topics: HashMap::new(),
                heard: Vec::new(),
                all_heard: BTreeSet::new(),
                seen_ids: BTreeSet::new(),
            });
            net.connect(port);
        }
        for number in 0..TOKENS {
            let port = (number % u64::from(CLIENTS)) as u16;
            net.after(10_000 * (number + 1), Step::Tell { port });
        }
        net
    }

    fn draw(&mut self, bound: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 11) % bound
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.draw(100) < percent && self.now_ms < FAULTS_MS
    }

    fn after(&mut self, ms: u64, step: Step) {
        self.count += 1;
        self.steps.insert((self.now_ms + ms, self.count), step);
    }

    /// The network carries a datagram, or does not. A copy comes together with it.
    fn carry(&mut self, step: impl Fn() -> Step) {
        if self.happens(self.faults.loss) {
            return;
        }
        let delay_ms = if self.now_ms < FAULTS_MS { self.draw(DELAY_MS_MAX) } else { 5 };
        if self.happens(self.faults.doubling) {
            self.after(delay_ms, step());
        }
        self.after(delay_ms, step());
    }

    fn node(&mut self, port: u16) -> &mut Node {
        &mut self.nodes[usize::from(port)]
    }

    fn say(&mut self, port: u16, packet: &Packet<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes).unwrap();
        self.carry(|| Step::ToGateway { port, bytes: bytes.clone() });
        bytes
    }

    /// Says something until it is answered.
    fn ask(&mut self, port: u16, state: State, packet: &Packet<'_>) {
        let bytes = self.say(port, packet);
        let node = self.node(port);
        node.state = state;
        node.waits_for = bytes;
        node.turn += 1;
        let turn = node.turn;
        self.after(RETRY_MS, Step::Waited { port, turn });
    }

    fn connect(&mut self, port: u16) {
        let node = self.node(port);
        node.heard.clear();
        node.topics.clear();
        node.seen_ids.clear();
        let id = format!("n{port}");
        let client_id = Name(id.as_bytes());
        let connect =
            Connect { has_will: false, is_clean: true, protocol_id: 1, keep_alive_s: 60, client_id };
        self.ask(port, State::Connecting, &Packet::Connect(connect));
    }

    fn next_id(&mut self, port: u16) -> u16 {
        let node = self.node(port);
        node.msg_id += 1;
        node.msg_id
    }

    /// The next thing that a client does.
    fn go_on(&mut self, port: u16) {
        let node = self.node(port);
        if node.number == MESSAGES {
            // It only keeps alive.
            self.ask(port, State::Done, &Packet::PingReq(None));
            return;
        }
        if self.happens(self.faults.sleep) {
            self.ask(port, State::GoingToSleep, &Packet::Disconnect(Some(120)));
            return;
        }
        let msg_id = self.next_id(port);
        let qos = if self.draw(3) == 0 { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
        let node = self.node(port);
        node.number += 1;
        node.qos = qos;
        let body = format!("{port}:{}", node.number);
        let topic = Topic::Normal(node.topic_id);
        let publish =
            Publish { is_repeated: false, qos, retain: false, topic, msg_id, payload: body.as_bytes() };
        self.ask(port, State::Publishing, &Packet::Publish(publish));
    }

    fn body(&mut self, port: u16) -> String {
        format!("{port}:{}", self.node(port).number)
    }

    fn reboot(&mut self, port: u16) {
        let body = self.body(port);
        let node = self.node(port);
        if matches!(node.state, State::Publishing | State::Releasing) {
            node.interrupted.insert(body);
        }
        node.msg_id = 0;
        self.connect(port);
    }

    fn waited(&mut self, port: u16, turn: u64) {
        if self.node(port).turn != turn {
            return;
        }
        if self.happens(self.faults.reboot) {
            self.reboot(port);
            return;
        }
        let node = self.node(port);
        if node.state == State::Sleeping {
            let id = format!("n{port}");
            if self.draw(2) == 0 {
                self.connect_again(port);
            } else {
                self.ask(port, State::Waking, &Packet::PingReq(Some(Name(id.as_bytes()))));
            }
            return;
        }
        // DUP, in a PUBLISH of one byte of length.
        if node.waits_for[1] == 0x0C {
            node.waits_for[2] |= 0x80;
        }
        let bytes = node.waits_for.clone();
        self.carry(|| Step::ToGateway { port, bytes: bytes.clone() });
        self.after(RETRY_MS, Step::Waited { port, turn });
    }

    /// From sleep: what it knows it knows still.
    fn connect_again(&mut self, port: u16) {
        let id = format!("n{port}");
        let client_id = Name(id.as_bytes());
        let connect =
            Connect { has_will: false, is_clean: false, protocol_id: 1, keep_alive_s: 60, client_id };
        self.ask(port, State::Connecting, &Packet::Connect(connect));
    }

    fn sleep(&mut self, port: u16) {
        let ms = 20_000 + self.draw(60_000);
        let node = self.node(port);
        node.state = State::Sleeping;
        node.turn += 1;
        let turn = node.turn;
        self.after(ms, Step::Waited { port, turn });
    }

    /// Something comes to a client.
    fn hear(&mut self, port: u16, bytes: &[u8]) {
        let state = self.node(port).state.clone();
        let msg_id = self.node(port).msg_id;
        match (decode(bytes).unwrap(), state) {
            // Who sleeps hears nothing.
            (_, State::Sleeping) => {}
            (Packet::ConnAck(code), State::Connecting) => {
                assert_eq!(code, ReturnCode::ACCEPTED);
                let msg_id = self.next_id(port);
                let name = Name(b"node/value");
                self.ask(port, State::Registering, &Packet::Register { topic_id: 0, msg_id, name });
            }
            (Packet::RegAck(ack), State::Registering) if ack.msg_id == msg_id => {
                assert_eq!(ack.code, ReturnCode::ACCEPTED);
                self.node(port).topic_id = ack.topic_id;
                let msg_id = self.next_id(port);
                let filter = Filter::Name(Name(b"gateway/+"));
                let subscribe = Subscribe { is_repeated: false, qos: Qos::AtLeastOnce, msg_id, filter };
                self.ask(port, State::Subscribing, &Packet::Subscribe(subscribe));
            }
            (Packet::SubAck(ack), State::Subscribing) if ack.msg_id == msg_id => self.go_on(port),
            (Packet::PubAck(ack), State::Publishing) if ack.msg_id == msg_id => match ack.code {
                ReturnCode::ACCEPTED => {
                    assert_eq!(self.node(port).qos, Qos::AtLeastOnce);
                    self.acknowledged(port);
                }
                // It is repeated.
                ReturnCode::CONGESTION => {}
                code => panic!("{code:?}"),
            },
            (Packet::PubRec(id), State::Publishing) if id == msg_id => {
                self.ask(port, State::Releasing, &Packet::PubRel(id));
            }
            (Packet::PubComp(id), State::Releasing) if id == msg_id => self.acknowledged(port),
            (Packet::Disconnect(_), State::GoingToSleep) => self.sleep(port),
            (Packet::PingResp, State::Waking) => self.sleep(port),
            (Packet::Disconnect(_), _) => self.reboot(port),
            (Packet::Register { topic_id, msg_id, name }, _) => {
                self.node(port).topics.insert(topic_id, name.topic().unwrap().to_owned());
                let ack = Ack { topic_id, msg_id, code: ReturnCode::ACCEPTED };
                self.say(port, &Packet::RegAck(ack));
            }
            (Packet::Publish(publish), _) => self.hear_message(port, &publish),
            _ => {}
        }
    }

    fn acknowledged(&mut self, port: u16) {
        let body = self.body(port);
        self.node(port).acknowledged.push(body);
        self.go_on(port);
    }

    fn hear_message(&mut self, port: u16, publish: &Publish<'_>) {
        let Topic::Normal(topic_id) = publish.topic else { panic!() };
        let token: u64 = std::str::from_utf8(publish.payload).unwrap().parse().unwrap();
        let node = self.node(port);
        let code = if node.topics.contains_key(&topic_id) {
            assert_eq!(node.topics[&topic_id], format!("gateway/{}", token % 4));
            if node.seen_ids.insert(publish.msg_id) {
                node.heard.push(token);
                assert!(node.heard.is_sorted(), "{:?}", node.heard);
                node.all_heard.insert(token);
            }
            ReturnCode::ACCEPTED
        } else {
            ReturnCode::INVALID_TOPIC_ID
        };
        self.say(port, &Packet::PubAck(Ack { topic_id, msg_id: publish.msg_id, code }));
    }

    fn tell(&mut self, port: u16) {
        let Some(client) = self.clients.get(&port).copied() else { return };
        let token = self.next_token;
        self.next_token += 1;
        let (topic, payload) = (format!("gateway/{}", token % 4), token.to_string());
        let message = Message { token, topic: &topic, payload: payload.as_bytes(), is_acknowledged: true };
        match self.gateway.publish(client, &message, self.now_ms, &mut self.out) {
            Sent::Taken => assert!(self.open.insert(token)),
            Sent::NotSubscribed => {}
            sent => panic!("{sent:?}"),
        }
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::Connected { client, id, .. } => {
                let port = id[1..].parse().unwrap();
                assert_eq!(self.clients.insert(port, client), None);
                self.ports.insert(client, port);
            }
            Event::Gone { client, .. } => {
                let port = self.ports[&client];
                assert_eq!(self.clients.remove(&port), Some(client));
            }
            Event::Published { client, topic, payload, receipt } => {
                let body = String::from_utf8(payload.into()).unwrap();
                assert_eq!(&*topic, "node/value");
                assert!(body.starts_with(&format!("{}:", self.ports[&client])));
                if self.happens(self.faults.forgetting) {
                    return;
                }
                let answer = if self.happens(self.faults.later) { Answer::Later } else { Answer::Taken };
                // An owner is quicker than its clients' patience, as by `UNANSWERED_MS_MAX`.
                let ms = self.draw(5_000);
                if answer == Answer::Taken {
                    self.taken.push(body);
                }
                self.after(ms, Step::Answer(receipt.unwrap(), answer));
            }
            Event::Delivered { token, delivery, .. } => {
                assert!(self.open.remove(&token), "{token} has one end");
                if delivery == Delivery::Accepted {
                    self.accepted.insert(token);
                }
            }
            Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::Asleep { .. }
            | Event::Active { .. } => {}
            event => panic!("{event:?}"),
        }
    }

    fn is_done(&self) -> bool {
        self.nodes.iter().all(|node| node.state == State::Done) && self.open.is_empty()
    }

    fn run(&mut self) {
        while !self.is_done() {
            let next_ms = self.steps.first_key_value().map_or(u64::MAX, |((at_ms, _), _)| *at_ms);
            assert!(self.now_ms < 10 * FAULTS_MS, "everything comes to an end");
            match self.gateway.due_ms().filter(|due_ms| *due_ms <= next_ms) {
                Some(due_ms) => {
                    self.now_ms = self.now_ms.max(due_ms);
                    self.gateway.timer(self.now_ms, &mut self.out);
                }
                None => {
                    let ((at_ms, _), step) = self.steps.pop_first().unwrap();
                    self.now_ms = at_ms;
                    self.step(step);
                }
            }
            self.gateway.check();
            while let Some(event) = self.out.events.pop_front() {
                self.told(event);
            }
            let sent: Vec<_> = self.out.datagrams().map(|(to, datagram)| (to, datagram.to_vec())).collect();
            self.out.clear_datagrams();
            for (to, bytes) in sent {
                self.carry(|| Step::ToClient { port: to.port() - 1, bytes: bytes.clone() });
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::ToGateway { port, bytes } => {
                // What is not connected any more may be refused.
                let _ = self.gateway.datagram(at(port + 1), &bytes, self.now_ms, &mut self.out);
            }
            Step::ToClient { port, bytes } => self.hear(port, &bytes),
            Step::Waited { port, turn } => self.waited(port, turn),
            Step::Answer(receipt, answer) => self.gateway.accepted(receipt, answer, &mut self.out),
            Step::Tell { port } => self.tell(port),
        }
    }

    fn check(&self) {
        for node in &self.nodes {
            let prefix = format!("{}:", node.port);
            let taken: Vec<&String> = self.taken.iter().filter(|body| body.starts_with(&prefix)).collect();
            let numbers: Vec<u32> = taken.iter().map(|body| body[prefix.len()..].parse().unwrap()).collect();
            for body in &node.acknowledged {
                let count = taken.iter().filter(|taken| **taken == body).count();
                assert_eq!(count, 1, "{body} was taken {count} times");
            }
            for body in &node.interrupted {
                assert!(taken.iter().filter(|taken| **taken == body).count() <= 2, "{body}");
            }
            assert!(numbers.is_sorted(), "{numbers:?}");
            assert_eq!(node.acknowledged.len() + node.interrupted.len(), MESSAGES as usize);
        }
        let heard: BTreeSet<u64> = self.nodes.iter().flat_map(|node| &node.all_heard).copied().collect();
        assert!(self.accepted.is_subset(&heard));
    }
}

/// How many networks are tried: `COVEY_MQTT_SN_NETWORKS=20000` tries more.
fn cases() -> u32 {
    std::env::var("COVEY_MQTT_SN_NETWORKS").map_or(100, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn nothing_is_lost_and_nothing_is_told_twice(faults in faults()) {
        let mut net = Net::new(faults);
        net.run();
        net.check();
    }
}
