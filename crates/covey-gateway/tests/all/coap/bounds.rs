//! What is kept has a bound, for each peer and for all; and a peer that is idle takes little.

use std::net::{Ipv6Addr, SocketAddr};

use covey_gateway::coap::exchange::{
    Event, Exchange, HELD_BYTES_MAX, Incoming, Output, PEER_BYTES_MAX, Request, Response, Terms,
};
use covey_gateway::coap::message::{Code, Draft, Kind, Message, Token, option};

use super::network::body;

fn address(number: u32) -> SocketAddr {
    let ip = Ipv6Addr::from(0x2001_0DB8_u128 << 96 | u128::from(number));
    SocketAddr::new(ip.into(), 5683)
}

fn alive(kind: Kind, id: u16) -> Vec<u8> {
    let mut draft = Draft::new(kind, Code::POST, id, Token::new(&id.to_be_bytes()).unwrap());
    draft.option(option::URI_PATH, &b"alive"[..]);
    draft.payload = b"alive:2f6d0b4e-1c58-4e0b-a1a1-0a4d8b1f7c55";
    let mut bytes = Vec::new();
    draft.encode(&mut bytes).unwrap();
    bytes
}

/// Takes a datagram, and answers what it asks.
fn say(exchange: &mut Exchange, from: SocketAddr, bytes: &[u8], response: &Response, now_ms: u64) {
    let mut out = Output::default();
    _ = exchange.datagram(Incoming { from, to: None, is_proven: true, bytes }, now_ms, &mut out);
    for event in std::mem::take(&mut out.events) {
        if let Event::Asked(asked) = event {
            exchange.respond(asked.receipt, response.clone(), now_ms, &mut out);
        }
    }
}

#[test]
fn a_peer_takes_little_that_says_it_is_alive() {
    let changed = Response::new(Code::CHANGED);
    for kind in [Kind::NonConfirmable, Kind::Confirmable] {
        let mut exchange = Exchange::new(Terms::default(), [1; 32]);
        for round in 0..20_u16 {
            for peer in 0..1_000 {
                let now_ms = u64::from(round) * 30_000 + u64::from(peer);
                say(&mut exchange, address(peer), &alive(kind, round), &changed, now_ms);
            }
            let mut out = Output::default();
            for second in 5..25 {
                exchange.timer(u64::from(round) * 30_000 + second * 1_000, &mut out);
            }
        }
        let each = exchange.held_bytes() / exchange.peers();
        assert!(each < 450, "{kind:?}: {each}");
    }
}

#[test]
fn a_peer_of_which_nothing_is_remembered_takes_less_than_200_bytes() {
    let mut exchange = Exchange::new(Terms::default(), [1; 32]);
    let mut out = Output::default();
    for peer in 0..1_000 {
        exchange
            .request(address(peer), true, Request { patience_ms: 1_000, ..Request::get("a") }, 0, &mut out)
            .unwrap();
    }
    for second in 0..40 {
        exchange.timer(second * 1_000, &mut out);
    }
    assert_eq!(exchange.peers(), 1_000);
    let each = exchange.held_bytes() / exchange.peers();
    assert!(each <= 200, "{each}");
}

#[test]
fn one_peer_is_bounded_whatever_it_does() {
    let mut exchange = Exchange::new(Terms::default(), [1; 32]);
    let large = Response { payload: body(60_000), ..Response::text(Code::CONTENT, "") };
    let mut most = 0;
    for number in 0..3_000_u16 {
        let id = number;
        let mut draft = Draft::new(Kind::Confirmable, Code::PUT, id, Token::default());
        // Bodies that are begun, each for another path, and answers that are fetched in blocks.
        draft.option(option::URI_PATH, number.to_string().into_bytes());
        let block = vec![0; 1_024];
        if number % 2 == 0 {
            draft.number(option::BLOCK1, 0b1110);
            draft.payload = &block;
        }
        let mut bytes = Vec::new();
        draft.encode(&mut bytes).unwrap();
        say(&mut exchange, address(1), &bytes, &large, u64::from(number));
        most = most.max(exchange.held_bytes());
    }
    assert!(most < PEER_BYTES_MAX + 1_000, "{most}");
}

#[test]
fn all_peers_together_are_bounded() {
    let terms = Terms { held_bytes_max: 4 * 1024 * 1024, ..Terms::default() };
    let mut exchange = Exchange::new(terms, [1; 32]);
    let large = Response { payload: body(60_000), ..Response::text(Code::CONTENT, "") };
    let mut most = 0;
    for number in 0..3_000_u32 {
        let mut draft = Draft::new(Kind::Confirmable, Code::GET, 1, Token::default());
        draft.option(option::URI_PATH, &b"a"[..]);
        let mut bytes = Vec::new();
        draft.encode(&mut bytes).unwrap();
        // Some peers each millisecond.
        say(&mut exchange, address(number), &bytes, &large, u64::from(number) / 10 * 1_000);
        most = most.max(exchange.held_bytes());
    }
    assert!(most <= terms.held_bytes_max + 70_000, "{most}");
    assert_eq!(HELD_BYTES_MAX, 64 * 1024 * 1024);
}

/// A peer that gives each answer but for its last block, and acknowledges the request for that.
#[test]
fn answers_that_never_end_are_bounded_too() {
    let mut exchange = Exchange::new(Terms::default(), [1; 32]);
    let mut out = Output::default();
    for number in 0..20 {
        exchange.request(address(1), true, Request::get(format!("a/{number}")), 0, &mut out).unwrap();
    }
    let (mut most, mut failed) = (0, 0);
    while let Some(datagram) = out.datagrams.pop() {
        let asked = Message::decode(&datagram.bytes).unwrap();
        let block = asked.block(option::BLOCK2).unwrap();
        let number = block.map_or(0, |block| block.number);
        let mut bytes = Draft::empty(Kind::Acknowledgement, asked.id).to_vec();
        if number < 60 {
            let mut draft = Draft::new(Kind::Acknowledgement, Code::CONTENT, asked.id, asked.token);
            draft.number(option::BLOCK2, number << 4 | 0b1110);
            draft.payload = &[0; 1_024];
            bytes.clear();
            draft.encode(&mut bytes).unwrap();
        }
        let incoming = Incoming { from: address(1), to: None, is_proven: true, bytes: &bytes };
        exchange.datagram(incoming, 0, &mut out).unwrap();
        most = most.max(exchange.held_bytes());
        failed += out.events.drain(..).filter(|event| matches!(event, Event::Failed { .. })).count();
    }
    assert!(most < PEER_BYTES_MAX + 70_000 && failed > 10, "{most}, {failed}");
}
