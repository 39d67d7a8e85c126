//! The body of a message about a task that has no correlation beside it: the task stands in the
//! body then (device-rpc "Correlation"), be it that a client lost its properties, or that MQTT 3.1.1
//! has none and sends an envelope (docs/mqtt-3.1.1.md).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::is_object;
use crate::uplink::event_body::Text;

/// The members that name a task, in the order in which they count.
const CORRELATION_KEYS: [&str; 5] =
    ["correlationData", "CorrelationData", "correlation_data", "corr_data", "corr_id"];
/// The member that is the whole result, if nothing else is left.
const RESULT_KEY: &str = "result";

/// What a body says beside the result, each member as JSON text. Of members with one name the last
/// counts; one that is null is not there, but for the status code, which must be an integer then.
#[derive(Debug, Default)]
pub(super) struct TaskBody<'a> {
    correlations: [Option<&'a RawValue>; CORRELATION_KEYS.len()],
    pub(super) status_code: Option<&'a RawValue>,
    pub(super) ext_id: Option<&'a RawValue>,
    pub(super) payload: Option<&'a RawValue>,
    /// Whether it has a member `payload`, null or not.
    pub(super) has_payload: bool,
    /// Whether it has members that no envelope has.
    pub(super) has_others: bool,
}

impl<'a> TaskBody<'a> {
    /// Reads a body, if it is a JSON object.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        is_object(body).then(|| serde_json::from_slice(body).ok()).flatten()
    }

    /// What names the task: the first of the members that is there, empty if that is no text.
    pub(super) fn correlation(&self) -> Option<Cow<'a, str>> {
        let first = self.correlations.iter().flatten().next()?;
        let text = serde_json::from_str(first.get()).ok();
        Some(text.map_or(Cow::Borrowed(""), |Text(text)| text))
    }

    fn put(&mut self, name: &str, value: &'a RawValue) {
        let given = Some(value).filter(|value| value.get() != "null");
        match name {
            "status_code" => self.status_code = Some(value),
            "ext_id" => self.ext_id = given,
            "payload" => (self.payload, self.has_payload) = (given, true),
            _ => match CORRELATION_KEYS.iter().position(|key| *key == name) {
                Some(place) => self.correlations[place] = given,
                None => self.has_others = true,
            },
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for TaskBody<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = TaskBody<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TaskBody<'de>, A::Error> {
                let mut body = TaskBody::default();
                while let Some(Text(name)) = map.next_key()? {
                    body.put(&name, map.next_value()?);
                }
                Ok(body)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The result in a JSON object that also names its task: without those members, and of an object
/// that has only `result` then, that.
pub(super) fn result_in(object: &str) -> Cow<'_, str> {
    let Ok(Rest(rest)) = serde_json::from_str(object) else { return Cow::Borrowed(object) };
    if let [(name, value)] = &*rest
        && name == RESULT_KEY
    {
        return Cow::Borrowed(value.get());
    }
    let mut result = String::with_capacity(object.len());
    for (name, value) in &rest {
        result.push(if result.is_empty() { '{' } else { ',' });
        // A string always serialises.
        result.push_str(&serde_json::to_string(name).unwrap_or_default());
        result.push(':');
        result.push_str(value.get());
    }
    result.push_str(if result.is_empty() { "{}" } else { "}" });
    Cow::Owned(result)
}

/// The members that name no task, in their order.
struct Rest<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Rest<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Rest<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rest<'de>, A::Error> {
                let mut rest = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    if CORRELATION_KEYS.contains(&&*name) {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        rest.push((name, map.next_value()?));
                    }
                }
                Ok(Rest(rest))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_key_that_is_there_names_the_task() {
        let correlation = |body: &'static str| TaskBody::parse(body.as_bytes())?.correlation();
        for key in CORRELATION_KEYS {
            let body = format!(r#"{{"x":{{"{key}":"deeper"}},"{key}":"first","{key}":"\u006cast"}}"#);
            assert_eq!(TaskBody::parse(body.as_bytes()).unwrap().correlation().unwrap(), "last", "{key}");
        }
        assert_eq!(correlation(r#"{"corr_id":"e","corr_data":"d","correlation_data":"c"}"#).unwrap(), "c");
        assert_eq!(correlation(r#"{"corr_id":"e","corr_data":null,"CorrelationData":5}"#).unwrap(), "");
        for none in ["{}", r#"{"corr_id":null}"#, r#"["corr_id","e"]"#, r#"{"Corr_Id":"e"}"#, "corr_id", ""] {
            assert_eq!(correlation(none), None, "{none}");
        }
    }

    #[test]
    fn a_result_is_what_is_left_without_the_names_of_the_task() {
        for (object, result) in [
            (r#"{"corr_data":"x","result":{"a" : 1.50}}"#, r#"{"a" : 1.50}"#),
            (r#"{"result":"text","corr_id":1,"correlationData":"x"}"#, r#""text""#),
            (r#"{"result":null,"corr_id":1}"#, "null"),
            (r#"{"corr_id":1}"#, "{}"),
            (r#" {"a" : [1, 2] ,"corr_id":1, "\u0062\n\"": {} }"#, r#"{"a":[1, 2],"b\n\"":{}}"#),
            (r#"{"corr_id":1,"status_code":206,"result":{}}"#, r#"{"status_code":206,"result":{}}"#),
            (r#"{"corr_id":1,"result":1,"result":2}"#, r#"{"result":1,"result":2}"#),
            (r#"{"corr_id":1,"a":{"corr_id":2}}"#, r#"{"a":{"corr_id":2}}"#),
        ] {
            assert_eq!(result_in(object), result, "{object}");
        }
    }

    proptest! {
        #[test]
        fn what_is_left_is_json_of_the_same_members(names in proptest::collection::vec("[a-z\"\\\\é]{0,4}|corr_id", 0..6),
                                                    value in any::<i64>()) {
            let member = |name: &String| format!("{}:{value}", serde_json::to_string(name).unwrap());
            let body = format!("{{{}}}", names.iter().map(member).collect::<Vec<_>>().join(","));
            let left: Vec<_> = names.iter().filter(|name| *name != "corr_id").collect();
            let expected = format!("{{{}}}", left.into_iter().map(member).collect::<Vec<_>>().join(","));
            prop_assert_eq!(result_in(&body), expected);
        }
    }
}
