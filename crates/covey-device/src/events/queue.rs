//! The events that the server does not have yet, in memory: their order, their numbers, their
//! bounds, and what goes first when those are reached. No I/O and no clock.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::events::event::{Event, EventOrder, EventOutcome};
use crate::events::record;
use crate::log::Snapshot;

/// What an event costs besides its body, in bytes.
const ENTRY_BYTES: usize = 160;
/// How long to wait for `eva` before an event is sent again; each further wait is twice as long.
const EVA_WAIT_FIRST: Duration = Duration::from_secs(10);
/// Times an event is sent for want of an `eva`. Then its PUBACK has to do.
const EVA_ATTEMPTS_MAX: u32 = 5;

/// Upper bounds of the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) entries_max: usize,
    /// Sum over events of body bytes and 160.
    pub(crate) bytes_max: usize,
}

/// What to do with an event that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EventOverflow {
    /// It is refused with [`EventError::QueueFull`](crate::EventError::QueueFull).
    #[default]
    Refuse,
    /// The oldest events that are not on their way are dropped for it, and counted.
    DropOldest,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) order: EventOrder,
    pub(crate) event: Event,
    pub(crate) is_sent_twice: bool,
    stage: Stage,
    attempts: u32,
    outcome: Option<oneshot::Sender<EventOutcome>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// Handed to the connection, without a PUBACK.
    InFlight,
    /// With a PUBACK, without an `eva`; sent again then.
    Unconfirmed {
        repeat_at: Instant,
    },
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.event.body.len()
    }

    fn tell(&mut self, outcome: EventOutcome) {
        if let Some(outcome_tx) = self.outcome.take() {
            // Nobody has to listen.
            let _ = outcome_tx.send(outcome);
        }
    }
}

/// A new event is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// What had to go for a new event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) dropped: Vec<EventOrder>,
    /// The gauge whose place the new one took.
    pub(crate) superseded: Option<EventOrder>,
}

/// The queue, oldest first.
#[derive(Debug)]
pub(crate) struct Queue {
    bounds: Bounds,
    entries: VecDeque<Entry>,
    bytes: usize,
    in_flight: usize,
    next_order: EventOrder,
    next_number: u32,
    /// Events before this one are durable and may be sent.
    written_before: EventOrder,
    /// No repetition is due before this.
    earliest: Option<Instant>,
}

