//! What is unusual and right: it must not be refused.

use covey_wire::mqtt::{
    Framing, Packet, ProtocolVersion, ReasonCode, Sender, decode, filter_matches, frame, shared_subscription,
};

use super::refused::{connect, packet, read, text};

fn taken(first: u8, body: &[u8]) {
    assert_eq!(read(&packet(first, body), ProtocolVersion::V5, Sender::Client), Ok(()), "{body:02X?}");
}

fn taken_in_3(first: u8, body: &[u8]) {
    assert_eq!(read(&packet(first, body), ProtocolVersion::V311, Sender::Client), Ok(()), "{body:02X?}");
}

#[test]
fn connect_in_all_its_forms() {
    // An empty client identifier [MQTT-3.1.3-6], also without Clean Start.
    taken(0x10, &connect(0x02, &[], &text("")));
    taken(0x10, &connect(0x00, &[], &text("")));
    // A password without a user name, a user name without a password, both empty.
    taken(0x10, &connect(0x42, &[], &[text("a"), text("p")].concat()));
    taken(0x10, &connect(0x82, &[], &[text("a"), text("")].concat()));
    taken(0x10, &connect(0xC2, &[], &[text("a"), text(""), text("")].concat()));
    // A will with Message Expiry Interval 0, with delay, and with an empty payload.
    taken(0x10, &connect(0x06, &[], b"\0\x01a\x0A\x02\0\0\0\0\x18\0\0\0\x05\0\x01t\0\0"));
    // Session Expiry Interval without an end, Receive Maximum 1, Topic Alias Maximum 0.
    taken(0x10, &connect(0x02, &[0x11, 0xFF, 0xFF, 0xFF, 0xFF, 0x21, 0, 1, 0x22, 0, 0], &text("a")));
    // User properties with the same name, in any number.
    taken(0x10, &connect(0x02, b"\x26\0\x01n\0\x01v\x26\0\x01n\0\x01v\x26\0\0\0\0", &text("a")));
    taken_in_3(0x10, &[&text("MQTT")[..], &[4, 2, 0, 0], &text("")].concat());
    // MQTT 3.1 has a name and a level of its own.
    taken_in_3(0x10, &[&text("MQIsdp")[..], &[3, 2, 0, 60], &text("an-old-client")].concat());
}

#[test]
fn the_version_of_a_connect_does_not_depend_on_the_readers() {
    let bytes = packet(0x10, &connect(0x02, &[], &text("a")));
    for version in [ProtocolVersion::V5, ProtocolVersion::V311] {
        let Ok(Framing::Frame(found)) = frame(&bytes, 100) else { panic!() };
        let Ok(Packet::Connect(connect)) = decode(found, version, Sender::Client) else { panic!() };
        assert_eq!((connect.version, connect.keep_alive_s), (ProtocolVersion::V5, 60));
    }
}

#[test]
fn messages_in_all_their_forms() {
    // Message Expiry Interval 0 (MQTT 5 §3.3.2.3.3).
    taken(0x30, b"\0\x01a\x05\x02\0\0\0\0");
    // No payload, an alias in place of the topic, an alias beside it.
    taken(0x30, b"\0\0\x03\x23\0\x01");
    taken(0x30, b"\0\x01a\x03\x23\xFF\xFF");
    // DUP with QoS 1 and 2.
    taken(0x3A, b"\0\x01a\0\x01\0");
    taken(0x3D, b"\0\x01a\0\x01\0");
    // Topics that begin with $, with a slash, with a space; U+FEFF is a character [MQTT-1.5.4-3]; control
    // characters and noncharacters are not refused (MQTT 5 §1.5.4: one may, or may not).
    for topic in ["$SYS/x", "/", "//", " ", "\u{FEFF}a", "a\u{1}b", "\u{FFFF}", "\u{10FFFF}"] {
        taken(0x30, &[&text(topic)[..], &[0]].concat());
    }
    let bytes = packet(0x30, &[&text("\u{FEFF}a")[..], &[0]].concat());
    let Ok(Framing::Frame(found)) = frame(&bytes, 100) else { panic!() };
    let Ok(Packet::Publish(publish)) = decode(found, ProtocolVersion::V5, Sender::Client) else { panic!() };
    assert_eq!(publish.topic, "\u{FEFF}a");
    // Several Subscription Identifiers, from a server (MQTT 5 §3.3.2.3.8).
    let several = packet(0x30, b"\0\x01a\x04\x0B\x01\x0B\x02");
    assert_eq!(read(&several, ProtocolVersion::V5, Sender::Server), Ok(()));
}

