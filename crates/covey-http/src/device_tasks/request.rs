//! What an application sends to make a task, and how it names one.

use std::str::FromStr;
use std::sync::Arc;

use covey_api::TaskNew;
use covey_core::id::{Sn, TaskId};
use covey_core::json::levels;
use covey_core::task::{DeviceRef, TaskSpec};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::problem::{Kind, Problem};
use crate::wire::{DeviceNumber, Whole};

/// The method code of a task that names none (rest-api "Tasks").
const METHOD_CODE_DEFAULT: i64 = 20;
/// The life of a task that asks for none, in minutes (rest-api "Tasks").
const TTL_MINUTES_DEFAULT: i64 = 1;
/// How deep objects and arrays of a payload may be nested. Devices read it
/// with little memory and often with a recursive parser.
/// Limit for each task: 422.
const PAYLOAD_DEPTH_MAX: usize = 64;

/// A task's id in a path, in the form in which it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskNumber(pub(super) TaskId);

impl FromStr for TaskNumber {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hyphenated = Some(text).filter(|text| text.len() == 36);
        let id = hyphenated.and_then(|text| Uuid::try_parse(text).ok());
        id.map(|id| Self(TaskId(id))).ok_or("must be a UUID of 36 characters")
    }
}

/// What the core is asked for.
pub(super) fn into_spec(body: TaskNew<'_>) -> Result<TaskSpec, Problem> {
    let or = |number: Option<Whole>, default| number.map_or(default, |Whole(number)| number);
    Ok(TaskSpec {
        device: device(body.device_id, body.device_sn.as_deref())?,
        ext_task_id: body.ext_task_id,
        method_code: or(body.method_code, METHOD_CODE_DEFAULT),
        method: body.method,
        priority: or(body.priority, 0),
        ttl_minutes: or(body.ttl, TTL_MINUTES_DEFAULT),
        payload: body.payload.as_deref().map(payload).transpose()?,
    })
}

fn device(id: Option<Whole>, sn: Option<&str>) -> Result<DeviceRef, Problem> {
    match (id, sn) {
        (Some(Whole(number)), None) => match DeviceNumber::try_from(number) {
            Ok(DeviceNumber(id)) => Ok(DeviceRef::Id(id)),
            Err(problem) => Err(Problem::invalid("device_id", problem)),
        },
        (None, Some(sn)) => match Sn::parse(sn) {
            Ok(sn) => Ok(DeviceRef::Sn(sn)),
            Err(_) => Err(Problem::invalid("device_sn", "must be 1 to 64 characters of A-Z a-z 0-9 _ -")),
        },
        (None, None) => Err(Problem::of_field(Kind::Missing, "device_id", "give device_id or device_sn")),
        (Some(_), Some(_)) => {
            Err(Problem::of_field(Kind::Contradictory, "device_id", "give device_id or device_sn, not both"))
        }
    }
}

fn payload(sent: &RawValue) -> Result<Arc<str>, Problem> {
    let text = sent.get();
    if !text.starts_with('{') {
        return Err(Problem::of_field(Kind::WrongType, "payload", "must be a JSON object"));
    }
    if levels(text) > PAYLOAD_DEPTH_MAX {
        return Err(Problem::invalid("payload", "must be nested at most 64 deep"));
    }
    Ok(Arc::from(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::id::DeviceId;

    use super::*;
    use crate::extract::RawBody;

    fn spec(body: &str) -> Result<TaskSpec, Problem> {
        into_spec(RawBody::of(body).read()?)
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let expected = TaskSpec {
            device: DeviceRef::Id(DeviceId(7)),
            ext_task_id: String::new(),
            method_code: 20,
            method: None,
            priority: 0,
            ttl_minutes: 1,
            payload: None,
        };
        assert_eq!(spec(r#"{"device_id":7,"ext_task_id":""}"#).unwrap(), expected);
        let nulls = r#"{"device_id":7,"ext_task_id":"","method_code":null,"method":null,"priority":null,
            "ttl":null,"payload":null,"unknown":[]}"#;
        assert_eq!(spec(nulls).unwrap(), expected);
    }

    #[test]
    fn a_payload_is_kept_byte_for_byte() {
        let payload = "{ \"b\" : 1.50, \"a\":\"\\u00fc\\/\",\"a\":[ ] }";
        let found =
            spec(&format!("{{\"device_sn\":\"d-1\",\"ext_task_id\":\"\",\"payload\": {payload} }}")).unwrap();
        assert_eq!(found.payload.as_deref(), Some(payload));
        assert_eq!(found.device, DeviceRef::Sn(Sn::parse("d-1").unwrap()));
    }

    #[test]
    fn a_wrong_field_is_refused_by_name() {
        for (body, field, kind) in [
            (r#"{"ext_task_id":""}"#, "device_id", Kind::Missing),
            (r#"{"device_id":1}"#, "ext_task_id", Kind::Missing),
            (r#"{"device_id":1,"ext_task_id":null}"#, "ext_task_id", Kind::WrongType),
            (r#"{"device_id":1,"device_sn":"a","ext_task_id":""}"#, "device_id", Kind::Contradictory),
            (r#"{"device_id":1,"device_id":1,"ext_task_id":""}"#, "device_id", Kind::Contradictory),
            (r#"{"device_id":0,"ext_task_id":""}"#, "device_id", Kind::Invalid),
            (r#"{"device_id":null,"device_sn":"a","ext_task_id":""}"#, "device_id", Kind::WrongType),
            (r#"{"device_id":"1","ext_task_id":""}"#, "device_id", Kind::WrongType),
            (r#"{"device_sn":"a/b","ext_task_id":""}"#, "device_sn", Kind::Invalid),
            (r#"{"device_id":1,"ttl":1.5,"ext_task_id":""}"#, "ttl", Kind::Invalid),
            (r#"{"device_id":1,"payload":[],"ext_task_id":""}"#, "payload", Kind::WrongType),
            (r#"{"device_id":1,"payload":"{}","ext_task_id":""}"#, "payload", Kind::WrongType),
        ] {
            let problem = spec(body).unwrap_err();
            assert_eq!((problem.kind, problem.field.as_deref()), (kind, Some(field)), "{body}");
        }
    }

    #[test]
    fn a_payload_may_be_deep_but_not_bottomless() {
        let nested = |depth: usize| {
            let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
            format!(r#"{{"device_id":1,"ext_task_id":"","payload":{{"}}]\"{{[":{open}{close}}}}}"#)
        };
        assert!(spec(&nested(PAYLOAD_DEPTH_MAX)).is_ok());
        assert_eq!(spec(&nested(PAYLOAD_DEPTH_MAX + 1)).unwrap_err().field.as_deref(), Some("payload"));
        assert_eq!(spec(&nested(100_000)).unwrap_err().kind, Kind::Invalid);
    }

    #[test]
    fn a_task_is_named_by_its_uuid_as_it_is_written() {
        assert!("0198c0de-0000-7000-8000-000000000001".parse::<TaskNumber>().is_ok());
        for bad in
            ["", "7", "0198c0de00007000800000000000000", "urn:uuid:0198c0de-0000-7000-8000-000000000001"]
        {
            assert!(bad.parse::<TaskNumber>().is_err(), "{bad}");
        }
    }
}
