//! What is told after a commit, and to whom.
//!
//! It is told from where the store settles a job and not from the future of
//! the caller: a caller that hangs up between the commit and its answer must
//! not keep a device from hearing of its task. It also keeps the order of the
//! commits, so that a task is not announced after it was taken.

use std::sync::Arc;

use crate::announcer::{Announcer, Opened};
use crate::error::{Error, Result};
use crate::feed::Feed;
use crate::id::{DeviceKey, OrgId, Sn, TaskId, UnixMs};
use crate::links::{LinkPlace, Links};
use crate::node::NodeName;
use crate::port::{Announcement, Clock, Event, Observer, PeerMessage, Peers, Reach, Refusal, Step};
use crate::quota::{DayKept, Holder, Holdings, ROW_BYTES};
use crate::retention::RetentionClass;
use crate::task::{Task, TaskDetail};
use crate::usage::Heard;
use crate::watch::Watchers;
use crate::webhook::WebhookSender;

/// Those who are told.
pub(crate) struct AfterCommit {
    pub(crate) announcer: Announcer,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) links: Links,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) webhooks: Arc<dyn WebhookSender>,
    pub(crate) holdings: Holdings,
    pub(crate) heard: Heard,
}

impl AfterCommit {
    /// Records were written.
    pub(crate) fn recorded(&self) {
        self.feed.wake();
        self.peers.broadcast(PeerMessage::Recorded);
    }

    /// A task has become open: it is announced if its device has room.
    pub(crate) fn opened(&self, task: &Announcement) {
        self.recorded();
        match self.announcer.opened(task) {
            Opened::Announce(place) => self.announce(place, Arc::clone(task)),
            Opened::Wait => {}
            Opened::Elsewhere if self.links.may_be_elsewhere() => {
                self.peers.broadcast(PeerMessage::Opened(task.device));
            }
            Opened::Elsewhere => {}
        }
    }

    /// Announces a task that has its place in the device's window.
    pub(crate) fn announce(&self, place: LinkPlace, task: Announcement) {
        self.observer.happened(Event::Announced);
        if self.links.reach(Some(place)) == Reach::Everywhere {
            self.peers.broadcast(PeerMessage::Announced(task.device, task.id));
        }
        self.links.announce(place, task);
    }

    /// A task was taken or has become final: its announcement is answered.
    pub(crate) fn answered(&self, device: DeviceKey, task: TaskId) {
        self.recorded();
        let place = self.announcer.answered(device, task);
        if self.links.reach(place) != Reach::Here {
            self.peers.broadcast(PeerMessage::Answered(device, task));
        }
    }

    /// A task has become final.
    pub(crate) fn finished(&self, detail: &Arc<TaskDetail>) {
        self.answered(detail.task.device, detail.task.id);
        self.watchers.finished(detail);
        self.peers.broadcast(PeerMessage::Finished(detail.task.id));
    }

    /// A device is no longer authorised.
    pub(crate) fn revoked(&self, sn: &Sn) {
        self.links.revoke(sn);
        self.peers.broadcast(PeerMessage::Revoked(sn.clone()));
    }

    /// A certificate of a device was revoked; others of it may be good.
    pub(crate) fn revoked_certificate(&self, sn: &Sn, serial_hex: &str) {
        self.links.revoke_certificate(sn, serial_hex);
        self.peers.broadcast(PeerMessage::RevokedCertificate(sn.clone(), serial_hex.to_owned()));
    }

    /// A certificate of a device gave way to a newer one, while others of it are good: only links that tell certificates
    /// apart need to know. A broker that knows names alone would cut the device off.
    pub(crate) fn superseded_certificate(&self, sn: &Sn, serial_hex: &str) {
        self.links.revoke_certificate_after_peer(sn, serial_hex);
        self.peers.broadcast(PeerMessage::RevokedCertificate(sn.clone(), serial_hex.to_owned()));
    }

    /// A gateway may get another answer for this name than before.
    pub(crate) fn node_changed(&self, org: OrgId, name: &NodeName) {
        self.links.node_changed(org, name);
        self.peers.broadcast(PeerMessage::NodeChanged(org, name.clone()));
    }

    /// A task was given to its device, for the first time or again.
    pub(crate) fn taken(&self, task: &Task) {
        if task.deliveries == 1 {
            self.took_between(Step::Wait, task.created_at, task.locked_at.unwrap_or(task.created_at));
        }
    }

    /// A step that began at this monotonic instant has ended.
    pub(crate) fn took_since(&self, step: Step, began_us: u64) {
        self.observer.took(step, self.clock.monotonic_us().saturating_sub(began_us));
    }

    /// A step has ended that began and ended at times which are stored.
    pub(crate) fn took_between(&self, step: Step, from: UnixMs, to: UnixMs) {
        let duration_ms = u64::try_from(to.since_ms(from)).unwrap_or(0);
        self.observer.took(step, duration_ms.saturating_mul(1_000));
    }

    /// So many bytes were stored of a device, in so many rows.
    pub(crate) fn kept(&self, of: Holder, class: RetentionClass, bytes: usize, rows: usize) {
        if rows == 0 {
            return;
        }
        let bytes = bytes.saturating_add(rows.saturating_mul(ROW_BYTES));
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.holdings.add(of, DayKept::at(class, self.clock.now(), bytes));
    }

    /// A task was made.
    pub(crate) fn kept_task(&self, task: &Task) {
        let bytes = task.payload.as_ref().map_or(0, |payload| payload.len());
        self.kept((task.org, task.device), RetentionClass::Tasks, bytes, 1);
    }

    /// The parameters of a task are no longer kept, which its operation has told the store.
    pub(crate) fn freed(&self, of: Holder, freed: &DayKept) {
        if freed.bytes < 0 {
            self.holdings.free(of, -freed.bytes);
        }
    }

    /// Refuses something new where as much is kept as may be.
    pub(crate) fn demand_quota(&self, org: OrgId, device: Option<DeviceKey>) -> Result<()> {
        let is_full = |device| self.holdings.is_device_full(org, device, self.clock.monotonic_us() / 1_000);
        let limit = if self.holdings.is_org_full(org) {
            "the organisation keeps as much as it may"
        } else if device.is_some_and(is_full) {
            "the device keeps as much as it may"
        } else {
            return Ok(());
        };
        self.count(Event::Refused(Refusal::Quota));
        Err(Error::OverQuota { limit })
    }

    pub(crate) fn count(&self, event: Event) {
        self.observer.happened(event);
    }
}
