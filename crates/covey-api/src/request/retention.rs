//! For how long things are to be kept.

use serde::{Deserialize, Serialize};

use crate::Whole;
use crate::number::change;

/// What is to be kept for how many days. What is not named stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RetentionChange {
    /// Final tasks with their results: 0 to 36500, 0 for ever; null for as long as the operator says.
    #[serde(default, deserialize_with = "change", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, required = false, minimum = 0, maximum = 36500))]
    pub tasks: Option<Option<Whole>>,
    /// Events.
    #[serde(default, deserialize_with = "change", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, required = false, minimum = 0, maximum = 36500))]
    pub events: Option<Option<Whole>>,
    /// Records of changes: how far back a stream or webhook can go.
    #[serde(default, deserialize_with = "change", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, required = false, minimum = 0, maximum = 36500))]
    pub records: Option<Option<Whole>>,
    /// What devices reported of their resources.
    #[serde(default, deserialize_with = "change", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, required = false, minimum = 0, maximum = 36500))]
    pub twin_history: Option<Option<Whole>>,
    /// Entries of the audit log: 0, or 30 to 36500; longer than the server keeps them unless told otherwise is for keys
    /// with `orgs:admin`.
    #[serde(default, deserialize_with = "change", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::AuditDays>, required = false))]
    pub audit: Option<Option<Whole>>,
}
