//! The beginning of a connection: whose session it is, what CONNACK says, who had the session before.

use covey_wire::mqtt::session::{Kept, Limits, Outcome, refuse};
use covey_wire::mqtt::{
    Connect, Packet, Place, Properties, Property, PropertyList, ProtocolVersion, Qos, ReasonCode, Will,
};

use super::device::{Device, Hello, Said, in_each_version, message, read_all};

fn connack(device: &mut Device) -> (bool, Vec<String>) {
    match device.read().first() {
        Some(Said::ConnAck { present, reason: ReasonCode::Success, properties }) => {
            (*present, properties.clone())
        }
        other => panic!("{other:?}"),
    }
}

/// [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.1.2-6], [MQTT-3.1.2-23], [MQTT-3.1.4-5], [MQTT-3.2.2-2],
/// [MQTT-3.2.2-3]; [3.1.1 MQTT-3.1.2-4], [3.1.1 MQTT-3.1.2-6], [3.1.1 MQTT-3.1.4-3], [3.1.1 MQTT-3.1.4-4],
/// [3.1.1 MQTT-3.2.0-1], [3.1.1 MQTT-3.2.2-1] to [3.1.1 MQTT-3.2.2-3].
#[test]
fn a_session_goes_on_unless_it_is_to_start_clean() {
    for hello in in_each_version() {
        let mut device = Device::new(Limits::default());
        assert!(!device.connect(&hello).unwrap().session_present);
        assert!(!connack(&mut device).0);
        device.subscribe("#", Qos::AtLeastOnce);
        device.detach();
        assert!(device.connect(&hello).unwrap().session_present);
        device.read();
        assert!(device.session.is_subscribed_to("#"));
        device.detach();
        assert!(!device.connect(&Hello { clean_start: true, ..hello.clone() }).unwrap().session_present);
        assert!(!connack(&mut device).0);
        assert!(!device.session.is_subscribed_to("#"));
    }
}

/// 3.1.1 §3.1.2.4: with Clean Session the session ends with its connection, without it it stays.
#[test]
fn a_clean_session_of_3_ends_with_its_connection() {
    let mut device = Device::new(Limits::default());
    device.connect(&Hello { clean_start: true, ..Hello::in_3() }).unwrap();
    assert!(device.detach().is_ended);
    assert!(!device.connect(&Hello::in_3()).unwrap().session_present);
    assert!(!device.detach().is_ended);
    assert!(device.connect(&Hello::in_3()).unwrap().session_present);
    device.read();
}

/// [MQTT-3.1.4-3], [3.1.1 MQTT-3.1.4-2]: the later CONNECT has the session at once, and what the earlier
/// connection does is refused with 0x8E.
#[test]
fn the_later_connect_takes_the_session_over() {
    for hello in in_each_version() {
        let mut device = Device::subscribed(Limits::default(), &hello);
        let former = device.epoch;
        let connected = device.connect(&hello).unwrap();
        assert!(connected.took_over && connected.session_present && connected.epoch != former);
        device.read();
        let latter = std::mem::replace(&mut device.epoch, former);
        let refused = device.say(&Packet::PingReq).unwrap_err();
        assert_eq!((refused.reason, refused.rule), (ReasonCode::SessionTakenOver, "MQTT-3.1.4-3"));
        // Its end is not the end of the session.
        assert!(!device.detach().is_ended);
        assert!(device.session.is_connected());
        device.epoch = latter;
        device.tell(&Packet::PingReq);
        assert_eq!(device.read(), [Said::PingResp]);
        // It tells the device by itself.
        let mut bytes = Vec::new();
        connected.peer.disconnect(ReasonCode::SessionTakenOver, "elsewhere", &mut bytes);
        let why = Some("elsewhere".to_owned());
        let said = read_all(&bytes, hello.version);
        match hello.version {
            ProtocolVersion::V5 => assert_eq!(said, [Said::Disconnect(ReasonCode::SessionTakenOver, why)]),
            // A 3.1.1 server has no word for it, and only closes.
            ProtocolVersion::V311 => assert_eq!(said, []),
        }
    }
}

