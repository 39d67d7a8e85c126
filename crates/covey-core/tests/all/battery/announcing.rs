//! Announcements: the window, its order, and what happens beside a look-up.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use covey_core::announcer::LOOKS_MAX;
use covey_core::id::UnixMs;
use covey_core::limits::Limits;
use covey_core::task::{Lapse, TaskReader};
use futures_executor::block_on;

use crate::world::{Backend, World, connection, result, spec, urgent};

fn window_of(announcements_max: u32) -> Limits {
    Limits { announcements_max, ..Limits::default() }
}

pub fn a_device_that_connects_is_told_best_first_within_the_window(backend: impl Backend) {
    let world = World::with_limits(backend, window_of(4));
    let device = world.device(0);
    let mut tasks: Vec<_> = (0..12).map(|number| world.create(urgent(&device, number * 7 % 10))).collect();
    tasks.sort_by_key(|task| task.rank());
    let order: Vec<_> = tasks.iter().map(|task| task.id).collect();
    assert!(world.announced().is_empty());
    world.listen(&device);
    assert_eq!(world.announced(), order[..4]);
    // An ack is no answer: nothing follows until a task is taken.
    world.ack(&device, order[0]).unwrap();
    world.announce();
    assert!(world.announced().is_empty());
    for next in 4..12 {
        world.request(&device, order[next - 4]).unwrap();
        world.announce();
        assert_eq!(world.announced(), [order[next]]);
    }
    // A new connection is told all that is still open, and not what was taken.
    world.engine().for_device(&device).disconnected(connection(""));
    world.listen(&device);
    assert_eq!(world.announced(), order[8..]);
}

pub fn a_new_task_is_announced_to_a_device_that_listens(backend: impl Backend) {
    let world = World::with_limits(backend, window_of(2));
    let (device, other) = (world.device(0), world.device(0));
    world.listen(&device);
    let tasks: Vec<_> = (0..4).map(|number| world.create(urgent(&device, number)).id).collect();
    world.create(spec(&other));
    world.announce();
    assert_eq!(world.announced(), tasks[..2]);
    // What waits follows in the order of selection, whichever way the place was freed.
    world.finish(&device, tasks[0], result(200, 0, "")).unwrap();
    world.announce();
    assert_eq!(world.announced(), [tasks[3]]);
    world.delete(0, tasks[1]).unwrap();
    world.announce();
    assert_eq!(world.announced(), [tasks[2]]);
    world.engine().for_device(&device).unsubscribed();
    world.create(spec(&device));
    world.announce();
    assert!(world.announced().is_empty());
}

pub fn a_lapsed_task_is_announced_again(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    world.listen(&device);
    let task = world.create(spec(&device));
    world.request(&device, task.id).unwrap();
    assert_eq!(world.announced(), [task.id]);
    world.pass_ms(59_999);
    world.sweep();
    assert!(world.announced().is_empty());
    world.pass_ms(1);
    world.sweep();
    assert_eq!(world.announced(), [task.id]);
    world.pass_ms(1_000);
    world.sweep();
    assert!(world.announced().is_empty(), "once for each lapse");
    world.request(&device, task.id).unwrap();
    world.pass_ms(60_000);
    world.sweep();
    assert_eq!(world.announced(), [task.id]);
}

pub fn lapses_are_read_in_their_order_and_page_by_page(backend: impl Backend) {
    let world = World::new(backend);
    let devices = [world.device(0), world.device(1)];
    let (mut taken, mut first_id) = (Vec::new(), None);
    for (number, device) in devices.iter().enumerate() {
        let task = world.create_as(number, spec(device)).unwrap();
        let task = world.request(device, task.id).unwrap();
        first_id.get_or_insert(task.id);
        taken.push(Lapse { lease_until: task.lease_until.unwrap(), seq: task.seq, device: task.device });
        world.pass_ms(1);
    }
    let lapsed = |after: (UnixMs, i64), now: UnixMs, limit: u32| {
        block_on(world.store().task_lapsed_of_every_org(after, now, limit)).unwrap()
    };
    let (all, first) = ((UnixMs(0), 0), taken[0]);
    assert_eq!(lapsed(all, UnixMs(first.lease_until.0 - 1), 9), []);
    assert_eq!(lapsed(all, first.lease_until, 9), [first]);
    let end = taken[1].lease_until;
    assert_eq!(lapsed(all, end, 9), taken[..]);
    assert_eq!(lapsed(all, end, 1), [first]);
    assert_eq!(lapsed((first.lease_until, first.seq), end, 9), taken[1..]);
    world.finish(&devices[0], first_id.unwrap(), result(200, 0, "")).unwrap();
    assert_eq!(lapsed(all, end, 9), taken[1..]);
}

