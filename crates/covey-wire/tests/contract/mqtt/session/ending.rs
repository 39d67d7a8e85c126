//! The end of connections and sessions: keep alive, Session Expiry Interval, and the will.

use covey_wire::mqtt::session::{Due, Limits, Outcome};
use covey_wire::mqtt::{Packet, Property, Qos, ReasonCode};

use super::device::{Device, Hello, in_each_version};

fn with_expiry(seconds: u32) -> Hello {
    Hello { properties: vec![Property::SessionExpiryInterval(seconds)], ..Hello::default() }
}

fn with_will(seconds: u32, delay_s: u32) -> Hello {
    Hello { will: Some(("dev/a-1/evt", delay_s)), ..with_expiry(seconds) }
}

fn connected(hello: &Hello) -> Device {
    let mut device = Device::new(Limits::default());
    device.connect(hello).unwrap();
    device
}

fn is_will(due: Due) -> bool {
    matches!(due, Due::Will(will) if &*will.topic == "dev/a-1/evt" && &*will.payload == b"gone")
}

/// [MQTT-3.1.2-22], [3.1.1 MQTT-3.1.2-24].
#[test]
fn silence_for_one_and_a_half_times_the_keep_alive_ends_the_connection() {
    for hello in in_each_version() {
        let mut device = connected(&Hello { keep_alive_s: 10, ..hello.clone() });
        assert_eq!(device.session.deadline_ms(), Some(device.now_ms + 15_000));
        assert_eq!(device.after_s(14), Due::Nothing);
        device.tell(&Packet::PingReq);
        assert_eq!(device.after_s(14), Due::Nothing);
        assert_eq!(device.after_s(1), Due::KeepAliveOver);
        device.detach();
        assert_eq!(device.after_s(0), Due::Nothing);
        let mut device = connected(&hello);
        assert_eq!(device.after_s(1_000_000), Due::Nothing);
    }
}

/// [MQTT-3.1.2-23], [MQTT-4.1.0-1], [MQTT-4.1.0-2].
#[test]
fn a_session_stays_as_long_as_was_said() {
    let mut device = Device::subscribed(Limits::default(), &with_expiry(100));
    device.send(1, Qos::AtLeastOnce, "x");
    device.after_s(10_000);
    assert!(!device.detach().is_ended);
    assert_eq!(device.session.deadline_ms(), Some(device.now_ms + 100_000));
    assert_eq!(device.after_s(99), Due::Nothing);
    assert!(device.session.exists());
    assert_eq!(device.after_s(1), Due::Ended);
    assert_eq!(device.outcomes(), [Outcome::Discarded { token: 1 }]);
    assert_eq!((device.session.exists(), device.session.deadline_ms()), (false, None));
    assert!(!device.connect(&with_expiry(100)).unwrap().session_present);
    // Also if nobody has looked.
    device.detach();
    device.now_ms += 100_000;
    assert!(!device.connect(&with_expiry(100)).unwrap().session_present);
}

#[test]
fn the_server_bounds_how_long_a_session_stays() {
    let limits = Limits { session_expiry_s_max: 60, ..Limits::default() };
    for hello in [with_expiry(u32::MAX), with_expiry(61), Hello::in_3()] {
        let mut device = Device::new(limits);
        device.connect(&hello).unwrap();
        device.detach();
        assert_eq!(device.after_s(59), Due::Nothing);
        assert_eq!(device.after_s(1), Due::Ended);
    }
    let limits = Limits { session_expiry_s_max: u32::MAX, ..Limits::default() };
    let mut device = Device::new(limits);
    device.connect(&with_expiry(u32::MAX)).unwrap();
    device.detach();
    assert_eq!((device.session.deadline_ms(), device.after_s(1 << 40)), (None, Due::Nothing));
}

/// [3.1.1 MQTT-4.1.0-2], also where the server keeps sessions for a shorter time.
#[test]
fn a_session_of_3_lasts_as_long_as_its_connection() {
    for clean_start in [false, true] {
        let limits = Limits { session_expiry_s_max: 60, ..Limits::default() };
        let mut device = Device::subscribed(limits, &Hello { clean_start, ..Hello::in_3() });
        assert_eq!(device.after_s(1_000_000), Due::Nothing);
        assert!(device.session.is_subscribed_to("#"));
        assert_eq!(device.detach().is_ended, clean_start);
    }
}

/// MQTT 5 §3.14.2.2.2.
#[test]
fn disconnect_says_anew_how_long_the_session_stays() {
    let mut device = connected(&with_expiry(100));
    device.disconnect(ReasonCode::Success, Some(5)).unwrap();
    device.detach();
    assert_eq!(device.after_s(5), Due::Ended);
    let mut device = connected(&with_expiry(100));
    device.disconnect(ReasonCode::Success, Some(0)).unwrap();
    assert!(device.detach().is_ended);
    // From 0 it cannot be raised.
    let mut device = connected(&with_expiry(0));
    let refused = device.disconnect(ReasonCode::Success, Some(5)).unwrap_err();
    assert_eq!((refused.reason, refused.rule), (ReasonCode::ProtocolError, "MQTT 5 §3.14.2.2.2"));
    assert!(device.detach().is_ended);
    let mut device = connected(&with_expiry(0));
    device.disconnect(ReasonCode::Success, Some(0)).unwrap();
}

