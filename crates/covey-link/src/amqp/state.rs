//! How the link is: what its two connections say.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use covey_core::port::LinkState;

use crate::LinkStatus;
use crate::outage::Outage;

/// How long the broker may be out of reach before calls are refused: a restart
/// or a change of host takes less.
const DOWN_PATIENCE: Duration = Duration::from_secs(5);

/// The state of the link, shared by all that works on it.
#[derive(Default)]
pub(super) struct State {
    now: Mutex<Now>,
    /// What keeps the link from being up.
    pub(super) outage: Outage,
}

struct Now {
    publishes: bool,
    consumes: bool,
    is_blocked: bool,
    down_since: Option<Instant>,
    /// Whether the link was ever up.
    was_up: bool,
}

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To devices.
    Out,
    /// From devices, and from the broker about them.
    In,
}

impl Default for Now {
    fn default() -> Self {
        let down_since = Some(Instant::now());
        Self { publishes: false, consumes: false, is_blocked: false, down_since, was_up: false }
    }
}

impl Now {
    fn status(&self) -> LinkStatus {
        if self.down_since.is_some() {
            LinkStatus::Down
        } else if self.is_blocked {
            LinkStatus::Blocked
        } else {
            LinkStatus::Up
        }
    }

    fn is_refusing(&self, now: Instant) -> bool {
        self.is_blocked || self.down_since.is_some_and(|since| now.duration_since(since) > DOWN_PATIENCE)
    }

    fn link_state(&self, now: Instant) -> LinkState {
        LinkState { status: self.status(), is_ready: self.was_up && !self.is_refusing(now) }
    }
}

impl State {
    fn now(&self) -> MutexGuard<'_, Now> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection has come up or has gone.
    pub(super) fn is_up(&self, way: Way, is_up: bool) {
        let mut now = self.now();
        match way {
            Way::Out => (now.publishes, now.is_blocked) = (is_up, false),
            Way::In => now.consumes = is_up,
        }
        now.down_since = match now.down_since {
            _ if now.publishes && now.consumes => None,
            None => Some(Instant::now()),
            since => since,
        };
        let is_whole = now.down_since.is_none();
        now.was_up |= is_whole;
        drop(now);
        if is_whole && let Some(lasted) = self.outage.over() {
            tracing::info!(down_s = lasted.as_secs(), "link to RabbitMQ is up again");
        }
    }

    /// The broker has stopped taking messages, or takes them again.
    pub(super) fn is_blocked(&self, is_blocked: bool) {
        self.now().is_blocked = is_blocked;
    }

    /// How the link is.
    pub(super) fn status(&self) -> LinkStatus {
        self.now().status()
    }

    /// Whether new calls are better refused than kept.
    pub(super) fn is_refusing(&self) -> bool {
        self.now().is_refusing(Instant::now())
    }

    /// How the link is, for those who watch over the server.
    pub(super) fn link_state(&self) -> LinkState {
        self.now().link_state(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_up_when_both_ways_are() {
        let state = State::default();
        assert_eq!(state.status(), LinkStatus::Down);
        state.is_up(Way::Out, true);
        assert_eq!(state.status(), LinkStatus::Down);
        state.is_up(Way::In, true);
        assert_eq!(state.status(), LinkStatus::Up);
        state.is_blocked(true);
        assert_eq!((state.status(), state.is_refusing()), (LinkStatus::Blocked, true));
        state.is_blocked(false);
        assert!(!state.is_refusing());
        state.is_blocked(true);
        // A connection that is gone is not blocked; a new one says so itself.
        state.is_up(Way::Out, false);
        assert_eq!((state.status(), state.is_refusing()), (LinkStatus::Down, false));
    }
    #[test]
    fn a_link_that_was_up_may_be_away_for_a_moment_and_one_that_never_was_is_not_ready() {
        let state = State::default();
        assert!(!state.link_state().is_ready, "it was never up");
        state.is_up(Way::Out, true);
        state.is_up(Way::In, true);
        assert_eq!(state.link_state(), LinkState::UP);
        state.is_up(Way::In, false);
        assert_eq!(state.link_state(), LinkState { status: LinkStatus::Down, is_ready: true });
        let later = Instant::now() + DOWN_PATIENCE + Duration::from_millis(1);
        assert!(!state.now().link_state(later).is_ready);
        state.is_up(Way::In, true);
        // It refuses calls at once, so nobody needs to send it any.
        state.is_blocked(true);
        assert_eq!(state.link_state(), LinkState { status: LinkStatus::Blocked, is_ready: false });
    }

    #[test]
    fn an_outage_ends_when_both_ways_are_up() {
        let state = State::default();
        state.outage.failed("refused");
        state.is_up(Way::Out, true);
        assert_eq!(state.outage.problem().as_deref(), Some("refused"));
        state.is_up(Way::In, true);
        assert_eq!(state.outage.problem(), None);
    }
}
