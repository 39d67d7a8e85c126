//! Every message byte for byte, as the tables of §5.4 have it, in both directions.

use covey_gateway::mqtt_sn::packet::{
    Ack, Connect, Filter, Name, Packet, Publish, Qos, ReturnCode, SubAck, Subscribe, Topic, WillTopic, decode,
};

#[track_caller]
fn is(packet: Packet<'_>, bytes: &[u8]) {
    let mut written = Vec::new();
    packet.encode(&mut written).unwrap();
    assert_eq!(written, bytes);
    assert_eq!(decode(bytes), Ok(packet));
}

const fn name(text: &str) -> Name<'_> {
    Name(text.as_bytes())
}

#[test]
fn finding_a_gateway() {
    is(Packet::Advertise { gateway_id: 7, duration_s: 900 }, &[5, 0x00, 7, 0x03, 0x84]);
    is(Packet::SearchGw { radius: 3 }, &[3, 0x01, 3]);
    is(Packet::GwInfo { gateway_id: 7, address: &[] }, &[3, 0x02, 7]);
    is(Packet::GwInfo { gateway_id: 7, address: &[192, 0, 2, 1] }, &[7, 0x02, 7, 192, 0, 2, 1]);
}

#[test]
fn connecting() {
    let connect = |has_will, is_clean| {
        Packet::Connect(Connect {
            has_will,
            is_clean,
            protocol_id: 1,
            keep_alive_s: 300,
            client_id: name("n1"),
        })
    };
    is(connect(false, true), b"\x08\x04\x04\x01\x01\x2Cn1");
    is(connect(true, false), b"\x08\x04\x08\x01\x01\x2Cn1");
    is(Packet::ConnAck(ReturnCode::ACCEPTED), &[3, 0x05, 0]);
    is(Packet::ConnAck(ReturnCode::CONGESTION), &[3, 0x05, 1]);
    is(Packet::Disconnect(None), &[2, 0x18]);
    is(Packet::Disconnect(Some(600)), &[4, 0x18, 0x02, 0x58]);
    is(Packet::PingReq(None), &[2, 0x16]);
    is(Packet::PingReq(Some(name("n1"))), b"\x04\x16n1");
    is(Packet::PingResp, &[2, 0x17]);
}

#[test]
fn wills() {
    let topic = |qos, retain| Some(WillTopic { qos, retain, name: name("a/b") });
    is(Packet::WillTopicReq, &[2, 0x06]);
    is(Packet::WillTopic(topic(Qos::AtLeastOnce, true)), b"\x06\x07\x30a/b");
    is(Packet::WillTopic(None), &[2, 0x07]);
    is(Packet::WillMsgReq, &[2, 0x08]);
    is(Packet::WillMsg(b"gone"), b"\x06\x09gone");
    is(Packet::WillTopicUpd(topic(Qos::AtMostOnce, false)), b"\x06\x1A\x00a/b");
    is(Packet::WillTopicUpd(None), &[2, 0x1A]);
    is(Packet::WillTopicResp(ReturnCode::ACCEPTED), &[3, 0x1B, 0]);
    is(Packet::WillMsgUpd(b"gone"), b"\x06\x1Cgone");
    is(Packet::WillMsgResp(ReturnCode::NOT_SUPPORTED), &[3, 0x1D, 3]);
}

#[test]
fn topics() {
    let register = Packet::Register { topic_id: 0, msg_id: 0x1234, name: name("node/check") };
    is(register, b"\x10\x0A\x00\x00\x12\x34node/check");
    let ack = Ack { topic_id: 5, msg_id: 0x1234, code: ReturnCode::INVALID_TOPIC_ID };
    is(Packet::RegAck(ack), &[7, 0x0B, 0, 5, 0x12, 0x34, 2]);
}

