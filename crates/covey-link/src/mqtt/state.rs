//! The state of the link: whether messages can go both ways, which connection to the broker this
//! is, and whether the link is to stop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use covey_core::port::LinkState;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::LinkStatus;
use crate::outage::Outage;

/// How long the broker may be out of reach before new calls are refused.
const DOWN_MAX: Duration = Duration::from_secs(5);

/// Shared by all tasks of a link.
pub(super) struct State {
    standing: Mutex<Standing>,
    epoch: AtomicU64,
    announcements_dropped: AtomicU64,
    /// What keeps the link from being up.
    pub(super) outage: Outage,
    /// Ends all tasks.
    pub(super) stop: CancellationToken,
    /// Messages that are being handled; a stop waits for them.
    pub(super) under_way: TaskTracker,
}

struct Standing {
    status: LinkStatus,
    since: Instant,
    /// Whether the link was ever up.
    was_up: bool,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            standing: Mutex::new(Standing { status: LinkStatus::Down, since: Instant::now(), was_up: false }),
            epoch: AtomicU64::new(0),
            announcements_dropped: AtomicU64::new(0),
            outage: Outage::default(),
            stop: CancellationToken::new(),
            under_way: TaskTracker::new(),
        }
    }

    pub(super) fn status(&self) -> LinkStatus {
        self.standing().status
    }

    pub(super) fn set_status(&self, status: LinkStatus) {
        let mut standing = self.standing();
        if standing.status != status {
            let was_up = standing.was_up || status == LinkStatus::Up;
            *standing = Standing { status, since: Instant::now(), was_up };
        }
    }

    /// Whether new calls are better refused than kept.
    pub(super) fn is_refusing(&self) -> bool {
        self.standing().is_refusing(Instant::now())
    }

    /// How the link is, for those who watch over the server.
    pub(super) fn link_state(&self) -> LinkState {
        self.standing().link_state(Instant::now())
    }

    /// The number of the connection. What belongs to an earlier one is void.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// A connection was made or lost; the new number.
    pub(super) fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// An announcement was not handed to the broker.
    pub(super) fn drop_announcement(&self) {
        self.announcements_dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn announcements_dropped(&self) -> u64 {
        self.announcements_dropped.load(Ordering::Relaxed)
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn is_refusing(&self, now: Instant) -> bool {
        self.status != LinkStatus::Up && now.duration_since(self.since) > DOWN_MAX
    }

    fn link_state(&self, now: Instant) -> LinkState {
        LinkState { status: self.status, is_ready: self.was_up && !self.is_refusing(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_was_up_may_be_away_for_a_moment_and_one_that_never_was_is_not_ready() {
        let since = Instant::now();
        let (soon, later) = (since + DOWN_MAX, since + DOWN_MAX + Duration::from_millis(1));
        for (status, was_up, at_once, after_a_while) in [
            (LinkStatus::Down, false, false, false),
            (LinkStatus::Blocked, false, false, false),
            (LinkStatus::Down, true, true, false),
            (LinkStatus::Blocked, true, true, false),
            (LinkStatus::Up, true, true, true),
        ] {
            let standing = Standing { status, since, was_up };
            assert_eq!(standing.link_state(soon), LinkState { status, is_ready: at_once }, "{status:?}");
            assert_eq!(
                standing.link_state(later),
                LinkState { status, is_ready: after_a_while },
                "{status:?}"
            );
        }
    }

    #[test]
    fn what_was_up_once_is_remembered() {
        let state = State::new();
        assert!(!state.link_state().is_ready);
        state.set_status(LinkStatus::Blocked);
        assert!(!state.link_state().is_ready);
        state.set_status(LinkStatus::Up);
        state.set_status(LinkStatus::Down);
        assert_eq!(state.link_state(), LinkState { status: LinkStatus::Down, is_ready: true });
    }
}
