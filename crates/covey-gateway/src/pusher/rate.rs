//! How often something may happen: so many at once, and so many a second.

/// A bucket of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    per_second: u64,
    at_once: u64,
    /// In thousandths of a token.
    left: u64,
    since_ms: u64,
}

impl Rate {
    /// A full one.
    #[must_use]
    pub const fn new(per_second: u64, at_once: u64, now_ms: u64) -> Self {
        Self { per_second, at_once, left: at_once * 1_000, since_ms: now_ms }
    }

    /// Whether it may happen now.
    pub fn take(&mut self, now_ms: u64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.since_ms);
        self.since_ms = self.since_ms.max(now_ms);
        self.left =
            self.left.saturating_add(passed_ms.saturating_mul(self.per_second)).min(self.at_once * 1_000);
        let is_enough = self.left >= 1_000;
        if is_enough {
            self.left -= 1_000;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_as_many_as_time_brings() {
        let mut rate = Rate::new(10, 30, 0);
        assert_eq!((0..50).filter(|_| rate.take(5)).count(), 30);
        assert_eq!((0..50).filter(|_| rate.take(505)).count(), 5);
        assert_eq!((0..50).filter(|_| rate.take(404)).count(), 0, "a clock that goes back brings nothing");
        assert_eq!((0..50).filter(|_| rate.take(1_000_000)).count(), 30);
    }
}
