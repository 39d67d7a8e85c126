//! Each rule of the standard that a packet alone can break, with a packet that breaks it. The rule that the
//! reader names is the statement of the test.

use covey_wire::mqtt::{
    Framing, ProtocolVersion, ReasonCode, Sender, Violation, decode, frame, version_to_refuse_in,
};

use ReasonCode::{
    ClientIdentifierNotValid, MalformedPacket, PacketTooLarge, ProtocolError, TopicAliasInvalid,
    TopicFilterInvalid, TopicNameInvalid, UnsupportedProtocolVersion,
};

const BYTES_MAX: usize = 4_096;

/// The packet of this first byte with this body; the length is put between them.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128);
    [&[first, body.len() as u8], body].concat()
}

/// A string with its length.
pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

pub fn read(bytes: &[u8], version: ProtocolVersion, sender: Sender) -> Result<(), Violation> {
    match frame(bytes, BYTES_MAX)? {
        Framing::Frame(found) => decode(found, version, sender).map(|_| ()),
        Framing::Need(need) => panic!("{need} bytes needed for {bytes:02X?}"),
    }
}

fn refused(version: ProtocolVersion, sender: Sender, bytes: &[u8], rule: &str, reason: ReasonCode) {
    match read(bytes, version, sender) {
        Ok(()) => panic!("{bytes:02X?} is taken, against {rule}"),
        Err(violation) => {
            assert_eq!((violation.rule, violation.reason), (rule, reason), "{bytes:02X?}: {violation}");
        }
    }
}

/// Of a client that speaks 5.
fn by_server(first: u8, body: &[u8], rule: &str, reason: ReasonCode) {
    refused(ProtocolVersion::V5, Sender::Client, &packet(first, body), rule, reason);
}

/// Of a client that speaks 3.1.1.
fn by_server_in_3(first: u8, body: &[u8], rule: &str, reason: ReasonCode) {
    refused(ProtocolVersion::V311, Sender::Client, &packet(first, body), rule, reason);
}

/// Of a server that speaks 5.
fn by_client(first: u8, body: &[u8], rule: &str, reason: ReasonCode) {
    refused(ProtocolVersion::V5, Sender::Server, &packet(first, body), rule, reason);
}

/// A CONNECT of MQTT 5 with these flags, properties and payload.
pub fn connect(flags: u8, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let head = [&text("MQTT")[..], &[5, flags, 0, 60, properties.len() as u8]].concat();
    [&head[..], properties, payload].concat()
}

/// A PUBLISH with QoS 0 to `a`, with these properties.
fn publish(properties: &[u8]) -> Vec<u8> {
    [&text("a")[..], &[properties.len() as u8], properties].concat()
}

/// A SUBSCRIBE of MQTT 5 without properties.
fn subscribe(filter: &str, options: u8) -> Vec<u8> {
    [&[0, 1, 0][..], &text(filter), &[options]].concat()
}

#[test]
fn strings() {
    let of_topic = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes, &[0]].concat();
    for surrogate in ["ED A0 80", "ED BF BF"] {
        let bytes: Vec<u8> = surrogate.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        by_server(0x30, &of_topic(&bytes), "MQTT-1.5.4-1", MalformedPacket);
    }
    for ill_formed in [&[0xFF][..], &[0xC0, 0x80], &[0xE2, 0x82], &[0xF4, 0x90, 0x80, 0x80]] {
        by_server(0x30, &of_topic(ill_formed), "MQTT-1.5.4-1", MalformedPacket);
    }
    by_server(0x30, &of_topic(b"a\0b"), "MQTT-1.5.4-2", MalformedPacket);
    by_server(0x82, &subscribe("a\0", 0), "MQTT-1.5.4-2", MalformedPacket);
    // A user property is a pair of strings [MQTT-1.5.7-1].
    by_server(0x30, &publish(b"\x26\0\x01a\0\x01\xFF"), "MQTT-1.5.4-1", MalformedPacket);
    by_server(0x30, &publish(b"\x26\0\x01\0\0\x01a"), "MQTT-1.5.4-2", MalformedPacket);
}

