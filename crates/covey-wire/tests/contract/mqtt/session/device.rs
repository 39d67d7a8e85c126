//! A device at the other end of a session, with a clock that it moves itself.

use std::num::NonZeroU16;

use covey_wire::mqtt::session::{
    Arrival, Connected, Detached, Due, Epoch, Kept, Limits, Message, Outcome, Output, Receipt, Sent, Session,
};
use covey_wire::mqtt::{
    Ack, Connect, Delivery, Disconnect, Framing, Packet, Place, Properties, Property, PropertyList,
    ProtocolVersion, Publish, Qos, ReasonCode, Sender, Subscribe, SubscribeList, SubscriptionOptions,
    Unsubscribe, UnsubscribeList, Violation, Will, decode, frame,
};

/// What the server says, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    ConnAck { present: bool, reason: ReasonCode, properties: Vec<String> },
    Message { id: u16, qos: Qos, is_repeated: bool, topic: String, payload: String, properties: Vec<String> },
    PubAck(u16, ReasonCode, Option<String>),
    PubRec(u16, ReasonCode, Option<String>),
    PubRel(u16, ReasonCode),
    PubComp(u16, ReasonCode),
    SubAck(u16, Vec<u8>),
    UnsubAck(u16, Vec<u8>),
    PingResp,
    Disconnect(ReasonCode, Option<String>),
}

fn listed(properties: Properties<'_>) -> Vec<String> {
    properties.iter().map(|property| format!("{property:?}")).collect()
}

fn said(packet: &Packet<'_>) -> Said {
    let text = |properties: Properties<'_>| properties.reason_string().map(str::to_owned);
    match packet {
        Packet::ConnAck(connack) => Said::ConnAck {
            present: connack.session_present,
            reason: connack.reason,
            properties: listed(connack.properties),
        },
        // No subscription asks for Retain As Published [MQTT-3.3.1-12].
        Packet::Publish(publish) if publish.retain => panic!("{publish:?} is retained"),
        Packet::Publish(publish) => Said::Message {
            id: publish.delivery.packet_id().map_or(0, NonZeroU16::get),
            qos: publish.delivery.qos(),
            is_repeated: publish.delivery.is_repeated(),
            topic: publish.topic.to_owned(),
            payload: String::from_utf8(publish.payload.to_vec()).unwrap(),
            properties: listed(publish.properties),
        },
        Packet::PubAck(ack) => Said::PubAck(ack.packet_id.get(), ack.reason, text(ack.properties)),
        Packet::PubRec(ack) => Said::PubRec(ack.packet_id.get(), ack.reason, text(ack.properties)),
        Packet::PubRel(ack) => Said::PubRel(ack.packet_id.get(), ack.reason),
        Packet::PubComp(ack) => Said::PubComp(ack.packet_id.get(), ack.reason),
        Packet::SubAck(suback) => Said::SubAck(suback.packet_id.get(), suback.reasons.as_bytes().to_vec()),
        Packet::UnsubAck(ack) => Said::UnsubAck(ack.packet_id.get(), ack.reasons.as_bytes().to_vec()),
        Packet::PingResp => Said::PingResp,
        Packet::Disconnect(bye) => Said::Disconnect(bye.reason, text(bye.properties)),
        other => panic!("a server does not send {other:?}"),
    }
}

/// Reads all that a server has written.
pub fn read_all(mut bytes: &[u8], version: ProtocolVersion) -> Vec<Said> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let Ok(Framing::Frame(found)) = frame(bytes, 1 << 24) else { panic!("{bytes:02X?}") };
        all.push(said(&decode(found, version, Sender::Server).unwrap()));
        bytes = &bytes[found.size()..];
    }
    all
}

/// How the device connects.
#[derive(Clone)]
pub struct Hello {
    pub version: ProtocolVersion,
    pub clean_start: bool,
    pub keep_alive_s: u16,
    pub properties: Vec<Property<'static>>,
    /// Topic and delay.
    pub will: Option<(&'static str, u32)>,
}

impl Default for Hello {
    fn default() -> Self {
        let properties = vec![Property::SessionExpiryInterval(600)];
        Self { version: ProtocolVersion::V5, clean_start: false, keep_alive_s: 0, properties, will: None }
    }
}

impl Hello {
    pub fn with(mut self, property: Property<'static>) -> Self {
        self.properties.push(property);
        self
    }

