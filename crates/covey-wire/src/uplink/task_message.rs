//! What devices send about tasks (device-rpc "Messages"): MQTT 5 with properties,
//! or MQTT 3.1.1 with the same fields in a JSON envelope.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use crate::Correlation;
use crate::envelope::UplinkEnvelope;
use crate::json::is_object;
use crate::uplink::malformed::Malformed;
use crate::uplink::received::{Carrier, Properties, Received};

/// The body of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultBody<'a> {
    /// The device sent no body.
    Empty,
    /// JSON text, as it was sent.
    Json(&'a str),
    /// Text that is not JSON.
    Text(&'a str),
}

/// The result that a `res` carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    correlation: Option<Cow<'a, [u8]>>,
    status_code: StatusCode<'a>,
    ext_id: Option<Cow<'a, str>>,
    body: Body<'a>,
}

#[derive(Debug)]
enum StatusCode<'a> {
    Given(Cow<'a, str>),
    /// Not given outside the body: may be a field of the body.
    InBody,
}

#[derive(Debug)]
enum Body<'a> {
    Bytes(&'a [u8]),
    /// The payload of an envelope, JSON text.
    Json(&'a str),
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
            Carrier::Envelope => Self::in_envelope(body),
            // A message that needs a correlation and has none can only be an
            // envelope, if it is anything.
            Carrier::Unknown => Ok(Self::in_envelope(body)
                .ok()
                .filter(|message| message.correlation().is_ok_and(|given| given.task().is_some()))
                .unwrap_or_else(|| Self::with_properties(Properties::default(), body))),
        }
    }

    /// A message of an MQTT 5 client, or one that came over AMQP.
    fn with_properties(properties: Properties<'a>, body: &'a [u8]) -> Self {
        Self {
            correlation: properties.correlations().next().map(Cow::Borrowed),
            status_code: properties
                .status_code
                .map_or(StatusCode::InBody, |code| StatusCode::Given(Cow::Borrowed(code))),
            ext_id: properties.ext_id.map(Cow::Borrowed),
            body: Body::Bytes(body),
        }
    }

    /// A message of an MQTT 3.1.1 client, which has no properties.
    fn in_envelope(body: &'a [u8]) -> Result<Self, Malformed> {
        if body.is_empty() {
            let nothing =
                Self { correlation: None, status_code: StatusCode::InBody, ext_id: None, body: Body::Empty };
            return Ok(nothing);
        }
        let envelope = UplinkEnvelope::parse(body)?;
        Ok(Self {
            correlation: envelope.correlation_data.map(|text| match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }),
            // An envelope without a status code has none: its payload is the device's own.
            status_code: StatusCode::Given(envelope.status_code.unwrap_or_default()),
            ext_id: envelope.ext_id,
            body: envelope.payload.map_or(Body::Empty, Body::Json),
        })
    }

    /// What the message is about.
    ///
    /// # Errors
    /// [`Malformed::Correlation`].
    pub fn correlation(&self) -> Result<Correlation, Malformed> {
        Correlation::parse(self.correlation.as_deref().unwrap_or_default()).ok_or(Malformed::Correlation)
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
            StatusCode::InBody => status_code_in(body),
        };
        let ext_id = match &self.ext_id {
            None => 0,
            Some(text) => integer(text).ok_or(Malformed::ExtId)?,
        };
        Ok(TaskResult { ext_id, status_code: status_code.ok_or(Malformed::StatusCode)?, body })
    }

    fn result_body(&self) -> Result<ResultBody<'a>, Malformed> {
        match self.body {
            Body::Empty | Body::Bytes([]) => Ok(ResultBody::Empty),
            Body::Json(text) => Ok(ResultBody::Json(text)),
            Body::Bytes(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotText)?;
                let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
                Ok(if is_json { ResultBody::Json(text) } else { ResultBody::Text(text) })
            }
        }
    }
}

/// An integer, as devices write it: no fraction, no exponent, no blanks.
fn integer(text: &str) -> Option<i64> {
    text.parse::<i32>().ok().map(i64::from)
}

/// The top-level integer `status_code` of a JSON body (device-rpc "res").
fn status_code_in(body: ResultBody<'_>) -> Option<i64> {
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
        assert_eq!(body(b"{\"a\": 1}"), ResultBody::Json("{\"a\": 1}"));
        assert_eq!(body(b"17"), ResultBody::Json("17"));
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

    #[test]
    fn an_envelope_carries_what_properties_carry() {
        let id = "01901f2e-3d4c-7b5a-8877-665544332211";
        let text = format!(
            r#"{{"correlationData":"{id}","status_code":206,"ext_id":"7","payload":{{"cl": 5}},"more":1}}"#
        );
        let message = TaskMessage::in_envelope(text.as_bytes()).unwrap();
        assert_eq!(message.correlation().unwrap(), Correlation::parse(id.as_bytes()).unwrap());
        let result = message.result().unwrap();
        assert_eq!((result.status_code, result.ext_id), (206, 7));
        assert_eq!(result.body, ResultBody::Json("{\"cl\": 5}"));
        assert_eq!(TaskMessage::in_envelope(b"").unwrap().correlation(), Ok(Correlation::Poll));
        assert_eq!(TaskMessage::in_envelope(b"hello").err(), Some(Malformed::NotEnvelope));
        assert_eq!(TaskMessage::in_envelope(b"{}").unwrap().result(), Err(Malformed::StatusCode));
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
            let _ = (message.correlation(), message.result());
            for carrier in [Carrier::Envelope, Carrier::Unknown] {
                if let Ok(message) = TaskMessage::read(Received { carrier, body: &body }) {
                    let _ = (message.correlation(), message.result());
                }
            }
        }
    }
}
