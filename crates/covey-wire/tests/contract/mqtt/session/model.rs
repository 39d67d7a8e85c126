//! A session against a simple device and a simple owner, over connections that are lost at any moment:
//! nothing is lost, QoS 2 comes once, and all in order.

use std::collections::{BTreeMap, VecDeque};

use covey_wire::mqtt::session::{Arrival, Limits, Outcome, Receipt, Sent};
use covey_wire::mqtt::{
    Ack, Delivery, Packet, Properties, Property, ProtocolVersion, Publish, Qos, ReasonCode,
};
use proptest::prelude::*;

use super::device::{Device, Hello, Said, id};

/// What may happen next.
#[derive(Clone, Debug)]
enum Step {
    DevicePublishes(Qos),
    /// One of the messages that wait for the owner, by its place.
    OwnerAnswers(usize),
    OwnerSends(Qos),
    /// The device reads so many packets, and answers them.
    DeviceReads(usize),
    /// What the device has not read is lost. Between the connections the owner may send.
    ConnectionIsLost(bool),
    DeviceConnectsAnew,
}

fn qos() -> impl Strategy<Value = Qos> {
    prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => qos().prop_map(Step::DevicePublishes),
        4 => (0..4_usize).prop_map(Step::OwnerAnswers),
        4 => qos().prop_map(Step::OwnerSends),
        4 => (1..5_usize).prop_map(Step::DeviceReads),
        1 => any::<bool>().prop_map(Step::ConnectionIsLost),
        1 => Just(Step::DeviceConnectsAnew),
    ]
}

/// A message that the device has not completed.
struct Own {
    number: u32,
    packet_id: u16,
    qos: Qos,
    is_released: bool,
}

struct World {
    device: Device,
    hello: Hello,
    receive_max: usize,
    /// What the server has written and the device has not read.
    unread: VecDeque<Said>,

    // The device: its own messages in their order, and what it owes on this connection.
    own: VecDeque<Own>,
    next_number: u32,
    next_packet_id: u16,
    /// Identifiers that the server has not answered on this connection, in the order of their PUBLISH.
    awaited: VecDeque<u16>,
    /// QoS 2 of the server that has not been released.
    held: Vec<u16>,
    /// Messages of this connection that it has not acknowledged to the end.
    in_flight: Vec<u16>,
    heard: Vec<u64>,

    // The owner.
    receipts: Vec<Receipt>,
    arrived: BTreeMap<u32, u32>,
    sent: Vec<(u64, Qos)>,
    delivered: BTreeMap<u64, u32>,
}

impl World {
    fn new(version: ProtocolVersion, receive_max: u16) -> Self {
        let limits =
            Limits { receive_max: 4, in_flight_max: 5, waiting_messages_max: 8, ..Limits::default() };
        let hello = if version == ProtocolVersion::V5 {
            Hello::default()
                .with(Property::ReceiveMaximum(receive_max))
                .with(Property::TopicAliasMaximum(receive_max % 3))
        } else {
            Hello::in_3()
        };
        Self {
            device: Device::subscribed(limits, &hello),
            hello,
            receive_max: if version == ProtocolVersion::V5 { receive_max.min(5).into() } else { 5 },
            unread: VecDeque::new(),
            own: VecDeque::new(),
            next_number: 0,
            next_packet_id: 0,
            awaited: VecDeque::new(),
            held: Vec::new(),
            in_flight: Vec::new(),
            heard: Vec::new(),
            receipts: Vec::new(),
            arrived: BTreeMap::new(),
            sent: Vec::new(),
            delivered: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::DevicePublishes(qos) => self.publish(*qos),
            Step::OwnerAnswers(place) => self.answer(*place),
            Step::OwnerSends(qos) => self.send(*qos),
            Step::DeviceReads(count) => (0..*count).for_each(|_| self.read()),
            Step::ConnectionIsLost(sends_meanwhile) => {
                self.device.detach();
                if *sends_meanwhile {
                    self.send(Qos::ExactlyOnce);
                    self.answer(0);
                }
                self.connect();
            }
            Step::DeviceConnectsAnew => self.connect(),
        }
    }

