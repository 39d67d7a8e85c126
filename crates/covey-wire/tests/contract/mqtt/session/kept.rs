//! A session that its owner has kept beside the one here: after a restart, or by another server.

use covey_wire::mqtt::session::{Kept, Limits, Outcome, Sent, Subscription};
use covey_wire::mqtt::{Property, Qos};

use super::device::{Device, Hello, Said};

fn with_expiry(seconds: u32) -> Hello {
    Hello {
        properties: vec![Property::SessionExpiryInterval(seconds)],
        clean_start: false,
        ..Hello::default()
    }
}

fn to(filter: &str) -> Kept {
    Kept::With(vec![Subscription { filter: filter.into(), qos: Qos::AtLeastOnce, identifier: 7 }])
}

/// With a message under way.
fn away() -> Device {
    let mut device = Device::subscribed(Limits::default(), &with_expiry(100));
    device.send(1, Qos::AtLeastOnce, "x");
    device.detach();
    device.read();
    device.outcomes();
    device
}

/// [MQTT-3.2.2-3], [MQTT-4.1.0-1].
#[test]
fn a_session_that_is_not_here_goes_on_with_what_was_kept() {
    for hello in [with_expiry(100), Hello { clean_start: false, ..Hello::in_3() }] {
        let mut device = Device::new(Limits::default());
        let connected = device.connect_kept(&hello, None, to("srv/+")).unwrap();
        assert!(connected.session_present && !connected.took_over);
        assert!(matches!(device.read()[..], [Said::ConnAck { present: true, .. }]));
        device.send_on("srv/x", 1, Qos::ExactlyOnce, "m", None);
        let Some(Said::Message { qos, properties, .. }) = device.read().pop() else { panic!() };
        assert_eq!(qos, Qos::AtLeastOnce);
        let is_v5 = !properties.is_empty();
        assert!(!is_v5 || properties == ["SubscriptionIdentifier(7)"]);
        device.detach();
        assert!(device.session.exists());
    }
}

#[test]
fn what_was_kept_elsewhere_takes_the_place_of_what_is_here() {
    let mut device = away();
    assert!(device.connect_kept(&with_expiry(100), None, to("other")).unwrap().session_present);
    assert_eq!(device.outcomes(), [Outcome::Discarded { token: 1 }]);
    assert_eq!(device.session.subscriptions().collect::<Vec<_>>(), [("other", Qos::AtLeastOnce)]);
    let mut device = away();
    assert!(!device.connect_kept(&with_expiry(100), None, Kept::Ended).unwrap().session_present);
    assert_eq!(device.outcomes(), [Outcome::Discarded { token: 1 }]);
    assert_eq!(device.send(2, Qos::AtLeastOnce, "y"), Sent::NotSubscribed);
    let mut device = away();
    assert!(device.connect_kept(&with_expiry(100), None, Kept::AsHere).unwrap().session_present);
    assert_eq!(device.outcomes(), []);
}

/// [MQTT-3.1.2-4], [MQTT-3.1.4-3].
#[test]
fn a_clean_start_and_a_connection_in_the_place_of_another_are_what_they_are() {
    let mut device = Device::new(Limits::default());
    let clean = Hello { clean_start: true, ..with_expiry(100) };
    assert!(!device.connect_kept(&clean, None, to("srv/+")).unwrap().session_present);
    assert_eq!(device.session.subscriptions().count(), 0);
    let with_will = Hello { will: Some(("dev/a-1/evt", 50)), ..with_expiry(100) };
    let mut device = Device::subscribed(Limits::default(), &with_will);
    let connected = device.connect_kept(&with_expiry(100), None, to("srv/+")).unwrap();
    // The session that it belonged to is over, and so is its delay [MQTT-3.1.2-8].
    assert!(connected.took_over && connected.session_present && connected.will.is_some());
}
