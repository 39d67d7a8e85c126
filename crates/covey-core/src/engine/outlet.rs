//! What is told after a commit, and to whom.
//!
//! It is told from where the store settles a job and not from the future of
//! the caller: a caller that hangs up between the commit and its answer must
//! not keep a device from hearing of its task. It also keeps the order of the
//! commits, so that a task is not announced after it was taken.

use std::sync::Arc;

use crate::announcer::{Announcer, Opened};
use crate::feed::Feed;
use crate::id::{DeviceKey, Sn, TaskId};
use crate::port::{Announcement, Event, Link, News, Observer, Peers};
use crate::task::TaskDetail;
use crate::watch::Watchers;

/// Those who are told.
pub(super) struct Outlet {
    pub(super) announcer: Announcer,
    pub(super) watchers: Arc<Watchers>,
    pub(super) feed: Arc<Feed>,
    pub(super) link: Arc<dyn Link>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) observer: Arc<dyn Observer>,
}

impl Outlet {
    /// Records were written.
    pub(super) fn recorded(&self) {
        self.feed.wake();
        self.peers.tell(News::Recorded);
    }

    /// A task has become open: it is announced if its device has room.
    pub(super) fn opened(&self, task: &Announcement) {
        self.recorded();
        match self.announcer.opened(task) {
            Opened::Announce => self.announce(Arc::clone(task)),
            Opened::Wait => {}
            // Over a link that is shared, a device that listens does so here.
            Opened::Elsewhere if self.link.is_shared() => {}
            Opened::Elsewhere => self.peers.tell(News::Opened(task.device)),
        }
    }

    /// Announces a task that has its place in the device's window.
    pub(super) fn announce(&self, task: Announcement) {
        self.observer.happened(Event::Announced);
        if self.link.is_shared() {
            self.peers.tell(News::Announced(task.device, task.id));
        }
        self.link.announce(task);
    }

    /// A task was taken or has become final: its announcement is answered.
    pub(super) fn answered(&self, device: DeviceKey, task: TaskId) {
        self.recorded();
        let listens_here = self.announcer.answered(device, task);
        if !listens_here || self.link.is_shared() {
            self.peers.tell(News::Answered(device, task));
        }
    }

    /// A task has become final.
    pub(super) fn finished(&self, detail: &Arc<TaskDetail>) {
        self.answered(detail.task.device, detail.task.id);
        self.watchers.finished(detail);
        self.peers.tell(News::Finished(detail.task.id));
    }

    /// A device is no longer authorised.
    pub(super) fn revoked(&self, sn: &Sn) {
        self.link.revoke(sn);
        self.peers.tell(News::Revoked(sn.clone()));
    }
}
