//! A node to be listed, and what one is to be called.

use serde::{Deserialize, Serialize};

/// A node to be listed: it may join as soon as it is heard of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeNew {
    /// The gateway that will speak for it, by name.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[a-z0-9]{1,16}$", example = "coap"))]
    pub gateway: String,
    /// What it calls itself; `@` and an IP address for all passing nodes that come from there.
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 128, pattern = r"^[^\x00-\x1F\x7F-\x9F]+$", example = "1234")
    )]
    pub uid: String,
}

/// What a node is to be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeRename {
    /// The name: the tag `name` of its device.
    #[cfg_attr(feature = "openapi", schema(max_length = 1024, pattern = r"^[^\x00]*$", example = "window"))]
    pub name: String,
}
