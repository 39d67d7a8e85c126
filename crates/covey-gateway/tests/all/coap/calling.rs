//! Requests to a peer: sent until they are acknowledged, one at a time, and ended once.

use covey_gateway::coap::exchange::{
    CALLS_MAX, Event, Failure, Output, PATIENCE_MS_MAX, Refused, Request, Response, TRANSMIT_WAIT_MS_MAX,
};
use covey_gateway::coap::message::{Code, Draft, Kind, Message, Token};

use super::network::{Answering, GATEWAY, NODE, Network, body};

fn hello(network: &mut Network) {
    network.serve(NODE, |_| Answering::Now(Response::text(Code::CONTENT, "hello")));
}

#[test]
fn an_answer_comes_with_the_acknowledgement() {
    let mut network = Network::new(1);
    hello(&mut network);
    let request = network.request(GATEWAY, Request::get("a")).unwrap();
    network.run(100);
    assert_eq!(network.end_of(GATEWAY, request).unwrap(), &Response::text(Code::CONTENT, "hello"));
    let sent: Vec<_> = network.seen.iter().map(|(_, side, _)| *side).collect();
    assert_eq!(sent, [GATEWAY, NODE]);
    assert_eq!(network.sent_by(NODE)[0].0, Kind::Acknowledgement);
}

#[test]
fn an_answer_that_takes_long_comes_apart_and_is_acknowledged() {
    let mut network = Network::new(2);
    network.serve(NODE, |_| Answering::After(10_000, Response::text(Code::CONTENT, "late")));
    let request = network.request(GATEWAY, Request::get("a")).unwrap();
    network.run(60_000);
    assert_eq!(network.end_of(GATEWAY, request).unwrap().payload, b"late");
    let kinds: Vec<_> =
        network.seen.iter().map(|(_, _, bytes)| Message::decode(bytes).unwrap().kind).collect();
    assert_eq!(kinds, [Kind::Confirmable, Kind::Acknowledgement, Kind::Confirmable, Kind::Acknowledgement]);
    assert_eq!(network.ends[NODE].asked, ["a"]);
}

#[test]
fn a_silent_peer_gets_five_messages_each_twice_as_late_and_then_it_is_over() {
    for seed in 0..20 {
        let mut network = Network::new(seed);
        network.lost = 100;
        let begun_ms = network.now_ms;
        let request = network.request(GATEWAY, Request::get("a")).unwrap();
        network.run(TRANSMIT_WAIT_MS_MAX);
        assert_eq!(network.end_of(GATEWAY, request), Err(Failure::TimedOut));
        let times: Vec<_> = network.seen.iter().map(|(at_ms, ..)| at_ms - begun_ms).collect();
        assert_eq!(times.len(), 5, "{times:?}");
        let first_ms = times[1];
        assert!((2_000..=3_000).contains(&first_ms), "{times:?}");
        assert_eq!(times, [0, 1, 3, 7, 15].map(|factor| factor * first_ms));
        assert!(network.seen.windows(2).all(|pair| pair[0].2 == pair[1].2), "they are the same");
    }
}

#[test]
fn a_request_that_is_not_confirmable_is_sent_once() {
    let mut network = Network::new(3);
    network.lost = 100;
    let request = network.request(GATEWAY, Request { is_confirmable: false, ..Request::get("a") }).unwrap();
    network.run(TRANSMIT_WAIT_MS_MAX + 10_000);
    assert_eq!(network.seen.len(), 1);
    assert_eq!(network.end_of(GATEWAY, request), Err(Failure::TimedOut));
    let mut network = Network::new(3);
    hello(&mut network);
    let request = network.request(GATEWAY, Request { is_confirmable: false, ..Request::get("a") }).unwrap();
    network.run(10);
    assert_eq!(network.end_of(GATEWAY, request).unwrap().payload, b"hello");
    assert_eq!(network.sent_by(NODE)[0].0, Kind::NonConfirmable);
}