#[test]
fn the_fixed_header() {
    let refused = |bytes: &[u8], rule, reason| {
        refused(ProtocolVersion::V5, Sender::Client, bytes, rule, reason);
    };
    refused(&[0x00, 0x00], "MQTT 5 §2.1.2", MalformedPacket);
    refused(&[0xC0, 0x80, 0x80, 0x80, 0x80, 0x00], "MQTT 5 §2.1.4", MalformedPacket);
    refused(&[0xC0, 0x80, 0x00], "MQTT-1.5.5-1", MalformedPacket);
    // As soon as the length can be seen: nothing of the body is there.
    let large = frame(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], BYTES_MAX).unwrap_err();
    assert_eq!((large.reason, large.rule), (PacketTooLarge, "MQTT 5 §3.2.2.3.6"));
    // The size counts the fixed header.
    assert_eq!(frame(&[0x30, 0x02], 4), Ok(Framing::Need(4)));
    assert_eq!(frame(&[0x30, 0x02], 3).unwrap_err().reason, PacketTooLarge);
    for (flags, rule) in [
        (0x11, "MQTT-2.1.3-1"),
        (0x41, "MQTT-2.1.3-1"),
        (0x50 | 4, "MQTT-2.1.3-1"),
        (0x60, "MQTT-3.6.1-1"),
        (0x6A, "MQTT-3.6.1-1"),
        (0x78, "MQTT-2.1.3-1"),
        (0x80, "MQTT-3.8.1-1"),
        (0xA0, "MQTT-3.10.1-1"),
        (0xC1, "MQTT-2.1.3-1"),
        (0xE2, "MQTT-3.14.1-1"),
        (0xF1, "MQTT-3.15.1-1"),
    ] {
        // Before anything else of it has come.
        let violation = frame(&[flags], BYTES_MAX).unwrap_err();
        assert_eq!((violation.rule, violation.reason), (rule, MalformedPacket), "{flags:02X}");
    }
}

#[test]
fn what_a_packet_may_not_have_around_its_fields() {
    by_server(0xC0, &[0], "MQTT-4.13.1-1", MalformedPacket);
    by_server(0x40, &[0], "MQTT-4.13.1-1", MalformedPacket);
    by_server(0x40, &[0, 1, 0, 0, 0], "MQTT-4.13.1-1", MalformedPacket);
    by_server_in_3(0x40, &[0, 1, 0], "MQTT-4.13.1-1", MalformedPacket);
    by_server_in_3(0xE0, &[0], "MQTT-4.13.1-1", MalformedPacket);
    by_server(0x82, &[0, 1, 0, 0, 5, b'a'], "MQTT-4.13.1-1", MalformedPacket);
    for packet_id_0 in [0x40, 0x50, 0x62, 0x70] {
        by_server(packet_id_0, &[0, 0], "MQTT-2.2.1-3", ProtocolError);
    }
    by_server(0x32, b"\0\x01a\0\0\0", "MQTT-2.2.1-3", ProtocolError);
    by_server(0x82, b"\0\0\0\0\x01a\0", "MQTT-2.2.1-3", ProtocolError);
}

#[test]
fn packets_of_the_other_side() {
    for first in [0x20, 0x90, 0xB0, 0xD0] {
        by_server(first, &[0, 1, 0, 0], "MQTT 5 §2.1.2", ProtocolError);
    }
    for first in [0x10, 0x82, 0xA2, 0xC0] {
        by_client(first, &[0, 1, 0, 0], "MQTT 5 §2.1.2", ProtocolError);
    }
    by_server_in_3(0xF0, &[], "3.1.1 §2.2.1", MalformedPacket);
    refused(ProtocolVersion::V311, Sender::Server, &[0xE0, 0], "3.1.1 §3.14", ProtocolError);
}

#[test]
fn the_protocol_of_connect() {
    let of = |name: &str, level: u8| [&text(name)[..], &[level, 2, 0, 60, 0, 0, 1, b'a']].concat();
    for (name, level, rule, answered_in) in [
        ("mqtt", 4, "MQTT-3.1.2-1", ProtocolVersion::V311),
        ("MQIsdp", 4, "MQTT-3.1.2-1", ProtocolVersion::V311),
        ("MQTT", 3, "MQTT-3.1.2-2", ProtocolVersion::V311),
        ("MQTT", 6, "MQTT-3.1.2-2", ProtocolVersion::V5),
        ("MQTT", 0x84, "MQTT-3.1.2-2", ProtocolVersion::V311),
        ("HTTP", 5, "MQTT-3.1.2-1", ProtocolVersion::V5),
    ] {
        by_server(0x10, &of(name, level), rule, UnsupportedProtocolVersion);
        let bytes = packet(0x10, &of(name, level));
        let Ok(Framing::Frame(found)) = frame(&bytes, BYTES_MAX) else { panic!() };
        assert_eq!(version_to_refuse_in(found), answered_in, "{name} {level}");
    }
}

