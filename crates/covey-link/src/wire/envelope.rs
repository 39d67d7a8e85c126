//! The JSON envelope in which an MQTT 3.1.1 client, whose protocol has no
//! properties, carries correlation, codes and parameters
//! (docs/mqtt-3.1.1.md).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::wire::inbound::{Malformed, is_object};

/// What a 3.1.1 client sends. Every field may be missing; others are ignored.
#[derive(Debug)]
pub(super) struct InboundEnvelope<'a> {
    pub(super) correlation_data: Option<Cow<'a, str>>,
    pub(super) status_code: Option<Cow<'a, str>>,
    pub(super) ext_id: Option<Cow<'a, str>>,
    pub(super) payload: Option<&'a str>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "correlationData", borrow, default)]
    correlation_data: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    status_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ext_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

impl<'a> InboundEnvelope<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        if !is_object(body) {
            return Err(Malformed::NotEnvelope);
        }
        let fields: Fields<'a> = serde_json::from_slice(body).map_err(|_| Malformed::NotEnvelope)?;
        Ok(Self {
            correlation_data: fields.correlation_data,
            status_code: fields.status_code.map(number_text),
            ext_id: fields.ext_id.map(number_text),
            payload: fields.payload.map(RawValue::get).filter(|text| *text != "null"),
        })
    }
}

/// A number as text, whether it came as a number or in quotes: small stacks do both.
fn number_text(value: &RawValue) -> Cow<'_, str> {
    Cow::Borrowed(value.get().trim_matches('"'))
}

/// What a 3.1.1 client is sent.
#[derive(Serialize)]
pub(super) struct OutboundEnvelope<'a> {
    #[serde(rename = "correlationData")]
    pub(super) correlation_data: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ext_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event_type_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dev_event_id: Option<u32>,
    pub(super) payload: Option<&'a RawValue>,
}
