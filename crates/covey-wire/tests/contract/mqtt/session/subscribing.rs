//! Subscriptions: what is granted, what a message matches, and what its deliveries say.

use covey_wire::mqtt::session::{Limits, Sent};
use covey_wire::mqtt::{
    Packet, Properties, ProtocolVersion, Qos, ReasonCode, Subscribe, SubscribeList, SubscriptionOptions,
    Unsubscribe, UnsubscribeList,
};

use super::device::{Device, Hello, Said, id, in_each_version, message};

fn device() -> Device {
    connected(&Hello::default())
}

fn connected(hello: &Hello) -> Device {
    let mut device = Device::new(Limits::default());
    device.connect(hello).unwrap();
    device.read();
    device
}

/// What is left of the reasons of an UNSUBACK: 3.1.1 has none.
fn reasons_of(hello: &Hello, reasons: &[u8]) -> Vec<u8> {
    if hello.version == ProtocolVersion::V5 { reasons.to_vec() } else { Vec::new() }
}

fn sent(device: &mut Device, topic: &str) -> (Qos, Vec<String>) {
    device.send_on(topic, 1, Qos::ExactlyOnce, "", None);
    match device.read().pop() {
        Some(Said::Message { qos, properties, .. }) => (qos, properties),
        other => panic!("{other:?}"),
    }
}

/// [MQTT-3.8.4-1], [MQTT-3.8.4-2], [MQTT-3.8.4-6], [MQTT-3.8.4-7], [MQTT-3.9.3-1].
#[test]
fn the_owner_decides_and_suback_says_it() {
    let mut device = device();
    let granted = |device: &mut Device, filter, wanted, decided| {
        device.subscribe_with(filter, wanted, decided, None);
        device.read()
    };
    let said = |code: u8| vec![Said::SubAck(9, vec![code])];
    assert_eq!(granted(&mut device, "a", Qos::ExactlyOnce, ReasonCode::GrantedQos1), said(1));
    assert_eq!(granted(&mut device, "b", Qos::AtMostOnce, ReasonCode::GrantedQos2), said(0));
    assert_eq!(granted(&mut device, "c", Qos::AtMostOnce, ReasonCode::NotAuthorized), said(0x87));
    // A reason that SUBACK does not have, and a shared subscription, whatever the owner says.
    assert_eq!(granted(&mut device, "d", Qos::AtMostOnce, ReasonCode::Banned), said(0x80));
    assert_eq!(granted(&mut device, "$share/g/a", Qos::AtMostOnce, ReasonCode::Success), said(0x9E));
    let kept: Vec<_> = device.session.subscriptions().collect();
    assert_eq!(kept, [("a", Qos::AtLeastOnce), ("b", Qos::AtMostOnce)]);
}

/// [MQTT-3.8.4-5], [MQTT-3.8.4-6], [MQTT-3.9.3-1], [MQTT-3.10.4-6], [MQTT-3.11.3-1]; [3.1.1 MQTT-3.8.4-4],
/// [3.1.1 MQTT-3.9.3-1], [3.1.1 MQTT-3.10.4-6].
#[test]
fn several_filters_have_an_answer_each() {
    for hello in in_each_version() {
        let mut device = connected(&hello);
        let mut filters = SubscribeList::new(device.version);
        for filter in ["a", "b", "c", "a"] {
            filters.push(filter, SubscriptionOptions::qos(Qos::AtLeastOnce)).unwrap();
        }
        let (packet_id, properties) = (id(5), Properties::NONE);
        let subscribe = Subscribe { packet_id, filters: filters.filters(), properties };
        device.say(&Packet::Subscribe(subscribe)).unwrap();
        // What the owner does not decide is not granted.
        let reasons = [ReasonCode::GrantedQos2, ReasonCode::NotAuthorized, ReasonCode::Success];
        device.session.grant(device.epoch, &subscribe, &reasons, &device.limits, &mut device.out).unwrap();
        let refused = if hello.version == ProtocolVersion::V5 { 0x87 } else { 0x80 };
        assert_eq!(device.read(), [Said::SubAck(5, vec![1, refused, 0, 0x80])]);
        let mut filters = UnsubscribeList::new(device.version);
        for filter in ["c", "b", "a", "a"] {
            filters.push(filter).unwrap();
        }
        let (packet_id, properties) = (id(6), Properties::NONE);
        let unsubscribe = Unsubscribe { packet_id, filters: filters.filters(), properties };
        device.say(&Packet::Unsubscribe(unsubscribe)).unwrap();
        assert_eq!(device.read(), [Said::UnsubAck(6, reasons_of(&hello, &[0, 0x11, 0, 0x11]))]);
        assert_eq!(device.session.subscriptions().count(), 0);
    }
}

