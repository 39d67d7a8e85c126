//! What a device has to do: tasks that it was told of, their results, and what of it has a proof.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;
use uuid::Uuid;

use super::manner::Manner;
use super::message::{Event, Outgoing, Said};

/// The status code of a partial result (RFC 9110 §15.3.7).
const PARTIAL: u16 = 206;
/// How many events a device tells at most.
const EVENTS_MAX: usize = 40;
/// Longer than a run.
const NEVER: Duration = Duration::from_secs(100_000);
/// How many messages a device has waiting at most: then it asks for nothing more.
const QUEUE_MAX: usize = 64;

/// A result, and what became of it.
#[derive(Clone, Debug)]
pub struct Result {
    /// What it says.
    pub said: Said,
    /// The server has said that it is stored: by PUBACK or PUBREC of MQTT 5, or by `cmt`.
    pub is_proved: bool,
    /// How often the server may have got it.
    pub sent: u32,
    /// How many `cmt` came for it that are no repetitions.
    pub committed: u32,
    /// Whether it waits to be sent, or its acknowledgement is waited for.
    pub is_under_way: bool,
    /// When it was last sent.
    sent_at: Option<Instant>,
}

/// A task as its device sees it.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The device has asked for it by its name.
    pub is_named: bool,
    /// It came, and work has begun.
    pub has_begun: bool,
    /// The places of its results.
    results: Vec<usize>,
}

struct Running {
    next_at: Instant,
    task: Uuid,
    partials_left: u32,
}

/// The work of a device.
pub struct Work {
    /// The tasks that it was told of.
    pub known: BTreeMap<Uuid, Known>,
    /// Its results, in the order of their numbers.
    pub results: Vec<Result>,
    /// Its events, in the order of their numbers.
    pub events: Vec<Event>,
    /// What waits to be published.
    pub queue: VecDeque<Outgoing>,
    running: Vec<Running>,
    poll_at: Instant,
    repeat_at: Instant,
    event_at: Instant,
    is_healing: bool,
}

