//! Sends announcements from the store's thread to the broker.

use std::sync::Arc;

use covey_core::device::DeviceIdentity;
use covey_core::port::{Announcement, Clock};
use tokio::sync::{Semaphore, mpsc};

use crate::LinkStatus;
use crate::conversion;
use crate::mqtt::presence::Presence;
use crate::mqtt::publisher::{Publisher, Sent, Unsent, outcome};
use crate::mqtt::state::State;

/// How many announcements may wait. Beyond, one is dropped: the task is announced again.
pub(super) const ANNOUNCEMENTS_MAX: usize = 4096;
/// How many announcements may wait for their PUBACK.
const UNACKNOWLEDGED_MAX: usize = 128;

/// The task that sends announcements.
pub(super) struct Announcer {
    pub(super) publisher: Arc<Publisher>,
    pub(super) presence: Arc<Presence>,
    pub(super) state: Arc<State>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Announcer {
    /// Sends announcements until the link is dropped or stopped.
    pub(super) async fn run(self: Arc<Self>, mut announcements: mpsc::Receiver<Announcement>) {
        let places = Arc::new(Semaphore::new(UNACKNOWLEDGED_MAX));
        while let Some(Some(task)) = self.state.stop.run_until_cancelled(announcements.recv()).await {
            // All listening devices are announced to when the broker is back.
            if self.state.status() == LinkStatus::Down {
                self.state.drop_announcement();
                continue;
            }
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            // Handed over here, so that announcements leave in the order in which they came.
            let message = conversion::announcement(&task, self.clock.now());
            match self.publisher.hand_over(&task.sn, &message).await {
                Ok(notice) => {
                    let announcer = Arc::clone(&self);
                    self.state.under_way.spawn(async move {
                        announcer.settle(&task, outcome(notice).await);
                        drop(place);
                    });
                }
                Err(problem) => self.settle(&task, Err(problem)),
            }
        }
    }

    /// Notes what became of an announcement.
    fn settle(&self, task: &Announcement, outcome: Result<Sent, Unsent>) {
        match outcome {
            Ok(Sent::Taken) => {}
            Ok(Sent::Unheard) => {
                let device = DeviceIdentity {
                    org: task.org,
                    device: task.device,
                    device_id: task.device_id,
                    sn: task.sn.clone(),
                };
                self.presence.unheard(device);
            }
            Err(problem) => {
                self.state.drop_announcement();
                tracing::debug!(sn = %task.sn, %problem, "announcement not delivered to the broker");
            }
        }
    }
}
