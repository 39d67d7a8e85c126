//! One device that sends events: so many on their way at a time, some of them
//! twice, until the time is over and each is acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rumqttc::{Packet, PubAckReason};

use crate::bench::events::connection::{Connection, Numbered};
use crate::bench::latency::Latencies;
use crate::quantity::Rate;
use crate::seed::SplitMix64;

/// How long acknowledgements may still take after the end.
const DRAIN: Duration = Duration::from_secs(30);
/// Pause before an event is sent again that the server did not take now.
const PAUSE: Duration = Duration::from_millis(100);
/// A duplicate is one of the last so many events, so that some are still on
/// their way and others are stored.
const RECENT: usize = 64;

/// When events are sent, and when they are recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    pub(super) record_from: Instant,
    pub(super) end: Instant,
    /// When the device's first event is due, and the time between two; `None`:
    /// as soon as there is room.
    pub(super) due: Option<(Instant, Duration)>,
    /// Messages on their way at most.
    pub(super) window: u16,
    pub(super) duplicates: Rate,
}

/// What one device has done.
#[derive(Debug)]
pub(super) struct Sent {
    /// Its events have the numbers from 1 to this.
    pub(super) last_number: u32,
    /// Numbers that may be stored or not: refused, or never acknowledged.
    pub(super) doubtful: Vec<u32>,
    /// Acknowledged in the time that counts: first sends, and duplicates.
    pub(super) acknowledged: u64,
    pub(super) duplicates_acknowledged: u64,
    pub(super) latencies: Latencies,
    /// Messages the server did not take, by its reason, over the whole run.
    pub(super) refusals: BTreeMap<String, u64>,
    /// Answers to events (`eva`), over the whole run.
    pub(super) evas: u64,
    /// Why the connection broke.
    pub(super) broken: Option<String>,
}

impl Sent {
    pub(super) fn new() -> Self {
        Self {
            last_number: 0,
            doubtful: Vec::new(),
            acknowledged: 0,
            duplicates_acknowledged: 0,
            latencies: Latencies::new(),
            refusals: BTreeMap::new(),
            evas: 0,
            broken: None,
        }
    }
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
struct OnTheWay {
    event: Numbered,
    since: Instant,
    is_duplicate: bool,
}

pub(super) struct Sender<'a> {
    connection: &'a mut Connection,
    course: Course,
    random: SplitMix64,
    /// By packet identifier, from 1.
    on_the_way: Vec<Option<OnTheWay>>,
    free: Vec<u16>,
    recent: VecDeque<Numbered>,
    /// To be sent again: duplicates, and what was refused for now.
    again: VecDeque<(Numbered, bool)>,
    resume_at: Option<Instant>,
    next_due: Option<Instant>,
    sent: Sent,
}

impl<'a> Sender<'a> {
    pub(super) fn new(connection: &'a mut Connection, course: Course, random: SplitMix64) -> Self {
        let window = course.window.min(connection.receive_maximum).max(1);
        Self {
            connection,
            random,
            on_the_way: vec![None; usize::from(window) + 1],
            free: (1..=window).rev().collect(),
            recent: VecDeque::with_capacity(RECENT),
            again: VecDeque::new(),
            resume_at: None,
            next_due: course.due.map(|(first, _)| first),
            course,
            sent: Sent::new(),
        }
    }

    /// Sends until the end, and waits for what is on its way then.
    pub(super) async fn run(mut self) -> Sent {
        if let Err(error) = self.work().await {
            self.sent.broken = Some(error.to_string());
        }
        let on_the_way = self.on_the_way.iter().flatten().map(|message| message.event.number);
        let waiting = self.again.iter().map(|(event, _)| event.number);
        self.sent.doubtful.extend(on_the_way.chain(waiting));
        self.sent
    }

