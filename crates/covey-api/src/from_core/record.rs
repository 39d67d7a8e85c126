//! Records of changes, and the messages of webhooks that carry them.

use std::borrow::Cow;

use covey_core::record::{self as core, Change};

use super::task::result_body;
use super::verbatim;
use crate::{CloudEvent, DeviceEvent, PresenceChange, Record, ResultChange, TaskStateChange, TwinChange};

impl<'a> Record<'a> {
    /// How a change looks.
    #[must_use]
    pub fn of(record: &'a core::Record) -> Self {
        let identity = &record.device.identity;
        let mut view = Self {
            id: record.number.0,
            kind: Cow::Borrowed(record.change.kind().name()),
            at: record.at.into(),
            device_id: identity.device_id.0,
            sn: Cow::Borrowed(identity.sn.as_str()),
            task: None,
            result: None,
            event: None,
            presence: None,
            twin: None,
        };
        match &record.change {
            Change::Task { task, status, cause } => {
                view.task = Some(TaskStateChange {
                    id: task.id.0,
                    ext_task_id: Cow::Borrowed(&task.ext_task_id),
                    method_code: task.method_code,
                    method: task.method.as_deref().map(Cow::Borrowed),
                    status: (*status).into(),
                    status_name: Cow::Borrowed(status.name()),
                    cause: Cow::Borrowed(cause.name()),
                    created_by: task.created_by.as_deref().map(Cow::Borrowed),
                });
            }
            Change::Result { task, result } => {
                view.result = Some(ResultChange {
                    task_id: task.id.0,
                    ext_task_id: Cow::Borrowed(&task.ext_task_id),
                    method_code: task.method_code,
                    id: result.id.0,
                    ext_id: result.result.ext_id,
                    status_code: result.result.status_code,
                    result: result_body(&result.result.body),
                    received_at: result.received_at.into(),
                    created_by: task.created_by.as_deref().map(Cow::Borrowed),
                });
            }
            Change::Event(event) => view.event = Some(DeviceEvent::of(event)),
            Change::Presence { online, reason } => {
                view.presence =
                    Some(PresenceChange { online: *online, reason: Cow::Borrowed(reason.name()) });
            }
            Change::Twin(change) => {
                view.twin = Some(TwinChange {
                    side: Cow::Borrowed(change.side.name()),
                    resource: Cow::Borrowed(&change.resource),
                    value: change.value.as_deref().map(verbatim),
                    version: change.version,
                });
            }
        }
        view
    }
}

impl<'a> CloudEvent<'a> {
    /// A record as a CloudEvent under the id of its message.
    #[must_use]
    pub fn of(record: &'a core::Record, id: &'a str) -> Self {
        let data = Record::of(record);
        Self {
            specversion: Cow::Borrowed("1.0"),
            id: Cow::Borrowed(id),
            source: format!("/api/v1/devices/{}", data.device_id),
            event_type: format!("covey.{}", data.kind),
            subject: data.sn.clone(),
            time: data.at,
            datacontenttype: Cow::Borrowed("application/json"),
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::id::{OrgId, UnixMs};
    use covey_core::webhook::{WebhookType, sample};

    use super::*;

    #[test]
    fn a_record_of_each_kind_keeps_its_bytes() {
        let head = |kind: &str| {
            let at = "2023-11-14T22:13:20.007Z";
            format!(r#"{{"id":0,"kind":"{kind}","at":"{at}","device_id":0,"sn":"sample-device","{kind}":"#)
        };
        for (webhook_type, kind, change) in [
            (
                WebhookType::Task,
                "task",
                r#"{"id":"00000000-0000-0000-0000-000000000000","ext_task_id":"sample","method_code":20,"method":null,"status":3,"status_name":"DONE","cause":"result","created_by":"sample"}"#,
            ),
            (
                WebhookType::TaskResult,
                "result",
                r#"{"task_id":"00000000-0000-0000-0000-000000000000","ext_task_id":"sample","method_code":20,"id":0,"ext_id":0,"status_code":200,"result":{"sample":true},"received_at":"2023-11-14T22:13:20.007Z","created_by":"sample"}"#,
            ),
            (
                WebhookType::Event,
                "event",
                r#"{"id":0,"device_id":0,"sn":"sample-device","event_type_code":0,"timestamp":"2023-11-14T22:13:20.007Z","received_at":"2023-11-14T22:13:20.007Z","dev_event_id":0,"correlation_id":null,"payload":{"101":0,"200":0,"sample":true},"created_at":"2023-11-14T22:13:20.007Z","dev_timestamp":"2023-11-14T22:13:20.007Z"}"#,
            ),
            (WebhookType::Presence, "presence", r#"{"online":true,"reason":"connected"}"#),
            (
                WebhookType::Twin,
                "twin",
                r#"{"side":"reported","resource":"sample","value":true,"version":1}"#,
            ),
        ] {
            let record = sample(webhook_type, OrgId(1), UnixMs(1_700_000_000_007)).unwrap();
            assert_eq!(Record::of(&record).to_json(), format!("{}{change}}}", head(kind)));
        }
    }
}
