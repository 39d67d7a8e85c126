//! How the server is.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// How the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// Always `ok`; anything else is a problem document.
    #[cfg_attr(feature = "openapi", schema(example = "ok"))]
    pub status: Cow<'static, str>,
}

/// Whether the server can do its work, and how its parts are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Readiness {
    /// Always `ok`; anything else is a problem document, which names the parts as well.
    #[cfg_attr(feature = "openapi", schema(example = "ok"))]
    pub status: Cow<'static, str>,
    /// The parts of the server.
    pub parts: Vec<ServerPart>,
}

/// How a part of the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerPart {
    /// What it is: `store`, `disk` (the room where the store is) or `link`.
    #[cfg_attr(feature = "openapi", schema(example = "link"))]
    pub part: Cow<'static, str>,
    /// Which link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, example = "mqtt"))]
    pub name: Option<Cow<'static, str>>,
    /// `up`; `down`; of a link `blocked`: the broker is there and refuses messages or subscriptions of this server; of
    /// the disk `short`: what is new is refused, or `full`: all but deletions and revocations is.
    #[cfg_attr(feature = "openapi", schema(example = "up"))]
    pub state: Cow<'static, str>,
    /// Why it is not up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, example = "no connection to the broker"))]
    pub why: Option<Cow<'static, str>>,
}
