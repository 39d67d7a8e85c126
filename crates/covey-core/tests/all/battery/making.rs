//! Making tasks, and who may see them.

use std::pin::pin;
use std::task::{Context, Poll};

use covey_core::Error;
use covey_core::id::DeviceId;
use covey_core::limits::Limits;
use covey_core::task::{Cause, Change, DeviceRef, IdempotencyKey, TaskFilter, TaskSpec, TaskStatus};
use futures_executor::block_on;

use crate::world::{Backend, World, result, spec, wake_channel};

pub fn a_created_task_is_there_after_reopening(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = world.device(0);
    let task = world.create(spec(&device));
    world.restart();
    let found = world.get(task.id);
    assert_eq!(found.task, *task);
    assert_eq!(found.task.status, TaskStatus::Ready);
    assert_eq!(world.poll(&device).unwrap().id, task.id);
}

pub fn fields_come_back_as_they_were_sent(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let asked = TaskSpec {
        ext_task_id: "order 7/ü'\"".to_owned(),
        method_code: 65_534,
        method: Some("größe.set".to_owned()),
        priority: 9,
        ttl_minutes: 44_639,
        // Verbatim: spaces, order and spelling of numbers are the sender's.
        payload: Some("{ \"b\" : 1.0e2, \"a\":\"\\u00fc\" }".into()),
        ..spec(&device)
    };
    let made = world.create(asked.clone());
    let task = world.get(made.id).task;
    assert_eq!(task, *made);
    assert_eq!(
        (&task.ext_task_id, i64::from(task.method_code), &task.method, &task.payload),
        (&asked.ext_task_id, asked.method_code, &asked.method, &asked.payload)
    );
    assert_eq!(task.expires_at.since_ms(task.created_at), 44_639 * 60_000);
    assert_eq!(task.created_by.as_ref(), Some(&world.org(0).name));
    let created = Change { at: world.now(), to: TaskStatus::Ready, cause: Cause::Created };
    assert_eq!(task.timeline, [created]);
    let bare = world.create(TaskSpec { payload: None, ..spec(&device) });
    assert_eq!(world.get(bare.id).task.payload, None);
}

pub fn the_same_idempotency_key_makes_one_task(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = world.device(0);
    let other = world.device(1);
    let key = |digest| Some(IdempotencyKey { key: "k".to_owned(), request_digest: [digest; 32] });
    let create = |world: &World, org: usize, device, key| {
        let id = world.engine().task_id();
        block_on(world.engine().for_caller(world.org(org)).task_create(id, spec(device), key))
    };
    let first = create(&world, 0, &device, key(1)).unwrap();
    assert!(!first.replayed);
    world.restart();
    let again = create(&world, 0, &device, key(1)).unwrap();
    assert!(again.replayed);
    assert_eq!(again.task.id, first.task.id);
    assert!(matches!(
        create(&world, 0, &device, key(2)),
        Err(Error::Invalid { field: "Idempotency-Key", .. })
    ));
    assert_eq!(world.list(0, TaskFilter::default(), 1, 10).total, 1);
    // The same key of another organisation is another key.
    assert!(!create(&world, 1, &other, key(2)).unwrap().replayed);
}

pub fn a_call_is_woken_by_its_end_alone(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let id = world.engine().task_id();
    let call = world.engine().for_caller(world.org(0)).task_call(id, spec(&device), None).unwrap();
    let (waker, woken) = wake_channel();
    {
        let mut ended = pin!(call.ended());
        let mut poll = || ended.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll().is_pending());
        // Behind it in the store's queue, so that it is made by now.
        world.settle();
        assert!(woken.try_recv().is_err());
        world.finish(&device, id, result(200, 0, "")).unwrap();
        woken.recv().unwrap();
        let Poll::Ready(Some(detail)) = poll() else { panic!("it is final") };
        assert_eq!((detail.task.id, detail.task.status), (id, TaskStatus::Done));
    }
    assert!(!block_on(call.created()).unwrap().replayed);
}

pub fn a_call_that_makes_no_task_does_not_wait(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let engine = world.engine();
    let key = Some(IdempotencyKey { key: "k".to_owned(), request_digest: [1; 32] });
    let call = |spec, key| engine.for_caller(world.org(0)).task_call(engine.task_id(), spec, key).unwrap();
    // Refused.
    let unknown = call(TaskSpec { device: DeviceRef::Id(DeviceId(77)), ..spec(&device) }, None);
    assert_eq!(block_on(unknown.ended()), None);
    assert_eq!(block_on(unknown.created()).unwrap_err(), Error::not_found("device"));
    // Made by an earlier request.
    let first = block_on(call(spec(&device), key.clone()).created()).unwrap();
    let again = call(spec(&device), key);
    assert_eq!(block_on(again.ended()), None);
    let again = block_on(again.created()).unwrap();
    assert_eq!((again.replayed, again.task.id), (true, first.task.id));
}

