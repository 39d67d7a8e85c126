//! A change of a twin.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Whole;
use crate::number::present;

/// What is to change. What is not named stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TwinPatch<'a> {
    /// Values that are reported on behalf of the device, by resource; null removes one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, serde_json::Value>, required = false))]
    pub reported: BTreeMap<String, Cow<'a, RawValue>>,
    /// Values that are wanted, by resource; null takes the wish back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, serde_json::Value>, required = false))]
    pub desired: BTreeMap<String, Cow<'a, RawValue>>,
    /// The priority of the tasks that tell the device.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = i64, required = false, minimum = 0, maximum = 9, default = 0))]
    pub priority: Option<Whole>,
    /// For how many minutes the device may take them.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(value_type = i64, required = false, minimum = 1, maximum = 44_639, default = 44_639)
    )]
    pub ttl: Option<Whole>,
}
