//! The bytes of messages: the examples of the standard, and what is no message.

use covey_gateway::coap::message::{
    Block, BlockSize, Code, DATAGRAM_BYTES_MAX, Draft, Kind, Malformed, Message, Token, option,
};

fn written(draft: &mut Draft<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    draft.encode(&mut bytes).unwrap();
    bytes
}

fn refused(bytes: &[u8]) -> Malformed {
    Message::decode(bytes).unwrap_err()
}

#[test]
fn the_request_of_figure_16_is_read_and_written() {
    // RFC 7252 appendix A, figure 16: GET /temperature, CON, id 0x7d34, no token.
    let bytes = b"\x40\x01\x7d\x34\xbbtemperature";
    let message = Message::decode(bytes).unwrap();
    assert_eq!((message.kind, message.code, message.id), (Kind::Confirmable, Code::GET, 0x7D34));
    assert!(message.token.as_bytes().is_empty() && message.payload.is_empty());
    assert_eq!(message.options.iter().collect::<Vec<_>>(), [(option::URI_PATH, &b"temperature"[..])]);
    let mut draft = Draft::new(Kind::Confirmable, Code::GET, 0x7D34, Token::default());
    draft.option(option::URI_PATH, &b"temperature"[..]);
    assert_eq!(written(&mut draft), bytes);
    // The response of the same figure.
    let bytes = b"\x60\x45\x7d\x34\xff22.3 C";
    let message = Message::decode(bytes).unwrap();
    assert_eq!((message.kind, message.code), (Kind::Acknowledgement, Code::CONTENT));
    assert_eq!(message.payload, b"22.3 C");
}

#[test]
fn the_request_of_figure_17_has_a_token() {
    let bytes = b"\x41\x01\x7d\x35\x20\xbbtemperature";
    let message = Message::decode(bytes).unwrap();
    assert_eq!(message.token.as_bytes(), [0x20]);
    let bytes = b"\x61\x45\x7d\x35\x20\xff22.3 C";
    let mut draft = Draft::new(Kind::Acknowledgement, Code::CONTENT, 0x7D35, Token::new(&[0x20]).unwrap());
    draft.payload = b"22.3 C";
    assert_eq!(written(&mut draft), bytes);
}

#[test]
fn a_code_is_shown_as_in_the_standard() {
    assert_eq!(Code::CONTENT.to_string(), "2.05");
    assert_eq!(Code::REQUEST_ENTITY_TOO_LARGE.to_string(), "4.13");
    assert_eq!(Code::CONTINUE.to_string(), "2.31");
}

#[test]
fn deltas_and_lengths_are_extended_at_their_edges() {
    // Numbers and lengths on both sides of 13 and 269, and the largest that a datagram takes.
    for number in [0, 12, 13, 14, 268, 269, 270, 65_535] {
        for length in [0, 12, 13, 14, 268, 269, 270, 3_000] {
            let value = vec![0xAB; length];
            let mut draft = Draft::new(Kind::NonConfirmable, Code::GET, 1, Token::default());
            draft.option(number, &value[..]);
            draft.payload = b"x";
            let bytes = written(&mut draft);
            let message = Message::decode(&bytes).unwrap();
            assert_eq!(message.options.iter().collect::<Vec<_>>(), [(number, &value[..])]);
            assert_eq!(message.payload, b"x");
        }
    }
}

#[test]
fn options_go_out_in_their_order_and_those_of_one_number_in_theirs() {
    let mut draft = Draft::new(Kind::Confirmable, Code::GET, 1, Token::default());
    draft.number(option::BLOCK2, 6);
    draft.option(option::URI_PATH, &b"a"[..]);
    draft.number(option::OBSERVE, 0);
    draft.option(option::URI_PATH, &b"b"[..]);
    let bytes = written(&mut draft);
    let message = Message::decode(&bytes).unwrap();
    let found: Vec<_> = message.options.iter().collect();
    assert_eq!(found, [(6, &b""[..]), (11, b"a"), (11, b"b"), (23, b"\x06")]);
}

#[test]
fn numbers_take_as_few_bytes_as_they_need_and_are_read_with_zeros_before_them() {
    for (value, bytes) in [(0, &[][..]), (1, &[1]), (256, &[1, 0]), (u32::MAX, &[255; 4])] {
        let mut draft = Draft::new(Kind::Confirmable, Code::GET, 1, Token::default());
        draft.number(option::MAX_AGE, value);
        let message_bytes = written(&mut draft);
        let message = Message::decode(&message_bytes).unwrap();
        assert_eq!(message.options.first(option::MAX_AGE), Some(bytes));
        assert_eq!(message.number(option::MAX_AGE), Ok(Some(value)));
    }
    assert_eq!(option::number(&[0, 0, 0, 7]), Some(7));
    assert_eq!(option::number(&[0, 0, 0, 0, 7]), None);
}

