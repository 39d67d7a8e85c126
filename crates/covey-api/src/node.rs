//! Nodes: constrained devices for which a gateway speaks.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Time;

/// A node, or an address from which passing nodes come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Node<'a> {
    /// Its number.
    pub id: i64,
    /// The gateway that speaks for it, by name.
    #[cfg_attr(feature = "openapi", schema(example = "coap"))]
    pub gateway: Cow<'a, str>,
    /// What it calls itself; `@` and an IP address for all passing nodes that come from there.
    #[cfg_attr(feature = "openapi", schema(example = "1234"))]
    pub uid: Cow<'a, str>,
    /// Whether it may join.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::NodeStateName))]
    pub state: Cow<'a, str>,
    /// Where it was last heard from, in words of its gateway; empty if it never was.
    pub address: Cow<'a, str>,
    /// Whether it has a new uid at each connection: its device then lives as long as that.
    pub passing: bool,
    /// The number of its device; null if it has none.
    #[cfg_attr(feature = "openapi", schema(required = true, minimum = 1))]
    pub device_id: Option<i64>,
    /// The serial number of its device; null if it has none.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub sn: Option<Cow<'a, str>>,
    /// When it was first heard of, or listed.
    pub first_seen: Time,
    /// When its gateway last asked about it, to a minute; of one that is admitted, when that last changed anything.
    pub last_asked: Time,
}

/// A page of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodePage<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub items: Vec<Node<'a>>,
    /// How many nodes there are on all pages.
    pub total: u64,
    /// The number of this page.
    pub page: u32,
    /// How many nodes a page has.
    pub size: u32,
    /// How many pages there are.
    pub pages: u64,
}

/// A node that was renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeRenamed<'a> {
    /// Its number.
    pub id: i64,
    /// What it is called now.
    pub name: Cow<'a, str>,
}
