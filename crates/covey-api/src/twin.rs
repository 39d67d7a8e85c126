//! Twins: what devices say that their values are, and what applications want.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::Time;

/// A device's twin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Twin<'a> {
    /// The device's number.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub device_id: i64,
    /// The device's serial number.
    pub sn: Cow<'a, str>,
    /// What the device says.
    pub reported: TwinReported<'a>,
    /// What applications want.
    pub desired: TwinDesired<'a>,
}

/// What a device says that its values are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TwinReported<'a> {
    /// How often this side was changed.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub version: i64,
    /// The values by resource.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, TwinReportedValue>))]
    pub resources: BTreeMap<Cow<'a, str>, TwinReportedValue<'a>>,
}

/// A value that was reported.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TwinReportedValue<'a> {
    /// The value; null if it was removed.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<serde_json::Value>))]
    pub value: Option<Cow<'a, RawValue>>,
    /// The version with which it came.
    pub version: i64,
    /// When it came.
    pub at: Time,
}

/// What applications want the values to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TwinDesired<'a> {
    /// How often this side was changed.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub version: i64,
    /// The values by resource.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, TwinDesiredValue>))]
    pub resources: BTreeMap<Cow<'a, str>, TwinDesiredValue<'a>>,
}

/// A value that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TwinDesiredValue<'a> {
    /// The value.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    pub value: Cow<'a, RawValue>,
    /// The version with which it came.
    pub version: i64,
    /// When it came.
    pub at: Time,
    /// The task that tells the device, at `/device-tasks/{id}`.
    pub task_id: Uuid,
}
