//! How much may be under way on the listener of microcontrollers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use covey_core::id::{Sn, UnixMs};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many calls may be under way.
/// Limit for the listener of microcontrollers: 503.
const CALLS_MAX: usize = 1_000;
/// How many calls may be under way to one device.
/// Limit for each microcontroller: 429.
const CALLS_PER_DEVICE_MAX: usize = 16;
/// How many registrations there may be in a minute: each makes a key.
/// Limit for the listener of microcontrollers: 429 until the minute is over.
const REGISTRATIONS_PER_MINUTE_MAX: u32 = 60;
/// How long they are counted, in milliseconds.
const MINUTE_MS: i64 = 60_000;
/// How many keys are made at the same time.
const KEYS_AT_ONCE: usize = 1;

/// What is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The server has as many calls as it bears.
    Calls,
    /// A device has.
    CallsOfDevice,
    /// There were as many registrations as may be.
    Registrations,
}

/// What is under way.
pub(super) struct Bounds {
    calls: Mutex<Calls>,
    registrations: Mutex<(UnixMs, u32)>,
    keys: Semaphore,
}

#[derive(Default)]
struct Calls {
    all: usize,
    of: HashMap<Sn, usize>,
}

impl Default for Bounds {
    fn default() -> Self {
        let keys = Semaphore::new(KEYS_AT_ONCE);
        Self { calls: Mutex::default(), registrations: Mutex::default(), keys }
    }
}

impl Bounds {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        // What it guards is whole at every moment.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a call.
    pub(super) fn call(self: &Arc<Self>, sn: &Sn) -> Result<Place, Full> {
        let mut calls = self.calls();
        if calls.all >= CALLS_MAX {
            return Err(Full::Calls);
        }
        let of = calls.of.entry(sn.clone()).or_default();
        if *of >= CALLS_PER_DEVICE_MAX {
            return Err(Full::CallsOfDevice);
        }
        *of += 1;
        calls.all += 1;
        Ok(Place { bounds: Arc::clone(self), sn: sn.clone() })
    }

    /// Counts a registration.
    pub(super) fn registration(&self, now: UnixMs) -> Result<(), Full> {
        let mut counted = self.registrations.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back begins a minute as well.
        if !(0..MINUTE_MS).contains(&now.since_ms(counted.0)) {
            *counted = (now, 0);
        }
        if counted.1 >= REGISTRATIONS_PER_MINUTE_MAX {
            return Err(Full::Registrations);
        }
        counted.1 += 1;
        Ok(())
    }

    /// Waits for a turn to make a key. As many wait as may be registered in a minute.
    pub(super) async fn key_turn(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.keys.acquire().await.ok()
    }
}

/// The place of a call, for as long as it is under way.
pub(super) struct Place {
    bounds: Arc<Bounds>,
    sn: Sn,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut calls = self.bounds.calls();
        calls.all -= 1;
        if let Some(of) = calls.of.get_mut(&self.sn) {
            *of -= 1;
            if *of == 0 {
                calls.of.remove(&self.sn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_device_has_its_places_and_the_server_has_its_own() {
        let bounds = Arc::new(Bounds::default());
        let sn = |number: usize| Sn::parse(&format!("d{number}")).unwrap();
        let of_one: Vec<_> = (0..CALLS_PER_DEVICE_MAX).map(|_| bounds.call(&sn(0)).unwrap()).collect();
        assert_eq!(bounds.call(&sn(0)).err(), Some(Full::CallsOfDevice));
        let others: Vec<_> =
            (CALLS_PER_DEVICE_MAX..CALLS_MAX).map(|number| bounds.call(&sn(number)).unwrap()).collect();
        assert_eq!(bounds.call(&sn(CALLS_MAX)).err(), Some(Full::Calls));
        drop(of_one);
        assert!(bounds.call(&sn(0)).is_ok());
        drop(others);
        let calls = bounds.calls();
        assert_eq!((calls.all, calls.of.len()), (0, 0));
    }

    #[test]
    fn registrations_are_counted_by_the_minute() {
        let bounds = Bounds::default();
        let at = |ms| UnixMs(1_700_000_000_000 + ms);
        assert!(
            (0..REGISTRATIONS_PER_MINUTE_MAX)
                .all(|second| bounds.registration(at(i64::from(second))).is_ok())
        );
        assert_eq!(bounds.registration(at(MINUTE_MS - 1)), Err(Full::Registrations));
        assert_eq!(bounds.registration(at(MINUTE_MS)), Ok(()));
    }
}
