//! What webhooks send beside records themselves: a CloudEvent 1.0 in JSON, and
//! a result in the form of the contract (rest-api "Webhooks").

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{RawValue, Record, Time};

/// A CloudEvent 1.0 in structured mode (CloudEvents JSON format §3).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CloudEvent<'a> {
    /// `1.0`.
    pub specversion: Cow<'static, str>,
    /// The id of the message, the same each time that the record is sent.
    pub id: Cow<'a, str>,
    /// The path of the device in the REST API.
    pub source: String,
    /// `covey.` and the kind of the record.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The serial number of the device.
    pub subject: Cow<'a, str>,
    /// When the change was made.
    pub time: Time,
    /// `application/json`.
    pub datacontenttype: Cow<'static, str>,
    /// The change.
    pub data: Record<'a>,
}

/// The body of a message about a result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResultMessage<'a> {
    /// What the device sent: JSON as it came, other text as a string, null if it sent no body.
    pub result: Cow<'a, RawValue>,
}
