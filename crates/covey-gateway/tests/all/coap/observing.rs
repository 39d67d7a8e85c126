//! Resources that are observed (RFC 7641).

use covey_gateway::coap::exchange::{Event, ObservationEnd, Request, RequestId, Response, Unobserve};
use covey_gateway::coap::message::{Code, Draft, Kind, Message, Token, option};

use super::network::{Answering, GATEWAY, NODE, Network, body};

fn observing() -> Request {
    Request { observe: true, ..Request::get("t") }
}

struct Node {
    network: Network,
    observation: RequestId,
    token: Token,
    last_id: u16,
}

impl Node {
    /// A node that has answered a request to observe; its messages are written by the test.
    fn new(sequence: u32, max_age_s: u32) -> Self {
        let mut network = Network::new(1);
        network.lost = 100;
        let observation = network.request(GATEWAY, observing()).unwrap();
        let asked = network.seen.last().unwrap().2.clone();
        let asked = Message::decode(&asked).unwrap();
        assert_eq!(asked.number(option::OBSERVE), Ok(Some(0)));
        let mut node = Self { network, observation, token: asked.token, last_id: 100 };
        node.answer(asked.id, Some(sequence), max_age_s, "first");
        assert!(matches!(
            &node.network.ends[GATEWAY].events[..],
            [Event::Answered { is_observed: true, response, .. }] if response.payload == b"first"
        ));
        node.network.ends[GATEWAY].events.clear();
        node
    }

    fn answer(&mut self, id: u16, sequence: Option<u32>, max_age_s: u32, text: &str) {
        let mut draft = Draft::new(Kind::Acknowledgement, Code::CONTENT, id, self.token);
        if let Some(sequence) = sequence {
            draft.number(option::OBSERVE, sequence);
        }
        draft.number(option::MAX_AGE, max_age_s);
        draft.payload = text.as_bytes();
        self.inject(&mut draft);
    }

    fn inject(&mut self, draft: &mut Draft<'_>) {
        let mut bytes = Vec::new();
        draft.encode(&mut bytes).unwrap();
        self.network.inject(GATEWAY, 5683, &bytes).unwrap();
    }

    fn notify(&mut self, kind: Kind, sequence: u32, text: &str) {
        self.last_id += 1;
        let mut draft = Draft::new(kind, Code::CONTENT, self.last_id, self.token);
        draft.number(option::OBSERVE, sequence);
        draft.payload = text.as_bytes();
        self.inject(&mut draft);
    }

    /// What the owner was told since.
    fn told(&mut self) -> Vec<String> {
        let events = std::mem::take(&mut self.network.ends[GATEWAY].events);
        let told = events.into_iter().map(|event| match event {
            Event::Notified { observation, response } if observation == self.observation => {
                String::from_utf8(response.payload).unwrap()
            }
            Event::Unobserved { observation, why } if observation == self.observation => match why {
                ObservationEnd::ByPeer(code) => format!("over {code}"),
                ObservationEnd::Failed(failure) => format!("over: {failure}"),
            },
            event => panic!("{event:?}"),
        });
        told.collect()
    }

    fn last_sent(&self) -> Vec<u8> {
        self.network.seen.last().unwrap().2.clone()
    }
}

#[test]
fn notifications_are_told_and_acknowledged_if_they_ask_for_it() {
    let mut node = Node::new(5, 60);
    node.notify(Kind::NonConfirmable, 6, "a");
    let sent = node.network.seen.len();
    node.notify(Kind::Confirmable, 9, "b");
    assert_eq!(node.told(), ["a", "b"]);
    assert_eq!(node.network.seen.len(), sent + 1);
    assert_eq!(node.last_sent(), Draft::empty(Kind::Acknowledgement, 102));
}

#[test]
fn older_ones_are_acknowledged_and_not_told() {
    let mut node = Node::new(5, 60);
    node.notify(Kind::Confirmable, 4, "old");
    node.notify(Kind::Confirmable, 5, "same");
    assert!(node.told().is_empty());
    assert_eq!(node.last_sent(), Draft::empty(Kind::Acknowledgement, 102));
    // Around the end of 24 bits.
    node.notify(Kind::NonConfirmable, 0x7F_FFFF, "a");
    node.notify(Kind::NonConfirmable, 0xFF_FFFE, "b");
    node.notify(Kind::NonConfirmable, 0, "c");
    node.notify(Kind::NonConfirmable, 0xFF_FFFE, "old");
    assert_eq!(node.told(), ["a", "b", "c"]);
}

#[test]
fn after_128_seconds_each_one_is_newer() {
    let mut node = Node::new(5, 600);
    node.network.run(128_000);
    node.notify(Kind::NonConfirmable, 4, "old");
    assert!(node.told().is_empty());
    node.network.run(1);
    node.notify(Kind::NonConfirmable, 4, "new");
    assert_eq!(node.told(), ["new"]);
}

#[test]
fn what_is_no_longer_fresh_is_asked_for_again_with_the_same_token() {
    let mut node = Node::new(5, 30);
    let sent = node.network.seen.len();
    node.network.run(34_999);
    assert_eq!(node.network.seen.len(), sent);
    node.network.run(10_001);
    let asked = node.network.seen[sent].2.clone();
    let asked = Message::decode(&asked).unwrap();
    assert_eq!((asked.token, asked.number(option::OBSERVE)), (node.token, Ok(Some(0))));
    node.answer(asked.id, Some(0), 30, "again");
    assert_eq!(node.told(), ["again"]);
    node.notify(Kind::NonConfirmable, 1, "next");
    assert_eq!(node.told(), ["next"]);
}

