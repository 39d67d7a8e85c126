//! Requests of a peer: each is served once, however often it comes.

use covey_gateway::coap::exchange::{Dropped, PENDING_MAX, Request, Response, SERVED_MAX, Terms};
use covey_gateway::coap::message::{Code, Draft, Kind, Message, Token, option};

use super::network::{Answering, GATEWAY, NODE, Network, body};

fn post(kind: Kind, id: u16, path: &str, payload: &[u8], options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut draft = Draft::new(kind, Code::POST, id, Token::new(b"tk").unwrap());
    for segment in path.split('/') {
        draft.option(option::URI_PATH, segment.as_bytes());
    }
    for (number, value) in options {
        draft.option(*number, *value);
    }
    draft.payload = payload;
    let mut bytes = Vec::new();
    draft.encode(&mut bytes).unwrap();
    bytes
}

fn changed(network: &mut Network) {
    network.serve(GATEWAY, |asked| {
        let text = format!("Received '{}'", String::from_utf8_lossy(&asked.payload));
        Answering::Now(Response::text(Code::CHANGED, text))
    });
}

#[test]
fn one_that_comes_again_gets_the_same_answer_and_is_not_served_again() {
    let mut network = Network::new(1);
    changed(&mut network);
    let bytes = post(Kind::Confirmable, 7, "server", b"led:1", &[]);
    for _ in 0..4 {
        network.inject(GATEWAY, 40_000, &bytes).unwrap();
        network.run(10_000);
    }
    assert_eq!(network.ends[GATEWAY].asked, ["server"]);
    assert_eq!(network.seen.len(), 4);
    assert!(network.seen.windows(2).all(|pair| pair[0].2 == pair[1].2));
    let answer = Message::decode(&network.seen[0].2).unwrap();
    assert_eq!((answer.kind, answer.code, answer.id), (Kind::Acknowledgement, Code::CHANGED, 7));
    assert_eq!((answer.token.as_bytes(), answer.payload), (&b"tk"[..], &b"Received 'led:1'"[..]));
    // From another port it is another, and so it is when it differs, or after its lifetime.
    network.inject(GATEWAY, 40_001, &bytes).unwrap();
    assert_eq!(network.ends[GATEWAY].asked.len(), 2);
    network.inject(GATEWAY, 40_000, &post(Kind::Confirmable, 7, "server", b"led:0", &[])).unwrap();
    assert_eq!(network.ends[GATEWAY].asked.len(), 3);
    network.run(247_000);
    network.inject(GATEWAY, 40_001, &bytes).unwrap();
    assert_eq!(network.ends[GATEWAY].asked.len(), 4);
}

/// A gateway whose answers repeat what was said; as such, or as any other answer.
fn echoing(is_echo: bool) -> Network {
    let terms = Terms { echo: ("Received '", "'"), ..Terms::default() };
    let mut network = Network::with(13, terms);
    network
        .serve(GATEWAY, move |asked| Answering::Now(Response { is_echo, ..terms.echo_of(&asked.payload) }));
    network
}

#[test]
fn an_answer_that_repeats_its_request_is_the_same_each_time_and_not_kept() {
    let [mut made, mut kept] = [true, false].map(echoing);
    for id in 0..50 {
        let bytes = post(Kind::Confirmable, id, "server", format!("led:{id}").as_bytes(), &[]);
        for network in [&mut made, &mut kept] {
            network.inject(GATEWAY, 40_000, &bytes).unwrap();
            network.inject(GATEWAY, 40_000, &bytes).unwrap();
        }
    }
    assert_eq!(made.ends[GATEWAY].asked.len(), 50);
    assert_eq!(made.seen, kept.seen);
    assert!(made.seen.chunks(2).all(|pair| pair[0] == pair[1]));
    let held = [&made, &kept].map(|network| network.ends[GATEWAY].exchange.held_bytes());
    assert!(held[0] + 50 * "Received 'led:1'".len() < held[1], "{held:?}");
}

#[test]
fn an_answer_that_repeats_its_request_in_blocks_is_kept_as_any_other() {
    let mut network = echoing(true);
    let bytes = post(Kind::Confirmable, 7, "server", &body(1_020), &[]);
    network.inject(GATEWAY, 40_000, &bytes).unwrap();
    network.inject(GATEWAY, 40_000, &bytes).unwrap();
    assert_eq!(network.ends[GATEWAY].asked.len(), 1);
    assert_eq!(network.seen[0].2, network.seen[1].2);
    let answer = Message::decode(&network.seen[0].2).unwrap();
    assert!(answer.block(option::BLOCK2).unwrap().is_some_and(|block| block.has_more));
}

#[test]
fn an_answer_without_a_body_is_repeated_too() {
    let mut network = Network::new(2);
    network.serve(GATEWAY, |_| Answering::Now(Response::new(Code::CHANGED)));
    let bytes = post(Kind::Confirmable, 7, "alive", b"alive:1", &[]);
    network.inject(GATEWAY, 40_000, &bytes).unwrap();
    network.inject(GATEWAY, 40_000, &bytes).unwrap();
    assert_eq!(network.seen[0].2, network.seen[1].2);
    assert_eq!(network.ends[GATEWAY].asked.len(), 1);
}

