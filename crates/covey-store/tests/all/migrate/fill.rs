//! A site with a history: rows of every kind, made by the engine.

use std::sync::Arc;

use covey_core::access::Rights;
use covey_core::device::{DeviceIdentity, DeviceSpec, Tag};
use covey_core::device_session::{SessionContent, Subscription};
use covey_core::event::{EventTypes, NewEvent};
use covey_core::id::{Sn, TaskId, UnixMs};
use covey_core::node::{Admission, GatewayName, NodeAdmit, NodeName};
use covey_core::retention::RetentionClass;
use covey_core::task::{IdempotencyKey, NewResult, ResultBody, TaskSpec};
use covey_core::twin::TwinPatch;
use covey_core::unit::{UnitKind, UnitPlace, UnitSpec};
use futures_executor::block_on;
use uuid::{Builder, Uuid};

use super::random::Random;
use crate::world::{SERVER, World, connection, spec};

/// What can be asked for afterwards.
#[derive(Default)]
pub struct History {
    pub tasks: Vec<TaskId>,
    pub devices: Vec<(usize, DeviceIdentity)>,
    pub serials: Vec<(Sn, String)>,
    pub keys: Vec<String>,
}

const TEXTS: [&str; 6] = [
    "",
    "plain",
    "Küche 1 – \u{1f4a1}",
    "a\tb\n\"c\"\\d",
    "\u{202e}\u{10ffff}\u{fffd}",
    "'; DROP TABLE x; --",
];

/// Lets a site live for so many steps.
pub fn live(world: &World, seed: u64, steps: usize) -> History {
    let mut random = Random(seed);
    let mut history = History::default();
    for number in 0..4 {
        register(world, &mut history, &mut random, number);
    }
    for step in 0..steps {
        match random.below(32) {
            0 => register(world, &mut history, &mut random, 100 + step),
            1 => retire(world, &mut history, &mut random),
            2 => keys(world, &mut history, &mut random, step),
            3 | 4 => presence(world, &mut history, &mut random),
            5..=12 => create(world, &mut history, &mut random, step),
            13..=18 => say(world, &mut history, &mut random),
            19 => {
                let tasks = history.tasks.clone();
                // Refused where it is another organisation's.
                let _ = world.delete(random.below(2), random.one_of(&[&tasks[..], &[TaskId::NIL]].concat()));
            }
            20 | 21 => world.pass_ms(i64::try_from(random.below(90_000)).unwrap()),
            22 => world.sweep(),
            23..=26 => event(world, &mut history, &mut random, step),
            27..=29 => twin(world, &history, &mut random),
            30 => retention(world, &mut random),
            _ => world.pass_ms(1),
        }
    }
    nodes(world);
    units(world);
    super::hooks::fill(world);
    history
}

fn register(world: &World, history: &mut History, random: &mut Random, number: usize) {
    let org = random.below(2);
    let tags = (0..random.below(4)).map(|tag| Tag {
        tag: format!("tag {tag} {}", ["", "ä"][tag % 2]),
        value: [random.one_of(&TEXTS), &"💡".repeat(random.below(2) * 1_000)].concat(),
    });
    let tags = tags.collect();
    let spec =
        DeviceSpec { sn: Some(Sn::parse(&format!("sn_{number}-x")).unwrap()), tags, ..DeviceSpec::default() };
    if let Ok((device, serial)) = world.register(org, spec) {
        history.serials.push((device.identity.sn.clone(), serial));
        history.devices.push((org, device.identity));
    }
}

/// Nodes of every kind: listed, waiting, with a device of their own or for one connection.
fn nodes(world: &World) {
    for (number, text) in TEXTS.iter().cycle().take(24).enumerate() {
        let uid = format!("node {number} {}", text.replace(char::is_control, ""));
        let name = NodeName::parse(GatewayName::parse("coap").unwrap(), &uid).unwrap();
        let caller = world.org(number % 2);
        if number % 3 == 0 {
            block_on(world.engine().for_caller(caller).node_add(name)).unwrap();
            continue;
        }
        let asked = NodeAdmit {
            org: caller.org,
            name,
            address: "192.0.2.7".to_owned(),
            is_passing: number % 3 == 1 && number % 4 < 2,
            admission: if number % 3 == 1 { Admission::Open } else { Admission::Approve },
            server: SERVER.to_owned(),
        };
        block_on(world.engine().server().node_admit(asked)).unwrap();
    }
}

