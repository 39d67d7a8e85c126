//! How often somebody may try to sign in: for each name, and for each address. After some failures each further try waits,
//! twice as long each time. It is counted when a try begins, so that many at once gain nothing; and for names that nobody
//! has as well, so that it tells nothing of names.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use covey_core::id::UnixMs;
use sha2::{Digest, Sha256};

/// How many failures a name has before its next try waits.
/// Limit for each person: 429 until the wait is over.
const FAILURES_OF_NAME_MAX: u32 = 5;
/// How many failures an address has before its next try waits; of IPv6, a network of 64 bits.
/// Limit for each address: 429 until the wait is over.
const FAILURES_OF_ADDRESS_MAX: u32 = 20;
/// The first wait, in milliseconds.
const WAIT_MS: i64 = 1_000;
/// The longest wait, in milliseconds.
/// Limit for each wait: it becomes no longer.
const WAIT_MS_MAX: i64 = 5 * 60_000;
/// After which silence failures are forgotten, in milliseconds.
const FORGOTTEN_MS: i64 = 3_600_000;
/// How many names, and how many addresses, are remembered.
/// Limit for the server: those that tried longest ago are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// The tries of all.
#[derive(Default)]
pub(super) struct Attempts {
    names: Mutex<HashMap<[u8; 32], Failures>>,
    addresses: Mutex<HashMap<IpAddr, Failures>>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    at: UnixMs,
    wait_until: UnixMs,
}

/// A try that has begun. It counts as failed unless it is said that it has succeeded.
pub(super) struct Attempt<'a> {
    attempts: &'a Attempts,
    name: [u8; 32],
    address: Option<IpAddr>,
}

impl Attempts {
    /// Begins a try.
    ///
    /// # Errors
    /// For how many milliseconds it must wait.
    pub(super) fn begin(&self, name: &str, from: Option<IpAddr>, now: UnixMs) -> Result<Attempt<'_>, i64> {
        let (name, address) = (Sha256::digest(name.trim().to_lowercase()).into(), counted(from));
        if let Some(address) = address {
            add(&self.addresses, address, FAILURES_OF_ADDRESS_MAX, now)?;
        }
        add(&self.names, name, FAILURES_OF_NAME_MAX, now)?;
        Ok(Attempt { attempts: self, name, address })
    }
}

impl Attempt<'_> {
    /// It has succeeded: the failures of the name are forgotten. Those of the address are not, but for this try: whoever
    /// has one account does not try others with it for nothing.
    pub(super) fn succeeded(self) {
        let Attempts { names, addresses } = self.attempts;
        names.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        if let Some(address) = self.address {
            let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(failures) = addresses.get_mut(&address) {
                failures.count = failures.count.saturating_sub(1);
            }
        }
    }
}

/// The address as it is counted; none of this machine, where a proxy may be that nobody has told the server of.
fn counted(from: Option<IpAddr>) -> Option<IpAddr> {
    match from?.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => {
            Some(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))))
        }
        address => Some(address),
    }
}

fn add<K: Hash + Eq + Copy>(
    all: &Mutex<HashMap<K, Failures>>,
    key: K,
    free: u32,
    now: UnixMs,
) -> Result<(), i64> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    // A clock that was set back forgets as well.
    let is_over = |failures: &Failures| !(0..FORGOTTEN_MS).contains(&now.since_ms(failures.at));
    if all.len() >= REMEMBERED_MAX && !all.contains_key(&key) {
        all.retain(|_, failures| !is_over(failures));
        if all.len() >= REMEMBERED_MAX
            && let Some(oldest) = all.iter().min_by_key(|(_, failures)| failures.at).map(|(key, _)| *key)
        {
            all.remove(&oldest);
        }
    }
    let failures = all.entry(key).or_insert(Failures { count: 0, at: now, wait_until: now });
    if is_over(failures) {
        *failures = Failures { count: 0, at: now, wait_until: now };
    }
    let wait_ms = failures.wait_until.since_ms(now);
    if wait_ms > 0 {
        return Err(wait_ms);
    }
    failures.count = failures.count.saturating_add(1);
    failures.at = now;
    if let Some(beyond) = failures.count.checked_sub(free) {
        let wait = WAIT_MS.checked_shl(beyond).filter(|wait| *wait > 0).unwrap_or(WAIT_MS_MAX);
        failures.wait_until = now.plus_ms(if beyond > 20 { WAIT_MS_MAX } else { wait.min(WAIT_MS_MAX) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from((0x0a00_0000 | number).to_be_bytes()))
    }

    #[test]
    fn who_guesses_waits_twice_as_long_each_time_and_forgets_with_success_or_silence() {
        let (attempts, mut now) = (Attempts::default(), UnixMs(1_000_000));
        for number in 0..FAILURES_OF_NAME_MAX {
            assert!(attempts.begin("ada", address(number), now).is_ok());
        }
        for wait in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 300_000, 300_000] {
            assert_eq!(attempts.begin("Ada ", address(99), now).err(), Some(wait));
            assert_eq!(attempts.begin("ada", None, now.plus_ms(wait - 1)).err(), Some(1));
            assert!(attempts.begin("bob", None, now).map(Attempt::succeeded).is_ok(), "others do not wait");
            now = now.plus_ms(wait);
            assert!(attempts.begin("ada", None, now).is_ok());
        }
        now = now.plus_ms(WAIT_MS_MAX);
        attempts.begin("ada", None, now).unwrap().succeeded();
        for _ in 0..FAILURES_OF_NAME_MAX {
            assert!(attempts.begin("ada", None, now).is_ok());
        }
        assert!(attempts.begin("ada", None, now).is_err());
        assert!(attempts.begin("ada", None, now.plus_ms(FORGOTTEN_MS)).is_ok());
    }

    #[test]
    fn an_address_waits_whatever_the_names() {
        let attempts = Attempts::default();
        for (from, other) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1")] {
            let (from, other) = (Some(from.parse().unwrap()), Some(other.parse().unwrap()));
            for number in 0..FAILURES_OF_ADDRESS_MAX {
                assert!(attempts.begin(&format!("{from:?} {number}"), from, UnixMs(0)).is_ok());
            }
            assert!(attempts.begin("somebody", from, UnixMs(0)).is_err());
            assert!(attempts.begin(&format!("{other:?}"), other, UnixMs(0)).is_ok());
        }
        let same_network = Some("2001:db8::ffff".parse().unwrap());
        assert!(attempts.begin("somebody", same_network, UnixMs(0)).is_err());
        for number in 0..10 * FAILURES_OF_ADDRESS_MAX {
            let here = Some("127.0.0.1".parse().unwrap());
            assert!(attempts.begin(&format!("here {number}"), here, UnixMs(0)).is_ok());
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let attempts = Attempts::default();
        for number in 0..2 * u32::try_from(REMEMBERED_MAX).unwrap() {
            let at = UnixMs(number.into());
            assert!(attempts.begin(&number.to_string(), address(number), at).is_ok());
        }
        assert!(attempts.names.lock().unwrap().len() <= REMEMBERED_MAX);
        assert!(attempts.addresses.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
