//! What is sent to the device: order, identifiers, repetition after a lost connection, quota, expiry, and
//! topic aliases.

use covey_wire::mqtt::session::{Limits, Message, Outcome, Sent};
use covey_wire::mqtt::{Ack, Packet, Place, Property, PropertyList, Qos, ReasonCode};

use super::device::{Device, Hello, Said, id, in_each_version, message};

const OK: ReasonCode = ReasonCode::Success;
const ONE: Qos = Qos::AtLeastOnce;
const TWO: Qos = Qos::ExactlyOnce;

fn delivered(token: u64) -> Outcome {
    Outcome::Delivered { token, reason: OK }
}

/// [MQTT-4.3.1-1], [MQTT-4.3.2-1], [MQTT-4.3.2-2], [MQTT-4.3.3-1], [MQTT-4.3.3-2], [MQTT-4.3.3-4], [MQTT-2.2.1-4];
/// [3.1.1 MQTT-4.3.1-1], [3.1.1 MQTT-4.3.2-1], [3.1.1 MQTT-4.3.3-1].
#[test]
fn each_qos_goes_its_way() {
    for hello in in_each_version() {
        let mut device = Device::subscribed(Limits::default(), &hello);
        assert_eq!(device.send(0, Qos::AtMostOnce, "zero"), Sent::Written);
        assert_eq!(device.send(1, ONE, "one"), Sent::Written);
        assert_eq!(device.send(2, TWO, "two"), Sent::Written);
        assert_eq!(
            device.read(),
            [
                message(0, Qos::AtMostOnce, false, "zero"),
                message(1, ONE, false, "one"),
                message(2, TWO, false, "two")
            ]
        );
        assert_eq!(device.session.undelivered(), 2);
        device.ack(Packet::PubAck, 1);
        device.ack(Packet::PubRec, 2);
        assert_eq!(device.outcomes(), [delivered(1), delivered(2)]);
        assert_eq!(device.read(), [Said::PubRel(2, OK)]);
        // PUBREC again: PUBREL again, and nothing is delivered twice.
        device.ack(Packet::PubRec, 2);
        assert_eq!(device.read(), [Said::PubRel(2, OK)]);
        device.ack(Packet::PubComp, 2);
        assert_eq!((device.outcomes(), device.session.undelivered()), (vec![], 0));
    }
}

/// [MQTT-4.6.0-4], [3.1.1 MQTT-4.6.0-4].
#[test]
fn pubrel_goes_out_in_the_order_of_pubrec() {
    for hello in in_each_version() {
        let mut device = Device::subscribed(Limits::default(), &hello);
        for token in 1..=3 {
            device.send(token, TWO, "x");
        }
        device.read();
        for number in [2, 3, 1] {
            device.ack(Packet::PubRec, number);
        }
        assert_eq!(device.read(), [2, 3, 1].map(|number| Said::PubRel(number, OK)));
    }
}

/// [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-3.3.1-1], [MQTT-4.3.3-6]; [3.1.1 MQTT-2.3.1-3], [3.1.1 MQTT-2.3.1-4],
/// [3.1.1 MQTT-3.1.2-5], [3.1.1 MQTT-3.3.1-1], [3.1.1 MQTT-4.4.0-1], [3.1.1 MQTT-4.6.0-1]: in their order, with
/// their identifiers, and each once.
#[test]
fn what_was_not_acknowledged_comes_again_in_its_order() {
    for hello in in_each_version() {
        let mut device = Device::subscribed(Limits::default(), &hello);
        for token in 1..=5 {
            device.send(token, if token % 2 == 0 { TWO } else { ONE }, &token.to_string());
        }
        device.ack(Packet::PubAck, 3);
        device.ack(Packet::PubRec, 4);
        device.read();
        device.outcomes();
        device.detach();
        assert_eq!(device.send(6, ONE, "6"), Sent::Waiting);
        device.connect(&hello).unwrap();
        assert_eq!(
            device.read()[1..],
            [
                Said::PubRel(4, OK),
                message(1, ONE, true, "1"),
                message(2, TWO, true, "2"),
                message(5, ONE, true, "5"),
                message(6, ONE, false, "6"),
            ]
        );
        for number in [1, 5, 6] {
            device.ack(Packet::PubAck, number);
        }
        device.ack(Packet::PubComp, 4);
        device.ack(Packet::PubRec, 2);
        assert_eq!(device.outcomes(), [1, 5, 6, 2].map(delivered));
        // Never at any other time: nothing is left to come again but one PUBREL.
        device.connect(&hello).unwrap();
        assert_eq!(device.read()[2..], [Said::PubRel(2, OK)]);
    }
}

