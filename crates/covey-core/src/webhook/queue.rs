//! What waits for one endpoint, and what may be sent next: a state machine
//! without I/O.
//!
//! Each device has a lane. Of a lane one letter is sent at a time, the oldest
//! first. A lane whose letter fails is parked: its letters are written to the
//! store, so that everything else, and the position of the endpoint, move on.
//! If everything fails the circuit opens, and nothing more is taken in than
//! fits into memory.
//! What is done is gathered as [`Progress`]; the caller writes it, one after
//! the other, and only between two writes reads parked lanes.

mod lane;
#[cfg(test)]
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::{DeviceKey, RecordNumber, UnixMs};
use crate::webhook::backoff::pause_ms;
use crate::webhook::circuit::{Circuit, CircuitState};
use crate::webhook::{Attempt, AttemptLog, Letter, LetterState, Outcome, Progress, StoredLetter};

use lane::{Lane, Place};

/// How many letters may be in memory and not in the store.
pub const LIVE_MAX: usize = 2_048;
/// How many letters of a parked lane are kept in memory.
pub const LANE_LETTERS_MAX: usize = 128;
/// How long the oldest letter may be on its way before its lane is parked, if
/// others wait for it, in milliseconds.
pub const SLOW_MS: i64 = 2_000;

/// Of this many lanes at most parked letters are read at a time.
pub const LOADS_MAX: usize = 64;

/// A letter that is to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The letter.
    pub letter: Letter,
    /// Whether it is to find out if the receiver is back.
    pub is_probe: bool,
}

/// What waits for one endpoint.
pub struct Queue {
    concurrency: usize,
    retry_ms: i64,
    circuit: Circuit,
    lanes: BTreeMap<DeviceKey, Lane>,
    /// Lanes whose first letter may be sent: those that were never tried, and
    /// those that were.
    fresh: BTreeSet<(RecordNumber, DeviceKey)>,
    again: BTreeSet<(RecordNumber, DeviceKey)>,
    /// Lanes whose first letter is to be tried later.
    later: BTreeSet<(UnixMs, DeviceKey)>,
    /// Parked lanes of which the next letters are to be read.
    unread: BTreeSet<DeviceKey>,
    /// The letters that are in memory alone.
    live: BTreeMap<RecordNumber, DeviceKey>,
    /// Letters after the position that are in the store already.
    stored_before: BTreeSet<RecordNumber>,
    /// Up to this record all that is wanted was taken in.
    cursor: RecordNumber,
    sending: usize,
    sending_again: usize,
    progress: Progress,
    /// The position that was last handed out.
    told: RecordNumber,
    has_changed: bool,
}