#[test]
fn one_request_is_on_its_way_at_a_time_and_they_keep_their_order() {
    let mut network = Network::new(4);
    hello(&mut network);
    network.delay_ms = 50;
    let requests: Vec<_> =
        (0..10).map(|index| network.request(GATEWAY, Request::get(format!("r/{index}"))).unwrap()).collect();
    assert_eq!(network.seen.len(), 1);
    network.run(10_000);
    for request in requests {
        network.end_of(GATEWAY, request).unwrap();
    }
    assert_eq!(network.ends[NODE].asked, (0..10).map(|index| format!("r/{index}")).collect::<Vec<_>>());
    let sides: Vec<_> = network.seen.iter().map(|(_, side, _)| *side).collect();
    assert!(sides.chunks(2).all(|pair| pair == [GATEWAY, NODE]));
}

#[test]
fn one_that_is_acknowledged_does_not_keep_others_waiting() {
    let mut network = Network::new(5);
    network.serve(NODE, |asked| match asked.path.as_str() {
        "slow" => Answering::After(30_000, Response::text(Code::CONTENT, "slow")),
        _ => Answering::Now(Response::text(Code::CONTENT, "fast")),
    });
    let slow = network.request(GATEWAY, Request::get("slow")).unwrap();
    let fast = network.request(GATEWAY, Request::get("fast")).unwrap();
    network.run(5_000);
    assert_eq!(network.end_of(GATEWAY, fast).unwrap().payload, b"fast");
    network.run(60_000);
    assert_eq!(network.end_of(GATEWAY, slow).unwrap().payload, b"slow");
}

#[test]
fn a_node_may_ask_while_its_own_answer_is_waited_for() {
    let mut network = Network::new(6);
    // It answers the PUT when its POST to /server has been answered; here: later than that.
    network.serve(NODE, |_| Answering::After(400, Response::new(Code::CHANGED)));
    network.serve(GATEWAY, |_| Answering::Now(Response::text(Code::CHANGED, "Received 'led:1'")));
    let put = network.request(GATEWAY, Request::put("led", "1")).unwrap();
    network.run(10);
    let post = Request { payload: b"led:1".to_vec(), ..Request::new(Code::POST, "server") };
    let post = network.request(NODE, post).unwrap();
    network.run(10);
    assert_eq!(network.end_of(NODE, post).unwrap().payload, b"Received 'led:1'");
    network.run(5_000);
    assert_eq!(network.end_of(GATEWAY, put).unwrap().code, Code::CHANGED);
}

#[test]
fn too_many_are_refused_and_too_long_ones_too() {
    let mut network = Network::new(7);
    network.lost = 100;
    for _ in 0..CALLS_MAX {
        network.request(GATEWAY, Request::get("a")).unwrap();
    }
    assert_eq!(network.request(GATEWAY, Request::get("a")), Err(Refused::Full));
    assert_eq!(network.request(NODE, Request::get("x".repeat(256))), Err(Refused::TargetTooLong));
    assert_eq!(network.request(NODE, Request::get("x/".repeat(600))), Err(Refused::TargetTooLong));
    assert_eq!(network.request(NODE, Request::put("a", body(64 * 1024 + 1))), Err(Refused::TooLarge));
    assert_eq!(network.request(NODE, Request::new(Code::CONTENT, "a")), Err(Refused::NoMethod));
    assert_eq!(network.request(NODE, Request::new(Code::EMPTY, "a")), Err(Refused::NoMethod));
    // Each ends, and there is room again.
    network.run(PATIENCE_MS_MAX + 1_000);
    assert_eq!(network.ends[GATEWAY].events.len(), CALLS_MAX);
    network.request(GATEWAY, Request::get("a")).unwrap();
}

#[test]
fn patience_ends_one_that_waits_for_others() {
    let mut network = Network::new(8);
    network.lost = 100;
    network.request(GATEWAY, Request::get("a")).unwrap();
    let second = network.request(GATEWAY, Request { patience_ms: 5_000, ..Request::get("b") }).unwrap();
    network.run(5_000);
    assert_eq!(network.end_of(GATEWAY, second), Err(Failure::TimedOut));
}

