//! Conversions between the core's types and those of the wire.

use covey_core::event::{NewEvent, Reported};
use covey_core::id::UnixMs;
use covey_core::port::Refusal;
use covey_core::task::{NewResult, ResultBody, Task};
use covey_wire::downlink::{self, DownlinkMessage, ResponseForm};
use covey_wire::uplink::{self, Event, Malformed, TaskResult};

// The limits of the contract are those of the core.
const _: () = assert!(uplink::EVENT_TYPE_CODE_MAX == covey_core::event::EVENT_TYPE_CODE_MAX);
const _: () = assert!(uplink::RESOURCES_MAX == covey_core::twin::RESOURCES_MAX as usize);

/// `tsk`: a task is waiting.
pub(crate) fn announcement(task: &Task, now: UnixMs) -> DownlinkMessage {
    DownlinkMessage::announcement(&fields(task, now))
}

/// `rsp`: a task's method and parameters.
pub(crate) fn response(task: &Task, form: ResponseForm, now: UnixMs) -> DownlinkMessage {
    DownlinkMessage::response(&fields(task, now), form)
}

fn fields(task: &Task, now: UnixMs) -> downlink::Task<'_> {
    downlink::Task {
        id: task.id.0,
        ext_task_id: &task.ext_task_id,
        device_id: task.device_id.0,
        method_code: task.method_code,
        method: task.method.as_deref(),
        priority: task.priority,
        payload: task.payload.as_deref(),
        created_at_ms: task.created_at.0,
        expires_at_ms: task.expires_at.0,
        left_ms: task.expires_at.since_ms(now),
        status: task.status.number(),
        pending_at_ms: task.pending_at.map(|at| at.0),
        locked_at_ms: task.locked_at.map(|at| at.0),
    }
}

/// An event to be stored.
pub(crate) fn new_event(event: Event<'_>) -> NewEvent {
    let reported = event
        .reported
        .into_iter()
        .map(|one| Reported { resource: one.resource.into_owned(), value: one.value.into() });
    NewEvent {
        type_code: event.type_code,
        dev_event_id: event.dev_event_id,
        dev_timestamp: event.dev_timestamp_ms.map(UnixMs),
        correlation: event.correlation,
        payload: event.payload.into(),
        reported: reported.collect(),
    }
}

/// A result to be stored.
pub(crate) fn new_result(result: TaskResult<'_>) -> NewResult {
    let body = match result.body {
        uplink::ResultBody::Empty => ResultBody::Empty,
        uplink::ResultBody::Json(text) => ResultBody::Json(text.as_ref().into()),
        uplink::ResultBody::Text(text) => ResultBody::Text(text.into()),
    };
    NewResult { ext_id: result.ext_id, status_code: result.status_code, body }
}

/// Under which reason a message is counted that cannot be understood.
pub(crate) fn refusal(malformed: Malformed) -> Refusal {
    match malformed {
        Malformed::Correlation | Malformed::CorrelationMissing => Refusal::Correlation,
        Malformed::StatusCode => Refusal::StatusCode,
        Malformed::ExtId
        | Malformed::NotText
        | Malformed::NotEnvelope
        | Malformed::EventTypeCode
        | Malformed::DevEventId
        | Malformed::NotObject
        | Malformed::TooDeep
        | Malformed::Resource => Refusal::Payload,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::id::{DeviceId, DeviceKey, OrgId, Sn, TaskId};
    use covey_core::task::TaskStatus;
    use covey_wire::uplink::{Carrier, Properties, Received, read_event};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_task_goes_out_with_all_that_the_contract_asks_for() {
        let created_at = UnixMs(1_769_860_800_123);
        let task = Task {
            id: TaskId(Uuid::from_u128(7)),
            seq: 3,
            org: OrgId(1),
            device: DeviceKey(5),
            device_id: DeviceId(77),
            sn: Sn::parse("a-1").unwrap(),
            ext_task_id: "order".to_owned(),
            method_code: 51,
            method: Some("blink".to_owned()),
            priority: 9,
            payload: Some("{}".into()),
            push_only: false,
            created_at,
            expires_at: UnixMs(created_at.0 + 90_500),
            status: TaskStatus::Lock,
            pending_at: None,
            locked_at: Some(UnixMs(created_at.0 + 7)),
            lease_until: None,
            deliveries: 0,
            results: 0,
            late_results: 0,
            result_bytes: 0,
            timeline: Vec::new(),
            created_by: None,
        };
        let now = UnixMs(created_at.0 + 60_000);
        let expected = downlink::Task {
            id: Uuid::from_u128(7),
            ext_task_id: "order",
            device_id: 77,
            method_code: 51,
            method: Some("blink"),
            priority: 9,
            payload: Some("{}"),
            created_at_ms: created_at.0,
            expires_at_ms: created_at.0 + 90_500,
            left_ms: 30_500,
            status: 2,
            pending_at_ms: None,
            locked_at_ms: Some(created_at.0 + 7),
        };
        assert_eq!(fields(&task, now), expected);
        let body = announcement(&task, now).body().to_owned();
        assert!(body.contains(&format!("\"ttl\":{}", task.ttl_minutes_left(now))), "as over REST: {body}");
    }

    #[test]
    fn an_event_comes_in_with_all_that_the_device_said() {
        let mut given = Properties::default();
        for (name, value) in [("event_type_code", "13"), ("dev_event_id", "7"), ("dev_timestamp", "5")] {
            given.put_user_property(name, value);
        }
        given.correlation_id = Some("00000000-0000-0000-0000-000000000009");
        let body = r#"{"reported":{"lamp":1.50}}"#;
        let received = Received { carrier: Carrier::Properties(given), body: body.as_bytes() };
        let expected = NewEvent {
            type_code: 13,
            dev_event_id: 7,
            dev_timestamp: Some(UnixMs(5_000)),
            correlation: Some(Uuid::from_u128(9)),
            payload: body.into(),
            reported: vec![Reported { resource: "lamp".to_owned(), value: "1.50".into() }],
        };
        assert_eq!(new_event(read_event(received).unwrap()), expected);
    }
}
