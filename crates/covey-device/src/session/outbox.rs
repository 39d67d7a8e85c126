//! Results on their way: sent, repeated until the server has committed them, and given up when
//! their task has expired. Final results are also in the journal; partial ones only here.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use covey_wire::downlink::Commit;
use tokio::time::Instant;
use uuid::Uuid;

use crate::answer::{Answer, STATUS_PARTIAL};
use crate::call::Partial;

/// Partial results that may wait for their commit; handlers wait beyond it.
const PARTIALS_MAX: usize = 16;
/// The first repetition, if no commit comes; each further one waits twice as long.
const REPEAT_FIRST: Duration = Duration::from_secs(10);
const REPEAT_MAX: Duration = Duration::from_secs(300);
/// Times a result is sent on one connection. A new connection starts anew.
const ATTEMPTS_MAX: u32 = 12;
/// Commits remembered, to recognise one that comes twice.
const COMMITS_MAX: usize = 32;

/// Names an item of the outbox.
pub(crate) type ItemNumber = u64;

#[derive(Debug)]
pub(crate) struct Item {
    number: ItemNumber,
    pub(crate) task_id: Uuid,
    pub(crate) status: u16,
    pub(crate) ext_id: i64,
    pub(crate) body: Bytes,
    keep_until: u64,
    /// Times sent on this connection.
    attempts: u32,
    ever_sent: bool,
    /// When to send it again; `None` while it waits to be sent, or is given up for now.
    repeat_at: Option<Instant>,
}

impl Item {
    pub(crate) fn is_partial(&self) -> bool {
        self.status == STATUS_PARTIAL
    }
}

