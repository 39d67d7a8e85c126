//! How many requests a second an organisation or a key may ask that has a limit of its own, and what answers say of it:
//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), and `Retry-After` (RFC 9110 §10.2.3).
//!
//! A bucket is one number, the instant at which it is full again, so a request costs an exchange of that number and nobody
//! waits for anybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::http::header::{HeaderMap, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

const SECOND: u64 = 1_000_000_000;
/// So much comes at once after a silence, in nanoseconds of the rate.
const WINDOW: u64 = SECOND;

/// How many requests a second there may be; as many at once, after a silence.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    /// None for as many as one likes.
    per_s: AtomicU64,
    /// When the bucket is full again, in nanoseconds.
    full_at: AtomicU64,
}

/// What a request has left of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) per_s: u64,
    /// How many requests may follow at once.
    remaining: u64,
    /// In how many nanoseconds there are as many as may be at once.
    full_in: u64,
    /// In how many nanoseconds one may come that was refused now.
    wait: Option<u64>,
}

impl Left {
    /// Whether the request is refused.
    pub(crate) const fn is_refused(&self) -> bool {
        self.wait.is_some()
    }
}

impl Rate {
    /// Changes how many there may be; what was asked before counts on.
    pub(crate) fn set(&self, per_s: Option<u64>) {
        self.per_s.store(per_s.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether there is one.
    pub(crate) fn is_set(&self) -> bool {
        self.per_s.load(Ordering::Relaxed) > 0
    }

    /// Takes a request, at this instant in nanoseconds. None if there is no rate.
    pub(crate) fn take(&self, now: u64) -> Option<Left> {
        let per_s = Some(self.per_s.load(Ordering::Relaxed)).filter(|per_s| *per_s > 0)?;
        // A nanosecond at least: there are no more than a million a second.
        let step = SECOND / per_s;
        let after = |full_at: u64| full_at.max(now).saturating_add(step);
        let fits = |full_at: u64| Some(after(full_at)).filter(|after| after - now <= WINDOW);
        let left = |used: u64, wait| {
            let remaining = WINDOW.saturating_sub(used) / step;
            Some(Left { per_s, remaining, full_in: used, wait })
        };
        match self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(before) => left(after(before) - now, None),
            Err(full_at) => {
                left(full_at.saturating_sub(now), Some((after(full_at) - now).saturating_sub(WINDOW)))
            }
        }
    }

    /// Gives a request back that was taken for nothing.
    pub(crate) fn give_back(&self) {
        let per_s = self.per_s.load(Ordering::Relaxed);
        if let Some(step) = SECOND.checked_div(per_s) {
            let back = |full_at: u64| Some(full_at.saturating_sub(step));
            let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
        }
    }

    /// Whether it says nothing.
    pub(crate) fn is_full(&self, now: u64) -> bool {
        !self.is_set() || self.full_at.load(Ordering::Relaxed) <= now
    }
}

/// What a request has left of the rates that it counts in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) key: Option<Left>,
    pub(crate) organisation: Option<Left>,
}

impl Rates {
    fn named(&self) -> impl Iterator<Item = (&'static str, Left)> {
        let named = [("key", self.key), ("organisation", self.organisation)];
        named.into_iter().filter_map(|(name, left)| Some((name, left?)))
    }

    /// Says it in the fields of an answer.
    pub(crate) fn say(&self, headers: &mut HeaderMap) {
        let list = |item: &dyn Fn(&str, Left) -> String| {
            let items: Vec<_> = self.named().map(|(name, left)| item(name, left)).collect();
            HeaderValue::try_from(items.join(", ")).ok().filter(|value| !value.is_empty())
        };
        if let Some(policy) = list(&|name, left| format!("\"{name}\";q={};w={}", left.per_s, WINDOW / SECOND))
        {
            headers.insert(RATE_LIMIT_POLICY, policy);
        }
        let of_now = |name: &str, left: Left| {
            format!("\"{name}\";r={};t={}", left.remaining, left.full_in.div_ceil(SECOND))
        };
        if let Some(left) = list(&of_now) {
            headers.insert(RATE_LIMIT, left);
        }
        if let Some(wait) = self.named().filter_map(|(_, left)| left.wait).max() {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.div_ceil(SECOND).max(1)));
        }
    }
}

/// The instant that rates go by, in nanoseconds since some other one.
#[derive(Debug)]
pub(crate) struct RateClock(Instant);

impl Default for RateClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl RateClock {
    pub(crate) fn now(&self) -> u64 {
        // It is enough for centuries.
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// No span brings more than a second's worth at once and what comes in it; who keeps to the rate is never
        /// refused, and who waits as long as is said is taken.
        #[test]
        fn a_rate_is_kept_and_nobody_waits_longer(
            per_s in 1..2_000_u64, pauses in prop::collection::vec(0..3_000_000_u64, 1..2_000)
        ) {
            let (rate, mut now, mut taken) = (Rate::default(), 5, 0);
            rate.set(Some(per_s));
            for pause in pauses {
                now += pause;
                let left = rate.take(now).unwrap();
                match left.wait {
                    None => taken += 1,
                    Some(wait) => {
                        prop_assert_eq!(left.remaining, 0);
                        prop_assert!(wait > 0 && wait <= SECOND / per_s);
                        let later = Rate::default();
                        later.set(Some(per_s));
                        later.full_at.store(rate.full_at.load(Ordering::Relaxed), Ordering::Relaxed);
                        prop_assert!(!later.take(now + wait).unwrap().is_refused());
                    }
                }
                let may = per_s + 1 + u64::try_from(u128::from(now) * u128::from(per_s) / u128::from(SECOND)).unwrap();
                prop_assert!(taken <= may, "{taken} of {may}");
            }
            let steady = Rate::default();
            steady.set(Some(per_s));
            let step = SECOND.div_ceil(per_s);
            prop_assert!((0..3_000).all(|number| !steady.take(number * step).unwrap().is_refused()));
        }
    }

    #[test]
    fn as_many_as_may_be_come_at_once_and_answers_say_how_many_are_left() {
        let rate = Rate::default();
        assert_eq!(rate.take(7), None, "there is none");
        rate.set(Some(3));
        let lefts: Vec<_> = (0..4).map(|_| rate.take(7).unwrap()).collect();
        assert_eq!(lefts.iter().map(|left| left.remaining).collect::<Vec<_>>(), [2, 1, 0, 0]);
        assert_eq!(lefts.iter().map(Left::is_refused).collect::<Vec<_>>(), [false, false, false, true]);
        rate.give_back();
        assert!(!rate.take(7).unwrap().is_refused());
        let mut headers = HeaderMap::new();
        Rates { key: Some(lefts[1]), organisation: None }.say(&mut headers);
        assert_eq!(
            (&headers[RATE_LIMIT], &headers[RATE_LIMIT_POLICY]),
            (&"\"key\";r=1;t=1".parse().unwrap(), &"\"key\";q=3;w=1".parse::<HeaderValue>().unwrap())
        );
        assert!(!headers.contains_key(RETRY_AFTER));
        Rates { key: Some(lefts[1]), organisation: Some(lefts[3]) }.say(&mut headers);
        assert_eq!(headers[RATE_LIMIT], "\"key\";r=1;t=1, \"organisation\";r=0;t=1");
        assert_eq!(headers[RETRY_AFTER], "1");
    }

    #[test]
    fn many_at_once_take_no_more_than_there_is() {
        let rate = Rate::default();
        rate.set(Some(1_000));
        let taken: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).filter(|_| !rate.take(9).unwrap().is_refused()).count()))
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }
}
