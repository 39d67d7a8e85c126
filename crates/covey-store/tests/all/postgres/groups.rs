//! Jobs that share a transaction see what those before them did, although most
//! of it happens in memory: random groups, compared with the store on SQLite,
//! which runs each job's statements one after the other.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use covey_core::device::DeviceIdentity;
use covey_core::error::Result;
use covey_core::event::{DeviceEvent, EventFilter, EventTypes, EventsFrom, GaugeFilter, NewEvent};
use covey_core::id::{RecordNumber, TaskId};
use covey_core::limits::Limits;
use covey_core::port::PageRequest;
use covey_core::record::{Change, Record, RecordReader, RecordRequest};
use covey_core::task::{IdempotencyKey, Task, TaskDetail, TaskFilter, TaskSpec};
use futures_executor::block_on;
use proptest::prelude::*;

use crate::database::PostgresBackend;
use crate::world::parts::BEGIN;
use crate::world::sqlite::SqliteBackend;
use crate::world::{Backend, World, lasting, result, spec};

const DEVICES: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Create { device: usize, priority: i64, ttl_minutes: i64, key: Option<u8>, by_sn: bool },
    Ack { device: usize, task: usize },
    Request { device: usize, task: usize },
    Poll { device: usize },
    Finish { device: usize, task: usize, status_code: i64, ext_id: i64 },
    Delete { task: usize },
    Event { device: usize, type_code: i64, dev_event_id: u32, has_time: bool },
    Read { of: Option<usize> },
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let (device, task) = (|| 0..DEVICES, || 0..8_usize);
    prop_oneof![
        6 => (device(), 0..3_i64, 0..4_i64, proptest::option::weighted(0.3, 0..2_u8), any::<bool>()).prop_map(
            |(device, priority, ttl_minutes, key, by_sn)| Step::Create { device, priority, ttl_minutes, key, by_sn }
        ),
        1 => (device(), task()).prop_map(|(device, task)| Step::Ack { device, task }),
        2 => (device(), task()).prop_map(|(device, task)| Step::Request { device, task }),
        5 => device().prop_map(|device| Step::Poll { device }),
        5 => (device(), task(), prop_oneof![Just(200), Just(206), Just(206), Just(500)], 0..2_i64).prop_map(
            |(device, task, status_code, ext_id)| Step::Finish { device, task, status_code, ext_id }
        ),
        1 => task().prop_map(|task| Step::Delete { task }),
        4 => (device(), prop_oneof![4 => Just(2_i64), 1 => Just(44)], 0..3_u32, any::<bool>()).prop_map(
            |(device, type_code, dev_event_id, has_time)| Step::Event { device, type_code, dev_event_id, has_time }
        ),
        1 => proptest::option::of(device()).prop_map(|of| Step::Read { of }),
        1 => Just(Step::Sweep),
    ]
}

/// What is compared: everything but numbers that a store gives as it likes.
fn task_text(task: &Task) -> String {
    format!("{:?}", Task { seq: 0, ..task.clone() })
}

fn detail_text(detail: &TaskDetail) -> String {
    let results: Vec<_> = detail.results.iter().map(|one| (&one.result, one.received_at)).collect();
    format!("{} {results:?}", task_text(&detail.task))
}

fn event_text(event: &DeviceEvent) -> String {
    format!("{:?}", DeviceEvent { id: RecordNumber(0), ..event.clone() })
}

/// What was told, without numbers that a store gives as it likes.
fn record_text(record: &Record) -> String {
    let change = match &record.change {
        Change::Result { task, result } => format!("{task:?} {:?}", result.result),
        Change::Event(event) => event_text(event),
        other => format!("{other:?}"),
    };
    format!("{:?} {:?} {change}", record.device, record.at)
}

fn text<T>(outcome: Result<T>, good: impl FnOnce(T) -> String) -> String {
    outcome.map_or_else(|error| error.to_string(), good)
}

