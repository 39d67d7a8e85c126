//! TCP units: microcontrollers that are servers.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Time;

/// A TCP unit that is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Unit<'a> {
    /// Its number.
    pub id: i64,
    /// What it is called: the uid of its node.
    #[cfg_attr(feature = "openapi", schema(example = "lamp"))]
    pub name: Cow<'a, str>,
    /// Its IP address.
    #[cfg_attr(feature = "openapi", schema(example = "192.168.1.20"))]
    pub address: Cow<'a, str>,
    /// Its TCP port.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, example = 8888))]
    pub port: u16,
    /// What it does.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::UnitKindName))]
    pub kind: Cow<'a, str>,
    /// Its one resource.
    #[cfg_attr(feature = "openapi", schema(example = "value"))]
    pub resource: Cow<'a, str>,
    /// The serial number that its device has as soon as the unit has been heard of; of an updatable unit, at once.
    #[cfg_attr(feature = "openapi", schema(example = "unit-lamp"))]
    pub sn: Cow<'a, str>,
    /// The server that speaks with the units of the organisation; null if none does (`covey up --unit-gateway`).
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub server: Option<Cow<'a, str>>,
    /// When it was listed.
    pub created_at: Time,
}

/// A page of units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UnitPage<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub items: Vec<Unit<'a>>,
    /// How many units there are on all pages.
    pub total: u64,
    /// The number of this page.
    pub page: u32,
    /// How many units a page has.
    pub size: u32,
    /// How many pages there are.
    pub pages: u64,
}
