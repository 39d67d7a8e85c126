//! What devices send about tasks (device-rpc "Messages"): MQTT 5 with properties, or without any of
//! the correlation's, or MQTT 3.1.1 with the same fields in a JSON envelope.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::Correlation;
use crate::json::is_object;
use crate::uplink::malformed::Malformed;
use crate::uplink::received::{Carrier, Properties, Received};
use crate::uplink::task_body::{TaskBody, result_in};

/// The status code of a result that names its task in its body and has none: clients that can put
/// the task nowhere else cannot send one (device-rpc "res").
const STATUS_CODE_DEFAULT: i64 = 200;
/// How long the raw bytes of a UUID are. In JSON there is only text.
const RAW_BYTES: usize = 16;

/// The body of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultBody<'a> {
    /// The device sent no body.
    Empty,
    /// JSON text, as it was sent.
    Json(Cow<'a, str>),
    /// Text that is not JSON.
    Text(&'a str),
}

/// The result that a `res` carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskResult<'a> {
    /// The device's own number of the result; 0 if it gives none.
    pub ext_id: i64,
    /// How it went, on the scale of HTTP.
    pub status_code: i64,
    /// The body.
    pub body: ResultBody<'a>,
}

/// An `ack`, `req` or `res`. Its fields are checked when they are asked for.
#[derive(Debug)]
pub struct TaskMessage<'a> {
    correlation: Given<'a>,
    status_code: StatusCode<'a>,
    ext_id: Option<Cow<'a, str>>,
    body: Body<'a>,
}