/// [MQTT-3.3.4-9], [MQTT-4.9.0-1], [MQTT-4.9.0-2], [MQTT-3.3.4-10]: also of what comes again.
#[test]
fn the_device_is_sent_no_more_than_it_takes() {
    let hello = |messages| Hello::default().with(Property::ReceiveMaximum(messages));
    let mut device = Device::subscribed(Limits::default(), &hello(2));
    let sent: Vec<_> = (1..=4).map(|token| device.send(token, TWO, "x")).collect();
    assert_eq!(sent, [Sent::Written, Sent::Written, Sent::Waiting, Sent::Waiting]);
    assert_eq!(device.send(9, Qos::AtMostOnce, "x"), Sent::Written);
    device.tell(&Packet::PingReq);
    assert_eq!(device.read().len(), 4);
    // Room is made by PUBCOMP, not by PUBREC; or by PUBREC with a failure.
    device.ack(Packet::PubRec, 1);
    assert_eq!(device.read(), [Said::PubRel(1, OK)]);
    device.ack(Packet::PubComp, 1);
    assert_eq!(device.read(), [message(3, TWO, false, "x")]);
    device.tell(&Packet::PubRec(Ack::with_reason(id(2), ReasonCode::QuotaExceeded)));
    assert_eq!(device.read(), [message(4, TWO, false, "x")]);
    let refused = Outcome::Delivered { token: 2, reason: ReasonCode::QuotaExceeded };
    assert_eq!(device.outcomes(), [delivered(1), refused]);
    // The device comes back, and takes one at a time.
    device.connect(&hello(1)).unwrap();
    assert_eq!(device.read()[1..], [message(3, TWO, true, "x")]);
    device.ack(Packet::PubRec, 3);
    device.ack(Packet::PubComp, 3);
    assert_eq!(device.read(), [Said::PubRel(3, OK), message(4, TWO, true, "x")]);
    // The server's own bound.
    let limits = Limits { in_flight_max: 1, ..Limits::default() };
    let mut device = Device::subscribed(limits, &Hello::default());
    assert_eq!([device.send(1, ONE, "x"), device.send(2, ONE, "x")], [Sent::Written, Sent::Waiting]);
}

/// A device that takes messages of QoS 2 and never completes them holds no more of them than the quota, however
/// often it connects.
#[test]
fn messages_that_are_not_completed_have_a_bound() {
    let limits = Limits { in_flight_max: 3, waiting_messages_max: 1, ..Limits::default() };
    let mut device = Device::subscribed(limits, &Hello::default());
    let mut taken = 0;
    for token in 0..20 {
        device.send(token, TWO, "x");
        for said in device.read() {
            if let Said::Message { id: number, .. } = said {
                device.ack(Packet::PubRec, number);
                taken += 1;
            }
        }
        device.connect(&Hello::default()).unwrap();
    }
    assert_eq!((taken, device.outcomes().len()), (3, 3));
    device.read();
    device.ack(Packet::PubComp, 1);
    assert_eq!(device.read(), [message(4, TWO, false, "x")]);
}

