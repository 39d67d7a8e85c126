//! What is told after a commit, and to whom.
//!
//! It is told from where the store settles a job and not from the future of
//! the caller: a caller that hangs up between the commit and its answer must
//! not keep a device from hearing of its task. It also keeps the order of the
//! commits, so that a task is not announced after it was taken.

use std::sync::Arc;

use crate::announcer::Announcer;
use crate::port::{Announcement, Event, Link, Observer};
use crate::task::TaskDetail;
use crate::watch::Watchers;

/// Those who are told.
pub(super) struct Outlet {
    pub(super) announcer: Announcer,
    pub(super) watchers: Arc<Watchers>,
    pub(super) link: Arc<dyn Link>,
    pub(super) observer: Arc<dyn Observer>,
}

impl Outlet {
    /// A task has become open: it is announced if its device has room.
    pub(super) fn opened(&self, task: &Announcement) {
        if self.announcer.opened(task) {
            self.announce(Arc::clone(task));
        }
    }

    /// Announces a task that has its place in the device's window.
    pub(super) fn announce(&self, task: Announcement) {
        self.observer.happened(Event::Announced);
        self.link.announce(task);
    }

    /// A task has become final.
    pub(super) fn finished(&self, detail: &Arc<TaskDetail>) {
        self.announcer.answered(detail.task.device, detail.task.id);
        self.watchers.finished(detail);
    }
}
