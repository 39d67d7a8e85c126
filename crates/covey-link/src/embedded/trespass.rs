//! Devices that go on publishing or subscribing where they may not: each of them is put out, and is not let in
//! again for a pause that grows.

use std::time::Duration;

use covey_core::id::Sn;
use dashmap::DashMap;

/// How often a device may be told at once that it may not publish or subscribe there. A slip of its firmware does
/// not put it out.
/// Limit for each device: DISCONNECT 0x87, and 0x9F to its next CONNECT for a second; each time for twice as long.
const REFUSED_MAX: u64 = 64;
/// After so long it may be told once more, in milliseconds.
const REFUSED_EACH_MS: u64 = 1_000;
/// For how long it is put out the first time, in milliseconds; each time after that for twice as long.
const PAUSE_FIRST_MS: u64 = 1_000;
/// For how long a device is put out at most that goes on where it may not, in milliseconds.
/// Limit for each device: it is let in again.
const PAUSE_MAX_MS: u64 = 300_000;
/// After so long without a refusal it is as any other device, in milliseconds.
const FORGIVEN_MS: u64 = 3_600_000;
/// How many devices are remembered. Beyond, those are forgotten that may be told as often as ever; while there
/// are none, others are told and not put out.
/// Limit for the server: further ones are told and not put out.
const DEVICES_MAX: usize = 16_384;

/// What devices were refused lately.
#[derive(Default)]
pub(super) struct Trespasses {
    by_device: DashMap<Sn, Trespass>,
}

/// In milliseconds of the clock that never goes back.
#[derive(Clone, Copy, Default)]
struct Trespass {
    /// When it may be told as often as ever.
    full_at_ms: u64,
    /// When it was last told.
    last_ms: u64,
    /// How often it was put out.
    times_out: u32,
    /// Until when it is.
    out_until_ms: u64,
}

impl Trespass {
    /// Told once more; answers for how long it is put out now, in milliseconds.
    fn note(&mut self, now_ms: u64) -> Option<u64> {
        if now_ms.saturating_sub(self.last_ms) >= FORGIVEN_MS {
            *self = Self::default();
        }
        self.last_ms = now_ms;
        self.full_at_ms = self.full_at_ms.max(now_ms) + REFUSED_EACH_MS;
        if self.full_at_ms - now_ms <= REFUSED_MAX * REFUSED_EACH_MS {
            return None;
        }
        let pause_ms = PAUSE_FIRST_MS.checked_shl(self.times_out).unwrap_or(PAUSE_MAX_MS).min(PAUSE_MAX_MS);
        self.times_out = self.times_out.saturating_add(1).min(u64::BITS / 2);
        self.out_until_ms = now_ms + pause_ms;
        // It does not have all of them again when it is back.
        self.full_at_ms = self.out_until_ms + (REFUSED_MAX * REFUSED_EACH_MS) / 2;
        Some(pause_ms)
    }
}

impl Trespasses {
    /// Whether a device is put out.
    pub(super) fn is_out(&self, sn: &Sn, now_ms: u64) -> bool {
        self.by_device.get(sn).is_some_and(|known| known.out_until_ms > now_ms)
    }

    /// A device was refused a topic; answers for how long it is put out, if it is.
    pub(super) fn note(&self, sn: &Sn, now_ms: u64) -> Option<Duration> {
        if self.by_device.len() >= DEVICES_MAX && !self.by_device.contains_key(sn) {
            self.by_device.retain(|_, one| one.full_at_ms > now_ms || one.out_until_ms > now_ms);
            if self.by_device.len() >= DEVICES_MAX {
                return None;
            }
        }
        let mut known = self.by_device.entry(sn.clone()).or_default();
        known.note(now_ms).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused_until_out(trespass: &mut Trespass, now_ms: u64) -> (u64, u64) {
        (1..).find_map(|count| trespass.note(now_ms).map(|pause_ms| (count, pause_ms))).unwrap()
    }

    #[test]
    fn who_goes_on_is_put_out_for_longer_and_longer_and_is_forgiven_in_the_end() {
        let mut trespass = Trespass::default();
        let mut now_ms = 5;
        assert_eq!(refused_until_out(&mut trespass, now_ms), (REFUSED_MAX + 1, 1_000));
        for pause_s in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            now_ms = trespass.out_until_ms;
            let (count, pause_ms) = refused_until_out(&mut trespass, now_ms);
            assert!(count <= REFUSED_MAX, "{count}: less than at first");
            assert_eq!(pause_ms, pause_s * 1_000);
        }
        now_ms += FORGIVEN_MS;
        assert_eq!(refused_until_out(&mut trespass, now_ms), (REFUSED_MAX + 1, 1_000));
    }

    #[test]
    fn who_is_refused_once_in_a_while_is_never_put_out() {
        let mut trespass = Trespass::default();
        assert!((0..100_000).all(|second| trespass.note(second * REFUSED_EACH_MS).is_none()));
    }

    #[test]
    fn no_more_devices_are_remembered_than_may_be() {
        let trespasses = Trespasses::default();
        for number in 0..DEVICES_MAX + 10 {
            trespasses.note(&Sn::parse(&format!("d{number}")).unwrap(), 7);
        }
        assert_eq!(trespasses.by_device.len(), DEVICES_MAX);
        trespasses.note(&Sn::parse("new").unwrap(), 2_000);
        assert_eq!(trespasses.by_device.len(), 1);
    }
}