pub fn every_lapse_is_announced_however_many_share_an_instant(backend: impl Backend) {
    // More than one sweep looks at.
    let count = 1_200;
    let world = World::with_limits(backend, window_of(count));
    let device = world.device(0);
    world.listen(&device);
    let engine = world.engine();
    let gate = world.hold_writer();
    let mut made = Vec::new();
    for _ in 0..count {
        let mut create =
            Box::pin(engine.for_caller(world.org(0)).task_create(engine.task_id(), spec(&device), None));
        assert!(create.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        made.push(create);
    }
    drop(gate);
    made.into_iter().for_each(|create| drop(block_on(create).unwrap()));
    let gate = world.hold_writer();
    let mut taken = Vec::new();
    for _ in 0..count {
        let mut take = Box::pin(engine.for_device(&device).task_next(None));
        assert!(take.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        taken.push(take);
    }
    drop(gate);
    taken.into_iter().for_each(|take| assert!(block_on(take).unwrap().is_some()));
    world.announced();
    world.pass_ms(60_000);
    world.sweep();
    assert_eq!(world.announced().into_iter().collect::<HashSet<_>>().len(), count as usize);
}

pub fn a_task_is_announced_even_if_its_maker_hung_up(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    world.listen(&device);
    let engine = world.engine();
    let id = engine.task_id();
    {
        let mut create = pin!(engine.for_caller(world.org(0)).task_create(id, spec(&device), None));
        let _ = create.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    // The writer settles in order: once this is answered, so is that.
    let next = world.create(spec(&device));
    assert_eq!(world.announced(), [id, next.id]);
}

pub fn what_is_answered_during_a_look_up_is_not_announced_again(backend: impl Backend) {
    let world = World::with_limits(backend, window_of(2));
    let device = world.device(0);
    let tasks: Vec<_> = (0..3).map(|_| world.create(spec(&device)).id).collect();
    let (engine, taker, first) = (Arc::clone(world.engine()), device.clone(), tasks[0]);
    world.store().meanwhile(move || {
        block_on(engine.for_device(&taker).task_next(Some(first))).unwrap().unwrap();
        block_on(engine.for_device(&taker).task_finish(first, result(200, 0, ""))).unwrap();
    });
    world.listen(&device);
    assert_eq!(world.announced(), tasks[1..]);
}

pub fn what_opens_during_a_look_up_is_announced(backend: impl Backend) {
    let world = World::with_limits(backend, window_of(2));
    let device = world.device(0);
    let first = world.create(spec(&device)).id;
    let (engine, org, wanted) = (Arc::clone(world.engine()), world.org(0).clone(), spec(&device));
    let second = engine.task_id();
    world.store().meanwhile(move || {
        block_on(engine.for_caller(&org).task_create(second, wanted, None)).unwrap();
    });
    world.listen(&device);
    assert_eq!(world.announced(), [first, second]);
}

pub fn a_look_up_for_an_earlier_connection_is_not_used(backend: impl Backend) {
    let world = World::with_limits(backend, window_of(2));
    let device = world.device(0);
    let tasks: Vec<_> = (0..3).map(|_| world.create(spec(&device)).id).collect();
    let (engine, taker, first) = (Arc::clone(world.engine()), device.clone(), tasks[0]);
    world.store().meanwhile(move || {
        engine.for_device(&taker).disconnected(connection(""));
        engine.for_device(&taker).subscribed(crate::world::LINK);
        block_on(engine.for_device(&taker).task_next(Some(first))).unwrap().unwrap();
    });
    world.listen(&device);
    assert_eq!(world.announced(), tasks[1..]);
}

pub fn devices_that_come_back_at_once_are_looked_at_together_and_no_more_than_may_be(backend: impl Backend) {
    let world = World::new(backend);
    let devices: Vec<_> = (0..LOOKS_MAX + 10).map(|_| world.device(0)).collect();
    let tasks: HashSet<_> = devices.iter().map(|device| world.create(spec(device)).id).collect();
    for device in &devices {
        world.engine().for_device(device).connected(connection(""));
        world.engine().for_device(device).subscribed(crate::world::LINK);
    }
    world.announce();
    let announced = world.announced();
    assert_eq!(announced.len(), tasks.len());
    assert_eq!(announced.into_iter().collect::<HashSet<_>>(), tasks);
    // A call of one of them waits for a look-up at a time, not for as many as there are devices.
    // A store that is fast has answered the first before the last is asked.
    let together = world.store().looked_together();
    assert!((2..=LOOKS_MAX).contains(&together), "{together}");
}
