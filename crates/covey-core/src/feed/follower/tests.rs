//! Any interleaving of reads, takes and pauses, against a model of the outbox.

#![allow(clippy::unwrap_used)]

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;
use crate::device::DeviceIdentity;
use crate::feed::PAST_BYTES_MAX;
use crate::id::{DeviceId, DeviceKey, Sn, UnixMs};
use crate::record::{Change, RecordDevice, RecordPage, TwinChange, TwinSide};

/// A clock that a test sets.
#[derive(Default)]
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now(&self) -> UnixMs {
        UnixMs(0)
    }

    fn monotonic_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn record(org: OrgId, number: i64, bytes: usize) -> Record {
    let sn = Sn::parse("x").unwrap();
    let identity = DeviceIdentity { org, device: DeviceKey(1), device_id: DeviceId(1), sn };
    let value = Some("x".repeat(bytes.saturating_sub(Record::FRAME_BYTES)).into());
    let change = TwinChange { side: TwinSide::Reported, resource: String::new(), value, version: 1 };
    let device = RecordDevice { identity, tags: None };
    Record { number: RecordNumber(number), device, at: UnixMs(0), change: Change::Twin(change) }
}

/// What comes of a future that is looked at once.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn numbers(batch: &Batch) -> Vec<i64> {
    batch.records.iter().map(|record| record.number.0).collect()
}

const ORGS: usize = 3;

/// An outbox, which is the same for each organisation, and followers from its beginning.
struct Past {
    feed: Arc<Feed>,
    clock: Arc<SetClock>,
    /// The bytes of its records.
    outbox: Vec<usize>,
    followers: Vec<(Follower, Vec<i64>)>,
    /// Of each organisation that waits, how many turns others had since.
    passed_over: [usize; ORGS],
}

#[derive(Clone, Debug)]
enum Step {
    Read,
    Take(usize, usize),
    Pass(u64),
    /// One leaves, and another comes in its place.
    Leave(usize),
}

impl Past {
    fn new(bytes_max: usize, outbox: Vec<usize>, followers: usize) -> Self {
        // Half of it is for the past.
        let (feed, clock) = (Arc::new(Feed::new(2 * bytes_max)), Arc::<SetClock>::default());
        let mut past = Self { feed, clock, outbox, followers: Vec::new(), passed_over: [0; ORGS] };
        past.followers = (0..followers).map(|place| past.follower(place)).collect();
        past
    }

