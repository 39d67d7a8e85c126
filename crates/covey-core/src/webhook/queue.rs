//! What waits for one endpoint, and what may be sent next: a state machine
//! without I/O.
//!
//! Each device has a queue, from which one delivery is sent at a time, the oldest first. A queue
//! whose delivery fails is deferred: its deliveries are written to the store, so that everything
//! else, and the position of the endpoint, move on.
//! If everything fails the circuit opens, and nothing more is taken in than
//! fits into memory.
//! What is done is gathered as [`Progress`]; the caller writes it, one after
//! the other, and only between two writes reads deferred device queues.

mod device_queue;
#[cfg(test)]
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::{DeviceKey, RecordNumber, UnixMs};
use crate::webhook::backoff::pause_ms;
use crate::webhook::circuit::{Circuit, CircuitState};
use crate::webhook::{Attempt, AttemptLog, Delivery, DeliveryState, Outcome, Progress, StoredDelivery};

use device_queue::{DeviceQueue, Place};

/// How many deliveries may be in memory and not in the store.
/// Limit for each webhook: the rest stays in the store until there is room.
pub const LIVE_MAX: usize = 2_048;
/// How many deliveries of a deferred device queue are kept in memory.
/// Limit for each device of a webhook: the rest stays in the store until there is room.
pub const DEVICE_DELIVERIES_MAX: usize = 128;
/// How long the oldest delivery may be on its way before its device queue is deferred, if
/// others wait for it, in milliseconds.
pub const SLOW_MS: i64 = 2_000;

/// Of this many device queues at most deferred deliveries are read at a time.
/// Limit for each look: the rest follows.
pub const LOADS_MAX: usize = 64;

/// A delivery that is to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The delivery.
    pub delivery: Delivery,
    /// Whether it is to find out if the receiver is back.
    pub is_probe: bool,
}

/// What waits for one endpoint.
pub struct Queue {
    concurrency: usize,
    retry_ms: i64,
    circuit: Circuit,
    device_queues: BTreeMap<DeviceKey, DeviceQueue>,
    /// Device queues whose first delivery may be sent: those that were never tried, and
    /// those that were.
    fresh: BTreeSet<(RecordNumber, DeviceKey)>,
    again: BTreeSet<(RecordNumber, DeviceKey)>,
    /// Device queues whose first delivery is to be tried later.
    later: BTreeSet<(UnixMs, DeviceKey)>,
    /// Deferred device queues of which the next deliveries are to be read.
    unread: BTreeSet<DeviceKey>,
    /// The deliveries that are in memory alone.
    live: BTreeMap<RecordNumber, DeviceKey>,
    /// Deliveries after the position that are in the store already.
    stored_before: BTreeSet<RecordNumber>,
    /// Up to this record all that is wanted was taken in.
    cursor: RecordNumber,
    sending: usize,
    sending_again: usize,
    /// [`DEVICE_DELIVERIES_MAX`], but for the model, which reaches it.
    deliveries_max: usize,
    progress: Progress,
    /// The position that was last handed out.
    told: RecordNumber,
    has_changed: bool,
}

impl Queue {
    /// The queue of an endpoint that was left at `position`; deliveries with the
    /// numbers `stored_before` come after it and are in the store already.
    #[must_use]
    pub fn new(
        concurrency: u32,
        retry_ms: i64,
        position: RecordNumber,
        stored_before: BTreeSet<RecordNumber>,
        circuit: CircuitState,
        now: UnixMs,
    ) -> Self {
        Self {
            concurrency: concurrency.max(1) as usize,
            retry_ms,
            circuit: Circuit::resumed(circuit, now),
            device_queues: BTreeMap::new(),
            fresh: BTreeSet::new(),
            again: BTreeSet::new(),
            later: BTreeSet::new(),
            unread: BTreeSet::new(),
            live: BTreeMap::new(),
            stored_before,
            cursor: position,
            sending: 0,
            sending_again: 0,
            deliveries_max: DEVICE_DELIVERIES_MAX,
            progress: Progress::default(),
            told: position,
            has_changed: false,
        }
    }

