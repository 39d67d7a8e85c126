//! The events' queue against a model: events accepted, sent, acknowledged and put back in any
//! order, and crashes that lose or tear whatever was not yet durable.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

const SN: &str = "lamp-1";
const WIDE: Bounds = Bounds { entries_max: 64, bytes_max: 1 << 20 };

#[derive(Debug, Clone)]
enum Step {
    Accept {
        type_code: u32,
        body_bytes: usize,
    },
    Send,
    Acknowledge {
        which: usize,
    },
    PutBack,
    Disconnect,
    /// The process is killed, perhaps while it accepts an event: of what was queued and not
    /// durable this share (of 255) reached the file.
    Crash {
        accepting: bool,
        torn: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let type_code = prop_oneof![3 => Just(13_u32), 1 => Just(HEALTH_CHECK)];
    prop_oneof![
        6 => (type_code, 0_usize..300).prop_map(|(type_code, body_bytes)| Step::Accept { type_code, body_bytes }),
        5 => Just(Step::Send),
        4 => (0_usize..4).prop_map(|which| Step::Acknowledge { which }),
        1 => Just(Step::PutBack),
        1 => Just(Step::Disconnect),
        2 => (any::<bool>(), any::<u8>()).prop_map(|(accepting, torn)| Step::Crash { accepting, torn }),
    ]
}

struct Bench {
    dir: tempfile::TempDir,
    bounds: Bounds,
    events: Option<Events>,
    accepted: u32,
    /// What must be in the queue, by its content, and in this order.
    waiting: Vec<(u32, Bytes)>,
    /// What had its end: it may come back by a crash, and is sent once more then.
    ended: HashSet<(u32, Bytes)>,
    numbers: HashSet<u32>,
    on_the_way: Vec<EventOrder>,
}

fn new_event(type_code: u32, body: Bytes) -> NewEvent {
    let event = Event { number: 0, type_code, time_s: 7, correlation: None, body };
    NewEvent { event, number: None, is_sent_twice: false, outcome: oneshot::channel().0 }
}

impl Bench {
    fn new(bounds: Bounds) -> Self {
        let mut bench = Self {
            dir: tempfile::tempdir().unwrap(),
            bounds,
            events: None,
            accepted: 0,
            waiting: Vec::new(),
            ended: HashSet::new(),
            numbers: HashSet::new(),
            on_the_way: Vec::new(),
        };
        bench.open();
        bench
    }

    fn open(&mut self) {
        self.events = None;
        let place = Place { dir: self.dir.path().to_owned(), sync: false };
        let settings = EventSettings::default();
        let events = Events::open(&place, SN, self.bounds, settings, Counters::default()).unwrap();
        self.events = Some(events);
        self.on_the_way.clear();
    }

    fn events(&self) -> &Events {
        self.events.as_ref().unwrap()
    }

    fn queued(&self) -> Vec<(u32, Bytes)> {
        self.events().with_queue(|queue| {
            queue.iter().map(|entry| (entry.event.number, entry.event.body.clone())).collect()
        })
    }

    fn body(&mut self, body_bytes: usize) -> Bytes {
        self.accepted += 1;
        Bytes::from(format!("{{\"{}\":\"{}\"}}", self.accepted, "\n\"x".repeat(body_bytes / 3)))
    }

    /// Without fsync nothing is waited for.
    fn accept(&mut self, type_code: u32, body_bytes: usize) -> bool {
        let body = self.body(body_bytes);
        let before = self.queued();
        let Some(outcome) = self.events().accept(new_event(type_code, body.clone())).now_or_never() else {
            panic!("an event without fsync was waited for");
        };
        let Ok(number) = outcome else {
            assert_eq!(self.queued(), before, "a refused event changes nothing");
            return false;
        };
        assert!(self.numbers.insert(number), "the number {number} was given twice");
        self.waiting.push((number, body));
        self.forget_superseded();
        true
    }

