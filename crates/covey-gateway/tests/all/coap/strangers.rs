//! Addresses that are not proven: little is sent there, and little is kept for them.

use std::net::SocketAddr;

use covey_gateway::coap::exchange::{Event, Exchange, Failure, Incoming, Output, Request, Response, Terms};
use covey_gateway::coap::message::{BlockSize, Code, Draft, Kind, Message, Token, option};
use proptest::prelude::*;

use super::network::{Answering, GATEWAY, NODE, Network, body};

/// An exchange layer whose owner answers each request with a body of so many bytes.
fn answer(request: &[u8], code: Code, bytes: usize, after_ms: u64) -> (usize, Vec<Vec<u8>>) {
    let mut network = Network::new(1);
    network.ends[NODE].is_proven = false;
    network.serve(GATEWAY, move |_| {
        let response = Response { payload: vec![b'x'; bytes], ..Response::text(code, "") };
        if after_ms == 0 { Answering::Now(response) } else { Answering::After(after_ms, response) }
    });
    _ = network.inject(GATEWAY, 40_000, request);
    network.run(300_000);
    (request.len(), network.seen.into_iter().map(|(.., bytes)| bytes).collect())
}

fn get(path: &str, token: &[u8], block: Option<u32>) -> Vec<u8> {
    let mut draft = Draft::new(Kind::Confirmable, Code::GET, 1, Token::new(token).unwrap());
    if !path.is_empty() {
        draft.option(option::URI_PATH, path.as_bytes());
    }
    if let Some(block) = block {
        draft.number(option::BLOCK2, block);
    }
    let mut bytes = Vec::new();
    draft.encode(&mut bytes).unwrap();
    bytes
}

proptest! {
    #[test]
    fn an_answer_is_below_three_times_its_request(
        path in "[a-z]{0,40}",
        token in proptest::collection::vec(any::<u8>(), 0..=8),
        block in proptest::option::of((0..4_u32, 0..7_u32)),
        bytes in 0..3_000_usize,
        is_error in any::<bool>(),
        after_ms in prop_oneof![Just(0_u64), 1..100_000_u64],
    ) {
        let block = block.map(|(number, size)| number << 4 | size);
        let code = if is_error { Code::NOT_FOUND } else { Code::CONTENT };
        let (asked, sent) = answer(&get(&path, &token, block), code, bytes, after_ms);
        // Once, however late the owner is.
        prop_assert_eq!(sent.len(), 1);
        prop_assert!(sent[0].len() < 3 * asked, "{} for {}", sent[0].len(), asked);
        let answer = Message::decode(&sent[0]).unwrap();
        prop_assert_eq!(answer.kind, Kind::Acknowledgement);
    }
}

#[test]
fn a_stranger_reads_a_long_answer_in_small_blocks() {
    let mut network = Network::new(2);
    network.ends[NODE].is_proven = false;
    network.serve(GATEWAY, |_| {
        Answering::Now(Response { payload: body(600), ..Response::text(Code::CONTENT, "") })
    });
    // The node takes the gateway for proven; the gateway does not know the node.
    let request = network.request(NODE, Request::get(".well-known/core")).unwrap();
    network.run(10_000);
    assert_eq!(network.end_of(NODE, request).unwrap().payload, body(600));
    let asked = network.sent_by(NODE);
    let answered = network.sent_by(GATEWAY);
    assert!(asked.len() > 10 && asked.len() == answered.len());
    for ((.., asked), (.., answered)) in asked.iter().zip(&answered) {
        assert!(*answered < 3 * asked);
    }
}

#[test]
fn a_request_to_an_address_that_is_not_proven_is_sent_twice_at_most() {
    let mut network = Network::new(3);
    network.ends[NODE].is_proven = false;
    network.lost = 100;
    let request = network.request(GATEWAY, Request::get(".well-known/core")).unwrap();
    network.run(93_000);
    assert_eq!(network.seen.len(), 2);
    assert_eq!(network.end_of(GATEWAY, request), Err(Failure::TimedOut));
}

#[test]
fn who_repeats_a_token_is_proven() {
    let mut network = Network::new(4);
    network.ends[NODE].is_proven = false;
    network.serve(NODE, |_| Answering::Now(Response::text(Code::CONTENT, "1")));
    network.request(GATEWAY, Request::get("a")).unwrap();
    assert!(network.ends[GATEWAY].exchange.stranger_bytes() > 0);
    network.run(10);
    assert_eq!(network.ends[GATEWAY].exchange.stranger_bytes(), 0);
    network.lost = 100;
    network.request(GATEWAY, Request::get("a")).unwrap();
    let before = network.seen.len();
    network.run(93_000);
    assert_eq!(network.seen.len() - before, 4);
}

#[test]
fn a_flood_of_strangers_pushes_strangers_out_and_nobody_else() {
    let terms = Terms { stranger_bytes_max: 200_000, ..Terms::default() };
    let mut exchange = Exchange::new(terms, [1; 32]);
    let mut out = Output::default();
    let known: SocketAddr = "[2001:db8::1]:5683".parse().unwrap();
    let mut draft = Draft::new(Kind::Confirmable, Code::POST, 1, Token::default());
    draft.option(option::URI_PATH, &b"alive"[..]);
    draft.payload = b"alive:1";
    let mut bytes = Vec::new();
    draft.encode(&mut bytes).unwrap();
    exchange
        .datagram(Incoming { from: known, to: None, is_proven: true, bytes: &bytes }, 0, &mut out)
        .unwrap();
    let Some(Event::Asked(asked)) = out.events.pop() else { panic!() };
    assert!(exchange.respond(asked.receipt, Response::new(Code::CHANGED), 0, &mut out));
    out.datagrams.clear();
    let mut most = 0;
    for number in 0..100_000_u32 {
        let ip = std::net::Ipv4Addr::from(number + 0x0B00_0000);
        let from = SocketAddr::new(ip.into(), 1_000);
        let incoming = Incoming { from, to: None, is_proven: false, bytes: &bytes };
        exchange.datagram(incoming, 1, &mut out).unwrap();
        out.events.clear();
        most = most.max(exchange.stranger_bytes());
        assert!(exchange.stranger_bytes() <= terms.stranger_bytes_max);
    }
    assert!(most > 150_000 && exchange.peers() > 100, "{most} {}", exchange.peers());
    // What was served is still known.
    exchange
        .datagram(Incoming { from: known, to: None, is_proven: true, bytes: &bytes }, 2, &mut out)
        .unwrap();
    assert!(out.events.is_empty());
    assert_eq!(out.datagrams.len(), 1);
    // All of it is forgotten in the end.
    for second in 0..600 {
        exchange.timer(second * 1_000, &mut out);
    }
    assert_eq!((exchange.peers(), exchange.held_bytes(), exchange.stranger_bytes()), (0, 0, 0));
}

#[test]
fn nothing_is_said_to_a_datagram_that_went_to_many() {
    let mut exchange = Exchange::new(Terms::default(), [1; 32]);
    let mut out = Output::default();
    let from = "[fe80::1%2]:5683".parse().unwrap_or("[2001:db8::2]:5683".parse().unwrap());
    for to in ["ff02::fd", "224.0.1.187", "::ffff:224.0.1.187", "255.255.255.255"] {
        let incoming =
            Incoming { from, to: Some(to.parse().unwrap()), is_proven: true, bytes: b"\x40\x00\x00\x01" };
        assert!(exchange.datagram(incoming, 0, &mut out).is_err());
    }
    assert!(out.datagrams.is_empty());
    assert_eq!(BlockSize::MIN.bytes(), 16);
}