    /// Whether more deliveries may be taken in.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.live.len() < LIVE_MAX
    }

    /// Whether the circuit is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.circuit.probe_at().is_some()
    }

    /// How many deliveries are being sent.
    #[must_use]
    pub fn sending(&self) -> usize {
        self.sending
    }

    /// A record of this device, made at `at`, is wanted. They come in the
    /// order of their numbers.
    pub fn take_in(&mut self, mut delivery: Delivery, at: UnixMs, now: UnixMs) {
        delivery.deadline = at.plus_ms(self.retry_ms);
        self.cursor = self.cursor.max(delivery.number);
        if self.stored_before.remove(&delivery.number) {
            return;
        }
        let device = delivery.device;
        let device_queue = self.device_queues.entry(device).or_default();
        match &mut device_queue.stored {
            Some(stored) => {
                // What was delivered just before a crash comes again, and then newer ones may have
                // been read from the store already.
                let is_among_loaded = delivery.number <= stored.loaded;
                let is_all_here = stored.loaded == stored.until;
                stored.until = stored.until.max(delivery.number);
                if is_among_loaded || is_all_here {
                    stored.loaded = stored.loaded.max(delivery.number);
                    device_queue.deliveries.insert(delivery.number, delivery);
                    device_queue.cut(self.deliveries_max);
                }
                self.store(delivery, DeliveryState::Deferred, None);
            }
            None => {
                device_queue.deliveries.insert(delivery.number, delivery);
                self.live.insert(delivery.number, device);
            }
        }
        self.place(device, now);
    }

    /// Up to this record there is nothing else that is wanted.
    pub fn advance(&mut self, cursor: RecordNumber) {
        self.cursor = self.cursor.max(cursor);
    }

    /// The device queue of a device has deliveries in the store, the last of them
    /// `until`, of which some may not be known here: it is read anew.
    pub fn found_stored(&mut self, device: DeviceKey, until: RecordNumber, now: UnixMs) {
        self.defer(device);
        let device_queue = self.device_queues.entry(device).or_default();
        let known = device_queue.stored.map_or(RecordNumber(0), |stored| stored.until);
        device_queue.deliveries.clear();
        device_queue.stored = Some(device_queue::Stored { until: until.max(known), loaded: RecordNumber(0) });
        self.place(device, now);
    }

    /// The devices whose deferred deliveries are to be read, each with the number
    /// after which to begin. Read them after writing what
    /// [`take_progress`](Self::take_progress) gave, and before taking more.
    #[must_use]
    pub fn loads(&self) -> Vec<(DeviceKey, RecordNumber)> {
        let device_queues = self.unread.iter().take(LOADS_MAX);
        device_queues
            .map(|device| {
                let stored = self.device_queues.get(device).and_then(|device_queue| device_queue.stored);
                (*device, stored.map_or(RecordNumber(0), |stored| stored.loaded))
            })
            .collect()
    }

    /// The deferred deliveries of a device that were read, in their order, and
    /// whether there are more.
    pub fn loaded(
        &mut self,
        device: DeviceKey,
        after: RecordNumber,
        deliveries: &[Delivery],
        is_more: bool,
        now: UnixMs,
    ) {
        let Some(device_queue) = self.device_queues.get_mut(&device) else { return };
        let Some(stored) = device_queue.stored.as_mut().filter(|stored| stored.loaded == after) else {
            return;
        };
        let on_its_way = device_queue.sending.map(|sending| sending.delivery.number);
        for delivery in deliveries {
            // What was done since the last write is not in the store yet.
            let known = match self.progress.deliveries.get(&delivery.number) {
                None => Some(*delivery),
                Some(Some(kept)) if kept.state == DeliveryState::Deferred => Some(kept.delivery),
                Some(_) => None,
            };
            if let Some(delivery) = known.filter(|delivery| on_its_way != Some(delivery.number)) {
                device_queue.deliveries.insert(delivery.number, delivery);
            }
        }
        let last = deliveries.last().map_or(after, |last| last.number);
        stored.loaded = if is_more { last } else { stored.until };
        for kept in self.progress.deliveries.values().flatten() {
            let delivery = kept.delivery;
            let is_wanted = delivery.device == device
                && kept.state == DeliveryState::Deferred
                && delivery.number > after
                && delivery.number <= stored.loaded;
            if is_wanted && on_its_way != Some(delivery.number) {
                device_queue.deliveries.insert(delivery.number, delivery);
            }
        }
        self.place(device, now);
    }

    /// The delivery that is to be sent now, if there is one.
    pub fn next(&mut self, now: UnixMs) -> Option<Sending> {
        self.promote(now);
        self.defer_slow(now);
        if let Some(probe_at) = self.circuit.probe_at() {
            if self.sending > 0 || now < probe_at {
                return None;
            }
            let device = self.probe_device()?;
            return self.send(device, true, now);
        }
        if self.sending >= self.concurrency {
            return None;
        }
        // Those that fail may not keep the places of those that do not.
        let may_try_again = self.sending_again < (self.concurrency / 2).max(1) || self.fresh.is_empty();
        let again = self.again.first().copied().filter(|_| may_try_again);
        let fresh = self.fresh.first().copied();
        let (_, device) = again.into_iter().chain(fresh).min()?;
        self.send(device, false, now)
    }

    /// What became of the delivery of a device that was sent. `chance` is any
    /// number.
    pub fn settle(&mut self, device: DeviceKey, attempt: Attempt, now: UnixMs, chance: u32) -> Outcome {
        let Some(sending) =
            self.device_queues.get_mut(&device).and_then(|device_queue| device_queue.sending.take())
        else {
            return Outcome::Dead;
        };
        self.sending -= 1;
        self.sending_again -= usize::from(sending.is_again);
        let mut delivery = sending.delivery;
        delivery.attempts = delivery.attempts.saturating_add(1);
        let error = attempt.error.clone();
        let outcome = if attempt.is_delivered() {
            if self.circuit.delivered() {
                self.retry_all_now(now);
            }
            self.progress.last_delivered_at = Some(now);
            self.drop_delivery(device, delivery.number);
            Outcome::Delivered
        } else {
            // That there is nothing to send says nothing of the receiver.
            if !attempt.is_hopeless {
                self.circuit.failed(now, sending.is_probe, attempt.asked_ms);
            }
            self.progress.last_error = error.clone();
            if attempt.is_hopeless || now >= delivery.deadline {
                self.bury(delivery, attempt.status, error.clone());
                Outcome::Dead
            } else {
                let pause = pause_ms(delivery.attempts, chance, attempt.asked_ms);
                delivery.next_at = now.plus_ms(pause).min(delivery.deadline);
                self.keep(delivery, &attempt);
                Outcome::Retry
            }
        };
        self.progress.attempts.push(AttemptLog {
            number: Some(delivery.number),
            device_id: Some(delivery.device_id),
            attempt: delivery.attempts,
            at: attempt.at,
            duration_ms: attempt.duration_ms,
            status: attempt.status,
            error,
            outcome,
        });
        self.has_changed = true;
        self.place(device, now);
        outcome
    }

    /// While the circuit is open, gives up what became too old.
    pub fn expire(&mut self, now: UnixMs) -> usize {
        if !self.is_open() {
            return 0;
        }
        let is_late = |device_queue: &DeviceQueue| {
            device_queue.sending.is_none() && device_queue.first().is_some_and(|it| it.deadline <= now)
        };
        let late: Vec<_> = self
            .device_queues
            .iter()
            .filter(|(_, device_queue)| is_late(device_queue))
            .map(|(key, _)| *key)
            .collect();
        let mut count = 0;
        for device in late {
            while let Some(delivery) =
                self.device_queues.get(&device).and_then(DeviceQueue::first).filter(|it| it.deadline <= now)
            {
                self.bury(delivery, None, self.progress.last_error.clone());
                count += 1;
            }
            self.place(device, now);
        }
        count
    }

    /// When something may have to be done without anything having happened.
    #[must_use]
    pub fn wake_at(&self) -> Option<UnixMs> {
        if let Some(probe_at) = self.circuit.probe_at() {
            let has_any = self.device_queues.values().any(|device_queue| !device_queue.deliveries.is_empty());
            return Some(probe_at).filter(|_| self.sending == 0 && has_any);
        }
        self.later.first().map(|(at, _)| *at)
    }

    /// Whether there is something to write beside the position.
    #[must_use]
    pub fn has_progress(&self) -> bool {
        self.has_changed || !self.progress.deliveries.is_empty()
    }

    /// How many rows are to be written.
    #[must_use]
    pub fn progress_rows(&self) -> usize {
        self.progress.deliveries.len() + self.progress.attempts.len()
    }

    /// Whether the position has moved since it was last handed out.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.position() > self.told
    }

    /// Up to this record everything is settled.
    #[must_use]
    pub fn position(&self) -> RecordNumber {
        let before_first = self.live.keys().next().map(|first| RecordNumber(first.0 - 1));
        before_first.map_or(self.cursor, |before| before.min(self.cursor))
    }

    /// What is to be written now. Write it before taking more.
    pub fn take_progress(&mut self) -> Progress {
        let next = Progress { last_error: self.progress.last_error.clone(), ..Progress::default() };
        let mut progress = std::mem::replace(&mut self.progress, next);
        progress.position = self.position();
        progress.circuit = self.circuit.state();
        self.told = progress.position;
        self.has_changed = false;
        progress
    }

    /// Whether nothing waits, and nothing is being sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.device_queues.is_empty()
    }

    fn send(&mut self, device: DeviceKey, is_probe: bool, now: UnixMs) -> Option<Sending> {
        self.unplace(device);
        let device_queue = self.device_queues.get_mut(&device)?;
        let (_, delivery) = device_queue.deliveries.pop_first()?;
        let is_again = delivery.attempts > 0;
        device_queue.tried_at = now;
        device_queue.sending = Some(device_queue::OnItsWay { delivery, is_probe, is_again, began_at: now });
        self.sending += 1;
        self.sending_again += usize::from(is_again);
        Some(Sending { delivery, is_probe })
    }

    /// The device queue that was not tried for the longest time: one delivery that
    /// always fails must not keep the circuit open for all others.
    fn probe_device(&self) -> Option<DeviceKey> {
        let waiting = self.device_queues.iter().filter_map(|(device, device_queue)| {
            device_queue.first().map(|first| (device_queue.tried_at, first.number, *device))
        });
        waiting.min().map(|(.., device)| device)
    }

    fn retry_all_now(&mut self, now: UnixMs) {
        let devices: Vec<_> = self.later.iter().map(|(_, device)| *device).collect();
        for device in devices {
            if let Some(device_queue) = self.device_queues.get_mut(&device)
                && let Some(mut first) = device_queue.deliveries.first_entry()
            {
                first.get_mut().next_at = now;
            }
            self.place(device, now);
        }
    }

    /// A message is delivered: nothing of it remains.
    fn drop_delivery(&mut self, device: DeviceKey, number: RecordNumber) {
        let is_stored =
            self.device_queues.get(&device).is_some_and(|device_queue| device_queue.stored.is_some());
        if is_stored {
            self.progress.deliveries.insert(number, None);
        } else {
            self.live.remove(&number);
        }
    }

    /// A delivery is given up.
    fn bury(&mut self, delivery: Delivery, status: Option<u16>, error: Option<Arc<str>>) {
        if let Some(device_queue) = self.device_queues.get_mut(&delivery.device) {
            device_queue.deliveries.remove(&delivery.number);
        }
        self.live.remove(&delivery.number);
        let buried = StoredDelivery { delivery, state: DeliveryState::Dead, status, error };
        self.progress.deliveries.insert(delivery.number, Some(buried));
        self.has_changed = true;
    }

    /// A delivery is kept for another try. Its device queue is deferred, unless nothing goes
    /// to this receiver now anyway: what is in memory alone is sent faster later.
    fn keep(&mut self, delivery: Delivery, attempt: &Attempt) {
        let device = delivery.device;
        if let Some(device_queue) = self.device_queues.get_mut(&device)
            // Else older ones are to be read first, and it with them.
            && device_queue.stored.is_none_or(|stored| delivery.number <= stored.loaded)
        {
            device_queue.deliveries.insert(delivery.number, delivery);
        }
        if self.is_open()
            && self.device_queues.get(&device).is_some_and(|device_queue| device_queue.stored.is_none())
        {
            return;
        }
        self.defer(device);
        let (status, error) = (attempt.status, attempt.error.clone());
        let kept = StoredDelivery { delivery, state: DeliveryState::Deferred, status, error };
        self.progress.deliveries.insert(delivery.number, Some(kept));
    }

    fn store(&mut self, delivery: Delivery, state: DeliveryState, error: Option<Arc<str>>) {
        let stored = StoredDelivery { delivery, state, status: None, error };
        self.progress.deliveries.insert(delivery.number, Some(stored));
    }

    /// Writes the deliveries of a device queue that are in memory alone.
    fn defer(&mut self, device: DeviceKey) {
        let Some(device_queue) = self.device_queues.get_mut(&device) else { return };
        if device_queue.stored.is_some() {
            return;
        }
        let on_its_way = device_queue.sending.map(|sending| sending.delivery);
        let all: Vec<Delivery> =
            on_its_way.into_iter().chain(device_queue.deliveries.values().copied()).collect();
        let Some(until) = all.iter().map(|delivery| delivery.number).max() else { return };
        while device_queue.deliveries.len() > self.deliveries_max {
            device_queue.deliveries.pop_last();
        }
        let loaded = if device_queue.deliveries.len() + usize::from(on_its_way.is_some()) == all.len() {
            until
        } else {
            device_queue.deliveries.keys().last().copied().unwrap_or_default()
        };
        device_queue.stored = Some(device_queue::Stored { until, loaded });
        for delivery in all {
            self.live.remove(&delivery.number);
            self.store(delivery, DeliveryState::Deferred, None);
        }
    }

    /// Defers the device queue that holds up the position, if it has done so for long.
    fn defer_slow(&mut self, now: UnixMs) {
        if self.live.len() < LIVE_MAX / 2 {
            return;
        }
        let Some((_, device)) = self.live.first_key_value() else { return };
        let device = *device;
        let began = self
            .device_queues
            .get(&device)
            .and_then(|device_queue| device_queue.sending)
            .map(|sending| sending.began_at);
        if began.is_some_and(|began| now.since_ms(began) >= SLOW_MS) {
            self.defer(device);
            self.place(device, now);
        }
    }

    fn promote(&mut self, now: UnixMs) {
        while let Some((at, device)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, device));
            self.place(device, now);
        }
    }

    /// Puts a device queue where it belongs now.
    fn place(&mut self, device: DeviceKey, now: UnixMs) {
        self.unplace(device);
        let Some(device_queue) = self.device_queues.get_mut(&device) else { return };
        if device_queue.sending.is_some() {
            return;
        }
        let place = match device_queue.first() {
            Some(first) if first.next_at > now => Place::Later(first.next_at),
            Some(first) if first.attempts > 0 => Place::Again(first.number),
            Some(first) => Place::Fresh(first.number),
            None if device_queue.is_unread() => Place::Unread,
            None => {
                self.device_queues.remove(&device);
                return;
            }
        };
        device_queue.place = Some(place);
        match place {
            Place::Fresh(number) => self.fresh.insert((number, device)),
            Place::Again(number) => self.again.insert((number, device)),
            Place::Later(at) => self.later.insert((at, device)),
            Place::Unread => self.unread.insert(device),
        };
    }

    fn unplace(&mut self, device: DeviceKey) {
        let Some(place) =
            self.device_queues.get_mut(&device).and_then(|device_queue| device_queue.place.take())
        else {
            return;
        };
        match place {
            Place::Fresh(number) => self.fresh.remove(&(number, device)),
            Place::Again(number) => self.again.remove(&(number, device)),
            Place::Later(at) => self.later.remove(&(at, device)),
            Place::Unread => self.unread.remove(&device),
        };
    }
}
