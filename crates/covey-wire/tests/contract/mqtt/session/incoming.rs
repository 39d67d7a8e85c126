//! What the device sends: the order of the answers, messages of QoS 2 once and only once, the bounds, and
//! topic aliases.

use covey_wire::mqtt::session::{Arrival, Limits, TopicName};
use covey_wire::mqtt::{
    Ack, Auth, Connect, Delivery, Disconnect, Packet, Place, Properties, Property, PropertyList,
    ProtocolVersion, Publish, Qos, ReasonCode,
};

use super::device::{Device, Hello, Said, id, in_each_version};

const OK: ReasonCode = ReasonCode::Success;

fn device() -> Device {
    Device::subscribed(Limits::default(), &Hello::default())
}

/// What is left of the reason of an acknowledgement: 3.1.1 has none.
fn said_to(hello: &Hello, reason: ReasonCode) -> ReasonCode {
    if hello.version == ProtocolVersion::V5 { reason } else { OK }
}

/// [MQTT-4.3.2-4], [MQTT-4.6.0-2], [MQTT-4.6.0-3], [3.1.1 MQTT-4.3.2-2], [3.1.1 MQTT-4.6.0-2], [3.1.1 MQTT-4.6.0-3]: in
/// the order of the messages, whichever is committed first.
#[test]
fn answers_go_out_in_the_order_of_arrival() {
    for hello in in_each_version() {
        let mut device = Device::subscribed(Limits::default(), &hello);
        let first = device.publish_new(Qos::AtLeastOnce, 1);
        let second = device.publish_new(Qos::ExactlyOnce, 2);
        let third = device.publish_new(Qos::AtLeastOnce, 3);
        assert!(device.publish(Qos::AtMostOnce, 0, false).unwrap().is_none());
        device.answer(third, OK);
        device.answer(second, OK);
        assert_eq!(device.read(), []);
        device.answer(first, ReasonCode::NoMatchingSubscribers);
        assert_eq!(
            device.read(),
            [
                Said::PubAck(1, said_to(&hello, ReasonCode::NoMatchingSubscribers), None),
                Said::PubRec(2, OK, None),
                Said::PubAck(3, OK, None),
            ]
        );
        // [MQTT-4.3.2-5]: after its PUBACK the identifier is that of a new message, with DUP or without.
        assert!(device.publish(Qos::AtLeastOnce, 1, true).unwrap().is_some());
    }
}

/// [MQTT-3.1.2-29], [MQTT-3.4.2-2], [MQTT-3.4.2-1].
#[test]
fn a_reason_is_explained_to_who_wants_it_and_takes_it() {
    let explain = |hello: &Hello, text: &str| {
        let mut device = Device::subscribed(Limits::default(), hello);
        let receipt = device.publish_new(Qos::AtLeastOnce, 1);
        device.session.answer(receipt, ReasonCode::NotAuthorized, text, &mut device.out);
        device.read().remove(0)
    };
    let said = |reason, text: Option<&str>| Said::PubAck(1, reason, text.map(str::to_owned));
    let refused = ReasonCode::NotAuthorized;
    assert_eq!(explain(&Hello::default(), "not yours"), said(refused, Some("not yours")));
    assert_eq!(explain(&Hello::default(), &"x".repeat(70_000)), said(refused, None));
    let quiet = Hello::default().with(Property::RequestProblemInformation(false));
    assert_eq!(explain(&quiet, "not yours"), said(refused, None));
    // The bare PUBACK has 5 bytes, the explained 18.
    for (bytes, text) in [(18, Some("not yours")), (17, None)] {
        let small = Hello::default().with(Property::MaximumPacketSize(bytes));
        assert_eq!(explain(&small, "not yours"), said(refused, text));
    }
    // 3.1.1 has no word for it: a refused message is acknowledged [3.1.1 MQTT-3.3.5-2].
    assert_eq!(explain(&Hello::in_3(), "not yours"), said(OK, None));
    // A reason that PUBACK does not have.
    let mut device = device();
    let receipt = device.publish_new(Qos::AtLeastOnce, 1);
    device.answer(receipt, ReasonCode::ServerBusy);
    assert_eq!(device.read(), [said(ReasonCode::ImplementationSpecificError, None)]);
}