/// [MQTT-3.3.2-3], [MQTT-3.8.4-8], [3.1.1 MQTT-3.3.2-3], [3.1.1 MQTT-3.8.4-6].
#[test]
fn a_message_goes_out_with_the_lower_qos_and_only_to_who_subscribes() {
    for hello in in_each_version() {
        let mut device = connected(&hello);
        device.subscribe("down/+", Qos::AtLeastOnce);
        device.read();
        assert_eq!(device.send_on("up/x", 1, Qos::AtLeastOnce, "", None), Sent::NotSubscribed);
        device.send(1, Qos::ExactlyOnce, "x");
        device.send(2, Qos::AtMostOnce, "y");
        assert_eq!(
            device.read(),
            [message(1, Qos::AtLeastOnce, false, "x"), message(0, Qos::AtMostOnce, false, "y")]
        );
    }
}

/// [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4]: one copy, with the highest QoS and all identifiers.
#[test]
fn overlapping_subscriptions_bring_one_message() {
    let mut device = device();
    device.subscribe_with("srv/#", Qos::AtMostOnce, ReasonCode::Success, Some(300));
    device.subscribe_with("srv/+/tsk", Qos::AtLeastOnce, ReasonCode::GrantedQos1, Some(7));
    device.subscribe("srv/a/tsk", Qos::AtMostOnce);
    device.read();
    let both = vec!["SubscriptionIdentifier(300)".to_owned(), "SubscriptionIdentifier(7)".to_owned()];
    assert_eq!(sent(&mut device, "srv/a/tsk"), (Qos::AtLeastOnce, both.clone()));
    assert_eq!(sent(&mut device, "srv/a/rsp"), (Qos::AtMostOnce, both[..1].to_vec()));
    // They are there again after a lost connection.
    device.connect(&Hello::default()).unwrap();
    let Some(Said::Message { properties, is_repeated: true, .. }) = device.read().pop() else { panic!() };
    assert_eq!(properties, both);
}

/// [3.1.1 MQTT-4.7.2-1], [3.1.1 MQTT-4.7.3-4].
#[test]
fn filters_match_as_they_stand_in_3() {
    for (filter, topic, is_heard) in [
        ("#", "$SYS/a", false),
        ("+/a", "$SYS/a", false),
        ("$SYS/#", "$SYS/a", true),
        ("\u{e9}", "e\u{301}", false),
        ("\u{e9}", "\u{e9}", true),
        ("ACCOUNTS", "Accounts", false),
        ("a", "a/", false),
        // A shared subscription is one of MQTT 5.
        ("$share/g/a", "a", false),
        ("$share/g/a", "$share/g/a", true),
    ] {
        let mut device = connected(&Hello::in_3());
        device.subscribe(filter, Qos::AtLeastOnce);
        let expected = if is_heard { Sent::Written } else { Sent::NotSubscribed };
        assert_eq!(device.send_on(topic, 1, Qos::AtLeastOnce, "", None), expected, "{filter} {topic}");
    }
}

/// [3.1.1 MQTT-3.3.5-1], [3.1.1 MQTT-3.8.4-3]: one copy with the highest QoS, and an equal filter is replaced.
#[test]
fn overlapping_and_equal_filters_in_3() {
    let mut device = connected(&Hello::in_3());
    for (filter, qos) in
        [("srv/#", Qos::AtMostOnce), ("srv/+/tsk", Qos::ExactlyOnce), ("srv/a/tsk", Qos::AtMostOnce)]
    {
        device.subscribe(filter, qos);
    }
    device.read();
    assert_eq!(sent(&mut device, "srv/a/tsk"), (Qos::ExactlyOnce, vec![]));
    assert_eq!(device.read(), []);
    device.subscribe("srv/+/tsk", Qos::AtLeastOnce);
    device.read();
    assert_eq!(device.session.subscriptions().count(), 3);
    assert_eq!(sent(&mut device, "srv/a/tsk"), (Qos::AtLeastOnce, vec![]));
}

