//! Records of every kind for property tests, with payloads and results as odd
//! as devices may send them.

use std::sync::Arc;

use covey_core::device::DeviceIdentity;
use covey_core::event::{DeviceEvent, EventKey};
use covey_core::id::{DeviceId, DeviceKey, OrgId, RecordNumber, ResultId, Sn, TaskId, UnixMs};
use covey_core::presence::Reason;
use covey_core::record::{Change, Record, RecordDevice, RecordTask, TwinChange, TwinSide};
use covey_core::task::{Cause, NewResult, ResultBody, TaskResult, TaskStatus};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

/// JSON texts that a reader must not change: numbers, escapes, repeated names
/// and white space as a device may write them.
const OBJECTS: [&str; 4] = [
    "{}",
    "{ \"b\" : 1.50,\n\"a\":\"\\u00fc\\/\",\"a\":[ ] }",
    "{\"z\":12345678901234567890,\"e\":1e400}",
    "{\"text\":\"\u{2028}a\\r\\nb\"}",
];
const VALUES: [&str; 5] = ["true", "null", "[1e2,\r\n-0]", "\"\\ud83d\\ude00\"", "7"];

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}|[\\x01-\\x1f\"\\\\]{0,4}"
}

fn instant() -> impl Strategy<Value = UnixMs> {
    (-1_i64..=253_402_300_799_999).prop_map(UnixMs)
}

fn json() -> impl Strategy<Value = Arc<str>> {
    select([&OBJECTS[..], &VALUES[..]].concat()).prop_map(Arc::from)
}

fn task() -> impl Strategy<Value = RecordTask> {
    (any::<u128>(), text(), any::<u16>(), option::of(text()), option::of(text())).prop_map(
        |(id, ext_task_id, method_code, method, created_by)| RecordTask {
            id: TaskId(Uuid::from_u128(id)),
            ext_task_id,
            method_code,
            method,
            created_by: created_by.map(Arc::from),
        },
    )
}

fn result() -> impl Strategy<Value = TaskResult> {
    let body = prop_oneof![
        Just(ResultBody::Empty),
        json().prop_map(ResultBody::Json),
        text().prop_map(|text| ResultBody::Text(Arc::from(text))),
    ];
    (any::<i64>(), any::<i64>(), 0_i64..1_000, body, instant()).prop_map(
        |(id, ext_id, status_code, body, received_at)| TaskResult {
            id: ResultId(id),
            result: NewResult { ext_id, status_code, body },
            received_at,
        },
    )
}

fn event(identity: DeviceIdentity) -> impl Strategy<Value = DeviceEvent> {
    let key = (any::<u32>(), instant());
    let key = key.prop_map(|(dev_event_id, dev_timestamp)| EventKey { dev_event_id, dev_timestamp });
    let rest = (instant(), option::of(any::<u128>()), select(OBJECTS.to_vec()));
    (1_i64.., -2_i64..=2_147_483_647, key, rest).prop_map(
        move |(id, type_code, key, (received_at, correlation, payload))| {
            let DeviceIdentity { org, device, device_id, sn } = identity.clone();
            DeviceEvent {
                id: RecordNumber(id),
                org,
                device,
                device_id,
                sn,
                type_code,
                key,
                received_at,
                correlation: correlation.map(Uuid::from_u128),
                payload: Arc::from(payload),
            }
        },
    )
}

fn change(identity: DeviceIdentity) -> impl Strategy<Value = Change> {
    let status = select(TaskStatus::ALL.to_vec());
    let cause = select(Cause::NAMES.map(|(cause, _)| cause).to_vec());
    let reason = select(Reason::NAMES.map(|(reason, _)| reason).to_vec());
    let side = select(vec![TwinSide::Reported, TwinSide::Desired]);
    prop_oneof![
        (task(), status, cause).prop_map(|(task, status, cause)| Change::Task { task, status, cause }),
        (task(), result()).prop_map(|(task, result)| Change::Result { task, result }),
        event(identity).prop_map(Change::Event),
        (any::<bool>(), reason).prop_map(|(online, reason)| Change::Presence { online, reason }),
        (side, text(), option::of(json()), any::<i64>()).prop_map(|(side, resource, value, version)| {
            Change::Twin(TwinChange { side, resource, value, version })
        }),
    ]
}

/// Any record.
pub fn any_record() -> impl Strategy<Value = Record> {
    let identity =
        (any::<i64>(), 1_i64.., "[A-Za-z0-9_-]{1,64}").prop_filter_map("an SN", |(org, id, sn)| {
            let sn = Sn::parse(&sn).ok()?;
            Some(DeviceIdentity { org: OrgId(org), device: DeviceKey(id), device_id: DeviceId(id), sn })
        });
    identity.prop_flat_map(|identity| {
        (1_i64.., instant(), change(identity.clone())).prop_map(move |(number, at, change)| Record {
            number: RecordNumber(number),
            device: RecordDevice { identity: identity.clone(), tags: None },
            at,
            change,
        })
    })
}
