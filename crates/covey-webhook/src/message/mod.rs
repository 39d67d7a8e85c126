//! A record as a message: method, URL, headers and body.

mod header;

use covey_api::{CloudEvent, Record as RecordView, ResultMessage};
use covey_core::record::{Change, Record, RecordTask};
use covey_core::webhook::{Endpoint, WebhookFormat};
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use crate::target::with_segment;

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLOUD_EVENT: HeaderValue = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");

/// The id under which a record is sent, the same each time and to everyone: a
/// receiver can tell by it what it has had.
pub(crate) fn message_id(record: &Record) -> String {
    format!("{}_{}", beginning(&record.change), record.number.0)
}

fn beginning(change: &Change) -> &'static str {
    match change {
        Change::Event(_) => "evt",
        Change::Result { .. } => "res",
        Change::Task { .. } => "tsk",
        Change::Presence { .. } => "prs",
        Change::Twin(_) => "twn",
    }
}

/// The message of a record for an endpoint, unsigned.
pub(crate) fn message(endpoint: &Endpoint, url: &Url, record: &Record, id: &str) -> Message {
    let spec = &endpoint.spec;
    let mut headers = HeaderMap::new();
    for (name, value) in &spec.headers.0 {
        // Both were checked when they were set.
        if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers.insert("x-msg-type", HeaderValue::from_static(spec.webhook_type.name()));
    headers.insert("x-device-id", HeaderValue::from(record.device.identity.device_id.0));
    let task = match &record.change {
        Change::Result { task, .. } | Change::Task { task, .. } => Some(task),
        _ => None,
    };
    if let Some(RecordTask { ext_task_id, .. }) = task {
        header::insert_text(&mut headers, "x-ext-id", ext_task_id);
    }
    let mut url = url.clone();
    if let Change::Result { task, result } = &record.change {
        url = with_segment(&url, &task.id.to_string());
        headers.insert("x-result-id", HeaderValue::from(result.id.0));
        headers.insert("x-status-code", HeaderValue::from(result.result.status_code));
    }
    if spec.device_id_in_path {
        url = with_segment(&url, &record.device.identity.device_id.0.to_string());
    }
    let (content_type, body) = match spec.format {
        WebhookFormat::Contract => (JSON, contract_body(record)),
        WebhookFormat::CloudEvents => (CLOUD_EVENT, json(&CloudEvent::of(record, id))),
    };
    headers.insert(CONTENT_TYPE, content_type);
    Message { url, headers, body }
}

/// The body as the contract has it (rest-api "Webhooks"); of what it does not
/// know, the change as streams tell it.
fn contract_body(record: &Record) -> Vec<u8> {
    match &record.change {
        Change::Event(event) => event.payload.as_bytes().to_vec(),
        Change::Result { result, .. } => json(&ResultMessage::of(&result.result.body)),
        Change::Task { .. } | Change::Presence { .. } | Change::Twin(_) => json(&RecordView::of(record)),
    }
}

/// Strings, numbers and JSON that was checked always serialise.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_api::RawValue;
    use covey_api::record_strategy::any_record;
    use covey_core::id::{OrgId, UnixMs};
    use covey_core::task::ResultBody;
    use covey_core::webhook::{EndpointId, EndpointSpec, WebhookSecret, WebhookType, sample};
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    fn made(webhook_type: WebhookType, format: WebhookFormat, change: impl FnOnce(&mut Record)) -> Message {
        let mut record = sample(webhook_type, OrgId(1), UnixMs(1_700_000_000_007)).unwrap();
        change(&mut record);
        sent(webhook_type, format, &record)
    }

    fn sent(webhook_type: WebhookType, format: WebhookFormat, record: &Record) -> Message {
        let mut spec = EndpointSpec::new(webhook_type, "https://r.example/hook");
        spec.headers.0.push(("Authorization".to_owned(), "Bearer x".to_owned()));
        spec.format = format;
        to(spec, record)
    }

    fn to(spec: EndpointSpec, record: &Record) -> Message {
        let url = Url::parse(&spec.url.0).unwrap();
        let endpoint = Endpoint {
            id: EndpointId(1),
            org: OrgId(1),
            version: 1,
            is_default: true,
            spec,
            secret: WebhookSecret::new(""),
            old_secret: None,
            created_at: UnixMs(0),
            updated_at: UnixMs(0),
        };
        message(&endpoint, &url, record, &message_id(record))
    }

    fn body(message: &Message) -> Value {
        serde_json::from_slice(&message.body).unwrap()
    }

    #[test]
    fn a_result_and_an_event_are_sent_as_the_contract_has_it() {
        let result = made(WebhookType::TaskResult, WebhookFormat::Contract, |_| {});
        assert_eq!(result.url.as_str(), "https://r.example/hook/00000000-0000-0000-0000-000000000000");
        for (name, value) in [
            ("x-msg-type", "msg-task-result"),
            ("x-device-id", "0"),
            ("x-ext-id", "sample"),
            ("x-result-id", "0"),
            ("x-status-code", "200"),
            ("authorization", "Bearer x"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(result.headers[name], value, "{name}");
        }
        assert_eq!(result.body, br#"{"result":{"sample":true}}"#, "what the device sent, itself");
        for (sent, told) in [
            (ResultBody::Json(" [1.50, {}]".into()), r#"{"result":[1.50, {}]}"#),
            (ResultBody::Json("null".into()), r#"{"result":null}"#),
            (ResultBody::Text("not \"there\"".into()), r#"{"result":"not \"there\""}"#),
            (ResultBody::Empty, r#"{"result":null}"#),
        ] {
            let message = made(WebhookType::TaskResult, WebhookFormat::Contract, |record| {
                if let Change::Result { result, .. } = &mut record.change {
                    result.result.body = sent;
                }
            });
            assert_eq!(String::from_utf8(message.body).unwrap(), told);
        }
        let event = made(WebhookType::Event, WebhookFormat::Contract, |_| {});
        assert_eq!(event.url.as_str(), "https://r.example/hook");
        assert_eq!(event.headers["x-msg-type"], "msg-event");
        assert_eq!(event.body, br#"{"101":0,"200":0,"sample":true}"#, "exactly as it was sent");
    }

    #[test]
    fn the_path_of_an_event_ends_with_its_device_where_the_webhook_says_so() {
        let record = sample(WebhookType::Event, OrgId(1), UnixMs(1_700_000_000_007)).unwrap();
        let mut spec = EndpointSpec::new(WebhookType::Event, "https://r.example/hook?x=1");
        spec.device_id_in_path = true;
        for format in [WebhookFormat::Contract, WebhookFormat::CloudEvents] {
            spec.format = format;
            let sent = to(spec.clone(), &record);
            assert_eq!(sent.url.as_str(), "https://r.example/hook/0?x=1");
        }
    }

    #[test]
    fn an_id_of_an_application_cannot_end_a_header() {
        let message = made(WebhookType::TaskResult, WebhookFormat::Contract, |record| {
            if let Change::Result { task, .. } = &mut record.change {
                task.ext_task_id = "a\r\nX-Evil: 1 ü%".to_owned();
            }
        });
        assert_eq!(message.headers["x-ext-id"], "a%0D%0AX-Evil: 1 %C3%BC%25");
        assert_eq!(message.headers["x-ext-id-encoding"], "percent");
        assert!(!message.headers.contains_key("x-evil"));
    }

    #[test]
    fn cloud_events_carry_the_change_as_streams_tell_it() {
        for (webhook_type, name, part) in [
            (WebhookType::Event, "covey.event", "event"),
            (WebhookType::TaskResult, "covey.result", "result"),
            (WebhookType::Task, "covey.task", "task"),
            (WebhookType::Presence, "covey.presence", "presence"),
            (WebhookType::Twin, "covey.twin", "twin"),
        ] {
            let message = made(webhook_type, WebhookFormat::CloudEvents, |_| {});
            assert_eq!(message.headers["content-type"], CLOUD_EVENT);
            let event = body(&message);
            assert_eq!((&event["specversion"], &event["type"]), (&json!("1.0"), &json!(name)));
            assert_eq!(event["time"], "2023-11-14T22:13:20.007Z");
            assert_eq!(
                (&event["subject"], &event["source"]),
                (&json!("sample-device"), &json!("/api/v1/devices/0"))
            );
            assert!(event["data"][part].is_object(), "{event}");
            assert!(event["id"].as_str().unwrap().ends_with("_0"));
        }
    }

    /// The member of a CloudEvent that holds the record, byte for byte.
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }

    /// The body of a message about a result.
    #[derive(Deserialize)]
    struct Told<'a> {
        #[serde(borrow)]
        result: &'a RawValue,
    }

    proptest! {
        #[test]
        fn a_webhook_sends_the_record_of_the_api(record in any_record()) {
            let record_json = RecordView::of(&record).to_json();
            let event = sent(WebhookType::Task, WebhookFormat::CloudEvents, &record);
            let Data { data } = serde_json::from_slice(&event.body).unwrap();
            prop_assert_eq!(data.get(), &record_json);
            let body = sent(WebhookType::Task, WebhookFormat::Contract, &record).body;
            match &record.change {
                Change::Event(event) => prop_assert_eq!(body, event.payload.as_bytes()),
                Change::Result { result, .. } => {
                    let Told { result: told } = serde_json::from_slice(&body).unwrap();
                    match &result.result.body {
                        ResultBody::Empty => prop_assert_eq!(told.get(), "null"),
                        ResultBody::Json(json) => prop_assert_eq!(told.get(), json.trim()),
                        ResultBody::Text(text) => {
                            prop_assert_eq!(serde_json::from_str::<String>(told.get()).unwrap(), &**text);
                        }
                    }
                }
                _ => prop_assert_eq!(body, record_json.as_bytes()),
            }
        }
    }
}
