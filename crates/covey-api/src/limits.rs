//! Limits of an organisation's own, and of a key's own.

use serde::{Deserialize, Serialize};

use crate::Whole;

/// Limits of an organisation. What has none, or null, keeps what holds for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrgLimits {
    /// Requests a second, on each server; as many come at once after a silence.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 1000000))]
    pub requests_per_s: Option<Whole>,
    /// Requests that run at the same time, on each server.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 7500))]
    pub requests: Option<Whole>,
    /// Callers that wait for the end of a task at the same time, on each server.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 7500))]
    pub waiting: Option<Whole>,
    /// Streams that are open at the same time, on each server.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 6000))]
    pub streams: Option<Whole>,
    /// Work a second of its devices and keys, on each server: an event is one, a task two.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 1125899906842624_i64))]
    pub work_per_s: Option<Whole>,
    /// Bytes a second that are to be stored, on each server.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 1125899906842624_i64))]
    pub bytes_per_s: Option<Whole>,
    /// Bytes that are kept.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 1125899906842624_i64))]
    pub kept_bytes: Option<Whole>,
    /// Tasks of a device that are not final.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 4294967295_i64))]
    pub open_tasks: Option<Whole>,
}

/// Limits of a key, none above that of its organisation. What has none, or null, keeps what holds for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyLimits {
    /// Requests a second, on each server; as many come at once after a silence.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 1000000))]
    pub requests_per_s: Option<Whole>,
    /// Requests that run at the same time, on each server.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 7500))]
    pub requests: Option<Whole>,
    /// Callers that wait for the end of a task at the same time, on each server.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 7500))]
    pub waiting: Option<Whole>,
    /// Streams that are open at the same time, on each server.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 6000))]
    pub streams: Option<Whole>,
    /// Work a second, on each server: a task is two.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 1125899906842624_i64))]
    pub work_per_s: Option<Whole>,
    /// Bytes a second that are to be stored, on each server.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 1125899906842624_i64))]
    pub bytes_per_s: Option<Whole>,
}

/// The limits of an organisation, and what holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrgLimitsReport {
    /// The organisation's number.
    pub org_id: i64,
    /// Its own limits; null where it has none.
    pub own: OrgLimits,
    /// What holds for it; null where nothing limits it.
    pub in_force: OrgLimits,
}

/// The limits of a key, and what holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyLimitsReport {
    /// The key's number.
    pub id: i64,
    /// Its own limits; null where it has none.
    pub own: KeyLimits,
    /// What holds for it; null where nothing limits it. Its organisation as a whole has limits beside these.
    pub in_force: KeyLimits,
}
