//! Group commit: many operations, one transaction, an answer for each.

use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Waker};

use covey_core::Error;
use covey_core::error::StorageFault;
use covey_core::id::OrgId;
use covey_core::port::{Job, Store, Transaction, Turn};
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
    fn turn(&self) -> Turn {
        Turn::Server
    }

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

/// A job that tells when it is settled.
struct Told {
    turn: Turn,
    number: u32,
    bytes: usize,
    told: mpsc::Sender<(Turn, u32)>,
}

impl Job for Told {
    fn turn(&self) -> Turn {
        self.turn
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn run(&mut self, _: &mut dyn Transaction) -> Result<(), StorageFault> {
        Ok(())
    }

    fn settle(self: Box<Self>, committed: Result<(), StorageFault>) {
        assert_eq!(committed, Ok(()));
        self.told.send((self.turn, self.number)).unwrap();
    }
}

pub fn an_organisation_with_much_waiting_delays_others_by_one_group(backend: impl Backend) {
    const FLOOD: u32 = 10_000;
    // As the stores have it.
    const GROUP_MAX: usize = 512;
    let world = World::new(backend);
    let (told, settled) = mpsc::channel();
    let submit = |turn, number, bytes| {
        world.store().submit(Box::new(Told { turn, number, bytes, told: told.clone() })).unwrap();
    };
    let flooder = Turn::Org(OrgId(1_001));
    let others = [Turn::Org(OrgId(1_002)), Turn::ShutOut(OrgId(1_001)), Turn::Server];
    let gate = world.hold_writer();
    (0..FLOOD).for_each(|number| submit(flooder, number, 2_000));
    for turn in others {
        (0..100).for_each(|number| submit(turn, number, 0));
    }
    drop(gate);
    let order: Vec<_> = settled.iter().take(FLOOD as usize + 300).collect();
    for turn in others {
        let last = order.iter().position(|one| *one == (turn, 99)).unwrap();
        assert!(last < GROUP_MAX, "{turn:?} ended at {last}");
    }
    for turn in others.into_iter().chain([flooder]) {
        let numbers = order.iter().filter(|(of, _)| *of == turn).map(|(_, number)| *number);
        assert!(numbers.is_sorted(), "{turn:?} lost its order");
    }
}

pub fn the_queue_is_bounded(backend: impl Backend) {
    let world = World::new(backend);
    let (device, other) = (world.device(0), world.device(1));
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
    // It is the flooder's bound: others have a place, and so has what shuts somebody out.
    let of_another = begin(engine.for_device(&other).task_ack(engine.task_id()));
    let retiring = begin(engine.for_caller(world.org(0)).device_retire(device.device_id));
    drop(gate);
    assert_eq!(block_on(of_another).unwrap_err(), Error::not_found("task"));
    block_on(retiring).unwrap();
    // Those that had a place are answered all the same.
    let last = waiting.pop().unwrap();
    assert_eq!(block_on(last).unwrap_err(), Error::not_found("task"));
}
