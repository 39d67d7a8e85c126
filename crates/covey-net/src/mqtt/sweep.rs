//! The deadlines of all clients, looked at once a second: Keep Alive, sessions and messages that
//! expire, wills that were delayed, clients that do not read.

use std::sync::Arc;
use std::time::Duration;

use covey_wire::mqtt::session::Due;
use tokio::time::{MissedTickBehavior, interval};

use super::device::Device;
use super::hub::Hub;
use super::service::{End, Service};

/// How often, in milliseconds: so much later than it should something may happen.
const SWEEP_MS: u64 = 1_000;

/// Sweeps for ever.
pub(super) async fn every_second<S: Service>(hub: &Arc<Hub<S>>) {
    let mut ticks = interval(Duration::from_millis(SWEEP_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for device in hub.due(hub.now_ms()) {
            look_at(hub, &device);
        }
    }
}

fn look_at<S: Service>(hub: &Hub<S>, device: &Arc<Device<S::Client>>) {
    let (now_ms, mut wills, mut all, mut has_ended) = (hub.now_ms(), Vec::new(), Vec::new(), false);
    let mut inner = device.lock();
    let unread_ms_max = hub.limits().unread_ms_max;
    if inner.blocked_since_ms.is_some_and(|since| since.saturating_add(unread_ms_max) <= now_ms) {
        inner.close(End::NotReading);
    }
    loop {
        let (due, mut outcomes) = inner.step(|session, output| session.tick(now_ms, output));
        all.append(&mut outcomes);
        match due {
            Due::Nothing => break,
            Due::KeepAliveOver => {
                // What the client has sent meanwhile may not have been read.
                if !inner.is_held {
                    inner.close(End::KeepAlive);
                }
                break;
            }
            Due::Will(will) => wills.push(will),
            Due::Ended => {
                has_ended = true;
                break;
            }
        }
    }
    if !inner.bytes.is_empty() {
        inner.wake();
    }
    device.set_deadline(&inner, hub.limits());
    let (client, epoch) = (Arc::clone(&inner.client), inner.session.epoch());
    drop(inner);
    if has_ended {
        hub.end(device, epoch);
    }
    for will in wills {
        hub.will(device, &client, will);
    }
    hub.settle(&client, all);
}