/// Where a message names its task.
#[derive(Debug)]
enum Given<'a> {
    Nowhere,
    /// Beside the body.
    Beside(&'a [u8]),
    /// In the body.
    InBody(Cow<'a, str>),
}

#[derive(Debug)]
enum StatusCode<'a> {
    Given(Cow<'a, str>),
    /// Not given outside the body: may be a field of the body.
    InBody,
    /// Neither beside the body nor in it, and the body names the task.
    Default,
}

#[derive(Debug)]
enum Body<'a> {
    Bytes(&'a [u8]),
    /// The payload of an envelope, JSON text.
    Json(&'a str),
    /// A JSON object that names the task as well.
    WithCorrelation(&'a [u8]),
    Empty,
}

impl<'a> TaskMessage<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] for an MQTT 3.1.1 client's body that is neither empty nor
    /// an envelope.
    pub fn read(received: Received<'a>) -> Result<Self, Malformed> {
        let body = received.body;
        match received.carrier {
            Carrier::Properties(properties) => Ok(Self::with_properties(properties, body)),
            Carrier::Envelope if body.is_empty() => Ok(Self::with_properties(Properties::default(), body)),
            Carrier::Envelope => {
                let read = TaskBody::parse(body).ok_or(Malformed::NotEnvelope)?;
                let has_fields = read.has_payload || read.status_code.is_some() || read.ext_id.is_some();
                Ok(if has_fields { Self::in_envelope(&read) } else { Self::in_body(&read, body) })
            }
            // A body that names its task may be an envelope.
            Carrier::Unknown => {
                let read = TaskBody::parse(body).filter(|read| read.correlation().is_some());
                let is_envelope = |read: &TaskBody<'_>| {
                    let has_codes = read.status_code.is_some() || read.ext_id.is_some();
                    read.has_payload || has_codes && !read.has_others
                };
                Ok(match read {
                    Some(read) if is_envelope(&read) => Self::in_envelope(&read),
                    Some(_) | None => Self::with_properties(Properties::default(), body),
                })
            }
        }
    }

    /// A message of an MQTT 5 client, or one that came over AMQP.
    fn with_properties(properties: Properties<'a>, body: &'a [u8]) -> Self {
        let beside = properties.correlations().next();
        let read = beside.is_none().then(|| TaskBody::parse(body)).flatten();
        let message = match read.filter(|read| read.correlation().is_some()) {
            Some(read) => Self::in_body(&read, body),
            None => Self {
                correlation: beside.map_or(Given::Nowhere, Given::Beside),
                status_code: StatusCode::InBody,
                ext_id: None,
                body: Body::Bytes(body),
            },
        };
        let status_code = properties.status_code.map(|code| StatusCode::Given(Cow::Borrowed(code)));
        Self {
            status_code: status_code.unwrap_or(message.status_code),
            ext_id: properties.ext_id.map(Cow::Borrowed),
            ..message
        }
    }

    /// A message whose body is the result, and names the task as well.
    fn in_body(read: &TaskBody<'a>, body: &'a [u8]) -> Self {
        let code = |code: &'a RawValue| StatusCode::Given(Cow::Borrowed(code.get()));
        Self {
            correlation: read.correlation().map_or(Given::Nowhere, Given::InBody),
            status_code: read.status_code.map_or(StatusCode::Default, code),
            ext_id: None,
            body: Body::WithCorrelation(body),
        }
    }

    /// A message of an MQTT 3.1.1 client, which has no properties.
    fn in_envelope(read: &TaskBody<'a>) -> Self {
        let code = |code: &'a RawValue| StatusCode::Given(number_text(code));
        Self {
            correlation: read.correlation().map_or(Given::Nowhere, Given::InBody),
            status_code: read.status_code.map_or(StatusCode::Default, code),
            ext_id: read.ext_id.map(number_text),
            body: read.payload.map_or(Body::Empty, |payload| Body::Json(payload.get())),
        }
    }

    /// What the message is about.
    ///
    /// # Errors
    /// [`Malformed::Correlation`].
    pub fn correlation(&self) -> Result<Correlation, Malformed> {
        let read = match &self.correlation {
            Given::Nowhere => Some(Correlation::Poll),
            Given::Beside(bytes) => Correlation::parse(bytes),
            Given::InBody(text) if text.len() == RAW_BYTES => None,
            Given::InBody(text) => Correlation::parse(text.as_bytes()),
        };
        read.ok_or(Malformed::Correlation)
    }

    /// What a `req` asks for. A body that names no task is one that does not matter.
    ///
    /// # Errors
    /// [`Malformed::Correlation`] for what is beside the body.
    pub fn requested(&self) -> Result<Correlation, Malformed> {
        match (&self.correlation, self.correlation()) {
            (Given::InBody(_), Err(_)) => Ok(Correlation::Poll),
            (_, read) => read,
        }
    }

    /// The result that a `res` carries.
    ///
    /// # Errors
    /// [`Malformed`] for a status code or `ext_id` that is no integer, or a
    /// body that is no text.
    pub fn result(&self) -> Result<TaskResult<'a>, Malformed> {
        let body = self.result_body()?;
        let status_code = match &self.status_code {
            StatusCode::Given(text) => integer(text),
            StatusCode::InBody => status_code_in(&body),
            StatusCode::Default => Some(STATUS_CODE_DEFAULT),
        };
        let ext_id = match &self.ext_id {
            None => 0,
            Some(text) => integer(text).ok_or(Malformed::ExtId)?,
        };
        Ok(TaskResult { ext_id, status_code: status_code.ok_or(Malformed::StatusCode)?, body })
    }

    fn result_body(&self) -> Result<ResultBody<'a>, Malformed> {
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_err(|_| Malformed::NotText);
        Ok(match self.body {
            Body::Empty | Body::Bytes([]) => ResultBody::Empty,
            Body::Json(text) => ResultBody::Json(Cow::Borrowed(text)),
            Body::WithCorrelation(bytes) => ResultBody::Json(result_in(text(bytes)?)),
            Body::Bytes(bytes) => {
                let text = text(bytes)?;
                let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
                if is_json { ResultBody::Json(Cow::Borrowed(text)) } else { ResultBody::Text(text) }
            }
        })
    }
}

/// A number as text, whether it came as a number or in quotes: small stacks do both.
fn number_text(value: &RawValue) -> Cow<'_, str> {
    Cow::Borrowed(value.get().trim_matches('"'))
}

/// An integer, as devices write it: no fraction, no exponent, no blanks.
fn integer(text: &str) -> Option<i64> {
    text.parse::<i32>().ok().map(i64::from)
}

