//! A unit to be listed, and one to be changed.

use serde::{Deserialize, Serialize};

use crate::Whole;

/// A unit to be listed: the server speaks with it from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UnitNew {
    /// Its IP address. Not that of a listener of the server, and one that its operator allows (`--units-allow`).
    #[cfg_attr(feature = "openapi", schema(example = "192.168.1.20"))]
    pub address: String,
    /// Its TCP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 65_535, default = 8888))]
    pub port: Option<Whole>,
    /// What it does: `read` sends a measurement a line, `update` waits for a line.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::UnitKindName))]
    pub kind: String,
    /// What it is to be called; its address, with the port unless that is 8888, if no name is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 64, pattern = r"^[^\x00-\x1F\x7F-\x9F]+$", example = "lamp")
    )]
    pub name: Option<String>,
    /// Its one resource; `value` if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_.:/-]+$")
    )]
    pub resource: Option<String>,
}

/// Where a unit is to be, and what it does. Its name stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UnitChange {
    /// Its IP address. Not that of a listener of the server, and one that its operator allows (`--units-allow`).
    #[cfg_attr(feature = "openapi", schema(example = "192.168.1.20"))]
    pub address: String,
    /// Its TCP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 65_535, default = 8888))]
    pub port: Option<Whole>,
    /// What it does: `read` sends a measurement a line, `update` waits for a line.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::UnitKindName))]
    pub kind: String,
    /// Its one resource; `value` if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_.:/-]+$")
    )]
    pub resource: Option<String>,
}
