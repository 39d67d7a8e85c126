//! Ends of tasks: results, expiry, deletion.

use std::pin::pin;
use std::task::{Context, Waker};

use covey_core::Error;
use covey_core::id::TaskId;
use covey_core::limits::Limits;
use covey_core::port::Event;
use covey_core::task::{
    Cause, RESULT_BYTES_MAX, RESULTS_BYTES_MAX, RESULTS_MAX, ResultNotStored, TaskDetail, TaskReader,
    TaskResult, TaskStatus,
};
use futures_executor::block_on;

use crate::world::{Backend, World, lasting, result, spec};

pub fn a_status_code_decides_between_done_and_failed(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    for (code, status) in [
        (200, TaskStatus::Done),
        (0, TaskStatus::Done),
        (399, TaskStatus::Done),
        (400, TaskStatus::Failed),
        (500, TaskStatus::Failed),
        (206, TaskStatus::Lock),
    ] {
        let task = world.create(spec(&device));
        let asked = world.request(&device, task.id).unwrap();
        let outcome = world.finish(&device, task.id, result(code, 7, "body")).unwrap();
        assert_eq!(outcome.finished.is_some(), status.is_final());
        let detail = world.get(task.id);
        assert_eq!(detail.task.status, status, "{code}");
        assert_eq!(detail.results[0].id, outcome.result_id);
        assert_eq!(detail.results[0].result, result(code, 7, "body"));
        assert_eq!(detail.task.locked_at, asked.locked_at);
    }
}

pub fn a_repeated_result_is_stored_once(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = world.device(0);
    let task = world.create(spec(&device));
    world.poll(&device).unwrap();
    let first = world.finish(&device, task.id, result(200, 1, "body")).unwrap();
    world.outside.counts.reset();
    for _ in 0..2 {
        let again = world.finish(&device, task.id, result(200, 1, "body")).unwrap();
        assert!(again.duplicate && again.finished.is_none());
        assert_eq!(again.result_id, first.result_id);
        world.restart();
    }
    assert_eq!(world.outside.counts.of(Event::DuplicateResult), 2);
    let detail = world.get(task.id);
    assert_eq!((detail.results.len(), detail.task.results), (1, 1));
    // Each of number, code and body makes another result of it.
    for other in [result(200, 2, "body"), result(201, 1, "body"), result(200, 1, "other"), result(200, 1, "")]
    {
        assert!(!world.finish(&device, task.id, other).unwrap().duplicate);
    }
    assert_eq!(world.get(task.id).results.len(), 5);
}

pub fn a_late_result_is_stored_and_moves_nothing(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let done = world.create(lasting(&device, 1));
    let deleted = world.create(lasting(&device, 1));
    let expired = world.create(lasting(&device, 1));
    let unswept = world.create(lasting(&device, 2));
    world.finish(&device, done.id, result(200, 0, "first")).unwrap();
    world.delete(0, deleted.id).unwrap();
    world.pass_ms(60_000);
    world.sweep();
    world.pass_ms(60_000);
    for (task, status) in [
        (&done, TaskStatus::Done),
        (&deleted, TaskStatus::Deleted),
        (&expired, TaskStatus::Expired),
        (&unswept, TaskStatus::Expired),
    ] {
        for (code, body) in [(500, "late"), (206, "later")] {
            let outcome = world.finish(&device, task.id, result(code, 0, body)).unwrap();
            assert!(!outcome.duplicate && outcome.finished.is_none());
            let detail = world.get(task.id);
            assert_eq!(detail.task.status_at(world.now()), status);
            assert_eq!(detail.results[0].id, outcome.result_id, "newest first");
        }
        assert!(world.request(&device, task.id).is_none());
    }
    world.sweep();
    let last = *world.get(unswept.id).task.timeline.last().unwrap();
    assert_eq!((last.to, last.at), (TaskStatus::Expired, unswept.expires_at));
}

