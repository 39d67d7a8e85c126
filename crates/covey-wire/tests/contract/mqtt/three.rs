//! What a packet of MQTT 3.1.1 alone can break, and what it may look like. Numbers in brackets are those of its
//! own standard; the reader names the rule by the number of MQTT 5 where both standards have it.

use covey_wire::mqtt::{
    Connect, Delivery, Framing, Packet, Properties, ProtocolVersion, Publish, ReasonCode, Sender, decode,
    frame, version_to_refuse_in,
};

use super::refused::{packet, text};

const V311: ProtocolVersion = ProtocolVersion::V311;

/// That no server takes this packet, because of this rule.
fn refused(first: u8, body: &[u8], rule: &str) {
    let bytes = packet(first, body);
    match frame(&bytes, 4_096).and_then(|framing| match framing {
        Framing::Frame(found) => decode(found, V311, Sender::Client).map(|packet| format!("{packet:?}")),
        Framing::Need(bytes) => Ok(format!("{bytes} needed")),
    }) {
        Err(violation) => assert_eq!(violation.rule, rule, "{bytes:02X?}: {violation}"),
        Ok(taken) => panic!("{bytes:02X?} is taken, against {rule}: {taken}"),
    }
}

/// That a server takes this packet; looks at what was read.
fn taken(first: u8, body: &[u8], look: impl Fn(&Packet<'_>)) {
    let bytes = packet(first, body);
    let Ok(Framing::Frame(found)) = frame(&bytes, 4_096) else { panic!("{bytes:02X?}") };
    look(&decode(found, V311, Sender::Client).unwrap());
}

/// The body of a CONNECT with these flags and this payload.
fn connect(flags: u8, payload: &[u8]) -> Vec<u8> {
    [&text("MQTT")[..], &[4, flags, 0, 60], payload].concat()
}

fn publish(topic: &[u8]) -> Vec<u8> {
    [&(topic.len() as u16).to_be_bytes(), topic].concat()
}

/// The body of a SUBSCRIBE to one filter.
fn subscribe(filter: &[u8], qos: u8) -> Vec<u8> {
    [&[0, 1][..], &publish(filter), &[qos]].concat()
}

fn unsubscribe(filter: &[u8]) -> Vec<u8> {
    [&[0, 1][..], &publish(filter)].concat()
}

/// [3.1.1 MQTT-1.5.3-1], [3.1.1 MQTT-1.5.3-2], [3.1.1 MQTT-4.7.3-2]: in each place where a string may stand
/// ([3.1.1 MQTT-3.1.3-4], [3.1.1 MQTT-3.1.3-10], [3.1.1 MQTT-3.1.3-11], [3.1.1 MQTT-3.3.2-1],
/// [3.1.1 MQTT-3.8.3-1], [3.1.1 MQTT-3.10.3-1]).
#[test]
fn strings() {
    for (bytes, rule) in [
        (&b"\xED\xA0\x80"[..], "MQTT-1.5.4-1"),
        (b"\xED\xBF\xBF", "MQTT-1.5.4-1"),
        (b"\xFF", "MQTT-1.5.4-1"),
        (b"\xC0\x80", "MQTT-1.5.4-1"),
        (b"\xF4\x90\x80\x80", "MQTT-1.5.4-1"),
        (b"a\0b", "MQTT-1.5.4-2"),
    ] {
        let (name, string) = (text("a"), publish(bytes));
        refused(0x10, &connect(0x02, &string), rule);
        refused(0x10, &connect(0x06, &[&name[..], &string, &[0, 0]].concat()), rule);
        refused(0x10, &connect(0x82, &[&name[..], &string].concat()), rule);
        refused(0x30, &string, rule);
        refused(0x82, &subscribe(bytes, 0), rule);
        refused(0xA2, &unsubscribe(bytes), rule);
    }
}

/// [3.1.1 MQTT-1.5.3-3].
#[test]
fn a_zero_width_space_is_a_character() {
    taken(0x30, &publish("\u{FEFF}a".as_bytes()), |packet| {
        let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
        assert_eq!(publish.topic, "\u{FEFF}a");
    });
}

/// [3.1.1 MQTT-2.2.2-1], [3.1.1 MQTT-2.2.2-2], [3.1.1 MQTT-3.6.1-1], [3.1.1 MQTT-3.8.1-1],
/// [3.1.1 MQTT-3.10.1-1], [3.1.1 MQTT-3.14.1-1].
#[test]
fn flags_of_the_fixed_header() {
    let rest: [(u8, u8, Vec<u8>, &str); 7] = [
        (0x40, 0, vec![0, 1], "MQTT-2.1.3-1"),
        (0x50, 0, vec![0, 1], "MQTT-2.1.3-1"),
        (0x60, 2, vec![0, 1], "MQTT-3.6.1-1"),
        (0x80, 2, subscribe(b"a", 1), "MQTT-3.8.1-1"),
        (0xA0, 2, unsubscribe(b"a"), "MQTT-3.10.1-1"),
        (0xC0, 0, vec![], "MQTT-2.1.3-1"),
        (0xE0, 0, vec![], "MQTT-3.14.1-1"),
    ];
    for (kind, lawful, body, rule) in rest {
        for flags in 0..16 {
            if flags == lawful {
                taken(kind | flags, &body, |_| ());
            } else {
                refused(kind | flags, &body, rule);
            }
        }
    }
}

/// [3.1.1 MQTT-2.3.1-1], [3.1.1 MQTT-2.3.1-5].
#[test]
fn packet_identifiers() {
    for (first, body) in [
        (0x32, &b"\0\x01a\0\0"[..]),
        (0x34, b"\0\x01a\0\0"),
        (0x40, &[0, 0]),
        (0x50, &[0, 0]),
        (0x62, &[0, 0]),
        (0x70, &[0, 0]),
        (0x82, b"\0\0\0\x01a\0"),
        (0xA2, b"\0\0\0\x01a"),
    ] {
        refused(first, body, "MQTT-2.2.1-3");
    }
    refused(0x32, b"\0\x01a\0", "MQTT-4.13.1-1");
    // What follows the topic of QoS 0 is the message.
    taken(0x30, b"\0\x01a\0\x07", |packet| {
        let expected = Publish {
            delivery: Delivery::AtMostOnce,
            retain: false,
            topic: "a",
            properties: Properties::NONE,
            payload: &[0, 7],
        };
        assert_eq!(*packet, Packet::Publish(expected));
    });
}

/// [3.1.1 MQTT-3.1.2-1], [3.1.1 MQTT-3.1.2-2]: what is no level of 3.1.1 or 5 is answered with return code 1;
/// from level 6 on in the form of MQTT 5, which a client of a later version reads.
#[test]
fn the_protocol_of_connect() {
    let of = |name: &str, level: u8| [&text(name)[..], &[level, 2, 0, 60, 0, 1, b'a']].concat();
    for (name, level, rule) in
        [("mqtt", 4, "MQTT-3.1.2-1"), ("MQTT ", 4, "MQTT-3.1.2-1"), ("MQTT", 3, "MQTT-3.1.2-2")]
    {
        refused(0x10, &of(name, level), rule);
        let bytes = packet(0x10, &of(name, level));
        let Ok(Framing::Frame(found)) = frame(&bytes, 100) else { panic!() };
        assert_eq!(version_to_refuse_in(found), V311);
    }
    taken(0x10, &of("MQTT", 4), |packet| {
        assert!(matches!(packet, Packet::Connect(Connect { version: V311, .. })));
    });
}

/// [3.1.1 MQTT-3.1.2-3], [3.1.1 MQTT-3.1.2-9], [3.1.1 MQTT-3.1.2-11], [3.1.1 MQTT-3.1.2-13] to
/// [3.1.1 MQTT-3.1.2-15], [3.1.1 MQTT-3.1.2-18] to [3.1.1 MQTT-3.1.2-22].
#[test]
fn flags_of_connect() {
    let name = text("a");
    refused(0x10, &connect(0x03, &name), "MQTT-3.1.2-3");
    refused(0x10, &connect(0x0A, &name), "MQTT-3.1.2-11");
    refused(0x10, &connect(0x12, &name), "MQTT-3.1.2-11");
    refused(0x10, &connect(0x22, &name), "MQTT-3.1.2-13");
    let with_will = [&name[..], &text("t"), &text("w")].concat();
    refused(0x10, &connect(0x1E, &with_will), "MQTT-3.1.2-12");
    for qos in 0..3 {
        taken(0x10, &connect(0x06 | qos << 3, &with_will), |packet| {
            let Packet::Connect(Connect { will: Some(will), .. }) = packet else { panic!("{packet:?}") };
            assert_eq!((will.qos as u8, will.retain, will.topic, will.payload), (qos, false, "t", &b"w"[..]));
        });
    }
    taken(0x10, &connect(0x26, &with_will), |packet| {
        assert!(matches!(packet, Packet::Connect(Connect { will: Some(will), .. }) if will.retain));
    });
    // A flag with no field for it, and a field with no flag for it.
    let two = [&name[..], &text("x")].concat();
    for (flags, payload) in
        [(0x06, &name), (0x06, &two), (0x82, &name), (0xC2, &two), (0x02, &two), (0x82, &with_will)]
    {
        refused(0x10, &connect(flags, payload), "MQTT-4.13.1-1");
    }
    refused(0x10, &connect(0x42, &two), "3.1.1 MQTT-3.1.2-22");
    taken(0x10, &connect(0x82, &two), |packet| {
        let Packet::Connect(connect) = packet else { panic!("{packet:?}") };
        assert_eq!((connect.user_name, connect.password), (Some("x"), None));
    });
}

/// [3.1.1 MQTT-3.1.3-1], [3.1.1 MQTT-3.1.3-3], [3.1.1 MQTT-3.1.3-7], [3.1.1 MQTT-3.1.3-8].
#[test]
fn payload_of_connect() {
    let all = ["a", "t", "w", "u", "p"].map(text).concat();
    taken(0x10, &connect(0xC6, &all), |packet| {
        let Packet::Connect(connect) = packet else { panic!("{packet:?}") };
        let will = connect.will.unwrap();
        assert_eq!((connect.client_id, will.topic, will.payload), ("a", "t", &b"w"[..]));
        assert_eq!((connect.user_name, connect.password), (Some("u"), Some(&b"p"[..])));
    });
    refused(0x10, &connect(0x02, &[]), "MQTT-4.13.1-1");
    refused(0x10, &connect(0x00, &text("")), "3.1.1 MQTT-3.1.3-8");
    taken(0x10, &connect(0x02, &text("")), |packet| {
        assert!(matches!(packet, Packet::Connect(Connect { client_id: "", .. })));
    });
}

/// [3.1.1 MQTT-3.3.1-2], [3.1.1 MQTT-3.3.1-4], [3.1.1 MQTT-3.3.2-2], [3.1.1 MQTT-4.7.1-1],
/// [3.1.1 MQTT-4.7.3-1].
#[test]
fn publish_and_its_topic() {
    refused(0x36, b"\0\x01a\0\x01", "MQTT-3.3.1-4");
    refused(0x38, b"\0\x01a", "MQTT-3.3.1-2");
    for topic in ["a/#", "+/a", "a+", "#"] {
        refused(0x30, &publish(topic.as_bytes()), "MQTT-3.3.2-2");
        let will = ["a", topic, "w"].map(text).concat();
        refused(0x10, &connect(0x06, &will), "MQTT-3.3.2-2");
    }
    refused(0x30, &publish(b""), "MQTT 5 §3.3.2.3.4");
    refused(0x10, &connect(0x06, &["a", "", "w"].map(text).concat()), "MQTT-4.7.3-1");
}

/// [3.1.1 MQTT-3.8.3-2] is a duty of who cannot do wildcards. [3.1.1 MQTT-3.8.3-3], [3.1.1 MQTT-3.8.3-4],
/// [3.1.1 MQTT-3.10.3-2], [3.1.1 MQTT-4.7.1-2], [3.1.1 MQTT-4.7.1-3], [3.1.1 MQTT-4.7.3-1].
#[test]
fn subscribe_and_unsubscribe() {
    refused(0x82, &[0, 1], "MQTT-3.8.3-2");
    refused(0xA2, &[0, 1], "MQTT-3.10.3-2");
    refused(0x82, &subscribe(b"a", 3), "MQTT 5 §3.8.3.1");
    for bit in 2..8 {
        refused(0x82, &subscribe(b"a", 1 | 1 << bit), "3.1.1 MQTT-3.8.3-4");
    }
    for (filter, rule) in [
        ("", "MQTT-4.7.3-1"),
        ("a/#/b", "MQTT-4.7.1-1"),
        ("a#", "MQTT-4.7.1-1"),
        ("#/", "MQTT-4.7.1-1"),
        ("a+", "MQTT-4.7.1-2"),
        ("+a/b", "MQTT-4.7.1-2"),
    ] {
        refused(0x82, &subscribe(filter.as_bytes(), 0), rule);
        refused(0xA2, &unsubscribe(filter.as_bytes()), rule);
    }
    for filter in ["#", "+", "a/#", "+/+/#", "a/+/b", "/+", "$SYS/#"] {
        taken(0x82, &subscribe(filter.as_bytes(), 2), |_| ());
        taken(0xA2, &unsubscribe(filter.as_bytes()), |_| ());
    }
}

/// [3.1.1 MQTT-4.7.3-3]: the length of a string has two bytes, and what is longer is not written.
#[test]
fn topics_are_no_longer_than_a_string() {
    let written = |topic: &str| {
        let (delivery, properties) = (Delivery::AtMostOnce, Properties::NONE);
        let publish = Publish { delivery, retain: false, topic, properties, payload: b"" };
        Packet::Publish(publish).encode(V311, &mut Vec::new())
    };
    written(&"t".repeat(65_535)).unwrap();
    let violation = written(&"t".repeat(65_536)).unwrap_err();
    assert_eq!((violation.rule, violation.reason), ("MQTT 5 §1.5.6", ReasonCode::MalformedPacket));
}
