//! A simulated device that tells of itself, as long as it is online.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use covey_device::{EventError, Events, HEALTH_CHECK};
use serde::Serialize;
use tokio::time::Instant;

use crate::behaviour::events::{Body, CELL_TAG, SENSOR, SENSOR_TAG, Sensor, UPTIME_TAG};
use crate::behaviour::methods::{DeviceState, Shared};
use crate::seed::SplitMix64;

/// How far from its interval a health check may be, as a share of it.
const HEALTH_CHECK_JITTER: f64 = 0.1;

/// Sends the device's events until it is dropped.
pub(crate) async fn tell(shared: &Shared, device: &DeviceState, events: Events) {
    let behaviour = &shared.behaviour.events;
    let teller = Teller { shared, device, events };
    let mut random = device.fates.events().fork(u64::MAX);
    let start = Instant::now();
    let phase = |interval: Duration, random: &mut SplitMix64| start + interval.mul_f64(random.next_unit());
    let mut health_at = behaviour.health_check.map(|interval| phase(interval, &mut random));
    let mut sensor_at = behaviour.sensor.map(|sensor| phase(sensor.interval, &mut random));
    let mut burst_at = behaviour.burst.map(|burst| start + burst.every);
    loop {
        tokio::select! {
            () = until(health_at) => {
                teller.send(HEALTH_CHECK, UPTIME_TAG, shared.uptime_s(device)).await;
                let share = 1.0 + HEALTH_CHECK_JITTER * (2.0 * random.next_unit() - 1.0);
                health_at = behaviour.health_check.map(|interval| Instant::now() + interval.mul_f64(share));
            }
            () = until(sensor_at) => {
                if let Some(sensor) = &behaviour.sensor {
                    teller.sense(sensor).await;
                    // What was due while the process stood still is not made up for.
                    sensor_at = sensor_at.map(|at| (at + sensor.interval).max(Instant::now()));
                }
            }
            () = until(burst_at) => {
                if let Some(burst) = behaviour.burst {
                    for number in 0..burst.events.get() {
                        teller.send(SENSOR, SENSOR_TAG, number).await;
                    }
                    burst_at = Some(Instant::now() + burst.every);
                }
            }
            door = device.doors.next() => {
                teller.send(door.type_code, CELL_TAG, door.cell).await;
            }
        }
    }
}

struct Teller<'a> {
    shared: &'a Shared,
    device: &'a DeviceState,
    events: Events,
}

impl Teller<'_> {
    async fn sense(&self, sensor: &Sensor) {
        let elapsed = Duration::from_millis(self.shared.now_ms());
        self.send(SENSOR, SENSOR_TAG, sensor.value(elapsed, self.device.fates.phase())).await;
    }

    async fn send(&self, type_code: u32, tag: &str, value: impl Serialize) {
        let number = self.device.event_number();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let body = Body::new(number, now_s, type_code, tag, value);
        let draft = self.events.event(type_code).payload(body).number(number).at(now_s);
        let is_twice = self.shared.behaviour.events.duplicates;
        let is_twice = is_twice.hits(self.device.fates.events().fork(number.into()).next_unit());
        let draft = if is_twice { draft.sent_twice() } else { draft };
        let tally = &self.shared.tally;
        match draft.send().await {
            Ok(_) => {
                tally.events.fetch_add(1, Ordering::Relaxed);
                tally.events_sent_twice.fetch_add(u64::from(is_twice), Ordering::Relaxed);
            }
            // It is about to leave, and will not be there to tell.
            Err(EventError::Stopped) => {}
            Err(error) => {
                tracing::debug!(sn = %self.device.sn, %error, "an event is not sent");
                tally.events_not_queued.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