pub fn a_task_expires_at_the_instant(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = world.device(0);
    let [ready, pending, locked] = [(); 3].map(|()| world.create(lasting(&device, 1)));
    world.ack(&device, pending.id).unwrap();
    world.request(&device, locked.id).unwrap();
    world.pass_ms(59_999);
    world.sweep();
    assert_eq!(world.get(ready.id).task.status, TaskStatus::Ready);
    let watch = world.engine().for_caller(world.org(0)).task_watch(locked.id);
    world.pass_ms(1);
    // Expired before any sweep has stored it.
    assert!(world.poll(&device).is_none());
    assert!(world.request(&device, locked.id).is_none());
    world.pass_ms(500);
    world.sweep();
    assert_eq!(block_on(watch).task.status, TaskStatus::Expired);
    world.restart();
    for task in [ready, pending, locked] {
        let stored = world.get(task.id).task;
        assert_eq!((stored.status, stored.lease_until), (TaskStatus::Expired, None));
        let last = stored.timeline.last().unwrap();
        assert_eq!((last.at, last.cause), (task.expires_at, Cause::TimedOut));
    }
}

pub fn delete_ends_every_state(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let [ready, pending, locked, done, failed, expired] = [(); 6].map(|()| world.create(lasting(&device, 1)));
    world.ack(&device, pending.id).unwrap();
    world.request(&device, locked.id).unwrap();
    world.finish(&device, done.id, result(200, 0, "kept")).unwrap();
    world.finish(&device, failed.id, result(500, 0, "")).unwrap();
    for task in [&ready, &pending, &locked, &done, &failed] {
        world.pass_ms(1);
        let detail = world.delete(0, task.id).unwrap();
        assert_eq!(detail.task.status, TaskStatus::Deleted);
        assert_eq!(detail.task.deleted_at(), Some(world.now()));
        assert!(world.request(&device, task.id).is_none());
    }
    world.pass_ms(60_000);
    // Time ran out first, then it was deleted: the timeline says both.
    let detail = world.delete(0, expired.id).unwrap();
    let states: Vec<_> = detail.task.timeline.iter().map(|change| change.to).collect();
    assert_eq!(states, [TaskStatus::Ready, TaskStatus::Expired, TaskStatus::Deleted]);
    let again = world.delete(0, ready.id).unwrap();
    assert_eq!(again.task, world.get(ready.id).task);
    assert_eq!(again.task.timeline.len(), 2);
    assert_eq!(world.get(done.id).results.len(), 1);
    assert!(world.poll(&device).is_none());
}

pub fn the_result_that_ends_a_task_is_taken_beyond_the_limit(backend: impl Backend) {
    let world = World::with_limits(backend, Limits { results_per_task_max: 2, ..Limits::default() });
    let device = world.device(0);
    let task = world.create(spec(&device));
    world.poll(&device).unwrap();
    let partial = |number| world.finish(&device, task.id, result(206, number, ""));
    assert!(partial(1).is_ok() && partial(2).is_ok());
    assert!(matches!(partial(3), Err(Error::Exhausted { .. })));
    let outcome = world.finish(&device, task.id, result(200, 0, "")).unwrap();
    assert_eq!(outcome.finished.unwrap().results.len(), 3);
    assert_eq!(world.get(task.id).task.status, TaskStatus::Done);
    let late = world.finish(&device, task.id, result(200, 1, "")).unwrap();
    assert_eq!(late.not_stored, Some(ResultNotStored::Late));
    assert_eq!(world.get(task.id).results.len(), 3);
}