#[test]
fn one_that_is_not_confirmable_is_served_once_and_answered_so() {
    let mut network = Network::new(3);
    changed(&mut network);
    let bytes = post(Kind::NonConfirmable, 7, "server", b"led:1", &[]);
    network.inject(GATEWAY, 40_000, &bytes).unwrap();
    network.inject(GATEWAY, 40_000, &bytes).unwrap();
    assert_eq!(network.ends[GATEWAY].asked.len(), 1);
    assert_eq!(network.seen.len(), 1);
    let answer = Message::decode(&network.seen[0].2).unwrap();
    assert_eq!((answer.kind, answer.token.as_bytes()), (Kind::NonConfirmable, &b"tk"[..]));
    // NON_LIFETIME.
    network.run(146_000);
    network.inject(GATEWAY, 40_000, &bytes).unwrap();
    assert_eq!(network.ends[GATEWAY].asked.len(), 2);
}

#[test]
fn one_whose_answer_takes_long_is_acknowledged_and_then_answered_until_it_is_heard() {
    let mut network = Network::new(4);
    network.serve(GATEWAY, |_| Answering::After(3_000, Response::new(Code::CHANGED)));
    let bytes = post(Kind::Confirmable, 7, "alive", b"alive:1", &[]);
    network.inject(GATEWAY, 40_000, &bytes).unwrap();
    network.run(2_500);
    assert_eq!(network.seen[0].2, Draft::empty(Kind::Acknowledgement, 7));
    // It comes again nevertheless.
    network.inject(GATEWAY, 40_000, &bytes).unwrap();
    assert_eq!(network.seen[1].2, Draft::empty(Kind::Acknowledgement, 7));
    network.run(5_000);
    let answer = network.seen[2].2.clone();
    let answer = Message::decode(&answer).unwrap();
    assert_eq!(
        (answer.kind, answer.code, answer.token.as_bytes()),
        (Kind::Confirmable, Code::CHANGED, &b"tk"[..])
    );
    assert!(network.seen.len() > 3, "it is sent again");
    network.inject(GATEWAY, 40_000, &Draft::empty(Kind::Acknowledgement, answer.id)).unwrap();
    let sent = network.seen.len();
    network.run(120_000);
    assert_eq!(network.seen.len(), sent);
    assert_eq!(network.ends[GATEWAY].asked.len(), 1);
}

#[test]
fn an_answer_that_nobody_hears_is_given_up() {
    let mut network = Network::new(5);
    network.serve(GATEWAY, |_| Answering::After(3_000, Response::new(Code::CHANGED)));
    network.inject(GATEWAY, 40_000, &post(Kind::Confirmable, 7, "alive", b"alive:1", &[])).unwrap();
    network.run(200_000);
    assert_eq!(network.seen.len(), 1 + 5);
}

#[test]
fn an_answer_that_is_none_is_an_error_of_the_server() {
    let mut network = Network::new(12);
    network.serve(GATEWAY, |_| Answering::Now(Response::new(Code::GET)));
    network.inject(GATEWAY, 40_000, &post(Kind::Confirmable, 7, "alive", b"", &[])).unwrap();
    let bytes = network.seen[0].2.clone();
    assert_eq!(Message::decode(&bytes).unwrap().code, Code::INTERNAL_SERVER_ERROR);
}

#[test]
fn a_ping_is_answered_with_reset_and_rubbish_too() {
    let mut network = Network::new(6);
    network.inject(GATEWAY, 40_000, &Draft::empty(Kind::Confirmable, 9)).unwrap();
    assert_eq!(network.seen[0].2, Draft::empty(Kind::Reset, 9));
    assert!(matches!(network.inject(GATEWAY, 1, b"\x40\x01\x00\x0a\xff"), Err(Dropped::Malformed(_))));
    assert_eq!(network.seen[1].2, Draft::empty(Kind::Reset, 10));
    // To these nothing is said.
    for bytes in [
        &b"\x50\x01\x00\x0a\xff"[..],
        b"\x70\x01\x00\x0a",
        b"\x60\x01\x00\x0a",
        b"\x00\x01\x00\x0a",
        b"\xffrubbish",
    ] {
        assert!(network.inject(GATEWAY, 1, bytes).is_err());
    }
    assert_eq!(network.seen.len(), 2);
    assert_eq!(network.ends[GATEWAY].exchange.peers(), 0);
}

#[test]
fn what_answers_nothing_is_rejected() {
    let mut network = Network::new(7);
    let bytes = |kind| {
        let mut bytes = Vec::new();
        Draft::new(kind, Code::CONTENT, 11, Token::default()).encode(&mut bytes).unwrap();
        bytes
    };
    for kind in [Kind::Confirmable, Kind::NonConfirmable] {
        assert_eq!(network.inject(GATEWAY, 5683, &bytes(kind)), Err(Dropped::Unmatched));
        assert_eq!(network.seen.last().unwrap().2, Draft::empty(Kind::Reset, 11));
    }
    assert_eq!(network.inject(GATEWAY, 5683, &bytes(Kind::Acknowledgement)), Err(Dropped::Unmatched));
    for kind in [Kind::Acknowledgement, Kind::Reset] {
        assert_eq!(network.inject(GATEWAY, 5683, &Draft::empty(kind, 11)), Err(Dropped::Unmatched));
    }
    assert_eq!(network.seen.len(), 2);
}

