//! Events: what devices told unasked, and what is computed from them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{Time, number};

/// An event of a device.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceEvent<'a> {
    /// Its number. An event that was stored later has a larger one.
    pub id: i64,
    /// The device's number.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub device_id: i64,
    /// The device's serial number.
    pub sn: Cow<'a, str>,
    /// Its type: 0 if the device gave none; -1 and -2 for the device's coming
    /// and going, which the server notes.
    pub event_type_code: i64,
    /// When it happened, by the device; when it was received, if the device did not say.
    pub timestamp: Time,
    /// When it was received.
    pub received_at: Time,
    /// Its number on the device; 0 if the device does not count.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 4_294_967_295_i64))]
    pub dev_event_id: u32,
    /// What it belongs to.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub correlation_id: Option<Uuid>,
    /// Its body, exactly as the device sent it.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub payload: Cow<'a, RawValue>,
    /// The same as `received_at`, under the name that other clients read.
    pub created_at: Time,
    /// The same as `timestamp`, under the name that other clients read.
    pub dev_timestamp: Time,
}

/// A page of events, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceEventPage<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub items: Vec<DeviceEvent<'a>>,
    /// How many events there are on all pages; null with a cursor.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub total: Option<u64>,
    /// The number of this page; null with a cursor.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub page: Option<u32>,
    /// How many events a page has.
    pub size: u32,
    /// How many pages there are; null with a cursor.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub pages: Option<u64>,
    /// The cursor of the events before these; null if there are none.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub next_cursor: Option<String>,
}

/// The last body of a gauge's type that a device sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceGauges<'a> {
    /// The device's number.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub device_id: i64,
    /// The event's type, as text.
    #[serde(rename = "type", with = "number::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[0-9]{1,10}$", example = "44"))]
    pub type_code: i64,
    /// When it was received.
    pub updated_at: Time,
    /// The body, exactly as the device sent it.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub gauges: Cow<'a, RawValue>,
}

/// A page of gauges.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GaugePage<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub items: Vec<DeviceGauges<'a>>,
    /// How many gauges there are on all pages.
    pub total: u64,
    /// The number of this page.
    pub page: u32,
    /// How many gauges a page has.
    pub size: u32,
    /// How many pages there are.
    pub pages: u64,
}

/// A value out of an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldValue<'a> {
    /// When the event was received.
    pub created_at: Time,
    /// The value, as the device sent it.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    pub value: Cow<'a, RawValue>,
    /// Its age in whole seconds.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub interval_sec: i64,
}

/// The numbers of one span of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SeriesBucket {
    /// Where the span begins.
    pub from: Time,
    /// The least number.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The one that was received last.
    pub last: f64,
    /// How many there are.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub count: u64,
}

/// A series of buckets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Series {
    /// How wide a bucket is, in seconds. Buckets begin at its multiples since 1970.
    pub bucket_s: i64,
    /// From this instant on.
    pub from: Time,
    /// Before this one.
    pub until: Time,
    /// The buckets, oldest first. A span without numbers has none.
    pub buckets: Vec<SeriesBucket>,
}
