//! Rubbish and messages with faults, also ones that fit what is under way: nothing panics, and bounds are kept.
//! `COVEY_COAP_MUTATIONS=20000000 cargo test --release -p covey-gateway mutation` tries more.

use std::net::SocketAddr;

use covey_gateway::coap::exchange::{
    Event, Exchange, Incoming, Output, Receipt, Request, Response, Terms, Unobserve,
};
use covey_gateway::coap::link_format;
use covey_gateway::coap::message::{Code, Message};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::network::{Answering, GATEWAY, NODE, Network, body};

/// How many datagrams with faults are tried unless the environment says otherwise.
const MUTATIONS: u64 = 100_000;

fn mutations() -> u64 {
    std::env::var("COVEY_COAP_MUTATIONS").map_or(MUTATIONS, |count| count.parse().unwrap())
}

/// Messages of all kinds, as two exchange layers send them to each other.
fn corpus() -> Vec<Vec<u8>> {
    let mut network = Network::new(1);
    for side in [GATEWAY, NODE] {
        network.serve(side, |asked| match asked.path.len() % 3 {
            0 => Answering::Now(Response { payload: body(700), ..Response::text(Code::CONTENT, "") }),
            1 => Answering::After(1_000, Response::text(Code::NOT_FOUND, "no")),
            _ => Answering::Now(Response::new(Code::CHANGED)),
        });
        for (index, path) in ["alive", "server", ".well-known/core", "a", "b/c", "dd"].iter().enumerate() {
            let mut request = Request::put(*path, body(index * 300));
            request.is_confirmable = index % 2 == 0;
            network.request(side, request).unwrap();
            network.request(side, Request { observe: true, ..Request::get(*path) }).unwrap();
        }
        let to = network.ends[1 - side].address;
        network.act(side, |exchange, now_ms, out| exchange.ping(to, now_ms, out)).unwrap();
    }
    network.run(200_000);
    network.seen.into_iter().map(|(.., bytes)| bytes).collect()
}

fn mutate(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(0..4) {
        let place = random.random_range(0..=bytes.len());
        match random.random_range(0..6) {
            0 => bytes.truncate(place),
            1 => bytes.insert(place, random.random()),
            2 if place < bytes.len() => bytes[place] = random.random(),
            3 if place < bytes.len() => bytes[place] ^= 1 << random.random_range(0..8),
            4 if place < bytes.len() => drop(bytes.remove(place)),
            5 => {
                let piece = bytes[place / 2..place].to_vec();
                bytes.extend(piece);
            }
            _ => {}
        }
    }
}

