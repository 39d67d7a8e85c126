//! What the broker's clock shows, as each answer of the management API says (RFC 9110 §6.6.1): a side remark, for which
//! nothing is asked.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the header says is a whole second, in which the broker is somewhere.
const SECOND_MS: i64 = 1_000;

/// The clock of the broker, as it was heard of last.
#[derive(Debug, Default)]
pub(crate) struct BrokerClock(Mutex<Option<(i64, i64)>>);

impl BrokerClock {
    /// Takes in the header of an answer that came just now, to a request that took so long.
    pub(super) fn heard(&self, date: &str, took: Duration) {
        let Ok(told) = httpdate::parse_http_date(date) else { return };
        let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        let error_ms = (SECOND_MS + took_ms) / 2;
        let ahead_ms = unix_ms(told) + SECOND_MS / 2 - unix_ms(SystemTime::now()).saturating_sub(took_ms / 2);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((ahead_ms, error_ms));
    }

    /// How many milliseconds it is ahead of that of this machine, and how exactly that is known.
    pub(super) fn ahead_ms(&self) -> Option<(i64, i64)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_ms(at: SystemTime) -> i64 {
    i64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_clock_is_known_as_exactly_as_the_header_says() {
        let clock = BrokerClock::default();
        clock.heard("not a date", Duration::ZERO);
        assert_eq!(clock.ahead_ms(), None);
        for offset_s in [0, 3_600] {
            let told = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(offset_s));
            clock.heard(&told, Duration::from_millis(200));
            let (ahead_ms, error_ms) = clock.ahead_ms().unwrap();
            let offset_ms = i64::try_from(offset_s).unwrap() * 1_000;
            assert_eq!(error_ms, 600);
            // The test itself takes a moment.
            assert!((ahead_ms - offset_ms).abs() <= error_ms + 1_000, "{ahead_ms}");
        }
    }
}
