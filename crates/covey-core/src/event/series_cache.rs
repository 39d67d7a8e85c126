//! Buckets of series that were gathered a moment ago (`docs/adr/0021-reads-in-lanes-writes-in-turns.md`).
//!
//! What is over changes no more: events get the time at which they are stored. So buckets that ended some
//! minutes ago are kept, and who asks for the same series again costs the events since then. What is not known
//! is read in parts of about the same time, so that others have their turns in between, and what was read
//! is kept even if the rest is not waited for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::event::{Bucket, SeriesPath, SeriesQuery};
use crate::id::{DeviceId, OrgId, UnixMs};
use crate::port::{Clock, Found};

/// After what time a bucket is taken for complete, in milliseconds: longer than a commit takes, and than clocks
/// are set back.
const COMPLETE_MS: i64 = 300_000;
/// For how long buckets are kept, in milliseconds. Events that another server forgets are seen in them for as long.
const KEPT_MS: i64 = 600_000;
/// How many buckets are kept, of about 50 bytes each.
/// Limit for the server: the ones that were used longest ago are made anew.
const BUCKETS_KEPT_MAX: usize = 100_000;
/// As how many more a series counts beside its buckets.
const BUCKETS_A_SERIES: usize = 8;
/// Into how many parts a span is divided at first.
const PARTS: i64 = 16;
/// Into how many parts a span is divided at most.
/// Limit for each series: parts are no shorter.
const PARTS_MAX: i64 = 64;
/// A part that took less is followed by a longer one, in microseconds.
const PART_US_MIN: u64 = 50_000;
/// How long a part of a series takes before the next one is shorter, in microseconds.
/// Limit for each part of a series: the next one is shorter.
const PART_US_MAX: u64 = 400_000;

/// What a series is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    org: OrgId,
    device_id: DeviceId,
    type_code: Option<i64>,
    path: SeriesPath,
    width_ms: i64,
}

/// A span without a gap, in whole buckets, and those of its buckets that are not empty.
#[derive(Clone, Debug)]
struct Span {
    from: i64,
    until: i64,
    buckets: Vec<Bucket>,
}

impl Span {
    fn touches(&self, other: &Self) -> bool {
        self.from <= other.until && other.from <= self.until
    }

    /// Grows by what another has beyond it; the two touch.
    fn grow(&mut self, other: &Self) {
        if other.from < self.from {
            let mut before = other.buckets.clone();
            before.retain(|bucket| bucket.from.0 < self.from);
            before.append(&mut self.buckets);
            (self.from, self.buckets) = (other.from, before);
        }
        if other.until > self.until {
            self.buckets.extend(other.buckets.iter().filter(|bucket| bucket.from.0 >= self.until));
            self.until = other.until;
        }
    }

    /// The part of it that is wanted; none if it has nothing of that.
    fn part(&self, from: i64, until: i64) -> Option<Self> {
        let (from, until) = (self.from.max(from), self.until.min(until));
        let is_in = |bucket: &&Bucket| (from..until).contains(&bucket.from.0);
        (from < until).then(|| Self {
            from,
            until,
            buckets: self.buckets.iter().filter(is_in).copied().collect(),
        })
    }
}

/// A series that is kept.
struct Kept {
    span: Span,
    since: UnixMs,
    used: u64,
}

impl Kept {
    fn weight(&self) -> usize {
        self.span.buckets.len() + BUCKETS_A_SERIES
    }
}

#[derive(Default)]
struct Series {
    by_key: HashMap<Key, Kept>,
    weight: usize,
    uses: u64,
}

impl Series {
    fn remove(&mut self, key: &Key) {
        if let Some(kept) = self.by_key.remove(key) {
            self.weight -= kept.weight();
        }
    }
}

/// Buckets that were gathered a moment ago.
#[derive(Default)]
pub(crate) struct SeriesCache(Mutex<Series>);

impl SeriesCache {
    fn series(&self) -> MutexGuard<'_, Series> {
        // Whole whenever it is unlocked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all, because events were forgotten.
    pub(crate) fn forget(&self) {
        *self.series() = Series::default();
    }

