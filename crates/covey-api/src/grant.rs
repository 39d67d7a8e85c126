//! What may be done with some devices alone.

use serde::{Deserialize, Serialize};

use crate::DeviceTag;

/// A method of tasks: a number for those of tasks without a name, a name for the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GrantMethod {
    /// The number of the method of tasks that name none.
    Code(u16),
    /// The name of a method. A task that names its method is known by that, whatever its number.
    Name(String),
}

/// Rights for some devices, methods or kinds of data. What is left out bounds nothing; one at least bounds something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Grant {
    /// What may be done: some of tasks:read, tasks:write, devices:read, devices:write and events:read.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::GrantableRightName>, min_items = 1))]
    pub rights: Vec<String>,
    /// With devices that have one of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub tags: Vec<DeviceTag<'static>>,
    /// Of tasks, with those of these methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub methods: Vec<GrantMethod>,
    /// Of what is streamed and listed as events, with these kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::RecordKindName>, max_items = 64))]
    pub kinds: Vec<String>,
    /// Of events, with these types. Without `kinds` of events alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub event_types: Vec<i32>,
}
