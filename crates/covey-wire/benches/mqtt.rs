//! How fast MQTT packets are read and written, beside two other codecs, and what a session takes:
//! `cargo bench -p covey-wire --bench mqtt`. Figures are nanoseconds a step, the best of five rounds.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::num::NonZeroU16;
use std::time::Instant;

use bytes::BytesMut;
use covey_wire::mqtt::session::{Arrival, Kept, Limits, Message, Output, Session};
use covey_wire::mqtt::{
    Ack, Connect, Delivery, Framing, Packet, PacketId, Place, Properties, Property, PropertyList,
    ProtocolVersion, Publish, Qos, ReasonCode, Sender, Subscribe, SubscribeList, SubscriptionOptions, decode,
    frame,
};

const STEPS: u32 = 200_000;
const ROUNDS: u32 = 5;
const IDLE_SESSIONS: usize = 100_000;
const BODY: &[u8] = br#"{"dt":[{"cl":5,"v":21.5},{"cl":6,"v":1013.2}]}"#;
const CORRELATION: &str = "01901f2e-3d4c-7b5a-8877-665544332211";
const UP: &str = "dev/a3b0000000c10221d290825/res";
const DOWN: &str = "srv/a3b0000000c10221d290825/cmt";

fn measure(name: &str, mut step: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        (0..STEPS).for_each(|_| step());
        best = best.min(begin.elapsed().as_secs_f64() * 1e9 / f64::from(STEPS));
    }
    println!("{best:8.1} ns  {name}");
}

fn properties(place: Place) -> PropertyList {
    PropertyList::new(place)
        .with(Property::CorrelationData(CORRELATION.as_bytes()))
        .and_then(|list| list.with(Property::UserProperty("status_code", "200")))
        .and_then(|list| list.with(Property::UserProperty("ext_id", "7")))
        .unwrap()
}

fn publish<'a>(packet_id: u16, properties: Properties<'a>) -> Packet<'a> {
    let packet_id = NonZeroU16::new(packet_id).unwrap();
    let delivery = Delivery::AtLeastOnce { packet_id, is_repeated: false };
    Packet::Publish(Publish { delivery, retain: false, topic: UP, properties, payload: BODY })
}

fn codecs() {
    let list = properties(Place::PublishFromClient);
    let packet = publish(7, list.properties());
    let mut bytes = Vec::new();
    packet.encode(ProtocolVersion::V5, &mut bytes).unwrap();
    println!("a PUBLISH of {} bytes with three properties", bytes.len());
    measure("read, and its properties looked at", || {
        let Ok(Framing::Frame(found)) = frame(black_box(&bytes), 65_536) else { panic!() };
        let Ok(Packet::Publish(read)) = decode(found, ProtocolVersion::V5, Sender::Client) else { panic!() };
        black_box(read.properties.user_properties().count());
    });
    measure("read by mqtt-proto", || {
        black_box(mqtt_proto::v5::Packet::decode(black_box(&bytes)).unwrap());
    });
    let mut stream = BytesMut::new();
    measure("read by rumqttc, with a copy of the bytes", || {
        stream.extend_from_slice(black_box(&bytes));
        black_box(rumqttc::mqttbytes::v5::Packet::read(&mut stream, None).unwrap());
    });
    let mut out = Vec::new();
    measure("written", || {
        out.clear();
        black_box(&packet).encode(ProtocolVersion::V5, &mut out).unwrap();
    });
}

fn session(limits: &Limits, filter: &str) -> Session {
    let (mut session, mut out) = (Session::new(), Output::default());
    let list = PropertyList::new(Place::Connect).with(Property::SessionExpiryInterval(600)).unwrap();
    let connect = Connect {
        version: ProtocolVersion::V5,
        clean_start: false,
        keep_alive_s: 60,
        client_id: "a3b0000000c10221d290825",
        will: None,
        user_name: None,
        password: None,
        properties: list.properties(),
    };
    session.connect(&connect, None, Kept::AsHere, limits, 0, &mut out).unwrap();
    let mut filters = SubscribeList::new(ProtocolVersion::V5);
    filters.push(filter, SubscriptionOptions::qos(Qos::AtLeastOnce)).unwrap();
    let (packet_id, properties) = (PacketId::MIN, Properties::NONE);
    let subscribe = Subscribe { packet_id, filters: filters.filters(), properties };
    let granted = [ReasonCode::GrantedQos1];
    session.grant(session.epoch(), &subscribe, &granted, limits, &mut out).unwrap();
    session
}

fn messages() {
    let limits = Limits::default();
    let mut session = session(&limits, "srv/a3b0000000c10221d290825/+");
    let (epoch, mut out) = (session.epoch(), Output::default());
    let list = properties(Place::PublishFromClient);
    println!("a session");
    let mut number = 0_u16;
    measure("message in with QoS 1, committed, PUBACK out", || {
        out.bytes.clear();
        number = number % 30_000 + 1;
        let packet = publish(number, list.properties());
        let Ok(Arrival::Message(arrived)) = session.receive(epoch, &packet, &limits, 0, &mut out) else {
            panic!()
        };
        session.answer(arrived.receipt.unwrap(), ReasonCode::Success, "", &mut out);
        assert_eq!(out.bytes.len(), 4);
    });
    let list = properties(Place::PublishFromServer);
    let message = Message {
        token: 1,
        topic: DOWN,
        qos: Qos::AtLeastOnce,
        expiry_s: Some(10_800),
        properties: list.properties(),
        payload: BODY,
    };
    number = 0;
    measure("message out with QoS 1, PUBACK in", || {
        out.bytes.clear();
        out.outcomes.clear();
        session.send(black_box(&message), &limits, 0, &mut out);
        number = number.checked_add(1).unwrap_or(1);
        let ack = Packet::PubAck(Ack::success(NonZeroU16::new(number).unwrap()));
        session.receive(epoch, &ack, &limits, 0, &mut out).unwrap();
        assert_eq!(out.outcomes.len(), 1);
    });
}

/// Resident bytes of this process.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
}

fn idle() {
    let (limits, before) = (Limits::default(), resident_bytes());
    let sessions: Vec<_> = (0..IDLE_SESSIONS)
        .map(|number| session(&limits, &format!("srv/a3b0000000c1022{number:08}/+")))
        .collect();
    let bytes = (resident_bytes() - before) / IDLE_SESSIONS;
    println!(
        "{bytes} bytes resident an idle session with one subscription, {} in place",
        size_of::<Session>()
    );
    drop(sessions);
}

fn main() {
    // `cargo test --benches` runs this as well, and says no such word: that it starts is enough then.
    if std::env::args().any(|word| word == "--bench") {
        idle();
        codecs();
        messages();
    }
}