#[test]
fn a_critical_option_that_is_not_known_is_told_and_an_elective_one_is_not() {
    let mut network = Network::new(8);
    changed(&mut network);
    let bytes = |kind, id, options: &[(u16, &[u8])]| post(kind, id, "server", b"led:1", options);
    for (id, options, code) in [
        (1, &[(9, &b"x"[..])][..], Code::BAD_OPTION),
        (2, &[(option::IF_MATCH, &b""[..])], Code::BAD_OPTION),
        (3, &[(option::BLOCK1, &b""[..]), (option::BLOCK1, b"")], Code::BAD_OPTION),
        (4, &[(option::ACCEPT, &b"123"[..])], Code::BAD_OPTION),
        (5, &[(option::URI_PATH, &b"\xff"[..])], Code::BAD_OPTION),
        (6, &[(option::BLOCK1, &b"\x07"[..])], Code::BAD_REQUEST),
        (7, &[(option::PROXY_URI, &b"coap://elsewhere"[..])], Code::PROXYING_NOT_SUPPORTED),
    ] {
        let dropped = network.inject(GATEWAY, 40_000, &bytes(Kind::Confirmable, id, options));
        assert!(matches!(dropped, Err(Dropped::BadRequest(told, _)) if told == code), "{dropped:?}");
        let answer = network.seen.last().unwrap().2.clone();
        let answer = Message::decode(&answer).unwrap();
        assert_eq!((answer.kind, answer.code, answer.id), (Kind::Acknowledgement, code, id));
        assert!(!answer.payload.is_empty(), "it says what is wrong");
    }
    let seen = network.seen.len();
    assert!(network.inject(GATEWAY, 40_000, &bytes(Kind::NonConfirmable, 8, &[(9, b"x")])).is_err());
    assert_eq!(network.seen.len(), seen);
    let elective: &[(u16, &[u8])] = &[
        (option::URI_HOST, b"node"),
        (option::OBSERVE, b""),
        (option::ETAG, b"x"),
        (258, b"\x1a"),
        (2_048, b"x"),
    ];
    network.inject(GATEWAY, 40_000, &bytes(Kind::Confirmable, 9, elective)).unwrap();
    assert_eq!(network.ends[GATEWAY].asked.len(), 1);
}

#[test]
fn a_path_is_put_together() {
    let mut network = Network::new(9);
    network.serve(NODE, |asked| {
        assert_eq!(
            (asked.path.as_str(), &asked.queries[..]),
            ("a/ü/c", &["x=1".to_owned(), "y".to_owned()][..])
        );
        assert_eq!((asked.content_format, asked.accept), (Some(50), Some(0)));
        Answering::Now(Response::new(Code::CHANGED))
    });
    let request = Request {
        queries: vec!["x=1".to_owned(), "y".to_owned()],
        accept: Some(0),
        ..Request::put("a/ü/c", "1")
    };
    let request = network.request(GATEWAY, Request { content_format: Some(50), ..request }).unwrap();
    network.run(10);
    assert_eq!(network.end_of(GATEWAY, request).unwrap().code, Code::CHANGED);
}

#[test]
fn more_than_may_wait_are_told_to_come_again() {
    let mut network = Network::new(10);
    network.serve(GATEWAY, |_| Answering::Never);
    for id in 0..u16::try_from(PENDING_MAX).unwrap() {
        network.inject(GATEWAY, 40_000, &post(Kind::Confirmable, id, "alive", b"", &[])).unwrap();
    }
    let bytes = post(Kind::Confirmable, 999, "alive", b"", &[]);
    assert_eq!(network.inject(GATEWAY, 40_000, &bytes), Err(Dropped::NoRoom));
    let code = Message::decode(&network.seen.last().unwrap().2).unwrap().code;
    assert_eq!(code, Code::SERVICE_UNAVAILABLE);
    // Requests that are never answered are forgotten, and this one was not taken for served.
    network.run(260_000);
    network.inject(GATEWAY, 40_000, &bytes).unwrap();
}

#[test]
fn the_latest_messages_are_remembered() {
    let mut network = Network::new(11);
    changed(&mut network);
    let bytes = |id| post(Kind::Confirmable, id, "server", b"led:1", &[]);
    let count = u16::try_from(SERVED_MAX * 3).unwrap();
    for id in 0..count {
        network.inject(GATEWAY, 40_000, &bytes(id)).unwrap();
    }
    assert_eq!(network.ends[GATEWAY].asked.len(), usize::from(count));
    // As many as there are at 5 a second in the time in which a message is repeated.
    for id in count - 200..count {
        network.inject(GATEWAY, 40_000, &bytes(id)).unwrap();
    }
    assert_eq!(network.ends[GATEWAY].asked.len(), usize::from(count));
}