    pub fn in_3() -> Self {
        Self { version: ProtocolVersion::V311, properties: Vec::new(), ..Self::default() }
    }
}

/// How a device connects in each version, with a session that stays.
pub fn in_each_version() -> [Hello; 2] {
    [Hello::default(), Hello::in_3()]
}

/// A session with its device.
pub struct Device {
    pub session: Session,
    pub limits: Limits,
    pub now_ms: u64,
    pub epoch: Epoch,
    pub version: ProtocolVersion,
    pub out: Output,
}

pub fn id(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

impl Device {
    /// Not connected, at second 1,000.
    pub fn new(limits: Limits) -> Self {
        let (session, out) = (Session::new(), Output::default());
        let (epoch, version) = (session.epoch(), ProtocolVersion::V5);
        Self { session, limits, now_ms: 1_000_000, epoch, version, out }
    }

    /// Connected, and subscribed to `#` with QoS 2.
    pub fn subscribed(limits: Limits, hello: &Hello) -> Self {
        let mut device = Self::new(limits);
        device.connect(hello).unwrap();
        device.subscribe("#", Qos::ExactlyOnce);
        device.read();
        device
    }

    /// What the server has written since it was asked last.
    pub fn read(&mut self) -> Vec<Said> {
        let bytes = std::mem::take(&mut self.out.bytes);
        read_all(&bytes, self.version)
    }

    pub fn outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.out.outcomes)
    }

    pub fn connect(&mut self, hello: &Hello) -> Result<Connected, Violation> {
        self.connect_as(hello, None)
    }

    pub fn connect_as(&mut self, hello: &Hello, assigned: Option<&str>) -> Result<Connected, Violation> {
        self.connect_kept(hello, assigned, Kept::AsHere)
    }

    pub fn connect_kept(
        &mut self,
        hello: &Hello,
        assigned: Option<&str>,
        kept: Kept,
    ) -> Result<Connected, Violation> {
        let mut list = PropertyList::new(Place::Connect);
        for property in &hello.properties {
            list.push(*property).unwrap();
        }
        let mut of_will = PropertyList::new(Place::Will);
        of_will.push(Property::WillDelayInterval(hello.will.map_or(0, |will| will.1))).unwrap();
        for (name, value) in [("b", "1"), ("a", "2"), ("b", "3")] {
            of_will.push(Property::UserProperty(name, value)).unwrap();
        }
        let is_v5 = hello.version == ProtocolVersion::V5;
        let connect = Connect {
            version: hello.version,
            clean_start: hello.clean_start,
            keep_alive_s: hello.keep_alive_s,
            client_id: "a-1",
            will: hello.will.map(|(topic, _)| Will {
                topic,
                payload: b"gone",
                qos: Qos::AtLeastOnce,
                retain: false,
                properties: if is_v5 { of_will.properties() } else { Properties::NONE },
            }),
            user_name: None,
            password: None,
            properties: if is_v5 { list.properties() } else { Properties::NONE },
        };
        // As it comes over the wire.
        let mut bytes = Vec::new();
        Packet::Connect(connect).encode(hello.version, &mut bytes).unwrap();
        let Ok(Framing::Frame(found)) = frame(&bytes, 4_096) else { panic!() };
        let Ok(Packet::Connect(connect)) = decode(found, hello.version, Sender::Client) else { panic!() };
        let connected =
            self.session.connect(&connect, assigned, kept, &self.limits, self.now_ms, &mut self.out)?;
        self.epoch = connected.epoch;
        self.version = hello.version;
        Ok(connected)
    }