#[test]
fn short_forms() {
    // A reason without a property length (MQTT 5 §3.4.2.2.1), and with one of 0.
    for first in [0x40, 0x50, 0x62, 0x70] {
        taken(first, &[0, 1]);
        taken(first, &[0, 1, 0]);
        taken(first, &[0, 1, 0, 0]);
    }
    taken(0xE0, &[]);
    taken(0xE0, &[0x04]);
    taken(0xE0, &[0x04, 0]);
    taken(0xE0, &[0, 5, 0x11, 0, 0, 0, 0]);
    let auth = packet(0xF0, &[]);
    assert_eq!(read(&auth, ProtocolVersion::V5, Sender::Server), Ok(()));
    // An empty DISCONNECT of a server says Success.
    let bytes = packet(0xE0, &[]);
    let Ok(Framing::Frame(found)) = frame(&bytes, 100) else { panic!() };
    let Ok(Packet::Disconnect(said)) = decode(found, ProtocolVersion::V5, Sender::Server) else { panic!() };
    assert_eq!(said.reason, ReasonCode::Success);
}

#[test]
fn three_does_not_ask_for_the_shortest_length() {
    // 3.1.1 §2.2.3 has no such rule; 5 has [MQTT-1.5.5-1].
    let padded = [0xC0, 0x80, 0x00];
    assert_eq!(read(&padded, ProtocolVersion::V311, Sender::Client), Ok(()));
    assert!(read(&padded, ProtocolVersion::V5, Sender::Client).is_err());
}

#[test]
fn topic_filters() {
    for filter in ["#", "+", "/", "+/+", "a/+/#", "/#", "$SYS/#", "$share/g/#", "$share/g//", "$share", "a b"]
    {
        taken(
            0x82,
            &[&[0, 1, 0][..], &text(filter), &[0x2E]]
                .concat()
                .iter()
                .copied()
                .map(|byte| {
                    // No Local may not be set on a shared subscription; leave it out everywhere.
                    if byte == 0x2E { 0x2A } else { byte }
                })
                .collect::<Vec<_>>(),
        );
        taken(0xA2, &[&[0, 1, 0][..], &text(filter)].concat());
    }
    // To 3.1.1 a shared subscription is a filter as any other.
    taken_in_3(0x82, &[&[0, 1][..], &text("$share/+"), &[1]].concat());
}

/// MQTT 5 §4.7.1.2, §4.7.1.3, §4.7.2, §4.7.3 with the examples there; [MQTT-4.7.2-1], [MQTT-4.7.3-4].
#[test]
fn filters_match_as_the_standard_shows() {
    for (filter, name) in [
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("sport/#", "sport"),
        ("#", "a/b"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("$SYS/#", "$SYS/monitor/Clients"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients"),
        ("a//b", "a//b"),
        ("a/+/b", "a//b"),
    ] {
        assert!(filter_matches(filter, name), "{filter} {name}");
    }
    for (filter, name) in [
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        ("#", "$SYS/a"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("ACCOUNTS", "Accounts"),
        ("a", "/a"),
        ("a", "a/"),
        ("\u{e9}", "e\u{301}"),
    ] {
        assert!(!filter_matches(filter, name), "{filter} {name}");
    }
    assert_eq!(shared_subscription("$share/g/a/#"), Some(("g", "a/#")));
    assert_eq!(shared_subscription("$shared/g/a"), None);
}
