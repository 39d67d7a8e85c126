//! Random interleavings of everything that applications, devices, networks,
//! time and crashes can do, compared step by step with a model of the contract.

use covey_core::Error;
use covey_core::device::DeviceIdentity;
use covey_core::id::{RecordNumber, TaskId, UnixMs};
use covey_core::limits::Limits;
use covey_core::record::{Change, RecordReader, RecordRequest};
use covey_core::task::{ResultNotStored, Task, TaskFilter, TaskSpec};
use futures_executor::block_on;
use proptest::prelude::*;

use super::contract::{EXPIRED, Finished, LATE_RESULTS_MAX, Model, Sent};
use super::windows::Windows;
use super::{DEVICES, org_of};
use crate::world::{Backend, World, connection, lasting, result};

/// So small that windows are often full.
const ANNOUNCEMENTS_MAX: u32 = 2;

/// What a device says of a task.
#[derive(Clone, Debug)]
pub enum Message<T> {
    Ack(T),
    Request(T),
    Poll,
    Result(T, Sent),
    /// Not the device but its link: the task is too large for it.
    TooLarge(T),
}

impl Message<usize> {
    /// The message about the task at its place, if there is one.
    fn about(self, task: impl Fn(usize) -> Option<TaskId>) -> Option<Message<TaskId>> {
        Some(match self {
            Self::Ack(place) => Message::Ack(task(place)?),
            Self::Request(place) => Message::Request(task(place)?),
            Self::Poll => Message::Poll,
            Self::Result(place, sent) => Message::Result(task(place)?, sent),
            Self::TooLarge(place) => Message::TooLarge(task(place)?),
        })
    }
}

#[derive(Clone, Debug)]
pub enum Action {
    Create {
        device: usize,
        priority: i64,
        ttl_minutes: i64,
    },
    Delete {
        org: usize,
        task: usize,
    },
    Say {
        device: usize,
        message: Message<usize>,
    },
    /// The network delivers an earlier message once more.
    Again(usize),
    Listen(usize),
    Disconnect(usize),
    Pass(i64),
    Sweep,
    Restart,
}

pub fn actions() -> impl Strategy<Value = Vec<Action>> {
    let task = || 0..64_usize;
    let sent = (0..2_i64, prop_oneof![Just(200), Just(206), Just(206), Just(404), Just(500)], 0..2_u8);
    let message = prop_oneof![
        2 => task().prop_map(Message::Ack),
        3 => task().prop_map(Message::Request),
        4 => Just(Message::Poll),
        5 => (task(), sent).prop_map(|(task, sent)| Message::Result(task, sent)),
        1 => task().prop_map(Message::TooLarge),
    ];
    let pass = prop_oneof![Just(1_i64), Just(10_000), Just(30_000), Just(59_999), Just(60_000)];
    let action = prop_oneof![
        8 => (0..DEVICES, 0..3_i64, 0..4_i64)
            .prop_map(|(device, priority, ttl_minutes)| Action::Create { device, priority, ttl_minutes }),
        1 => (0..2_usize, task()).prop_map(|(org, task)| Action::Delete { org, task }),
        14 => (0..DEVICES, message).prop_map(|(device, message)| Action::Say { device, message }),
        3 => task().prop_map(Action::Again),
        3 => (0..DEVICES).prop_map(Action::Listen),
        1 => (0..DEVICES).prop_map(Action::Disconnect),
        4 => pass.prop_map(Action::Pass),
        3 => Just(Action::Sweep),
        1 => Just(Action::Restart),
    ];
    proptest::collection::vec(action, 1..80)
}

/// The system and its model, side by side.
struct Both {
    world: World,
    model: Model,
    windows: Windows,
    devices: Vec<DeviceIdentity>,
    said: Vec<(usize, Message<TaskId>)>,
}

impl Both {
    fn new(backend: impl Backend) -> Self {
        let limits = Limits {
            announcements_max: ANNOUNCEMENTS_MAX,
            late_results_per_task_max: LATE_RESULTS_MAX,
            ..Limits::default()
        };
        let world = World::with_limits(backend, limits);
        let devices: Vec<_> = (0..DEVICES).map(|device| world.device(org_of(device))).collect();
        let model = Model { now: world.now().0, ..Model::default() };
        Self { world, model, windows: Windows::new(ANNOUNCEMENTS_MAX), devices, said: Vec::new() }
    }