#[test]
fn messages() {
    let publish = |is_repeated, qos, retain, topic, msg_id| {
        Packet::Publish(Publish { is_repeated, qos, retain, topic, msg_id, payload: b"hi" })
    };
    is(publish(false, Qos::AtMostOnce, false, Topic::Normal(5), 0), b"\x09\x0C\x00\x00\x05\x00\x00hi");
    is(publish(true, Qos::AtLeastOnce, false, Topic::Normal(5), 9), b"\x09\x0C\xA0\x00\x05\x00\x09hi");
    is(publish(false, Qos::ExactlyOnce, true, Topic::Predefined(1), 9), b"\x09\x0C\x51\x00\x01\x00\x09hi");
    is(publish(false, Qos::WithoutConnection, false, Topic::Short(*b"ab"), 0), b"\x09\x0C\x62ab\x00\x00hi");
    let ack = Ack { topic_id: 5, msg_id: 9, code: ReturnCode::ACCEPTED };
    is(Packet::PubAck(ack), &[7, 0x0D, 0, 5, 0, 9, 0]);
    is(Packet::PubRec(9), &[4, 0x0F, 0, 9]);
    is(Packet::PubRel(9), &[4, 0x10, 0, 9]);
    is(Packet::PubComp(9), &[4, 0x0E, 0, 9]);
}

#[test]
fn subscriptions() {
    let subscribe =
        |is_repeated, qos, filter| Packet::Subscribe(Subscribe { is_repeated, qos, msg_id: 9, filter });
    is(subscribe(false, Qos::AtLeastOnce, Filter::Name(name("a/+"))), b"\x08\x12\x20\x00\x09a/+");
    is(subscribe(true, Qos::AtMostOnce, Filter::Predefined(2)), &[7, 0x12, 0x81, 0, 9, 0, 2]);
    is(subscribe(false, Qos::ExactlyOnce, Filter::Short(*b"ab")), b"\x07\x12\x42\x00\x09ab");
    let ack = SubAck { qos: Qos::AtLeastOnce, topic_id: 5, msg_id: 9, code: ReturnCode::ACCEPTED };
    is(Packet::SubAck(ack), &[8, 0x13, 0x20, 0, 5, 0, 9, 0]);
    is(Packet::Unsubscribe { msg_id: 9, filter: Filter::Name(name("a")) }, b"\x06\x14\x00\x00\x09a");
    is(Packet::Unsubscribe { msg_id: 9, filter: Filter::Predefined(2) }, &[7, 0x14, 1, 0, 9, 0, 2]);
    is(Packet::UnsubAck(9), &[4, 0x15, 0, 9]);
}

#[test]
fn what_a_forwarder_has_wrapped() {
    let wrapped = Packet::Encapsulated { radius: 2, node: &[0xAA, 0xBB], message: &[2, 0x16] };
    is(wrapped, &[5, 0xFE, 2, 0xAA, 0xBB, 2, 0x16]);
}

/// §5.2.1: one byte of length up to 255, three beyond.
#[test]
fn a_length_has_one_byte_or_three() {
    for (payload, header) in
        [(248, vec![255, 0x0C]), (249, vec![1, 1, 2, 0x0C]), (8_000, vec![1, 0x1F, 0x49, 0x0C])]
    {
        let payload = vec![b'x'; payload];
        let publish = Publish {
            is_repeated: false,
            qos: Qos::AtMostOnce,
            retain: false,
            topic: Topic::Normal(1),
            msg_id: 0,
            payload: &payload,
        };
        let mut bytes = header;
        bytes.extend_from_slice(&[0, 0, 1, 0, 0]);
        bytes.extend_from_slice(&payload);
        is(Packet::Publish(publish), &bytes);
    }
    let mut written = vec![1, 2, 3];
    assert!(Packet::WillMsg(&[0; 65_531]).encode(&mut written).is_ok());
    assert_eq!(written.len(), 3 + 65_535);
    written.truncate(3);
    assert_eq!(Packet::WillMsg(&[0; 65_532]).encode(&mut written).unwrap_err().section, "5.2.1");
    assert_eq!(written, [1, 2, 3]);
}

/// RIOT's asymcute writes three bytes of length from 251 on, and nothing forbids it for less.
#[test]
fn a_short_message_may_have_a_long_length() {
    assert_eq!(decode(&[1, 0, 4, 0x16]), Ok(Packet::PingReq(None)));
}

/// Flags that a message does not use say nothing (emcute sends the topic id type of a SUBSCRIBE as it was given).
#[test]
fn flags_that_are_not_used_are_not_looked_at() {
    let Ok(Packet::Connect(connect)) = decode(b"\x07\x04\xF7\x01\x00\x00n") else { panic!() };
    assert!(connect.is_clean && !connect.has_will);
}