/// [MQTT-4.3.3-8], [MQTT-4.3.3-10], [MQTT-4.3.3-11], [MQTT-4.3.3-12], [3.1.1 MQTT-4.3.3-2]: a message of QoS 2 is
/// received when the owner has it; repetitions meanwhile bring nothing, and one PUBREC is for all.
#[test]
fn a_message_of_qos_2_comes_once() {
    for hello in in_each_version() {
        let mut device = Device::subscribed(Limits::default(), &hello);
        let receipt = device.publish_new(Qos::ExactlyOnce, 5);
        assert_eq!(device.publish(Qos::ExactlyOnce, 5, true).unwrap(), None);
        assert_eq!(device.read(), []);
        device.answer(receipt, OK);
        assert_eq!(device.read(), [Said::PubRec(5, OK, None)]);
        for is_repeated in [true, false] {
            assert_eq!(device.publish(Qos::ExactlyOnce, 5, is_repeated).unwrap(), None);
            assert_eq!(device.read(), [Said::PubRec(5, OK, None)]);
        }
        device.ack(Packet::PubRel, 5);
        device.ack(Packet::PubRel, 5);
        let unknown = said_to(&hello, ReasonCode::PacketIdentifierNotFound);
        assert_eq!(device.read(), [Said::PubComp(5, OK), Said::PubComp(5, unknown)]);
        assert!(device.publish(Qos::ExactlyOnce, 5, true).unwrap().is_some());
    }
}

/// MQTT 5 §4.1, §4.3.3, [3.1.1 MQTT-4.1.0-1]: what is received of QoS 2 outlives the connection, also when the
/// commit comes between two connections, or on the second.
#[test]
fn a_message_of_qos_2_comes_once_over_many_connections() {
    for hello in in_each_version() {
        let mut device = Device::subscribed(Limits::default(), &hello);
        let receipt = device.publish_new(Qos::ExactlyOnce, 5);
        device.detach();
        device.connect(&hello).unwrap();
        device.read();
        // It is under way: no second copy, and no answer before the commit.
        assert_eq!(device.publish(Qos::ExactlyOnce, 5, true).unwrap(), None);
        assert_eq!(device.read(), []);
        device.detach();
        device.answer(receipt, OK);
        assert_eq!(device.read(), []);
        device.connect(&hello).unwrap();
        device.read();
        assert_eq!(device.publish(Qos::ExactlyOnce, 5, true).unwrap(), None);
        assert_eq!(device.read(), [Said::PubRec(5, OK, None)]);
        // The PUBCOMP is lost with the connection; PUBREL comes again.
        device.ack(Packet::PubRel, 5);
        device.detach();
        device.connect(&hello).unwrap();
        device.read();
        device.ack(Packet::PubRel, 5);
        let unknown = said_to(&hello, ReasonCode::PacketIdentifierNotFound);
        assert_eq!(device.read(), [Said::PubComp(5, unknown)]);
    }
}

#[test]
fn a_commit_on_a_later_connection_is_answered_there() {
    let mut device = device();
    let receipt = device.publish_new(Qos::ExactlyOnce, 5);
    let other = device.publish_new(Qos::AtLeastOnce, 6);
    device.connect(&Hello::default()).unwrap();
    device.read();
    assert_eq!(device.publish(Qos::ExactlyOnce, 5, true).unwrap(), None);
    device.answer(receipt, OK);
    // The PUBACK belongs to the connection on which the message came.
    device.answer(other, OK);
    assert_eq!(device.read(), [Said::PubRec(5, OK, None)]);
}

/// An answer for a session that has ended does not touch the new one.
#[test]
fn a_late_answer_does_not_reach_another_session() {
    let mut device = device();
    let receipt = device.publish_new(Qos::ExactlyOnce, 5);
    device.connect(&Hello { clean_start: true, ..Hello::default() }).unwrap();
    device.read();
    let fresh = device.publish_new(Qos::ExactlyOnce, 5);
    device.answer(receipt, OK);
    assert_eq!(device.read(), []);
    device.answer(fresh, OK);
    assert_eq!(device.read(), [Said::PubRec(5, OK, None)]);
}

/// [MQTT-4.3.3-9]: after a refusal the identifier is that of a new message. 3.1.1 has no refusal.
#[test]
fn a_refused_message_of_qos_2_is_forgotten() {
    let mut device = device();
    let receipt = device.publish_new(Qos::ExactlyOnce, 5);
    device.answer(receipt, ReasonCode::QuotaExceeded);
    assert_eq!(device.read(), [Said::PubRec(5, ReasonCode::QuotaExceeded, None)]);
    let again = device.publish_new(Qos::ExactlyOnce, 5);
    device.answer(again, OK);
    assert_eq!(device.read(), [Said::PubRec(5, OK, None)]);

    let mut device = Device::subscribed(Limits::default(), &Hello::in_3());
    let receipt = device.publish_new(Qos::ExactlyOnce, 5);
    device.answer(receipt, ReasonCode::QuotaExceeded);
    assert_eq!(device.publish(Qos::ExactlyOnce, 5, true).unwrap(), None);
    device.ack(Packet::PubRel, 5);
    assert_eq!(device.read(), [Said::PubRec(5, OK, None), Said::PubRec(5, OK, None), Said::PubComp(5, OK)]);
}