    pub fn say<'p>(&mut self, packet: &Packet<'p>) -> Result<Arrival<'p>, Violation> {
        self.session.receive(self.epoch, packet, &self.limits, self.now_ms, &mut self.out)
    }

    /// Says something after which nothing is to be done.
    pub fn tell(&mut self, packet: &Packet<'_>) {
        let arrival = self.say(packet).unwrap();
        assert!(matches!(arrival, Arrival::Nothing), "{arrival:?}");
    }

    pub fn ack(&mut self, packet: fn(Ack<'static>) -> Packet<'static>, number: u16) {
        self.tell(&packet(Ack::success(id(number))));
    }

    pub fn subscribe(&mut self, filter: &str, qos: Qos) {
        self.subscribe_with(filter, qos, qos.granted(), None);
    }

    pub fn subscribe_with(&mut self, filter: &str, qos: Qos, decided: ReasonCode, identifier: Option<u32>) {
        let mut filters = SubscribeList::new(self.version);
        filters.push(filter, SubscriptionOptions::qos(qos)).unwrap();
        let mut list = PropertyList::new(Place::Subscribe);
        if let Some(identifier) = identifier {
            list.push(Property::SubscriptionIdentifier(identifier)).unwrap();
        }
        let packet = Packet::Subscribe(Subscribe {
            packet_id: id(9),
            filters: filters.filters(),
            properties: list.properties(),
        });
        let Ok(Arrival::Subscribe(subscribe)) = self.say(&packet) else { panic!() };
        self.session.grant(self.epoch, &subscribe, &[decided], &self.limits, &mut self.out).unwrap();
    }

    pub fn unsubscribe(&mut self, filter: &str) {
        let mut filters = UnsubscribeList::new(self.version);
        filters.push(filter).unwrap();
        let (packet_id, properties) = (id(8), Properties::NONE);
        let packet = Packet::Unsubscribe(Unsubscribe { packet_id, filters: filters.filters(), properties });
        let Ok(Arrival::Unsubscribed(gone)) = self.say(&packet) else { panic!() };
        assert_eq!(gone.iter().collect::<Vec<_>>(), [filter]);
    }

    /// Publishes `n` to `up`, with this QoS and number. Answers what the owner gets of it.
    pub fn publish(
        &mut self,
        qos: Qos,
        number: u16,
        is_repeated: bool,
    ) -> Result<Option<Receipt>, Violation> {
        let delivery = match qos {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id: id(number), is_repeated },
            Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id: id(number), is_repeated },
        };
        let properties = Properties::NONE;
        let publish = Publish { delivery, retain: false, topic: "up", properties, payload: b"n" };
        match self.say(&Packet::Publish(publish))? {
            Arrival::Message(arrived) => {
                assert_eq!((&*arrived.topic, arrived.qos, arrived.payload), ("up", qos, &b"n"[..]));
                Ok(arrived.receipt)
            }
            Arrival::Nothing => Ok(None),
            other => panic!("{other:?}"),
        }
    }

    /// Publishes a new message, and answers its receipt.
    pub fn publish_new(&mut self, qos: Qos, number: u16) -> Receipt {
        self.publish(qos, number, false).unwrap().unwrap()
    }

    pub fn answer(&mut self, receipt: Receipt, reason: ReasonCode) {
        self.session.answer(receipt, reason, "", &mut self.out);
    }

    /// Sends `payload` to the device on `down/topic`.
    pub fn send(&mut self, token: u64, qos: Qos, payload: &str) -> Sent {
        self.send_on("down/topic", token, qos, payload, None)
    }

    pub fn send_on(
        &mut self,
        topic: &str,
        token: u64,
        qos: Qos,
        payload: &str,
        expiry_s: Option<u32>,
    ) -> Sent {
        let (properties, payload) = (Properties::NONE, payload.as_bytes());
        let message = Message { token, topic, qos, expiry_s, properties, payload };
        self.session.send(&message, &self.limits, self.now_ms, &mut self.out)
    }

    pub fn disconnect(&mut self, reason: ReasonCode, expiry_s: Option<u32>) -> Result<(), Violation> {
        let mut list = PropertyList::new(Place::DisconnectFromClient);
        if let Some(expiry_s) = expiry_s {
            list.push(Property::SessionExpiryInterval(expiry_s)).unwrap();
        }
        let packet = Packet::Disconnect(Disconnect { reason, properties: list.properties() });
        let arrival = self.say(&packet)?;
        assert!(matches!(arrival, Arrival::Disconnected(said) if said == reason));
        Ok(())
    }

    pub fn detach(&mut self) -> Detached {
        self.session.detach(self.epoch, self.now_ms, &mut self.out)
    }

    pub fn after_s(&mut self, seconds: u64) -> Due {
        self.now_ms += seconds * 1_000;
        self.session.tick(self.now_ms, &mut self.out)
    }
}

/// A message of the server to `down/topic`, without properties.
pub fn message(id: u16, qos: Qos, is_repeated: bool, payload: &str) -> Said {
    let (topic, payload) = ("down/topic".to_owned(), payload.to_owned());
    Said::Message { id, qos, is_repeated, topic, payload, properties: Vec::new() }
}
