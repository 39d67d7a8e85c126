//! The task state machine: pure functions of a task, an input and an instant
//! (device-rpc "What each step does", "States").

use std::cmp::Reverse;

use crate::id::{DeviceKey, UnixMs};
use crate::limits::Limits;
use crate::task::{Cause, Change, NewResult, Task, TaskStatus};

/// What a rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The task changed and must be stored.
    Changed,
    /// Nothing changed.
    Unchanged,
}

/// The place of a task in the selection order: the smallest is taken first.
///
/// Priority descending, then soonest expiry, then oldest (device-rpc "req, poll").
pub type Rank = (Reverse<u8>, UnixMs, i64);

impl Task {
    /// The place of this task in the selection order.
    #[must_use]
    pub const fn rank(&self) -> Rank {
        (Reverse(self.priority), self.expires_at, self.seq)
    }

    /// Whether its time ran out and that is not stored yet.
    #[must_use]
    pub fn is_overdue(&self, now: UnixMs) -> bool {
        !self.status.is_final() && self.expires_at <= now
    }

    /// Whether it is open at `now`: neither final nor out of time.
    #[must_use]
    pub fn is_live(&self, now: UnixMs) -> bool {
        !self.status_at(now).is_final()
    }

    /// Whether the lease of the device that took it ran out.
    #[must_use]
    pub fn is_lapsed(&self, now: UnixMs) -> bool {
        self.status == TaskStatus::Lock && self.lease_until.is_none_or(|until| until <= now)
    }

    /// Whether it may be announced: waiting, or taken and given up.
    #[must_use]
    pub fn is_announceable(&self, now: UnixMs) -> bool {
        self.is_live(now) && (self.status != TaskStatus::Lock || self.is_lapsed(now))
    }

    /// Whether a poll may get it (device-rpc "req, poll").
    #[must_use]
    pub fn is_eligible(&self, now: UnixMs) -> bool {
        self.is_announceable(now) && !self.push_only
    }

    /// Whether it is this device's to ask for, answer or finish. Every step of
    /// a device begins with this check (device-rpc "What each step does").
    #[must_use]
    pub fn belongs_to(&self, device: DeviceKey) -> bool {
        self.device == device
    }

    /// ack: READY becomes PENDING; anything else does not change.
    pub fn acknowledge(&mut self, now: UnixMs) -> Verdict {
        if self.status_at(now) != TaskStatus::Ready {
            return Verdict::Unchanged;
        }
        self.pending_at = Some(now);
        self.move_to(TaskStatus::Pending, Cause::Acknowledged, now)
    }

    /// req: READY, PENDING and LOCK become LOCK, and the lease starts anew.
    /// What is final does not change: the device gets "nothing to do".
    pub fn take(&mut self, lease_ms: i64, now: UnixMs) -> Verdict {
        if !self.is_live(now) {
            return Verdict::Unchanged;
        }
        self.lock(Cause::Taken, lease_ms, now);
        self.deliveries = self.deliveries.saturating_add(1);
        Verdict::Changed
    }

    /// res: a partial result keeps the task taken and renews its lease, any
    /// other finishes it. A result that comes late is counted and moves nothing.
    pub fn receive(&mut self, result: &NewResult, lease_ms: i64, now: UnixMs) -> Verdict {
        self.results = self.results.saturating_add(1);
        self.result_bytes = self.result_bytes.saturating_add(result.body.bytes());
        if !self.is_live(now) {
            self.late_results = self.late_results.saturating_add(1);
            // Stored all the same: the device did the work and must learn that it is known.
            return Verdict::Changed;
        }
        if result.is_partial() {
            self.lock(Cause::Progress, lease_ms, now);
            return Verdict::Changed;
        }
        self.lease_until = None;
        let to = if result.status_code < 400 { TaskStatus::Done } else { TaskStatus::Failed };
        self.move_to(to, Cause::Result, now)
    }