#[test]
fn flags_and_payload_of_connect() {
    let name = text("a");
    by_server(0x10, &connect(0x03, &[], &name), "MQTT-3.1.2-3", MalformedPacket);
    by_server(0x10, &connect(0x0A, &[], &name), "MQTT-3.1.2-11", MalformedPacket);
    by_server(0x10, &connect(0x1E, &[], &name), "MQTT-3.1.2-12", MalformedPacket);
    by_server(0x10, &connect(0x22, &[], &name), "MQTT-3.1.2-13", MalformedPacket);
    // A flag that is set needs its field, and one that is not set lets nothing stand there.
    // [MQTT-3.1.2-9], [MQTT-3.1.2-16] to [MQTT-3.1.2-19], [MQTT-3.1.3-3].
    for flags in [0x06, 0x82, 0x42] {
        by_server(0x10, &connect(flags, &[], &name), "MQTT-4.13.1-1", MalformedPacket);
    }
    by_server(
        0x10,
        &connect(0x02, &[], &[name.clone(), text("u")].concat()),
        "MQTT-4.13.1-1",
        MalformedPacket,
    );
    by_server(0x10, &connect(0x02, &[], &[]), "MQTT-4.13.1-1", MalformedPacket);
    // [MQTT-3.1.3-4], [MQTT-3.1.3-11], [MQTT-3.1.3-12]: they are strings.
    by_server(0x10, &connect(0x02, &[], b"\0\x01\xFF"), "MQTT-1.5.4-1", MalformedPacket);
    by_server(0x10, &connect(0x06, &[], b"\0\x01a\0\0\x01\xFF\0\0"), "MQTT-1.5.4-1", MalformedPacket);
    by_server(0x10, &connect(0x82, &[], b"\0\x01a\0\x01\xFF"), "MQTT-1.5.4-1", MalformedPacket);
    // The will's topic is a topic name.
    by_server(0x10, &connect(0x06, &[], b"\0\x01a\0\0\x01#\0\0"), "MQTT-3.3.2-2", TopicNameInvalid);
    by_server(0x10, &connect(0x06, &[], b"\0\x01a\0\0\0\0\0"), "MQTT-4.7.3-1", TopicNameInvalid);
    let of_3 = |flags: u8, rest: &[u8]| [&text("MQTT")[..], &[4, flags, 0, 60], rest].concat();
    by_server_in_3(0x10, &of_3(0x42, b"\0\x01a\0\x01p"), "3.1.1 MQTT-3.1.2-22", MalformedPacket);
    by_server_in_3(0x10, &of_3(0x00, b"\0\0"), "3.1.1 MQTT-3.1.3-8", ClientIdentifierNotValid);
}

#[test]
fn values_of_properties() {
    let of_connect = |properties: &[u8]| connect(0x02, properties, &text("a"));
    by_server(0x10, &of_connect(&[0x21, 0, 0]), "MQTT 5 §3.1.2.11.3", ProtocolError);
    by_server(0x10, &of_connect(&[0x27, 0, 0, 0, 0]), "MQTT 5 §3.1.2.11.4", ProtocolError);
    by_server(0x10, &of_connect(&[0x17, 2]), "MQTT 5 §2.2.2.2", ProtocolError);
    by_server(0x10, &of_connect(&[0x19, 2]), "MQTT 5 §2.2.2.2", ProtocolError);
    by_server(0x10, &of_connect(&[0x16, 0, 1, 7]), "MQTT 5 §3.1.2.11.10", ProtocolError);
    by_server(0x30, &publish(&[0x01, 2]), "MQTT 5 §2.2.2.2", ProtocolError);
    by_server(0x30, &publish(&[0x23, 0, 0]), "MQTT-3.3.2-8", TopicAliasInvalid);
    by_server(0x30, &publish(b"\x08\0\x01#"), "MQTT-3.3.2-14", ProtocolError);
    by_server(0x30, &publish(b"\x08\0\x03a/+"), "MQTT-3.3.2-14", ProtocolError);
    by_server(0x30, &publish(b"\x08\0\0"), "MQTT-4.7.3-1", ProtocolError);
    // [MQTT-3.3.2-13], [MQTT-3.3.2-19]: they are strings.
    by_server(0x30, &publish(b"\x08\0\x01\xFF"), "MQTT-1.5.4-1", MalformedPacket);
    by_server(0x30, &publish(b"\x03\0\x01\xFF"), "MQTT-1.5.4-1", MalformedPacket);
    by_server(0x82, b"\0\x01\x02\x0B\0\0\x01a\0", "MQTT 5 §3.8.2.1.2", ProtocolError);
    by_server(0x82, b"\0\x01\x03\x0B\x81\0\0\x01a\0", "MQTT-1.5.5-1", MalformedPacket);
    by_server(0x82, b"\0\x01\x06\x0B\x80\x80\x80\x80\x01\0\x01a\0", "MQTT 5 §1.5.5", MalformedPacket);
    for yes_or_no in [0x24, 0x25, 0x28, 0x29, 0x2A] {
        by_client(0x20, &[0, 0, 2, yes_or_no, 2], "MQTT 5 §2.2.2.2", ProtocolError);
    }
}

