//! The queue against a model: whatever receivers answer and whenever the
//! server dies, nothing is lost, each device keeps its order, and nothing that
//! was settled is sent again.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::id::DeviceId;

const RETRY_MS: i64 = 60_000;
const CONCURRENCY: u32 = 3;
/// How many deliveries of a device are in memory: few, so that the others are read again and again.
const DELIVERIES_KEPT: usize = 3;

fn queue(
    position: RecordNumber,
    beyond: BTreeSet<RecordNumber>,
    circuit: CircuitState,
    now: UnixMs,
) -> Queue {
    let mut queue = Queue::new(CONCURRENCY, RETRY_MS, position, beyond, circuit, now);
    queue.deliveries_max = DELIVERIES_KEPT;
    queue
}

#[derive(Clone, Debug)]
enum Step {
    Record(i64),
    Unwanted,
    Send,
    Answer(usize, bool),
    Write,
    Wait(i64),
    Resend,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5_i64).prop_map(Step::Record),
        1 => Just(Step::Unwanted),
        6 => Just(Step::Send),
        6 => (0..4_usize, any::<bool>()).prop_map(|(which, is_good)| Step::Answer(which, is_good)),
        3 => Just(Step::Write),
        2 => (1..40_000_i64).prop_map(Step::Wait),
        1 => Just(Step::Resend),
        1 => Just(Step::Crash),
    ]
}

/// What survives a crash, and what a queue does with it.
struct World {
    outbox: BTreeMap<RecordNumber, (Option<DeviceKey>, UnixMs)>,
    rows: BTreeMap<RecordNumber, StoredDelivery>,
    position: RecordNumber,
    circuit: CircuitState,
    queue: Queue,
    fed: RecordNumber,
    now: UnixMs,
    on_its_way: Vec<Delivery>,
    /// What this run of the server has settled, or found settled.
    settled: BTreeSet<RecordNumber>,
    delivered: BTreeSet<RecordNumber>,
}

impl World {
    fn new() -> Self {
        let (now, position) = (UnixMs(1_000_000), RecordNumber(0));
        Self {
            outbox: BTreeMap::new(),
            rows: BTreeMap::new(),
            position,
            circuit: CircuitState::default(),
            queue: queue(position, BTreeSet::new(), CircuitState::default(), now),
            fed: position,
            now,
            on_its_way: Vec::new(),
            settled: BTreeSet::new(),
            delivered: BTreeSet::new(),
        }
    }

    fn record(&mut self, device: Option<i64>) {
        let number = RecordNumber(self.outbox.len() as i64 + 1);
        self.outbox.insert(number, (device.map(DeviceKey), self.now));
    }

    fn feed(&mut self) {
        let new: Vec<_> =
            self.outbox.range(RecordNumber(self.fed.0 + 1)..).map(|(n, it)| (*n, *it)).collect();
        for (number, (device, at)) in new {
            if let Some(device) = device {
                let unsent = UnixMs(0);
                let delivery = Delivery {
                    number,
                    device,
                    device_id: DeviceId(1),
                    deadline: unsent,
                    attempts: 0,
                    next_at: unsent,
                };
                self.queue.take_in(delivery, at, self.now);
            }
            self.queue.advance(number);
            self.fed = number;
        }
    }

    fn send(&mut self) {
        self.feed();
        self.queue.expire(self.now);
        self.note_dead();
        while let Some(Sending { delivery, .. }) = self.queue.next(self.now) {
            assert!(!self.settled.contains(&delivery.number), "{delivery:?} was settled");
            assert!(self.on_its_way.iter().all(|other| other.device != delivery.device), "two of a device");
            let is_older = |(number, (device, _)): &(&RecordNumber, &(Option<DeviceKey>, UnixMs))| {
                **number < delivery.number
                    && *device == Some(delivery.device)
                    && !self.settled.contains(number)
            };
            assert_eq!(self.outbox.iter().find(is_older), None, "is older than {delivery:?}");
            self.on_its_way.push(delivery);
            assert!(self.on_its_way.len() <= CONCURRENCY as usize);
        }
    }

    /// What the queue gave up while nobody was looking.
    fn note_dead(&mut self) {
        let dead = self.queue.progress.deliveries.iter();
        let dead =
            dead.filter(|(_, kept)| kept.as_ref().is_some_and(|kept| kept.state == DeliveryState::Dead));
        self.settled.extend(dead.map(|(number, _)| *number));
    }

    fn answer(&mut self, which: usize, is_good: bool) {
        if self.on_its_way.is_empty() {
            return;
        }
        let delivery = self.on_its_way.remove(which % self.on_its_way.len());
        let error = (!is_good).then(|| Arc::from("refused"));
        let attempt =
            Attempt { at: self.now, duration_ms: 1, status: None, error, asked_ms: None, is_hopeless: false };
        let outcome = self.queue.settle(delivery.device, attempt, self.now, 0);
        if outcome != Outcome::Retry {
            self.settled.insert(delivery.number);
        }
        if outcome == Outcome::Delivered {
            self.delivered.insert(delivery.number);
        }
        self.note_dead();
    }

