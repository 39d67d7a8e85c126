//! Two exchange layers and a network between them that loses, repeats and delays, in simulated time.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use covey_gateway::coap::exchange::{
    Asked, Dropped, Event, Exchange, Failure, Incoming, Output, Receipt, Refused, Request, RequestId,
    Response, Terms,
};
use covey_gateway::coap::message::{Code, Kind, Message};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Which of the two.
pub type Side = usize;
pub const GATEWAY: Side = 0;
pub const NODE: Side = 1;

/// What an end does with a request.
pub enum Answering {
    Now(Response),
    After(u64, Response),
    Never,
}

pub struct End {
    pub exchange: Exchange,
    pub address: SocketAddr,
    /// Whether the other takes its address as proven.
    pub is_proven: bool,
    pub serve: Box<dyn FnMut(&Asked) -> Answering>,
    /// What happened but requests.
    pub events: Vec<Event>,
    /// The paths that were asked for, each time.
    pub asked: Vec<String>,
    pub dropped: Vec<Dropped>,
    late: BTreeMap<(u64, u64), (Receipt, Response)>,
}

pub struct Network {
    pub ends: [End; 2],
    pub now_ms: u64,
    /// Of 100 datagrams, how many are lost, and how many come twice.
    pub lost: u32,
    pub twice: u32,
    /// How long one takes at most.
    pub delay_ms: u64,
    /// What went over the network, lost or not: when, from which side, the bytes.
    pub seen: Vec<(u64, Side, Vec<u8>)>,
    random: StdRng,
    last_number: u64,
    under_way: BTreeMap<(u64, u64), (Side, Vec<u8>)>,
}

impl Network {
    pub fn new(seed: u8) -> Self {
        Self::with(seed, Terms::default())
    }

    pub fn with(seed: u8, terms: Terms) -> Self {
        let end = |side: u8, address: &str| End {
            exchange: Exchange::new(terms, [seed.wrapping_mul(2).wrapping_add(side); 32]),
            address: address.parse().unwrap(),
            is_proven: true,
            serve: Box::new(|_| Answering::Now(Response::new(Code::NOT_FOUND))),
            events: Vec::new(),
            asked: Vec::new(),
            dropped: Vec::new(),
            late: BTreeMap::new(),
        };
        Self {
            ends: [end(0, "[2001:db8::1]:5683"), end(1, "[2001:db8::2]:5683")],
            now_ms: 1_000,
            lost: 0,
            twice: 0,
            delay_ms: 0,
            seen: Vec::new(),
            random: StdRng::seed_from_u64(seed.into()),
            last_number: 0,
            under_way: BTreeMap::new(),
        }
    }

    pub fn serve(&mut self, side: Side, serve: impl FnMut(&Asked) -> Answering + 'static) {
        self.ends[side].serve = Box::new(serve);
    }

    pub fn request(&mut self, side: Side, request: Request) -> Result<RequestId, Refused> {
        let to = self.ends[1 - side].address;
        let is_proven = self.ends[1 - side].is_proven;
        self.act(side, |exchange, now_ms, out| exchange.request(to, is_proven, request, now_ms, out))
    }

    /// Does something with an exchange layer, and sends what comes of it.
    pub fn act<T>(&mut self, side: Side, act: impl FnOnce(&mut Exchange, u64, &mut Output) -> T) -> T {
        let mut out = Output::default();
        let done = act(&mut self.ends[side].exchange, self.now_ms, &mut out);
        self.flush(side, out);
        done
    }