    /// A partial result that came before comes again: nothing new, but a sign
    /// of life, so the lease of a taken task starts anew (device-rpc "req, poll").
    pub fn renew(&mut self, result: &NewResult, lease_ms: i64, now: UnixMs) -> Verdict {
        if !result.is_partial() || self.status_at(now) != TaskStatus::Lock {
            return Verdict::Unchanged;
        }
        self.lease_until = Some(now.plus_ms(lease_ms));
        Verdict::Changed
    }

    /// The device has said that it takes no message as large as this task (MQTT 5 §3.1.2.11.4): what is
    /// open becomes FAILED, since the task would come again with each lease and never arrive.
    pub fn fail_as_too_large(&mut self, now: UnixMs) -> Verdict {
        if !self.is_live(now) {
            return Verdict::Unchanged;
        }
        self.lease_until = None;
        self.move_to(TaskStatus::Failed, Cause::TooLargeForDevice, now)
    }

    /// The device has sent a result that is larger than any may be: what is open becomes FAILED, since the
    /// result would come again and again.
    pub fn fail_by_result(&mut self, now: UnixMs) -> Verdict {
        if !self.is_live(now) {
            return Verdict::Unchanged;
        }
        self.lease_until = None;
        self.move_to(TaskStatus::Failed, Cause::ResultTooLarge, now)
    }

    /// The device was there for one connection, which has ended: nobody can do what is open.
    pub fn fail_as_gone(&mut self, now: UnixMs) -> Verdict {
        if !self.is_live(now) {
            return Verdict::Unchanged;
        }
        self.lease_until = None;
        self.move_to(TaskStatus::Failed, Cause::DeviceGone, now)
    }

    /// Whether it has no room for another result, which was not stored before. The one that ends it is
    /// always taken: otherwise it could never end.
    #[must_use]
    pub fn is_full_for(&self, result: &NewResult, limits: &Limits, now: UnixMs) -> bool {
        let is_live = self.is_live(now);
        let is_full = self.results >= limits.results_per_task_max
            || self.result_bytes.saturating_add(result.body.bytes()) > limits.result_bytes_per_task_max;
        match is_live {
            true => is_full && result.is_partial(),
            false => is_full || self.late_results >= limits.late_results_per_task_max,
        }
    }

    /// delete: any state becomes DELETED. Nobody is given its parameters any more, so they are not kept.
    pub fn delete(&mut self, now: UnixMs) -> Verdict {
        if self.status == TaskStatus::Deleted {
            return Verdict::Unchanged;
        }
        self.expire(now);
        self.lease_until = None;
        self.payload = None;
        self.move_to(TaskStatus::Deleted, Cause::Deleted, now)
    }

    /// A newer task takes the place of one that the device has not taken yet.
    pub fn supersede(&mut self, now: UnixMs) -> Verdict {
        self.expire(now);
        if !matches!(self.status, TaskStatus::Ready | TaskStatus::Pending) {
            return Verdict::Unchanged;
        }
        self.payload = None;
        self.move_to(TaskStatus::Deleted, Cause::Superseded, now)
    }

    /// expiry: READY, PENDING and LOCK become EXPIRED, as of the instant at
    /// which their time ran out.
    pub fn expire(&mut self, now: UnixMs) -> Verdict {
        if !self.is_overdue(now) {
            return Verdict::Unchanged;
        }
        self.lease_until = None;
        self.move_to(TaskStatus::Expired, Cause::TimedOut, self.expires_at)
    }

    fn lock(&mut self, cause: Cause, lease_ms: i64, now: UnixMs) {
        self.lease_until = Some(now.plus_ms(lease_ms));
        if self.status != TaskStatus::Lock {
            self.locked_at = Some(now);
            self.move_to(TaskStatus::Lock, cause, now);
        }
    }

    fn move_to(&mut self, to: TaskStatus, cause: Cause, at: UnixMs) -> Verdict {
        self.status = to;
        // Servers agree on the time to the millisecond and no better.
        let at = self.timeline.last().map_or(at, |last| at.max(last.at));
        self.timeline.push(Change { at, to, cause });
        Verdict::Changed
    }
}