    /// Writes what was done, then reads what is wanted of the store, while
    /// `meanwhile` happens.
    fn write(&mut self, meanwhile: impl FnOnce(&mut Self)) {
        let progress = self.queue.take_progress();
        for (number, kept) in progress.deliveries {
            match kept {
                Some(kept) => self.rows.insert(number, kept),
                None => self.rows.remove(&number),
            };
        }
        assert!(progress.position >= self.position, "the position never goes back");
        (self.position, self.circuit) = (progress.position, progress.circuit);
        let read: Vec<_> = self
            .queue
            .loads()
            .into_iter()
            .map(|(device, after)| {
                let deferred = self.rows.values().filter(|row| row.state == DeliveryState::Deferred);
                let of_device_queue =
                    deferred.filter(|row| row.delivery.device == device && row.delivery.number > after);
                let all: Vec<_> = of_device_queue.map(|row| row.delivery).collect();
                let some: Vec<_> = all.iter().take(2).copied().collect();
                (device, after, some, all.len() > 2)
            })
            .collect();
        meanwhile(self);
        for (device, after, deliveries, is_more) in read {
            self.queue.loaded(device, after, &deliveries, is_more, self.now);
        }
    }

    fn find_device_queues(&mut self) {
        let deferred = self.rows.values().filter(|row| row.state == DeliveryState::Deferred);
        let device_queues: BTreeMap<_, _> =
            deferred.map(|row| (row.delivery.device, row.delivery.number)).collect();
        for (device, until) in device_queues {
            self.queue.found_stored(device, until, self.now);
        }
    }

    /// Someone puts all dead letters back.
    fn resend(&mut self) {
        self.write(|_| {});
        for row in self.rows.values_mut().filter(|row| row.state == DeliveryState::Dead) {
            row.state = DeliveryState::Deferred;
            row.delivery.deadline = self.now.plus_ms(RETRY_MS);
            row.delivery.next_at = self.now;
            self.settled.remove(&row.delivery.number);
        }
        self.find_device_queues();
    }

    fn crash(&mut self) {
        self.on_its_way.clear();
        self.fed = self.position;
        let beyond =
            self.rows.range(RecordNumber(self.position.0 + 1)..).map(|(number, _)| *number).collect();
        self.queue = queue(self.position, beyond, self.circuit, self.now);
        let is_deferred = |number: &RecordNumber| {
            self.rows.get(number).is_some_and(|row| row.state == DeliveryState::Deferred)
        };
        let until_position = self.outbox.keys().copied().take_while(|number| *number <= self.position);
        let dead =
            self.rows.iter().filter(|(_, row)| row.state == DeliveryState::Dead).map(|(number, _)| *number);
        self.settled = until_position.chain(dead).filter(|number| !is_deferred(number)).collect();
        self.find_device_queues();
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Record(device) => self.record(Some(device)),
            Step::Unwanted => self.record(None),
            Step::Send => self.send(),
            Step::Answer(which, is_good) => self.answer(which, is_good),
            Step::Write => self.write(|world| {
                world.answer(0, false);
                world.send();
            }),
            Step::Wait(ms) => self.now = self.now.plus_ms(ms),
            Step::Resend => self.resend(),
            Step::Crash => self.crash(),
        }
    }

    /// The receiver is well again: everything must come.
    fn end(&mut self) {
        for _ in 0..2 {
            // What was given up while the circuit was open is put back.
            self.resend();
            self.drain();
        }
        let wanted =
            self.outbox.iter().filter(|(_, (device, _))| device.is_some()).map(|(number, _)| *number);
        let lost: Vec<_> = wanted.filter(|number| !self.delivered.contains(number)).collect();
        assert!(lost.is_empty() && self.rows.is_empty(), "lost: {lost:?}, kept: {:?}", self.rows);
        assert_eq!(self.position, self.outbox.keys().last().copied().unwrap_or_default());
    }

    fn drain(&mut self) {
        for _ in 0..10_000 {
            self.send();
            if self.on_its_way.is_empty() && self.queue.is_idle() {
                break;
            }
            while !self.on_its_way.is_empty() {
                self.answer(0, true);
            }
            self.write(|_| {});
            self.now = self.now.plus_ms(1_000);
        }
        self.write(|_| {});
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_each_device_keeps_its_order(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.end();
    }
}

fn delivery(number: i64, device: i64) -> Delivery {
    let (device, device_id) = (DeviceKey(device), DeviceId(device));
    Delivery {
        number: RecordNumber(number),
        device,
        device_id,
        deadline: UnixMs(0),
        attempts: 0,
        next_at: UnixMs(0),
    }
}

fn attempt(error: Option<&str>) -> Attempt {
    let error = error.map(Arc::from);
    Attempt { at: UnixMs(0), duration_ms: 1, status: None, error, asked_ms: None, is_hopeless: false }
}

