//! Which devices this server has heard today, so that each is noted once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::DeviceKey;

/// In how many parts they are kept, so that those who send at the same time seldom wait for each other.
const PARTS: u64 = 16;
/// How many devices of a part are remembered before those of earlier days are forgotten.
const REMEMBERED: usize = 256;
/// After so long it is noted again that a device was heard, if it is not known that it was, in microseconds.
const AGAIN_US: u64 = 10_000_000;

/// When a device was heard.
#[derive(Clone, Copy)]
struct Last {
    day: i64,
    /// Since when it is being noted; none once it is.
    since_us: Option<u64>,
}

#[derive(Default)]
struct Part {
    by_device: HashMap<DeviceKey, Last>,
    forget_at: usize,
}

/// Which devices were heard today: one entry for each of them.
#[derive(Default)]
pub(crate) struct Heard([Mutex<Part>; PARTS as usize]);

impl Heard {
    fn part(&self, device: DeviceKey) -> MutexGuard<'_, Part> {
        // It is less than the number of parts.
        let place = usize::try_from(device.0.unsigned_abs() % PARTS).unwrap_or(0);
        // What it guards is whole at every moment.
        self.0[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device is heard. Answers whether that is to be noted.
    pub(crate) fn is_news(&self, device: DeviceKey, day: i64, now_us: u64) -> bool {
        let mut part = self.part(device);
        let last = part.by_device.get(&device).filter(|last| last.day >= day);
        let is_in_hand =
            |last: &Last| last.since_us.is_none_or(|since| now_us.saturating_sub(since) < AGAIN_US);
        if last.is_some_and(is_in_hand) {
            return false;
        }
        if part.by_device.len() >= part.forget_at.max(REMEMBERED) {
            part.by_device.retain(|_, last| last.day >= day);
            // Looking through them again is worth it once as many have come as have stayed.
            part.forget_at = part.by_device.len() * 2;
        }
        part.by_device.insert(device, Last { day, since_us: Some(now_us) });
        true
    }

    /// It is noted for this day.
    pub(crate) fn noted(&self, device: DeviceKey, day: i64) {
        self.part(device).by_device.insert(device, Last { day, since_us: None });
    }

    /// It is not noted.
    pub(crate) fn not_noted(&self, device: DeviceKey) {
        self.part(device).by_device.remove(&device);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_device_is_noted_once_a_day_and_again_if_that_came_to_nothing() {
        let heard = Heard::default();
        let device = DeviceKey(7);
        assert!(heard.is_news(device, 3, 0));
        assert!(!heard.is_news(device, 3, AGAIN_US - 1), "it is being noted");
        assert!(heard.is_news(device, 3, AGAIN_US), "nobody has said that it was");
        heard.noted(device, 3);
        assert!(!heard.is_news(device, 3, 9 * AGAIN_US));
        assert!(heard.is_news(device, 4, 9 * AGAIN_US) && heard.is_news(DeviceKey(8), 4, 0));
        heard.not_noted(device);
        assert!(heard.is_news(device, 4, 9 * AGAIN_US));
    }

    #[test]
    fn devices_of_earlier_days_are_forgotten() {
        let heard = Heard::default();
        for day in 0..10 {
            for device in 0..10_000 {
                let device = DeviceKey(device + 10_000 * day);
                assert!(heard.is_news(device, day, 0));
                heard.noted(device, day);
            }
        }
        let remembered: usize = heard.0.iter().map(|part| part.lock().unwrap().by_device.len()).sum();
        assert!(remembered <= 2 * 10_000 + REMEMBERED * 16, "{remembered}");
    }
}
