//! What a job costs on its way to the writer: in turns, and through a channel of the standard library,
//! which keeps one order for all.

use std::sync::mpsc::sync_channel;
use std::time::Instant;

use covey_core::error::StorageFault;
use covey_core::id::OrgId;
use covey_core::port::{Job, Transaction, Turn};

use crate::queue::{self, Nothing};

const JOBS: u64 = 2_000_000;
const PUTTERS: u64 = 2;
const GROUP_MAX: usize = 512;
const WAITING_MAX: usize = 40_000;
const ROUNDS: usize = 5;

/// About as large as a job is.
struct Counted {
    org: i64,
    _content: [u64; 64],
}

impl Job for Counted {
    fn turn(&self) -> Turn {
        Turn::Org(OrgId(self.org))
    }

    fn run(&mut self, _: &mut dyn Transaction) -> Result<(), StorageFault> {
        Ok(())
    }

    fn settle(self: Box<Self>, _: Result<(), StorageFault>) {}
}

/// Nanoseconds for each job; `put` says whether there was room, `take` adds a group and answers whether more can come.
fn measured(
    orgs: i64,
    put: impl Fn(Box<dyn Job>) -> bool + Send + Clone,
    take: impl Fn(&mut Vec<Box<dyn Job>>),
) -> u128 {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..PUTTERS {
            let put = put.clone();
            scope.spawn(move || {
                for number in 0..JOBS / PUTTERS {
                    let org = i64::try_from(number).unwrap() % orgs;
                    while !put(Box::new(Counted { org, _content: [0; 64] })) {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let (mut group, mut taken) = (Vec::new(), 0);
        while taken < JOBS {
            take(&mut group);
            taken += group.len() as u64;
            group.drain(..).for_each(|job| job.settle(Ok(())));
        }
    });
    begun.elapsed().as_nanos() / u128::from(JOBS)
}

fn channel() -> u128 {
    let (sender, receiver) = sync_channel::<Box<dyn Job>>(WAITING_MAX);
    measured(
        1,
        move |job| sender.try_send(job).is_ok(),
        |group| {
            group.push(receiver.recv().unwrap());
            group.extend(receiver.try_iter().take(GROUP_MAX - 1));
        },
    )
}

fn in_turns(orgs: i64) -> u128 {
    let (entrance, exit) = queue::of_jobs(2 * WAITING_MAX);
    let entrance = std::sync::Arc::new(entrance);
    let put = move |job| entrance.put_job(job).is_ok();
    measured(orgs, put, |group| {
        assert_ne!(exit.take_group(group, GROUP_MAX, None), Err(Nothing::Left));
    })
}

pub fn turns() {
    let median = |measure: &dyn Fn() -> u128| {
        let mut all: Vec<_> = (0..ROUNDS).map(|_| measure()).collect();
        all.sort_unstable();
        all[ROUNDS / 2]
    };
    println!(
        "{PUTTERS} threads put, one takes groups of {GROUP_MAX}: channel {} ns a job; in turns {} ns with one organisation, \
         {} ns with 64, {} ns with 10,000",
        median(&channel),
        median(&|| in_turns(1)),
        median(&|| in_turns(64)),
        median(&|| in_turns(10_000)),
    );
}