#[test]
fn a_reset_ends_a_request_and_answers_a_ping() {
    let mut network = Network::new(9);
    let to = network.ends[NODE].address;
    let ping = network.act(GATEWAY, |exchange, now_ms, out| exchange.ping(to, now_ms, out)).unwrap();
    network.run(10);
    assert!(matches!(network.ends[GATEWAY].events[..], [Event::Reached { request }] if request == ping));
    assert_eq!(network.sent_by(NODE), [(Kind::Reset, Code::EMPTY, 4)]);
    network.ends[GATEWAY].events.clear();
    network.lost = 100;
    let request = network.request(GATEWAY, Request::get("a")).unwrap();
    let id = Message::decode(&network.seen.last().unwrap().2).unwrap().id;
    network.inject(GATEWAY, 5683, &Draft::empty(Kind::Reset, id)).unwrap();
    assert_eq!(network.end_of(GATEWAY, request), Err(Failure::Rejected));
    let ping = network.act(GATEWAY, |exchange, now_ms, out| exchange.ping(to, now_ms, out)).unwrap();
    network.run(TRANSMIT_WAIT_MS_MAX);
    assert_eq!(network.end_of(GATEWAY, ping), Err(Failure::TimedOut));
}

#[test]
fn one_that_is_cancelled_ends_and_lets_the_next_go() {
    let mut network = Network::new(10);
    hello(&mut network);
    network.delay_ms = 1_000;
    let first = network.request(GATEWAY, Request::get("a")).unwrap();
    let second = network.request(GATEWAY, Request::get("b")).unwrap();
    assert!(network.act(GATEWAY, |exchange, now_ms, out| exchange.cancel(first, now_ms, out)));
    assert!(!network.act(GATEWAY, |exchange, now_ms, out| exchange.cancel(first, now_ms, out)));
    network.run(30_000);
    assert_eq!(network.end_of(GATEWAY, first), Err(Failure::Cancelled));
    network.end_of(GATEWAY, second).unwrap();
}

