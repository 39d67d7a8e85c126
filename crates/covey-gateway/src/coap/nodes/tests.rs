//! The nodes of a gateway on a network and a clock of our own: what they are asked, what is heard of them, and what the
//! port is told.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Instant, sleep};

use super::super::driver::Side;
use super::super::exchange::{Datagram, Incoming};
use super::super::message::{Draft, Kind, Message, Token, option};
use super::*;
use crate::node::{Outcome, Verdict, Write};
use crate::port::{Hint, Later, Newcomer, Report, Reported};

const KEY: &str = "000102030405060708090a0b0c0d0e0f";

/// A port to which all may come but those that it refuses, and that writes down what it is told.
#[derive(Default)]
struct Book {
    refused: HashSet<&'static str>,
    to_write: Mutex<Vec<(&'static str, Write<()>)>>,
    resets: Mutex<Vec<String>>,
    values: Mutex<BTreeMap<(String, String), String>>,
    finished: Mutex<Vec<(String, Outcome)>>,
}

fn ready<T: Send + 'static>(what: T) -> Later<T> {
    Box::pin(std::future::ready(what))
}

impl Port for Book {
    type Node = Arc<str>;
    type Write = ();

    fn join(&self, newcomer: Newcomer) -> Later<Verdict<Arc<str>>> {
        let is_refused = self.refused.contains(&*newcomer.uid);
        ready(if is_refused { Verdict::Refused("blocked") } else { Verdict::Joined(newcomer.uid) })
    }

    fn came(&self, _: &Arc<str>, _: &Arc<str>, _: u64, _: &str) {}

    fn reset(&self, node: &Arc<str>) {
        self.resets.lock().unwrap().push(node.to_string());
    }

    fn report(&self, reports: Vec<Report<Arc<str>>>) -> Later<Vec<Reported>> {
        let stored = vec![Reported::Stored; reports.len()];
        for Report { node, values } in reports {
            let values =
                values.into_iter().map(|(name, value)| ((node.to_string(), name), value.to_string()));
            self.values.lock().unwrap().extend(values);
        }
        ready(stored)
    }

    fn went(&self, _: &Arc<str>, _: u64, _: Gone) -> Later<()> {
        ready(())
    }

    fn next_write(&self, node: &Arc<str>, _: u64) -> Later<Option<Write<()>>> {
        let mut to_write = self.to_write.lock().unwrap();
        let place = to_write.iter().position(|(uid, _)| **uid == **node);
        ready(place.map(|place| to_write.remove(place).1))
    }

    fn finish(&self, node: &Arc<str>, (): (), outcome: Outcome) -> Later<()> {
        self.finished.lock().unwrap().push((node.to_string(), outcome));
        ready(())
    }

    fn next_hint(&self) -> Later<Hint> {
        Box::pin(std::future::pending())
    }
}

/// What somebody at an address answers, and what he was asked.
#[derive(Default)]
struct Device {
    links: &'static str,
    values: BTreeMap<String, &'static str>,
    is_silent: bool,
    /// What it does not answer.
    silent: HashSet<&'static str>,
    /// Of what it tells by itself.
    tells_of: HashSet<&'static str>,
    put_code: Option<Code>,
    /// Method, path, and whether Observe was asked for.
    asked: Vec<(Code, String, bool)>,
    /// What it puts off: the message, its method and path.
    open: Vec<(Token, Code, String)>,
}

impl Device {
    fn new(links: &'static str) -> Self {
        Self { links, ..Self::default() }
    }

    /// How often it was asked for a path with GET, and how often to tell of it by itself.
    fn gets(&self, path: &str) -> (usize, usize) {
        let gets = self.asked.iter().filter(|(code, asked, _)| *code == Code::GET && asked == path);
        (gets.clone().count(), gets.filter(|(_, _, observe)| *observe).count())
    }

