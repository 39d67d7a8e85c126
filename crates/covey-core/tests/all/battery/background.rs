//! What a server does unasked, on a clock that jumps: an hour of it takes no time.

use std::sync::{Arc, Mutex};

use covey_core::Error;
use covey_core::background::{self, Timer, Work};
use covey_core::id::UnixMs;
use covey_core::port::{BoxFuture, Clock};
use covey_core::retention::RetentionClass;
use covey_core::task::{TaskSpec, TaskStatus};
use futures_executor::block_on;
use futures_util::future::{Either, select};

use crate::world::parts::TestClock;
use crate::world::{Backend, World, lasting};

/// Jumps over every pause, and ends the work at an instant.
struct Jumping {
    clock: Arc<TestClock>,
    until: UnixMs,
    end: Mutex<Option<futures_channel::oneshot::Sender<()>>>,
}

impl Timer for Jumping {
    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
        self.clock.pass_ms(i64::try_from(ms).unwrap());
        if self.clock.now() < self.until {
            return Box::pin(std::future::ready(()));
        }
        drop(self.end.lock().unwrap().take());
        Box::pin(std::future::pending())
    }

    fn failed(&self, work: Work, error: &Error) {
        panic!("{}: {error}", work.name());
    }

    fn forgotten(&self, _: RetentionClass, _: u64) {}
}

/// Does one kind of work for so many milliseconds of the world's clock.
pub fn work_for(world: &World, work: Work, ms: i64) {
    let (end, ended) = futures_channel::oneshot::channel();
    let timer = Arc::new(Jumping {
        clock: Arc::clone(&world.outside.clock),
        until: world.now().plus_ms(ms),
        end: Mutex::new(Some(end)),
    });
    let working = Box::pin(background::run(work, Arc::clone(world.engine()), timer as _));
    assert!(matches!(block_on(select(working, ended)), Either::Right(_)), "work goes on for ever");
}

pub fn tasks_expire_at_their_instant(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let tasks: Vec<_> = [1, 10, 59, 61]
        .map(|minutes| world.create(TaskSpec { ttl_minutes: minutes, ..lasting(&device, 1) }))
        .into();
    work_for(&world, Work::Expiry, 3_600_000);
    for (number, task) in tasks.iter().enumerate() {
        let task = world.get(task.id).task;
        let expired = task.timeline.iter().find(|change| change.to == TaskStatus::Expired);
        if number == 3 {
            assert_eq!((task.status, expired.is_none()), (TaskStatus::Ready, true), "its time is not up");
            continue;
        }
        let late_ms = expired.unwrap().at.since_ms(task.expires_at);
        assert!((0..=200).contains(&late_ms), "stored {late_ms} ms after its instant");
    }
}
