//! What a server hears from the other servers of its deployment, and what it
//! does so that nothing depends on having heard it.

use std::sync::Arc;

use crate::engine::Engine;
use crate::error::Result;
use crate::id::{DeviceKey, TaskId};
use crate::port::News;

/// How many tasks, or devices, one look concerns.
const LOOK_MAX: usize = 1_000;

impl Engine {
    /// Other servers have told something.
    ///
    /// # Errors
    /// The store's; [`task_catch_up`](Self::task_catch_up) makes up for it.
    pub async fn heard(&self, news: Vec<News>) -> Result<()> {
        let outlet = &self.outlet;
        let is_shared = outlet.link.is_shared();
        let mut finished = Vec::new();
        for one in news {
            match one {
                News::Opened(device) => outlet.announcer.reopened(device),
                News::Announced(device, task) => outlet.announcer.announced_elsewhere(device, task),
                News::Answered(device, task) if is_shared => {
                    outlet.announcer.answered_elsewhere(device, task);
                }
                News::Answered(device, task) => {
                    outlet.announcer.answered(device, task);
                }
                News::Finished(task) if outlet.watchers.is_watched(task) => finished.push(task),
                News::Finished(_) => {}
                News::Recorded => outlet.feed.wake(),
                // Over a link that is shared, one server closes for all.
                News::Revoked(_) if is_shared => {}
                News::Revoked(sn) => outlet.link.revoke(&sn),
            }
        }
        // News may come twice.
        finished.sort_unstable();
        finished.dedup();
        self.tell_watchers(finished).await
    }

    /// Looks whether tasks that someone waits for here became final without
    /// this server having heard of it.
    ///
    /// # Errors
    /// The store's.
    pub async fn task_catch_up(&self) -> Result<()> {
        self.tell_watchers(self.outlet.watchers.tasks()).await
    }

    async fn tell_watchers(&self, tasks: Vec<TaskId>) -> Result<()> {
        for some in tasks.chunks(LOOK_MAX) {
            for detail in self.parts.store.task_final_of_every_org(some.to_vec()).await? {
                self.outlet.watchers.finished(&Arc::new(detail));
            }
        }
        Ok(())
    }

    /// Looks whether devices that listen here, those after `after`, have tasks
    /// that were never announced; answers where to go on.
    ///
    /// # Errors
    /// The store's.
    pub async fn task_look_again(&self, after: DeviceKey) -> Result<Option<DeviceKey>> {
        let devices = self.outlet.announcer.listening_after(after, LOOK_MAX);
        let next = devices.last().copied().filter(|_| devices.len() == LOOK_MAX);
        if !devices.is_empty() {
            let waiting = self.parts.store.task_waiting_of_every_org(devices, self.now()).await?;
            waiting.into_iter().for_each(|device| self.outlet.announcer.reopened(device));
        }
        Ok(next)
    }
}