#[test]
fn properties_where_they_may_not_stand() {
    let malformed = |first, body: &[u8]| by_server(first, body, "MQTT 5 §2.2.2.2", MalformedPacket);
    // Unknown, or of another packet.
    malformed(0x30, &publish(&[0x00]));
    malformed(0x30, &publish(&[0x7F]));
    malformed(0x30, &publish(&[0x81, 0x01]));
    malformed(0x30, &publish(&[0x21, 0, 1]));
    malformed(0x10, &connect(0x02, &[0x23, 0, 1], &text("a")));
    malformed(0x10, &connect(0x02, &[0x18, 0, 0, 0, 1], &text("a")));
    malformed(0x10, &connect(0x06, &[], b"\0\x01a\x05\x11\0\0\0\x01\0\x01t\0\0"));
    malformed(0x40, &[0, 1, 0, 2, 0x01, 1]);
    malformed(0xA2, b"\0\x01\x02\x0B\x01\0\x01a");
    malformed(0xE0, &[0, 2, 0x01, 1]);
    // One side alone may send them.
    by_server(0x30, &publish(&[0x0B, 1]), "MQTT-3.3.4-6", ProtocolError);
    by_server(0xE0, b"\0\x04\x1C\0\x01a", "MQTT 5 §3.14.2.2.5", ProtocolError);
    by_client(0xE0, &[0x8B, 5, 0x11, 0, 0, 0, 1], "MQTT-3.14.2-2", ProtocolError);
    // Twice.
    let twice = |first, body: &[u8]| by_server(first, body, "MQTT 5 §2.2.2.2", ProtocolError);
    twice(0x30, &publish(&[0x01, 1, 0x01, 1]));
    twice(0x30, &publish(&[0x23, 0, 1, 0x23, 0, 1]));
    twice(0x10, &connect(0x02, &[0x21, 0, 1, 0x21, 0, 1], &text("a")));
    twice(0x82, b"\0\x01\x04\x0B\x01\x0B\x02\0\x01a\0");
    twice(0x40, b"\0\x01\x10\x08\x1F\0\x01a\x1F\0\x01a");
    // The length of the properties is that of a part of the packet.
    by_server(0x30, b"\0\x01a\x05\x01\x01", "MQTT-4.13.1-1", MalformedPacket);
    by_server(0x30, b"\0\x01a\x01\x01\x01", "MQTT-4.13.1-1", MalformedPacket);
    // Without a length [MQTT-2.2.2-1].
    by_server(0x30, b"\0\x01a", "MQTT-4.13.1-1", MalformedPacket);
}

#[test]
fn publish_and_its_topic() {
    by_server(0x36, b"\0\x01a\0\x01\0", "MQTT-3.3.1-4", MalformedPacket);
    by_server(0x38, b"\0\x01a\0", "MQTT-3.3.1-2", MalformedPacket);
    for wildcard in [b"\0\x03a/#\0", b"\0\x03+/a\0"] {
        by_server(0x30, wildcard, "MQTT-3.3.2-2", TopicNameInvalid);
        by_client(0x30, wildcard, "MQTT-3.3.2-2", TopicNameInvalid);
    }
    by_server(0x30, b"\0\0\0", "MQTT 5 §3.3.2.3.4", ProtocolError);
    by_server_in_3(0x30, b"\0\0", "MQTT 5 §3.3.2.3.4", ProtocolError);
}

#[test]
fn topic_filters() {
    let filter = |filter: &str, rule: &str| {
        by_server(0x82, &subscribe(filter, 0), rule, TopicFilterInvalid);
        by_server(0xA2, &[&[0, 1, 0][..], &text(filter)].concat(), rule, TopicFilterInvalid);
    };
    filter("", "MQTT-4.7.3-1");
    filter("a/#/b", "MQTT-4.7.1-1");
    filter("a#", "MQTT-4.7.1-1");
    filter("a/b#", "MQTT-4.7.1-1");
    filter("##", "MQTT-4.7.1-1");
    filter("#/", "MQTT-4.7.1-1");
    filter("a+", "MQTT-4.7.1-2");
    filter("+a/b", "MQTT-4.7.1-2");
    filter("$share//a", "MQTT-4.8.2-1");
    filter("$share/g", "MQTT-4.8.2-2");
    filter("$share/", "MQTT-4.8.2-2");
    filter("$share/g+/a", "MQTT-4.8.2-2");
    filter("$share/#/a", "MQTT-4.8.2-2");
    filter("$share/g/", "MQTT-4.7.3-1");
    filter("$share/g/a#", "MQTT-4.7.1-1");
    by_server(0x82, b"\0\x01\0\0\x01\xFF\0", "MQTT-1.5.4-1", MalformedPacket);
    // [MQTT-3.10.3-1].
    by_server(0xA2, b"\0\x01\0\0\x01\xFF", "MQTT-1.5.4-1", MalformedPacket);
}

