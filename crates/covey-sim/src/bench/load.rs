//! Making load. In a closed loop each caller calls again when it has its
//! answer. In an open loop calls are due at fixed instants, whatever the
//! server does, and latency counts from the instant a call was due: a stall
//! shows in every call that it held up, not only in those under way.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bench::latency::Latencies;

/// How long calls that are under way or overdue may still take after the end.
const DRAIN: Duration = Duration::from_secs(30);

/// When calls begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Each caller begins its next call when it has its answer.
    Closed,
    /// So many calls are due each second.
    PerSecond(f64),
}

/// How much load, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadOptions {
    pub(crate) callers: usize,
    pub(crate) pace: Pace,
    /// Time before anything is recorded.
    pub(crate) warmup: Duration,
    /// Time in which everything is recorded.
    pub(crate) duration: Duration,
}

/// What came of the load after the warm-up.
#[derive(Clone, Debug)]
pub(crate) struct LoadOutcome {
    /// Of the calls that began (open loop: were due) within the time and came
    /// to a good end; those that never ended count with the time they had.
    pub(crate) latencies: Latencies,
    /// Calls that ended well within the time.
    pub(crate) completed: u64,
    /// Of these, those that began (open loop: were due) within it, too.
    pub(crate) kept: u64,
    /// Calls that were begun, by what went wrong.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Calls that were due and had not ended when the drain was over.
    pub(crate) unfinished: u64,
    /// How long was recorded; shorter than asked for if it was stopped.
    pub(crate) window: Duration,
}

/// Counters that can be read while the load runs.
#[derive(Debug, Default)]
pub(crate) struct LoadProgress {
    pub(crate) completed: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// The instants that matter, and who stops.
#[derive(Clone)]
struct Course {
    start: Instant,
    record_from: Instant,
    end: Instant,
    /// Where to take the next due call from; `None` in a closed loop.
    due: Option<Arc<Due>>,
    next_number: Arc<AtomicU64>,
    progress: Arc<LoadProgress>,
    stop: CancellationToken,
}

/// The calls of an open loop: a permit for each that is due and that nobody has begun yet.
struct Due {
    permits: Semaphore,
    per_second: f64,
}

/// What one caller has recorded.
struct Record {
    latencies: Latencies,
    completed: u64,
    kept: u64,
    errors: BTreeMap<String, u64>,
    unfinished: u64,
}

/// Runs load. `call` makes the call with the given number (from 0) and answers
/// what went wrong, in a word.
pub(crate) async fn run<F, R>(
    options: LoadOptions,
    call: F,
    progress: Arc<LoadProgress>,
    stop: CancellationToken,
) -> LoadOutcome
where
    F: Fn(u64) -> R + Clone + Send + 'static,
    R: Future<Output = Result<(), String>> + Send + 'static,
{
    let start = Instant::now();
    let course = Course {
        start,
        record_from: start + options.warmup,
        end: start + options.warmup + options.duration,
        due: match options.pace {
            Pace::Closed => None,
            Pace::PerSecond(per_second) => Some(Arc::new(Due { permits: Semaphore::new(0), per_second })),
        },
        next_number: Arc::new(AtomicU64::new(0)),
        progress,
        stop,
    };
    let pacer = course.due.clone().map(|due| {
        let course = course.clone();
        std::thread::spawn(move || pace(&due, &course, options.callers))
    });
    let mut callers = JoinSet::new();
    for _ in 0..options.callers {
        callers.spawn(caller(course.clone(), call.clone()));
    }
    let mut total =
        Record { latencies: Latencies::new(), completed: 0, kept: 0, errors: BTreeMap::new(), unfinished: 0 };
    while let Some(ended) = callers.join_next().await {
        if let Ok(record) = ended {
            total.add(record);
        }
    }
    if let Some(pacer) = pacer {
        let _ = pacer.join();
    }
    if let Some(due) = &course.due {
        total.never_begun(&course, due);
    }
    let window = Instant::now().min(course.end).saturating_duration_since(course.record_from);
    LoadOutcome {
        latencies: total.latencies,
        completed: total.completed,
        kept: total.kept,
        errors: total.errors,
        unfinished: total.unfinished,
        window,
    }
}

/// Makes calls due at their instants. A thread of its own: timers of the
/// runtime tick in milliseconds, and its threads are busy.
fn pace(due: &Due, course: &Course, callers: usize) {
    for number in 0_u64.. {
        let at = due.instant(course.start, number);
        if at >= course.end || course.stop.is_cancelled() {
            break;
        }
        if let Some(left) = at.checked_duration_since(Instant::now()) {
            std::thread::sleep(left);
        }
        due.permits.add_permits(1);
    }
    // One more for each caller, who finds that no call belongs to it and goes home.
    due.permits.add_permits(callers);
}

impl Due {
    /// When the call with this number is due.
    #[allow(clippy::cast_precision_loss)] // a run has far fewer than 2^53 calls
    fn instant(&self, start: Instant, number: u64) -> Instant {
        start + Duration::from_secs_f64(number as f64 / self.per_second)
    }
}

impl Course {
    /// The number of the next call and the instant from which it counts;
    /// `None` when there is none any more.
    async fn next_call(&self) -> Option<(u64, Instant)> {
        if let Some(due) = &self.due {
            due.permits.acquire().await.ok()?.forget();
            if Instant::now() >= self.end + DRAIN {
                return None;
            }
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        // The nth permit is given when the nth call is due, so this one is.
        let began = self.due.as_ref().map_or_else(Instant::now, |due| due.instant(self.start, number));
        (began < self.end && !self.stop.is_cancelled()).then_some((number, began))
    }

    fn records(&self, began: Instant) -> bool {
        began >= self.record_from && began < self.end
    }
}

async fn caller<F, R>(course: Course, call: F) -> Record
where
    F: Fn(u64) -> R,
    R: Future<Output = Result<(), String>>,
{
    let mut record =
        Record { latencies: Latencies::new(), completed: 0, kept: 0, errors: BTreeMap::new(), unfinished: 0 };
    while let Some((number, began)) = course.next_call().await {
        let given_up = tokio::time::Instant::from_std(course.end + DRAIN);
        let outcome = tokio::select! {
            biased;
            outcome = call(number) => Some(outcome),
            () = course.stop.cancelled() => break,
            () = tokio::time::sleep_until(given_up) => None,
        };
        record.ended(&course, began, Instant::now(), outcome);
    }
    record
}

impl Record {
    fn ended(
        &mut self,
        course: &Course,
        began: Instant,
        ended: Instant,
        outcome: Option<Result<(), String>>,
    ) {
        let in_window = ended >= course.record_from && ended < course.end;
        let latency = ended.saturating_duration_since(began);
        match outcome {
            Some(Ok(())) => {
                course.progress.completed.fetch_add(1, Ordering::Relaxed);
                self.completed += u64::from(in_window);
                if course.records(began) {
                    self.kept += u64::from(in_window);
                    self.latencies.record(latency);
                }
            }
            Some(Err(kind)) => {
                course.progress.failed.fetch_add(1, Ordering::Relaxed);
                if course.records(began) {
                    *self.errors.entry(kind).or_default() += 1;
                }
            }
            None if course.records(began) => {
                self.unfinished += 1;
                self.latencies.record(latency);
            }
            None => {}
        }
    }