/// Results that are not committed, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    items: VecDeque<Item>,
    next_number: ItemNumber,
    partials: usize,
    /// No repetition is due before this.
    earliest: Option<Instant>,
    /// Task and `result_id` of the last commits.
    commits: VecDeque<(Uuid, i64)>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn takes_partials(&self) -> bool {
        self.partials < PARTIALS_MAX
    }

    pub(crate) fn push_partial(&mut self, partial: Partial, keep_until: u64) -> ItemNumber {
        self.partials += 1;
        self.push(partial.task_id, STATUS_PARTIAL, partial.ext_id, partial.body, keep_until)
    }

    /// Puts a final result in; `None` if that task's result is already waiting to be sent.
    /// One that was sent is sent again.
    pub(crate) fn push_final(
        &mut self,
        task_id: Uuid,
        answer: Answer,
        keep_until: u64,
    ) -> Option<ItemNumber> {
        let known = self.items.iter_mut().find(|item| item.task_id == task_id && !item.is_partial());
        match known {
            Some(item) if item.attempts == 0 => None,
            Some(item) => {
                item.repeat_at = None;
                Some(item.number)
            }
            None => Some(self.push(task_id, answer.status, answer.ext_id, answer.body, keep_until)),
        }
    }

    fn push(&mut self, task_id: Uuid, status: u16, ext_id: i64, body: Bytes, keep_until: u64) -> ItemNumber {
        let number = self.next_number;
        self.next_number += 1;
        self.items.push_back(Item {
            number,
            task_id,
            status,
            ext_id,
            body,
            keep_until,
            attempts: 0,
            ever_sent: false,
            repeat_at: None,
        });
        number
    }

    pub(crate) fn get(&self, number: ItemNumber) -> Option<&Item> {
        // Numbers ascend along the queue.
        let at = self.items.binary_search_by_key(&number, |item| item.number).ok()?;
        self.items.get(at)
    }

    /// Notes that an item was handed to the connection, and when to repeat it.
    pub(crate) fn sent(&mut self, number: ItemNumber, now: Instant) {
        let Ok(at) = self.items.binary_search_by_key(&number, |item| item.number) else {
            return;
        };
        let item = &mut self.items[at];
        item.attempts += 1;
        item.ever_sent = true;
        item.repeat_at = (item.attempts < ATTEMPTS_MAX).then(|| {
            let wait = REPEAT_FIRST.saturating_mul(1 << (item.attempts - 1).min(16));
            now + wait.min(REPEAT_MAX)
        });
        if let Some(at) = item.repeat_at {
            self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
        }
    }

    /// Takes out what a commit is about and returns it. `None` for a commit that came before.
    ///
    /// A partial and the final result of a task may carry the same `ext_id`. They are committed
    /// in the order they were sent, and a repeated commit has the same `result_id`.
    pub(crate) fn committed(&mut self, commit: Commit) -> Option<Item> {
        if let Some(id) = commit.result_id {
            let this = (commit.task_id, id);
            if self.commits.contains(&this) {
                return None;
            }
            if self.commits.len() == COMMITS_MAX {
                self.commits.pop_front();
            }
            self.commits.push_back(this);
        }
        let at = self.items.iter().position(|item| {
            item.task_id == commit.task_id
                && item.ever_sent
                && commit.ext_id.is_none_or(|ext_id| ext_id == item.ext_id)
        })?;
        self.remove(at)
    }

    fn remove(&mut self, at: usize) -> Option<Item> {
        let item = self.items.remove(at)?;
        if item.is_partial() {
            self.partials -= 1;
        }
        Some(item)
    }

    pub(crate) fn earliest_repeat(&self) -> Option<Instant> {
        self.earliest
    }

    /// Drops what need not be sent any more and returns what is due again.
    pub(crate) fn due(&mut self, now: Instant, now_s: u64) -> Vec<ItemNumber> {
        self.drop_ended(now_s);
        let mut due = Vec::new();
        self.earliest = None;
        for item in &mut self.items {
            match item.repeat_at {
                Some(at) if at <= now => {
                    item.repeat_at = None;
                    due.push(item.number);
                }
                Some(at) => {
                    self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
                }
                None => {}
            }
        }
        due
    }

    /// A new connection: everything is sent again, in order.
    pub(crate) fn all_again(&mut self, now_s: u64) -> Vec<ItemNumber> {
        self.drop_ended(now_s);
        self.earliest = None;
        let again = self.items.iter_mut().map(|item| {
            item.attempts = 0;
            item.repeat_at = None;
            item.number
        });
        again.collect()
    }

    /// A result whose task has expired is sent once at least, and not repeated. A partial one
    /// that the server does not commit is given up with its last attempt.
    fn drop_ended(&mut self, now_s: u64) {
        self.items.retain(|item| {
            let expired = item.ever_sent && item.keep_until <= now_s;
            let hopeless = item.is_partial() && item.attempts >= ATTEMPTS_MAX;
            !(expired || hopeless)
        });
        self.partials = self.items.iter().filter(|item| item.is_partial()).count();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TASK: Uuid = Uuid::from_u128(1);

    fn commit(ext_id: i64, result_id: i64) -> Commit {
        Commit { task_id: TASK, ext_id: Some(ext_id), result_id: Some(result_id) }
    }

    fn partial(ext_id: i64) -> Partial {
        Partial { task_id: TASK, ext_id, body: Bytes::new() }
    }

    #[test]
    fn a_commit_that_comes_twice_does_not_take_the_final_result_for_the_partial() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        let first = outbox.push_partial(partial(0), 100);
        outbox.sent(first, now);
        outbox.sent(first, now);
        let last = outbox.push_final(TASK, Answer::empty(), 100).unwrap();
        outbox.sent(last, now);
        assert!(outbox.committed(commit(0, 7)).unwrap().is_partial());
        assert!(outbox.committed(commit(0, 7)).is_none());
        assert!(!outbox.committed(commit(0, 8)).unwrap().is_partial());
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_result_is_repeated_with_growing_waits_and_not_beyond_the_life_of_its_task() {
        let start = Instant::now();
        let mut outbox = Outbox::default();
        let number = outbox.push_final(TASK, Answer::empty(), 100).unwrap();
        outbox.sent(number, start);
        let after = |wait: Duration| start + wait;
        assert!(outbox.due(after(REPEAT_FIRST / 2), 0).is_empty());
        assert_eq!(outbox.due(after(REPEAT_FIRST), 0), [number]);
        outbox.sent(number, after(REPEAT_FIRST));
        assert!(outbox.due(after(REPEAT_FIRST * 2), 0).is_empty());
        assert_eq!(outbox.earliest_repeat(), Some(after(REPEAT_FIRST * 3)));
        assert!(outbox.due(after(REPEAT_FIRST * 3), 100).is_empty());
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_new_connection_sends_everything_again_in_order_but_bounded_on_each() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        let first = outbox.push_partial(partial(1), 100);
        let last = outbox.push_final(TASK, Answer::empty(), 100).unwrap();
        assert_eq!(outbox.push_final(TASK, Answer::empty(), 100), None);
        for _ in 0..ATTEMPTS_MAX {
            outbox.sent(last, now);
        }
        assert!(outbox.due(now + REPEAT_MAX * 10, 0).is_empty());
        assert_eq!(outbox.all_again(0), [first, last]);
    }
}