    fn answer(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let message = Message::decode(bytes).unwrap();
        if self.is_silent || matches!(message.kind, Kind::Acknowledgement | Kind::Reset) {
            return None;
        }
        if message.code == Code::EMPTY {
            return Some(Draft::empty(Kind::Reset, message.id).to_vec());
        }
        let observe = message.number(option::OBSERVE).unwrap();
        let segments = message.options.iter().filter(|(number, _)| *number == option::URI_PATH);
        let path =
            segments.map(|(_, value)| std::str::from_utf8(value).unwrap()).collect::<Vec<_>>().join("/");
        self.asked.push((message.code, path.clone(), observe == Some(0)));
        if self.silent.contains(&*path) {
            self.open.push((message.token, message.code, path));
            return Some(Draft::empty(Kind::Acknowledgement, message.id).to_vec());
        }
        let block1 = message.block(option::BLOCK1).unwrap();
        let code = match message.code {
            Code::PUT if block1.is_some_and(|block| block.has_more) => Code::CONTINUE,
            Code::PUT => self.put_code.unwrap_or(Code::CHANGED),
            _ => Code::CONTENT,
        };
        let mut draft = Draft::new(Kind::Acknowledgement, code, message.id, message.token);
        if let Some(block) = block1.filter(|_| code == Code::CONTINUE) {
            draft.number(option::BLOCK1, block.value());
        }
        if observe == Some(0) && self.tells_of.contains(&*path) {
            draft.number(option::OBSERVE, 1);
        }
        draft.payload = match &*path {
            _ if message.code == Code::PUT => b"",
            ".well-known/core" => self.links.as_bytes(),
            path => self.values.get(path).copied().unwrap_or("0").as_bytes(),
        };
        let mut bytes = Vec::new();
        draft.encode(&mut bytes).unwrap();
        Some(bytes)
    }

    /// What it has put off it does now.
    fn answer_late(&mut self, id: u16) -> Vec<u8> {
        let (token, code, _) = self.open.remove(0);
        let code = if code == Code::PUT { Code::CHANGED } else { Code::CONTENT };
        let mut bytes = Vec::new();
        Draft::new(Kind::NonConfirmable, code, id, token).encode(&mut bytes).unwrap();
        bytes
    }
}

struct Bed {
    nodes: Nodes<Book>,
    port: Arc<Book>,
    counts: Arc<Counts>,
    plain: Side,
    secure: Side,
    commands: mpsc::Receiver<Command>,
    devices: HashMap<SocketAddr, Device>,
    /// What was answered to nodes.
    answered: Vec<Code>,
    start: Instant,
    last_id: u16,
    _hand: Arc<Hand<Book>>,
}

fn at(number: u8) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0, 0, 0xFFFF, 0xC000, 0x200 | u16::from(number)], PORT))
}

impl Bed {
    fn new(port: Book, keys: Option<&str>) -> Self {
        let port = Arc::new(port);
        let gateway = Gateway::new(Arc::clone(&port), habits(Duration::from_secs(120)));
        let (sender, commands) = mpsc::channel(1_000);
        let hand = Arc::new(Hand { gateway: Arc::clone(&gateway), sender: sender.clone() });
        gateway.speak(&hand);
        let counts = Arc::<Counts>::default();
        let keys = keys.map(|text| Arc::new(Keys::parse(text).unwrap()));
        let terms = Terms { echo: RECEIVED, ..Terms::default() };
        Self {
            nodes: Nodes::new(gateway, sender, keys, Arc::clone(&counts)),
            port,
            counts,
            plain: Side::new(Exchange::new(terms, [1; 32])),
            secure: Side::new(Exchange::new(terms.of_sessions(), [2; 32])),
            commands,
            devices: HashMap::new(),
            answered: Vec::new(),
            start: Instant::now(),
            last_id: 0,
            _hand: hand,
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Nodes<Book>, &mut Coap<'_>) -> T) -> T {
        let now_ms = self.now_ms();
        let Self { nodes, plain, secure, .. } = self;
        act(nodes, &mut Coap { plain, secure, now: Instant::now(), now_ms })
    }

    /// A datagram comes.
    fn comes(&mut self, from: SocketAddr, bytes: &[u8], has_session: bool) {
        let now_ms = self.now_ms();
        let address = if has_session { Address::of_session(from) } else { Address::of(from) };
        let is_proven = has_session || self.nodes.is_proven(address);
        let Side { exchange, out } = if has_session { &mut self.secure } else { &mut self.plain };
        let _ = exchange.datagram(Incoming { from, to: None, is_proven, bytes }, now_ms, out);
    }

    /// Lets happen what happens without time.
    async fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            let mut events = std::mem::take(&mut self.plain.out.events);
            events.append(&mut self.secure.out.events);
            let mut commands = Vec::new();
            while let Ok(command) = self.commands.try_recv() {
                commands.push(command);
            }
            let datagrams = std::mem::take(&mut self.plain.out.datagrams).into_iter().map(|it| (it, false));
            let sealed = std::mem::take(&mut self.secure.out.datagrams).into_iter().map(|it| (it, true));
            let datagrams: Vec<(Datagram, bool)> = datagrams.chain(sealed).collect();
            let is_quiet = events.is_empty() && commands.is_empty() && datagrams.is_empty();
            for event in events {
                self.with(|nodes, coap| nodes.happened(event, coap));
            }
            for command in commands {
                self.with(|nodes, coap| nodes.told(command, coap));
            }
            for (Datagram { to, bytes, .. }, has_session) in datagrams {
                let message = Message::decode(&bytes).unwrap();
                if message.kind == Kind::Acknowledgement && message.code != Code::EMPTY {
                    self.answered.push(message.code);
                } else if let Some(answer) =
                    self.devices.get_mut(&to).and_then(|device| device.answer(&bytes))
                {
                    self.comes(to, &answer, has_session);
                }
            }
            // On a clock that stands still as long as anything can be done, all of it is done; what is gathered is told.
            sleep(Duration::from_millis(TOGETHER_MS + 1)).await;
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
    }