/// PUBREL before PUBREC: nothing is received yet, and nothing is forgotten.
#[test]
fn a_release_before_its_time_changes_nothing() {
    let mut device = device();
    let receipt = device.publish_new(Qos::ExactlyOnce, 5);
    device.ack(Packet::PubRel, 5);
    assert_eq!(device.read(), [Said::PubComp(5, ReasonCode::PacketIdentifierNotFound)]);
    device.answer(receipt, OK);
    assert_eq!(device.publish(Qos::ExactlyOnce, 5, true).unwrap(), None);
    assert_eq!(device.read(), [Said::PubRec(5, OK, None), Said::PubRec(5, OK, None)]);
}

/// [MQTT-2.2.1-3], [3.1.1 MQTT-2.3.1-2]: MQTT 5 can say it, and 3.1.1 cannot.
#[test]
fn an_identifier_that_is_in_use_is_refused() {
    let mut device = device();
    let first = device.publish_new(Qos::AtLeastOnce, 1);
    // A repetition by a timer, which 3.1 asked for: it is the same message.
    assert_eq!(device.publish(Qos::AtLeastOnce, 1, true).unwrap(), None);
    assert_eq!(device.publish(Qos::AtLeastOnce, 1, false).unwrap(), None);
    assert_eq!(device.publish(Qos::ExactlyOnce, 1, false).unwrap(), None);
    device.answer(first, OK);
    let in_use = ReasonCode::PacketIdentifierInUse;
    assert_eq!(
        device.read(),
        [Said::PubAck(1, OK, None), Said::PubAck(1, in_use, None), Said::PubRec(1, in_use, None)]
    );
    let mut device = Device::subscribed(Limits::default(), &Hello::in_3());
    device.publish_new(Qos::AtLeastOnce, 1);
    assert_eq!(device.publish(Qos::AtLeastOnce, 1, true).unwrap(), None);
    assert_eq!(device.publish(Qos::ExactlyOnce, 1, false).unwrap_err().rule, "MQTT-2.2.1-3");
}

/// A device that was restarted, and has forgotten an exchange of QoS 2, is not kept out by it.
#[test]
fn a_forgotten_exchange_gives_way_to_a_new_message() {
    for hello in [Hello::default(), Hello::in_3()] {
        let mut device = Device::subscribed(Limits::default(), &hello);
        let first = device.publish_new(Qos::ExactlyOnce, 1);
        let second = device.publish_new(Qos::ExactlyOnce, 2);
        device.answer(first, OK);
        device.connect(&hello).unwrap();
        device.read();
        let again = [1, 2].map(|number| device.publish_new(Qos::AtLeastOnce, number));
        // The commit of what was given up comes late.
        device.answer(second, OK);
        again.into_iter().for_each(|receipt| device.answer(receipt, OK));
        assert_eq!(device.read(), [1, 2].map(|number| Said::PubAck(number, OK, None)));
    }
}

/// [MQTT-3.3.4-7]: of QoS 1 until PUBACK, of QoS 2 until PUBCOMP, or PUBREC with a failure (§4.9).
#[test]
fn receive_maximum_counts_as_the_device_counts() {
    let limits = Limits { receive_max: 2, ..Limits::default() };
    let mut device = Device::subscribed(limits, &Hello::default());
    let first = device.publish_new(Qos::ExactlyOnce, 1);
    let second = device.publish_new(Qos::AtLeastOnce, 2);
    assert!(!device.session.has_room(&limits));
    // What is not counted goes on [MQTT-4.9.0-3].
    device.publish(Qos::AtMostOnce, 0, false).unwrap();
    let exceeded = device.publish(Qos::AtLeastOnce, 3, false).unwrap_err();
    assert_eq!((exceeded.reason, exceeded.rule), (ReasonCode::ReceiveMaximumExceeded, "MQTT-3.3.4-7"));
    device.answer(second, OK);
    // It is answered behind the first, and counts until then.
    device.publish(Qos::AtLeastOnce, 3, false).unwrap_err();
    device.answer(first, OK);
    device.publish_new(Qos::AtLeastOnce, 3);
    device.publish(Qos::AtLeastOnce, 4, false).unwrap_err();
    device.ack(Packet::PubRel, 1);
    device.publish_new(Qos::AtLeastOnce, 4);
}

