//! How long to wait before connecting again: exponential with full jitter, so that a swarm that
//! lost its server does not come back in one wave.

use std::time::Duration;

use rand::RngExt;

/// Bounds of the wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delays {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

#[derive(Debug)]
pub(crate) struct Backoff {
    delays: Delays,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(delays: Delays) -> Self {
        Self { delays, failures: 0 }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: anywhere between the minimum and a ceiling that doubles.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let ceiling = self
            .delays
            .min
            .saturating_mul(2_u32.saturating_pow(self.failures.min(31) + 1))
            .min(self.delays.max);
        self.failures = self.failures.saturating_add(1);
        between(self.delays.min, ceiling)
    }

    /// The wait after a refusal: the slow rate from the start.
    pub(crate) fn after_refusal(&self) -> Duration {
        between(self.delays.max / 2, self.delays.max)
    }
}

fn between(low: Duration, high: Duration) -> Duration {
    if low >= high {
        return high;
    }
    rand::rng().random_range(low..=high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_their_bounds() {
        let delays = Delays { min: Duration::from_millis(100), max: Duration::from_secs(30) };
        let mut backoff = Backoff::new(delays);
        for failure in 0..40 {
            let wait = backoff.after_failure();
            assert!(wait >= delays.min && wait <= delays.max, "{wait:?}");
            if failure == 0 {
                assert!(wait <= delays.min * 2, "{wait:?}");
            }
        }
        assert!(backoff.after_refusal() >= delays.max / 2);
    }
}
