//! What of an outage goes to the log, of a broker or of something that it offers: its
//! beginning at once, its end, and a reminder from time to time, however often a link tries.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often an outage that goes on is warned of.
const REMINDER: Duration = Duration::from_secs(60);

/// The outage that there is now, if there is one.
#[derive(Default)]
pub(crate) struct Outage(Mutex<Option<Ongoing>>);

struct Ongoing {
    began: Instant,
    warned: Instant,
    failures: u64,
    problem: String,
}

/// How a failure is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It begins the outage: warn.
    First,
    /// The outage goes on and was not warned of for a while: warn.
    Reminder {
        /// How long it lasts already.
        lasts: Duration,
        /// How many failures there were.
        failures: u64,
    },
    /// The outage goes on: for debugging only.
    Repeated,
}

impl Outage {
    /// An attempt to reach the broker has failed, or a connection was lost.
    pub(crate) fn failed(&self, problem: &str) -> Failure {
        self.failed_at(problem, Instant::now())
    }

    fn failed_at(&self, problem: &str, now: Instant) -> Failure {
        let mut ongoing = self.ongoing();
        let Some(outage) = &mut *ongoing else {
            *ongoing = Some(Ongoing { began: now, warned: now, failures: 1, problem: problem.to_owned() });
            return Failure::First;
        };
        outage.failures += 1;
        problem.clone_into(&mut outage.problem);
        if now.duration_since(outage.warned) < REMINDER {
            return Failure::Repeated;
        }
        outage.warned = now;
        Failure::Reminder { lasts: now.duration_since(outage.began), failures: outage.failures }
    }

    /// Takes note of a failure and logs it: as a warning if it begins the outage, or if
    /// there was none for a while; else for debugging only.
    pub(crate) fn log(&self, error: &dyn Display, what: &str) {
        match self.failed(&error.to_string()) {
            Failure::First => tracing::warn!(%error, "{what}; retrying"),
            Failure::Reminder { lasts, failures } => {
                tracing::warn!(%error, down_s = lasts.as_secs(), failures, "{what}, still; retrying");
            }
            Failure::Repeated => tracing::debug!(%error, "{what}, still; retrying"),
        }
    }

    /// The link is up; how long the outage has lasted, if there was one.
    pub(crate) fn over(&self) -> Option<Duration> {
        self.over_at(Instant::now())
    }

    fn over_at(&self, now: Instant) -> Option<Duration> {
        self.ongoing().take().map(|outage| now.duration_since(outage.began))
    }

    /// What failed last, while the outage goes on.
    pub(crate) fn problem(&self) -> Option<String> {
        self.ongoing().as_ref().map(|outage| outage.problem.clone())
    }

    fn ongoing(&self) -> MutexGuard<'_, Option<Ongoing>> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_warned_of_at_once_and_then_once_a_minute_however_often_it_is_tried() {
        let (outage, begin) = (Outage::default(), Instant::now());
        let after = |ms: u64| begin + Duration::from_millis(ms);
        assert_eq!(outage.failed_at("refused", begin), Failure::First);
        // Ten minutes of an attempt each 100 ms.
        let mut reminders = Vec::new();
        for ms in (100..=600_000).step_by(100) {
            match outage.failed_at("refused", after(ms)) {
                Failure::Reminder { lasts, failures } => reminders.push((lasts.as_secs(), failures)),
                Failure::Repeated => {}
                Failure::First => panic!("it began before"),
            }
        }
        let expected: Vec<_> = (1..=10).map(|minute| (minute * 60, minute * 600 + 1)).collect();
        assert_eq!(reminders, expected);
    }

    #[test]
    fn the_end_of_an_outage_is_told_once_and_the_next_one_is_warned_of_at_once() {
        let (outage, begin) = (Outage::default(), Instant::now());
        assert_eq!((outage.over_at(begin), outage.problem()), (None, None));
        outage.failed_at("refused", begin);
        outage.failed_at("timed out", begin);
        assert_eq!(outage.problem().as_deref(), Some("timed out"));
        let end = begin + Duration::from_secs(7);
        assert_eq!(outage.over_at(end), Some(Duration::from_secs(7)));
        assert_eq!((outage.over_at(end), outage.problem()), (None, None));
        assert_eq!(outage.failed_at("refused", end), Failure::First);
    }
}