    fn follower(&self, place: usize) -> (Follower, Vec<i64>) {
        let org = OrgId(i64::try_from(place % ORGS).unwrap());
        let (feed, clock) = (Arc::clone(&self.feed), Arc::clone(&self.clock));
        (Follower::new(feed, clock, org, RecordFilter::default(), RecordNumber(0)), Vec::new())
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Read => {
                self.read();
            }
            Step::Take(place, bytes_max) => {
                let place = place % self.followers.len();
                let (follower, told) = &mut self.followers[place];
                if let Some(batch) = now(follower.peek(bytes_max)) {
                    let batch = batch.unwrap();
                    told.extend(numbers(&batch));
                    follower.take(batch.cursor);
                }
            }
            Step::Leave(place) => {
                let place = place % self.followers.len();
                self.followers[place] = self.follower(place);
                // Nothing is read before it asks.
                drop(now(self.followers[place].0.peek(1)));
            }
            Step::Pass(ms) => _ = self.clock.0.fetch_add(ms * 1_000, Ordering::Relaxed),
        }
    }

    /// Reads a page for whose turn it is; whether there was room and somebody.
    fn read(&mut self) -> bool {
        let waits = |org: usize| {
            let org = OrgId(i64::try_from(org).unwrap());
            self.followers.iter().any(|(one, _)| one.org == org && one.shelf.wanted().is_some())
        };
        let waiting: Vec<_> = (0..ORGS).filter(|org| waits(*org)).collect();
        let clock = Arc::clone(&self.clock);
        let Some(Some(turn)) = now(self.feed.history.turn(|| clock.monotonic_us())) else { return false };
        let request = turn.request();
        let served = usize::try_from(request.org.unwrap().0).unwrap();
        for org in waiting {
            self.passed_over[org] = if org == served { 0 } else { self.passed_over[org] + 1 };
            assert!(self.passed_over[org] < ORGS, "others had {} turns", self.passed_over[org]);
        }
        let after = usize::try_from(request.after.0).unwrap();
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (place, size) in self.outbox.iter().enumerate().skip(after).take(request.limit as usize) {
            let record = record(request.org.unwrap(), i64::try_from(place + 1).unwrap(), *size);
            bytes += record.bytes();
            if bytes > request.bytes_max && !records.is_empty() {
                break;
            }
            records.push(record);
        }
        let position = RecordNumber(i64::try_from(after + records.len()).unwrap());
        let is_more = after + records.len() < self.outbox.len();
        turn.over(Ok(RecordPage { records, position, is_more }), clock.monotonic_us());
        true
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Read),
        4 => (0..64_usize, 0..600_000_usize).prop_map(|(place, bytes)| Step::Take(place, bytes)),
        1 => (0..400_u64).prop_map(Step::Pass),
        1 => (0..64_usize).prop_map(Step::Leave),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn who_begins_in_the_past_gets_all_of_it_whoever_else_takes_nothing(
        pages in 1..5_usize,
        outbox in prop::collection::vec(1_000..400_000_usize, 1..40),
        followers in 1..12_usize,
        steps in prop::collection::vec(step(), 0..200),
        greedy in 0..12_usize,
    ) {
        let mut past = Past::new(pages * PAST_BYTES_MAX, outbox, followers);
        for step in &steps {
            past.step(step);
            prop_assert!(past.feed.history.held() <= pages * PAST_BYTES_MAX);
        }
        // The first ones take nothing from here on; all others come to the end.
        let honest = greedy.min(followers - 1)..followers;
        let whole: Vec<i64> = (1..=i64::try_from(past.outbox.len()).unwrap()).collect();
        for round in 0.. {
            prop_assert!(round < 20_000, "somebody does not get on");
            for place in 0..followers {
                let is_honest = honest.contains(&place);
                // Whoever takes nothing asks again when it has lost its page, but not at once.
                if !is_honest && round % 100 != 0 {
                    continue;
                }
                let (follower, told) = &mut past.followers[place];
                if let Some(batch) = now(follower.peek(300_000))
                    && is_honest
                {
                    let batch = batch.unwrap();
                    told.extend(numbers(&batch));
                    follower.take(batch.cursor);
                }
            }
            past.read();
            past.step(&Step::Pass(50));
            prop_assert!(past.feed.history.held() <= pages * PAST_BYTES_MAX);
            if past.followers[honest.clone()].iter().all(|(_, told)| *told == whole) {
                break;
            }
        }
        for (_, told) in &past.followers {
            prop_assert!(whole.starts_with(told));
        }
        past.followers.clear();
        prop_assert_eq!(past.feed.history.held(), 0);
    }

    #[test]
    fn who_is_up_to_date_and_quick_is_not_cut_off_for_those_who_are_not(
        pages in prop::collection::vec(prop::collection::vec(500..8_000_usize, 0..4), 1..60),
        slow in prop::collection::vec(prop::option::of(0..4_usize), 1..5),
    ) {
        const LIVE_BYTES_MAX: usize = 64 * 1024;
        let (feed, clock) = (Arc::new(Feed::new(2 * LIVE_BYTES_MAX)), Arc::<SetClock>::default());
        let org = OrgId(1);
        // One that takes everything at once, and others that take every so often, or never.
        let paces: Vec<_> = std::iter::once(Some(0)).chain(slow).collect();
        let mut followers: Vec<_> = paces.iter().map(|_| {
            let (feed, clock) = (Arc::clone(&feed), Arc::clone(&clock));
            Follower::new(feed, clock, org, RecordFilter::default(), RecordNumber(0))
        }).collect();
        // There is no past.
        for follower in &mut followers {
            prop_assert!(now(follower.peek(1)).is_none());
            let turn = now(feed.history.turn(|| 0)).unwrap().unwrap();
            turn.over(Ok(RecordPage::default()), 0);
            prop_assert!(now(follower.peek(1)).is_none());
        }
        feed.distribute(RecordPage::default());
        let mut told = vec![Vec::new(); followers.len()];
        let mut is_cut = vec![false; followers.len()];
        let mut last = 0;
        for follower in &mut followers {
            prop_assert!(now(follower.peek(1)).is_none());
        }
        for (round, page) in pages.iter().enumerate() {
            let records: Vec<_> = page.iter().map(|bytes| {
                last += 1;
                record(org, last, *bytes)
            }).collect();
            feed.distribute(RecordPage { records, position: RecordNumber(last), is_more: false });
            prop_assert!(feed.lock().live.recount() <= LIVE_BYTES_MAX);
            for (place, pace) in paces.iter().enumerate() {
                // At first everybody takes, so that nobody is taken for one who is not up to date yet.
                if is_cut[place] || (round > 0 && pace.is_none_or(|pace| round % (pace + 1) != 0)) {
                    continue;
                }
                while let Some(batch) = now(followers[place].peek(usize::MAX)) {
                    match batch {
                        Ok(batch) => {
                            told[place].extend(numbers(&batch));
                            followers[place].take(batch.cursor);
                        }
                        Err(error) => {
                            prop_assert_eq!(error, FollowError::TooSlow);
                            is_cut[place] = true;
                            break;
                        }
                    }
                }
            }
        }
        let whole: Vec<i64> = (1..=last).collect();
        prop_assert!(!is_cut[0]);
        prop_assert_eq!(&told[0], &whole);
        for (follower, told) in followers.iter().zip(&told) {
            prop_assert!(whole.starts_with(told), "{told:?}");
            prop_assert!(follower.cursor().0 >= told.last().copied().unwrap_or(0));
        }
    }
}