#[test]
fn a_message_with_a_format_error_is_refused_and_says_whom_to_tell() {
    let told = Some((Kind::Confirmable, 0x0102));
    for (bytes, reason) in [
        (&b"\x49\x01\x01\x02123456789"[..], "the token has more than 8 bytes"),
        (b"\x42\x01\x01\x021", "the message ends within the token"),
        (b"\x40\x01\x01\x02\xff", "a payload marker has no payload behind it"),
        (b"\x40\x01\x01\x02\xf1x", "an option has the reserved delta or length 15"),
        (b"\x40\x01\x01\x02\x1fx", "an option has the reserved delta or length 15"),
        (b"\x40\x01\x01\x02\x12x", "the message ends within an option"),
        (b"\x40\x01\x01\x02\xd0", "the message ends within an option"),
        (b"\x40\x01\x01\x02\xe0\x00", "the message ends within an option"),
        (b"\x40\x01\x01\x02\x0e\x00", "the message ends within an option"),
        (b"\x40\x01\x01\x02\xe0\xff\xff", "an option has a number above 65535"),
        (b"\x40\x01\x01\x02\xe0\xfe\xf2\x10", "an option has a number above 65535"),
        (b"\x40\x20\x01\x02", "the code is of a reserved class"),
        (b"\x40\xe1\x01\x02", "the code is of a reserved class"),
        (b"\x40\x00\x01\x02x", "an empty message has bytes after its header"),
        (b"\x41\x00\x01\x02x", "an empty message has bytes after its header"),
    ] {
        assert_eq!(refused(bytes), Malformed { reason, header: told }, "{bytes:02x?}");
    }
    assert_eq!(refused(b"\x50\x00\x01\x02").reason, "a non-confirmable message is empty");
    assert_eq!(refused(b"\x70\x45\x01\x02").reason, "a reset message is not empty");
    assert_eq!(refused(b"\x60\x01\x01\x02").reason, "an acknowledgement has a request in it");
}

#[test]
fn what_is_no_header_of_version_1_is_told_to_nobody() {
    for bytes in [&b""[..], b"\x40\x01\x01", b"\x00\x01\x01\x02", b"\x80\x01\x01\x02", b"\xc0\x01\x01\x02"] {
        assert_eq!(refused(bytes).header, None, "{bytes:02x?}");
    }
    let mut large = b"\x40\x01\x01\x02\xff".to_vec();
    large.resize(DATAGRAM_BYTES_MAX, b'x');
    assert!(Message::decode(&large).is_ok());
    large.push(b'x');
    assert_eq!(refused(&large).reason, "the datagram is too large");
}

#[test]
fn the_highest_option_number_is_taken() {
    // Delta 14 with 65,535 - 269.
    let message = Message::decode(b"\x40\x01\x01\x02\xe1\xfe\xf2x").unwrap();
    assert_eq!(message.options.iter().collect::<Vec<_>>(), [(65_535, &b"x"[..])]);
}

#[test]
fn blocks_are_read_and_written_as_in_the_standard() {
    // RFC 7959 §3.1: 2:1/0/64 is number 1, no more, size 64.
    let block = Block::at(64, BlockSize::at_most(64).unwrap(), false).unwrap();
    assert_eq!((block.number, block.has_more, block.size.bytes(), block.offset()), (1, false, 64, 64));
    for (value, read) in [(&b""[..], (0, false, 16)), (b"\x0e", (0, true, 1024)), (b"\x1a", (1, true, 64))] {
        let mut draft = Draft::new(Kind::Confirmable, Code::GET, 1, Token::default());
        draft.option(option::BLOCK2, value);
        let bytes = written(&mut draft);
        let block = Message::decode(&bytes).unwrap().block(option::BLOCK2).unwrap().unwrap();
        assert_eq!((block.number, block.has_more, block.size.bytes()), read);
    }
    for value in [&b"\x07"[..], b"\x0f", b"\x00\x00\x00\x01"] {
        let mut draft = Draft::new(Kind::Confirmable, Code::GET, 1, Token::default());
        draft.option(option::BLOCK2, value);
        let bytes = written(&mut draft);
        assert!(Message::decode(&bytes).unwrap().block(option::BLOCK2).is_err());
    }
    assert_eq!(BlockSize::at_most(15), None);
    assert_eq!(BlockSize::at_most(1_023).unwrap().bytes(), 512);
    assert_eq!(Block::at(100, BlockSize::MIN, false), None);
}

#[test]
fn what_cannot_be_written_is_refused_whole() {
    let mut bytes = b"before".to_vec();
    let mut draft = Draft::new(Kind::Confirmable, Code::GET, 1, Token::default());
    draft.option(option::URI_PATH, vec![0; 65_805]);
    assert!(draft.encode(&mut bytes).is_err());
    let mut draft = Draft::new(Kind::Confirmable, Code::EMPTY, 1, Token::default());
    draft.payload = b"x";
    assert!(draft.encode(&mut bytes).is_err());
    assert_eq!(bytes, b"before");
    assert_eq!(Token::new(&[0; 9]), None);
}
