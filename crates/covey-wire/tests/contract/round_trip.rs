//! What one side encodes, the other decodes to the same.

use covey_wire::downlink::{
    self, Announcement, Commit, Decoded, DownlinkMessage, EventAnswer, EventStatus, Parameters, ResponseForm,
    Task,
};
use covey_wire::uplink::{
    self, Carrier, EVENT_TYPE_CODE_MAX, EventHead, Received, ResultBody, TaskMessage, UplinkProperties,
    read_event,
};
use covey_wire::{Correlation, Downlink};
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

/// The end of the year 9999, in Unix seconds.
const END_S: i64 = 253_402_300_800;

fn id() -> impl Strategy<Value = Uuid> {
    (1..=u128::MAX).prop_map(Uuid::from_u128)
}

/// As a device reads a message of the server.
fn at_device<R>(message: &DownlinkMessage, look: impl FnOnce(Decoded<'_>) -> R) -> R {
    let user: Vec<_> = message.user_properties().map(|(name, value)| (name.to_owned(), value)).collect();
    let properties = downlink::Properties {
        correlation_data: Some(message.correlation.as_bytes()),
        expiry_s: Some(message.expiry_s),
        user: &user,
    };
    look(downlink::decode(message.downlink, properties, message.body().as_bytes()).unwrap())
}

/// As a device without properties reads it: each is a member beside the payload.
fn assert_envelope_says_the_same(message: &DownlinkMessage) {
    let body = message.enveloped_body();
    let mut envelope: Value = serde_json::from_str(&body).unwrap();
    if message.downlink == Downlink::Tsk {
        // It says what waits, within what a small device can take: the rest is in `rsp`.
        let packet_bytes = 14 + body.len();
        assert!(packet_bytes <= 128, "{packet_bytes} bytes beside the serial number: {body}");
        assert!(envelope.get("method").is_none() && envelope.get("payload").is_none());
        if let Some((_, method)) = message.user_properties().find(|(name, _)| *name == "method") {
            envelope["method"] = method.into();
        }
        envelope["payload"] = serde_json::from_str(message.body()).unwrap();
    }
    for (name, value) in message.user_properties() {
        let member = &envelope[name];
        let text = member.as_str().map_or_else(|| member.to_string(), str::to_owned);
        assert_eq!(text, value, "{name}");
    }
    assert_eq!(envelope["payload"], serde_json::from_str::<Value>(message.body()).unwrap());
    assert_eq!(envelope.as_object().unwrap().len(), message.user_properties().count() + 1);
}

/// As the server reads a message of a device.
fn at_server<'a>(properties: &'a UplinkProperties, body: &'a [u8]) -> Received<'a> {
    let mut given = uplink::Properties {
        correlation_data: properties.correlation_data.as_deref().map(str::as_bytes),
        ..uplink::Properties::default()
    };
    for (name, value) in &properties.user {
        given.put_user_property(name, value);
    }
    Received { carrier: Carrier::Properties(given), body }
}

/// As it reads the same of a device without properties.
fn envelope(properties: &UplinkProperties, body: &str) -> String {
    let mut members = serde_json::Map::new();
    members.extend(properties.correlation_data.clone().map(|id| ("correlationData".to_owned(), id.into())));
    members.extend(properties.user.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())));
    members.insert("payload".to_owned(), serde_json::from_str(body).unwrap());
    Value::Object(members).to_string()
}

