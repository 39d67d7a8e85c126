//! Brings devices in step after this server has (re)connected to the broker.
//!
//! No broker says who is connected. So what was known stays until something contradicts it, and
//! every registered device is assumed to listen: its open tasks are announced again, and the
//! PUBACKs say who does not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use covey_core::Engine;
use covey_core::error::Result;
use covey_core::id::{DeviceKey, Sn};
use futures_util::StreamExt;

use crate::LinkStatus;
use crate::identities::Identities;
use crate::mqtt::connection::Backoff;
use crate::mqtt::link::NAME;
use crate::mqtt::presence::Presence;
use crate::mqtt::presence_writer::PresenceWriter;
use crate::mqtt::state::State;

/// How many devices one query of the store returns.
const PAGE: u32 = 1000;
/// How many devices are looked up at a time.
const LOOK_UPS: usize = 16;
/// How often due retries and silent devices are looked for.
const TICK: Duration = Duration::from_secs(1);

/// Resynchronises devices, and drives what is due by time.
pub(super) struct Resync {
    pub(super) engine: Arc<Engine>,
    pub(super) identities: Arc<Identities>,
    pub(super) presence: Arc<Presence>,
    pub(super) writer: Arc<PresenceWriter>,
    pub(super) state: Arc<State>,
}

impl Resync {
    /// Resynchronises all devices. Retries after failures until it is done, the link stops, or the
    /// connection `epoch` is lost.
    pub(super) async fn run(&self, epoch: u64) {
        let mut backoff = Backoff::new();
        loop {
            match self.all_devices().await {
                Ok(devices) => return tracing::debug!(devices, "devices resynchronised"),
                Err(problem) => tracing::warn!(%problem, "devices not resynchronised; retrying"),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.after_failure()) => {}
                () = self.state.stop.cancelled() => return,
            }
            if epoch != self.state.epoch() {
                return;
            }
        }
    }

    async fn all_devices(&self) -> Result<usize> {
        let mut after = DeviceKey(0);
        loop {
            let page = self.engine.server().presence_online(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.device.device;
            page.into_iter().for_each(|one| self.presence.assume_connected(&one.device.sn, one.session));
        }
        let mut devices = 0;
        let mut after: Option<Sn> = None;
        while !self.state.stop.is_cancelled() {
            let page = self.engine.server().device_sns(after.as_ref(), PAGE).await?;
            let Some(last) = page.last().cloned() else { break };
            devices += page.len();
            let found: Vec<_> = futures_util::stream::iter(page)
                .map(|sn| async move { self.engine.server().device_of_sn(&sn).await })
                .buffer_unordered(LOOK_UPS)
                .collect()
                .await;
            for device in found {
                if let Some(device) = device? {
                    self.presence.assume_listening(&device.sn);
                    self.engine.for_device(&device).subscribed_elsewhere(NAME);
                }
            }
            after = Some(last);
        }
        let mut next = Some(DeviceKey(0));
        while let Some(after) = next {
            next = self.engine.server().task_look_again(after).await?;
        }
        Ok(devices)
    }

    /// Retries devices that are due, and resynchronises if sightings were lost, until the link stops.
    pub(super) async fn watch(&self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.state.stop.cancelled() => return,
            }
            if self.state.status() == LinkStatus::Down {
                continue;
            }
            for sn in self.presence.tick() {
                if let Ok(Some(device)) = self.identities.of(&self.engine, &sn).await {
                    self.writer.listens(&device);
                }
            }
            if self.presence.has_missed.swap(false, Ordering::AcqRel) {
                self.run(self.state.epoch()).await;
            }
        }
    }
}