    /// Calls that were due, and that no caller was free for until the drain was over.
    fn never_begun(&mut self, course: &Course, due: &Due) {
        let now = Instant::now();
        let mut number = course.next_number.load(Ordering::Relaxed);
        while !course.stop.is_cancelled() {
            let at = due.instant(course.start, number);
            if at >= course.end {
                return;
            }
            if course.records(at) {
                self.unfinished += 1;
                self.latencies.record(now.saturating_duration_since(at));
            }
            number += 1;
        }
    }

    fn add(&mut self, other: Self) {
        self.latencies.add(&other.latencies);
        self.completed += other.completed;
        self.kept += other.kept;
        self.unfinished += other.unfinished;
        for (kind, count) in other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    fn options(callers: usize, pace: Pace) -> LoadOptions {
        LoadOptions {
            callers,
            pace,
            warmup: Duration::from_millis(200),
            duration: Duration::from_millis(1_000),
        }
    }

    async fn load<F, R>(options: LoadOptions, call: F) -> LoadOutcome
    where
        F: Fn(u64) -> R + Clone + Send + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        run(options, call, Arc::default(), CancellationToken::new()).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stall_shows_in_every_call_that_was_due_meanwhile() {
        // 200 calls a second, and a server that stands still from 500 ms to 900 ms.
        let start = Instant::now();
        let (from, to) = (start + Duration::from_millis(500), start + Duration::from_millis(900));
        let outcome = load(options(4, Pace::PerSecond(200.0)), move |_| async move {
            let now = Instant::now();
            if now >= from && now < to {
                sleep(to - now).await;
            }
            Ok(())
        })
        .await;
        // All that were due are there, though only 4 callers could be held up.
        assert_eq!(outcome.latencies.summary().map(|summary| summary.count), Some(200));
        // Of the 80 that were due in the stall, those in its first 300 ms waited over 100 ms.
        let held_up = outcome.latencies.count_from(Duration::from_millis(100));
        assert!((55..=75).contains(&held_up), "{held_up}");
        let held_up = outcome.latencies.count_from(Duration::from_millis(300));
        assert!((15..=40).contains(&held_up), "{held_up}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_due_before_the_time_is_completed_in_it_and_not_kept() {
        // A server that stands still until 400 ms, of which the first 200 are not recorded: 40 calls are due then.
        let to = Instant::now() + Duration::from_millis(400);
        let outcome = load(options(4, Pace::PerSecond(200.0)), move |_| async move {
            sleep(to.saturating_duration_since(Instant::now())).await;
            Ok(())
        })
        .await;
        assert!((35..=40).contains(&(outcome.completed - outcome.kept)), "{outcome:?}");
        assert!(outcome.kept <= 200, "{}", outcome.kept);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_closed_loop_counts_what_ended_within_the_time() {
        let outcome = load(options(4, Pace::Closed), |number| async move {
            sleep(Duration::from_millis(20)).await;
            if number % 4 == 0 { Err("refused".to_owned()) } else { Ok(()) }
        })
        .await;
        let refused = outcome.errors.get("refused").copied().unwrap_or_default();
        let all = outcome.completed + refused;
        assert!((120..=210).contains(&all), "{all}");
        assert!(refused.abs_diff(all / 4) <= 8, "{refused} of {all}");
        assert_eq!(outcome.unfinished, 0);
        assert_eq!(outcome.window, Duration::from_millis(1_000));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_load_that_is_stopped_ends_at_once() {
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(300)).await;
            stopping.cancel();
        });
        let never = |_| async { std::future::pending::<Result<(), String>>().await };
        for pace in [Pace::Closed, Pace::PerSecond(50.0)] {
            let outcome = run(options(2, pace), never, Arc::default(), stop.clone()).await;
            assert!(outcome.window < Duration::from_millis(500), "{:?}", outcome.window);
        }
    }
}