/// [MQTT-4.4.0-2]: an acknowledgement with a failure ends it too. [MQTT-3.3.4-1]: it must be of the right kind.
#[test]
fn acknowledgements_of_the_device() {
    let mut device = Device::subscribed(Limits::default(), &Hello::default());
    for token in 1..=3 {
        device.send(token, if token == 2 { TWO } else { ONE }, "x");
    }
    device.tell(&Packet::PubAck(Ack::with_reason(id(1), ReasonCode::NotAuthorized)));
    assert_eq!(device.outcomes(), [Outcome::Delivered { token: 1, reason: ReasonCode::NotAuthorized }]);
    for wrong in [
        Packet::PubAck(Ack::success(id(2))),
        Packet::PubComp(Ack::success(id(2))),
        Packet::PubRec(Ack::success(id(3))),
    ] {
        assert_eq!(device.say(&wrong).unwrap_err().rule, "MQTT-3.3.4-1");
    }
}

/// [MQTT-2.2.1-4], [3.1.1 MQTT-2.3.1-4]: an identifier is not given to two messages, also where they begin anew.
#[test]
fn identifiers_in_use_are_left_out() {
    for hello in in_each_version() {
        let mut device = Device::subscribed(Limits::default(), &hello);
        device.send(1, ONE, "kept");
        device.send(2, TWO, "kept");
        device.ack(Packet::PubRec, 2);
        device.read();
        let mut seen = Vec::new();
        for token in 3..70_000 {
            device.send(token, ONE, "x");
            let Some(Said::Message { id, .. }) = device.read().pop() else { panic!() };
            device.ack(Packet::PubAck, id);
            seen.push(id);
        }
        assert!(!seen.contains(&1) && !seen.contains(&2) && !seen.contains(&0));
        assert_eq!(seen.iter().filter(|number| **number == 3).count(), 2);
    }
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6], [MQTT-4.3.3-7].
#[test]
fn messages_expire_while_they_wait() {
    let expiry = |payload: &str, id, is_repeated, seconds: u32| {
        let mut said = message(id, ONE, is_repeated, payload);
        if let Said::Message { properties, .. } = &mut said {
            properties.push(format!("MessageExpiryInterval({seconds})"));
        }
        said
    };
    let mut device = Device::subscribed(Limits::default(), &Hello::default());
    device.send_on("down/topic", 1, ONE, "sent", Some(10));
    // An interval of 0 is for now or never.
    device.send_on("down/topic", 2, ONE, "now", Some(0));
    assert_eq!(device.read(), [expiry("sent", 1, false, 10), expiry("now", 2, false, 0)]);
    device.detach();
    device.send_on("down/topic", 3, ONE, "short", Some(5));
    device.send_on("down/topic", 4, ONE, "long", Some(60));
    device.send_on("down/topic", 5, ONE, "never", Some(0));
    device.now_ms += 5_001;
    device.connect(&Hello::default()).unwrap();
    // What has been sent is sent again, expired or not; whole seconds are not taken from it.
    assert_eq!(
        device.read()[1..],
        [expiry("sent", 1, true, 5), expiry("now", 2, true, 0), expiry("long", 3, false, 55)]
    );
    assert_eq!(device.outcomes(), [Outcome::Expired { token: 3 }, Outcome::Expired { token: 5 }]);
}

#[test]
fn what_waits_has_a_bound_in_number_and_bytes() {
    let limits = Limits { waiting_messages_max: 2, waiting_bytes_max: 100, ..Limits::default() };
    let mut device = Device::subscribed(limits, &Hello::default());
    device.detach();
    assert_eq!(device.send(1, Qos::AtMostOnce, "x"), Sent::NotConnected);
    // The topic has 10 bytes.
    assert_eq!(device.send(2, ONE, &"x".repeat(91)), Sent::Full);
    assert_eq!(device.send(3, ONE, &"x".repeat(80)), Sent::Waiting);
    assert_eq!(device.send(4, ONE, "x"), Sent::Full);
    assert_eq!(device.send(5, ONE, ""), Sent::Waiting);
    assert_eq!(device.send(6, ONE, ""), Sent::Full);
    device.connect(&Hello::default()).unwrap();
    assert_eq!(device.read().len(), 3);
    device.ack(Packet::PubAck, 1);
    device.ack(Packet::PubAck, 2);
    assert_eq!(device.outcomes(), [delivered(3), delivered(5)]);
}