impl Queue {
    /// An empty queue whose first event has this number (1 for 0, which means "not counted").
    pub(crate) fn new(bounds: Bounds, next_number: u32) -> Self {
        Self {
            bounds,
            entries: VecDeque::new(),
            bytes: 0,
            in_flight: 0,
            next_order: 0,
            next_number: next_number.max(1),
            written_before: 0,
            earliest: None,
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(crate) fn next_order(&self) -> EventOrder {
        self.next_order
    }

    pub(crate) fn next_number(&self) -> u32 {
        self.next_number
    }

    /// Goes on where a file ended.
    pub(crate) fn continue_from(&mut self, order: EventOrder, number: u32) {
        self.next_order = self.next_order.max(order);
        self.next_number = number.max(1);
    }

    /// The number of the next event. 0 is left out: it means that nobody counts.
    pub(crate) fn take_number(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number = number.checked_add(1).unwrap_or(1);
        number
    }

    /// Puts an event last. It is not sent before [`written`](Self::written).
    ///
    /// A gauge takes the place of one of its type that was never sent: only the last counts, and
    /// a device that is offline for long would fill its queue with them.
    pub(crate) fn push(
        &mut self,
        event: Event,
        is_gauge: bool,
        overflow: EventOverflow,
        is_sent_twice: bool,
        outcome: Option<oneshot::Sender<EventOutcome>>,
    ) -> Result<(EventOrder, Room), Full> {
        let older = is_gauge.then(|| self.unsent_of_type(event.type_code)).flatten();
        let dropped = self.room_for(ENTRY_BYTES + event.body.len(), older, overflow).ok_or(Full)?;
        for order in &dropped {
            self.end(*order, EventOutcome::Dropped);
        }
        if let Some(older) = older {
            self.end(older, EventOutcome::Superseded);
        }
        let order = self.next_order;
        self.restore(order, event);
        if let Some(entry) = self.entries.back_mut() {
            entry.is_sent_twice = is_sent_twice;
            entry.outcome = outcome;
        }
        Ok((order, Room { dropped, superseded: older }))
    }

    /// What has to be dropped for so many bytes; `None` if that is not allowed, or not enough.
    fn room_for(
        &self,
        bytes: usize,
        older: Option<EventOrder>,
        overflow: EventOverflow,
    ) -> Option<Vec<EventOrder>> {
        let freed = older.and_then(|order| self.get(order)).map_or(0, Entry::bytes);
        let mut entries = self.entries.len() - usize::from(older.is_some()) + 1;
        let mut bytes = self.bytes - freed + bytes;
        let mut dropped = Vec::new();
        let mut oldest = self.entries.iter().filter(|entry| entry.stage == Stage::Waiting);
        while entries > self.bounds.entries_max || bytes > self.bounds.bytes_max {
            if overflow == EventOverflow::Refuse {
                return None;
            }
            let entry = oldest.find(|entry| Some(entry.order) != older)?;
            entries -= 1;
            bytes -= entry.bytes();
            dropped.push(entry.order);
        }
        Some(dropped)
    }

    fn unsent_of_type(&self, type_code: u32) -> Option<EventOrder> {
        let unsent = |entry: &&Entry| {
            entry.stage == Stage::Waiting && entry.attempts == 0 && entry.event.type_code == type_code
        };
        self.entries.iter().rev().find(unsent).map(|entry| entry.order)
    }

    /// Puts an event of a file last, whatever the bounds say: it was accepted.
    pub(crate) fn restore(&mut self, order: EventOrder, event: Event) {
        if order < self.next_order && self.entries.back().is_some_and(|last| last.order >= order) {
            return;
        }
        let entry =
            Entry { order, event, is_sent_twice: false, stage: Stage::Waiting, attempts: 0, outcome: None };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        self.next_order = self.next_order.max(order + 1);
    }

    /// Everything up to this event is durable.
    pub(crate) fn written(&mut self, order: EventOrder) {
        self.written_before = self.written_before.max(order + 1);
    }

    /// Takes an event out that could not be written. False if it was written after all, or is
    /// gone.
    pub(crate) fn withdraw(&mut self, order: EventOrder) -> bool {
        order >= self.written_before && self.remove(order).is_some()
    }

    /// The oldest event that may be sent.
    pub(crate) fn next(&self) -> Option<&Entry> {
        self.entries
            .iter()
            .take_while(|entry| entry.order < self.written_before)
            .find(|entry| entry.stage == Stage::Waiting)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Notes that an event was handed to the connection.
    pub(crate) fn sent(&mut self, order: EventOrder) {
        if let Some(entry) = self.get_mut(order)
            && entry.stage == Stage::Waiting
        {
            entry.stage = Stage::InFlight;
            entry.attempts = entry.attempts.saturating_add(1);
            self.in_flight += 1;
        }
    }

    /// A PUBACK without an error: the event has ended, or waits for its `eva` if it gets one.
    /// The outcome, if it has ended.
    pub(crate) fn acknowledged(
        &mut self,
        order: EventOrder,
        gets_eva: bool,
        now: Instant,
    ) -> Option<EventOutcome> {
        let attempts = self.land(order)?;
        if !gets_eva {
            return self.end(order, EventOutcome::Stored);
        }
        if attempts >= EVA_ATTEMPTS_MAX {
            return self.end(order, EventOutcome::Unconfirmed);
        }
        let repeat_at = now + EVA_WAIT_FIRST.saturating_mul(1 << (attempts.max(1) - 1));
        self.earliest = Some(self.earliest.map_or(repeat_at, |earliest| earliest.min(repeat_at)));
        if let Some(entry) = self.get_mut(order) {
            entry.stage = Stage::Unconfirmed { repeat_at };
        }
        None
    }

    /// The server did not take it now: it waits at its place. The attempt does not count.
    pub(crate) fn put_back(&mut self, order: EventOrder) {
        if self.land(order).is_some()
            && let Some(entry) = self.get_mut(order)
        {
            entry.attempts = entry.attempts.saturating_sub(1);
        }
    }

    /// From in flight to waiting; how often it was sent. `None` if it is not in flight.
    fn land(&mut self, order: EventOrder) -> Option<u32> {
        let entry = self.get_mut(order).filter(|entry| entry.stage == Stage::InFlight)?;
        entry.stage = Stage::Waiting;
        let attempts = entry.attempts;
        self.in_flight -= 1;
        Some(attempts)
    }

    /// The event that an `eva` is about: one that was sent, with this number and, if it is told,
    /// this type.
    pub(crate) fn sent_with(&self, number: u32, type_code: Option<u32>) -> Option<EventOrder> {
        let is_meant = |entry: &&Entry| {
            entry.attempts > 0
                && entry.event.number == number
                && type_code.is_none_or(|code| code == entry.event.type_code)
        };
        self.entries.iter().find(is_meant).map(|entry| entry.order)
    }

    /// Takes an event out, and says why. `None` if it is not there.
    pub(crate) fn end(&mut self, order: EventOrder, outcome: EventOutcome) -> Option<EventOutcome> {
        let mut entry = self.remove(order)?;
        entry.tell(outcome);
        Some(outcome)
    }

    /// The connection is gone: everything is sent again, in order.
    pub(crate) fn all_again(&mut self) {
        for entry in &mut self.entries {
            entry.stage = Stage::Waiting;
        }
        self.in_flight = 0;
        self.earliest = None;
    }

    pub(crate) fn earliest_repeat(&self) -> Option<Instant> {
        self.earliest
    }

    /// Lets events wait to be sent again whose `eva` has not come in time.
    pub(crate) fn due(&mut self, now: Instant) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        self.earliest = None;
        for entry in &mut self.entries {
            match entry.stage {
                Stage::Unconfirmed { repeat_at } if repeat_at <= now => entry.stage = Stage::Waiting,
                Stage::Unconfirmed { repeat_at } => {
                    self.earliest = Some(self.earliest.map_or(repeat_at, |earliest| earliest.min(repeat_at)));
                }
                Stage::Waiting | Stage::InFlight => {}
            }
        }
    }

    /// The device has stopped: nobody is told of what is left.
    pub(crate) fn stop_telling(&mut self) {
        for entry in &mut self.entries {
            entry.outcome = None;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    fn position(&self, order: EventOrder) -> Option<usize> {
        self.entries.binary_search_by_key(&order, |entry| entry.order).ok()
    }

    pub(crate) fn get(&self, order: EventOrder) -> Option<&Entry> {
        self.entries.get(self.position(order)?)
    }

    fn get_mut(&mut self, order: EventOrder) -> Option<&mut Entry> {
        let at = self.position(order)?;
        self.entries.get_mut(at)
    }

    fn remove(&mut self, order: EventOrder) -> Option<Entry> {
        let entry = self.entries.remove(self.position(order)?)?;
        self.bytes -= entry.bytes();
        if entry.stage == Stage::InFlight {
            self.in_flight -= 1;
        }
        Some(entry)
    }
}

impl Snapshot for Queue {
    fn snapshot(&self) -> Vec<u8> {
        let entries = self.entries.iter().map(|entry| (entry.order, &entry.event));
        record::snapshot(self.next_order, self.next_number, entries)
    }
}