/// MQTT 5 §4.9: the count begins anew with each connection. A message that comes again counts again.
#[test]
fn receive_maximum_is_counted_for_each_connection() {
    let limits = Limits { receive_max: 2, ..Limits::default() };
    let mut device = Device::subscribed(limits, &Hello::default());
    let first = device.publish_new(Qos::ExactlyOnce, 1);
    device.publish_new(Qos::AtLeastOnce, 2);
    device.answer(first, OK);
    device.connect(&Hello::default()).unwrap();
    assert_eq!(device.session.unanswered(), 0);
    assert_eq!(device.publish(Qos::ExactlyOnce, 1, true).unwrap(), None);
    assert_eq!(device.session.unanswered(), 1);
    device.publish_new(Qos::AtLeastOnce, 3);
    device.publish(Qos::AtLeastOnce, 4, false).unwrap_err();
    // What comes again is bounded as what is new, and so is what has an identifier in use.
    device.connect(&Hello::default()).unwrap();
    for number in [5, 6] {
        device.publish_new(Qos::AtLeastOnce, number);
    }
    for (qos, number) in [(Qos::ExactlyOnce, 1), (Qos::AtLeastOnce, 5)] {
        let exceeded = device.publish(qos, number, qos == Qos::ExactlyOnce).unwrap_err();
        assert_eq!(exceeded.reason, ReasonCode::ReceiveMaximumExceeded);
    }
}

/// 3.1.1 has no Receive Maximum: its reader stops reading, and breaks no rule if it reads on.
#[test]
fn the_reader_of_3_knows_when_to_stop() {
    let limits = Limits { receive_max: 2, ..Limits::default() };
    let mut device = Device::subscribed(limits, &Hello::in_3());
    device.publish_new(Qos::AtLeastOnce, 1);
    assert!(device.session.has_room(&limits));
    device.publish_new(Qos::AtLeastOnce, 2);
    assert!(!device.session.has_room(&limits));
    device.publish_new(Qos::AtLeastOnce, 3);
}

#[test]
fn unreleased_messages_have_a_bound() {
    let limits = Limits { unreleased_max: 3, ..Limits::default() };
    let mut device = Device::subscribed(limits, &Hello::default());
    for number in 1..=3 {
        let receipt = device.publish_new(Qos::ExactlyOnce, number);
        device.answer(receipt, OK);
        device.connect(&Hello::default()).unwrap();
    }
    assert_eq!(device.publish(Qos::ExactlyOnce, 4, false).unwrap_err().reason, ReasonCode::QuotaExceeded);
    device.ack(Packet::PubRel, 1);
    device.publish_new(Qos::ExactlyOnce, 4);
}

fn aliased<'p>(
    device: &mut Device,
    topic: &'p str,
    list: &'p PropertyList,
) -> Result<Arrival<'p>, ReasonCode> {
    let delivery = Delivery::AtMostOnce;
    let publish = Publish { delivery, retain: false, topic, properties: list.properties(), payload: b"" };
    device.say(&Packet::Publish(publish)).map_err(|violation| violation.reason)
}

fn topic_of(arrival: Result<Arrival<'_>, ReasonCode>) -> String {
    match arrival {
        Ok(Arrival::Message(arrived)) => {
            assert!(matches!(arrived.topic, TopicName::OfAlias(_)));
            arrived.topic.to_string()
        }
        other => panic!("{other:?}"),
    }
}

/// [MQTT-3.3.2-7], [MQTT-3.3.2-9], [MQTT-3.3.2-12].
#[test]
fn topic_aliases_of_the_device() {
    let limits = Limits { topic_aliases_in_max: 2, ..Limits::default() };
    let mut device = Device::subscribed(limits, &Hello::default());
    let [one, two, three] = [1, 2, 3]
        .map(|alias| PropertyList::new(Place::PublishFromClient).with(Property::TopicAlias(alias)).unwrap());
    assert_eq!(topic_of(aliased(&mut device, "dev/a/evt", &two)), "dev/a/evt");
    assert_eq!(topic_of(aliased(&mut device, "", &two)), "dev/a/evt");
    assert_eq!(aliased(&mut device, "", &one).unwrap_err(), ReasonCode::ProtocolError);
    assert_eq!(topic_of(aliased(&mut device, "dev/a/res", &two)), "dev/a/res");
    assert_eq!(topic_of(aliased(&mut device, "", &two)), "dev/a/res");
    assert_eq!(aliased(&mut device, "x", &three).unwrap_err(), ReasonCode::TopicAliasInvalid);
    device.connect(&Hello::default()).unwrap();
    assert_eq!(aliased(&mut device, "", &two).unwrap_err(), ReasonCode::ProtocolError);
    // None were offered.
    let mut device = Device::subscribed(Limits { topic_aliases_in_max: 0, ..limits }, &Hello::default());
    assert_eq!(aliased(&mut device, "dev/a/evt", &one).unwrap_err(), ReasonCode::TopicAliasInvalid);
}

