//! The buckets of one budget: for each the instant at which it is full again, in whole nanoseconds.

use crate::budget::Allowance;
use crate::budget::weight::{UNIT, Weight};

/// For how long in a row a device is not read because its budget is used up, in milliseconds.
/// Limit for each device: what it goes on to send is refused, until 200 ms of its rate have come back.
pub const HOLD_MS_MAX: u64 = 1_000;
/// For how long a device is not read after each packet while it is refused, in milliseconds.
pub const REFUSED_HOLD_MS: u64 = 10;
/// Who was refused is taken again once so much has come back, in milliseconds of its rate.
pub const RESUME_MS: u64 = 200;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const DAY_S: u64 = 24 * 3_600;
/// No more than this counts at a time, so that the products below fit into 64 bits; it is more than any
/// message has.
const LARGEST_AMOUNT: u64 = 1 << 33;

/// How much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How much a second, in the long run; 0 for as much as one likes.
    pub per_second: u64,
    /// How much at once, after a silence.
    pub burst: u64,
}

impl Rate {
    /// As much as one likes.
    pub const NONE: Self = Self { per_second: 0, burst: 0 };
}

/// A rate as it is reckoned with.
#[derive(Clone, Copy, Debug)]
struct Flow {
    per_second: u64,
    /// In so many nanoseconds an empty bucket is full.
    whole: u64,
}

impl Flow {
    fn new(per_second: u64, burst: u64) -> Self {
        let flow = Self { per_second, whole: 0 };
        Self { whole: flow.span(burst.max(1)), ..flow }
    }

    /// In how many nanoseconds so much comes.
    fn span(&self, amount: u64) -> u64 {
        amount.min(LARGEST_AMOUNT) * SECOND / self.per_second.max(1)
    }
}

/// How many buckets a budget has.
const BUCKETS: usize = 3;

/// An allowance as it is reckoned with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flows([Option<Flow>; BUCKETS]);

impl Flows {
    pub(super) fn new(allowance: &Allowance) -> Self {
        let Allowance { units, bytes, bytes_a_day } = *allowance;
        let of = |rate: Rate, scale: u64| {
            let per_second = rate.per_second.saturating_mul(scale);
            (per_second > 0).then(|| Flow::new(per_second, rate.burst.saturating_mul(scale)))
        };
        let a_day = |bytes: u64| Flow { per_second: bytes.div_ceil(DAY_S), whole: DAY_S * SECOND };
        let day = (bytes_a_day > 0).then(|| a_day(bytes_a_day));
        Self([of(units, UNIT), of(bytes, 1), day])
    }

    /// Whether there is nothing to reckon.
    pub(super) fn is_none(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// The buckets of one budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meter {
    /// When each is full again.
    full_at: [u64; BUCKETS],
    /// Since when nothing was left again and again, if that is so.
    short_since: Option<u64>,
    /// It was short for so long that what comes is refused.
    is_refused: bool,
}

impl Meter {
    /// What is used of each bucket and what there is of it, as spans.
    fn used(&self, flows: &Flows, now: u64) -> impl Iterator<Item = (u64, u64)> {
        let flows = flows.0.into_iter().zip(self.full_at);
        flows.filter_map(move |(flow, full_at)| Some((full_at.saturating_sub(now), flow?.whole)))
    }

    /// In how long something is left of each; 0 if it is.
    fn lack(&self, flows: &Flows, now: u64) -> u64 {
        self.used(flows, now).map(|(used, whole)| (used + 1).saturating_sub(whole)).max().unwrap_or(0)
    }

    /// In how long it is taken again that was refused.
    fn until_resumed(&self, flows: &Flows, now: u64) -> u64 {
        let missing = |(used, whole): (u64, u64)| {
            let wanted = (RESUME_MS * MS).min(whole / 2);
            (used + wanted).saturating_sub(whole)
        };
        self.used(flows, now).map(missing).max().unwrap_or(0)
    }

    fn was_short_for_long(&self, now: u64) -> bool {
        self.short_since.is_some_and(|since| now.saturating_sub(since) >= HOLD_MS_MAX * MS)
    }

    /// Takes a weight, if anything is left.
    ///
    /// # Errors
    /// In how many nanoseconds there is something again.
    pub(super) fn charge(&mut self, flows: &Flows, weight: Weight, now: u64) -> Result<(), u64> {
        let lack = self.lack(flows, now);
        if lack > 0 {
            self.is_refused |= self.was_short_for_long(now);
            return Err(lack);
        }
        if self.is_refused {
            let missing = self.until_resumed(flows, now);
            if missing > 0 {
                return Err(missing);
            }
            self.is_refused = false;
        }
        // Who has a tenth again has paused.
        if self.used(flows, now).all(|(used, whole)| used <= whole - whole / 10) {
            self.short_since = None;
        }
        self.add(flows, weight, now);
        Ok(())
    }

