//! Group commit: many operations, one transaction, an answer for each.

use std::pin::Pin;
use std::task::{Context, Waker};

use covey_core::Error;
use covey_core::error::StorageFault;
use covey_core::port::{Job, Store, Transaction};
use covey_core::task::{DeviceRef, TaskFilter};
use futures_executor::block_on;

use crate::world::{Backend, World, spec};

/// Begins something, so that it waits in the store's queue.
fn begin<F: Future>(future: F) -> Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    future
}

pub fn concurrent_writes_share_commits(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let engine = world.engine();
    let gate = world.hold_writer();
    world.outside.counts.reset();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let id = engine.task_id();
            (id, begin(engine.for_caller(world.org(0)).task_create(id, spec(&device), None)))
        })
        .collect();
    drop(gate);
    for (id, create) in waiting {
        assert_eq!(block_on(create).unwrap().task.id, id);
    }
    let groups = world.outside.counts.groups();
    // The job that held the writer is in one of them.
    assert_eq!(groups.iter().sum::<usize>(), 101);
    assert!(groups.len() < 10, "{groups:?}");
    assert_eq!(world.list(0, TaskFilter::default(), 1, 1).total, 100);
}

pub fn a_refused_operation_does_not_hurt_its_group(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let engine = world.engine();
    let unknown = covey_core::task::TaskSpec {
        device: DeviceRef::Sn(covey_core::id::Sn::parse("nobody").unwrap()),
        ..spec(&device)
    };
    let gate = world.hold_writer();
    let create = |spec| begin(engine.for_caller(world.org(0)).task_create(engine.task_id(), spec, None));
    let (first, refused, last) = (create(spec(&device)), create(unknown), create(spec(&device)));
    drop(gate);
    assert!(block_on(first).is_ok() && block_on(last).is_ok());
    assert_eq!(block_on(refused).unwrap_err(), Error::not_found("device"));
    assert_eq!(world.list(0, TaskFilter::default(), 1, 1).total, 2);
}

/// A job that meets a fault whenever it runs.
struct Faulty;

impl Job for Faulty {
    fn run(&mut self, _: &mut dyn Transaction) -> Result<(), StorageFault> {
        Err(StorageFault::Io)
    }

    fn settle(self: Box<Self>, committed: Result<(), StorageFault>) {
        assert_eq!(committed, Err(StorageFault::Io));
    }
}

pub fn a_faulty_job_does_not_hurt_its_group(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let engine = world.engine();
    let gate = world.hold_writer();
    let create = || begin(engine.for_caller(world.org(0)).task_create(engine.task_id(), spec(&device), None));
    let first = create();
    world.store().submit(Box::new(Faulty)).unwrap();
    let last = create();
    drop(gate);
    let made = [block_on(first).unwrap().task, block_on(last).unwrap().task];
    // Run twice, stored once.
    assert_eq!(world.list(0, TaskFilter::default(), 1, 1).total, 2);
    made.iter().for_each(|task| assert_eq!(world.get(task.id).task, **task));
}

pub fn the_queue_is_bounded(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let engine = world.engine();
    let gate = world.hold_writer();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut create = Box::pin(engine.for_device(&device).task_ack(engine.task_id()));
        match create.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(outcome) => break outcome.unwrap_err(),
            std::task::Poll::Pending => waiting.push(create),
        }
        assert!(waiting.len() < 1_000_000, "the queue has no bound");
    };
    assert_eq!(refused, Error::Unavailable { reason: StorageFault::Overloaded });
    drop(gate);
    // Those that had a place are answered all the same.
    let last = waiting.pop().unwrap();
    assert_eq!(block_on(last).unwrap_err(), Error::not_found("task"));
}