    /// Takes what the server has written, and what it tells the owner.
    fn collect(&mut self) {
        self.unread.extend(self.device.read());
        for outcome in self.device.outcomes() {
            match outcome {
                Outcome::Delivered { token, reason: ReasonCode::Success } => {
                    assert!(
                        self.heard.contains(&token),
                        "{token} is delivered, and the device has not got it"
                    );
                    *self.delivered.entry(token).or_default() += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn say(&mut self, packet: &Packet<'_>) {
        match self.device.say(packet).unwrap() {
            Arrival::Nothing => {}
            Arrival::Message(arrived) => {
                let number = std::str::from_utf8(arrived.payload).unwrap().parse().unwrap();
                *self.arrived.entry(number).or_default() += 1;
                self.receipts.extend(arrived.receipt);
            }
            other => panic!("{other:?}"),
        }
        self.collect();
    }

    fn publish(&mut self, qos: Qos) {
        if qos != Qos::AtMostOnce && self.own.len() >= 4 {
            return;
        }
        self.next_number += 1;
        let mut packet_id = 0;
        if qos != Qos::AtMostOnce {
            while packet_id == 0 || self.own.iter().any(|own| own.packet_id == packet_id) {
                self.next_packet_id = self.next_packet_id % 6 + 1;
                packet_id = self.next_packet_id;
            }
            self.own.push_back(Own { number: self.next_number, packet_id, qos, is_released: false });
        }
        self.publish_as(self.next_number, qos, packet_id, false);
    }

    fn publish_as(&mut self, number: u32, qos: Qos, packet_id: u16, is_repeated: bool) {
        let delivery = match qos {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id: id(packet_id), is_repeated },
            Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id: id(packet_id), is_repeated },
        };
        if qos != Qos::AtMostOnce {
            self.awaited.push_back(packet_id);
        }
        let (payload, properties) = (number.to_string(), Properties::NONE);
        let payload = payload.as_bytes();
        self.say(&Packet::Publish(Publish { delivery, retain: false, topic: "up", properties, payload }));
    }

    fn answer(&mut self, place: usize) {
        if self.receipts.is_empty() {
            return;
        }
        let receipt = self.receipts.remove(place % self.receipts.len());
        self.device.answer(receipt, ReasonCode::Success);
        self.collect();
    }

    fn send(&mut self, qos: Qos) {
        let token = self.sent.len() as u64;
        let sent = self.device.send(token, qos, &token.to_string());
        match sent {
            Sent::Written | Sent::Waiting => self.sent.push((token, qos)),
            Sent::Full => {}
            other => panic!("{other:?}"),
        }
        if self.device.session.is_connected() {
            self.collect();
        }
    }

    fn connect(&mut self) {
        self.unread.clear();
        self.awaited.clear();
        self.in_flight.clear();
        let connected = self.device.connect(&self.hello.clone()).unwrap();
        assert!(connected.session_present);
        self.collect();
        for place in 0..self.own.len() {
            let Own { number, packet_id, qos, is_released } = self.own[place];
            if is_released {
                self.say(&Packet::PubRel(Ack::success(id(packet_id))));
            } else {
                self.publish_as(number, qos, packet_id, true);
            }
        }
    }

    fn read(&mut self) {
        let Some(said) = self.unread.pop_front() else { return };
        match said {
            Said::ConnAck { present: true, .. } => {}
            Said::PubAck(packet_id, ReasonCode::Success, _) => {
                assert_eq!(self.awaited.pop_front(), Some(packet_id));
                self.own.retain(|own| own.packet_id != packet_id);
            }
            Said::PubRec(packet_id, ReasonCode::Success, _) => {
                assert_eq!(self.awaited.pop_front(), Some(packet_id));
                for own in self.own.iter_mut().filter(|own| own.packet_id == packet_id) {
                    own.is_released = true;
                }
                self.say(&Packet::PubRel(Ack::success(id(packet_id))));
            }
            Said::PubComp(packet_id, _) => self.own.retain(|own| own.packet_id != packet_id),
            Said::PubRel(packet_id, ReasonCode::Success) => {
                self.held.retain(|held| *held != packet_id);
                self.in_flight.retain(|known| *known != packet_id);
                self.say(&Packet::PubComp(Ack::success(id(packet_id))));
            }
            Said::Message { id: packet_id, qos, payload, .. } => {
                let token = payload.parse().unwrap();
                if qos != Qos::AtMostOnce {
                    assert!(!self.in_flight.contains(&packet_id), "{packet_id} is in use");
                    self.in_flight.push(packet_id);
                    assert!(self.in_flight.len() <= self.receive_max, "more than Receive Maximum");
                }
                match qos {
                    Qos::AtMostOnce => {}
                    Qos::AtLeastOnce => {
                        self.heard.push(token);
                        self.in_flight.retain(|known| *known != packet_id);
                        self.say(&Packet::PubAck(Ack::success(id(packet_id))));
                    }
                    Qos::ExactlyOnce => {
                        if !self.held.contains(&packet_id) {
                            self.held.push(packet_id);
                            self.heard.push(token);
                        }
                        self.say(&Packet::PubRec(Ack::success(id(packet_id))));
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// All that is under way comes to its end.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.unread.is_empty() && self.receipts.is_empty() {
                break;
            }
            self.answer(0);
            self.read();
        }
        assert!(self.own.is_empty() && self.awaited.is_empty() && self.in_flight.is_empty());
        assert_eq!((self.device.session.undelivered(), self.device.session.unanswered()), (0, 0));
    }

    fn check(&self, published: &BTreeMap<u32, Qos>) {
        for (number, qos) in published {
            let times = self.arrived.get(number).copied().unwrap_or(0);
            match qos {
                Qos::AtMostOnce | Qos::ExactlyOnce => assert_eq!(times, 1, "{number} {qos:?}"),
                Qos::AtLeastOnce => assert!(times >= 1, "{number} is lost"),
            }
        }
        // The first copies come in the order in which they were sent, and QoS 2 has no second.
        let mut first = Vec::new();
        for token in &self.heard {
            let qos = self.sent.iter().find(|sent| sent.0 == *token).map(|sent| sent.1);
            if !first.contains(token) {
                first.push(*token);
            } else {
                assert_eq!(qos, Some(Qos::AtLeastOnce), "{token} came twice");
            }
        }
        let owed: Vec<_> =
            self.sent.iter().filter(|sent| sent.1 != Qos::AtMostOnce).map(|sent| sent.0).collect();
        assert_eq!(first, owed);
        assert!(owed.iter().all(|token| self.delivered.get(token) == Some(&1)), "{:?}", self.delivered);
        assert_eq!(owed.len(), self.delivered.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn nothing_is_lost_and_qos_2_comes_once_whatever_happens(
        steps in proptest::collection::vec(step(), 1..120),
        version in prop_oneof![Just(ProtocolVersion::V5), Just(ProtocolVersion::V311)],
        receive_max in 1..8_u16,
    ) {
        let mut world = World::new(version, receive_max);
        let mut published = BTreeMap::new();
        for step in &steps {
            let before = world.next_number;
            world.take(step);
            if let (Step::DevicePublishes(qos), true) = (step, world.next_number > before) {
                published.insert(world.next_number, *qos);
            }
        }
        // A last connection, since the server sends again only at the beginning of one.
        world.connect();
        world.settle();
        world.check(&published);
    }
}