type Answer = Pin<Box<dyn Future<Output = String>>>;

struct Side {
    world: World,
    devices: Vec<DeviceIdentity>,
    /// Most recent last.
    tasks: Vec<TaskId>,
}

impl Side {
    fn new(backend: impl Backend) -> Self {
        let limits = Limits { live_tasks_per_device_max: 4, results_per_task_max: 3, ..Limits::default() };
        let world = World::with_limits(backend, limits);
        let devices = (0..DEVICES).map(|_| world.device(0)).collect();
        Self { world, devices, tasks: Vec::new() }
    }

    fn task(&self, place: usize) -> TaskId {
        let count = self.tasks.len();
        if count == 0 { TaskId::NIL } else { self.tasks[count - 1 - place % count] }
    }

    fn begin(&mut self, step: &Step) -> Answer {
        let engine = Arc::clone(self.world.engine());
        let org = self.world.org(0).clone();
        match step.clone() {
            Step::Create { device, priority, ttl_minutes, key, by_sn } => {
                let device = &self.devices[device];
                let named = if by_sn { spec(device) } else { lasting(device, 0) };
                let spec = TaskSpec { priority, ttl_minutes, ..named };
                let id = engine.task_id();
                self.tasks.push(id);
                let key = key.map(|key| IdempotencyKey {
                    key: format!("key-{key}"),
                    request_digest: [priority as u8; 32],
                });
                Box::pin(async move {
                    let made = engine.for_caller(&org).task_create(id, spec, key).await;
                    text(made, |made| format!("{} {}", task_text(&made.task), made.replayed))
                })
            }
            Step::Ack { device, task } => {
                let (device, task) = (self.devices[device].clone(), self.task(task));
                Box::pin(async move {
                    text(engine.for_device(&device).task_ack(task).await, |()| "acknowledged".to_owned())
                })
            }
            Step::Request { device, task } => {
                let (device, task) = (self.devices[device].clone(), self.task(task));
                Box::pin(async move {
                    text(engine.for_device(&device).task_next(Some(task)).await, |task| {
                        task.map_or("nothing".to_owned(), |task| task_text(&task))
                    })
                })
            }
            Step::Poll { device } => {
                let device = self.devices[device].clone();
                Box::pin(async move {
                    text(engine.for_device(&device).task_next(None).await, |task| {
                        task.map_or("nothing".to_owned(), |task| task_text(&task))
                    })
                })
            }
            Step::Finish { device, task, status_code, ext_id } => {
                let (device, task) = (self.devices[device].clone(), self.task(task));
                Box::pin(async move {
                    let finished = engine
                        .for_device(&device)
                        .task_finish(task, result(status_code, ext_id, "a\0b"))
                        .await;
                    text(finished, |done| {
                        let detail = done.finished.as_deref().map(detail_text);
                        format!("{} {detail:?}", done.duplicate)
                    })
                })
            }
            Step::Delete { task } => {
                let task = self.task(task);
                Box::pin(async move {
                    text(engine.for_caller(&org).task_delete(task).await, |detail| detail_text(&detail))
                })
            }
            Step::Event { device, type_code, dev_event_id, has_time } => {
                let device = self.devices[device].clone();
                let dev_timestamp = has_time.then_some(BEGIN);
                let payload = r#"{"a":1}"#.into();
                let event = NewEvent {
                    type_code,
                    dev_event_id,
                    dev_timestamp,
                    correlation: None,
                    payload,
                    reported: Vec::new(),
                };
                Box::pin(async move {
                    text(engine.for_device(&device).event_add(event, true).await, |added| {
                        format!("{added:?}")
                    })
                })
            }
            Step::Read { of } => {
                let of = of.map(|device| self.devices[device].device_id);
                Box::pin(async move {
                    let next = engine.for_caller(&org).event_next(of, EventTypes::OfDevices, None, 2).await;
                    text(next, |events| events.iter().map(event_text).collect::<Vec<_>>().join(","))
                })
            }
            Step::Sweep => {
                Box::pin(async move { text(engine.server().task_sweep().await, |more| more.to_string()) })
            }
        }
    }