#[test]
fn a_node_that_tells_of_no_changes_any_more_is_no_longer_observed() {
    let mut node = Node::new(5, 30);
    let sent = node.network.seen.len();
    node.network.run(46_000);
    let asked = node.network.seen[sent].2.clone();
    node.answer(Message::decode(&asked).unwrap().id, None, 30, "value");
    assert_eq!(node.told(), ["value", "over 2.05"]);
    // By an error.
    let mut node = Node::new(5, 30);
    let mut draft = Draft::new(Kind::Confirmable, Code::NOT_FOUND, 1, node.token);
    node.inject(&mut draft);
    assert_eq!(node.told(), ["over 4.04"]);
    // By silence.
    let mut node = Node::new(5, 30);
    node.network.run(200_000);
    assert_eq!(node.told(), ["over: no answer came in time"]);
}

#[test]
fn a_node_that_does_not_observe_answers_once() {
    let mut network = Network::new(2);
    network.serve(NODE, |_| Answering::Now(Response::text(Code::CONTENT, "1")));
    network.request(GATEWAY, observing()).unwrap();
    network.run(10);
    assert!(matches!(network.ends[GATEWAY].events[..], [Event::Answered { is_observed: false, .. }]));
    network.run(200_000);
    assert_eq!(network.ends[GATEWAY].events.len(), 1);
}

#[test]
fn an_observation_is_given_up_with_a_word_or_by_reset() {
    let mut node = Node::new(5, 60);
    let observation = node.observation;
    let unobserve = |node: &mut Node, how| {
        node.network.act(GATEWAY, |exchange, now_ms, out| exchange.unobserve(observation, how, now_ms, out))
    };
    let sent = node.network.seen.len();
    assert!(unobserve(&mut node, Unobserve::Tell));
    assert!(!unobserve(&mut node, Unobserve::Tell));
    let asked = node.network.seen[sent].2.clone();
    let asked = Message::decode(&asked).unwrap();
    assert_eq!((asked.token, asked.number(option::OBSERVE)), (node.token, Ok(Some(1))));
    node.answer(asked.id, None, 60, "bye");
    assert!(node.told().is_empty());

    let mut node = Node::new(5, 60);
    let sent = node.network.seen.len();
    assert!(unobserve(&mut node, Unobserve::ByReset));
    assert_eq!(node.network.seen.len(), sent);
    let mut draft = Draft::new(Kind::NonConfirmable, Code::CONTENT, 77, node.token);
    draft.number(option::OBSERVE, 6);
    let mut bytes = Vec::new();
    draft.encode(&mut bytes).unwrap();
    assert!(node.network.inject(GATEWAY, 5683, &bytes).is_err());
    assert_eq!(node.last_sent(), Draft::empty(Kind::Reset, 77));
    assert!(node.told().is_empty());
}

#[test]
fn a_long_notification_is_fetched_and_a_newer_one_takes_its_place() {
    let mut node = Node::new(5, 60);
    let whole = body(150);
    let block = |node: &mut Node, sequence, number: u32, has_more: bool, id: Option<(u16, Token)>| {
        node.last_id += 1;
        let (kind, id, token) = match id {
            Some((id, token)) => (Kind::Acknowledgement, id, token),
            None => (Kind::NonConfirmable, node.last_id, node.token),
        };
        let mut draft = Draft::new(kind, Code::CONTENT, id, token);
        if kind == Kind::NonConfirmable {
            draft.number(option::OBSERVE, sequence);
        }
        draft.number(option::BLOCK2, number << 4 | u32::from(has_more) << 3 | 2);
        let from = usize::try_from(number).unwrap() * 64;
        draft.payload = &whole[from..(from + 64).min(150)];
        node.inject(&mut draft);
    };
    block(&mut node, 6, 0, true, None);
    let asked = node.last_sent();
    let first = Message::decode(&asked).unwrap();
    assert_ne!(first.token, node.token);
    assert_eq!(first.options.first(option::OBSERVE), None);
    // A newer one, before the second block has come.
    block(&mut node, 7, 0, true, None);
    let asked = node.last_sent();
    let second = Message::decode(&asked).unwrap();
    assert_ne!(first.token, second.token);
    block(&mut node, 0, 1, true, Some((second.id, second.token)));
    let asked = node.last_sent();
    let third = Message::decode(&asked).unwrap();
    block(&mut node, 0, 2, false, Some((third.id, third.token)));
    let events = std::mem::take(&mut node.network.ends[GATEWAY].events);
    assert!(matches!(&events[..], [Event::Notified { response, .. }] if response.payload == whole));
}

#[test]
fn what_is_forgotten_is_not_told_of() {
    let mut node = Node::new(5, 60);
    let address = node.observation.address();
    node.network.act(GATEWAY, |exchange, now_ms, out| exchange.forget(address, now_ms, out));
    node.network.run(300_000);
    assert!(node.told().is_empty());
}
