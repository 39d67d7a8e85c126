//! Announcements, from the store's thread to the broker.

use std::sync::Arc;

use covey_core::device::DeviceIdentity;
use covey_core::port::Announcement;
use tokio::sync::{Semaphore, mpsc};

use crate::LinkStatus;
use crate::conversion;
use crate::mqtt::shared::{self, Sent, Shared, Unsent};

/// How many announcements may wait. When there is no room one is dropped: the
/// store knows it, and it is looked for again.
pub(super) const ANNOUNCEMENTS_MAX: usize = 4096;
/// How many may wait for their PUBACK at a time.
const UNANSWERED_MAX: usize = 128;

/// Sends announcements until the link is dropped or stopped.
pub(super) async fn announce(shared: Arc<Shared>, mut announcements: mpsc::Receiver<Announcement>) {
    let places = Arc::new(Semaphore::new(UNANSWERED_MAX));
    loop {
        let task = tokio::select! {
            task = announcements.recv() => task,
            () = shared.stop.cancelled() => return,
        };
        let Some(task) = task else { return };
        // Whoever listens is told again when the broker is back.
        if shared.link.status() == LinkStatus::Down {
            shared.link.drop_announcement();
            continue;
        }
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        // Handed over here, so that they leave in the order in which they came.
        let message = conversion::announcement(&task, shared.link.clock.now());
        match shared.hand_over(&task.sn, &message).await {
            Ok(notice) => {
                let sender = Arc::clone(&shared);
                shared.under_way.spawn(async move {
                    told(&sender, &task, shared::outcome(notice).await);
                    drop(place);
                });
            }
            Err(problem) => told(&shared, &task, Err(problem)),
        }
    }
}

/// What became of an announcement.
fn told(shared: &Shared, task: &Announcement, outcome: Result<Sent, Unsent>) {
    match outcome {
        Ok(Sent::Taken) => {}
        Ok(Sent::Unheard) => {
            let device = DeviceIdentity {
                org: task.org,
                device: task.device,
                device_id: task.device_id,
                sn: task.sn.clone(),
            };
            shared.presence.unheard(device);
        }
        Err(problem) => {
            shared.link.drop_announcement();
            tracing::debug!(sn = %task.sn, %problem, "an announcement was not delivered to the broker");
        }
    }
}