    /// The task at a place, most recent first, so that messages often concern
    /// tasks that are still open.
    fn task(&self, place: usize) -> Option<TaskId> {
        let count = self.model.tasks.len();
        (count > 0).then(|| self.model.tasks[count - 1 - place % count].id)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Create { device, priority, ttl_minutes } => {
                let spec = TaskSpec { priority, ..lasting(&self.devices[device], ttl_minutes) };
                let made = self.world.create_as(org_of(device), spec).unwrap();
                self.model.create(made.id, device, priority, ttl_minutes);
            }
            Action::Delete { org, task } => self.delete(org, task),
            Action::Say { device, message } => {
                if let Some(message) = message.about(|place| self.task(place)) {
                    self.said.push((device, message));
                    self.say(self.said.len() - 1);
                }
            }
            Action::Again(earlier) => {
                if !self.said.is_empty() {
                    self.say(earlier % self.said.len());
                }
            }
            Action::Listen(device) => {
                self.windows.listen(device);
                self.world.engine().for_device(&self.devices[device]).connected(connection(""));
                self.world.engine().for_device(&self.devices[device]).subscribed(crate::world::LINK);
            }
            Action::Disconnect(device) => {
                self.windows.gone(device);
                self.world.engine().for_device(&self.devices[device]).disconnected(connection(""));
            }
            Action::Pass(ms) => {
                self.world.pass_ms(ms);
                self.model.pass_ms(ms);
            }
            Action::Sweep => {
                self.world.sweep();
                self.windows.swept(&self.model);
            }
            Action::Restart => {
                self.world.restart();
                (0..DEVICES).for_each(|device| self.windows.gone(device));
            }
        }
        self.world.announce();
        self.windows.check(&self.world.announced(), &self.model);
        self.compare();
    }

    fn delete(&mut self, org: usize, task: usize) {
        let Some(id) = self.task(task) else { return };
        let owner = self.model.tasks.iter().find(|task| task.id == id).unwrap().device;
        let deleted = self.world.delete(org, id);
        if org_of(owner) == org {
            deleted.unwrap();
            self.model.delete(id);
            self.windows.answered(owner, id);
        } else {
            assert_eq!(deleted.unwrap_err(), Error::not_found("task"));
        }
    }

    fn say(&mut self, number: usize) {
        let (device, message) = self.said[number].clone();
        let identity = &self.devices[device];
        match message {
            Message::Ack(id) => {
                assert_eq!(self.world.ack(identity, id).is_ok(), self.model.ack(device, id));
            }
            Message::Request(id) => {
                let given = self.world.request(identity, id).map(|task| task.id);
                assert_eq!(given, self.model.request(device, id));
                self.windows.answered(device, id);
            }
            Message::Poll => {
                let given = self.world.poll(identity).map(|task| task.id);
                assert_eq!(given, self.model.poll(device));
                given.into_iter().for_each(|id| self.windows.answered(device, id));
            }
            Message::Result(id, sent) => self.finish(device, id, sent),
            Message::TooLarge(id) => {
                let known = self.model.too_large(device, id);
                assert_eq!(self.world.too_large(identity, id).is_ok(), known);
                if known {
                    self.windows.answered(device, id);
                }
            }
        }
    }

    fn finish(&mut self, device: usize, id: TaskId, sent: Sent) {
        let (ext_id, status_code, body) = sent;
        let body = ["", "body"][usize::from(body)];
        let sent_result = result(status_code, ext_id, body);
        let outcome = self.world.finish(&self.devices[device], id, sent_result);
        let was_final = self.model.tasks.iter().any(|task| task.id == id && task.is_final());
        match self.model.finish(device, id, sent) {
            Finished::Unknown => assert_eq!(outcome.unwrap_err(), Error::not_found("task")),
            Finished::Repeated(number) => {
                let outcome = outcome.unwrap();
                assert!(outcome.duplicate && outcome.finished.is_none());
                assert_eq!(outcome.result_id, number);
                self.windows.answered(device, id);
            }
            Finished::New => {
                let outcome = outcome.unwrap();
                assert!(!outcome.duplicate);
                assert_eq!(outcome.finished.is_some(), !was_final && status_code != 206);
                self.model.stored(id, outcome.result_id, sent);
                self.windows.answered(device, id);
            }
            Finished::Late => {
                let outcome = outcome.unwrap();
                assert_eq!(outcome.not_stored, Some(ResultNotStored::Late));
                assert!(outcome.finished.is_none());
                self.windows.answered(device, id);
            }
        }
    }

    fn compare(&self) {
        let now = self.world.now();
        let mut counts = [0_u64; 8];
        for org in 0..2 {
            let mut listed = self.world.list(org, TaskFilter::default(), 1, 1_000).items;
            listed.reverse();
            let expected = self.model.tasks.iter().filter(|task| org_of(task.device) == org);
            assert_eq!(listed.len(), expected.clone().count());
            for (task, model) in listed.iter().zip(expected) {
                assert_eq!(task.id, model.id);
                assert_eq!(task.status_at(now).number(), model.status, "{task:?}\n{model:?}");
                assert_eq!(timeline(task, now), model.timeline, "{task:?}\n{model:?}");
                assert_eq!(task.results as usize, model.results.len());
                assert!(task.timeline.windows(2).all(|pair| pair[0].at <= pair[1].at), "{task:?}");
                counts[usize::from(task.status.number())] += 1;
            }
        }
        let stored = block_on(self.world.engine().server().task_counts_of_every_org()).unwrap();
        for count in stored {
            assert_eq!(count.count, counts[usize::from(count.status.number())], "{count:?}");
        }
    }

    /// The outbox tells each state and each result of a task, once and in their order.
    fn compare_records(&self) {
        let request = RecordRequest {
            org: None,
            after: RecordNumber(0),
            until: None,
            limit: 100_000,
            bytes_max: usize::MAX,
            with_tags: false,
        };
        let records = block_on(self.world.store().record_list_of_every_org(request)).unwrap().records;
        for model in &self.model.tasks {
            let (mut states, mut results) = (Vec::new(), Vec::new());
            for record in &records {
                match &record.change {
                    Change::Task { task, status, .. } if task.id == model.id => {
                        states.push(status.number());
                    }
                    Change::Result { task, result } if task.id == model.id => results.push(result.id),
                    _ => continue,
                }
                assert_eq!(record.device.identity, self.devices[model.device]);
            }
            let expected: Vec<_> = model.timeline.iter().map(|(_, status)| *status).collect();
            assert_eq!(states, expected, "{model:?}");
            assert_eq!(results, model.results.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        }
    }

    /// Results are compared at the end: nothing ever takes one away.
    fn compare_results(&self) {
        for model in &self.model.tasks {
            let detail = self.world.get_as(org_of(model.device), model.id).unwrap();
            let found: Vec<_> = detail.results.iter().rev().map(|one| (one.id, one.result.clone())).collect();
            let body = |sent: &Sent| ["", "body"][usize::from(sent.2)];
            let expected = model.results.iter().map(|(id, sent)| (*id, result(sent.1, sent.0, body(sent))));
            assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }
}

/// The states with their instants. That a task's time ran out may not be stored
/// yet, but holds from that instant on.
fn timeline(task: &Task, now: UnixMs) -> Vec<(i64, u8)> {
    let mut timeline: Vec<_> = task.timeline.iter().map(|change| (change.at.0, change.to.number())).collect();
    if task.is_overdue(now) {
        timeline.push((task.expires_at.0, EXPIRED));
    }
    timeline
}

pub fn follow(backend: impl Backend, actions: Vec<Action>) {
    let mut both = Both::new(backend);
    actions.into_iter().for_each(|action| both.act(action));
    both.act(Action::Sweep);
    both.act(Action::Restart);
    both.compare_results();
    both.compare_records();
}