    fn forget_superseded(&mut self) {
        let queued = self.queued();
        let (here, gone) = self.waiting.drain(..).partition(|known| queued.contains(known));
        self.waiting = here;
        let gone: Vec<_> = gone;
        assert!(gone.len() <= 1, "a gauge takes the place of one other");
        self.ended.extend(gone);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Accept { type_code, body_bytes } => {
                self.accept(type_code, body_bytes);
            }
            Step::Send => {
                let sent = self.events().with_queue(|queue| {
                    let order = queue.next()?.order;
                    queue.sent(order);
                    Some(order)
                });
                self.on_the_way.extend(sent);
            }
            Step::Acknowledge { which } if which < self.on_the_way.len() => {
                let order = self.on_the_way.remove(which);
                let known = self.events().with_queue(|queue| {
                    let event = &queue.get(order).unwrap().event;
                    let known = (event.number, event.body.clone());
                    assert_eq!(queue.acknowledged(order, false, Instant::now()), Some(EventOutcome::Stored));
                    known
                });
                self.events().ended(order, EventOutcome::Stored);
                self.waiting.retain(|other| *other != known);
                self.ended.insert(known);
            }
            Step::Acknowledge { .. } => {}
            Step::PutBack => {
                if let Some(order) = self.on_the_way.pop() {
                    self.events().with_queue(|queue| queue.put_back(order));
                }
            }
            Step::Disconnect => {
                self.events().with_queue(Queue::all_again);
                self.on_the_way.clear();
            }
            Step::Crash { accepting, torn } => self.crash(accepting, torn),
        }
    }

    fn crash(&mut self, accepting: bool, torn: u8) {
        let body = self.body(40);
        if accepting {
            // Where there is no room nothing is queued, which is a crash before the call.
            let _ = self.events().enqueue(new_event(13, body.clone()));
        }
        let (bytes, rewrite) = self.events().0.log.lock().take();
        let path = self.dir.path().join(format!("{SN}.events"));
        if !rewrite {
            let reached = bytes.len() * usize::from(torn) / 255;
            let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(&bytes[..reached]).unwrap();
        }
        self.open();
        // What is back and was accepted keeps its place; the rest is what was said to have ended,
        // and the event whose caller was never answered.
        let queued = self.queued();
        for known in &queued {
            assert!(
                self.waiting.contains(known) || self.ended.contains(known) || known.1 == body,
                "{known:?} was never accepted"
            );
        }
        let still: Vec<_> = queued.iter().filter(|known| self.waiting.contains(known)).cloned().collect();
        assert_eq!(still, self.waiting, "an accepted event was lost, or moved");
        for known in &queued {
            self.ended.remove(known);
            self.numbers.insert(known.0);
        }
        self.waiting = queued;
    }

