//! Histories of what is counted, compared with what happened: of each organisation and day, through restarts and with
//! the days that are over settled at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use covey_core::budget::Weight;
use covey_core::device::DeviceIdentity;
use covey_core::event::NewEvent;
use covey_core::id::UnixMs;
use covey_core::task::{Task, TaskSpec};
use covey_core::usage::{USAGE_SPAN_DAYS_MAX, Usage, UsageReport, day_of};
use futures_executor::block_on;
use proptest::prelude::*;

use super::{DEVICES, org_of};
use crate::world::{Backend, World, lasting, result};

#[derive(Clone, Debug)]
pub enum Action {
    Create {
        device: usize,
        bytes: usize,
    },
    /// The device is sent, or sends again, a result of the task that is as old as this.
    Finish {
        device: usize,
        task: usize,
        is_partial: bool,
        bytes: usize,
    },
    Delete {
        device: usize,
        task: usize,
    },
    Tell {
        device: usize,
        bytes: usize,
        is_gauge: bool,
    },
    /// The last event comes once more.
    Repeat {
        device: usize,
    },
    Ping {
        device: usize,
    },
    Pass(i64),
    Restart,
    Settle,
}

pub fn actions() -> impl Strategy<Value = Vec<Action>> {
    let (device, bytes) = (0..DEVICES, 0..2_000_usize);
    let action = prop_oneof![
        6 => (device.clone(), bytes.clone()).prop_map(|(device, bytes)| Action::Create { device, bytes }),
        6 => (device.clone(), 0..4_usize, prop::bool::weighted(0.3), bytes.clone())
            .prop_map(|(device, task, is_partial, bytes)| Action::Finish { device, task, is_partial, bytes }),
        2 => (device.clone(), 0..4_usize).prop_map(|(device, task)| Action::Delete { device, task }),
        6 => (device.clone(), bytes, prop::bool::weighted(0.2))
            .prop_map(|(device, bytes, is_gauge)| Action::Tell { device, bytes, is_gauge }),
        2 => device.clone().prop_map(|device| Action::Repeat { device }),
        2 => device.prop_map(|device| Action::Ping { device }),
        4 => (1..30 * 3_600_000_i64).prop_map(Action::Pass),
        2 => Just(Action::Restart),
        2 => Just(Action::Settle),
    ];
    proptest::collection::vec(action, 1..60)
}

/// A text of JSON with so many characters between its quotes.
fn text(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes))
}

#[derive(Default)]
struct Model {
    used: BTreeMap<(usize, i64), Usage>,
    heard: BTreeSet<(usize, i64)>,
    /// Of each device those that are not final.
    tasks: BTreeMap<usize, Vec<Arc<Task>>>,
    events: BTreeMap<usize, NewEvent>,
    numbers: u32,
}

impl Model {
    fn add(&mut self, device: usize, now: UnixMs, add: impl FnOnce(&mut Usage)) {
        add(self.used.entry((org_of(device), day_of(now))).or_default());
    }

    fn hear(&mut self, device: usize, now: UnixMs) {
        if self.heard.insert((device, day_of(now))) {
            self.add(device, now, |used| used.active_devices += 1);
        }
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }
}

fn report(world: &World, org: usize) -> UsageReport {
    let from = day_of(world.now()) - USAGE_SPAN_DAYS_MAX + 1;
    block_on(world.engine().for_caller(world.org(org)).usage(None, Some(from), None)).unwrap()
}

fn compare(world: &World, model: &Model) {
    for org in 0..2 {
        let report = report(world, org);
        assert_eq!(report.days.len(), usize::try_from(USAGE_SPAN_DAYS_MAX).unwrap());
        for day in report.days {
            let used = model.used.get(&(org, day.day)).copied().unwrap_or_default();
            assert_eq!(day.usage, used, "organisation {org}, day {}", day.day);
        }
    }
}