pub fn results_are_bounded_in_bytes(backend: impl Backend) {
    let limits = Limits { result_bytes_per_task_max: 1_000, ..Limits::default() };
    let mut world = World::with_limits(backend, limits);
    let device = world.device(0);
    let task = world.create(spec(&device));
    world.poll(&device).unwrap();
    let body = "x".repeat(400);
    for number in 1..=2 {
        world.finish(&device, task.id, result(206, number, &body)).unwrap();
    }
    world.restart();
    assert!(world.finish(&device, task.id, result(206, 1, &body)).unwrap().duplicate);
    let beyond = world.finish(&device, task.id, result(206, 3, &body));
    assert!(matches!(beyond, Err(Error::Exhausted { .. })));
    assert!(world.finish(&device, task.id, result(206, 3, "short")).is_ok());
    assert!(world.finish(&device, task.id, result(200, 0, &body)).unwrap().finished.is_some());
    let late = world.finish(&device, task.id, result(200, 9, "late")).unwrap();
    assert_eq!(late.not_stored, Some(ResultNotStored::Late));
    let detail = world.get(task.id);
    assert_eq!((detail.results.len(), detail.task.result_bytes), (4, 1_205));
}

pub fn a_final_task_takes_few_more_results(backend: impl Backend) {
    let mut world = World::with_limits(backend, Limits { late_results_per_task_max: 2, ..Limits::default() });
    let device = world.device(0);
    let (done, deleted) = (world.create(spec(&device)), world.create(spec(&device)));
    for number in 1..=3 {
        world.finish(&device, done.id, result(206, number, "")).unwrap();
    }
    world.finish(&device, done.id, result(200, 0, "")).unwrap();
    world.delete(0, deleted.id).unwrap();
    for task in [done.id, deleted.id] {
        for number in 10..12 {
            assert_eq!(world.finish(&device, task, result(206, number, "late")).unwrap().not_stored, None);
        }
        world.restart();
        for number in 12..20 {
            let late = world.finish(&device, task, result(200, number, "late")).unwrap();
            assert_eq!((late.not_stored, late.result_id.0), (Some(ResultNotStored::Late), 0));
        }
        // One that is stored is known again.
        assert!(world.finish(&device, task, result(206, 11, "late")).unwrap().duplicate);
    }
    assert_eq!((world.get(done.id).results.len(), world.get(deleted.id).results.len()), (6, 2));
}

pub fn a_result_that_is_too_large_ends_its_task_and_is_not_stored(backend: impl Backend) {
    let mut world = World::new(backend);
    let (device, other) = (world.device(0), world.device(0));
    let [largest, larger] = [RESULT_BYTES_MAX, RESULT_BYTES_MAX + 1].map(|bytes| "x".repeat(bytes));
    let [fits, task] = [(); 2].map(|()| world.create(spec(&device)));
    assert!(world.finish(&device, fits.id, result(200, 0, &largest)).unwrap().finished.is_some());
    world.request(&device, task.id).unwrap();
    assert_eq!(world.finish(&other, task.id, result(200, 0, &larger)).unwrap_err(), Error::not_found("task"));
    let watch = world.engine().for_caller(world.org(0)).task_watch(task.id);
    for (number, ends) in [(1, true), (1, false), (2, false)] {
        let outcome = world.finish(&device, task.id, result(206, number, &larger)).unwrap();
        assert_eq!(outcome.not_stored, Some(ResultNotStored::TooLarge));
        assert_eq!((outcome.result_id.0, outcome.finished.is_some()), (0, ends));
    }
    let told = block_on(watch);
    assert_eq!((told.task.status, told.results.len()), (TaskStatus::Failed, 0));
    world.restart();
    let detail = world.get(task.id);
    let causes: Vec<_> = detail.task.timeline.iter().map(|change| change.cause).collect();
    assert_eq!(causes, [Cause::Created, Cause::Taken, Cause::ResultTooLarge]);
    assert_eq!((detail.results.len(), detail.task.results), (0, 0));
    assert!(world.request(&device, task.id).is_none());
}

