//! What is no message: refused with the section that says so.

use covey_gateway::mqtt_sn::packet::{Name, Packet, decode};

#[track_caller]
fn refused(bytes: &[u8], section: &str, text: &str) {
    let violation = decode(bytes).unwrap_err();
    assert_eq!((violation.section, violation.text), (section, text), "{bytes:?}");
    assert_eq!(violation.to_string(), format!("{text} [MQTT-SN 1.2 §{section}]"));
}

#[test]
fn a_length_that_is_not_that_of_the_datagram() {
    refused(&[], "5.2.1", "the datagram is empty");
    refused(&[2], "5.2.1", "the message has no type");
    refused(&[1], "5.2.1", "the message ends within its length");
    refused(&[1, 0], "5.2.1", "the message ends within its length");
    refused(&[1, 0, 4], "5.2.1", "the message has no type");
    refused(&[0, 0x16], "5.2.1", "the length is too short for any message");
    refused(&[1, 0, 3, 0x16], "5.2.1", "the length is too short for any message");
    refused(&[3, 0x16], "5.2.1", "the message is shorter than its length says");
    refused(&[2, 0x16, 0], "5.2.1", "the datagram has bytes after the message");
}

#[test]
fn a_reserved_type() {
    for kind in [0x03, 0x11, 0x19, 0x1E, 0xFD, 0xFF] {
        refused(&[2, kind], "5.2.2", "the message type is reserved");
    }
}

/// Every kind that has fields, with one byte less than they need, and every kind of fixed length with one more.
#[test]
fn fields_that_are_too_short_or_too_long() {
    let kinds = [
        (0x00, "5.4.1", 3, true),
        (0x01, "5.4.2", 1, true),
        (0x02, "5.4.3", 1, false),
        (0x04, "5.4.4", 4, false),
        (0x05, "5.4.5", 1, true),
        (0x06, "5.4.6", 0, true),
        (0x08, "5.4.8", 0, true),
        (0x0A, "5.4.10", 4, false),
        (0x0B, "5.4.11", 5, true),
        (0x0C, "5.4.12", 5, false),
        (0x0D, "5.4.13", 5, true),
        (0x0E, "5.4.14", 2, true),
        (0x0F, "5.4.14", 2, true),
        (0x10, "5.4.14", 2, true),
        (0x13, "5.4.16", 6, true),
        (0x15, "5.4.18", 2, true),
        (0x17, "5.4.20", 0, true),
        (0x1B, "5.4.24", 1, true),
        (0x1D, "5.4.25", 1, true),
        (0xFE, "5.5", 1, false),
    ];
    for (kind, section, fields, is_fixed) in kinds {
        let with = |fields: usize| {
            let mut bytes = vec![u8::try_from(fields + 2).unwrap(), kind];
            bytes.extend(vec![0; fields]);
            bytes
        };
        assert!(decode(&with(fields)).is_ok(), "{kind}");
        if fields > 0 {
            refused(&with(fields - 1), section, "the message ends within a field");
        }
        if is_fixed {
            refused(&with(fields + 1), section, "the message has bytes after its last field");
        } else {
            assert!(decode(&with(fields + 1)).is_ok(), "{kind}");
        }
    }
    refused(&[3, 0x18, 0], "5.4.21", "the message ends within a field");
    refused(&[5, 0x18, 0, 0, 0], "5.4.21", "the message has bytes after its last field");
    refused(&[5, 0x12, 0, 0, 1], "5.4.15", "the name is missing");
    refused(&[6, 0x12, 1, 0, 1, 2], "5.4.15", "the message ends within a field");
    refused(&[8, 0x12, 2, 0, 1, 2, 3, 4], "5.4.15", "the message has bytes after its last field");
    refused(&[5, 0x14, 0, 0, 1], "5.4.17", "the name is missing");
    refused(&[3, 0x07, 0], "5.4.7", "the name is missing");
    refused(&[3, 0x1A, 0], "5.4.22", "the name is missing");
}

#[test]
fn the_reserved_topic_id_type() {
    let text = "the topic id type is the reserved one";
    refused(&[7, 0x0C, 3, 0, 1, 0, 0], "5.3.4", text);
    refused(&[7, 0x12, 3, 0, 1, 0, 1], "5.3.4", text);
    refused(&[7, 0x14, 3, 0, 1, 0, 1], "5.3.4", text);
}

#[test]
fn names_that_are_none() {
    for (bytes, text) in [
        (&b""[..], "a name is empty"),
        (b"a\0", "a name has the character U+0000"),
        (b"\xFF", "a name is not well-formed UTF-8"),
    ] {
        assert_eq!(Name(bytes).text().unwrap_err().text, text);
        assert_eq!(Name(bytes).client_id().unwrap_err().text, text);
        assert_eq!(Name(bytes).topic().unwrap_err().text, text);
        assert_eq!(Name(bytes).filter().unwrap_err().text, text);
    }
    assert_eq!(Name(b"a/#").topic().unwrap_err().section, "5.3.12");
    assert_eq!(Name(b"a#").filter().unwrap_err().section, "5.3.12");
    assert_eq!(Name(b"a/#").filter(), Ok("a/#"));
    // Characters, not bytes.
    assert!(Name("ü".repeat(23).as_bytes()).client_id().is_ok());
    assert_eq!(Name(&[b'a'; 24]).client_id().unwrap_err().section, "5.3.1");
}

/// A message inside another is not looked at.
#[test]
fn what_is_wrapped_may_be_anything() {
    let wrapped = Packet::Encapsulated { radius: 0, node: &[1], message: &[0xFF; 9] };
    let mut bytes = Vec::new();
    wrapped.encode(&mut bytes).unwrap();
    assert_eq!(decode(&bytes), Ok(wrapped));
}