#[test]
fn subscribe_and_unsubscribe() {
    by_server(0x82, &[0, 1, 0], "MQTT-3.8.3-2", ProtocolError);
    by_server(0xA2, &[0, 1, 0], "MQTT-3.10.3-2", ProtocolError);
    by_server_in_3(0x82, &[0, 1], "MQTT-3.8.3-2", ProtocolError);
    by_server(0x82, &subscribe("a", 3), "MQTT 5 §3.8.3.1", ProtocolError);
    by_server(0x82, &subscribe("a", 0x30), "MQTT 5 §3.8.3.1", ProtocolError);
    by_server(0x82, &subscribe("a", 0x40), "MQTT-3.8.3-5", MalformedPacket);
    by_server(0x82, &subscribe("a", 0x81), "MQTT-3.8.3-5", MalformedPacket);
    by_server(0x82, &subscribe("$share/g/a", 0x04), "MQTT-3.8.3-4", ProtocolError);
    by_server_in_3(0x82, b"\0\x01\0\x01a\x04", "3.1.1 MQTT-3.8.3-4", MalformedPacket);
    // An option is missing behind the second filter.
    by_server(0x82, b"\0\x01\0\0\x01a\x00\0\x01b", "MQTT-4.13.1-1", MalformedPacket);
}

#[test]
fn reason_codes() {
    by_server(0x40, &[0, 1, 0x92], "MQTT-3.4.2-1", ProtocolError);
    by_server(0x50, &[0, 1, 0x01], "MQTT-3.5.2-1", ProtocolError);
    by_server(0x62, &[0, 1, 0x80], "MQTT-3.6.2-1", ProtocolError);
    by_server(0x70, &[0, 1, 0x10], "MQTT-3.7.2-1", ProtocolError);
    by_server(0xE0, &[0x8B], "MQTT-3.14.2-1", ProtocolError);
    by_client(0xE0, &[0x04], "MQTT-3.14.2-1", ProtocolError);
    by_client(0x20, &[0, 0x8B, 0], "MQTT-3.2.2-8", ProtocolError);
    by_client(0x90, &[0, 1, 0, 0x03], "MQTT-3.9.3-2", ProtocolError);
    by_client(0x90, &[0, 1, 0], "MQTT-3.8.4-6", ProtocolError);
    by_client(0xB0, &[0, 1, 0, 0x01], "MQTT-3.11.3-2", ProtocolError);
    by_client(0xB0, &[0, 1, 0], "MQTT 5 §3.11.3", ProtocolError);
    let in_3 = |first, body: &[u8], rule| {
        refused(ProtocolVersion::V311, Sender::Server, &packet(first, body), rule, ProtocolError);
    };
    in_3(0x90, &[0, 1, 3], "3.1.1 MQTT-3.9.3-2");
    in_3(0x20, &[0, 6], "3.1.1 §3.2.2.3");
}

#[test]
fn connack_and_auth() {
    by_client(0x20, &[2, 0, 0], "MQTT-3.2.2-1", MalformedPacket);
    by_client(0x20, &[1, 0x87, 0], "MQTT-3.2.2-6", ProtocolError);
    let with_method = [5, 0x15, 0, 2, b'a', b'b'];
    by_server(0xF0, &[&[0x00][..], &with_method].concat(), "MQTT-3.15.2-1", ProtocolError);
    by_client(0xF0, &[&[0x19][..], &with_method].concat(), "MQTT-3.15.2-1", ProtocolError);
    by_server(0xF0, &[], "MQTT-3.15.2-1", ProtocolError);
    by_server(0xF0, &[0x18, 0], "MQTT 5 §3.15.2.2.2", ProtocolError);
    by_server(0xF0, &[0x18, 4, 0x16, 0, 1, 7], "MQTT 5 §3.15.2.2.2", ProtocolError);
    by_server(0xF0, &[0x18], "MQTT-4.13.1-1", MalformedPacket);
}