/// MQTT 5 §3.1.2.11.2: a session that ends with its connection is not handed on.
#[test]
fn a_session_that_ends_with_its_connection_is_not_taken_over() {
    let mut device =
        Device::subscribed(Limits::default(), &Hello { properties: Vec::new(), ..Hello::default() });
    device.send(7, Qos::AtLeastOnce, "a");
    device.read();
    let connected = device.connect(&Hello::default()).unwrap();
    assert!(connected.took_over && !connected.session_present);
    assert!(!device.session.is_subscribed_to("#"));
    assert_eq!(device.outcomes(), [Outcome::Discarded { token: 7 }]);
}

/// MQTT 5 §4.1: a message that was made for one version does not go out in another.
#[test]
fn another_version_gets_no_message_of_the_one_before() {
    let mut device = Device::subscribed(Limits::default(), &Hello::default());
    device.send(1, Qos::AtLeastOnce, "one");
    device.send(2, Qos::ExactlyOnce, "two");
    device.ack(Packet::PubRec, 2);
    device.read();
    device.outcomes();
    device.detach();
    device.send(3, Qos::AtLeastOnce, "three");
    assert!(device.connect(&Hello::in_3()).unwrap().session_present);
    assert_eq!(device.outcomes(), [Outcome::Discarded { token: 1 }, Outcome::Discarded { token: 3 }]);
    let said = device.read();
    assert_eq!(said[1..], [Said::PubRel(2, ReasonCode::Success)]);
    // It still hears, and what is sent now has no properties.
    device.send(4, Qos::AtLeastOnce, "four");
    assert_eq!(device.read(), [message(3, Qos::AtLeastOnce, false, "four")]);
}

#[test]
fn connack_says_what_differs_from_what_the_device_expects() {
    let limits = Limits {
        packet_bytes_max: 65_536,
        receive_max: 5,
        topic_aliases_in_max: 4,
        keep_alive_s_max: 60,
        session_expiry_s_max: 100,
        ..Limits::default()
    };
    let mut device = Device::new(limits);
    let peer = device.connect_as(&Hello { keep_alive_s: 61, ..Hello::default() }, Some("a-1")).unwrap().peer;
    let (_, properties) = connack(&mut device);
    assert_eq!(
        properties,
        [
            "AssignedClientIdentifier(\"a-1\")",
            "SessionExpiryInterval(100)",
            "ReceiveMaximum(5)",
            "MaximumPacketSize(65536)",
            "ServerKeepAlive(60)",
            "TopicAliasMaximum(4)",
            "RetainAvailable(false)",
            "SharedSubscriptionAvailable(false)",
        ]
    );
    assert_eq!((peer.keep_alive_s, peer.topic_alias_offered), (60, 4));
    // [MQTT-3.2.2-22]: within the limit the device's own holds.
    let calm = Hello {
        keep_alive_s: 60,
        properties: vec![Property::SessionExpiryInterval(100)],
        ..Hello::default()
    };
    assert_eq!(device.connect(&calm).unwrap().peer.keep_alive_s, 60);
    let (_, properties) = connack(&mut device);
    assert!(
        !properties.iter().any(|said| said.contains("KeepAlive") || said.contains("Expiry")),
        "{properties:?}"
    );
}

/// MQTT 5 §3.1.2.11.4: CONNACK is no larger than the device takes, and what was not said does not hold.
#[test]
fn connack_leaves_out_what_does_not_fit() {
    let limits = Limits { keep_alive_s_max: 60, ..Limits::default() };
    let mut lengths = Vec::new();
    for bytes in 5..40 {
        let mut device = Device::new(limits);
        let hello = Hello::default().with(Property::MaximumPacketSize(bytes));
        let peer = device.connect(&hello).unwrap().peer;
        assert!(device.out.bytes.len() <= bytes as usize);
        lengths.push(device.out.bytes.len());
        let (_, properties) = connack(&mut device);
        let says = |name: &str| properties.iter().any(|said| said.starts_with(name));
        assert_eq!(peer.topic_alias_offered > 0, says("TopicAliasMaximum"));
        assert_eq!(peer.keep_alive_s == 60, says("ServerKeepAlive"));
    }
    assert_eq!((lengths.first(), lengths.last()), (Some(&5), Some(&23)));
    let mut device = Device::new(limits);
    let refused = device.connect(&Hello::default().with(Property::MaximumPacketSize(4))).unwrap_err();
    assert_eq!((refused.reason, refused.rule), (ReasonCode::PacketTooLarge, "MQTT-3.1.2-24"));
    assert!(!device.session.exists() && device.out.bytes.is_empty());
}