    /// The buckets of a series: those that are known, and the others by `read`.
    pub(crate) async fn gather<'a>(
        &self,
        org: OrgId,
        query: &SeriesQuery,
        clock: &dyn Clock,
        read: impl Fn(SeriesQuery) -> Found<'a, Vec<Bucket>>,
    ) -> Result<Vec<Bucket>> {
        let (from, until, width) = (query.from.0, query.until.0, query.width_ms);
        let now = clock.now();
        let complete = now.0.saturating_sub(COMPLETE_MS).min(until);
        let whole_from = from.saturating_add(width - 1) / width * width;
        let whole_until = complete.max(0) / width * width;
        let read =
            |from, until| read(SeriesQuery { from: UnixMs(from), until: UnixMs(until), ..query.clone() });
        if whole_until <= whole_from {
            return read(from, until).await;
        }
        let key = Key {
            org,
            device_id: query.device_id,
            type_code: query.type_code,
            path: query.path.clone(),
            width_ms: width,
        };
        let mut buckets = Vec::new();
        if from < whole_from {
            buckets.extend(read(from, whole_from).await?);
        }
        let known = self.known(&key, whole_from, whole_until, now);
        let mut span = known.unwrap_or(Span { from: whole_from, until: whole_from, buckets: Vec::new() });
        let mut pace = Pace::new((whole_until - whole_from) / width);
        while span.until < whole_until {
            let until = whole_until.min(span.until.saturating_add(pace.buckets.saturating_mul(width)));
            let buckets = pace.timed(clock, read(span.until, until)).await?;
            let part = Span { from: span.until, until, buckets };
            self.keep(&key, &part, now);
            span.grow(&part);
        }
        while span.from > whole_from {
            let from = whole_from.max(span.from.saturating_sub(pace.buckets.saturating_mul(width)));
            let buckets = pace.timed(clock, read(from, span.from)).await?;
            let part = Span { from, until: span.from, buckets };
            self.keep(&key, &part, now);
            span.grow(&part);
        }
        buckets.append(&mut span.buckets);
        if whole_until < until {
            buckets.extend(read(whole_until, until).await?);
        }
        Ok(buckets)
    }

    /// What is known of a span.
    fn known(&self, key: &Key, from: i64, until: i64, now: UnixMs) -> Option<Span> {
        let mut series = self.series();
        series.uses += 1;
        let used = series.uses;
        let kept = series.by_key.get_mut(key)?;
        // A clock that was set back makes nothing fresh.
        if !(0..KEPT_MS).contains(&now.since_ms(kept.since)) {
            series.remove(key);
            return None;
        }
        kept.used = used;
        kept.span.part(from, until)
    }

    /// Keeps what was read: with what is known if there is no gap between the two, else in place of it.
    fn keep(&self, key: &Key, part: &Span, now: UnixMs) {
        let mut series = self.series();
        series.uses += 1;
        let used = series.uses;
        match series.by_key.get_mut(key).filter(|kept| kept.span.touches(part)) {
            Some(kept) => {
                let before = kept.weight();
                kept.span.grow(part);
                let more = kept.weight() - before;
                series.weight += more;
            }
            None => {
                series.remove(key);
                let kept = Kept { span: part.clone(), since: now, used };
                series.weight += kept.weight();
                series.by_key.insert(key.clone(), kept);
            }
        }
        while series.weight > BUCKETS_KEPT_MAX {
            let oldest = series.by_key.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            series.remove(&oldest);
        }
    }
}

/// How much is read at a time.
struct Pace {
    /// In buckets.
    buckets: i64,
    least: i64,
}

impl Pace {
    fn new(all: i64) -> Self {
        let part = |parts: i64| (all / parts).max(1);
        Self { buckets: part(PARTS), least: part(PARTS_MAX) }
    }

