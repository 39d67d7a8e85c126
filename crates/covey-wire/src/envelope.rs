//! The JSON envelope in which an MQTT 3.1.1 client, whose protocol has no
//! properties, gets correlation, codes and parameters (docs/mqtt-3.1.1.md).

use serde::Serialize;
use serde_json::value::RawValue;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<&'a RawValue>,
}
