//! The circuit breaker: an endpoint that fails again and again is left alone,
//! but for one probe at a time.

use crate::id::UnixMs;

/// After how many failures in a row the circuit of a webhook opens.
/// Limit for each webhook: no messages but probes until one succeeds.
pub const FAILURES_MAX: u32 = 5;
/// The pause before the first probe, in milliseconds.
pub const FIRST_PROBE_MS: i64 = 1_000;
/// The longest pause between probes, in milliseconds.
/// Limit for each webhook: it is probed no later.
pub const PROBE_MS_MAX: i64 = 30_000;

/// What is shown and stored of a circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CircuitState {
    /// Since when it is open, if it is.
    pub open_since: Option<UnixMs>,
    /// How many failures there were in a row.
    pub failures: u32,
}

/// A circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circuit {
    state: CircuitState,
    probe_at: UnixMs,
    pause_ms: i64,
}

impl Circuit {
    /// A circuit as it was left. One that was open is probed at once.
    #[must_use]
    pub fn resumed(state: CircuitState, now: UnixMs) -> Self {
        Self { state, probe_at: now, pause_ms: FIRST_PROBE_MS }
    }

    /// What is shown of it.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.state
    }

    /// When the next probe may go, if it is open.
    #[must_use]
    pub fn probe_at(&self) -> Option<UnixMs> {
        self.state.open_since.map(|_| self.probe_at)
    }

    /// A message was delivered; answers whether that closed it.
    pub fn delivered(&mut self) -> bool {
        let was_open = self.state.open_since.is_some();
        self.state = CircuitState::default();
        self.pause_ms = FIRST_PROBE_MS;
        was_open
    }

    /// A message failed; `was_probe` if it was sent while it was open, and
    /// `asked_ms` is how long the receiver wants to be left alone.
    pub fn failed(&mut self, now: UnixMs, was_probe: bool, asked_ms: Option<i64>) {
        self.state.failures = self.state.failures.saturating_add(1);
        let asked_ms = asked_ms.unwrap_or(0).clamp(0, super::backoff::PAUSE_MS_MAX);
        if self.state.open_since.is_none() {
            if self.state.failures < FAILURES_MAX {
                return;
            }
            self.state.open_since = Some(now);
            self.pause_ms = FIRST_PROBE_MS;
        } else if was_probe {
            self.pause_ms = (self.pause_ms * 2).min(PROBE_MS_MAX);
        } else {
            // It had been on its way before the circuit opened.
            return;
        }
        self.probe_at = now.plus_ms(self.pause_ms.max(asked_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_open_it_and_one_delivery_closes_it() {
        let mut circuit = Circuit::resumed(CircuitState::default(), UnixMs(0));
        (0..4).for_each(|_| circuit.failed(UnixMs(0), false, None));
        assert!(!circuit.delivered());
        (0..5).for_each(|_| circuit.failed(UnixMs(0), false, None));
        assert_eq!(circuit.probe_at(), Some(UnixMs(1_000)));
        circuit.failed(UnixMs(500), false, None);
        assert_eq!(circuit.probe_at(), Some(UnixMs(1_000)), "was on its way");
        let mut now = UnixMs(1_000);
        for pause_s in [2, 4, 8, 16, 30, 30] {
            circuit.failed(now, true, None);
            assert_eq!(circuit.probe_at(), Some(now.plus_ms(pause_s * 1_000)));
            now = now.plus_ms(pause_s * 1_000);
        }
        circuit.failed(now, true, Some(120_000));
        assert_eq!(circuit.probe_at(), Some(now.plus_ms(120_000)), "as asked");
        assert!(circuit.delivered());
        assert_eq!((circuit.probe_at(), circuit.state()), (None, CircuitState::default()));
    }
}
