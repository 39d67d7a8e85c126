//! The state of the link: whether messages can go both ways, which connection to the broker this
//! is, and whether the link is to stop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::LinkStatus;

/// How long the broker may be out of reach before new calls are refused.
const DOWN_MAX: Duration = Duration::from_secs(5);

/// Shared by all tasks of a link.
pub(super) struct State {
    standing: Mutex<Standing>,
    epoch: AtomicU64,
    announcements_dropped: AtomicU64,
    /// Ends all tasks.
    pub(super) stop: CancellationToken,
    /// Messages that are being handled; a stop waits for them.
    pub(super) under_way: TaskTracker,
}

struct Standing {
    status: LinkStatus,
    since: Instant,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            standing: Mutex::new(Standing { status: LinkStatus::Down, since: Instant::now() }),
            epoch: AtomicU64::new(0),
            announcements_dropped: AtomicU64::new(0),
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
            *standing = Standing { status, since: Instant::now() };
        }
    }

    /// Whether new calls are better refused than kept.
    pub(super) fn is_refusing(&self) -> bool {
        let standing = self.standing();
        standing.status != LinkStatus::Up && standing.since.elapsed() > DOWN_MAX
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
