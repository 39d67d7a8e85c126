//! How many events a device may send: a bucket of tokens for each.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::id::DeviceKey;

/// How many events a device may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// How many a second, in the long run; 0 for as many as it likes.
    pub per_second: u32,
    /// How many at once, after a silence.
    pub burst: u32,
}

impl Default for Flood {
    /// A device that was offline brings what it has kept.
    fn default() -> Self {
        Self { per_second: 200, burst: 2_000 }
    }
}

/// How many devices are remembered before those that have been silent are forgotten.
const REMEMBERED: usize = 4_096;

/// The buckets of all devices. One that is full says nothing and is forgotten.
#[derive(Debug)]
pub struct Throttle {
    flood: Flood,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    by_device: HashMap<DeviceKey, Bucket>,
    swept_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In millionths of an event.
    left: u64,
    at_us: u64,
}

/// A bucket counts in millionths, so that a microsecond of one event a second is one.
const MILLION: u64 = 1_000_000;

impl Throttle {
    /// Full buckets for all.
    #[must_use]
    pub fn new(flood: Flood) -> Self {
        Self { flood, buckets: Mutex::default() }
    }

    /// Whether a device may send one more event at this instant. One that may
    /// not has taken nothing.
    pub fn admits(&self, device: DeviceKey, now_us: u64) -> bool {
        if self.flood.per_second == 0 {
            return true;
        }
        // What it guards is whole at every moment.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full = u64::from(self.flood.burst.max(1)) * MILLION;
        let rate = u64::from(self.flood.per_second);
        let filled = |bucket: &Bucket| {
            let gained = now_us.saturating_sub(bucket.at_us).saturating_mul(rate);
            bucket.left.saturating_add(gained).min(full)
        };
        if buckets.by_device.len() >= buckets.swept_at.max(REMEMBERED) {
            buckets.by_device.retain(|_, bucket| filled(bucket) < full);
            // Sweeping again is worth it once as many have come as have stayed.
            buckets.swept_at = buckets.by_device.len() * 2;
        }
        let bucket = buckets.by_device.entry(device).or_insert(Bucket { left: full, at_us: now_us });
        let left = filled(bucket);
        let rest = left.checked_sub(MILLION);
        *bucket = Bucket { left: rest.unwrap_or(left), at_us: now_us.max(bucket.at_us) };
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// In any span a device sends no more than the burst and what the span
        /// gives; and one that keeps to the rate is never held up.
        #[test]
        fn a_device_sends_the_burst_and_then_the_rate(
            per_second in 1..1_000_u32, burst in 1..100_u32,
            pauses_us in proptest::collection::vec(0..200_000_u64, 1..300),
        ) {
            let throttle = Throttle::new(Flood { per_second, burst });
            let (mut now_us, mut admitted) = (7, 0_u64);
            for pause_us in &pauses_us {
                now_us += pause_us;
                admitted += u64::from(throttle.admits(DeviceKey(1), now_us));
                let allowed = u64::from(burst) * MILLION + (now_us - 7) * u64::from(per_second);
                prop_assert!(admitted * MILLION <= allowed);
            }
            let step_us = MILLION.div_ceil(u64::from(per_second));
            for n in 1..200 {
                prop_assert!(throttle.admits(DeviceKey(2), n * step_us), "{n}");
            }
        }

        #[test]
        fn devices_that_were_silent_are_forgotten(devices in 4_097..12_000_i64) {
            let throttle = Throttle::new(Flood { per_second: 10, burst: 10 });
            for device in 0..devices {
                // Each has its bucket full again before the next comes.
                prop_assert!(throttle.admits(DeviceKey(device), device.unsigned_abs() * 100_000));
            }
            let remembered = throttle.buckets.lock().map_or(0, |buckets| buckets.by_device.len());
            prop_assert!(remembered <= REMEMBERED, "{remembered}");
        }
    }
}