/// The top-level integer `status_code` of a JSON body (device-rpc "res").
fn status_code_in(body: &ResultBody<'_>) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Coded {
        status_code: i32,
    }
    match body {
        ResultBody::Json(text) if is_object(text.as_bytes()) => {
            serde_json::from_str::<Coded>(text).ok().map(|coded| coded.status_code.into())
        }
        ResultBody::Json(_) | ResultBody::Empty | ResultBody::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn with_code<'a>(status_code: Option<&'a str>, body: &'a [u8]) -> TaskMessage<'a> {
        TaskMessage::with_properties(Properties { status_code, ..Properties::default() }, body)
    }

    #[test]
    fn a_body_is_json_or_text_or_empty() {
        let body = |bytes| with_code(Some("200"), bytes).result().unwrap().body;
        assert_eq!(body(b""), ResultBody::Empty);
        assert_eq!(body(b"{\"a\": 1}"), ResultBody::Json("{\"a\": 1}".into()));
        assert_eq!(body(b"17"), ResultBody::Json("17".into()));
        assert_eq!(body(b"ok"), ResultBody::Text("ok"));
        assert_eq!(body(b"{\"a\": "), ResultBody::Text("{\"a\": "));
        assert_eq!(with_code(Some("200"), b"\xff\xfe").result(), Err(Malformed::NotText));
    }

    #[test]
    fn a_status_code_comes_from_the_property_or_else_from_the_body() {
        let code = |property, body: &'static str| {
            with_code(property, body.as_bytes()).result().map(|result| result.status_code)
        };
        assert_eq!(code(Some("206"), "{\"status_code\":500}"), Ok(206));
        assert_eq!(code(None, "{\"status_code\":500}"), Ok(500));
        for (property, body) in [
            (None, ""),
            (None, "{}"),
            (None, "{\"status_code\":\"200\"}"),
            (None, "{\"status_code\":2.5}"),
            (None, "{\"x\":{\"status_code\":200}}"),
            (None, "[200]"),
            (Some("ok"), "{\"status_code\":200}"),
            (Some(""), ""),
            (Some("99999999999"), ""),
        ] {
            assert_eq!(code(property, body), Err(Malformed::StatusCode), "{property:?} {body}");
        }
    }

    const ID: &str = "01901f2e-3d4c-7b5a-8877-665544332211";

    fn task() -> Correlation {
        Correlation::parse(ID.as_bytes()).unwrap()
    }

    fn read(carrier: Carrier<'static>, body: &str) -> Result<TaskMessage<'static>, Malformed> {
        // Tests end before they run out of memory.
        let body = String::leak(body.replace("ID", ID)).as_bytes();
        TaskMessage::read(Received { carrier, body })
    }

    const MQTT5: Carrier<'static> = Carrier::Properties(Properties {
        correlation_data: None,
        correlation_header: None,
        correlation_property: None,
        correlation_property_capital: None,
        status_code: None,
        ext_id: None,
        event_type_code: None,
        dev_event_id: None,
        dev_timestamp: None,
        correlation_id: None,
    });

    #[test]
    fn an_envelope_carries_what_properties_carry() {
        for carrier in [Carrier::Envelope, Carrier::Unknown] {
            let body =
                r#"{"correlationData":"ID","status_code":206,"ext_id":"7","payload":{"cl": 5},"more":1}"#;
            let message = read(carrier, body).unwrap();
            assert_eq!(message.correlation(), Ok(task()));
            let result = message.result().unwrap();
            assert_eq!((result.status_code, result.ext_id), (206, 7));
            assert_eq!(result.body, ResultBody::Json("{\"cl\": 5}".into()));
            let bare = read(carrier, r#"{"correlationData":"ID","status_code":"404"}"#).unwrap();
            let expected = TaskResult { ext_id: 0, status_code: 404, body: ResultBody::Empty };
            assert_eq!(bare.result(), Ok(expected));
        }
        assert_eq!(read(Carrier::Envelope, "").unwrap().correlation(), Ok(Correlation::Poll));
        assert_eq!(read(Carrier::Envelope, "hello").err(), Some(Malformed::NotEnvelope));
        let unknown =
            read(Carrier::Envelope, r#"{"correlationData":"ID","status_code":200,"more":1}"#).unwrap();
        assert_eq!(
            unknown.result().unwrap().body,
            ResultBody::Empty,
            "of an envelope other fields are ignored"
        );
    }

    #[test]
    fn a_body_names_its_task_where_nothing_else_does() {
        for carrier in [MQTT5, Carrier::Envelope, Carrier::Unknown] {
            for (body, status_code, result) in [
                (r#"{"corr_data":"ID","result":{"cl": 5}}"#, 200, r#"{"cl": 5}"#),
                (r#"{"correlationData":"ID","result":{}}"#, 200, "{}"),
                (r#"{"corr_id":"ID","a":1}"#, 200, r#"{"a":1}"#),
                (r#"{"corr_id":"ID"}"#, 200, "{}"),
            ] {
                let message = read(carrier, body).unwrap();
                assert_eq!((message.correlation(), message.requested()), (Ok(task()), Ok(task())), "{body}");
                let body = ResultBody::Json(result.into());
                assert_eq!(message.result(), Ok(TaskResult { ext_id: 0, status_code, body }));
            }
        }
        for carrier in [MQTT5, Carrier::Unknown] {
            let body = r#"{"corr_data":"ID","status_code":206,"result":{}}"#;
            let result = read(carrier, body).unwrap().result().unwrap();
            let left = ResultBody::Json(r#"{"status_code":206,"result":{}}"#.into());
            assert_eq!((result.status_code, result.body), (206, left));
        }
    }

    #[test]
    fn a_body_does_not_matter_to_who_names_the_task_beside_it() {
        let other = r#"{"corr_data":"01901f2e-3d4c-7b5a-8877-665544332212","result":{}}"#;
        for place in 0..4 {
            let at = |wanted| (place == wanted).then_some(ID);
            let properties = Properties {
                correlation_data: at(0).map(str::as_bytes),
                correlation_header: at(1).map(str::as_bytes),
                correlation_property: at(2),
                correlation_property_capital: at(3),
                ..Properties::default()
            };
            let message = TaskMessage::with_properties(properties, other.as_bytes());
            assert_eq!(message.correlation(), Ok(task()));
            assert_eq!(message.result(), Err(Malformed::StatusCode), "no status code, and no default");
            let body = ResultBody::Json(other.into());
            assert_eq!(message.result_body(), Ok(body));
        }
    }

    #[test]
    fn a_body_that_names_no_task_asks_for_the_next_one_and_answers_none() {
        for carrier in [MQTT5, Carrier::Envelope, Carrier::Unknown] {
            for (body, is_malformed) in [
                (r#"{"corr_data":"abcdefghijklmnop","result":{}}"#, true),
                (r#"{"corr_data":"x","result":{}}"#, true),
                (r#"{"corr_data":7,"result":{}}"#, false),
                (r#"{"corr_data":"00000000-0000-0000-0000-000000000000"}"#, false),
                (r#"{"corr_data":null}"#, false),
                ("{}", false),
            ] {
                let message = read(carrier, body).unwrap();
                assert_eq!(message.requested(), Ok(Correlation::Poll), "{body}");
                let expected = if is_malformed { Err(Malformed::Correlation) } else { Ok(Correlation::Poll) };
                assert_eq!(message.correlation(), expected, "{body}");
            }
        }
        assert_eq!(read(MQTT5, "hello").unwrap().requested(), Ok(Correlation::Poll));
    }

    #[test]
    fn a_status_code_that_is_there_is_an_integer_also_where_the_body_names_the_task() {
        for carrier in [MQTT5, Carrier::Envelope, Carrier::Unknown] {
            for code in ["\"ok\"", "null", "2.5", "2e2", "99999999999", "[200]", "\"\""] {
                let body = format!(r#"{{"corr_data":"ID","status_code":{code},"result":{{}}}}"#);
                assert_eq!(read(carrier, &body).unwrap().result(), Err(Malformed::StatusCode), "{body}");
            }
        }
        let properties = Properties { status_code: Some("ok"), ..Properties::default() };
        let named = format!(r#"{{"corr_data":"{ID}","status_code":200}}"#);
        let message = TaskMessage::with_properties(properties, named.as_bytes());
        assert_eq!(message.result(), Err(Malformed::StatusCode));
        let properties = Properties { status_code: Some("404"), ext_id: Some("7"), ..Properties::default() };
        let result = TaskMessage::with_properties(properties, named.as_bytes()).result().unwrap();
        assert_eq!((result.status_code, result.ext_id), (404, 7));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(native in any::<Option<Vec<u8>>>(), property in any::<Option<String>>(),
                                code in any::<Option<String>>(), body in any::<Vec<u8>>()) {
            let properties = Properties {
                correlation_data: native.as_deref(),
                correlation_property: property.as_deref(),
                status_code: code.as_deref(),
                ..Properties::default()
            };
            let message = TaskMessage::with_properties(properties, &body);
            let _ = (message.correlation(), message.requested(), message.result());
            for carrier in [Carrier::Envelope, Carrier::Unknown] {
                if let Ok(message) = TaskMessage::read(Received { carrier, body: &body }) {
                    let _ = (message.correlation(), message.result());
                }
            }
        }
    }
}