pub fn an_idempotency_key_is_forgotten_after_its_time(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let key = || Some(IdempotencyKey { key: "k".to_owned(), request_digest: [1; 32] });
    let create = || {
        let id = world.engine().task_id();
        block_on(world.engine().for_caller(world.org(0)).task_create(id, spec(&device), key())).unwrap()
    };
    let first = create();
    // Finished tasks never expire, so nothing but the keys' own age is left to sweep for.
    world.finish(&device, first.task.id, result(200, 0, "")).unwrap();
    world.pass_ms(Limits::default().idempotency_ms - 1);
    world.sweep();
    assert!(create().replayed);
    world.pass_ms(1);
    assert!(!create().replayed);
}

pub fn a_device_has_no_more_open_tasks_than_the_limit(backend: impl Backend) {
    let limits = Limits { live_tasks_per_device_max: 3, ..Limits::default() };
    let world = World::with_limits(backend, limits);
    let (device, other) = (world.device(0), world.device(0));
    let tasks: Vec<_> = (0..3).map(|_| world.create(spec(&device))).collect();
    assert!(matches!(world.create_as(0, spec(&device)), Err(Error::Exhausted { .. })));
    world.create(spec(&other));
    world.delete(0, tasks[1].id).unwrap();
    world.create(spec(&device));
    assert!(matches!(world.create_as(0, spec(&device)), Err(Error::Exhausted { .. })));
}

pub fn several_tasks_are_made_together_in_their_order_or_not_at_all(backend: impl Backend) {
    let limits = Limits { live_tasks_per_device_max: 3, ..Limits::default() };
    let mut world = World::with_limits(backend, limits);
    let (device, other) = (world.device(0), world.device(0));
    let create = |world: &World, specs| {
        block_on(world.engine().for_caller(world.org(0)).task_create_all(specs)).map(|all| all.len())
    };
    let unknown = TaskSpec { device: DeviceRef::Id(DeviceId(77)), ..spec(&device) };
    let refused = create(&world, vec![spec(&device), unknown, spec(&other)]);
    assert_eq!(refused, Err(Error::not_found("device")));
    // Those of one device count together, beside those that it has.
    world.create(spec(&device));
    let too_many = create(&world, vec![spec(&device), spec(&other), spec(&device), spec(&device)]);
    assert!(matches!(too_many, Err(Error::Exhausted { .. })));
    assert_eq!(world.list(0, TaskFilter::default(), 1, 10).total, 1);
    let named = |device, name: &str| TaskSpec { ext_task_id: name.to_owned(), ..spec(device) };
    let made = create(
        &world,
        vec![named(&other, "1"), named(&device, "2"), named(&other, "3"), named(&device, "4")],
    );
    assert_eq!(made, Ok(4));
    world.restart();
    let page = world.list(0, TaskFilter::default(), 1, 10);
    let names: Vec<_> = page.items.iter().rev().map(|task| task.ext_task_id.as_str()).collect();
    assert_eq!(names[1..], ["1", "2", "3", "4"]);
    assert!(matches!(world.create_as(0, spec(&device)), Err(Error::Exhausted { .. })));
    assert_eq!(create(&world, Vec::new()), Ok(0));
}

pub fn a_foreign_organisation_sees_nothing(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let task = world.create(spec(&device));
    let not_found = Error::not_found("task");
    assert_eq!(world.get_as(1, task.id).unwrap_err(), not_found);
    assert_eq!(world.delete(1, task.id).unwrap_err(), not_found);
    assert_eq!(world.create_as(1, spec(&device)).unwrap_err(), Error::not_found("device"));
    let by_number = crate::world::lasting(&device, 1);
    assert_eq!(world.create_as(1, by_number).unwrap_err(), Error::not_found("device"));
    assert_eq!(world.list(1, TaskFilter::default(), 1, 10).total, 0);
    assert_eq!(world.devices(1, Default::default()).total, 0);
    let retired = block_on(world.engine().for_caller(world.org(1)).device_retire(device.device_id));
    assert_eq!(retired.unwrap_err(), Error::not_found("device"));
    assert_eq!(world.get(task.id).task, *task);
}

pub fn a_foreign_device_can_neither_take_nor_finish(backend: impl Backend) {
    let world = World::new(backend);
    let owner = world.device(0);
    let task = world.create(spec(&owner));
    for stranger in [world.device(0), world.device(1)] {
        assert_eq!(world.ack(&stranger, task.id).unwrap_err(), Error::not_found("task"));
        assert!(world.request(&stranger, task.id).is_none());
        assert!(world.poll(&stranger).is_none());
        let finished = world.finish(&stranger, task.id, result(200, 0, "mine"));
        assert_eq!(finished.unwrap_err(), Error::not_found("task"));
    }
    let detail = world.get(task.id);
    assert_eq!(detail.task, *task);
    assert!(detail.results.is_empty());
}