pub fn those_who_wait_are_told_even_if_the_caller_hung_up(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let task = world.create(spec(&device));
    let watch = world.engine().for_caller(world.org(0)).task_watch(task.id);
    {
        let mut finishing = pin!(world.engine().for_device(&device).task_finish(task.id, result(200, 0, "")));
        let _ = finishing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    assert_eq!(block_on(watch).task.status, TaskStatus::Done);
}

pub fn a_task_too_large_for_its_device_fails_once_and_those_who_wait_are_told(backend: impl Backend) {
    let mut world = World::new(backend);
    let (device, other) = (world.device(0), world.device(0));
    let task = world.create(spec(&device));
    world.request(&device, task.id).unwrap();
    assert_eq!(world.too_large(&other, task.id).unwrap_err(), Error::not_found("task"));
    let watch = world.engine().for_caller(world.org(0)).task_watch(task.id);
    world.too_large(&device, task.id).unwrap();
    let told = block_on(watch);
    assert_eq!((told.task.status, told.results.len()), (TaskStatus::Failed, 0));
    world.too_large(&device, task.id).unwrap();
    world.restart();
    let ended = world.get(task.id).task;
    let causes: Vec<_> = ended.timeline.iter().map(|change| change.cause).collect();
    assert_eq!(causes, [Cause::Created, Cause::Taken, Cause::TooLargeForDevice]);
    assert!(world.request(&device, task.id).is_none());
    assert!(world.finish(&device, task.id, result(200, 0, "late")).unwrap().finished.is_none());
    assert_eq!(world.get(task.id).task.status, TaskStatus::Failed);
}

/// All results of a task, page by page, and how many each page has.
fn results_by_page(world: &World, id: TaskId) -> (Vec<TaskResult>, Vec<usize>) {
    let (mut results, mut sizes, mut before) = (Vec::new(), Vec::new(), None);
    loop {
        let page = world.engine().for_caller(world.org(0)).task_get_before(id, before);
        let TaskDetail { results: some, results_next, .. } = block_on(page).unwrap();
        let bytes: usize = some.iter().map(|one| one.result.body.text().len()).sum();
        assert!(some.len() <= RESULTS_MAX as usize && bytes <= RESULTS_BYTES_MAX);
        assert_eq!(results_next.is_some(), results_next == some.last().map(|last| last.id));
        sizes.push(some.len());
        results.extend(some);
        if results_next.is_none() {
            return (results, sizes);
        }
        before = results_next;
    }
}

pub fn the_newest_results_are_given_and_the_others_page_by_page(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let finished = |partial: u32, body: &dyn Fn(u32) -> String| {
        let task = world.create(spec(&device));
        world.request(&device, task.id).unwrap();
        for number in 1..=partial {
            world.finish(&device, task.id, result(206, number.into(), &body(number))).unwrap();
        }
        (task.id, world.finish(&device, task.id, result(200, 0, "last")).unwrap().finished.unwrap())
    };
    for (partial, expected) in [(0, vec![1]), (99, vec![100]), (100, vec![100, 1]), (250, vec![100, 100, 51])]
    {
        let (id, told) = finished(partial, &|number| number.to_string());
        let (all, sizes) = results_by_page(&world, id);
        assert_eq!(sizes, expected);
        let numbers: Vec<i64> = all.iter().map(|one| one.result.ext_id).collect();
        assert_eq!(numbers, std::iter::once(0).chain((1..=partial.into()).rev()).collect::<Vec<_>>());
        // Those who wait are told the same as those who ask.
        assert_eq!(told.results[..], all[..sizes[0]]);
        assert_eq!(told.results_next, all.get(sizes[0] - 1).map(|last| last.id).filter(|_| sizes.len() > 1));
        let found = block_on(world.store().task_final_of_every_org(vec![id])).unwrap();
        assert_eq!((&found[0].results, found[0].results_next), (&told.results, told.results_next));
    }
    // Large ones are fewer.
    let (id, told) = finished(8, &|_| "x".repeat(250_000));
    let (all, sizes) = results_by_page(&world, id);
    assert_eq!((all.len(), sizes, told.results.len()), (9, vec![5, 4], 5));
}