    fn check(&self) {
        assert_eq!(self.queued(), self.waiting);
        self.events().with_queue(|queue| {
            assert!(queue.in_flight() == self.on_the_way.len());
            let orders: Vec<_> = queue.iter().map(|entry| entry.order).collect();
            assert!(orders.is_sorted());
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_accepted_event_is_lost_and_no_number_given_twice(steps in prop::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new(WIDE);
        for step in steps {
            bench.apply(step);
            bench.check();
        }
    }

    #[test]
    fn the_bounds_hold_and_what_is_on_its_way_is_never_dropped(
        lengths in prop::collection::vec((0_usize..900, any::<bool>()), 1..60),
        overflow in prop_oneof![Just(EventOverflow::Refuse), Just(EventOverflow::DropOldest)],
    ) {
        let bounds = Bounds { entries_max: 5, bytes_max: 2_048 };
        let mut queue = Queue::new(bounds, 1);
        let mut on_the_way = Vec::new();
        for (length, is_sent) in lengths {
            let body = Bytes::from(vec![b'x'; length]);
            let event = Event { number: 1, type_code: 13, time_s: 0, correlation: None, body };
            let before: Vec<_> = queue.iter().map(|entry| entry.order).collect();
            match queue.push(event, false, overflow, false, None) {
                Ok((order, room)) => {
                    queue.written(order);
                    prop_assert!(overflow == EventOverflow::DropOldest || room.dropped.is_empty());
                    // Those that were dropped are the oldest of those that could be.
                    let could: Vec<_> = before.iter().filter(|order| !on_the_way.contains(*order)).collect();
                    prop_assert!(room.dropped.iter().eq(could.into_iter().take(room.dropped.len())));
                }
                Err(_) => {
                    let after: Vec<_> = queue.iter().map(|entry| entry.order).collect();
                    prop_assert_eq!(before, after);
                }
            }
            prop_assert!(queue.len() <= bounds.entries_max && queue.bytes() <= bounds.bytes_max);
            if is_sent && let Some(order) = queue.next().map(|entry| entry.order) {
                queue.sent(order);
                on_the_way.push(order);
            }
            prop_assert!(on_the_way.iter().all(|order| queue.get(*order).is_some()));
        }
    }
}

#[test]
fn an_event_without_its_eva_is_sent_again_later_and_later_and_then_let_go() {
    let mut queue = Queue::new(WIDE, 5);
    let event = Event { number: 5, type_code: 13, time_s: 0, correlation: None, body: Bytes::new() };
    let (order, _) = queue.push(event, false, EventOverflow::Refuse, false, None).unwrap();
    queue.written(order);
    let mut now = Instant::now();
    for wait_s in [10, 20, 40, 80] {
        queue.sent(order);
        assert_eq!(queue.acknowledged(order, true, now), None);
        assert!(queue.next().is_none());
        let wait = Duration::from_secs(wait_s);
        assert_eq!(queue.earliest_repeat(), Some(now + wait));
        queue.due(now + wait / 2);
        assert!(queue.next().is_none());
        now += wait;
        queue.due(now);
        assert_eq!(queue.next().unwrap().order, order);
    }
    assert_eq!(queue.sent_with(5, Some(14)), None);
    assert_eq!(queue.sent_with(5, Some(13)), Some(order));
    queue.sent(order);
    assert_eq!(queue.acknowledged(order, true, now), Some(EventOutcome::Unconfirmed));
    assert!(queue.is_empty());
}

#[test]
fn numbers_go_round_and_leave_out_zero() {
    let mut queue = Queue::new(WIDE, u32::MAX);
    assert_eq!([queue.take_number(), queue.take_number(), queue.take_number()], [u32::MAX, 1, 2]);
}

#[tokio::test]
async fn what_is_no_event_is_refused_with_a_reason() {
    let events = Events::in_memory(
        Bounds { entries_max: 1, bytes_max: 1 << 20 },
        EventSettings::default(),
        Counters::default(),
    );
    let refused = async |draft: EventDraft| draft.send().await.unwrap_err();
    assert!(matches!(refused(events.event(13).payload(1)).await, EventError::NotAnObject));
    let map = HashMap::from([((1, 2), 3)]);
    assert!(matches!(refused(events.event(13).payload(&map)).await, EventError::Payload(_)));
    assert!(matches!(refused(events.report("led", &map)).await, EventError::Payload(_)));
    assert!(matches!(refused(events.event(u32::MAX)).await, EventError::TypeCode { .. }));
    let large = serde_json::json!({ "text": "x".repeat(EVENT_BODY_BYTES_MAX) });
    assert!(matches!(refused(events.event(13).payload(large)).await, EventError::TooLarge { .. }));
    let ticket = events.event(13).number(9).at(3).send().await.unwrap();
    assert_eq!((ticket.number(), ticket.time_s()), (9, 3));
    let full = refused(events.event(13)).await;
    assert!(full.to_string().contains("event_queue_entries_max"), "{full}");
    events.stop();
    assert!(matches!(refused(events.event(13)).await, EventError::Stopped));
    assert_eq!(ticket.outcome().await, EventOutcome::Unsent);
}