    /// Time passes, and with it what is due.
    async fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms() + ms;
        loop {
            let sides = [&self.plain, &self.secure];
            let due_ms =
                sides.iter().filter_map(|side| side.exchange.deadline_ms()).min().unwrap_or(u64::MAX);
            let now_ms = self.now_ms();
            sleep(Duration::from_millis(due_ms.clamp(now_ms, until_ms.max(now_ms)) - now_ms)).await;
            let now_ms = self.now_ms();
            for Side { exchange, out } in [&mut self.plain, &mut self.secure] {
                exchange.timer(now_ms, out);
            }
            self.settle().await;
            if self.now_ms() >= until_ms {
                return;
            }
        }
    }

    async fn post(&mut self, from: SocketAddr, path: &str, body: &str, has_session: bool) {
        self.last_id += 1;
        let mut draft = Draft::new(Kind::Confirmable, Code::POST, self.last_id, Token::default());
        draft.option(option::URI_PATH, path.as_bytes());
        draft.payload = body.as_bytes();
        let mut bytes = Vec::new();
        draft.encode(&mut bytes).unwrap();
        self.comes(from, &bytes, has_session);
        self.settle().await;
    }

    async fn alive(&mut self, number: u8, body: &str) {
        self.post(at(number), "alive", body, false).await;
    }

    async fn say(&mut self, number: u8, body: &str) {
        self.post(at(number), "server", body, false).await;
    }

    async fn open(&mut self, number: u8, name: &str) {
        let identity = Arc::clone(self.nodes.keys.as_ref().unwrap().find(name.as_bytes()).unwrap());
        let address = Address::of_session(at(number));
        self.with(|nodes, coap| {
            coap.forget(address);
            nodes.opened(address, identity, coap);
        });
        self.settle().await;
    }

    fn device(&mut self, number: u8) -> &mut Device {
        self.devices.entry(at(number)).or_default()
    }

    fn value(&self, uid: &str, resource: &str) -> Option<String> {
        self.port.values.lock().unwrap().get(&(uid.to_owned(), resource.to_owned())).cloned()
    }

    fn address_of(&self, uid: &str) -> SocketAddr {
        self.nodes.by_uid.get(uid).unwrap().address.at(PORT)
    }

    fn resets(&self) -> Vec<String> {
        self.port.resets.lock().unwrap().clone()
    }

    fn count(&self, count: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        count(&self.counts).load(Ordering::Relaxed)
    }
}

fn write(resource: &str, json: &str) -> Write<()> {
    Write { id: (), values: vec![(resource.to_owned(), Arc::from(json))], until_ms: 1_000_000_000 }
}

/// A node `1234` at address 1, alive.
async fn with_node(port: Book, device: Device) -> Bed {
    let mut bed = Bed::new(port, None);
    bed.devices.insert(at(1), device);
    bed.alive(1, "alive:1234").await;
    bed
}

