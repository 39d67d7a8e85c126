//! What a server does about devices when it has (re)connected to the broker.
//!
//! No broker says who is connected. So what was known stays until it is
//! contradicted, and every registered device is taken to listen: whoever has
//! open tasks is announced to again, and the PUBACKs tell who does not hear.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use covey_core::error::Result;
use covey_core::id::{DeviceKey, Sn};
use futures_util::StreamExt;

use crate::LinkStatus;
use crate::mqtt::connection::Backoff;
use crate::mqtt::notes;
use crate::mqtt::shared::Shared;

/// How many devices one look-up concerns.
const PAGE: u32 = 1000;
/// How many devices are looked up at a time.
const LOOK_UPS: usize = 16;
/// How often is looked what time has done.
const TICK: Duration = Duration::from_secs(1);

/// Looks at all devices, again after failures, until it is done or void.
pub(super) async fn regain(shared: Arc<Shared>, epoch: u64) {
    let mut backoff = Backoff::new();
    loop {
        match look(&shared).await {
            Ok(devices) => return tracing::debug!(devices, "devices were looked at after connecting"),
            Err(problem) => tracing::warn!(%problem, "devices could not be looked at; again in a moment"),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.after_failure()) => {}
            () = shared.stop.cancelled() => return,
        }
        if epoch != shared.epoch() {
            return;
        }
    }
}

async fn look(shared: &Shared) -> Result<usize> {
    let mut after = DeviceKey(0);
    loop {
        let page = shared.engine.server().presence_online(after, PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = last.device;
        page.into_iter().for_each(|(device, session)| shared.presence.assume_connected(&device.sn, session));
    }
    let mut devices = 0;
    let mut after: Option<Sn> = None;
    while !shared.stop.is_cancelled() {
        let page = shared.engine.server().device_sns(after.as_ref(), PAGE).await?;
        let Some(last) = page.last().cloned() else { break };
        devices += page.len();
        let found: Vec<_> = futures_util::stream::iter(page)
            .map(|sn| async move { shared.engine.server().device_of_sn(&sn).await })
            .buffer_unordered(LOOK_UPS)
            .collect()
            .await;
        for device in found {
            if let Some(device) = device? {
                shared.presence.assume_listening(&device.sn);
                shared.engine.for_device(&device).subscribed_elsewhere(crate::mqtt::NAME);
            }
        }
        after = Some(last);
    }
    let mut next = Some(DeviceKey(0));
    while let Some(after) = next {
        next = shared.engine.server().task_look_again(after).await?;
    }
    Ok(devices)
}

/// Does what time asks for, until the link stops.
pub(super) async fn watch(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = shared.stop.cancelled() => return,
        }
        if shared.link.status() == LinkStatus::Down {
            continue;
        }
        for sn in shared.presence.tick() {
            if let Ok(Some(device)) = shared.identities.of(&shared.engine, &sn).await {
                notes::listens(&shared, &device);
            }
        }
        if shared.presence.has_missed.swap(false, Ordering::AcqRel) {
            regain(Arc::clone(&shared), shared.epoch()).await;
        }
    }
}