/// Units of both kinds, of which one organisation's are spoken with.
fn units(world: &World) {
    for number in 0..12_u8 {
        let address = match number % 3 {
            0 => format!("[2001:db8::{number}]:8888"),
            _ => format!("192.0.2.{number}:{}", 8_888 + u16::from(number)),
        };
        let place = UnitPlace {
            address: address.parse().unwrap(),
            kind: UnitKind::ALL[usize::from(number % 2)],
            resource: format!("value/{number}"),
        };
        let spec = UnitSpec { name: (number % 4 > 0).then(|| format!("unit {number} ä")), place };
        let caller = world.org(usize::from(number) % 2);
        block_on(world.engine().for_caller(caller).unit_add(spec)).unwrap();
    }
    assert!(block_on(world.engine().server().unit_gateway_claim(world.org(0).org, SERVER)).unwrap());
}

fn retire(world: &World, history: &mut History, random: &mut Random) {
    if history.devices.len() < 4 {
        return;
    }
    let (org, device) = history.devices.remove(random.below(history.devices.len()));
    block_on(world.engine().for_caller(world.org(org)).device_retire(device.device_id)).unwrap();
    // Every other one comes back under the same serial number.
    if random.below(2) == 0 {
        let spec = DeviceSpec { sn: Some(device.sn), ..DeviceSpec::default() };
        let (device, serial) = world.register(org, spec).unwrap();
        history.serials.push((device.identity.sn.clone(), serial));
        history.devices.push((org, device.identity));
    }
}

fn keys(world: &World, history: &mut History, random: &mut Random, step: usize) {
    let name = ["first", "second", "Dritte Organisation ß"][random.below(3)];
    let rights = Rights(u32::try_from(1 + random.below(31)).unwrap());
    let made =
        block_on(world.engine().for_caller(world.org(0)).api_key_add(name, &format!("key {step}"), rights))
            .unwrap();
    history.keys.push(made.clear_text.clone());
    if random.below(2) == 0 {
        block_on(world.engine().for_caller(world.org(0)).api_key_revoke(made.key.id)).unwrap();
    }
}

fn presence(world: &World, history: &mut History, random: &mut Random) {
    let (_, device) = random.one_of(&history.devices);
    let mut connection = connection(&format!("session {}", random.below(3)));
    connection.details = vec![("address".to_owned(), random.one_of(&TEXTS).to_owned())];
    if random.below(3) == 0 {
        let filter = random.one_of(&TEXTS).to_owned();
        let subscriptions = vec![Subscription { filter, qos: 1, identifier: 268_435_455 }];
        let content = SessionContent { subscriptions, expiry_s: 3_600 };
        // Of a device that has one already nothing is changed.
        block_on(world.engine().for_device(&device).session_put(0, content)).unwrap();
    }
    if random.below(2) == 0 {
        world.engine().for_device(&device).connected(connection);
    } else {
        world.engine().for_device(&device).disconnected(connection);
    }
}

/// Ids as the server makes them, as others do, and as nobody should.
fn id(world: &World, random: &mut Random, step: usize) -> TaskId {
    let bits = (u128::from(random.next()) << 64) | u128::from(random.next());
    TaskId(match random.below(3) {
        0 => Builder::from_unix_timestamp_millis(
            u64::try_from(world.now().0).unwrap(),
            bits.to_be_bytes()[..10].try_into().unwrap(),
        )
        .into_uuid(),
        1 => Builder::from_random_bytes(bits.to_be_bytes()).into_uuid(),
        _ => Uuid::from_u128(step as u128 + 1),
    })
}

