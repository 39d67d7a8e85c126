//! Histories of what devices tell, compared with a model written from the text of
//! device-events "Duplicates" and "Gauges" and rest-api "Events": which events
//! are stored, what callers are given next, and what the outbox tells of it all.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use covey_core::access::Caller;
use covey_core::device::DeviceIdentity;
use covey_core::event::{AddedEvent, EventFilter, EventTypes, EventsFrom, GaugeFilter, NewEvent, Reported};
use covey_core::id::{CallerId, RecordNumber, UnixMs};
use covey_core::port::PageRequest;
use covey_core::record::{Change, RecordReader, RecordRequest, TwinSide};
use futures_executor::block_on;
use proptest::prelude::*;

use super::{DEVICES, org_of};
use crate::world::parts::BEGIN;
use crate::world::{Backend, World};

/// A type that is a gauge, and one that is not.
const TYPES: [i64; 2] = [44, 2];

/// An event as it is drawn. Few numbers and few seconds, so that many are equal.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    device: usize,
    type_code: i64,
    number: u32,
    second: i64,
    body: u8,
    reports: bool,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// These share a transaction.
    Tell(Vec<Drawn>),
    Next {
        org: usize,
        caller: i64,
        device: Option<usize>,
        limit: u32,
    },
    Pass(i64),
    Restart,
}

pub fn actions() -> impl Strategy<Value = Vec<Action>> {
    let gauges = prop_oneof![1 => Just(TYPES[0]), 4 => Just(TYPES[1])];
    let drawn = (0..DEVICES, gauges, 0..5_u32, 0..2_i64, any::<u8>(), prop::bool::weighted(0.2)).prop_map(
        |(device, type_code, number, second, body, reports)| Drawn {
            device,
            type_code,
            number,
            second,
            body,
            reports,
        },
    );
    let next = (0..2_usize, 1..3_i64, prop::option::of(0..DEVICES), 1..5_u32)
        .prop_map(|(org, caller, device, limit)| Action::Next { org, caller, device, limit });
    let action = prop_oneof![
        8 => proptest::collection::vec(drawn, 1..6).prop_map(Action::Tell),
        6 => next,
        2 => (1..5_000_i64).prop_map(Action::Pass),
        1 => Just(Action::Restart),
    ];
    proptest::collection::vec(action, 1..50)
}

impl Drawn {
    fn payload(self) -> String {
        format!(r#"{{"body": {}}}"#, self.body)
    }

    fn event(self) -> NewEvent {
        let reported = Reported { resource: "lamp".to_owned(), value: self.body.to_string().into() };
        NewEvent {
            type_code: self.type_code,
            dev_event_id: self.number,
            dev_timestamp: Some(UnixMs(BEGIN.0 + self.second * 1_000)),
            correlation: None,
            payload: self.payload().into(),
            reported: self.reports.then_some(reported).into_iter().collect(),
        }
    }

    /// "duplicates … (SN, dev_event_id, dev_timestamp)"; one without a number is none.
    fn repeats(self, other: Self) -> bool {
        self.number != 0
            && (self.device, self.number, self.second) == (other.device, other.number, other.second)
    }
}

/// What a record is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Event { device: usize, payload: String },
    Reported { device: usize, value: String, version: i64 },
}

#[derive(Default)]
struct Model {
    stored: Vec<Drawn>,
    /// The last body of each device.
    gauges: BTreeMap<usize, String>,
    /// How often each device's twin was reported, and the values.
    reports: BTreeMap<usize, Vec<String>>,
    /// How many events were given for each way of asking.
    given: BTreeMap<(usize, i64, Option<usize>), usize>,
    told: Vec<Told>,
}

impl Model {
    fn tell(&mut self, drawn: Drawn) -> AddedEvent {
        let Drawn { device, .. } = drawn;
        if drawn.type_code == TYPES[0] {
            self.gauges.insert(device, drawn.payload());
        } else if self.stored.iter().any(|known| drawn.repeats(*known)) {
            return AddedEvent::Duplicate;
        } else {
            self.stored.push(drawn);
            self.told.push(Told::Event { device, payload: drawn.payload() });
        }
        if drawn.reports {
            let reports = self.reports.entry(device).or_default();
            reports.push(drawn.body.to_string());
            let version = i64::try_from(reports.len()).unwrap();
            self.told.push(Told::Reported { device, value: drawn.body.to_string(), version });
        }
        if drawn.type_code == TYPES[0] { AddedEvent::Gauge } else { AddedEvent::Stored }
    }

    fn next(&mut self, org: usize, caller: i64, device: Option<usize>, limit: u32) -> Vec<String> {
        let given = self.given.entry((org, caller, device)).or_default();
        let wanted = self
            .stored
            .iter()
            .filter(|one| org_of(one.device) == org && device.is_none_or(|of| one.device == of));
        let next: Vec<_> = wanted.skip(*given).take(limit as usize).map(|one| one.payload()).collect();
        *given += next.len();
        next
    }
}

struct Both {
    world: World,
    model: Model,
    devices: Vec<DeviceIdentity>,
}

