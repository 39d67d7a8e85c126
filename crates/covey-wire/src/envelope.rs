//! The JSON envelope in which an MQTT 3.1.1 client, whose protocol has no
//! properties, carries correlation, codes and parameters
//! (docs/mqtt-3.1.1.md).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::json::is_object;
use crate::uplink::malformed::Malformed;

/// What a 3.1.1 client sends. Every field may be missing; others are ignored.
#[derive(Debug)]
pub(crate) struct UplinkEnvelope<'a> {
    pub(crate) correlation_data: Option<Cow<'a, str>>,
    pub(crate) status_code: Option<Cow<'a, str>>,
    pub(crate) ext_id: Option<Cow<'a, str>>,
    pub(crate) payload: Option<&'a str>,
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

impl<'a> UplinkEnvelope<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
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
pub(crate) struct DownlinkEnvelope<'a> {
    #[serde(rename = "correlationData")]
    pub(crate) correlation_data: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ext_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event_type_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dev_event_id: Option<u32>,
    pub(crate) payload: Option<&'a RawValue>,
}
