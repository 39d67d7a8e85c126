//! Queues to the threads of a store: fair, bounded, and refusing rather than waiting.

mod lanes;
mod turns;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use covey_core::error::StorageFault;
use covey_core::port::{Job, Turn};

pub use lanes::Readers;
pub(crate) use lanes::{LANES, LaneQueue};
pub(crate) use turns::{Bounds, Turns};

/// How many bytes the jobs that wait may hold: 64 MiB.
pub(crate) const JOB_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many bytes the jobs of one group may hold, but for the last of them: 4 MiB.
pub(crate) const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What is kept free for turns that must always find a place ([`Turn::is_reserved`]).
pub(crate) const RESERVED: Bounds = Bounds { rows_max: 16_384, bytes_max: 16 * 1024 * 1024 };

struct State<T> {
    turns: Turns<T>,
    /// Whether the other end waits for something to come, and was not called yet.
    is_waited_for: bool,
    is_closed: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    came: Condvar,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Whole whenever it is unlocked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more, and wakes who waits.
    fn close(&self) {
        self.state().is_closed = true;
        self.came.notify_one();
    }
}

/// Where things are put in. Who waits at the other end is told when it is dropped.
pub(crate) struct Entrance<T>(Arc<Shared<T>>);

/// Where things are taken out. What is left when it is dropped is dropped, too.
pub(crate) struct Exit<T>(Arc<Shared<T>>);

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// Nothing came in the time.
    Came,
    /// Nothing is left, and nothing will come.
    Left,
}

/// A queue in which so much may wait.
pub(crate) fn bounded<T>(shared: Bounds, reserved: Bounds) -> (Entrance<T>, Exit<T>) {
    let state = State { turns: Turns::new(shared, reserved), is_waited_for: false, is_closed: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), came: Condvar::new() });
    (Entrance(Arc::clone(&shared)), Exit(shared))
}

/// Both ends of a queue of jobs.
pub(crate) type JobQueue = (Entrance<Box<dyn Job>>, Exit<Box<dyn Job>>);

/// A queue of jobs, of which so many may wait.
pub(crate) fn of_jobs(rows_max: usize) -> JobQueue {
    bounded(Bounds { rows_max: rows_max.max(2), bytes_max: JOB_BYTES_MAX }, RESERVED)
}

impl<T> Entrance<T> {
    /// Puts something into the queue.
    pub(crate) fn put(&self, turn: Turn, bytes: usize, what: T) -> Result<(), StorageFault> {
        let mut state = self.0.state();
        if state.is_closed {
            return Err(StorageFault::Stopped);
        }
        if let Err(refused) = state.turns.put(turn, bytes, what) {
            drop(state);
            // Whoever waits for it is told so, and may come back: not under the lock.
            drop(refused);
            return Err(StorageFault::Overloaded);
        }
        let is_waited_for = std::mem::take(&mut state.is_waited_for);
        drop(state);
        if is_waited_for {
            self.0.came.notify_one();
        }
        Ok(())
    }
}

impl Entrance<Box<dyn Job>> {
    pub(crate) fn put_job(&self, job: Box<dyn Job>) -> Result<(), StorageFault> {
        self.put(job.turn(), size_of_val(&*job) + job.bytes(), job)
    }
}

impl<T> Drop for Entrance<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Exit<T> {
    /// The state, once something waits.
    fn when_some(&self, wait: Option<Duration>) -> Result<MutexGuard<'_, State<T>>, Nothing> {
        let until = wait.map(|wait| Instant::now() + wait);
        let mut state = self.0.state();
        loop {
            if !state.turns.is_empty() {
                return Ok(state);
            }
            if state.is_closed {
                return Err(Nothing::Left);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Nothing::Came);
            }
            state.is_waited_for = true;
            state = match left {
                None => self.0.came.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.0.came.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
            state.is_waited_for = false;
        }
    }

    /// Adds the next ones to `group` once there is one: up to `rows_max`, and no more after [`GROUP_BYTES_MAX`].
    pub(crate) fn take_group(
        &self,
        group: &mut Vec<T>,
        rows_max: usize,
        wait: Option<Duration>,
    ) -> Result<(), Nothing> {
        fill(&mut self.when_some(wait)?.turns, group, rows_max);
        Ok(())
    }

    /// The same of those that wait now.
    pub(crate) fn take_group_now(&self, group: &mut Vec<T>, rows_max: usize) {
        fill(&mut self.0.state().turns, group, rows_max);
    }

    /// All that wait now.
    pub(crate) fn take_all(&self) -> Vec<T> {
        self.0.state().turns.take_all()
    }

    /// How many wait now.
    pub(crate) fn len(&self) -> usize {
        self.0.state().turns.len()
    }
}