/// [MQTT-3.1.2-26], [MQTT-3.1.2-27], [MQTT-3.3.2-7], [MQTT-3.3.2-11].
#[test]
fn topics_are_sent_once_to_a_device_that_takes_aliases() {
    let told = |device: &mut Device, topic: &str| {
        device.send_on(topic, 1, Qos::AtMostOnce, "", None);
        match device.read().pop() {
            Some(Said::Message { topic, properties, .. }) => (topic, properties),
            other => panic!("{other:?}"),
        }
    };
    let alias = |number: u16| vec![format!("TopicAlias({number})")];
    let said = |topic: &str, properties| (topic.to_owned(), properties);
    let hello = Hello::default().with(Property::TopicAliasMaximum(2));
    let mut device = Device::subscribed(Limits::default(), &hello);
    assert_eq!(told(&mut device, "srv/a/tsk"), said("srv/a/tsk", alias(1)));
    assert_eq!(told(&mut device, "srv/a/tsk"), said("", alias(1)));
    assert_eq!(told(&mut device, "abc"), said("abc", vec![]));
    assert_eq!(told(&mut device, "srv/a/rsp"), said("srv/a/rsp", alias(2)));
    assert_eq!(told(&mut device, "srv/a/cmt"), said("srv/a/cmt", vec![]));
    assert_eq!(told(&mut device, "srv/a/rsp"), said("", alias(2)));
    // With a serial number of 23 characters an alias saves 28 bytes.
    let size = |device: &mut Device| {
        device.send_on("srv/a3b0000000c10221d290825/cmt", 1, Qos::AtMostOnce, "{}", None);
        std::mem::take(&mut device.out.bytes).len()
    };
    let mut fresh = Device::subscribed(Limits::default(), &hello);
    let mut plain = Device::subscribed(Limits::default(), &Hello::default());
    assert_eq!([size(&mut plain), size(&mut fresh), size(&mut fresh)], [38, 41, 10]);
    // What comes again on another connection has no alias of this one.
    device.send_on("srv/a/tsk", 2, ONE, "", None);
    device.connect(&hello).unwrap();
    let Some(Said::Message { topic, properties, is_repeated: true, .. }) = device.read().pop() else {
        panic!()
    };
    assert_eq!((topic, properties), said("srv/a/tsk", alias(1)));
    let mut device = Device::subscribed(Limits::default(), &Hello::default());
    assert_eq!(told(&mut device, "srv/a/tsk"), said("srv/a/tsk", vec![]));
    assert_eq!(told(&mut device, "srv/a/tsk"), said("srv/a/tsk", vec![]));
}

#[test]
fn a_message_that_cannot_be_sent_is_refused() {
    let mut device = Device::subscribed(Limits::default(), &Hello::default());
    let invalid = |sent| match sent {
        Sent::Invalid(violation) => violation.rule,
        other => panic!("{other:?}"),
    };
    assert_eq!(invalid(device.send_on("a/+", 1, ONE, "", None)), "MQTT-3.3.2-2");
    assert_eq!(invalid(device.send_on("a\0", 1, Qos::AtMostOnce, "", None)), "MQTT-1.5.4-2");
    for (place, property) in [
        (Place::PublishFromClient, Property::ContentType("x")),
        (Place::PublishFromServer, Property::MessageExpiryInterval(5)),
        (Place::PublishFromServer, Property::TopicAlias(1)),
        (Place::PublishFromServer, Property::SubscriptionIdentifier(1)),
    ] {
        let list = PropertyList::new(place).with(property).unwrap();
        let (properties, limits) = (list.properties(), device.limits);
        let message = Message { token: 1, topic: "a", qos: ONE, expiry_s: None, properties, payload: b"" };
        let sent = device.session.send(&message, &limits, 0, &mut device.out);
        assert_eq!(invalid(sent), "MQTT 5 §2.2.2.2");
    }
    assert_eq!((device.read(), device.session.undelivered()), (vec![], 0));
}
