//! Latencies: recorded without locks by each caller, merged at the end, told
//! as percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart, in microseconds: two minutes, twice as
/// long as a request may wait.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Digits that are kept: an error of at most 0.1 %.
const DIGITS: u8 = 3;
/// Points of a curve for each nine of its percentiles.
const POINTS_PER_NINE: u32 = 12;
/// Nines of a curve at most: 99.9999 %.
const NINES_MAX: u32 = 6;

/// Latencies of one caller, or of all.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Option<Histogram<u64>>);

/// What the latencies come to, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatencySummary {
    /// How many there are.
    pub count: u64,
    /// The shortest.
    pub min_us: u64,
    /// Their mean.
    pub mean_us: f64,
    /// Half are not longer.
    pub p50_us: u64,
    /// 90 % are not longer.
    pub p90_us: u64,
    /// 99 % are not longer.
    pub p99_us: u64,
    /// 99.9 % are not longer.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
    /// The curve of the percentiles, as far as the count supports it.
    pub curve: Vec<CurvePoint>,
}

/// A point of the curve of percentiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The share of latencies that are not longer, below 1.
    pub quantile: f64,
    /// The latency in microseconds.
    pub latency_us: u64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        // Fails only for bounds that make no sense, which these are not.
        Self(Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).ok())
    }

    /// Records one; what is longer than [`LATENCY_US_MAX`] counts as that.
    pub(crate) fn record(&mut self, latency: Duration) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        if let (Some(histogram), Some(other)) = (&mut self.0, &other.0) {
            // Fails only for other bounds, and there are none.
            let _ = histogram.add(other);
        }
    }

    #[cfg(test)]
    pub(crate) fn count_from(&self, latency: Duration) -> u64 {
        let from = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.as_ref().map_or(0, |histogram| histogram.count_between(from, u64::MAX))
    }

    /// `None` if nothing was recorded.
    pub(crate) fn summary(&self) -> Option<LatencySummary> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        let at = |quantile| histogram.value_at_quantile(quantile);
        Some(LatencySummary {
            count: histogram.len(),
            min_us: histogram.min(),
            mean_us: histogram.mean(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max(),
            curve: curve(histogram),
        })
    }
}

/// Points at even distances on an axis of nines, up to where one latency
/// stands for the rest.
fn curve(histogram: &Histogram<u64>) -> Vec<CurvePoint> {
    #[allow(clippy::cast_precision_loss)] // a count is far below 2^53
    let rest_min = 1.0 / histogram.len() as f64;
    (0..=NINES_MAX * POINTS_PER_NINE)
        .map(|point| 10_f64.powf(-f64::from(point) / f64::from(POINTS_PER_NINE)))
        .take_while(|rest| *rest >= rest_min)
        .map(|rest| {
            let quantile = 1.0 - rest;
            CurvePoint { quantile, latency_us: histogram.value_at_quantile(quantile) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn near(value: u64, expected: u64) -> bool {
        value.abs_diff(expected) * 500 <= expected
    }

    #[test]
    fn the_percentiles_of_an_even_distribution_are_known() {
        let (mut odd, mut even) = (Latencies::new(), Latencies::new());
        for us in 1..=100_000_u64 {
            let part = if us % 2 == 0 { &mut even } else { &mut odd };
            part.record(Duration::from_micros(us));
        }
        odd.add(&even);
        let summary = odd.summary().unwrap();
        assert_eq!((summary.count, summary.min_us), (100_000, 1));
        for (value, expected) in [
            (summary.p50_us, 50_000),
            (summary.p90_us, 90_000),
            (summary.p99_us, 99_000),
            (summary.p999_us, 99_900),
            (summary.max_us, 100_000),
        ] {
            assert!(near(value, expected), "{value} instead of {expected}");
        }
        assert!((summary.mean_us - 50_000.5).abs() < 50.0);
        for point in &summary.curve {
            assert!((point.quantile * 100_000.0 - point.latency_us as f64).abs() < 150.0, "{point:?}");
        }
    }

    #[test]
    fn a_curve_goes_as_far_as_the_count_supports_it() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.summary(), None);
        for _ in 0..1_000 {
            latencies.record(Duration::from_millis(1));
        }
        let curve = latencies.summary().unwrap().curve;
        assert!(curve.last().unwrap().quantile <= 0.999 + 1e-9);
        assert_eq!(curve.first().unwrap().quantile, 0.0);
    }

    #[test]
    fn what_is_longer_than_can_be_told_apart_is_not_lost() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::MAX);
        assert_eq!(latencies.summary().unwrap().count, 1);
    }
}
