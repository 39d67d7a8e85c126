//! How long to wait before a message is tried again.

/// The pause after the first failure, in milliseconds.
pub const FIRST_PAUSE_MS: i64 = 1_000;
/// The longest pause, in milliseconds; also of those that a receiver asks for.
/// Limit for each message: it is tried again no later.
pub const PAUSE_MS_MAX: i64 = 3_600_000;

/// The pause after this many failures, in milliseconds: 1 s, doubling to 1 h,
/// of which `chance` (any number) takes up to a fifth away, so that what
/// failed together is not tried again together. `asked_ms` is what the
/// receiver asked for with `Retry-After` (RFC 9110 §10.2.3).
#[must_use]
pub fn pause_ms(failures: u32, chance: u32, asked_ms: Option<i64>) -> i64 {
    let doubled = FIRST_PAUSE_MS << failures.saturating_sub(1).min(12);
    let full = doubled.min(PAUSE_MS_MAX);
    let taken = full / 5 * i64::from(chance) / i64::from(u32::MAX);
    let asked = asked_ms.unwrap_or(0).clamp(0, PAUSE_MS_MAX);
    (full - taken).max(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_to_an_hour_and_a_receiver_may_ask_for_more() {
        let full: Vec<_> = (1..=14).map(|failures| pause_ms(failures, 0, None) / 1_000).collect();
        assert_eq!(full, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]);
        assert_eq!(pause_ms(u32::MAX, 0, None), PAUSE_MS_MAX);
        assert_eq!(pause_ms(1, u32::MAX, None), 800, "a fifth less at most");
        assert_eq!(pause_ms(1, 0, Some(5_000)), 5_000);
        assert_eq!(pause_ms(4, 0, Some(5_000)), 8_000);
        assert_eq!(pause_ms(1, 0, Some(i64::MAX)), PAUSE_MS_MAX);
        assert_eq!(pause_ms(1, 0, Some(-1)), 1_000);
    }
}
