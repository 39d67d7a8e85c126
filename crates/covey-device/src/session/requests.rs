//! Which announced task to ask for next, and which questions are still without an answer.

use std::time::Duration;

use covey_wire::downlink::Announcement;
use tokio::time::Instant;
use uuid::Uuid;

/// Announcements kept while all hands are busy. The server leaves at most 16 unanswered, unless
/// it is configured otherwise.
const ANNOUNCED_MAX: usize = 256;
/// How long to wait for the answer to a `req` before asking again.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Times to ask for a task. After that its next announcement counts.
const ATTEMPTS_MAX: u8 = 3;

#[derive(Debug)]
struct Requested {
    announcement: Announcement,
    ask_again_at: Instant,
    attempts: u8,
}

/// The announced and the requested tasks of one connection.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    announced: Vec<Announcement>,
    requested: Vec<Requested>,
}

impl Requests {
    /// Tasks asked for and not answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.requested.len()
    }

    /// Keeps an announcement. False if that task is known here already.
    pub(crate) fn announced(&mut self, announcement: Announcement) -> bool {
        let id = announcement.task_id;
        let known = self.announced.iter().any(|other| other.task_id == id)
            || self.requested.iter().any(|other| other.announcement.task_id == id);
        if known {
            return false;
        }
        if self.announced.len() == ANNOUNCED_MAX {
            tracing::warn!(task_id = %id, "too many announcements wait; left to the server to repeat");
            return true;
        }
        self.announced.push(announcement);
        true
    }

    /// The best announced task: the highest priority, then the order of the announcements,
    /// which is the server's order of selection.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Uuid> {
        let best = self
            .announced
            .iter()
            .enumerate()
            .max_by_key(|(at, announcement)| (announcement.priority, std::cmp::Reverse(*at)))
            .map(|(at, _)| at)?;
        let announcement = self.announced.remove(best);
        self.requested.push(Requested { announcement, ask_again_at: now + ANSWER_WAIT, attempts: 1 });
        Some(announcement.task_id)
    }

    /// A task has come: it is not asked for any more. Returns its priority, if known.
    pub(crate) fn answered(&mut self, task_id: Uuid) -> Option<u8> {
        self.announced.retain(|other| other.task_id != task_id);
        let at = self.requested.iter().position(|other| other.announcement.task_id == task_id)?;
        self.requested.remove(at).announcement.priority
    }

    /// "Nothing to do" names no task. Answers come in the order of the questions.
    pub(crate) fn answered_nothing(&mut self) -> Option<Uuid> {
        (!self.requested.is_empty()).then(|| self.requested.remove(0).announcement.task_id)
    }

    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.requested.iter().map(|other| other.ask_again_at).min()
    }

    /// What to ask for again.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<Uuid> {
        self.requested.retain(|other| other.ask_again_at > now || other.attempts < ATTEMPTS_MAX);
        let overdue = self.requested.iter_mut().filter(|other| other.ask_again_at <= now).map(|other| {
            other.attempts += 1;
            other.ask_again_at = now + ANSWER_WAIT;
            other.announcement.task_id
        });
        overdue.collect()
    }

    /// Forgets everything: a lost connection, or the end.
    pub(crate) fn clear(&mut self) {
        self.announced.clear();
        self.requested.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(id: u128, priority: Option<u8>) -> Announcement {
        Announcement { task_id: Uuid::from_u128(id), priority }
    }

    #[test]
    fn the_highest_priority_goes_first_and_equals_in_order() {
        let now = Instant::now();
        let mut requests = Requests::default();
        for (id, priority) in [(1, None), (2, Some(3)), (3, Some(3)), (4, Some(9))] {
            assert!(requests.announced(announcement(id, priority)));
        }
        assert!(!requests.announced(announcement(4, None)));
        let order: Vec<_> = std::iter::from_fn(|| requests.next(now)).map(|id| id.as_u128()).collect();
        assert_eq!(order, [4, 2, 3, 1]);
        assert_eq!(requests.answered(Uuid::from_u128(2)), Some(3));
        assert_eq!(requests.answered_nothing(), Some(Uuid::from_u128(4)));
        assert_eq!(requests.in_flight(), 2);
    }

    #[test]
    fn a_question_without_an_answer_is_repeated_and_then_given_up() {
        let start = Instant::now();
        let mut requests = Requests::default();
        requests.announced(announcement(1, None));
        requests.next(start);
        assert!(requests.overdue(start).is_empty());
        assert_eq!(requests.overdue(start + ANSWER_WAIT).len(), 1);
        assert_eq!(requests.overdue(start + ANSWER_WAIT * 2).len(), 1);
        assert!(requests.overdue(start + ANSWER_WAIT * 3).is_empty());
        assert_eq!(requests.in_flight(), 0);
    }
}
