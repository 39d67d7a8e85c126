//! Packets byte for byte: the short forms, the sizes, what is left out for 3.1.1, and what is not written.

use std::num::NonZeroU16;

use covey_wire::mqtt::{
    Ack, ConnAck, Connect, Delivery, Disconnect, Packet, Place, Properties, Property, PropertyList,
    ProtocolVersion, Publish, Qos, ReasonCode, ReasonCodes, SubAck, SubscribeList, SubscriptionOptions,
    UnsubAck,
};

const ID: NonZeroU16 = NonZeroU16::new(0x0102).unwrap();

fn check(packet: &Packet<'_>, in_5: &[u8], in_3: &[u8]) {
    for (version, expected) in [(ProtocolVersion::V5, in_5), (ProtocolVersion::V311, in_3)] {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes).unwrap();
        assert_eq!(bytes, expected, "{packet:?} {version:?}");
    }
}

#[test]
fn acknowledgements_take_as_few_bytes_as_they_can() {
    // A PUBACK of success has two bytes behind its header: some clients stop at an empty property length.
    check(&Packet::PubAck(Ack::success(ID)), &[0x40, 2, 1, 2], &[0x40, 2, 1, 2]);
    check(&Packet::PubRel(Ack::success(ID)), &[0x62, 2, 1, 2], &[0x62, 2, 1, 2]);
    let refused = Ack::with_reason(ID, ReasonCode::NotAuthorized);
    check(&Packet::PubRec(refused), &[0x50, 3, 1, 2, 0x87], &[0x50, 2, 1, 2]);
    let why = PropertyList::new(Place::PubAck).with(Property::ReasonString("no")).unwrap();
    let explained = Ack { properties: why.properties(), ..refused };
    let bytes = [0x40, 9, 1, 2, 0x87, 5, 0x1F, 0, 2, b'n', b'o'];
    check(&Packet::PubAck(explained), &bytes, &[0x40, 2, 1, 2]);
    let mut bytes = Vec::new();
    Packet::PubComp(explained).encode(ProtocolVersion::V5, &mut bytes).unwrap_err();
    assert!(bytes.is_empty());
}

#[test]
fn connack_speaks_to_each_version() {
    let connack = |reason, session_present| {
        Packet::ConnAck(ConnAck { session_present, reason, properties: Properties::NONE })
    };
    check(&connack(ReasonCode::Success, true), &[0x20, 3, 1, 0, 0], &[0x20, 2, 1, 0]);
    for (reason, return_code) in [
        (ReasonCode::UnsupportedProtocolVersion, 1),
        (ReasonCode::ClientIdentifierNotValid, 2),
        (ReasonCode::ServerUnavailable, 3),
        (ReasonCode::ServerBusy, 3),
        (ReasonCode::BadUserNameOrPassword, 4),
        (ReasonCode::NotAuthorized, 5),
        (ReasonCode::Banned, 5),
    ] {
        check(&connack(reason, false), &[0x20, 3, 0, reason.code(), 0], &[0x20, 2, 0, return_code]);
    }
    // [MQTT-3.2.2-6], [MQTT-3.2.2-8].
    for wrong in [connack(ReasonCode::NotAuthorized, true), connack(ReasonCode::SessionTakenOver, false)] {
        wrong.encode(ProtocolVersion::V5, &mut Vec::new()).unwrap_err();
    }
}

#[test]
fn answers_to_subscriptions() {
    let codes = [0, 2, 0x87];
    let reasons = ReasonCodes::new(&codes, Place::SubAck).unwrap();
    let suback = SubAck { packet_id: ID, reasons, properties: Properties::NONE };
    check(&Packet::SubAck(suback), &[0x90, 6, 1, 2, 0, 0, 2, 0x87], &[0x90, 5, 1, 2, 0, 2, 0x80]);
    let codes = [0, 0x11];
    let reasons = ReasonCodes::new(&codes, Place::UnsubAck).unwrap();
    let unsuback = UnsubAck { packet_id: ID, reasons, properties: Properties::NONE };
    check(&Packet::UnsubAck(unsuback), &[0xB0, 5, 1, 2, 0, 0, 0x11], &[0xB0, 2, 1, 2]);
    ReasonCodes::new(&[0x11], Place::SubAck).unwrap_err();
}

#[test]
fn the_end_of_a_connection() {
    let disconnect = |reason| Packet::Disconnect(Disconnect { reason, properties: Properties::NONE });
    check(&disconnect(ReasonCode::Success), &[0xE0, 0], &[0xE0, 0]);
    check(&disconnect(ReasonCode::SessionTakenOver), &[0xE0, 2, 0x8E, 0], &[0xE0, 0]);
    check(&Packet::PingReq, &[0xC0, 0], &[0xC0, 0]);
    check(&Packet::PingResp, &[0xD0, 0], &[0xD0, 0]);
}

