//! MQTT-SN 1.2: messages as bytes, the gateway as a state machine, and its socket.

mod bounds;
mod bytes;
mod connecting;
mod emcute;
mod foreign;
mod generate;
mod network;
mod nodes;
mod publishing;
mod refused;
mod round_trip;
mod sending;
mod sleeping;
mod socket;
mod subscribing;
mod wills;

use std::net::SocketAddr;

use covey_gateway::mqtt_sn::packet::{
    Connect, Filter, Name, PROTOCOL_ID, Packet, Publish, Qos, Subscribe, Topic,
};
use covey_gateway::mqtt_sn::packet::{Violation, decode};
use covey_gateway::mqtt_sn::session::{
    Answer, Client, Counts, Event, Gateway, Message, Output, Receipt, Sent, Settings,
};

/// A gateway, and the instant.
struct World {
    gateway: Gateway,
    out: Output,
    now_ms: u64,
}

/// Where a client is.
fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], port))
}

impl World {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        Self { gateway: Gateway::new(settings), out: Output::default(), now_ms: 1_000 }
    }

    /// A datagram comes. Answers what is wrong with it.
    fn hear(&mut self, from: SocketAddr, datagram: &[u8]) -> Result<(), Violation> {
        let heard = self.gateway.datagram(from, datagram, self.now_ms, &mut self.out);
        self.gateway.check();
        heard
    }

    fn try_say(&mut self, port: u16, packet: &Packet<'_>) -> Result<(), Violation> {
        let mut datagram = Vec::new();
        packet.encode(&mut datagram).unwrap();
        self.hear(at(port), &datagram)
    }

    fn say(&mut self, port: u16, packet: &Packet<'_>) {
        self.try_say(port, packet).unwrap();
    }

    /// What is sent, as bytes.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let sent = self.out.datagrams().map(|(_, datagram)| datagram.to_vec()).collect();
        self.out.clear_datagrams();
        sent
    }

    /// The only datagram that is sent, and where to.
    fn sent_to(&mut self) -> (SocketAddr, Vec<u8>) {
        let sent: Vec<_> = self.out.datagrams().map(|(to, datagram)| (to, datagram.to_vec())).collect();
        self.out.clear_datagrams();
        let [only] = <[_; 1]>::try_from(sent).unwrap();
        only
    }

    /// That only this is sent.
    #[track_caller]
    fn expect(&mut self, packets: &[Packet<'_>]) {
        let sent = self.sent();
        let sent: Vec<_> = sent.iter().map(|datagram| decode(datagram).unwrap()).collect();
        assert_eq!(sent, packets);
    }

    fn events(&mut self) -> Vec<Event> {
        self.out.events.drain(..).collect()
    }

    /// Time passes, and the gateway does what it has to do in between.
    fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while let Some(due_ms) = self.gateway.due_ms().filter(|due_ms| *due_ms <= until_ms) {
            self.now_ms = self.now_ms.max(due_ms);
            self.gateway.timer(self.now_ms, &mut self.out);
            self.gateway.check();
        }
        self.now_ms = until_ms;
    }

    /// Connects a client, clean and with a keep-alive of 100 s.
    fn connected(&mut self, port: u16, id: &str) -> Client {
        self.say(port, &connect(id));
        let events = self.events();
        let Some(Event::Connected { client, .. }) = events.last() else { panic!("{events:?}") };
        self.out.clear_datagrams();
        *client
    }

    /// Connects a client that subscribes.
    fn subscribed(&mut self, port: u16, id: &str, filter: &str) -> Client {
        let client = self.connected(port, id);
        self.say(port, &subscribe(1, filter));
        self.events();
        self.out.clear_datagrams();
        client
    }

    /// Registers a topic.
    fn registered(&mut self, port: u16, topic: &str) -> u16 {
        self.say(port, &register(77, topic));
        let sent = self.sent();
        let Packet::RegAck(ack) = decode(&sent[0]).unwrap() else { panic!() };
        ack.topic_id
    }

    fn publish(&mut self, client: Client, token: u64, topic: &str, payload: &str) -> Sent {
        let message = Message { token, topic, payload: payload.as_bytes(), is_acknowledged: true };
        let sent = self.gateway.publish(client, &message, self.now_ms, &mut self.out);
        self.gateway.check();
        sent
    }

    fn answer(&mut self, receipt: Receipt, answer: Answer) {
        self.gateway.accepted(receipt, answer, &mut self.out);
        self.gateway.check();
    }

    /// Answers all messages that were told, and gives their bodies.
    fn take_all(&mut self) -> Vec<String> {
        let mut bodies = Vec::new();
        for event in self.events() {
            if let Event::Published { payload, receipt, .. } = event {
                bodies.push(String::from_utf8_lossy(&payload).into_owned());
                if let Some(receipt) = receipt {
                    self.answer(receipt, Answer::Taken);
                }
            }
        }
        bodies
    }

    fn counts(&self) -> Counts {
        self.gateway.counts()
    }
}

fn connect(id: &str) -> Packet<'_> {
    connect_with(id, false, true, 100)
}

fn connect_with(id: &str, has_will: bool, is_clean: bool, keep_alive_s: u16) -> Packet<'_> {
    let client_id = Name(id.as_bytes());
    Packet::Connect(Connect { has_will, is_clean, protocol_id: PROTOCOL_ID, keep_alive_s, client_id })
}

fn register(msg_id: u16, name: &str) -> Packet<'_> {
    Packet::Register { topic_id: 0, msg_id, name: Name(name.as_bytes()) }
}

fn subscribe(msg_id: u16, name: &str) -> Packet<'_> {
    let filter = Filter::Name(Name(name.as_bytes()));
    Packet::Subscribe(Subscribe { is_repeated: false, qos: Qos::AtLeastOnce, msg_id, filter })
}

fn publish(qos: Qos, topic: Topic, msg_id: u16, payload: &str) -> Packet<'_> {
    Packet::Publish(Publish {
        is_repeated: false,
        qos,
        retain: false,
        topic,
        msg_id,
        payload: payload.as_bytes(),
    })
}

/// The same with DUP.
fn again(packet: Packet<'_>) -> Packet<'_> {
    let Packet::Publish(publish) = packet else { panic!() };
    Packet::Publish(Publish { is_repeated: true, ..publish })
}

fn ack(topic_id: u16, msg_id: u16, code: u8) -> covey_gateway::mqtt_sn::packet::Ack {
    covey_gateway::mqtt_sn::packet::Ack {
        topic_id,
        msg_id,
        code: covey_gateway::mqtt_sn::packet::ReturnCode(code),
    }
}