    async fn work(&mut self) -> io::Result<()> {
        loop {
            let now = Instant::now();
            self.fill(now)?;
            self.connection.flush().await?;
            let is_over = now >= self.course.end;
            let is_idle = self.free.len() + 1 == self.on_the_way.len();
            if is_over && is_idle && self.again.is_empty() || now >= self.course.end + DRAIN {
                return Ok(());
            }
            let wake_at = self.wake_at();
            tokio::select! {
                read = self.connection.read() => read?,
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
            let now = Instant::now();
            while let Some(packet) = self.connection.next_packet()? {
                self.take(packet, now);
            }
        }
    }

    /// When there is something to do even if nothing comes in.
    fn wake_at(&self) -> Instant {
        let end = self.course.end;
        let now = Instant::now();
        if now >= end {
            return self.resume_at.unwrap_or(end + DRAIN);
        }
        let due = self.next_due.filter(|_| !self.free.is_empty() && self.resume_at.is_none());
        [due, self.resume_at].into_iter().flatten().min().unwrap_or(end).min(end)
    }

    /// Writes as many messages as may be on their way.
    fn fill(&mut self, now: Instant) -> io::Result<()> {
        if self.resume_at.is_some_and(|at| at > now) {
            return Ok(());
        }
        self.resume_at = None;
        while !self.free.is_empty() {
            if let Some((event, is_duplicate)) = self.again.pop_front() {
                self.push(OnTheWay { event, since: now, is_duplicate })?;
                continue;
            }
            let Some(since) = self.next_event_due(now) else {
                return Ok(());
            };
            let event = self.next_event();
            self.push(OnTheWay { event, since, is_duplicate: false })?;
            if self.course.duplicates.hits(self.random.next_unit()) {
                let which = self.random.next_below(self.recent.len() as u64);
                let earlier = usize::try_from(which).ok().and_then(|which| self.recent.get(which));
                self.again.extend(earlier.map(|earlier| (*earlier, true)));
            }
        }
        Ok(())
    }

    /// Since when the next event is due, if it is.
    fn next_event_due(&mut self, now: Instant) -> Option<Instant> {
        if now >= self.course.end {
            return None;
        }
        match (self.course.due, self.next_due) {
            (Some((_, interval)), Some(due)) => {
                if due > now {
                    return None;
                }
                self.next_due = Some(due + interval);
                Some(due)
            }
            _ => Some(now),
        }
    }

    fn next_event(&mut self) -> Numbered {
        self.sent.last_number += 1;
        let time_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let event = Numbered { number: self.sent.last_number, time_s };
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(event);
        event
    }

    fn push(&mut self, message: OnTheWay) -> io::Result<()> {
        let Some(pkid) = self.free.pop() else {
            // Not reached: the caller has looked whether there is room.
            return Ok(());
        };
        self.on_the_way[usize::from(pkid)] = Some(message);
        self.connection.push_event(pkid, message.event)
    }

    fn take(&mut self, packet: Packet, now: Instant) {
        match packet {
            Packet::PubAck(puback) => {
                let slot = self.on_the_way.get_mut(usize::from(puback.pkid));
                if let Some(message) = slot.and_then(Option::take) {
                    self.free.push(puback.pkid);
                    self.acknowledged(message, puback.reason, now);
                }
            }
            Packet::Publish(_) => self.sent.evas += 1,
            _ => {}
        }
    }

    fn acknowledged(&mut self, message: OnTheWay, reason: PubAckReason, now: Instant) {
        if reason as u8 >= 0x80 {
            *self.sent.refusals.entry(format!("{reason:?}")).or_default() += 1;
            if reason == PubAckReason::QuotaExceeded {
                self.again.push_back((message.event, message.is_duplicate));
                self.resume_at = Some(now + PAUSE);
            } else {
                self.sent.doubtful.push(message.event.number);
            }
            return;
        }
        if now < self.course.record_from || now >= self.course.end {
            return;
        }
        if message.is_duplicate {
            self.sent.duplicates_acknowledged += 1;
        } else {
            self.sent.acknowledged += 1;
            self.sent.latencies.record(now.saturating_duration_since(message.since));
        }
    }
}