/// [MQTT-3.8.4-3]: an equal filter is replaced, with its identifier.
#[test]
fn a_second_subscription_replaces_the_first() {
    let mut device = device();
    device.subscribe_with("a", Qos::AtMostOnce, ReasonCode::Success, Some(1));
    device.subscribe_with("a", Qos::ExactlyOnce, ReasonCode::GrantedQos2, None);
    device.read();
    assert_eq!(device.session.subscriptions().count(), 1);
    assert_eq!(sent(&mut device, "a"), (Qos::ExactlyOnce, vec![]));
}

/// [MQTT-3.10.4-1] to [MQTT-3.10.4-5], [MQTT-3.11.3-1], [3.1.1 MQTT-3.10.4-1] to [3.1.1 MQTT-3.10.4-5].
#[test]
fn unsubscribing_stops_new_messages_and_completes_the_old() {
    for hello in in_each_version() {
        let mut device = connected(&hello);
        device.subscribe("down/+", Qos::AtLeastOnce);
        device.send(1, Qos::AtLeastOnce, "old");
        device.read();
        // Compared character by character: another filter that matches the same is another.
        for (filter, reason) in [("down/#", 0x11), ("down/topic", 0x11), ("down/+", 0), ("down/+", 0x11)] {
            device.unsubscribe(filter);
            assert_eq!(device.read(), [Said::UnsubAck(8, reasons_of(&hello, &[reason]))]);
        }
        assert_eq!(device.send(2, Qos::AtLeastOnce, "new"), Sent::NotSubscribed);
        device.connect(&hello).unwrap();
        assert_eq!(device.read()[1..], [message(1, Qos::AtLeastOnce, true, "old")]);
    }
}

#[test]
fn subscriptions_have_a_bound() {
    let mut device = Device::new(Limits { subscriptions_max: 2, ..Limits::default() });
    device.connect(&Hello::default()).unwrap();
    device.read();
    for (filter, code) in [("a", 1), ("b", 1), ("c", 0x97), ("a", 1)] {
        device.subscribe(filter, Qos::AtLeastOnce);
        assert_eq!(device.read(), [Said::SubAck(9, vec![code])]);
    }
}

#[test]
fn topic_filters_have_a_bound_in_bytes() {
    let mut device = Device::new(Limits { subscription_bytes_max: 10, ..Limits::default() });
    device.connect(&Hello::default()).unwrap();
    device.read();
    for (filter, code) in [("12345678", 1), ("123", 0x97), ("12", 1), ("12345678", 1), ("1", 0x97)] {
        device.subscribe(filter, Qos::AtLeastOnce);
        assert_eq!(device.read(), [Said::SubAck(9, vec![code])], "{filter}");
    }
}

/// To 3.1.1 a failure is 0x80, and UNSUBACK has no reasons. [3.1.1 MQTT-2.3.1-7], [3.1.1 MQTT-3.8.4-1],
/// [3.1.1 MQTT-3.8.4-2], [3.1.1 MQTT-3.8.4-5], [3.1.1 MQTT-3.9.3-2], [3.1.1 MQTT-3.10.4-4],
/// [3.1.1 MQTT-3.10.4-5].
#[test]
fn answers_in_3() {
    let mut device = connected(&Hello::in_3());
    device.subscribe_with("a", Qos::AtLeastOnce, ReasonCode::NotAuthorized, None);
    device.subscribe("$share/g/a", Qos::AtLeastOnce);
    device.unsubscribe("x");
    assert_eq!(
        device.read(),
        [Said::SubAck(9, vec![0x80]), Said::SubAck(9, vec![1]), Said::UnsubAck(8, vec![])]
    );
    for (wanted, granted, code) in [
        (Qos::ExactlyOnce, ReasonCode::GrantedQos2, 2),
        (Qos::ExactlyOnce, ReasonCode::GrantedQos1, 1),
        (Qos::AtMostOnce, ReasonCode::GrantedQos2, 0),
    ] {
        device.subscribe_with("b", wanted, granted, None);
        assert_eq!(device.read(), [Said::SubAck(9, vec![code])]);
    }
}