impl Both {
    fn act(&mut self, action: Action) {
        match action {
            Action::Tell(drawn) => {
                let told = self.tell(&drawn);
                let expected: Vec<_> = drawn.into_iter().map(|one| self.model.tell(one)).collect();
                assert_eq!(told, expected);
            }
            // Another organisation's device may have the same number as one of its own.
            Action::Next { org, device: Some(device), .. } if org_of(device) != org => {}
            Action::Next { org, caller, device, limit } => {
                // A caller is one organisation's.
                let caller_id = CallerId(caller * 2 + i64::try_from(org).unwrap());
                let asking = Caller { id: caller_id, ..self.world.org(org).clone() };
                let of = device.map(|device| self.devices[device].device_id);
                let given = block_on(self.world.engine().for_caller(&asking).event_next(
                    of,
                    EventTypes::OfDevices,
                    None,
                    limit,
                ))
                .unwrap();
                let given: Vec<_> = given.iter().map(|event| event.payload.to_string()).collect();
                assert_eq!(given, self.model.next(org, caller, device, limit));
            }
            Action::Pass(ms) => self.world.pass_ms(ms),
            Action::Restart => self.world.restart(),
        }
    }

    fn tell(&self, drawn: &[Drawn]) -> Vec<AddedEvent> {
        let gate = self.world.hold_writer();
        let adding = drawn.iter().map(|one| {
            let device = &self.devices[one.device];
            Box::pin(self.world.engine().for_device(device).event_add(one.event(), one.type_code == TYPES[0]))
        });
        let mut adding: Vec<_> = adding.collect();
        for one in &mut adding {
            assert!(pin!(one).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        drop(gate);
        adding.into_iter().map(|one| block_on(one).unwrap()).collect()
    }

    fn compare(&self) {
        for org in 0..2 {
            let page = PageRequest { page: 1, size: 1_000 };
            let engine = self.world.engine();
            let listed = engine
                .for_caller(self.world.org(org))
                .event_list(EventFilter::default(), EventsFrom::Page(page));
            let listed = block_on(listed).unwrap();
            let found: Vec<_> = listed.items.iter().rev().map(|event| event.payload.to_string()).collect();
            let expected = self.model.stored.iter().filter(|one| org_of(one.device) == org);
            assert_eq!(found, expected.map(|one| one.payload()).collect::<Vec<_>>());
            assert_eq!(listed.total, Some(found.len() as u64));
            let gauges = engine.for_caller(self.world.org(org)).gauge_list(GaugeFilter::default(), page);
            let gauges = block_on(gauges).unwrap().items;
            let found: Vec<_> =
                gauges.iter().map(|gauge| (gauge.device_id, gauge.payload.to_string())).collect();
            let expected = self.model.gauges.iter().filter(|(device, _)| org_of(**device) == org);
            let expected = expected.map(|(device, body)| (self.devices[*device].device_id, body.clone()));
            assert_eq!(found, expected.collect::<Vec<_>>());
        }
        for (device, reports) in &self.model.reports {
            let (engine, org) = (self.world.engine(), self.world.org(org_of(*device)));
            let device_id = self.devices[*device].device_id;
            let history = engine.for_caller(org).twin_history(device_id, "lamp".to_owned(), None, 1_000);
            let history = block_on(history).unwrap();
            let found: Vec<_> = history.iter().rev().map(|one| (one.version, one.value.clone())).collect();
            let expected = (1..).zip(reports.iter().map(|value| Some(Arc::from(value.as_str()))));
            assert_eq!(found, expected.collect::<Vec<_>>());
        }
        // One organisation's changes keep their order; whose turn it is among several is the store's affair.
        let told = self.told();
        for org in 0..2 {
            let of_org = |told: &&Told| {
                let (Told::Event { device, .. } | Told::Reported { device, .. }) = told;
                org_of(*device) == org
            };
            let expected: Vec<_> = self.model.told.iter().filter(of_org).collect();
            assert_eq!(told.iter().filter(of_org).collect::<Vec<_>>(), expected);
        }
    }

    /// What the outbox tells, in its order.
    fn told(&self) -> Vec<Told> {
        let request = RecordRequest {
            org: None,
            after: RecordNumber(0),
            until: None,
            limit: 100_000,
            bytes_max: usize::MAX,
            with_tags: false,
        };
        let records = block_on(self.world.store().record_list_of_every_org(request)).unwrap().records;
        assert!(records.windows(2).all(|pair| pair[0].number < pair[1].number));
        let told = records.into_iter().map(|record| {
            let device = self.devices.iter().position(|one| *one == record.device.identity).unwrap();
            match record.change {
                Change::Event(event) => Told::Event { device, payload: event.payload.to_string() },
                Change::Twin(change) => {
                    assert_eq!((change.side, &*change.resource), (TwinSide::Reported, "lamp"));
                    let value = change.value.unwrap().to_string();
                    Told::Reported { device, value, version: change.version }
                }
                other => panic!("nothing else has happened: {other:?}"),
            }
        });
        told.collect()
    }
}

pub fn follow(backend: impl Backend, actions: Vec<Action>) {
    let world = World::new(backend);
    let devices = (0..DEVICES).map(|device| world.device(org_of(device))).collect();
    let mut both = Both { world, model: Model::default(), devices };
    actions.into_iter().for_each(|action| both.act(action));
    both.compare();
    both.act(Action::Restart);
    both.compare();
}