#[test]
fn the_uid_is_what_follows_the_last_colon_and_only_reset_begins_anew() {
    assert_eq!(uid_of(b"alive:1234"), Some(("1234", false)));
    assert_eq!(uid_of(b"Alive:1234"), Some(("1234", false)));
    assert_eq!(uid_of(b"reset:a:b"), Some(("b", true)));
    for wrong in [&b""[..], b"alive", b"alive:", b"alive:\x00", b"alive:\xff"] {
        assert_eq!(uid_of(wrong), None, "{wrong:?}");
    }
}

#[test]
fn only_changed_is_the_success_of_a_write() {
    assert_eq!(status(Code::CONTENT), 502);
    assert_eq!(status(Code::NOT_FOUND), 404);
    assert_eq!(status(Code::SERVICE_UNAVAILABLE), 503);
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_observed_no_more_is_asked_for_when_its_node_is_alive() {
    let device = Device { tells_of: ["led"].into(), ..Device::new("</led>;obs") };
    let mut bed = with_node(Book::default(), device).await;
    assert_eq!((bed.value("1234", "led").as_deref(), bed.device(1).gets("led")), (Some("\"0\""), (1, 1)));
    // It is silent until the observation could not be renewed; then it is there again.
    bed.device(1).is_silent = true;
    bed.pass(200_000).await;
    assert_eq!(bed.count(|counts| &counts.not_observed), 1);
    bed.device(1).is_silent = false;
    bed.device(1).values.insert("led".to_owned(), "1");
    bed.alive(1, "alive:1234").await;
    assert_eq!((bed.value("1234", "led").as_deref(), bed.device(1).gets("led")), (Some("\"1\""), (2, 2)));
    // It is observed again, so that another sign of life asks for nothing.
    bed.alive(1, "alive:1234").await;
    assert_eq!(bed.device(1).gets("led"), (2, 2));
    assert!(bed.resets().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_was_asked_for_in_vain_is_asked_for_again_later_and_later() {
    let mut device = Device { silent: ["led"].into(), ..Device::new("</led>,</name>") };
    device.values.insert("name".to_owned(), "roof");
    let mut bed = with_node(Book::default(), device).await;
    let mut asked_at = vec![0];
    for alive in 0..16 {
        bed.pass(PATIENCE_MS + 1_000).await;
        let before = bed.device(1).gets("led").0;
        bed.alive(1, "alive:1234").await;
        if bed.device(1).gets("led").0 > before {
            asked_at.push(alive + 1);
        }
    }
    assert_eq!(asked_at, [0, 1, 3, 7, 15]);
    assert_eq!(bed.device(1).gets("name").0, 1, "what was answered is not asked again");
    bed.device(1).silent.clear();
    bed.pass(PATIENCE_MS + 1_000).await;
    assert_eq!(bed.count(|counts| &counts.not_read), 5);
    for _ in 0..16 {
        bed.alive(1, "alive:1234").await;
    }
    assert_eq!(bed.value("1234", "led").as_deref(), Some("\"0\""));
}

#[tokio::test(start_paused = true)]
async fn what_can_be_observed_by_nobody_any_more_is_read() {
    let links: String = (0..64).map(|number| format!("</r{number}>;obs,")).collect();
    let links: &'static str = links.leak();
    let names = (0..64).map(|number| &*format!("r{number}").leak());
    let device = Device { tells_of: names.collect(), ..Device::new(links) };
    let mut bed = with_node(Book::default(), device).await;
    assert_eq!(bed.device(1).gets("r63"), (1, 1));
    bed.device(1).links = "</led>;obs";
    bed.alive(1, "alive:5678").await;
    assert_eq!((bed.value("5678", "led").as_deref(), bed.device(1).gets("led")), (Some("\"0\""), (1, 0)));
    assert_eq!(bed.count(|counts| &counts.not_observed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_moves_only_if_it_does_not_answer_where_it_was() {
    // Whoever else says its uid has to wait for the answer of the first address.
    let mut bed = with_node(Book::default(), Device::new("</led>")).await;
    for body in ["alive:1234", "reset:1234"] {
        bed.device(1).is_silent = true;
        bed.alive(2, "alive:1234").await;
        bed.alive(1, body).await;
        bed.pass(120_000).await;
        assert_eq!(bed.address_of("1234"), at(1), "{body}: it has said that it is there");
        bed.device(1).is_silent = false;
        bed.alive(1, "alive:1234").await;
    }
    bed.device(1).is_silent = true;
    bed.alive(2, "alive:1234").await;
    bed.with(|_, coap| coap.forget(Address::of(at(1))));
    bed.settle().await;
    assert_eq!(bed.address_of("1234"), at(1), "a ping that was given up says nothing");
    bed.alive(2, "alive:1234").await;
    bed.pass(120_000).await;
    assert_eq!(bed.address_of("1234"), at(2), "it is there no more");
    assert_eq!(bed.resets(), ["1234"], "it was told once");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_could_not_move_can_be_asked_again_whether_it_is_there() {
    let mut bed = with_node(Book::default(), Device::new("</led>")).await;
    // All uids that there may be are at the second address.
    for number in 0..UIDS_PER_ADDRESS_MAX {
        bed.alive(2, &format!("alive:other-{number}")).await;
        bed.alive(2, &format!("alive:other-{number}")).await;
    }
    bed.device(1).is_silent = true;
    bed.alive(2, "alive:1234").await;
    bed.pass(120_000).await;
    assert_eq!(bed.address_of("1234"), at(1));
    bed.alive(3, "alive:1234").await;
    bed.pass(120_000).await;
    assert_eq!(bed.address_of("1234"), at(3));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_for_whom_there_is_no_room_is_counted() {
    let mut bed = Bed::new(Book::default(), None);
    for number in 0..crate::node::NODES_MAX {
        bed.nodes.gateway.seen(&number.to_string(), "192.0.2.9");
    }
    for body in ["alive:new", "alive:new"] {
        bed.alive(1, body).await;
    }
    assert_eq!(bed.count(|counts| &counts.no_room), 1);
    assert!(bed.nodes.by_uid.is_empty() && bed.nodes.by_address.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_whose_address_is_proven_late_takes_no_node_from_another_address() {
    let mut bed = Bed::new(Book::default(), None);
    bed.alive(2, "alive:1234").await;
    bed.devices.insert(at(1), Device::new("</led>"));
    bed.alive(1, "alive:1234").await;
    assert_eq!(bed.address_of("1234"), at(1));
    bed.say(2, "led:66").await;
    assert_eq!(bed.address_of("1234"), at(1));
    assert_eq!(bed.value("1234", "led").as_deref(), Some("\"0\""));
}

#[tokio::test(start_paused = true)]
async fn only_a_body_that_begins_with_reset_is_told_as_a_reset() {
    let device = Device { silent: [".well-known/core"].into(), ..Device::new("</led>") };
    let mut bed = with_node(Book::default(), device).await;
    for asked in 2..5 {
        bed.pass(PATIENCE_MS + 1_000).await;
        bed.alive(1, "alive:1234").await;
        assert_eq!(bed.device(1).gets(".well-known/core").0, asked, "it is asked again");
    }
    assert!(bed.resets().is_empty());
    bed.alive(1, "reset:1234").await;
    assert_eq!(bed.resets(), ["1234"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_keeps_is_answered_and_counted() {
    let mut bed = Bed::new(Book { refused: ["bad"].into(), ..Book::default() }, None);
    bed.say(1, "led:1").await;
    assert_eq!((bed.answered.pop(), bed.count(|counts| &counts.not_kept)), (Some(Code::CHANGED), 1));
    bed.devices.insert(at(1), Device::new(""));
    for body in ["alive:1234", "alive:bad"] {
        bed.alive(1, body).await;
    }
    bed.say(1, "led:2").await;
    assert_eq!((bed.answered.pop(), bed.count(|counts| &counts.not_kept)), (Some(Code::CHANGED), 2));
    bed.alive(1, "alive:1234").await;
    bed.say(1, "led:3").await;
    assert_eq!(
        (bed.value("1234", "led").as_deref(), bed.count(|counts| &counts.not_kept)),
        (Some("\"3\""), 2)
    );
}

#[tokio::test(start_paused = true)]
async fn when_who_spoke_last_has_gone_the_one_before_it_speaks() {
    let mut bed = with_node(Book::default(), Device::new("")).await;
    bed.alive(1, "alive:5678").await;
    bed.alive(1, "alive:9").await;
    bed.alive(1, "alive:1234").await;
    bed.nodes.gateway.gone("1234", Gone::Revoked);
    bed.settle().await;
    bed.say(1, "led:1").await;
    assert_eq!(bed.value("9", "led").as_deref(), Some("\"1\""));
    assert_eq!(bed.count(|counts| &counts.not_kept), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_can_be_of_one_node_alone_is_that_node_with_its_first_value() {
    let mut bed = Bed::new(Book::default(), Some(&format!("1234:{KEY}\nroof:{KEY}:20,21\n")));
    for number in [1, 2] {
        bed.open(number, "1234").await;
        bed.post(at(number), "server", &format!("led:{number}"), true).await;
        assert_eq!(bed.value("1234", "led"), Some(format!("\"{number}\"")));
        assert_eq!(bed.address_of("1234"), at(number));
    }
    // The first session has spoken, and does not take it back without a sign of life.
    bed.post(at(1), "server", "led:66", true).await;
    assert_eq!((bed.value("1234", "led").as_deref(), bed.address_of("1234")), (Some("\"2\""), at(2)));
    bed.open(3, "roof").await;
    bed.post(at(3), "server", "led:66", true).await;
    assert_eq!(bed.count(|counts| &counts.not_kept), 2);
    assert!(bed.resets().is_empty(), "another session is no reset");
    bed.open(1, "1234").await;
    bed.post(at(1), "alive", "reset:1234", true).await;
    assert_eq!(bed.resets(), ["1234"]);
}

#[tokio::test(start_paused = true)]
async fn what_one_node_says_ends_nothing_of_another_at_its_address() {
    let device =
        Device { silent: ["led"].into(), tells_of: ["button"].into(), ..Device::new("</button>;obs") };
    let port = Book::default();
    port.to_write.lock().unwrap().push(("5678", write("led", "\"1\"")));
    let mut bed = with_node(port, device).await;
    bed.alive(1, "alive:5678").await;
    assert_eq!(bed.device(1).gets("button"), (2, 2));
    assert_eq!(bed.device(1).open.len(), 1, "the write of 5678 has no answer yet");
    bed.alive(1, "reset:1234").await;
    assert_eq!(bed.device(1).gets("button"), (3, 3), "1234 is asked anew");
    bed.nodes.gateway.gone("1234", Gone::Silent);
    bed.settle().await;
    let answer = bed.device(1).answer_late(7_000);
    bed.comes(at(1), &answer, false);
    bed.settle().await;
    let finished = bed.port.finished.lock().unwrap().clone();
    assert_eq!(finished, [("5678".to_owned(), Outcome { status: 200, body: r#"{"led":"1"}"#.to_owned() })]);
    // What it observes is renewed, and of who has gone nothing is asked.
    bed.pass(80_000).await;
    assert_eq!(bed.device(1).gets("button"), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn created_is_the_success_of_a_write_in_blocks_alone() {
    let long = format!("\"{}\"", "x".repeat(BlockSize::MAX.bytes() + 1));
    for (value, status) in [(&*long, 200), ("\"1\"", 502)] {
        let port = Book::default();
        port.to_write.lock().unwrap().push(("1234", write("led", value)));
        let bed = with_node(port, Device { put_code: Some(Code::CREATED), ..Device::new("") }).await;
        let finished = bed.port.finished.lock().unwrap();
        assert_eq!(finished.iter().map(|(_, outcome)| outcome.status).collect::<Vec<_>>(), [status]);
        assert_eq!(bed.value("1234", "led").as_deref(), (status == 200).then_some(value));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_a_string_as_whatever_a_node_says() {
    for (written, kept) in [("1", r#""1""#), (r#""1""#, r#""1""#), (r#"{"a":1}"#, r#""{\"a\":1}""#)] {
        let port = Book::default();
        port.to_write.lock().unwrap().push(("1234", write("led", written)));
        let bed = with_node(port, Device::new("")).await;
        assert_eq!(bed.value("1234", "led").as_deref(), Some(kept));
        let body = bed.port.finished.lock().unwrap()[0].1.body.clone();
        assert_eq!(body, format!(r#"{{"led":{kept}}}"#));
    }
}