proptest! {
    #[test]
    fn a_device_reads_what_the_server_says_of_a_task(
        id in id(), method_code in any::<u16>(), method in any::<Option<String>>(), priority in 0..=9_u8,
        ext_task_id in any::<String>(), created_at_s in 0..END_S, left_ms in 1..2_700_000_000_i64,
        parameter in any::<i64>(),
    ) {
        let payload = serde_json::json!({ "dt": [{ "cl": parameter }] }).to_string();
        let task = Task {
            id, ext_task_id: &ext_task_id, device_id: 7, method_code, method: method.as_deref(), priority,
            payload: Some(&payload), created_at_ms: created_at_s * 1_000,
            expires_at_ms: created_at_s * 1_000 + left_ms, left_ms, status: 2, pending_at_ms: None,
            locked_at_ms: Some(created_at_s * 1_000),
        };
        let announcement = DownlinkMessage::announcement(&task);
        at_device(&announcement, |said| {
            assert_eq!(said, Decoded::Announced(Announcement { task_id: id, priority: Some(priority) }));
        });
        assert_envelope_says_the_same(&announcement);
        let response = DownlinkMessage::response(&task, ResponseForm::Payload);
        let expires_at_s = u64::try_from(created_at_s + left_ms / 1_000).unwrap();
        at_device(&response, |said| {
            assert_eq!(said, Decoded::Parameters(Parameters {
                task_id: id, method_code, method: method.as_deref(), expires_at_s: Some(expires_at_s),
                expiry_s: Some(u32::try_from((left_ms + 999) / 1_000).unwrap()),
            }));
        });
        prop_assert_eq!(response.body(), payload.as_str());
        for form in [ResponseForm::Payload, ResponseForm::Envelope] {
            let body = DownlinkMessage::response(&task, form).body().to_owned();
            prop_assert_eq!(downlink::parameters(id, body.as_bytes()), payload.as_bytes());
            // Of another task it is what it is.
            prop_assert_eq!(downlink::parameters(Uuid::nil(), body.as_bytes()), body.as_bytes());
        }
        assert_envelope_says_the_same(&response);
    }

    #[test]
    fn a_device_reads_what_is_stored(id in id(), result_id in any::<i64>(), ext_id in any::<i64>(),
                                     type_code in 1..=EVENT_TYPE_CODE_MAX, dev_event_id in 1..=u32::MAX,
                                     correlation in proptest::option::of(id()), is_stored in any::<bool>()) {
        let commit = DownlinkMessage::committed(id, result_id, ext_id);
        at_device(&commit, |said| {
            let commit = Commit { task_id: id, ext_id: Some(ext_id), result_id: Some(result_id) };
            assert_eq!(said, Decoded::Committed(commit));
        });
        assert_envelope_says_the_same(&commit);
        let status = if is_stored { EventStatus::Success } else { EventStatus::Error };
        let head = EventHead { type_code, dev_event_id, correlation };
        let answer = DownlinkMessage::event_answer(&head, status);
        at_device(&answer, |said| {
            let type_code = u32::try_from(type_code).ok();
            assert_eq!(said, Decoded::EventAnswer(EventAnswer { dev_event_id, type_code, is_stored }));
        });
        assert_envelope_says_the_same(&answer);
    }

    #[test]
    fn the_server_reads_what_a_device_says_of_a_task(id in id(), status_code in any::<u16>(),
                                                     ext_id in any::<i32>(), value in any::<i64>()) {
        let (ext_id, task) = (i64::from(ext_id), Ok(Correlation::Task(id)));
        let request = uplink::request(id);
        prop_assert_eq!(TaskMessage::read(at_server(&request, b"")).unwrap().correlation(), task);
        let result = uplink::result(id, status_code, ext_id);
        let body = serde_json::json!({ "value": value }).to_string();
        let enveloped = envelope(&result, &body);
        let in_envelope = Received { carrier: Carrier::Envelope, body: enveloped.as_bytes() };
        for received in [at_server(&result, body.as_bytes()), in_envelope] {
            let message = TaskMessage::read(received).unwrap();
            prop_assert_eq!(message.correlation(), task);
            let read = message.result().unwrap();
            prop_assert_eq!((read.status_code, read.ext_id), (i64::from(status_code), ext_id));
            prop_assert_eq!(read.body, ResultBody::Json(body.as_str().into()));
        }
    }

    #[test]
    fn the_server_reads_what_a_device_says_of_an_event(
        type_code in 0..=i32::MAX as u32, dev_event_id in any::<u32>(), at_s in 0..100_000_000_000_u64,
        correlation in proptest::option::of(id()), value in any::<i64>(),
    ) {
        let properties = uplink::event(type_code, dev_event_id, at_s, correlation);
        let body = serde_json::json!({ "300": value, "reported": { "lamp": value } }).to_string();
        let enveloped = envelope(&properties, &body);
        let in_envelope = Received { carrier: Carrier::Envelope, body: enveloped.as_bytes() };
        for received in [at_server(&properties, body.as_bytes()), in_envelope] {
            let event = read_event(received).unwrap();
            prop_assert_eq!(event.head(), EventHead { type_code: type_code.into(), dev_event_id, correlation });
            prop_assert_eq!(event.dev_timestamp_ms, Some(i64::try_from(at_s).unwrap() * 1_000));
            prop_assert_eq!(event.payload, body.as_str());
            prop_assert_eq!(event.reported.len(), 1);
        }
    }

    #[test]
    fn a_device_takes_rubbish_without_a_panic(native in any::<Option<Vec<u8>>>(), body in any::<Vec<u8>>(),
                                              user in proptest::collection::vec((0..8_usize, any::<String>()), 0..6)) {
        let names = ["correlationData", "method_code", "method", "expires_at", "result_id", "ext_id",
                     "event_type_code", "dev_event_id"];
        let user: Vec<_> = user.into_iter().map(|(place, value)| (names[place].to_owned(), value)).collect();
        let properties =
            downlink::Properties { correlation_data: native.as_deref(), expiry_s: None, user: &user };
        for downlink in covey_wire::Downlink::ALL {
            let _ = downlink::decode(downlink, properties, &body);
        }
    }
}

#[test]
fn nothing_to_do_and_a_poll_name_no_task() {
    at_device(&DownlinkMessage::nothing_to_do(), |said| assert_eq!(said, Decoded::NothingToDo));
    assert_envelope_says_the_same(&DownlinkMessage::nothing_to_do());
    let poll = uplink::request(Uuid::nil());
    assert_eq!(TaskMessage::read(at_server(&poll, b"")).unwrap().correlation(), Ok(Correlation::Poll));
}