/// [MQTT-3.14.2-3], MQTT 5 §3.14.4: a 3.1.1 server only closes.
#[test]
fn a_goodbye_is_explained_where_it_fits() {
    let bye = |hello: &Hello| {
        let mut bytes = Vec::new();
        let peer = Device::new(Limits::default()).connect(hello).unwrap().peer;
        peer.disconnect(ReasonCode::ServerShuttingDown, "bye", &mut bytes);
        bytes
    };
    let explained = [0xE0, 8, 0x8B, 6, 0x1F, 0, 3, b'b', b'y', b'e'];
    assert_eq!(bye(&Hello::default()), explained);
    assert_eq!(bye(&Hello::default().with(Property::MaximumPacketSize(10))), explained);
    assert_eq!(bye(&Hello::default().with(Property::MaximumPacketSize(9))), [0xE0, 2, 0x8B, 0]);
    assert!(bye(&Hello::in_3()).is_empty());
}

/// [MQTT-4.12.0-1], [MQTT-3.2.2-13]; nothing of the session changes.
#[test]
fn what_a_session_cannot_do_is_refused_at_connect() {
    let mut device = Device::subscribed(Limits::default(), &Hello::default());
    let former = device.epoch;
    let method = Hello::default().with(Property::AuthenticationMethod("SCRAM-SHA-1"));
    let refused = device.connect(&method).unwrap_err();
    assert_eq!((refused.reason, refused.rule), (ReasonCode::BadAuthenticationMethod, "MQTT-4.12.0-1"));
    assert_eq!(device.session.epoch(), former);
    device.tell(&Packet::PingReq);
    let will =
        Will { topic: "t", payload: b"", qos: Qos::AtMostOnce, retain: true, properties: Properties::NONE };
    let connect = |version| Connect {
        version,
        clean_start: true,
        keep_alive_s: 0,
        client_id: "a-1",
        will: Some(will),
        user_name: None,
        password: None,
        properties: Properties::NONE,
    };
    let mut connected = |version, retain_available| {
        let limits = Limits { retain_available, ..Limits::default() };
        let connect = connect(version);
        let connected = device.session.connect(&connect, None, Kept::AsHere, &limits, 0, &mut device.out);
        connected.map(|_| ()).map_err(|violation| violation.reason)
    };
    assert_eq!(connected(ProtocolVersion::V5, false), Err(ReasonCode::RetainNotSupported));
    assert_eq!(connected(ProtocolVersion::V5, true), Ok(()));
    // 3.1.1 cannot be told.
    assert_eq!(connected(ProtocolVersion::V311, false), Ok(()));
}

#[test]
fn a_refusal_is_said_in_the_version_of_the_device() {
    let said = |version, reason, text: &str, connect: Option<&Connect<'_>>| {
        let mut bytes = Vec::new();
        refuse(version, reason, text, connect, &mut bytes);
        bytes
    };
    let v5 = ProtocolVersion::V5;
    assert_eq!(said(v5, ReasonCode::Banned, "", None), [0x20, 3, 0, 0x8A, 0]);
    assert_eq!(said(v5, ReasonCode::Banned, "no", None), [0x20, 8, 0, 0x8A, 5, 0x1F, 0, 2, b'n', b'o']);
    // [MQTT-3.2.2-19].
    let list = PropertyList::new(Place::Connect).with(Property::MaximumPacketSize(9)).unwrap();
    let connect = Connect {
        version: v5,
        clean_start: true,
        keep_alive_s: 0,
        client_id: "",
        will: None,
        user_name: None,
        password: None,
        properties: list.properties(),
    };
    assert_eq!(said(v5, ReasonCode::Banned, "no", Some(&connect)), [0x20, 3, 0, 0x8A, 0]);
    // 3.1.1 §3.1.4: a CONNECT that breaks a rule is not answered; §3.2.2.3: others are.
    let v3 = ProtocolVersion::V311;
    assert!(said(v3, ReasonCode::MalformedPacket, "x", None).is_empty());
    assert!(said(v3, ReasonCode::ProtocolError, "x", None).is_empty());
    assert!(said(v3, ReasonCode::TopicNameInvalid, "x", None).is_empty());
    assert_eq!(said(v3, ReasonCode::UnsupportedProtocolVersion, "x", None), [0x20, 2, 0, 1]);
    assert_eq!(said(v3, ReasonCode::NotAuthorized, "x", None), [0x20, 2, 0, 5]);
}