/// [MQTT-3.1.2-7], [MQTT-3.1.2-8], [MQTT-3.1.2-10]: published once, after its delay or with the session.
#[test]
fn a_will_is_published_after_its_delay_or_with_the_end_of_the_session() {
    let mut device = connected(&with_will(100, 0));
    assert_eq!(device.detach().will.map(|will| will.topic).as_deref(), Some("dev/a-1/evt"));
    assert_eq!(device.after_s(50), Due::Nothing);

    let mut device = connected(&with_will(100, 30));
    assert!(device.detach().will.is_none());
    assert_eq!(device.after_s(29), Due::Nothing);
    assert!(is_will(device.after_s(1)));
    assert_eq!(device.after_s(1), Due::Nothing);
    assert_eq!(device.after_s(69), Due::Ended);

    let mut device = connected(&with_will(100, 200));
    assert!(device.detach().will.is_none());
    assert!(is_will(device.after_s(100)));
    assert_eq!(device.after_s(0), Due::Ended);

    // The session ends with the connection.
    let mut device = connected(&with_will(0, 200));
    let detached = device.detach();
    assert!(detached.will.is_some() && detached.is_ended);
}

/// [MQTT-3.14.4-3]; 0x04 and every failure leave the will (MQTT 5 §3.14.2.1).
#[test]
fn a_normal_disconnect_gives_the_will_up() {
    for (reason, is_published) in [
        (ReasonCode::Success, false),
        (ReasonCode::DisconnectWithWillMessage, true),
        (ReasonCode::UnspecifiedError, true),
    ] {
        let mut device = connected(&with_will(100, 0));
        device.disconnect(reason, None).unwrap();
        assert_eq!(device.detach().will.is_some(), is_published, "{reason:?}");
    }
}

/// [MQTT-3.1.3-9], MQTT 5 §3.1.4: what becomes of the will of the connection before.
#[test]
fn a_new_connection_decides_about_the_will_of_the_one_before() {
    let after = |former: &Hello, is_detached: bool, waited_s: u64, latter: &Hello| {
        let mut device = connected(former);
        if is_detached {
            device.detach();
        }
        device.now_ms += waited_s * 1_000;
        device.connect(latter).unwrap().will.is_some()
    };
    let clean = Hello { clean_start: true, ..with_expiry(100) };
    // Before the delay has passed it is not sent, with the connection lost or taken over.
    assert!(!after(&with_will(100, 30), true, 29, &with_expiry(100)));
    assert!(!after(&with_will(100, 30), false, 0, &with_expiry(100)));
    // The delay has passed, and nobody has looked.
    assert!(after(&with_will(100, 30), true, 30, &with_expiry(100)));
    // The connection is closed by the take-over, and there is no delay.
    assert!(after(&with_will(100, 0), false, 0, &with_expiry(100)));
    // The session ends: by Clean Start, or because it ends with its connection.
    assert!(after(&with_will(100, 30), true, 1, &clean));
    assert!(after(&with_will(100, 30), false, 0, &clean));
    assert!(after(&with_will(0, 30), false, 0, &with_expiry(100)));
    // The new connection has no will of the old one.
    let mut device = connected(&with_will(100, 30));
    device.connect(&with_expiry(100)).unwrap();
    assert!(device.detach().will.is_none());
    assert_eq!(device.after_s(99), Due::Nothing);
}

/// [MQTT-3.1.3-10]: as they came, in their order.
#[test]
fn a_will_keeps_its_properties() {
    let mut device = connected(&with_will(100, 7));
    device.detach();
    let Due::Will(will) = device.after_s(7) else { panic!() };
    let kept: Vec<_> = will.properties().iter().collect();
    assert_eq!(
        kept,
        [
            Property::WillDelayInterval(7),
            Property::UserProperty("b", "1"),
            Property::UserProperty("a", "2"),
            Property::UserProperty("b", "3"),
        ]
    );
    assert_eq!((will.qos, will.retain), (Qos::AtLeastOnce, false));
}

/// [3.1.1 MQTT-3.1.2-8], [3.1.1 MQTT-3.1.2-10], [3.1.1 MQTT-3.1.2-12], [3.1.1 MQTT-3.14.4-3]: in 3.1.1 a will has
/// no delay, is published once, and DISCONNECT gives it up.
#[test]
fn a_will_in_3() {
    for clean_start in [false, true] {
        let hello = Hello { will: Some(("dev/a-1/evt", 0)), clean_start, ..Hello::in_3() };
        let mut device = connected(&hello);
        let will = device.detach().will.unwrap();
        assert_eq!((&*will.topic, &*will.payload, will.qos), ("dev/a-1/evt", &b"gone"[..], Qos::AtLeastOnce));
        assert!(!will.retain);
        assert_eq!(device.after_s(1_000), Due::Nothing);
        let without = Hello { will: None, ..hello.clone() };
        assert!(device.connect(&without).unwrap().will.is_none());
        assert!(device.detach().will.is_none());

        let mut device = connected(&hello);
        device.disconnect(ReasonCode::Success, None).unwrap();
        assert!(device.detach().will.is_none());
        // The connection is closed by the one that takes over.
        assert!(connected(&hello).connect(&without).unwrap().will.is_some());
    }
}
