//! Counts and logs what devices send and the server refuses. A device may send thousands of
//! events a second, so those are logged once in a while per device, with how many went unlogged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use covey_core::id::Sn;
use covey_core::port::{Event, Observer, Refusal};
use covey_wire::Uplink;
use dashmap::DashMap;

use crate::dispatch::Refused;

/// How often refused events of one device are logged.
const INTERVAL: Duration = Duration::from_secs(10);
/// How many devices are remembered. Beyond, devices that were logged longer ago than
/// [`INTERVAL`] are forgotten, and others are not logged.
const DEVICES_MAX: usize = 16_384;

/// The refusals of one link.
pub(crate) struct RefusalLog {
    observer: Arc<dyn Observer>,
    recent: DashMap<Sn, Recent>,
}

/// A device whose refused event was logged lately.
struct Recent {
    logged_at: Instant,
    unlogged: u64,
}

impl RefusalLog {
    pub(crate) fn new(observer: Arc<dyn Observer>) -> Self {
        Self { observer, recent: DashMap::new() }
    }

    /// Counts a refusal that is logged elsewhere.
    pub(crate) fn count(&self, refusal: Refusal) {
        self.observer.happened(Event::Refused(refusal));
    }

    /// Counts a refused message, unless the core has, and logs it.
    pub(crate) fn refused(&self, sn: &Sn, uplink: Option<Uplink>, refused: &Refused) {
        let Refused { refusal, why, .. } = refused;
        if let Some(refusal) = refusal {
            self.count(*refusal);
        }
        let topic = uplink.map_or("unknown", Uplink::level);
        match uplink {
            Some(Uplink::Ack | Uplink::Req | Uplink::Res) => {
                tracing::warn!(%sn, topic, why, "message refused");
            }
            Some(Uplink::Evt) | None => match self.unlogged(sn, Instant::now()) {
                Some(unlogged) => tracing::warn!(%sn, topic, why, unlogged, "message refused"),
                None => tracing::debug!(%sn, topic, why, "message refused"),
            },
        }
    }

    /// How many refusals of a device went unlogged before this one, if this one is to be logged.
    fn unlogged(&self, sn: &Sn, now: Instant) -> Option<u64> {
        if let Some(mut recent) = self.recent.get_mut(sn) {
            if now.duration_since(recent.logged_at) < INTERVAL {
                recent.unlogged += 1;
                return None;
            }
            recent.logged_at = now;
            return Some(std::mem::take(&mut recent.unlogged));
        }
        if self.recent.len() >= DEVICES_MAX {
            self.recent.retain(|_, recent| now.duration_since(recent.logged_at) < INTERVAL);
        }
        let has_room = self.recent.len() < DEVICES_MAX;
        if has_room {
            self.recent.insert(sn.clone(), Recent { logged_at: now, unlogged: 0 });
        }
        has_room.then_some(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Unobserved;

    impl Observer for Unobserved {
        fn took(&self, _: covey_core::port::Step, _: u64) {}

        fn happened(&self, _: Event) {}
    }

    #[test]
    fn refused_events_of_a_device_are_logged_once_in_an_interval() {
        let (log, sn) = (RefusalLog::new(Arc::new(Unobserved)), Sn::parse("a").unwrap());
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(log.unlogged(&sn, at(0)), Some(0));
        for _ in 0..1_000 {
            assert_eq!(log.unlogged(&sn, at(9)), None);
        }
        assert_eq!(log.unlogged(&Sn::parse("b").unwrap(), at(9)), Some(0));
        assert_eq!(log.unlogged(&sn, at(10)), Some(1_000));
        assert_eq!(log.unlogged(&sn, at(11)), None);
        for number in 0..DEVICES_MAX + 10 {
            log.unlogged(&Sn::parse(&format!("d{number}")).unwrap(), at(20));
        }
        assert_eq!(log.recent.len(), DEVICES_MAX);
        assert_eq!(log.unlogged(&Sn::parse("new").unwrap(), at(20)), None);
        assert_eq!(log.unlogged(&Sn::parse("new").unwrap(), at(31)), Some(0));
    }
}