    /// Reads a part, and learns from the time that it took.
    async fn timed<T>(&mut self, clock: &dyn Clock, reading: Found<'_, T>) -> Result<T> {
        let began_us = clock.monotonic_us();
        let found = reading.await?;
        let took_us = clock.monotonic_us().saturating_sub(began_us);
        if took_us < PART_US_MIN {
            self.buckets = self.buckets.saturating_mul(4);
        } else if took_us > PART_US_MAX {
            self.buckets = (self.buckets / 2).max(self.least);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    use futures_executor::block_on;
    use proptest::prelude::*;

    use super::*;

    /// A clock that is set; each look at it takes as long as the test says.
    #[derive(Default)]
    struct Set {
        now: AtomicI64,
        us: AtomicU64,
        step_us: AtomicU64,
    }

    impl Clock for Set {
        fn now(&self) -> UnixMs {
            UnixMs(self.now.load(Ordering::Relaxed))
        }

        fn monotonic_us(&self) -> u64 {
            self.us.fetch_add(self.step_us.load(Ordering::Relaxed), Ordering::Relaxed)
        }
    }

    fn query(from: i64, until: i64, width_ms: i64) -> SeriesQuery {
        let path = SeriesPath::tag("310").unwrap();
        let (from, until) = (UnixMs(from), UnixMs(until));
        SeriesQuery {
            device_id: DeviceId(1),
            registration: None,
            type_code: None,
            path,
            from,
            until,
            width_ms,
        }
    }

    /// What a store answers.
    fn gathered(events: &BTreeMap<i64, f64>, query: &SeriesQuery) -> Vec<Bucket> {
        let mut buckets: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for (at, number) in events.range(query.from.0..query.until.0) {
            buckets.entry(at / query.width_ms * query.width_ms).or_default().push(*number);
        }
        let bucket = |(from, numbers): (i64, Vec<f64>)| Bucket {
            from: UnixMs(from),
            min: numbers.iter().copied().fold(f64::INFINITY, f64::min),
            max: numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean: numbers.iter().sum::<f64>() / numbers.len() as f64,
            last: *numbers.last().unwrap(),
            count: numbers.len() as u64,
        };
        buckets.into_iter().map(bucket).collect()
    }

    /// Asks through a cache; also answers how many milliseconds of events were read.
    fn ask(
        cache: &SeriesCache,
        clock: &Set,
        events: &BTreeMap<i64, f64>,
        query: &SeriesQuery,
    ) -> (Vec<Bucket>, i64) {
        let read_ms = AtomicI64::new(0);
        let read = |query: SeriesQuery| {
            read_ms.fetch_add(query.until.since_ms(query.from), Ordering::Relaxed);
            let found = gathered(events, &query);
            Box::pin(async move { Ok(found) }) as Found<'_, _>
        };
        let buckets = block_on(cache.gather(OrgId(1), query, clock, read)).unwrap();
        (buckets, read_ms.into_inner())
    }

    proptest! {
        #[test]
        fn a_series_is_what_the_store_would_answer(
            steps in prop::collection::vec(
                (0..900_000_i64, 1..4_000_000_i64, 0..4_000_000_i64, prop::sample::select(vec![1_000, 7_000, 60_000, 500_000])),
                1..25,
            ),
            step_us in prop::sample::select(vec![0_u64, 100_000, 1_000_000]),
        ) {
            let (cache, clock, mut events) = (SeriesCache::default(), Set::default(), BTreeMap::new());
            clock.step_us.store(step_us, Ordering::Relaxed);
            for (number, (pause, span, back, width)) in (0..).zip(steps) {
                let before = clock.now.load(Ordering::Relaxed);
                let now = before + pause;
                // Some events have come since, up to the present.
                events.extend((0..20).map(|part| (before + pause * part / 20, f64::from(number * 20 + part as i32))));
                clock.now.store(now, Ordering::Relaxed);
                let until = (now - back).max(1);
                let query = query((until - span).max(0), until, width);
                prop_assert_eq!(ask(&cache, &clock, &events, &query).0, gathered(&events, &query));
            }
        }
    }

    #[test]
    fn what_was_asked_for_costs_only_what_came_since() {
        const DAY: i64 = 86_400_000;
        let (cache, clock) = (SeriesCache::default(), Set::default());
        clock.now.store(10 * DAY, Ordering::Relaxed);
        let events: BTreeMap<i64, f64> =
            (0..100_000).map(|number| (number * 10_000, number as f64)).collect();
        let day = |until| query(until - DAY, until, 432_000);
        assert_eq!(ask(&cache, &clock, &events, &day(10 * DAY)).1, DAY);
        clock.now.store(10 * DAY + 60_000, Ordering::Relaxed);
        let (_, read_ms) = ask(&cache, &clock, &events, &day(10 * DAY + 60_000));
        assert!(read_ms <= COMPLETE_MS + 3 * 432_000, "{read_ms} ms");
        assert_eq!(ask(&cache, &clock, &events, &query(9 * DAY, 10 * DAY, 1_000)).1, DAY, "another width");
        clock.now.store(10 * DAY + KEPT_MS, Ordering::Relaxed);
        assert_eq!(ask(&cache, &clock, &events, &day(10 * DAY)).1, DAY, "it is too old");
        cache.forget();
        assert_eq!(ask(&cache, &clock, &events, &day(10 * DAY)).1, DAY);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (cache, clock) = (SeriesCache::default(), Set::default());
        clock.now.store(1_000_000_000, Ordering::Relaxed);
        let events: BTreeMap<i64, f64> = (0..10_000).map(|number| (number * 1_000, 1.0)).collect();
        for device in 0..40 {
            let query = SeriesQuery { device_id: DeviceId(device), ..query(0, 9_000_000, 1_000) };
            ask(&cache, &clock, &events, &query);
            let series = cache.series();
            assert_eq!(series.weight, series.by_key.values().map(Kept::weight).sum::<usize>());
            assert!(series.weight <= BUCKETS_KEPT_MAX && !series.by_key.is_empty());
        }
    }
}