fn create(world: &World, history: &mut History, random: &mut Random, step: usize) {
    let (org, device) = random.one_of(&history.devices);
    let payload = match random.below(5) {
        0 => None,
        1 => Some(format!("{{\"text\":\"\\u0000 {}\"}}", "ü".repeat(random.below(2_000)))),
        2 if random.below(8) == 0 => Some(format!("\"{}\"", "x".repeat(256 * 1024 - 2))),
        _ => Some(format!(r#"{{"dt":[{{"cl":{step}}}]}}"#)),
    };
    let spec = TaskSpec {
        ext_task_id: random.one_of(&TEXTS).to_owned(),
        method_code: i64::try_from(random.below(65_535)).unwrap(),
        method: [None, Some("öffne".to_owned())][random.below(2)].clone(),
        priority: i64::try_from(random.below(10)).unwrap(),
        ttl_minutes: random.one_of(&[0, 1, 1, 10, 44_639]),
        payload: payload.map(Into::into),
        ..spec(&device)
    };
    let key = IdempotencyKey { key: format!("k{}", random.below(50)), request_digest: [7; 32] };
    let key = (random.below(4) == 0).then_some(key);
    let made =
        block_on(world.engine().for_caller(world.org(org)).task_create(id(world, random, step), spec, key))
            .unwrap();
    // The answer to a repeated request is the task of the first.
    if !history.tasks.contains(&made.task.id) {
        history.tasks.push(made.task.id);
    }
}

/// Events with and without a number, gauges, repetitions, and callers who read.
fn event(world: &World, history: &mut History, random: &mut Random, step: usize) {
    let (org, device) = random.one_of(&history.devices);
    if random.below(5) == 0 {
        let of = (random.below(2) == 0).then_some(device.device_id);
        drop(
            block_on(world.engine().for_caller(world.org(org)).event_next(
                of,
                EventTypes::OfDevices,
                None,
                3,
            ))
            .unwrap(),
        );
    }
    let event = NewEvent {
        type_code: random.one_of(&[0, 2, 13, 44, 44, i64::from(i32::MAX)]),
        dev_event_id: random.one_of(&[0, u32::MAX, u32::try_from(step).unwrap()]),
        dev_timestamp: random.one_of(&[
            None,
            Some(UnixMs(-1)),
            Some(world.now().plus_ms(-86_400_000 * 40)),
            Some(world.now()),
        ]),
        correlation: random.one_of(&[None, Some(Uuid::from_u128(step as u128))]),
        payload: random.one_of(&["{}", r#"{ "a": "\u0000 💡 " , "b":1.50}"#]).into(),
        reported: Vec::new(),
    };
    for _ in 0..=random.below(2) {
        block_on(world.engine().for_device(&device).event_add(event.clone(), true)).unwrap();
    }
}

/// Values that come and go on both sides of a twin.
fn twin(world: &World, history: &History, random: &mut Random) {
    let (org, device) = random.one_of(&history.devices);
    let mut values = || {
        let names = ["a", "lamp/1"].iter().filter(|_| random.below(2) == 0);
        let names: Vec<_> = names.copied().collect();
        let value = random.one_of(&[None, Some(r#"{"b": 1.50, "c":"\u0000 💡"}"#), Some("3")]);
        names.into_iter().map(|name| (name.to_owned(), value.map(Arc::from))).collect::<Vec<_>>()
    };
    let patch = TwinPatch { reported: values(), desired: values(), ttl_minutes: 10, ..TwinPatch::default() };
    // One that changes nothing is refused.
    drop(block_on(world.engine().for_caller(world.org(org)).twin_patch(device.device_id, patch)));
}

fn retention(world: &World, random: &mut Random) {
    let (kept, ..) = random.one_of(&RetentionClass::NAMES);
    let days = random.one_of(&[None, Some(0), Some(30)]);
    let org = world.org(random.below(2));
    block_on(world.engine().for_caller(org).retention_put(vec![(kept, days)])).unwrap();
}

fn say(world: &World, history: &mut History, random: &mut Random) {
    let (_, device) = random.one_of(&history.devices);
    // Whatever a device says that it may not say is refused, and changes nothing.
    let recent = history.tasks.len().saturating_sub(20);
    let id = random.one_of(&[&history.tasks[recent..], &[TaskId::NIL]].concat());
    match random.below(4) {
        0 => drop(world.ack(&device, id)),
        1 => drop(world.request(&device, id)),
        _ => {
            let taken = world.poll(&device).map_or(id, |task| task.id);
            for _ in 0..random.below(4) {
                let body = match random.below(6) {
                    0 => ResultBody::Empty,
                    1 => ResultBody::Json(r#"{"a": "\u0000",  "b":1.50}"#.into()),
                    2 => ResultBody::Text("a\0b\0".into()),
                    3 if random.below(6) == 0 => ResultBody::Text("é".repeat(128 * 1024).into()),
                    _ => ResultBody::Text(random.one_of(&TEXTS).into()),
                };
                let status_code = random.one_of(&[200, 206, 206, 404, 500]);
                let ext_id = i64::try_from(random.below(5)).unwrap() - 2;
                drop(world.finish(&device, taken, NewResult { ext_id, status_code, body }));
            }
        }
    }
}
