//! What the journal remembers, in memory: which task is running, finished, committed; its bounds
//! and who goes first when they are reached. No I/O and no clock.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::answer::Answer;

/// What an entry costs besides its body, in bytes.
const ENTRY_BYTES: usize = 160;

/// Upper bounds of what is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) entries_max: usize,
    /// Sum over entries of body bytes and 160.
    pub(crate) bytes_max: usize,
}

/// What is known of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing: run it.
    Never,
    /// It was started and has no result yet.
    Running,
    /// It has this result.
    Finished(Answer),
}

#[derive(Debug)]
pub(crate) struct Entry {
    order: u64,
    pub(crate) keep_until: u64,
    pub(crate) state: State,
}

#[derive(Debug)]
pub(crate) enum State {
    Running,
    Finished { answer: Answer, committed: bool },
}

impl Entry {
    fn bytes(&self) -> usize {
        match &self.state {
            State::Running => ENTRY_BYTES,
            State::Finished { answer, .. } => ENTRY_BYTES + answer.body.len(),
        }
    }
}

/// The entries, by task and by age.
#[derive(Debug)]
pub(crate) struct Index {
    bounds: Bounds,
    entries: HashMap<Uuid, Entry>,
    by_age: BTreeMap<u64, Uuid>,
    next_order: u64,
    bytes: usize,
    /// No entry expires before this instant: spares a scan when nothing can be gained.
    earliest_end: u64,
    forgotten_alive: u64,
}

impl Index {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: HashMap::new(),
            by_age: BTreeMap::new(),
            next_order: 0,
            bytes: 0,
            earliest_end: u64::MAX,
            forgotten_alive: 0,
        }
    }

    pub(crate) fn seen(&self, task_id: Uuid) -> Seen {
        match self.entries.get(&task_id).map(|entry| &entry.state) {
            None => Seen::Never,
            Some(State::Running) => Seen::Running,
            Some(State::Finished { answer, .. }) => Seen::Finished(answer.clone()),
        }
    }

    /// Remembers that a task runs. False if it was known already.
    pub(crate) fn begin(&mut self, task_id: Uuid, keep_until: u64, now: u64) -> bool {
        if self.entries.contains_key(&task_id) {
            return false;
        }
        self.insert(task_id, keep_until, State::Running);
        self.make_room(now, task_id);
        true
    }

    /// Remembers a result. `keep_until` counts only for a task that is not known.
    pub(crate) fn finish(&mut self, task_id: Uuid, keep_until: u64, answer: Answer, now: u64) {
        let state = State::Finished { answer, committed: false };
        match self.entries.get_mut(&task_id) {
            Some(entry) => {
                self.bytes -= entry.bytes();
                entry.state = state;
                self.bytes += entry.bytes();
            }
            None => self.insert(task_id, keep_until, state),
        }
        self.make_room(now, task_id);
    }

    /// Remembers that the server has the result. False if there is none, or it was known.
    pub(crate) fn commit(&mut self, task_id: Uuid) -> bool {
        match self.entries.get_mut(&task_id).map(|entry| &mut entry.state) {
            Some(State::Finished { committed, .. }) if !*committed => {
                *committed = true;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn forget(&mut self, task_id: Uuid) {
        if let Some(entry) = self.entries.remove(&task_id) {
            self.by_age.remove(&entry.order);
            self.bytes -= entry.bytes();
        }
    }

    /// Entries from the oldest to the newest.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Uuid, &Entry)> {
        self.by_age.values().filter_map(|id| self.entries.get(id).map(|entry| (*id, entry)))
    }

    pub(crate) fn keep_until(&self, task_id: Uuid) -> Option<u64> {
        self.entries.get(&task_id).map(|entry| entry.keep_until)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many alive results without a commit the bounds have pushed out.
    pub(crate) fn forgotten_alive(&self) -> u64 {
        self.forgotten_alive
    }

    fn insert(&mut self, task_id: Uuid, keep_until: u64, state: State) {
        let order = self.next_order;
        self.next_order += 1;
        let entry = Entry { order, keep_until, state };
        self.bytes += entry.bytes();
        self.earliest_end = self.earliest_end.min(keep_until);
        self.by_age.insert(order, task_id);
        self.entries.insert(task_id, entry);
    }

    /// Goes back within the bounds: first out are entries whose task has expired, then the
    /// oldest committed ones, then the oldest finished ones. What runs, and the entry just
    /// touched, stay.
    fn make_room(&mut self, now: u64, touched: Uuid) {
        if self.within_bounds() {
            return;
        }
        if self.earliest_end <= now {
            self.drop_expired(now, touched);
        }
        for committed_ones in [true, false] {
            while !self.within_bounds() {
                let Some(oldest) = self.oldest_finished(committed_ones, touched) else {
                    break;
                };
                if !committed_ones {
                    self.forgotten_alive += 1;
                }
                self.forget(oldest);
            }
        }
    }

    fn within_bounds(&self) -> bool {
        self.entries.len() <= self.bounds.entries_max && self.bytes <= self.bounds.bytes_max
    }

    pub(crate) fn drop_expired(&mut self, now: u64, touched: Uuid) {
        let expired: Vec<Uuid> = self
            .iter()
            .filter(|(id, entry)| {
                entry.keep_until <= now && *id != touched && matches!(entry.state, State::Finished { .. })
            })
            .map(|(id, _)| id)
            .collect();
        for task_id in expired {
            self.forget(task_id);
        }
        self.earliest_end = self.entries.values().map(|entry| entry.keep_until).min().unwrap_or(u64::MAX);
    }

    fn oldest_finished(&self, committed_ones: bool, touched: Uuid) -> Option<Uuid> {
        self.iter()
            .find(|(id, entry)| {
                *id != touched
                    && matches!(&entry.state, State::Finished { committed, .. } if *committed == committed_ones)
            })
            .map(|(id, _)| id)
    }
}
