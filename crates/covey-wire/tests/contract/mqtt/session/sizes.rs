//! Maximum Packet Size of the device: never exceeded by a byte, and used to the last (MQTT 5 §3.1.2.11.4);
//! and what a session itself takes.

use covey_wire::mqtt::session::{Limits, Outcome, Sent, Session};
use covey_wire::mqtt::{
    Packet, Properties, Property, Qos, ReasonCode, Subscribe, SubscribeList, SubscriptionOptions,
};

use super::device::{Device, Hello, Said, id};

/// PUBLISH: header 2, topic 12, identifier 2, property length 1; then the payload.
const AROUND: usize = 17;

fn hello(bytes: u32) -> Hello {
    Hello::default().with(Property::MaximumPacketSize(bytes))
}

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25].
#[test]
fn a_packet_of_exactly_the_maximum_goes_out() {
    let mut device = Device::subscribed(Limits::default(), &hello(60));
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        assert_eq!(device.send(1, qos, &"x".repeat(60 - AROUND)), Sent::Written);
        assert_eq!(device.out.bytes.len(), 60);
        device.read();
        assert_eq!(device.send(2, qos, &"x".repeat(61 - AROUND)), Sent::TooLarge);
    }
    assert_eq!(device.send(3, Qos::AtMostOnce, &"x".repeat(62 - AROUND)), Sent::Written);
    device.read();
    assert_eq!(device.send(4, Qos::AtMostOnce, &"x".repeat(63 - AROUND)), Sent::TooLarge);
    // The connection stays, and others go out.
    assert_eq!(device.send(5, Qos::AtLeastOnce, "x"), Sent::Written);
    assert_eq!(device.session.undelivered(), 3);
}

/// The device comes back with a smaller buffer.
#[test]
fn what_waits_and_what_was_sent_is_dropped_as_if_sent_if_it_has_become_too_large() {
    let mut device = Device::subscribed(Limits::default(), &hello(100));
    device.send(1, Qos::AtLeastOnce, &"a".repeat(50));
    device.send(2, Qos::AtLeastOnce, "b");
    device.detach();
    device.send(3, Qos::ExactlyOnce, &"c".repeat(50));
    device.send(4, Qos::AtLeastOnce, "d");
    device.read();
    device.connect(&hello(50)).unwrap();
    let payloads: Vec<_> = device
        .read()
        .into_iter()
        .filter_map(|said| match said {
            Said::Message { payload, .. } => Some(payload),
            _ => None,
        })
        .collect();
    assert_eq!(payloads, ["b", "d"]);
    assert_eq!(device.outcomes(), [Outcome::TooLarge { token: 1 }, Outcome::TooLarge { token: 3 }]);
}

/// A topic alias is told only where there is room for it.
#[test]
fn an_alias_does_not_make_a_packet_too_large() {
    for more in 0..=4 {
        let bytes = u32::try_from(AROUND + 20 + more).unwrap();
        let mut device =
            Device::subscribed(Limits::default(), &hello(bytes).with(Property::TopicAliasMaximum(5)));
        let payload = "x".repeat(20);
        assert_eq!(device.send(1, Qos::AtLeastOnce, &payload), Sent::Written);
        let Some(Said::Message { properties, .. }) = device.read().pop() else { panic!() };
        assert_eq!(!properties.is_empty(), more >= 3);
    }
}

/// A SUBACK that does not fit cannot be left out: the connection is over.
#[test]
fn an_answer_that_does_not_fit_ends_the_connection() {
    let mut device = Device::subscribed(Limits::default(), &hello(40));
    let answer = |device: &mut Device, count: usize| {
        let mut filters = SubscribeList::new(device.version);
        for _ in 0..count {
            filters.push("a", SubscriptionOptions::qos(Qos::AtMostOnce)).unwrap();
        }
        let subscribe =
            Subscribe { packet_id: id(1), filters: filters.filters(), properties: Properties::NONE };
        device.say(&Packet::Subscribe(subscribe)).unwrap();
        let reasons = vec![ReasonCode::Success; count];
        device.session.grant(device.epoch, &subscribe, &reasons, &device.limits, &mut device.out)
    };
    answer(&mut device, 35).unwrap();
    assert_eq!(device.out.bytes.len(), 40);
    assert_eq!(answer(&mut device, 36).unwrap_err().reason, ReasonCode::PacketTooLarge);
}

/// An idle session is small: 100,000 of them take less than 10 MB.
#[test]
fn an_idle_session_takes_less_than_a_hundred_bytes() {
    assert!(size_of::<Session>() <= 96, "{}", size_of::<Session>());
}
