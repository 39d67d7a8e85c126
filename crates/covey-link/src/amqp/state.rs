//! How the link is: what its two connections say.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::LinkStatus;

/// How long the broker may be out of reach before calls are refused: a restart
/// or a change of host takes less.
const DOWN_PATIENCE: Duration = Duration::from_secs(5);

/// The state of the link, shared by all that works on it.
pub(super) struct State(Mutex<Now>);

struct Now {
    publishes: bool,
    consumes: bool,
    is_blocked: bool,
    down_since: Option<Instant>,
}

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To devices.
    Out,
    /// From devices, and from the broker about them.
    In,
}

impl Default for State {
    fn default() -> Self {
        let down_since = Some(Instant::now());
        Self(Mutex::new(Now { publishes: false, consumes: false, is_blocked: false, down_since }))
    }
}

impl State {
    fn now(&self) -> MutexGuard<'_, Now> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    }

    /// The broker has stopped taking messages, or takes them again.
    pub(super) fn is_blocked(&self, is_blocked: bool) {
        self.now().is_blocked = is_blocked;
    }

    /// How the link is.
    pub(super) fn status(&self) -> LinkStatus {
        let now = self.now();
        if now.down_since.is_some() {
            LinkStatus::Down
        } else if now.is_blocked {
            LinkStatus::Blocked
        } else {
            LinkStatus::Up
        }
    }

    /// Whether new calls are better refused than kept.
    pub(super) fn is_refusing(&self) -> bool {
        let now = self.now();
        now.is_blocked || now.down_since.is_some_and(|since| since.elapsed() > DOWN_PATIENCE)
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
}
