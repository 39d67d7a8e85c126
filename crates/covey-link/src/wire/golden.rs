//! Every message that the server sends, byte for byte: devices in the field read exactly this.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use covey_core::id::{DeviceId, DeviceKey, OrgId, ResultId, Sn, TaskId, UnixMs};
use covey_core::task::{Task, TaskStatus};
use uuid::Uuid;

use super::{EventHead, EventStatus, Outbound, Qos};

const ID: Uuid = Uuid::from_u128(0x0190_1f2e_3d4c_7b5a_8877_6655_4433_2211);
/// 2026-01-31T12:00:00.123Z.
const CREATED: UnixMs = UnixMs(1_769_860_800_123);

fn task() -> Task {
    Task {
        id: TaskId(ID),
        seq: 3,
        org: OrgId(1),
        device: DeviceKey(5),
        device_id: DeviceId(77),
        sn: Sn::parse("a-1").unwrap(),
        ext_task_id: "order \"7\"".to_owned(),
        method_code: 51,
        method: None,
        priority: 9,
        payload: Some(r#"{"dt": [{"cl":5}], "ü":1.50}"#.into()),
        push_only: false,
        created_at: CREATED,
        expires_at: UnixMs(CREATED.0 + 90_500),
        status: TaskStatus::Ready,
        pending_at: None,
        locked_at: None,
        lease_until: None,
        deliveries: 0,
        results: 0,
        timeline: Vec::new(),
    }
}

fn bytes(message: &Outbound) -> String {
    let mut text = String::new();
    let qos = match message.qos {
        Qos::AtMostOnce => 0,
        Qos::AtLeastOnce => 1,
    };
    writeln!(text, "{} qos {qos} expiry {}", message.downlink.topic("a-1"), message.expiry_s).unwrap();
    writeln!(text, "correlation data {}", message.correlation).unwrap();
    for (name, value) in message.user_properties() {
        writeln!(text, "{name}: {value}").unwrap();
    }
    write!(text, "{}\n3.1.1 {}", message.body(), message.enveloped_body()).unwrap();
    text
}

fn check(message: &Outbound, expected: &str) {
    let expected: Vec<_> = expected.trim().lines().map(str::trim_start).collect();
    assert_eq!(bytes(message), expected.join("\n"));
}

#[test]
fn tsk_is_sent_byte_for_byte_as_ever() {
    check(
        &Outbound::announcement(&task(), CREATED),
        r#"
        srv/a-1/tsk qos 1 expiry 91
        correlation data 01901f2e-3d4c-7b5a-8877-665544332211
        method_code: 51
        correlationData: 01901f2e-3d4c-7b5a-8877-665544332211
        expires_at: 1769860890
        {"id":"01901f2e-3d4c-7b5a-8877-665544332211","created_at":1769860800,"header":{"ext_task_id":"order \"7\"","device_id":77,"method_code":51,"priority":9,"ttl":2}}
        3.1.1 {"correlationData":"01901f2e-3d4c-7b5a-8877-665544332211","method_code":51,"expires_at":1769860890,"payload":{"id":"01901f2e-3d4c-7b5a-8877-665544332211","created_at":1769860800,"header":{"ext_task_id":"order \"7\"","device_id":77,"method_code":51,"priority":9,"ttl":2}}}
        "#,
    );
    // A minute later, and with a name.
    let named = Task { method: Some("blink \"ü\"".to_owned()), payload: None, ..task() };
    check(
        &Outbound::announcement(&named, UnixMs(CREATED.0 + 60_000)),
        r#"
        srv/a-1/tsk qos 1 expiry 31
        correlation data 01901f2e-3d4c-7b5a-8877-665544332211
        method_code: 51
        method: blink "ü"
        correlationData: 01901f2e-3d4c-7b5a-8877-665544332211
        expires_at: 1769860890
        {"id":"01901f2e-3d4c-7b5a-8877-665544332211","created_at":1769860800,"header":{"ext_task_id":"order \"7\"","device_id":77,"method_code":51,"priority":9,"ttl":1}}
        3.1.1 {"correlationData":"01901f2e-3d4c-7b5a-8877-665544332211","method_code":51,"method":"blink \"ü\"","expires_at":1769860890,"payload":{"id":"01901f2e-3d4c-7b5a-8877-665544332211","created_at":1769860800,"header":{"ext_task_id":"order \"7\"","device_id":77,"method_code":51,"priority":9,"ttl":1}}}
        "#,
    );
}

#[test]
fn rsp_is_sent_byte_for_byte_as_ever() {
    check(
        &Outbound::response(&task(), CREATED),
        r#"
        srv/a-1/rsp qos 1 expiry 91
        correlation data 01901f2e-3d4c-7b5a-8877-665544332211
        method_code: 51
        correlationData: 01901f2e-3d4c-7b5a-8877-665544332211
        expires_at: 1769860890
        {"dt": [{"cl":5}], "ü":1.50}
        3.1.1 {"correlationData":"01901f2e-3d4c-7b5a-8877-665544332211","method_code":51,"expires_at":1769860890,"payload":{"dt": [{"cl":5}], "ü":1.50}}
        "#,
    );
    // Without parameters, with a name, and at its very end: it still lives for a second.
    let named = Task { method_code: 0, method: Some("blink".to_owned()), payload: None, ..task() };
    check(
        &Outbound::response(&named, UnixMs(CREATED.0 + 90_500)),
        r#"
        srv/a-1/rsp qos 1 expiry 1
        correlation data 01901f2e-3d4c-7b5a-8877-665544332211
        method_code: 0
        method: blink
        correlationData: 01901f2e-3d4c-7b5a-8877-665544332211
        expires_at: 1769860890
        {}
        3.1.1 {"correlationData":"01901f2e-3d4c-7b5a-8877-665544332211","method_code":0,"method":"blink","expires_at":1769860890,"payload":{}}
        "#,
    );
    check(
        &Outbound::nothing_to_do(),
        r#"
        srv/a-1/rsp qos 0 expiry 180
        correlation data 00000000-0000-0000-0000-000000000000
        method_code: 0
        correlationData: 00000000-0000-0000-0000-000000000000
        {"method_code":0}
        3.1.1 {"correlationData":"00000000-0000-0000-0000-000000000000","method_code":0,"payload":{"method_code":0}}
        "#,
    );
}

#[test]
fn cmt_is_sent_byte_for_byte_as_ever() {
    check(
        &Outbound::committed(TaskId(ID), ResultId(42), -3),
        r#"
        srv/a-1/cmt qos 1 expiry 10800
        correlation data 01901f2e-3d4c-7b5a-8877-665544332211
        result_id: 42
        ext_id: -3
        correlationData: 01901f2e-3d4c-7b5a-8877-665544332211
        {"message":"committed"}
        3.1.1 {"correlationData":"01901f2e-3d4c-7b5a-8877-665544332211","result_id":42,"ext_id":-3,"payload":{"message":"committed"}}
        "#,
    );
}

#[test]
fn eva_is_sent_byte_for_byte_as_ever() {
    let head = EventHead { type_code: 13, dev_event_id: u32::MAX, correlation: Some(ID) };
    check(
        &Outbound::event_answer(&head, EventStatus::Success),
        r#"
        srv/a-1/eva qos 0 expiry 180
        correlation data 01901f2e-3d4c-7b5a-8877-665544332211
        event_type_code: 13
        dev_event_id: 4294967295
        correlationData: 01901f2e-3d4c-7b5a-8877-665544332211
        {"status":"success"}
        3.1.1 {"correlationData":"01901f2e-3d4c-7b5a-8877-665544332211","event_type_code":13,"dev_event_id":4294967295,"payload":{"status":"success"}}
        "#,
    );
    check(
        &Outbound::event_answer(&EventHead { correlation: None, ..head }, EventStatus::Error),
        r#"
        srv/a-1/eva qos 0 expiry 180
        correlation data 00000000-0000-0000-0000-000000000000
        event_type_code: 13
        dev_event_id: 4294967295
        correlationData: 00000000-0000-0000-0000-000000000000
        {"status":"error"}
        3.1.1 {"correlationData":"00000000-0000-0000-0000-000000000000","event_type_code":13,"dev_event_id":4294967295,"payload":{"status":"error"}}
        "#,
    );
}
