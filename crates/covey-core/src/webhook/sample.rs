//! Records that nothing has happened for: what a test of an endpoint sends.

use std::sync::Arc;

use uuid::Uuid;

use crate::device::DeviceIdentity;
use crate::event::{DeviceEvent, EventKey};
use crate::id::{DeviceId, DeviceKey, OrgId, RecordNumber, ResultId, Sn, TaskId, UnixMs};
use crate::presence::Reason;
use crate::record::{Change, Record, RecordDevice, RecordTask, TwinChange, TwinSide};
use crate::task::{Cause, NewResult, ResultBody, TaskResult, TaskStatus};
use crate::webhook::WebhookType;

/// The serial number of the device that samples are about.
const SAMPLE_SN: &str = "sample-device";

/// A record of a type, of a device with the number 0, which none has.
///
/// # Errors
/// None in fact: the serial number is valid.
pub fn sample(webhook_type: WebhookType, org: OrgId, now: UnixMs) -> crate::Result<Record> {
    let (number, device, device_id) = (RecordNumber(0), DeviceKey(0), DeviceId(0));
    let sn = Sn::parse(SAMPLE_SN)?;
    let task = RecordTask {
        id: TaskId(Uuid::nil()),
        ext_task_id: "sample".to_owned(),
        method_code: 20,
        method: None,
        created_by: Some(Arc::from("sample")),
    };
    let change = match webhook_type {
        WebhookType::Event => Change::Event(DeviceEvent {
            id: number,
            org,
            device,
            device_id,
            sn: sn.clone(),
            type_code: 0,
            key: EventKey { dev_event_id: 0, dev_timestamp: now },
            received_at: now,
            correlation: None,
            payload: Arc::from(r#"{"101":0,"200":0,"sample":true}"#),
        }),
        WebhookType::TaskResult => {
            let body = ResultBody::Json(Arc::from(r#"{"sample":true}"#));
            let result = NewResult { ext_id: 0, status_code: 200, body };
            Change::Result { task, result: TaskResult { id: ResultId(0), result, received_at: now } }
        }
        WebhookType::Task => Change::Task { task, status: TaskStatus::Done, cause: Cause::Result },
        WebhookType::Presence => Change::Presence { online: true, reason: Reason::Connected },
        WebhookType::Twin => Change::Twin(TwinChange {
            side: TwinSide::Reported,
            resource: "sample".to_owned(),
            value: Some(Arc::from("true")),
            version: 1,
        }),
    };
    let device = RecordDevice { identity: DeviceIdentity { org, device, device_id, sn }, tags: None };
    Ok(Record { number, device, at: now, change })
}
