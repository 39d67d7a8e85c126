//! Lists and counts.

use std::collections::HashMap;

use covey_core::task::{TaskFilter, TaskSpec, TaskStatus};
use futures_executor::block_on;

use crate::world::{Backend, World, lasting, result, spec};

pub fn pages_are_newest_first_and_their_totals_hold(backend: impl Backend) {
    let world = World::new(backend);
    let device = world.device(0);
    let mut ids: Vec<_> = (0..7).map(|_| world.create(spec(&device)).id).collect();
    ids.reverse();
    world.create_as(1, spec(&world.device(1))).unwrap();
    let mut seen = Vec::new();
    for (number, count) in [(1, 3), (2, 3), (3, 1), (4, 0)] {
        let page = world.list(0, TaskFilter::default(), number, 3);
        assert_eq!((page.items.len(), page.total), (count, 7));
        seen.extend(page.items.into_iter().map(|task| task.id));
    }
    assert_eq!(seen, ids);
    let page = covey_core::port::PageRequest { page: 1, size: 1_001 };
    assert!(
        block_on(world.engine().for_caller(world.org(0)).task_list(TaskFilter::default(), page)).is_err()
    );
}

pub fn filters_select(backend: impl Backend) {
    let world = World::new(backend);
    let (device, other) = (world.device(0), world.device(0));
    let first = world.create(TaskSpec { ext_task_id: "a".to_owned(), ..spec(&device) });
    world.pass_ms(10);
    let second = world.create(TaskSpec { ext_task_id: "a".to_owned(), ..spec(&other) });
    world.pass_ms(10);
    let third = world.create(spec(&other));
    world.finish(&other, third.id, result(200, 0, "")).unwrap();
    let found = |filter: TaskFilter| {
        let page = world.list(0, filter, 1, 10);
        assert_eq!(page.total, page.items.len() as u64);
        page.items.into_iter().map(|task| task.id).collect::<Vec<_>>()
    };
    let all = TaskFilter::default;
    assert_eq!(found(TaskFilter { device_id: Some(other.device_id), ..all() }), [third.id, second.id]);
    assert_eq!(found(TaskFilter { status: Some(TaskStatus::Done), ..all() }), [third.id]);
    assert_eq!(found(TaskFilter { ext_task_id: Some("a".to_owned()), ..all() }), [second.id, first.id]);
    let at = Some(second.created_at);
    assert_eq!(found(TaskFilter { created_after: at, ..all() }), [third.id, second.id]);
    assert_eq!(found(TaskFilter { created_before: at, ..all() }), [first.id]);
    let several = TaskFilter {
        device_id: Some(other.device_id),
        status: Some(TaskStatus::Ready),
        ext_task_id: Some("a".to_owned()),
        created_after: at,
        created_before: Some(third.created_at),
    };
    assert_eq!(found(several), [second.id]);
}

pub fn counts_equal_a_recount(backend: impl Backend) {
    let mut world = World::new(backend);
    let devices = [world.device(0), world.device(0), world.device(1)];
    for step in 0..60_i64 {
        let place = usize::try_from(step % 3).unwrap();
        let (device, org) = (&devices[place], place / 2);
        let task = world.create_as(org, lasting(device, 1 + step % 4)).unwrap();
        match step % 7 {
            0 => drop(world.ack(device, task.id)),
            1 => drop(world.request(device, task.id)),
            2 => drop(world.finish(device, task.id, result(200, 0, ""))),
            3 => drop(world.finish(device, task.id, result(500, 0, ""))),
            4 => drop(world.delete(org, task.id)),
            5 => drop(world.finish(device, task.id, result(206, 0, ""))),
            _ => {}
        }
        world.pass_ms(3_000);
        if step % 20 == 0 {
            world.sweep();
            world.restart();
        }
    }
    world.sweep();
    let mut recount: HashMap<_, u64> = HashMap::new();
    for org in 0..2 {
        let page = world.list(org, TaskFilter::default(), 1, 1_000);
        page.items.iter().for_each(|task| *recount.entry(task.status).or_default() += 1);
        assert_eq!(page.total, page.items.len() as u64);
    }
    let counts = block_on(world.engine().server().task_counts_of_every_org()).unwrap();
    let counts: HashMap<_, _> =
        counts.into_iter().filter(|one| one.count > 0).map(|one| (one.status, one.count)).collect();
    assert_eq!(counts, recount);
    assert!(recount.len() >= 6, "{recount:?}");
}