#[test]
fn one_device_that_always_fails_holds_up_neither_the_others_nor_the_position() {
    let mut queue =
        Queue::new(4, RETRY_MS, RecordNumber(0), BTreeSet::new(), CircuitState::default(), UnixMs(0));
    for number in 1..=100 {
        queue.take_in(delivery(number, number % 10), UnixMs(0), UnixMs(0));
    }
    let mut delivered = 0;
    while let Some(Sending { delivery, .. }) = queue.next(UnixMs(0)) {
        let is_good = delivery.device != DeviceKey(3);
        queue.settle(delivery.device, attempt((!is_good).then_some("500")), UnixMs(0), 0);
        delivered += usize::from(is_good);
    }
    assert_eq!((delivered, queue.position()), (90, RecordNumber(100)));
    assert_eq!(queue.take_progress().deliveries.len(), 10);
    assert_eq!(queue.wake_at(), Some(UnixMs(1_000)));
}

#[test]
fn a_slow_device_is_deferred_once_others_wait_for_it() {
    let mut queue =
        Queue::new(4, RETRY_MS, RecordNumber(0), BTreeSet::new(), CircuitState::default(), UnixMs(0));
    queue.take_in(delivery(1, 1), UnixMs(0), UnixMs(0));
    assert_eq!(queue.next(UnixMs(0)).unwrap().delivery.number, RecordNumber(1));
    for number in 2..=LIVE_MAX as i64 {
        queue.take_in(delivery(number, 2), UnixMs(0), UnixMs(0));
    }
    assert!(!queue.has_room());
    assert_eq!(queue.next(UnixMs(SLOW_MS - 1)).unwrap().delivery.device, DeviceKey(2));
    assert_eq!(queue.position(), RecordNumber(0));
    assert_eq!(queue.next(UnixMs(SLOW_MS)), None);
    assert_eq!(
        queue.position(),
        RecordNumber(1),
        "the device queue was deferred while its delivery is on its way"
    );
    assert!(queue.has_room());
    queue.settle(DeviceKey(1), attempt(None), UnixMs(SLOW_MS), 0);
    assert_eq!(queue.take_progress().deliveries.get(&RecordNumber(1)), Some(&None));
}

#[test]
fn a_receiver_that_is_down_fills_memory_and_not_the_store() {
    let mut queue =
        Queue::new(8, i64::MAX, RecordNumber(0), BTreeSet::new(), CircuitState::default(), UnixMs(0));
    for number in 1..=LIVE_MAX as i64 {
        queue.take_in(delivery(number, number % 100), UnixMs(0), UnixMs(0));
    }
    let mut now = UnixMs(0);
    for _ in 0..1_000 {
        while let Some(Sending { delivery, .. }) = queue.next(now) {
            queue.settle(delivery.device, attempt(Some("no connection")), now, 0);
        }
        now = queue.wake_at().unwrap();
    }
    assert!(queue.is_open());
    let stored = queue.take_progress().deliveries.len();
    assert!(stored <= 8 * (LIVE_MAX / 100 + 1), "{stored}");
    assert!(!queue.has_room() || stored > 0);
}

#[test]
fn a_poisonous_message_opens_the_circuit_and_another_device_closes_it() {
    let mut queue =
        Queue::new(4, i64::MAX, RecordNumber(0), BTreeSet::new(), CircuitState::default(), UnixMs(0));
    queue.take_in(delivery(1, 1), UnixMs(0), UnixMs(0));
    let mut now = UnixMs(0);
    while !queue.is_open() {
        while queue.next(now).is_none() {
            now = queue.wake_at().unwrap();
        }
        queue.settle(DeviceKey(1), attempt(Some("500")), now, 0);
    }
    queue.take_in(delivery(2, 2), now, now);
    now = queue.wake_at().unwrap();
    let sending = queue.next(now).unwrap();
    assert!(sending.is_probe && sending.delivery.device == DeviceKey(2));
    queue.settle(DeviceKey(2), attempt(None), now, 0);
    assert!(!queue.is_open());
}

#[test]
fn what_comes_again_after_a_crash_is_sent_before_the_newer_ones_that_were_read_from_the_store() {
    let (device, now) = (DeviceKey(2), UnixMs(0));
    let stored_before = (11..=13).map(RecordNumber).collect();
    let mut queue = Queue::new(4, RETRY_MS, RecordNumber(9), stored_before, CircuitState::default(), now);
    queue.found_stored(device, RecordNumber(13), now);
    assert_eq!(queue.loads(), [(device, RecordNumber(0))]);
    queue.loaded(device, RecordNumber(0), &[delivery(11, 2), delivery(12, 2)], true, now);
    for number in 10..=13 {
        queue.take_in(delivery(number, 2), now, now);
    }
    let mut sent = Vec::new();
    while let Some(sending) = queue.next(now) {
        sent.push(sending.delivery.number.0);
        queue.settle(device, attempt(None), now, 0);
        let _ = queue.take_progress();
        for (device, after) in queue.loads() {
            queue.loaded(device, after, &[delivery(13, 2)], false, now);
        }
    }
    assert_eq!(sent, [10, 11, 12, 13]);
    assert!(queue.is_idle());
}