impl Queue {
    /// The queue of an endpoint that was left at `position`; letters with the
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
            lanes: BTreeMap::new(),
            fresh: BTreeSet::new(),
            again: BTreeSet::new(),
            later: BTreeSet::new(),
            unread: BTreeSet::new(),
            live: BTreeMap::new(),
            stored_before,
            cursor: position,
            sending: 0,
            sending_again: 0,
            progress: Progress::default(),
            told: position,
            has_changed: false,
        }
    }

    /// Whether more letters may be taken in.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.live.len() < LIVE_MAX
    }

    /// Whether the circuit is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.circuit.probe_at().is_some()
    }

    /// How many letters are being sent.
    #[must_use]
    pub fn sending(&self) -> usize {
        self.sending
    }

    /// A record of this device, made at `at`, is wanted. They come in the
    /// order of their numbers.
    pub fn take_in(&mut self, mut letter: Letter, at: UnixMs, now: UnixMs) {
        letter.deadline = at.plus_ms(self.retry_ms);
        self.cursor = self.cursor.max(letter.number);
        if self.stored_before.remove(&letter.number) {
            return;
        }
        let device = letter.device;
        let lane = self.lanes.entry(device).or_default();
        match &mut lane.stored {
            Some(stored) => {
                let is_all_here = stored.loaded == stored.until && lane.letters.len() < LANE_LETTERS_MAX;
                stored.until = letter.number;
                if is_all_here {
                    stored.loaded = letter.number;
                    lane.letters.insert(letter.number, letter);
                }
                self.store(letter, LetterState::Parked, None);
            }
            None => {
                lane.letters.insert(letter.number, letter);
                self.live.insert(letter.number, device);
            }
        }
        self.place(device, now);
    }

    /// Up to this record there is nothing else that is wanted.
    pub fn advance(&mut self, cursor: RecordNumber) {
        self.cursor = self.cursor.max(cursor);
    }

    /// The lane of a device has letters in the store, the last of them
    /// `until`, of which some may not be known here: it is read anew.
    pub fn found_stored(&mut self, device: DeviceKey, until: RecordNumber, now: UnixMs) {
        self.park(device);
        let lane = self.lanes.entry(device).or_default();
        let known = lane.stored.map_or(RecordNumber(0), |stored| stored.until);
        lane.letters.clear();
        lane.stored = Some(lane::Stored { until: until.max(known), loaded: RecordNumber(0) });
        self.place(device, now);
    }

    /// The devices whose parked letters are to be read, each with the number
    /// after which to begin. Read them after writing what
    /// [`take_progress`](Self::take_progress) gave, and before taking more.
    #[must_use]
    pub fn loads(&self) -> Vec<(DeviceKey, RecordNumber)> {
        let lanes = self.unread.iter().take(LOADS_MAX);
        lanes
            .map(|device| {
                let stored = self.lanes.get(device).and_then(|lane| lane.stored);
                (*device, stored.map_or(RecordNumber(0), |stored| stored.loaded))
            })
            .collect()
    }

    /// The parked letters of a device that were read, in their order, and
    /// whether there are more.
    pub fn loaded(
        &mut self,
        device: DeviceKey,
        after: RecordNumber,
        letters: &[Letter],
        is_more: bool,
        now: UnixMs,
    ) {
        let Some(lane) = self.lanes.get_mut(&device) else { return };
        let Some(stored) = lane.stored.as_mut().filter(|stored| stored.loaded == after) else { return };
        let on_its_way = lane.sending.map(|sending| sending.letter.number);
        for letter in letters {
            // What was done since the last write is not in the store yet.
            let known = match self.progress.letters.get(&letter.number) {
                None => Some(*letter),
                Some(Some(kept)) if kept.state == LetterState::Parked => Some(kept.letter),
                Some(_) => None,
            };
            if let Some(letter) = known.filter(|letter| on_its_way != Some(letter.number)) {
                lane.letters.insert(letter.number, letter);
            }
        }
        let last = letters.last().map_or(after, |last| last.number);
        stored.loaded = if is_more { last } else { stored.until };
        for kept in self.progress.letters.values().flatten() {
            let letter = kept.letter;
            let is_wanted = letter.device == device
                && kept.state == LetterState::Parked
                && letter.number > after
                && letter.number <= stored.loaded;
            if is_wanted && on_its_way != Some(letter.number) {
                lane.letters.insert(letter.number, letter);
            }
        }
        self.place(device, now);
    }

    /// The letter that is to be sent now, if there is one.
    pub fn next(&mut self, now: UnixMs) -> Option<Sending> {
        self.promote(now);
        self.park_slow(now);
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

    /// What became of the letter of a device that was sent. `chance` is any
    /// number.
    pub fn settle(&mut self, device: DeviceKey, attempt: Attempt, now: UnixMs, chance: u32) -> Outcome {
        let Some(sending) = self.lanes.get_mut(&device).and_then(|lane| lane.sending.take()) else {
            return Outcome::Dead;
        };
        self.sending -= 1;
        self.sending_again -= usize::from(sending.is_again);
        let mut letter = sending.letter;
        letter.attempts = letter.attempts.saturating_add(1);
        let error = attempt.error.clone();
        let outcome = if attempt.is_delivered() {
            if self.circuit.delivered() {
                self.retry_all_now(now);
            }
            self.progress.last_delivered_at = Some(now);
            self.drop_letter(device, letter.number);
            Outcome::Delivered
        } else {
            // That there is nothing to send says nothing of the receiver.
            if !attempt.is_hopeless {
                self.circuit.failed(now, sending.is_probe, attempt.asked_ms);
            }
            self.progress.last_error = error.clone();
            if attempt.is_hopeless || now >= letter.deadline {
                self.bury(letter, attempt.status, error.clone());
                Outcome::Dead
            } else {
                let pause = pause_ms(letter.attempts, chance, attempt.asked_ms);
                letter.next_at = now.plus_ms(pause).min(letter.deadline);
                self.keep(letter, &attempt);
                Outcome::Retry
            }
        };
        self.progress.attempts.push(AttemptLog {
            number: Some(letter.number),
            device_id: Some(letter.device_id),
            attempt: letter.attempts,
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
        let is_late =
            |lane: &Lane| lane.sending.is_none() && lane.first().is_some_and(|it| it.deadline <= now);
        let late: Vec<_> = self.lanes.iter().filter(|(_, lane)| is_late(lane)).map(|(key, _)| *key).collect();
        let mut count = 0;
        for device in late {
            while let Some(letter) =
                self.lanes.get(&device).and_then(Lane::first).filter(|it| it.deadline <= now)
            {
                self.bury(letter, None, self.progress.last_error.clone());
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
            let has_any = self.lanes.values().any(|lane| !lane.letters.is_empty());
            return Some(probe_at).filter(|_| self.sending == 0 && has_any);
        }
        self.later.first().map(|(at, _)| *at)
    }

    /// Whether there is something to write beside the position.
    #[must_use]
    pub fn has_progress(&self) -> bool {
        self.has_changed || !self.progress.letters.is_empty()
    }

    /// How many rows are to be written.
    #[must_use]
    pub fn progress_rows(&self) -> usize {
        self.progress.letters.len() + self.progress.attempts.len()
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
        self.lanes.is_empty()
    }

    fn send(&mut self, device: DeviceKey, is_probe: bool, now: UnixMs) -> Option<Sending> {
        self.unplace(device);
        let lane = self.lanes.get_mut(&device)?;
        let (_, letter) = lane.letters.pop_first()?;
        let is_again = letter.attempts > 0;
        lane.tried_at = now;
        lane.sending = Some(lane::OnItsWay { letter, is_probe, is_again, began_at: now });
        self.sending += 1;
        self.sending_again += usize::from(is_again);
        Some(Sending { letter, is_probe })
    }

    /// The lane that was not tried for the longest time: one letter that
    /// always fails must not keep the circuit open for all others.
    fn probe_device(&self) -> Option<DeviceKey> {
        let waiting = self
            .lanes
            .iter()
            .filter_map(|(device, lane)| lane.first().map(|first| (lane.tried_at, first.number, *device)));
        waiting.min().map(|(.., device)| device)
    }

    fn retry_all_now(&mut self, now: UnixMs) {
        let devices: Vec<_> = self.later.iter().map(|(_, device)| *device).collect();
        for device in devices {
            if let Some(lane) = self.lanes.get_mut(&device)
                && let Some(mut first) = lane.letters.first_entry()
            {
                first.get_mut().next_at = now;
            }
            self.place(device, now);
        }
    }

    /// A letter is delivered: nothing of it remains.
    fn drop_letter(&mut self, device: DeviceKey, number: RecordNumber) {
        let is_stored = self.lanes.get(&device).is_some_and(|lane| lane.stored.is_some());
        if is_stored {
            self.progress.letters.insert(number, None);
        } else {
            self.live.remove(&number);
        }
    }

    /// A letter is given up.
    fn bury(&mut self, letter: Letter, status: Option<u16>, error: Option<Arc<str>>) {
        if let Some(lane) = self.lanes.get_mut(&letter.device) {
            lane.letters.remove(&letter.number);
        }
        self.live.remove(&letter.number);
        let buried = StoredLetter { letter, state: LetterState::Dead, status, error };
        self.progress.letters.insert(letter.number, Some(buried));
        self.has_changed = true;
    }

    /// A letter is kept for another try. Its lane is parked, unless nothing goes
    /// to this receiver now anyway: what is in memory alone is sent faster later.
    fn keep(&mut self, letter: Letter, attempt: &Attempt) {
        let device = letter.device;
        if let Some(lane) = self.lanes.get_mut(&device)
            // Else older ones are to be read first, and it with them.
            && lane.stored.is_none_or(|stored| letter.number <= stored.loaded)
        {
            lane.letters.insert(letter.number, letter);
        }
        if self.is_open() && self.lanes.get(&device).is_some_and(|lane| lane.stored.is_none()) {
            return;
        }
        self.park(device);
        let (status, error) = (attempt.status, attempt.error.clone());
        let kept = StoredLetter { letter, state: LetterState::Parked, status, error };
        self.progress.letters.insert(letter.number, Some(kept));
    }

    fn store(&mut self, letter: Letter, state: LetterState, error: Option<Arc<str>>) {
        let stored = StoredLetter { letter, state, status: None, error };
        self.progress.letters.insert(letter.number, Some(stored));
    }

    /// Writes the letters of a lane that are in memory alone.
    fn park(&mut self, device: DeviceKey) {
        let Some(lane) = self.lanes.get_mut(&device) else { return };
        if lane.stored.is_some() {
            return;
        }
        let on_its_way = lane.sending.map(|sending| sending.letter);
        let all: Vec<Letter> = on_its_way.into_iter().chain(lane.letters.values().copied()).collect();
        let Some(until) = all.iter().map(|letter| letter.number).max() else { return };
        while lane.letters.len() > LANE_LETTERS_MAX {
            lane.letters.pop_last();
        }
        let loaded = if lane.letters.len() + usize::from(on_its_way.is_some()) == all.len() {
            until
        } else {
            lane.letters.keys().last().copied().unwrap_or_default()
        };
        lane.stored = Some(lane::Stored { until, loaded });
        for letter in all {
            self.live.remove(&letter.number);
            self.store(letter, LetterState::Parked, None);
        }
    }

    /// Parks the lane that holds up the position, if it has done so for long.
    fn park_slow(&mut self, now: UnixMs) {
        if self.live.len() < LIVE_MAX / 2 {
            return;
        }
        let Some((_, device)) = self.live.first_key_value() else { return };
        let device = *device;
        let began = self.lanes.get(&device).and_then(|lane| lane.sending).map(|sending| sending.began_at);
        if began.is_some_and(|began| now.since_ms(began) >= SLOW_MS) {
            self.park(device);
            self.place(device, now);
        }
    }

    fn promote(&mut self, now: UnixMs) {
        while let Some((at, device)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, device));
            self.place(device, now);
        }
    }

    /// Puts a lane where it belongs now.
    fn place(&mut self, device: DeviceKey, now: UnixMs) {
        self.unplace(device);
        let Some(lane) = self.lanes.get_mut(&device) else { return };
        if lane.sending.is_some() {
            return;
        }
        let place = match lane.first() {
            Some(first) if first.next_at > now => Place::Later(first.next_at),
            Some(first) if first.attempts > 0 => Place::Again(first.number),
            Some(first) => Place::Fresh(first.number),
            None if lane.is_unread() => Place::Unread,
            None => {
                self.lanes.remove(&device);
                return;
            }
        };
        lane.place = Some(place);
        match place {
            Place::Fresh(number) => self.fresh.insert((number, device)),
            Place::Again(number) => self.again.insert((number, device)),
            Place::Later(at) => self.later.insert((at, device)),
            Place::Unread => self.unread.insert(device),
        };
    }

    fn unplace(&mut self, device: DeviceKey) {
        let Some(place) = self.lanes.get_mut(&device).and_then(|lane| lane.place.take()) else { return };
        match place {
            Place::Fresh(number) => self.fresh.remove(&(number, device)),
            Place::Again(number) => self.again.remove(&(number, device)),
            Place::Later(at) => self.later.remove(&(at, device)),
            Place::Unread => self.unread.remove(&device),
        };
    }
}
