//! For how long things are kept.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// For how many days things are kept; 0 means for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Retention {
    /// By what is kept: `tasks` (final, with their results), `events`,
    /// `records` (how far back a stream or webhook can go), `twin_history`, `audit`.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, u32>))]
    pub in_force: BTreeMap<Cow<'static, str>, u32>,
    /// What the operator has set for all organisations.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, u32>))]
    pub default: BTreeMap<Cow<'static, str>, u32>,
    /// What this organisation has set for itself.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, u32>))]
    pub own: BTreeMap<Cow<'static, str>, u32>,
}

/// What was forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RetentionRun {
    /// How much, by what it is, of all organisations.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, u64>))]
    pub forgotten: BTreeMap<Cow<'static, str>, u64>,
    /// Whether there is more that can be forgotten now.
    pub is_more: bool,
}
