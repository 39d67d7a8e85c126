//! Every message of both sides, byte for byte: devices in the field send and read exactly this.

use std::fmt::Write as _;

use covey_wire::downlink::{DownlinkMessage, EventStatus, Qos, ResponseForm, Task};
use covey_wire::uplink::{self, EventHead, UplinkProperties};
use covey_wire::{Downlink, Uplink};
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(0x0190_1f2e_3d4c_7b5a_8877_6655_4433_2211);
/// 2026-01-31T12:00:00.123Z.
const CREATED_MS: i64 = 1_769_860_800_123;

fn task(left_ms: i64) -> Task<'static> {
    Task {
        id: ID,
        device_id: 77,
        ext_task_id: "order \"7\"",
        method_code: 51,
        method: None,
        priority: 9,
        payload: Some(r#"{"dt": [{"cl":5}], "ü":1.50}"#),
        created_at_ms: CREATED_MS,
        expires_at_ms: CREATED_MS + 90_500,
        left_ms,
        status: 2,
        pending_at_ms: None,
        locked_at_ms: Some(CREATED_MS + 1_000),
    }
}

fn bytes(message: &DownlinkMessage) -> String {
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

fn check(message: &DownlinkMessage, expected: &str) {
    let expected: Vec<_> = expected.trim().lines().map(str::trim_start).collect();
    assert_eq!(bytes(message), expected.join("\n"));
}

#[test]
fn tsk_is_sent_byte_for_byte_as_ever() {
    check(
        &DownlinkMessage::announcement(&task(90_500)),
        r#"
        srv/a-1/tsk qos 1 expiry 91
        correlation data 01901f2e-3d4c-7b5a-8877-665544332211
        method_code: 51
        correlationData: 01901f2e-3d4c-7b5a-8877-665544332211
        expires_at: 1769860890
        {"id":"01901f2e-3d4c-7b5a-8877-665544332211","created_at":1769860800,"header":{"ext_task_id":"order \"7\"","device_id":77,"method_code":51,"priority":9,"ttl":2}}
        3.1.1 {"correlationData":"01901f2e-3d4c-7b5a-8877-665544332211","method_code":51,"expires_at":1769860890}
        "#,
    );
    // A minute later, and with a name, which a 3.1.1 client sees in `rsp`.
    let named = Task { method: Some("blink \"ü\""), payload: None, ..task(30_500) };
    check(
        &DownlinkMessage::announcement(&named),
        r#"
        srv/a-1/tsk qos 1 expiry 31
        correlation data 01901f2e-3d4c-7b5a-8877-665544332211
        method_code: 51
        method: blink "ü"
        correlationData: 01901f2e-3d4c-7b5a-8877-665544332211
        expires_at: 1769860890
        {"id":"01901f2e-3d4c-7b5a-8877-665544332211","created_at":1769860800,"header":{"ext_task_id":"order \"7\"","device_id":77,"method_code":51,"priority":9,"ttl":1}}
        3.1.1 {"correlationData":"01901f2e-3d4c-7b5a-8877-665544332211","method_code":51,"expires_at":1769860890}
        "#,
    );
}

#[test]
fn a_small_device_gets_less_and_an_rsp_keeps_its_method_and_body() {
    let named = Task { method: Some("blink"), ..task(90_500) };
    let less = DownlinkMessage::response(&named, ResponseForm::Payload).smaller().unwrap();
    check(
        &less,
        r#"
        srv/a-1/rsp qos 1 expiry 91
        correlation data 01901f2e-3d4c-7b5a-8877-665544332211
        method_code: 51
        method: blink
        {"dt": [{"cl":5}], "ü":1.50}
        3.1.1 {"correlationData":"01901f2e-3d4c-7b5a-8877-665544332211","method_code":51,"method":"blink","expires_at":1769860890,"payload":{"dt": [{"cl":5}], "ü":1.50}}
        "#,
    );
    assert!(less.smaller().is_none());
    let without_body = DownlinkMessage::announcement(&named).smaller().unwrap();
    assert_eq!((without_body.body(), without_body.user_properties().count()), ("", 4));
    let bare = without_body.smaller().unwrap();
    assert_eq!((bare.body(), bare.user_properties().count()), ("", 0));
    assert!(bare.smaller().is_none());
}

#[test]
fn rsp_is_sent_byte_for_byte_as_ever() {
    check(
        &DownlinkMessage::response(&task(90_500), ResponseForm::Payload),
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
    let named = Task { method_code: 0, method: Some("blink"), payload: None, ..task(0) };
    check(
        &DownlinkMessage::response(&named, ResponseForm::Payload),
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
    let enveloped = Task { pending_at_ms: Some(CREATED_MS + 500), ..task(90_500) };
    check(
        &DownlinkMessage::response(&enveloped, ResponseForm::Envelope),
        r#"
        srv/a-1/rsp qos 1 expiry 91
        correlation data 01901f2e-3d4c-7b5a-8877-665544332211
        method_code: 51
        correlationData: 01901f2e-3d4c-7b5a-8877-665544332211
        expires_at: 1769860890
        {"id":"01901f2e-3d4c-7b5a-8877-665544332211","created_at":1769860800,"header":{"ext_task_id":"order \"7\"","device_id":77,"method_code":51,"priority":9,"ttl":2},"status":2,"pending_at":1769860800,"locked_at":1769860801,"payload":{"dt": [{"cl":5}], "ü":1.50}}
        3.1.1 {"correlationData":"01901f2e-3d4c-7b5a-8877-665544332211","method_code":51,"expires_at":1769860890,"payload":{"id":"01901f2e-3d4c-7b5a-8877-665544332211","created_at":1769860800,"header":{"ext_task_id":"order \"7\"","device_id":77,"method_code":51,"priority":9,"ttl":2},"status":2,"pending_at":1769860800,"locked_at":1769860801,"payload":{"dt": [{"cl":5}], "ü":1.50}}}
        "#,
    );
    let bare = DownlinkMessage::response(&Task { payload: None, ..enveloped }, ResponseForm::Envelope);
    assert!(bare.body().ends_with(r#","payload":{}}"#), "{}", bare.body());
    check(
        &DownlinkMessage::nothing_to_do(),
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
        &DownlinkMessage::committed(ID, 42, -3),
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
        &DownlinkMessage::event_answer(&head, EventStatus::Success),
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
        &DownlinkMessage::event_answer(&EventHead { correlation: None, ..head }, EventStatus::Error),
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

#[test]
fn ack_req_res_and_evt_are_sent_byte_for_byte_as_ever() {
    let text = |UplinkProperties { correlation_data, user }: UplinkProperties| {
        let user: Vec<_> = user.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        (correlation_data.unwrap_or_default(), user.join(", "))
    };
    let id = ID.to_string();
    assert_eq!(text(uplink::request(ID)), (id.clone(), String::new()));
    let poll = "00000000-0000-0000-0000-000000000000".to_owned();
    assert_eq!(text(uplink::request(Uuid::nil())), (poll, String::new()));
    let result = format!("status_code: 206, ext_id: -1, correlationData: {id}");
    assert_eq!(text(uplink::result(ID, 206, -1)), (id.clone(), result));
    let event = "event_type_code: 13, dev_event_id: 7, dev_timestamp: 1700000000";
    assert_eq!(text(uplink::event(13, 7, 1_700_000_000, None)), (String::new(), event.to_owned()));
    let correlated = format!("{event}, correlation_id: {id}");
    assert_eq!(text(uplink::event(13, 7, 1_700_000_000, Some(ID))), (String::new(), correlated));
}

#[test]
fn topics_are_spelt_as_ever() {
    assert_eq!(
        Uplink::ALL.map(|uplink| uplink.topic("a-1")),
        ["dev/a-1/ack", "dev/a-1/req", "dev/a-1/res", "dev/a-1/evt"]
    );
    assert_eq!(
        Downlink::ALL.map(|downlink| downlink.topic("a-1")),
        ["srv/a-1/tsk", "srv/a-1/rsp", "srv/a-1/cmt", "srv/a-1/eva"]
    );
}