    /// A datagram as if the other side had sent it.
    pub fn inject(&mut self, to: Side, port: u16, bytes: &[u8]) -> Result<(), Dropped> {
        let mut from = self.ends[1 - to].address;
        from.set_port(port);
        let is_proven = self.ends[1 - to].is_proven;
        self.act(to, |exchange, now_ms, out| {
            exchange.datagram(Incoming { from, to: None, is_proven, bytes }, now_ms, out)
        })
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn flush(&mut self, side: Side, mut out: Output) {
        for event in std::mem::take(&mut out.events) {
            let Event::Asked(asked) = event else {
                self.ends[side].events.push(event);
                continue;
            };
            self.ends[side].asked.push(asked.path.clone());
            match (self.ends[side].serve)(&asked) {
                Answering::Now(response) => {
                    let mut more = Output::default();
                    let is_open =
                        self.ends[side].exchange.respond(asked.receipt, response, self.now_ms, &mut more);
                    assert!(is_open && more.events.is_empty());
                    out.datagrams.append(&mut more.datagrams);
                }
                Answering::After(ms, response) => {
                    let key = (self.now_ms + ms, self.number());
                    self.ends[side].late.insert(key, (asked.receipt, response));
                }
                Answering::Never => {}
            }
        }
        for datagram in out.datagrams {
            self.seen.push((self.now_ms, side, datagram.bytes.clone()));
            let copies = if self.random.random_range(0..100) < self.twice { 2 } else { 1 };
            for _ in 0..copies {
                if self.random.random_range(0..100) < self.lost {
                    continue;
                }
                let at_ms = self.now_ms + self.random.random_range(0..=self.delay_ms);
                let key = (at_ms, self.number());
                // To one of its other ports nothing comes.
                if datagram.to == self.ends[1 - side].address {
                    self.under_way.insert(key, (1 - side, datagram.bytes.clone()));
                }
            }
        }
    }

    fn next_ms(&self) -> Option<u64> {
        let under_way = self.under_way.keys().next().map(|(at_ms, _)| *at_ms);
        let deadlines = self.ends.iter().filter_map(|end| end.exchange.deadline_ms());
        let late = self.ends.iter().filter_map(|end| end.late.keys().next().map(|(at_ms, _)| *at_ms));
        under_way.into_iter().chain(deadlines).chain(late).min()
    }

    /// Lets so much time pass.
    pub fn run(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while let Some(next_ms) = self.next_ms().filter(|next_ms| *next_ms <= until_ms) {
            self.now_ms = self.now_ms.max(next_ms);
            while let Some((&key, _)) =
                self.under_way.first_key_value().filter(|(key, _)| key.0 <= self.now_ms)
            {
                let (side, bytes) = self.under_way.remove(&key).unwrap();
                let (from, is_proven) = (self.ends[1 - side].address, self.ends[1 - side].is_proven);
                let incoming = Incoming { from, to: None, is_proven, bytes: &bytes };
                let taken = self.act(side, |exchange, now_ms, out| exchange.datagram(incoming, now_ms, out));
                if let Err(dropped) = taken {
                    self.ends[side].dropped.push(dropped);
                }
            }
            for side in [GATEWAY, NODE] {
                let late = &mut self.ends[side].late;
                if let Some((&key, _)) = late.first_key_value().filter(|(key, _)| key.0 <= self.now_ms) {
                    let (receipt, response) = late.remove(&key).unwrap();
                    self.act(side, |exchange, now_ms, out| exchange.respond(receipt, response, now_ms, out));
                }
                if self.ends[side].exchange.deadline_ms().is_some_and(|due_ms| due_ms <= self.now_ms) {
                    self.act(side, |exchange, now_ms, out| exchange.timer(now_ms, out));
                }
            }
        }
        self.now_ms = until_ms;
    }

    /// How a request ended, which must be once.
    pub fn end_of(&self, side: Side, request: RequestId) -> Result<&Response, Failure> {
        let ends: Vec<_> = self.ends[side].events.iter().filter_map(|event| ended(event, request)).collect();
        assert_eq!(ends.len(), 1, "{request:?} ended {} times", ends.len());
        ends[0]
    }

    /// What a side sent: kind, code, bytes.
    pub fn sent_by(&self, side: Side) -> Vec<(Kind, Code, usize)> {
        let of_side = self.seen.iter().filter(|(_, sender, _)| *sender == side);
        let read = |bytes: &Vec<u8>| {
            let message = Message::decode(bytes).unwrap();
            (message.kind, message.code, bytes.len())
        };
        of_side.map(|(_, _, bytes)| read(bytes)).collect()
    }
}

fn ended(event: &Event, wanted: RequestId) -> Option<Result<&Response, Failure>> {
    match event {
        Event::Answered { request, response, .. } if *request == wanted => Some(Ok(response)),
        Event::Failed { request, why } if *request == wanted => Some(Err(*why)),
        _ => None,
    }
}

/// A body of so many bytes that differs in each part.
pub fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| u8::try_from((index / 7 + index % 251) % 256).unwrap()).collect()
}