impl Work {
    /// Nothing to do yet.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            known: BTreeMap::new(),
            results: Vec::new(),
            events: Vec::new(),
            queue: VecDeque::new(),
            running: Vec::new(),
            poll_at: now,
            repeat_at: now,
            event_at: now,
            is_healing: false,
        }
    }

    /// From now on the device asks and repeats until nothing is left.
    pub fn heal(&mut self) {
        if !std::mem::replace(&mut self.is_healing, true) {
            (self.poll_at, self.repeat_at) = (Instant::now(), Instant::now());
        }
    }

    /// When there is something to do next.
    pub fn next_at(&self) -> Instant {
        let running = self.running.iter().map(|running| running.next_at);
        running.chain([self.poll_at, self.repeat_at, self.event_at]).min().unwrap_or(self.poll_at)
    }

    /// A task waits for the device.
    pub fn announced(&mut self, task: Uuid, manner: &Manner) {
        let known = self.known.entry(task).or_default();
        if manner.says_ack {
            self.queue.push_back(Outgoing::Ack(task));
        }
        if known.has_begun {
            self.repeat_of(task);
        } else {
            known.is_named = true;
            self.queue.push_back(Outgoing::Request(Some(task)));
        }
    }

    /// A task came.
    pub fn begin(&mut self, task: Uuid, manner: &Manner, random: &mut StdRng) {
        let known = self.known.entry(task).or_default();
        if known.has_begun {
            self.repeat_of(task);
            return;
        }
        known.has_begun = true;
        let partials_left = random.random_range(0..=manner.partials_max);
        self.running.push(Running { next_at: later(manner, random), task, partials_left });
        // Who polls asks at once whether there is more.
        if manner.poll_ms > 0 {
            self.poll_at = Instant::now();
        }
    }

    /// Does what is due; it is so many seconds since 1970.
    pub fn tick(&mut self, manner: &Manner, random: &mut StdRng, unix_s: u64) {
        let now = Instant::now();
        if self.event_at <= now {
            let is_over = self.is_healing || manner.event_ms == 0 || self.events.len() >= EVENTS_MAX;
            self.event_at = now + if is_over { NEVER } else { often(manner.event_ms, random) };
            if !is_over {
                let place = self.events.len();
                let number = u32::try_from(place + 1).unwrap_or(u32::MAX);
                self.events.push(Event::new(number, unix_s));
                self.queue.push_back(Outgoing::Event(place));
            }
        }
        let mut place = 0;
        while place < self.running.len() {
            if self.running[place].next_at > now {
                place += 1;
                continue;
            }
            let Running { task, partials_left, .. } = self.running[place];
            if partials_left > 0 {
                self.running[place].partials_left -= 1;
                self.running[place].next_at = later(manner, random);
                self.add_result(task, PARTIAL);
            } else {
                self.running.swap_remove(place);
                self.add_result(task, if random.random_bool(0.8) { 200 } else { 500 });
            }
        }
        if self.poll_at <= now {
            let poll_ms = if self.is_healing && !manner.only_listens { 4_000 } else { manner.poll_ms };
            let polls = poll_ms > 0 && self.queue.len() < QUEUE_MAX;
            if polls && !self.queue.contains(&Outgoing::Request(None)) {
                self.queue.push_back(Outgoing::Request(None));
            }
            self.poll_at = now + Duration::from_millis(if poll_ms > 0 { poll_ms } else { 60_000 });
        }
        if self.repeat_at <= now {
            let repeat_ms = if self.is_healing { 3_000 } else { manner.repeat_ms };
            let repeat = Duration::from_millis(repeat_ms);
            for place in 0..self.results.len() {
                let result = &self.results[place];
                let is_old = result.sent_at.is_none_or(|at| at + repeat <= now);
                if !result.is_proved && !result.is_under_way && is_old {
                    self.send_result(place);
                }
            }
            self.repeat_at = now + repeat;
        }
    }

    fn add_result(&mut self, task: Uuid, status_code: u16) {
        let place = self.results.len();
        let ext_id = i64::try_from(place).unwrap_or(i64::MAX);
        let said = Said { task, ext_id, status_code };
        self.results.push(Result {
            said,
            is_proved: false,
            sent: 0,
            committed: 0,
            is_under_way: false,
            sent_at: None,
        });
        self.known.entry(task).or_default().results.push(place);
        self.send_result(place);
    }

    fn send_result(&mut self, place: usize) {
        self.results[place].is_under_way = true;
        self.queue.push_back(Outgoing::Result(place));
    }

    /// A task was told again that the device has done: its results are told again, too.
    fn repeat_of(&mut self, task: Uuid) {
        let places = self.known.get(&task).map(|known| known.results.clone()).unwrap_or_default();
        for place in places {
            if !self.results[place].is_under_way {
                self.send_result(place);
            }
        }
    }

    /// A result goes out, once more for the server.
    pub fn sent(&mut self, place: usize) {
        self.results[place].sent += 1;
        self.results[place].sent_at = Some(Instant::now());
    }

    /// Nobody waits any more for the acknowledgements of these, which went out in this order: events go out once more,
    /// before later ones.
    pub fn give_back(&mut self, lost: &[Outgoing]) {
        for message in lost.iter().rev() {
            match *message {
                Outgoing::Result(place) => self.settled(place, false),
                Outgoing::Event(place) if !self.events[place].is_proved => self.queue.push_front(*message),
                _ => {}
            }
        }
    }

    /// An event is stored, or is not and has to be told once more.
    pub fn event_settled(&mut self, place: usize, is_stored: bool) {
        let event = &mut self.events[place];
        event.is_proved |= is_stored;
        if !event.is_proved {
            event.was_refused = true;
            self.queue.push_back(Outgoing::Event(place));
        }
    }

    /// Nobody waits any more for the acknowledgement of a result.
    pub fn settled(&mut self, place: usize, is_proved: bool) {
        self.results[place].is_under_way = false;
        self.results[place].is_proved |= is_proved;
    }

    /// A `cmt` came; answers the result that it is about, if that can be told.
    pub fn committed(&mut self, task: Uuid, ext_id: Option<i64>) -> Option<usize> {
        let places = &self.known.get(&task)?.results;
        let place = match ext_id {
            Some(ext_id) => *places.iter().find(|place| self.results[**place].said.ext_id == ext_id)?,
            None if places.len() == 1 => places[0],
            None => return None,
        };
        self.results[place].is_proved = true;
        Some(place)
    }
}

fn often(average_ms: u64, random: &mut StdRng) -> Duration {
    Duration::from_millis(random.random_range(0..=average_ms * 2))
}

fn later(manner: &Manner, random: &mut StdRng) -> Instant {
    Instant::now() + Duration::from_millis(random.random_range(0..=manner.work_ms_max))
}