    /// Takes a weight, whether or not anything is left.
    pub(super) fn add(&mut self, flows: &Flows, weight: Weight, now: u64) {
        let amounts = [weight.milliunits, weight.bytes, weight.bytes];
        for ((full_at, flow), amount) in self.full_at.iter_mut().zip(flows.0).zip(amounts) {
            if let Some(flow) = flow {
                *full_at = (*full_at).max(now).saturating_add(flow.span(amount));
            }
        }
        if self.lack(flows, now) > 0 {
            self.short_since.get_or_insert(now);
            self.is_refused |= self.was_short_for_long(now);
        }
    }

    /// Gives a weight back that was taken for nothing.
    pub(super) fn give_back(&mut self, flows: &Flows, weight: Weight) {
        let amounts = [weight.milliunits, weight.bytes, weight.bytes];
        for ((full_at, flow), amount) in self.full_at.iter_mut().zip(flows.0).zip(amounts) {
            if let Some(flow) = flow {
                *full_at = full_at.saturating_sub(flow.span(amount));
            }
        }
    }

    /// For how many nanoseconds nothing should come that cannot be refused.
    pub(super) fn lack_to_bear(&self, flows: &Flows, now: u64) -> u64 {
        self.lack(flows, now).min(HOLD_MS_MAX * MS)
    }

    /// For how many nanoseconds nothing should come: until the debt is paid. Who was short for long is told
    /// instead, at a pace that costs the server little.
    pub(super) fn hold(&self, flows: &Flows, now: u64) -> u64 {
        let lack = self.lack(flows, now);
        if self.is_refused {
            let is_over = lack == 0 && self.until_resumed(flows, now) == 0;
            return if is_over { 0 } else { REFUSED_HOLD_MS * MS };
        }
        let patience = match self.short_since {
            Some(since) => (since + HOLD_MS_MAX * MS).saturating_sub(now),
            None => HOLD_MS_MAX * MS,
        };
        lack.min(patience)
    }

