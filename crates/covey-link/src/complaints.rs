//! What the log is told of refused events, and of what nobody listens to. A device
//! may send thousands a second: it is told of once in a while, with how many were
//! refused since.

use std::time::{Duration, Instant};

use covey_core::id::Sn;
use dashmap::DashMap;

/// How often the log is told of one device.
const EVERY: Duration = Duration::from_secs(10);
/// How many devices are remembered; beyond, those that were told of long ago
/// are forgotten, and others are not told of.
const REMEMBERED_MAX: usize = 16_384;

/// The devices that were told of lately.
#[derive(Default)]
pub(crate) struct Complaints(DashMap<Sn, Told>);

struct Told {
    at: Instant,
    untold: u64,
}

impl Complaints {
    /// A message of a device was refused.
    pub(crate) fn refused(&self, sn: &Sn, why: &str) {
        match self.count(sn, Instant::now()) {
            Some(before) => tracing::warn!(%sn, why, before, "a message was refused"),
            None => tracing::debug!(%sn, why, "a message was refused"),
        }
    }

    /// How many were not told of before this one, if this one is to be told of.
    fn count(&self, sn: &Sn, now: Instant) -> Option<u64> {
        if let Some(mut told) = self.0.get_mut(sn) {
            if now.duration_since(told.at) < EVERY {
                told.untold += 1;
                return None;
            }
            told.at = now;
            return Some(std::mem::take(&mut told.untold));
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.retain(|_, told| now.duration_since(told.at) < EVERY);
        }
        let has_room = self.0.len() < REMEMBERED_MAX;
        if has_room {
            self.0.insert(sn.clone(), Told { at: now, untold: 0 });
        }
        has_room.then_some(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_device_is_told_of_once_in_a_while() {
        let (complaints, sn) = (Complaints::default(), Sn::parse("a").unwrap());
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(complaints.count(&sn, at(0)), Some(0));
        for _ in 0..1_000 {
            assert_eq!(complaints.count(&sn, at(9)), None);
        }
        assert_eq!(complaints.count(&Sn::parse("b").unwrap(), at(9)), Some(0));
        assert_eq!(complaints.count(&sn, at(10)), Some(1_000));
        assert_eq!(complaints.count(&sn, at(11)), None);
        for number in 0..REMEMBERED_MAX + 10 {
            complaints.count(&Sn::parse(&format!("d{number}")).unwrap(), at(20));
        }
        assert_eq!(complaints.0.len(), REMEMBERED_MAX);
        assert_eq!(complaints.count(&Sn::parse("new").unwrap(), at(20)), None);
        assert_eq!(complaints.count(&Sn::parse("new").unwrap(), at(31)), Some(0));
    }
}