impl<T> Drop for Exit<T> {
    fn drop(&mut self) {
        self.0.close();
        let left = self.0.state().turns.take_all();
        drop(left);
    }
}

fn fill<T>(turns: &mut Turns<T>, group: &mut Vec<T>, rows_max: usize) {
    let mut bytes = 0;
    for _ in 0..rows_max {
        if bytes >= GROUP_BYTES_MAX {
            break;
        }
        let Some((what, more)) = turns.take() else { break };
        bytes += more;
        group.push(what);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::id::OrgId;

    use super::*;

    const BOUNDS: Bounds = Bounds { rows_max: 1_000, bytes_max: usize::MAX / 4 };

    #[test]
    fn what_many_put_is_taken_once_and_in_the_order_of_each() {
        const EACH: u64 = 20_000;
        let (entrance, exit) = bounded::<(i64, u64)>(BOUNDS, BOUNDS);
        let entrance = Arc::new(entrance);
        let taken = std::thread::scope(|scope| {
            let taking = scope.spawn(|| {
                let (mut all, mut group) = (Vec::new(), Vec::new());
                while exit.take_group(&mut group, 512, None).is_ok() {
                    all.append(&mut group);
                }
                all
            });
            let putters: Vec<_> = (0..3)
                .map(|org| {
                    let entrance = Arc::clone(&entrance);
                    scope.spawn(move || {
                        for number in 0..EACH {
                            while entrance.put(Turn::Org(OrgId(org)), 0, (org, number)).is_err() {
                                std::thread::yield_now();
                            }
                        }
                    })
                })
                .collect();
            putters.into_iter().for_each(|putter| putter.join().unwrap());
            drop(entrance);
            taking.join().unwrap()
        });
        for org in 0..3 {
            let numbers: Vec<_> =
                taken.iter().filter(|(of, _)| *of == org).map(|(_, number)| *number).collect();
            assert_eq!(numbers, (0..EACH).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_group_ends_with_its_rows_or_its_bytes() {
        let (entrance, exit) = bounded::<()>(BOUNDS, BOUNDS);
        let taken = |rows_max| {
            let mut group = Vec::new();
            exit.take_group_now(&mut group, rows_max);
            group.len()
        };
        (0..5).for_each(|_| entrance.put(Turn::Server, GROUP_BYTES_MAX / 2, ()).unwrap());
        assert_eq!([taken(1), taken(9), taken(9), taken(9)], [1, 2, 2, 0]);
    }

    #[test]
    fn who_waits_is_told_of_the_end_and_nothing_is_put_after_it() {
        let (entrance, exit) = bounded::<()>(BOUNDS, BOUNDS);
        let mut group = Vec::new();
        assert_eq!(exit.take_group(&mut group, 1, Some(Duration::from_millis(1))), Err(Nothing::Came));
        entrance.put(Turn::Server, 0, ()).unwrap();
        drop(entrance);
        assert_eq!(exit.take_group(&mut group, 1, None), Ok(()), "what waits is still taken");
        assert_eq!(exit.take_group(&mut group, 1, None), Err(Nothing::Left));
        let (entrance, exit) = bounded::<Arc<()>>(BOUNDS, BOUNDS);
        let what = Arc::new(());
        entrance.put(Turn::Server, 0, Arc::clone(&what)).unwrap();
        drop(exit);
        assert_eq!(Arc::strong_count(&what), 1, "nobody will take it");
        assert_eq!(entrance.put(Turn::Server, 0, what), Err(StorageFault::Stopped));
    }
}