    /// Whether it says nothing.
    pub(super) fn is_full(&self, now: u64) -> bool {
        self.full_at.iter().all(|full_at| *full_at <= now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// One bucket by exact numbers: what is left, times the denominator of time.
    struct Model {
        left: i128,
        at: u64,
        full: i128,
        /// What comes in a nanosecond, times [`Model::SCALE`].
        flow: i128,
    }

    impl Model {
        const SCALE: i128 = 1_000_000_000_000;

        fn new(per_second: u64, burst: u64) -> Self {
            let full = i128::from(burst) * Self::SCALE;
            Self { left: full, at: 0, full, flow: i128::from(per_second) * Self::SCALE / 1_000_000_000 }
        }

        fn fill(&mut self, now: u64) {
            self.left = (self.left + self.flow * i128::from(now - self.at)).min(self.full);
            self.at = now;
        }

        fn take(&mut self, amount: u64) {
            self.left -= i128::from(amount) * Self::SCALE;
        }

        /// How far from nothing, in nanoseconds.
        fn left_ns(&self) -> i128 {
            self.left / self.flow.max(1)
        }
    }

    fn allowance(units: (u64, u64), bytes: (u64, u64), bytes_a_day: u64) -> Allowance {
        let rate = |(per_second, burst)| Rate { per_second, burst };
        Allowance { units: rate(units), bytes: rate(bytes), bytes_a_day }
    }

    proptest! {
        /// Something is taken as long as each bucket has something, and refused when one has not; a weight
        /// counts in all buckets; nobody is refused for longer than has to be.
        #[test]
        fn it_takes_and_refuses_as_exact_buckets_do(
            units in (1..1_000_u64, 1..5_000_u64), bytes in (1_000..1_000_000_u64, 1_000..10_000_000_u64),
            calls in proptest::collection::vec((0..400_000_000_u64, 0..300_u64, 0..300_000_u64), 1..300),
        ) {
            let flows = Flows::new(&allowance(units, bytes, 0));
            let mut models = [Model::new(units.0, units.1), Model::new(bytes.0, bytes.1)];
            let (mut meter, mut now) = (Meter::default(), 0);
            for (pause, units, bytes) in calls {
                now += pause;
                models.iter_mut().for_each(|model| model.fill(now));
                let left_ns = models.iter().map(Model::left_ns).min().unwrap();
                let weight = Weight { milliunits: units * UNIT, bytes };
                // Divisions are rounded: a few nanoseconds for each call.
                match meter.charge(&flows, weight, now) {
                    Ok(()) => {
                        prop_assert!(left_ns >= -1_000, "{left_ns}");
                        models[0].take(units);
                        models[1].take(bytes);
                    }
                    Err(wait) => {
                        prop_assert!(left_ns <= i128::from(RESUME_MS * MS) + 1_000, "{left_ns}");
                        prop_assert!(wait > 0);
                        let mut later = meter;
                        prop_assert!(later.charge(&flows, weight, now + wait + RESUME_MS * MS).is_ok());
                    }
                }
            }
        }

        /// However it is asked, no span brings more than the burst, what comes in it, and the last one.
        #[test]
        fn no_span_brings_more_than_the_burst_and_its_rate(
            per_second in 1..1_000_u64, burst in 1..1_000_u64,
            calls in proptest::collection::vec((0..50_000_000_u64, 1..50_u64), 1..1_000),
        ) {
            let flows = Flows::new(&allowance((per_second, burst), (0, 0), 0));
            let (mut meter, mut now, mut taken, mut largest) = (Meter::default(), 7, 0, 0);
            for (pause, units) in calls {
                now += pause;
                if meter.charge(&flows, Weight { milliunits: units * UNIT, bytes: 0 }, now).is_ok() {
                    (taken, largest) = (taken + units, largest.max(units));
                }
                let may = burst + largest + 1 + (now - 7) * per_second / SECOND;
                prop_assert!(taken <= may, "{taken} of {may}");
            }
        }

        /// Who keeps to the rate is never refused and never held.
        #[test]
        fn who_keeps_to_the_rate_is_not_held_up(per_second in 1..1_000_u64, burst in 2..1_000_u64) {
            let flows = Flows::new(&allowance((per_second, burst), (0, 0), 0));
            let step = SECOND.div_ceil(per_second);
            let mut meter = Meter::default();
            for number in 1..2_000 {
                let now = number * step;
                let charged = meter.charge(&flows, Weight { milliunits: UNIT, bytes: 0 }, now);
                prop_assert_eq!(charged, Ok(()));
                prop_assert_eq!(meter.hold(&flows, now), 0);
            }
        }

        /// Who waits as long as it is held has its rate, and is never held for longer than may be: only who
        /// goes on for that long is refused.
        #[test]
        fn who_is_held_has_its_rate(per_second in 10..1_000_u64, burst in 20..1_000_u64, units in 1..10_u64) {
            let flows = Flows::new(&allowance((per_second, burst), (0, 0), 0));
            let (mut meter, mut now, mut taken) = (Meter::default(), 1, 0);
            let mut short_since = None;
            let weight = Weight { milliunits: units * UNIT, bytes: 0 };
            while meter.charge(&flows, weight, now).is_ok() {
                taken += units;
                let hold = meter.hold(&flows, now);
                prop_assert!(hold <= HOLD_MS_MAX * MS);
                if hold > 0 {
                    short_since.get_or_insert(now);
                }
                now += hold;
                prop_assert!(now < 10 * SECOND);
            }
            let short_for = now - short_since.unwrap();
            prop_assert!(short_for >= HOLD_MS_MAX * MS, "{short_for}");
            let came = burst + now * per_second / SECOND;
            // The last hold may have brought something that was not taken.
            let least = came.saturating_sub(1 + REFUSED_HOLD_MS * per_second / 1_000);
            prop_assert!((least..=came + units + 1).contains(&taken), "{taken}, and {came} came");
        }
    }

    #[test]
    fn a_day_has_its_bytes() {
        let flows = Flows::new(&allowance((0, 0), (0, 0), 86_400_000));
        let (mut meter, weight) = (Meter::default(), Weight { milliunits: 0, bytes: 864_000 });
        let day = DAY_S * SECOND;
        let taken =
            |meter: &mut Meter, now| (0..1_000).filter(|_| meter.charge(&flows, weight, now).is_ok()).count();
        assert_eq!(taken(&mut meter, 1), 100);
        assert!((49..=52).contains(&taken(&mut meter, day / 2)));
        assert!((99..=102).contains(&taken(&mut meter, 3 * day)));
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let flows = Flows::new(&allowance((10, 5), (1_000, 1_000), 0));
        let (mut meter, weight) = (Meter::default(), Weight { milliunits: 5 * UNIT, bytes: 7 });
        for _ in 0..100 {
            assert_eq!(meter.charge(&flows, weight, 9), Ok(()));
            meter.give_back(&flows, weight);
        }
        assert!(meter.charge(&flows, weight, 9).is_ok() && meter.charge(&flows, weight, 9).is_err());
    }
}
