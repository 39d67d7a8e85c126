//! The body of an event: a JSON object, of which a few members are read in one
//! pass and the rest is passed over.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::is_object;
use crate::uplink::malformed::Malformed;

/// How deeply a body may be nested: what reads it later may do so with a call a level.
/// Limit for each event: 0x99, and a line in the log.
pub(super) const LEVELS_MAX: usize = 64;
/// How many resources a device may have.
pub const RESOURCES_MAX: usize = 256;
/// How many reported values are read: one more than there may be, so that too many are seen.
const REPORTED_MAX: usize = RESOURCES_MAX + 1;

/// A value that a device reports of one of its resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported<'a> {
    /// The resource.
    pub resource: Cow<'a, str>,
    /// Its value as JSON text.
    pub value: &'a str,
}

/// The members that matter, each as JSON text. Of members with one name the last
/// counts.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    /// `200`, the type code.
    pub(super) type_code: Option<&'a RawValue>,
    /// `101`, the number on the device.
    pub(super) number: Option<&'a RawValue>,
    /// `102`, the time.
    pub(super) time: Option<&'a RawValue>,
    /// `reported`, values of resources.
    pub(super) reported: Option<&'a RawValue>,
    /// What an envelope has (docs/mqtt-3.1.1.md).
    pub(super) envelope: EnvelopeMembers<'a>,
}

/// The members of an envelope.
#[derive(Debug, Default)]
pub(super) struct EnvelopeMembers<'a> {
    pub(super) payload: Option<&'a RawValue>,
    pub(super) event_type_code: Option<&'a RawValue>,
    pub(super) dev_event_id: Option<&'a RawValue>,
    pub(super) dev_timestamp: Option<&'a RawValue>,
    pub(super) correlation_id: Option<&'a RawValue>,
    pub(super) correlation_data: Option<&'a RawValue>,
}

impl<'a> Members<'a> {
    /// Reads a body, however deep it is: what is passed over takes no call a level.
    ///
    /// # Errors
    /// [`Malformed::NotObject`].
    pub(super) fn parse(body: &'a str) -> Result<Self, Malformed> {
        if !is_object(body.as_bytes()) {
            return Err(Malformed::NotObject);
        }
        serde_json::from_str(body).map_err(|_| Malformed::NotObject)
    }

    /// The event's body within the envelope that this is, if it is one.
    pub(super) fn enveloped(&self) -> Option<&'a str> {
        self.envelope.payload.map(RawValue::get).filter(|payload| is_object(payload.as_bytes()))
    }

    /// What the device reports of its resources; of none, if that is no object.
    ///
    /// # Errors
    /// [`Malformed::Resource`] for a name that is no Unicode, such as half a surrogate pair.
    pub(super) fn reported(&self) -> Result<Vec<Reported<'a>>, Malformed> {
        let object = self.reported.map(RawValue::get).filter(|text| is_object(text.as_bytes()));
        let Some(object) = object else { return Ok(Vec::new()) };
        serde_json::from_str(object).map(|Resources(all)| all).map_err(|_| Malformed::Resource)
    }

    fn place(&mut self, name: &str) -> Option<&mut Option<&'a RawValue>> {
        Some(match name {
            "200" => &mut self.type_code,
            "101" => &mut self.number,
            "102" => &mut self.time,
            "reported" => &mut self.reported,
            "payload" => &mut self.envelope.payload,
            "event_type_code" => &mut self.envelope.event_type_code,
            "dev_event_id" => &mut self.envelope.dev_event_id,
            "dev_timestamp" => &mut self.envelope.dev_timestamp,
            "correlation_id" => &mut self.envelope.correlation_id,
            "correlationData" => &mut self.envelope.correlation_data,
            _ => return None,
        })
    }
}

/// A number or a string as text; nothing for anything else.
pub(super) fn scalar(value: &RawValue) -> Option<Cow<'_, str>> {
    match value.get().as_bytes().first()? {
        b'"' => serde_json::from_str(value.get()).ok().map(|Text(text)| text),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(value.get())),
        _ => None,
    }
}

/// A string, which is copied only if it has escapes.
#[derive(serde::Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members::default();
                while let Some(Text(name)) = map.next_key()? {
                    match members.place(&name) {
                        Some(place) => *place = Some(map.next_value()?),
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The members of `reported`.
struct Resources<'a>(Vec<Reported<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Resources<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Resources<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Resources<'de>, A::Error> {
                let mut resources: Vec<Reported<'de>> = Vec::new();
                while let Some(Text(resource)) = map.next_key()? {
                    let value: &RawValue = map.next_value()?;
                    if let Some(known) = resources.iter_mut().find(|known| known.resource == resource) {
                        known.value = value.get();
                    } else if resources.len() < REPORTED_MAX {
                        resources.push(Reported { resource, value: value.get() });
                    }
                }
                Ok(Resources(resources))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
    }

    #[test]
    fn a_body_is_an_object() {
        assert!(Members::parse(&nested(30_000)).is_ok(), "how deep it may be is another question");
        for body in ["", " ", "[]", "5", "null", "\"{}\"", "{", "{}x", "{}{}", r#"{"a":}"#, r#"{"a":01}"#] {
            assert_eq!(Members::parse(body).unwrap_err(), Malformed::NotObject, "{body:?}");
        }
        assert!(Members::parse(" {}\n").is_ok());
    }

    #[test]
    fn members_are_found_wherever_they_are() {
        let members = Members::parse(r#"{"x":[{"101":9}],"200": 13 ,"\u0031\u00301":"7","101":8}"#).unwrap();
        assert_eq!(members.type_code.unwrap().get(), "13");
        assert_eq!(members.number.unwrap().get(), "8", "the last counts");
        assert!(members.time.is_none());
        assert_eq!(scalar(members.number.unwrap()).unwrap(), "8");
        let members = Members::parse(r#"{"102":"2026\u002d01","200":[1]}"#).unwrap();
        assert_eq!(scalar(members.time.unwrap()).unwrap(), "2026-01");
        assert_eq!(scalar(members.type_code.unwrap()), None);
    }

    #[test]
    fn reported_values_are_kept_as_they_are_written() {
        fn reported(body: &str) -> Vec<Reported<'_>> {
            Members::parse(body).unwrap().reported().unwrap()
        }
        let values = reported(r#"{"reported":{"lamp":{"on": true},"t":1.50,"lamp":null}}"#);
        let told: Vec<_> = values.iter().map(|one| (&*one.resource, one.value)).collect();
        assert_eq!(told, [("lamp", "null"), ("t", "1.50")]);
        for nothing in [
            r#"{"reported":5}"#,
            r#"{"reported":[1]}"#,
            r#"{"reported":{}}"#,
            r#"{"a":{"reported":{"b":1}}}"#,
        ] {
            assert_eq!(reported(nothing), [], "{nothing}");
        }
        let half = Members::parse(r#"{"reported":{"good":1,"\ud800":2}}"#).unwrap();
        assert_eq!(half.reported().unwrap_err(), Malformed::Resource);
        let many: Vec<_> = (0..5_000).map(|number| format!(r#""r{number}":1"#)).collect();
        assert_eq!(reported(&format!(r#"{{"reported":{{{}}}}}"#, many.join(","))).len(), REPORTED_MAX);
    }
}
