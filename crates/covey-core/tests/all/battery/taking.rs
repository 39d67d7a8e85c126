//! Taking tasks: acknowledgements, requests, polls and leases.

use std::collections::HashSet;
use std::sync::Mutex;

use covey_core::task::{Cause, TaskStatus};
use proptest::prelude::*;

use crate::world::{Backend, World, lasting, result, spec, urgent};

pub fn two_concurrent_polls_never_get_the_same_task(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    for _ in 0..40 {
        world.create(spec(&device));
    }
    let taken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(task) = world.poll(&device) {
                    taken.lock().unwrap().push(task.id);
                }
            });
        }
    });
    let taken = taken.into_inner().unwrap();
    assert_eq!(taken.len(), 40);
    assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 40);
}

pub fn polls_follow_the_selection_order(backend: impl Backend) {
    let world = World::new(backend);
    let tasks = proptest::collection::vec((0..4_i64, 1..4_i64), 1..20);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&tasks, |wanted| {
        let device = world.device(0);
        let mut tasks = Vec::new();
        for (priority, ttl_minutes) in wanted {
            tasks
                .push(world.create(covey_core::task::TaskSpec { priority, ..lasting(&device, ttl_minutes) }));
            world.pass_ms(1);
        }
        tasks.sort_by_key(|task| task.rank());
        let taken: Vec<_> = std::iter::from_fn(|| world.poll(&device)).map(|task| task.id).collect();
        prop_assert_eq!(taken, tasks.iter().map(|task| task.id).collect::<Vec<_>>());
        Ok(())
    });
    outcome.unwrap();
}

pub fn an_ack_moves_ready_to_pending_and_nothing_else(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let task = world.create(spec(&device));
    world.pass_ms(5);
    world.ack(&device, task.id).unwrap();
    let pending = world.get(task.id).task;
    assert_eq!((pending.status, pending.pending_at), (TaskStatus::Pending, Some(world.now())));
    let unmoved = |status| {
        let before = world.get(task.id);
        assert_eq!(before.task.status, status);
        world.pass_ms(5);
        world.ack(&device, task.id).unwrap();
        assert_eq!(world.get(task.id), before);
    };
    unmoved(TaskStatus::Pending);
    world.poll(&device).unwrap();
    unmoved(TaskStatus::Lock);
    world.finish(&device, task.id, result(200, 0, "")).unwrap();
    unmoved(TaskStatus::Done);
    world.delete(0, task.id).unwrap();
    unmoved(TaskStatus::Deleted);
}

pub fn a_repeated_request_gets_the_same_task(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = world.device(0);
    let task = world.create(spec(&device));
    let first = world.request(&device, task.id).unwrap();
    world.pass_ms(10);
    world.restart();
    let again = world.request(&device, task.id).unwrap();
    assert_eq!((again.id, &again.payload, again.status), (task.id, &task.payload, TaskStatus::Lock));
    assert_eq!((again.locked_at, &again.timeline), (first.locked_at, &first.timeline));
    assert_eq!((first.deliveries, again.deliveries), (1, 2));
    world.finish(&device, task.id, result(200, 0, "")).unwrap();
    assert!(world.request(&device, task.id).is_none());
}

pub fn a_lapsed_task_may_be_polled_again(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = world.device(0);
    let task = world.create(spec(&device));
    world.poll(&device).unwrap();
    world.pass_ms(59_999);
    assert!(world.poll(&device).is_none());
    world.restart();
    assert!(world.poll(&device).is_none());
    world.pass_ms(1);
    assert_eq!(world.poll(&device).unwrap().id, task.id);
    assert!(world.poll(&device).is_none());
}

pub fn a_partial_result_starts_the_lease_anew(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let task = world.create(spec(&device));
    world.poll(&device).unwrap();
    // The same words again are a repetition to store nothing of, and a sign of life.
    let mut ids = HashSet::new();
    for _ in 0..3 {
        world.pass_ms(50_000);
        ids.insert(world.finish(&device, task.id, result(206, 0, "busy")).unwrap().result_id);
        assert!(world.poll(&device).is_none());
    }
    assert_eq!(ids.len(), 1);
    let detail = world.get(task.id);
    assert_eq!((detail.task.status, detail.results.len()), (TaskStatus::Lock, 1));
    world.pass_ms(59_999);
    assert!(world.poll(&device).is_none());
    world.pass_ms(1);
    assert_eq!(world.poll(&device).unwrap().id, task.id);
}

pub fn a_push_only_task_is_never_polled_and_expires_after_a_minute(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let pushed = world.create(lasting(&device, 0));
    assert!(world.poll(&device).is_none());
    world.ack(&device, pushed.id).unwrap();
    assert!(world.poll(&device).is_none());
    let ordinary = world.create(urgent(&device, 0));
    assert_eq!(world.poll(&device).unwrap().id, ordinary.id);
    world.pass_ms(59_999);
    // By its name it may be asked for.
    assert!(world.request(&device, pushed.id).is_some());
    world.pass_ms(1);
    assert!(world.request(&device, pushed.id).is_none());
    world.sweep();
    let expired = world.get(pushed.id).task;
    assert_eq!(expired.status, TaskStatus::Expired);
    let last = expired.timeline.last().unwrap();
    assert_eq!((last.cause, last.at), (Cause::TimedOut, pushed.created_at.plus_ms(60_000)));
}