/// Sends a request, and gives its answer as the test writes it.
fn answered_with(answer: impl FnOnce(&Message<'_>) -> Vec<u8>) -> (Network, Result<Response, Failure>) {
    let mut network = Network::new(11);
    network.lost = 100;
    let request = network.request(GATEWAY, Request { patience_ms: 4_000, ..Request::get("a") }).unwrap();
    let asked = network.seen.last().unwrap().2.clone();
    let bytes = answer(&Message::decode(&asked).unwrap());
    _ = network.inject(GATEWAY, 5683, &bytes);
    network.run(4_000);
    let end = network.end_of(GATEWAY, request).cloned();
    (network, end)
}

fn written(kind: Kind, code: Code, id: u16, token: Token, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut draft = Draft::new(kind, code, id, token);
    for (number, value) in options {
        draft.option(*number, *value);
    }
    let mut bytes = Vec::new();
    draft.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_answer_must_fit_its_request() {
    let (_, end) =
        answered_with(|asked| written(Kind::Acknowledgement, Code::VALID, asked.id, asked.token, &[]));
    assert_eq!(end.unwrap().code, Code::VALID);
    // Another token, another id, a critical option that is not known.
    let other = Token::new(b"other").unwrap();
    let (_, end) = answered_with(|asked| written(Kind::Acknowledgement, Code::VALID, asked.id, other, &[]));
    assert_eq!(end, Err(Failure::TimedOut));
    let (_, end) =
        answered_with(|asked| written(Kind::Acknowledgement, Code::VALID, asked.id ^ 1, asked.token, &[]));
    assert_eq!(end, Err(Failure::TimedOut));
    let (_, end) = answered_with(|asked| {
        written(Kind::Acknowledgement, Code::VALID, asked.id, asked.token, &[(9, b"x")])
    });
    assert_eq!(end, Err(Failure::Broken("it has a critical option that is not known")));
    let (_, end) =
        answered_with(|asked| written(Kind::Acknowledgement, Code::CONTINUE, asked.id, asked.token, &[]));
    assert!(matches!(end, Err(Failure::Broken(_))));
}

#[test]
fn an_answer_apart_is_taken_without_an_acknowledgement_before_it() {
    let (network, end) = answered_with(|asked| written(Kind::Confirmable, Code::VALID, 7, asked.token, &[]));
    assert_eq!(end.unwrap().code, Code::VALID);
    assert_eq!(network.seen.last().unwrap().2, Draft::empty(Kind::Acknowledgement, 7));
}

#[test]
fn an_answer_apart_that_comes_again_is_acknowledged_again() {
    let (mut network, _) =
        answered_with(|asked| written(Kind::Confirmable, Code::VALID, 7, asked.token, &[]));
    let asked = network.seen[0].2.clone();
    let token = Message::decode(&asked).unwrap().token;
    network.inject(GATEWAY, 5683, &written(Kind::Confirmable, Code::VALID, 7, token, &[])).unwrap();
    assert_eq!(network.seen.last().unwrap().2, Draft::empty(Kind::Acknowledgement, 7));
    // One that answers nothing is rejected.
    assert!(network.inject(GATEWAY, 5683, &written(Kind::Confirmable, Code::VALID, 8, token, &[])).is_err());
    assert_eq!(network.seen.last().unwrap().2, Draft::empty(Kind::Reset, 8));
}

#[test]
fn what_comes_from_another_port_of_the_peer_is_no_answer() {
    let mut network = Network::new(12);
    network.lost = 100;
    let request = network.request(GATEWAY, Request { patience_ms: 4_000, ..Request::get("a") }).unwrap();
    let asked = network.seen.last().unwrap().2.clone();
    let asked = Message::decode(&asked).unwrap();
    let answer = written(Kind::Acknowledgement, Code::VALID, asked.id, asked.token, &[]);
    assert!(network.inject(GATEWAY, 5684, &answer).is_err());
    network.inject(GATEWAY, 5683, &answer).unwrap();
    network.end_of(GATEWAY, request).unwrap();
}

#[test]
fn tokens_and_ids_differ_from_message_to_message() {
    let mut network = Network::new(13);
    hello(&mut network);
    let mut tokens = std::collections::BTreeSet::new();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        network.request(GATEWAY, Request::get("a")).unwrap();
        network.run(1);
    }
    for (_, side, bytes) in &network.seen {
        if *side == GATEWAY {
            let message = Message::decode(bytes).unwrap();
            tokens.insert(message.token);
            ids.insert(message.id);
        }
    }
    assert_eq!((tokens.len(), ids.len()), (1_000, 1_000));
}

#[test]
fn ids_do_not_come_again_within_their_lifetime() {
    let mut network = Network::new(14);
    hello(&mut network);
    // As fast as it goes: one each millisecond.
    let mut used = std::collections::HashMap::new();
    for _ in 0..2 {
        for _ in 0..17_000 {
            _ = network.request(GATEWAY, Request::get("a"));
            network.run(1);
        }
        for (at_ms, side, bytes) in network.seen.drain(..) {
            if side == GATEWAY {
                let before = used.insert(Message::decode(&bytes).unwrap().id, at_ms);
                assert!(before.is_none_or(|before| at_ms - before > 247_000));
            }
        }
        network.ends[GATEWAY].events.clear();
        network.ends[NODE].asked.clear();
        network.run(235_000);
    }
    // In each lifetime of them as many as there may be, and those that waited.
    assert!(used.len() > 31_900, "{}", used.len());
}

#[test]
fn the_timer_of_nobody_is_none() {
    let mut network = Network::new(15);
    assert_eq!(network.ends[GATEWAY].exchange.deadline_ms(), None);
    let mut out = Output::default();
    network.ends[GATEWAY].exchange.timer(1_000_000, &mut out);
    assert!(out.datagrams.is_empty() && out.events.is_empty());
}
