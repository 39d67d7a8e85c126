//! Following the outbox: from anywhere, without a gap and without a repetition,
//! while others write.

use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use covey_core::Engine;
use covey_core::access::Caller;
use covey_core::feed::{FollowError, Follower, WAITING_RECORDS_MAX};
use covey_core::id::RecordNumber;
use covey_core::record::{Change, Record, RecordFilter, RecordKind};
use futures_channel::oneshot;
use futures_executor::block_on;
use futures_util::future::select;

use super::events::{add, event};
use crate::world::{Backend, World};

/// How long the feed takes at most to come to where it waits.
const LIVE_AFTER: Duration = Duration::from_millis(500);

/// Hands records to followers until it is dropped.
pub struct Feeding(Option<oneshot::Sender<()>>, Option<thread::JoinHandle<()>>);

impl Feeding {
    pub fn start(engine: &Arc<Engine>) -> Self {
        let engine = Arc::clone(engine);
        let (stop, mut stopped) = oneshot::channel();
        let run = move || {
            block_on(async {
                let live = pin!(async {
                    loop {
                        engine.server().feed_next().await.unwrap();
                    }
                });
                let past = pin!(async {
                    loop {
                        engine.server().history_next().await;
                    }
                });
                select(select(live, past), &mut stopped).await;
            });
        };
        Self(Some(stop), Some(thread::spawn(run)))
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.0.take();
        self.1.take().unwrap().join().unwrap();
    }
}

fn follow(world: &World, filter: RecordFilter, cursor: Option<RecordNumber>) -> Follower {
    block_on(world.engine().for_caller(world.org(0)).record_follow(filter, cursor)).unwrap()
}

fn events() -> RecordFilter {
    RecordFilter { kinds: vec![RecordKind::Event], ..RecordFilter::default() }
}

fn number(record: &Record) -> u32 {
    match &record.change {
        Change::Event(event) => event.key.dev_event_id,
        other => panic!("{other:?}"),
    }
}

/// What a follower is told until it has been told of this event.
fn until(mut follower: Follower, last: u32) -> Vec<(RecordNumber, u32)> {
    let mut told = Vec::new();
    while told.last().is_none_or(|(_, number)| *number != last) {
        let followed = block_on(follower.next()).unwrap();
        told.extend(followed.records.iter().map(|record| (record.number, number(record))));
        let newest = told.last().map(|(number, _)| *number);
        assert!(
            newest.is_none_or(|newest| newest <= followed.cursor && followed.cursor <= follower.cursor())
        );
    }
    told
}

pub fn whoever_follows_misses_nothing_and_hears_nothing_twice(backend: impl Backend) {
    // Not the last one that a follower begins at.
    const LAST: u32 = 610;
    let world = World::new(backend);
    let (device, other) = (world.device(0), world.device(1));
    let feeding = Feeding::start(world.engine());
    let all = thread::scope(|scope| {
        let mut followers = Vec::new();
        for cursor in [Some(RecordNumber(0)), None] {
            let follower = follow(&world, events(), cursor);
            followers.push((0, scope.spawn(move || until(follower, LAST))));
        }
        for number in 1..=LAST {
            add(&world, &device, event(13, number, "{}"));
            // Of another organisation: nobody here is to hear of it.
            add(&world, &other, event(13, number, "{}"));
            if number % 40 == 0 {
                // Begins while others write; from now on, and from somewhere in the past.
                let follower = follow(&world, events(), None);
                followers.push((number, scope.spawn(move || until(follower, LAST))));
                let follower = follow(&world, events(), Some(RecordNumber(0)));
                followers.push((0, scope.spawn(move || until(follower, LAST))));
            }
        }
        followers.into_iter().map(|(after, told)| (after, told.join().unwrap())).collect::<Vec<_>>()
    });
    let whole = &all[0].1;
    for (after, told) in &all {
        let numbers: Vec<u32> = told.iter().map(|(_, number)| *number).collect();
        let wanted: Vec<u32> = (after + 1..=LAST).collect();
        if *after == 0 {
            assert_eq!(numbers, wanted);
        } else {
            // It began no later than when it was asked for.
            assert!(wanted.ends_with(&numbers) || numbers.ends_with(&wanted), "{after}: {numbers:?}");
        }
        assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
    // From every place where somebody may have stopped.
    for (place, (cursor, _)) in whole.iter().enumerate().step_by(97) {
        let rest = until(follow(&world, events(), Some(*cursor)), LAST);
        assert_eq!(rest, whole[place + 1..]);
    }
    drop(feeding);
}

pub fn one_who_is_too_slow_is_cut_off_and_goes_on_where_he_was(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let feeding = Feeding::start(world.engine());
    let mut follower = follow(&world, events(), None);
    // Told of once it waits for what happens, so that it is live from then on.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| block_on(follower.next()).unwrap().records.len());
        thread::sleep(LIVE_AFTER);
        add(&world, &device, event(13, 1, "{}"));
        assert_eq!(waiting.join().unwrap(), 1);
    });
    let many = u32::try_from(WAITING_RECORDS_MAX).unwrap() + 100;
    for number in 2..=many {
        add(&world, &device, event(13, number, "{}"));
    }
    thread::sleep(LIVE_AFTER);
    assert_eq!(block_on(follower.next()), Err(FollowError::TooSlow));
    let cursor = follower.cursor();
    drop(follower);
    let rest = until(follow(&world, events(), Some(cursor)), many);
    assert_eq!(rest.iter().map(|(_, number)| *number).collect::<Vec<_>>(), (2..=many).collect::<Vec<_>>());
    drop(feeding);
}

pub fn a_cursor_that_was_never_given_is_refused(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    add(&world, &device, event(13, 1, "{}"));
    let ask = |caller: &Caller, cursor: i64| {
        block_on(world.engine().for_caller(caller).record_follow(events(), Some(RecordNumber(cursor))))
            .map(drop)
    };
    assert!(ask(world.org(0), 0).is_ok());
    assert!(ask(world.org(0), -1).is_err());
    assert!(ask(world.org(0), i64::MAX).is_err());
    let powerless = Caller { rights: covey_core::access::Rights::TASKS_READ, ..world.org(0).clone() };
    assert!(ask(&powerless, 0).is_err());
}