    /// Runs steps in one transaction; answers what each was told.
    fn group(&mut self, steps: &[Step]) -> Vec<String> {
        let gate = self.world.hold_writer();
        let mut answers: Vec<_> = steps.iter().map(|step| self.begin(step)).collect();
        for answer in &mut answers {
            // A sweep reads first, and joins the group as soon as it has.
            let _ = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        drop(gate);
        answers.into_iter().map(block_on).collect()
    }

    fn stored(&self) -> Vec<String> {
        let page = self.world.list(0, TaskFilter::default(), 1, 1_000);
        assert_eq!(page.total, page.items.len() as u64);
        let mut all: Vec<_> = page.items.iter().map(|task| detail_text(&self.world.get(task.id))).collect();
        let counts = block_on(self.world.engine().server().task_counts_of_every_org()).unwrap();
        all.extend(counts.iter().filter(|count| count.count > 0).map(|count| format!("{count:?}")));
        let from = EventsFrom::Page(PageRequest { page: 1, size: 1_000 });
        let events =
            self.world.engine().for_caller(self.world.org(0)).event_list(EventFilter::default(), from);
        let events = block_on(events).unwrap();
        assert_eq!(events.total, Some(events.items.len() as u64));
        all.extend(events.items.iter().map(event_text));
        let request = RecordRequest {
            org: None,
            after: RecordNumber(0),
            until: None,
            limit: 10_000,
            bytes_max: usize::MAX,
            with_tags: true,
        };
        let told = block_on(self.world.store().record_list_of_every_org(request)).unwrap();
        let mut told: Vec<_> = told.records.iter().map(record_text).collect();
        // Tasks that expire at one instant do so in any order.
        told.chunk_by_mut(|one, other| [one, other].iter().all(|text| text.contains("TimedOut")))
            .for_each(<[String]>::sort);
        all.extend(told);
        let page = PageRequest { page: 1, size: 100 };
        let gauges =
            self.world.engine().for_caller(self.world.org(0)).gauge_list(GaugeFilter::default(), page);
        all.extend(block_on(gauges).unwrap().items.iter().map(|gauge| format!("{gauge:?}")));
        all
    }
}

/// So many histories, unless `PROPTEST_CASES` says otherwise.
fn histories(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 1_000, ..default }
}

proptest! {
    #![proptest_config(histories(20))]

    #[test]
    fn a_group_ends_as_if_its_jobs_had_run_one_by_one(
        groups in proptest::collection::vec(
            (proptest::collection::vec(step(), 1..12), prop_oneof![Just(1_i64), Just(30_000), Just(60_000)]), 1..8)
    ) {
        let (mut postgres, mut sqlite) = (Side::new(PostgresBackend::new()), Side::new(SqliteBackend::new()));
        for (steps, pass_ms) in groups {
            // A sweep is not decided by the group alone: it looks before it writes.
            let (sweeps, steps): (Vec<_>, Vec<_>) = steps.into_iter().partition(|step| matches!(step, Step::Sweep));
            // On PostgreSQL what a group stores is given out by the next one at the earliest.
            let (reads, steps): (Vec<_>, Vec<_>) = steps.into_iter().partition(|step| matches!(step, Step::Read { .. }));
            prop_assert_eq!(postgres.group(&steps), sqlite.group(&steps));
            prop_assert_eq!(postgres.group(&reads), sqlite.group(&reads));
            if !sweeps.is_empty() {
                postgres.world.sweep();
                sqlite.world.sweep();
            }
            postgres.world.pass_ms(pass_ms);
            sqlite.world.pass_ms(pass_ms);
        }
        prop_assert_eq!(postgres.stored(), sqlite.stored());
    }
}