#[test]
fn datagrams_with_faults_do_no_harm() {
    let corpus = corpus();
    let mut random = StdRng::seed_from_u64(7);
    let terms = Terms { held_bytes_max: 2 * 1024 * 1024, stranger_bytes_max: 300_000, ..Terms::default() };
    let mut exchange = Exchange::new(terms, [7; 32]);
    let mut out = Output::default();
    let mut now_ms = 0;
    let mut receipts: Vec<Receipt> = Vec::new();
    let mut observations = Vec::new();
    let (mut begun, mut ended, mut answered, mut notified) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (mut taken, mut sent) = (0_u64, Vec::<(SocketAddr, Vec<u8>)>::new());
    let started = std::time::Instant::now();
    let count = mutations();
    for number in 0..count {
        now_ms += random.random_range(0..200);
        let peer = random.random_range(0..40_u32);
        let mut from: SocketAddr = format!("[2001:db8::{peer:x}]:{}", 5683 + number % 2).parse().unwrap();
        let is_proven = number % 3 > 0;
        // One of the corpus, or one that fits what was sent: its id and token.
        let mut bytes = corpus[random.random_range(0..corpus.len())].clone();
        if let Some((to, asked)) = sent.pop() {
            from = to;
            let again = asked.clone();
            let asked = Message::decode(&asked).unwrap();
            let token = asked.token.as_bytes();
            let is_apart = random.random_range(0..3) == 0;
            let mut answer = vec![(if is_apart { 0x40 } else { 0x60 }) | u8::try_from(token.len()).unwrap()];
            answer.push([0x45, 0x44, 0x5F, 0x84, 0x8D][random.random_range(0..5)]);
            answer.extend(asked.id.to_be_bytes());
            answer.extend(token);
            if random.random() {
                answer.extend([0x61, random.random()]);
            }
            // Block2 or Block1, as a part of a body or as its end.
            if random.random() {
                let delta = if answer.len() > 4 + token.len() { 17 } else { 23 };
                let number = random.random_range(0..4_u8) * random.random_range(0..2_u8);
                let size = [0x08, 0x0A, 0x0E, 0x02][random.random_range(0..4)];
                answer.extend([0xD1, delta - 13 + 4 * random.random_range(0..2_u8), number << 4 | size]);
            }
            answer.push(0xFF);
            answer.extend(vec![b'x'; [16, 64, 1_024, 5][random.random_range(0..4)]]);
            bytes = answer;
            if random.random_range(0..3) == 0 {
                sent.push((to, again));
            }
        }
        if random.random_range(0..4) > 0 {
            mutate(&mut bytes, &mut random);
        }
        let incoming = Incoming { from, to: None, is_proven, bytes: &bytes };
        taken += u64::from(exchange.datagram(incoming, now_ms, &mut out).is_ok());
        if number % 5 == 0 {
            let mut request = Request::put("a/b", body(random.random_range(0..3_000)));
            request.is_confirmable = random.random_range(0..4) > 0;
            if random.random() {
                request = Request { observe: random.random(), ..Request::get("a/b") };
            }
            request.patience_ms = random.random_range(1_000..200_000);
            begun += u64::from(exchange.request(from, is_proven, request, now_ms, &mut out).is_ok());
        }
        if random.random_range(0..3) == 0 {
            exchange.timer(now_ms, &mut out);
        }
        for event in std::mem::take(&mut out.events) {
            match event {
                Event::Asked(asked) => receipts.push(asked.receipt),
                Event::Answered { request, is_observed, .. } => {
                    ended += 1;
                    answered += 1;
                    if is_observed {
                        observations.push(request);
                    }
                }
                Event::Failed { .. } => ended += 1,
                Event::Notified { .. } => notified += 1,
                _ => {}
            }
        }
        if receipts.len() > 20 {
            let receipt = receipts.swap_remove(random.random_range(0..receipts.len()));
            let response =
                Response { payload: body(random.random_range(0..5_000)), ..Response::new(Code::CONTENT) };
            exchange.respond(receipt, response, now_ms, &mut out);
        }
        if observations.len() > 20 {
            let observation = observations.swap_remove(0);
            let how = if number % 2 == 0 { Unobserve::Tell } else { Unobserve::ByReset };
            exchange.unobserve(observation, how, now_ms, &mut out);
        }
        for datagram in out.datagrams.drain(..) {
            let message = Message::decode(&datagram.bytes).expect("what is sent is well-formed");
            assert!(datagram.bytes.len() < 1_200);
            if message.code.is_request() && sent.len() < 100 {
                sent.push((datagram.to, datagram.bytes));
            }
        }
        assert!(exchange.held_bytes() <= terms.held_bytes_max + 300_000, "{}", exchange.held_bytes());
        assert!(exchange.stranger_bytes() <= terms.stranger_bytes_max);
    }
    println!(
        "{count} datagrams, {taken} taken, {begun} requests, {answered} answered, {notified} notified, {:?}",
        started.elapsed()
    );
    assert!(taken > count / 10 && begun > count / 100 && answered > count / 100 && notified > 0);
    // All that was begun ends, and nothing is left.
    for _ in 0..2_000 {
        now_ms += 1_000;
        exchange.timer(now_ms, &mut out);
        out.datagrams.clear();
        for event in out.events.drain(..) {
            match event {
                Event::Answered { .. } | Event::Failed { .. } => ended += 1,
                Event::Notified { .. } | Event::Unobserved { .. } => {}
                event => panic!("{event:?}"),
            }
        }
    }
    assert_eq!(begun, ended);
    assert_eq!((exchange.peers(), exchange.held_bytes(), exchange.stranger_bytes()), (0, 0, 0));
}

#[test]
fn rubbish_is_read_as_no_links_or_as_some() {
    let mut random = StdRng::seed_from_u64(8);
    let text = br#"</a>;rt="x y";if=z;obs;sz=12,</b/c>;title="a, b; \"c\"",<coap://x/y>;ct="40",</.well-known/core>"#;
    for _ in 0..mutations() / 5 {
        let mut bytes = text.to_vec();
        for _ in 0..random.random_range(0..4) {
            mutate(&mut bytes, &mut random);
        }
        let links = link_format::parse(&bytes);
        assert!(links.links.len() + links.left_out <= bytes.len());
        let again = link_format::parse(link_format::print(&links.links).as_bytes());
        assert_eq!(again.links.len(), links.links.len());
        _ = link_format::resources(&bytes);
    }
}