#[test]
fn a_message_is_written_for_each_version() {
    let list = PropertyList::new(Place::PublishFromServer)
        .with(Property::MessageExpiryInterval(300))
        .unwrap()
        .with(Property::CorrelationData(b"c"))
        .unwrap();
    let publish = Packet::Publish(Publish {
        delivery: Delivery::AtLeastOnce { packet_id: ID, is_repeated: true },
        retain: false,
        topic: "t",
        properties: list.properties(),
        payload: b"xy",
    });
    let in_5 = [0x3A, 17, 0, 1, b't', 1, 2, 9, 2, 0, 0, 1, 44, 9, 0, 1, b'c', b'x', b'y'];
    check(&publish, &in_5, &[0x3A, 7, 0, 1, b't', 1, 2, b'x', b'y']);
    assert_eq!(publish.size(ProtocolVersion::V5), in_5.len());
}

#[test]
fn what_the_other_side_would_refuse_is_not_written() {
    let publish = |topic, properties| {
        Packet::Publish(Publish {
            delivery: Delivery::AtMostOnce,
            retain: false,
            topic,
            properties,
            payload: b"",
        })
    };
    let long = "t".repeat(65_536);
    let of_connect = PropertyList::new(Place::Connect).with(Property::ReceiveMaximum(1)).unwrap();
    let client = |client_id, password, version| {
        let (clean_start, keep_alive_s, will, user_name) = (false, 0, None, None);
        let properties = Properties::NONE;
        Packet::Connect(Connect {
            version,
            clean_start,
            keep_alive_s,
            client_id,
            will,
            user_name,
            password,
            properties,
        })
    };
    for (wrong, rule) in [
        (publish("a/#", Properties::NONE), "MQTT-3.3.2-2"),
        (publish("", Properties::NONE), "MQTT 5 §3.3.2.3.4"),
        (publish("a\0", Properties::NONE), "MQTT-1.5.4-2"),
        (publish(&long, Properties::NONE), "MQTT 5 §1.5.6"),
        (publish("a", of_connect.properties()), "MQTT 5 §2.2.2.2"),
        (client(&long, None, ProtocolVersion::V5), "MQTT 5 §1.5.6"),
        (client("", None, ProtocolVersion::V311), "3.1.1 MQTT-3.1.3-8"),
        (client("a", Some(&b"p"[..]), ProtocolVersion::V311), "3.1.1 MQTT-3.1.2-22"),
    ] {
        let mut bytes = Vec::new();
        assert_eq!(wrong.encode(ProtocolVersion::V5, &mut bytes).unwrap_err().rule, rule);
        assert!(bytes.is_empty());
    }
    // A message that is too long for any packet (MQTT 5 §2.1.4).
    let payload = vec![0; 268_435_455];
    let huge = Publish {
        delivery: Delivery::AtMostOnce,
        retain: false,
        topic: "t",
        properties: Properties::NONE,
        payload: &payload,
    };
    assert_eq!(
        Packet::Publish(huge).encode(ProtocolVersion::V5, &mut Vec::new()).unwrap_err().reason,
        ReasonCode::PacketTooLarge
    );
}

#[test]
fn lists_refuse_what_may_not_be_in_them() {
    let mut properties = PropertyList::new(Place::PublishFromClient);
    for wrong in [
        Property::SubscriptionIdentifier(1),
        Property::TopicAlias(0),
        Property::ResponseTopic("a/+"),
        Property::ReceiveMaximum(5),
        Property::UserProperty("a", "\0"),
    ] {
        properties.push(wrong).unwrap_err();
    }
    properties.push(Property::TopicAlias(1)).unwrap();
    properties.push(Property::TopicAlias(1)).unwrap_err();
    assert_eq!(properties.properties().as_bytes(), [0x23, 0, 1]);
    properties.clear();
    properties.push(Property::TopicAlias(2)).unwrap();
    let of_server = PropertyList::new(Place::PublishFromServer);
    of_server.with(Property::SubscriptionIdentifier(268_435_456)).unwrap_err();
    let mut filters = SubscribeList::new(ProtocolVersion::V5);
    filters.push("a/#/b", SubscriptionOptions::qos(Qos::AtMostOnce)).unwrap_err();
    filters.push("a/#", SubscriptionOptions::qos(Qos::ExactlyOnce)).unwrap();
    let read: Vec<_> = filters.filters().iter().collect();
    assert_eq!(read, [("a/#", SubscriptionOptions::qos(Qos::ExactlyOnce))]);
}