/// [MQTT-3.2.2-14]: MQTT 5 was told that nothing is retained; 3.1.1 cannot be told.
#[test]
fn a_message_to_be_retained() {
    let retained = |hello: &Hello, limits: Limits| {
        let mut device = Device::subscribed(limits, hello);
        let (delivery, properties) = (Delivery::AtMostOnce, Properties::NONE);
        let publish = Publish { delivery, retain: true, topic: "up", properties, payload: b"" };
        match device.say(&Packet::Publish(publish)) {
            Ok(Arrival::Message(arrived)) => Ok(arrived.retain),
            Ok(other) => panic!("{other:?}"),
            Err(violation) => Err(violation.reason),
        }
    };
    assert_eq!(retained(&Hello::default(), Limits::default()), Err(ReasonCode::RetainNotSupported));
    assert_eq!(retained(&Hello::in_3(), Limits::default()), Ok(true));
    let keeps = Limits { retain_available: true, ..Limits::default() };
    assert_eq!(retained(&Hello::default(), keeps), Ok(true));
}

/// [MQTT-3.1.0-2], [MQTT-3.2.0-2], [3.1.1 MQTT-3.1.0-2].
#[test]
fn a_second_connect_is_refused() {
    for hello in in_each_version() {
        let mut device = Device::subscribed(Limits::default(), &hello);
        let connect = Connect {
            version: device.version,
            clean_start: true,
            keep_alive_s: 0,
            client_id: "a-1",
            will: None,
            user_name: None,
            password: None,
            properties: Properties::NONE,
        };
        let refused = device.say(&Packet::Connect(connect)).unwrap_err();
        assert_eq!((refused.reason, refused.rule), (ReasonCode::ProtocolError, "MQTT-3.1.0-2"));
        assert_eq!(device.read(), []);
        assert!(device.session.is_subscribed_to("#"));
    }
}

/// [MQTT-4.12.0-7], and what servers send.
#[test]
fn packets_that_may_not_come() {
    let mut device = device();
    let list = PropertyList::new(Place::AuthFromClient).with(Property::AuthenticationMethod("m")).unwrap();
    let auth = Auth { reason: ReasonCode::ReAuthenticate, properties: list.properties() };
    let refused = device.say(&Packet::Auth(auth)).unwrap_err();
    assert_eq!((refused.reason, refused.rule), (ReasonCode::ProtocolError, "MQTT-4.12.0-7"));
    let refused = device.say(&Packet::PingResp).unwrap_err();
    assert_eq!(refused.reason, ReasonCode::ProtocolError);
    // An acknowledgement of what is not known here brings nothing, or PUBREL that says so.
    device.ack(Packet::PubAck, 77);
    device.ack(Packet::PubComp, 77);
    device.ack(Packet::PubRec, 77);
    device.tell(&Packet::PubRec(Ack::with_reason(id(78), ReasonCode::NotAuthorized)));
    assert_eq!(device.read(), [Said::PubRel(77, ReasonCode::PacketIdentifierNotFound)]);
}

/// [MQTT-3.12.4-1], [MQTT-3.14.4-1], [3.1.1 MQTT-3.12.4-1], [3.1.1 MQTT-3.14.4-2].
#[test]
fn a_ping_is_answered_until_the_device_says_goodbye() {
    for hello in in_each_version() {
        let mut device = Device::subscribed(Limits::default(), &hello);
        device.tell(&Packet::PingReq);
        assert_eq!(device.read(), [Said::PingResp]);
        let bye = Packet::Disconnect(Disconnect { reason: OK, properties: Properties::NONE });
        device.say(&bye).unwrap();
        assert_eq!(device.say(&Packet::PingReq).unwrap_err().rule, "MQTT-3.14.4-1");
        assert_eq!(device.read(), []);
        // The next connection is another.
        device.connect(&hello).unwrap();
        device.read();
        device.tell(&Packet::PingReq);
        assert_eq!(device.read(), [Said::PingResp]);
    }
}
