//! What a server hears from the other servers of its deployment, and what it
//! does so that nothing depends on having heard it.

use std::sync::Arc;

use crate::engine::ForServer;
use crate::error::Result;
use crate::id::{DeviceKey, TaskId};
use crate::port::{FromPeers, PeerMessage, Reach};

/// How many devices one look concerns.
/// Limit for each look: the rest follows at once.
const LOOK_MAX: usize = 1_000;
/// How many tasks one look concerns that answers their results, too: up to 1 MiB of each.
/// Limit for each look: the rest follows at once.
const LOOK_TASKS_MAX: usize = 8;

impl ForServer<'_> {
    /// Takes in what other servers have told.
    ///
    /// # Errors
    /// The store's; [`Work::CatchUp`](crate::background::Work::CatchUp) makes up for it.
    pub async fn receive(self, from_peers: FromPeers) -> Result<()> {
        let after = &self.engine.after_commit;
        let FromPeers::Messages(messages) = from_peers else {
            after.feed.wake();
            let revoked = self.revoked_look_again().await;
            self.task_catch_up().await?;
            return revoked;
        };
        let mut finished = Vec::new();
        for message in messages {
            match message {
                PeerMessage::Opened(device) => after.announcer.reopened(device),
                PeerMessage::Announced(device, task) => after.announcer.announced_elsewhere(device, task),
                PeerMessage::Answered(device, task) => {
                    // Over a shared link, the server that took the answer announces what comes next.
                    if after.links.reach(after.announcer.link(device)) == Reach::Everywhere {
                        after.announcer.answered_elsewhere(device, task);
                    } else {
                        after.announcer.answered(device, task);
                    }
                }
                PeerMessage::Finished(task) if after.watchers.is_watched(task) => finished.push(task),
                PeerMessage::Finished(_) => {}
                PeerMessage::Recorded => after.feed.wake(),
                PeerMessage::Revoked(sn) => after.links.revoke_after_peer(&sn),
                PeerMessage::RevokedCertificate(sn, serial_hex) => {
                    after.links.revoke_certificate_after_peer(&sn, &serial_hex);
                }
                PeerMessage::NodeChanged(org, name) => after.links.node_changed(org, &name),
            }
        }
        // A message may come twice.
        finished.sort_unstable();
        finished.dedup();
        self.tell_watchers(finished).await
    }

    /// Looks whether tasks that someone waits for here became final without
    /// this server having heard of it.
    ///
    /// # Errors
    /// The store's.
    pub async fn task_catch_up(self) -> Result<()> {
        self.tell_watchers(self.engine.after_commit.watchers.tasks()).await
    }

    async fn tell_watchers(self, tasks: Vec<TaskId>) -> Result<()> {
        for some in tasks.chunks(LOOK_TASKS_MAX) {
            for detail in self.engine.parts.store.task_final_of_every_org(some.to_vec()).await? {
                self.engine.after_commit.watchers.finished(&Arc::new(detail));
            }
        }
        Ok(())
    }

    /// Looks whether devices that listen here, those after `after`, have tasks
    /// that were never announced; answers where to go on.
    ///
    /// # Errors
    /// The store's.
    pub async fn task_look_again(self, after: DeviceKey) -> Result<Option<DeviceKey>> {
        let devices = self.engine.after_commit.announcer.listening_after(after, LOOK_MAX);
        let next = devices.last().copied().filter(|_| devices.len() == LOOK_MAX);
        if !devices.is_empty() {
            let waiting =
                self.engine.parts.store.task_waiting_of_every_org(devices, self.engine.now()).await?;
            waiting.into_iter().for_each(|device| self.engine.after_commit.announcer.reopened(device));
        }
        Ok(next)
    }
}