fn step(world: &mut World, model: &mut Model, devices: &[DeviceIdentity], action: Action) {
    let (now, engine) = (world.now(), Arc::clone(world.engine()));
    match action {
        Action::Create { device, bytes } => {
            let spec = TaskSpec { payload: Some(text(bytes).into()), ..lasting(&devices[device], 2_000) };
            let task = world.create_as(org_of(device), spec).unwrap();
            model.tasks.entry(device).or_default().push(task);
            model.add(device, now, |used| {
                used.tasks_created += 1;
                used.bytes_in += i64::try_from(bytes).unwrap() + 2;
            });
        }
        Action::Finish { device, task, is_partial, bytes } => {
            let Some(id) = model.tasks.get(&device).and_then(|tasks| tasks.get(task)).map(|task| task.id)
            else {
                return;
            };
            let status_code = if is_partial { 206 } else { 200 };
            let sent = result(status_code, model.number().into(), &"x".repeat(bytes));
            for _ in 0..2 {
                engine.for_device(&devices[device]).charge(Weight::result(bytes)).unwrap();
                world.finish(&devices[device], id, sent.clone()).unwrap();
            }
            model.hear(device, now);
            model.add(device, now, |used| {
                used.bytes_in += i64::try_from(bytes).unwrap();
                used.tasks_finished += i64::from(!is_partial);
            });
            if !is_partial {
                model.tasks.entry(device).or_default().remove(task);
            }
        }
        Action::Delete { device, task } => {
            let tasks = model.tasks.entry(device).or_default();
            if task < tasks.len() {
                let task = tasks.remove(task);
                world.delete(org_of(device), task.id).unwrap();
                model.add(device, now, |used| used.tasks_finished += 1);
            }
        }
        Action::Tell { device, bytes, is_gauge } => {
            let event = NewEvent {
                type_code: if is_gauge { 44 } else { 13 },
                dev_event_id: model.number(),
                dev_timestamp: Some(now),
                correlation: None,
                payload: text(bytes).into(),
                reported: Vec::new(),
            };
            block_on(engine.for_device(&devices[device]).event_add(event.clone(), false)).unwrap();
            model.hear(device, now);
            if !is_gauge {
                model.add(device, now, |used| {
                    used.events += 1;
                    used.bytes_in += i64::try_from(bytes).unwrap() + 2;
                });
                model.events.insert(device, event);
            }
        }
        Action::Repeat { device } => {
            if let Some(event) = model.events.get(&device).cloned() {
                block_on(engine.for_device(&devices[device]).event_add(event, false)).unwrap();
                model.hear(device, now);
            }
        }
        Action::Ping { device } => {
            engine.for_device(&devices[device]).charge(Weight::PING).unwrap();
            // It is noted behind the device's back; what comes after it waits for it.
            let org = world.org(org_of(device));
            block_on(engine.for_caller(org).retention_put(Vec::new())).unwrap();
            model.hear(device, now);
        }
        Action::Pass(ms) => {
            world.pass_ms(ms);
            world.sweep();
            let now = world.now();
            for device in 0..DEVICES {
                let tasks = model.tasks.entry(device).or_default();
                let before = tasks.len();
                tasks.retain(|task| task.expires_at > now);
                let expired = i64::try_from(before - tasks.len()).unwrap();
                if expired > 0 {
                    model.add(device, now, |used| used.tasks_finished += expired);
                }
            }
        }
        Action::Restart => {
            drop(engine);
            world.restart_quietly();
        }
        Action::Settle => while block_on(engine.server().usage_step()).unwrap() {},
    }
}

pub fn follow(backend: impl Backend, actions: Vec<Action>) {
    let mut world = World::new(backend);
    let devices: Vec<_> = (0..DEVICES).map(|device| world.device(org_of(device))).collect();
    let mut model = Model::default();
    for action in actions {
        step(&mut world, &mut model, &devices, action);
    }
    compare(&world, &model);
    world.restart();
    while block_on(world.engine().server().usage_step()).unwrap() {}
    compare(&world, &model);
}
