//! Covey's streams as channels: what happens to a device is told in `private-device-<sn>`, out of the outbox, so it was
//! committed; the name of the event is the kind of the change, and its data the change as streams send it.

use std::sync::Arc;
use std::time::Duration;

use covey_api::Record as RecordView;
use covey_core::access::Caller;
use covey_core::feed::{Batch, FollowError, Follower};
use covey_core::record::RecordFilter;
use tokio::sync::MutexGuard;

use super::channel::{Channel, OF_DEVICE};
use super::error::Refusal;
use super::{App, Pusher};

/// How long it is waited after the store has failed, in milliseconds.
const PAUSE_MS: u64 = 1_000;

impl Pusher {
    /// Sees to it that the outbox is followed for an app, as long as what is answered is kept and then as long as
    /// somebody is subscribed to a device.
    pub(super) async fn follow_devices<'a>(
        self: &Arc<Self>,
        app: &'a Arc<App>,
        owner: &Caller,
    ) -> Result<MutexGuard<'a, bool>, Refusal> {
        let mut following = app.following.lock().await;
        if !*following {
            let begun =
                self.parts.engine.for_caller(owner).record_follow(RecordFilter::default(), None).await;
            let follower = begun.map_err(|error| {
                tracing::warn!(app = %app.config.id, %error, "the changes of devices cannot be followed");
                Refusal::UNAVAILABLE
            })?;
            self.spawn(follow(Arc::clone(self), Arc::clone(app), owner.clone(), follower));
            *following = true;
        }
        Ok(following)
    }
}

async fn follow(pusher: Arc<Pusher>, app: Arc<App>, owner: Caller, mut follower: Follower) {
    loop {
        match follower.next().await {
            Ok(batch) => {
                if !app.tell(&batch) {
                    let mut following = app.following.lock().await;
                    if !app.hears_devices() {
                        *following = false;
                        return;
                    }
                }
            }
            Err(error) => {
                if let FollowError::Store(error) = error {
                    tracing::warn!(app = %app.config.id, %error, "the changes of devices cannot be read; trying again");
                    tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
                }
                let server = pusher.parts.engine.server();
                follower = server.follow_of_org(owner.org, RecordFilter::default(), follower.cursor());
            }
        }
    }
}

impl App {
    /// Tells what has happened to devices to which somebody is subscribed. Whether there is anybody.
    fn tell(&self, batch: &Batch) -> bool {
        for record in &batch.records {
            let channel = Channel::of_device(&record.device.identity.sn);
            if self.state().channels.counted(&channel).subscriptions == 0 {
                continue;
            }
            let json = RecordView::of(record).to_json();
            let kind = record.change.kind().name();
            self.change(|channels, effects| channels.publish(&channel, kind, &json, None, effects));
        }
        self.hears_devices()
    }

    fn hears_devices(&self) -> bool {
        self.state().channels.occupied(OF_DEVICE).next().is_some()
    }
}
