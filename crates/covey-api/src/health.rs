//! How the server is.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Time;

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

/// What is wrong around a server, as its last look found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Findings<'a> {
    /// `ok`; `warning` or `error` as the most severe finding is; `unknown` before the first look, in the first second. A look that is
    /// older than a minute is an `error` (`look_stale`).
    #[cfg_attr(feature = "openapi", schema(example = "warning"))]
    pub status: Cow<'a, str>,
    /// What the server's own clock shows, which an answer in time can be compared with.
    pub server_time: Time,
    /// When it was looked; a server looks every 5 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub looked_at: Option<Time>,
    /// What is wrong, the most severe first, at most 100.
    pub findings: Vec<Finding<'a>>,
}

/// Something that is wrong around a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finding<'a> {
    /// What it is; it stays the same over versions. `docs/operating.md` lists the codes.
    #[cfg_attr(feature = "openapi", schema(example = "server_certificate_ends"))]
    pub code: Cow<'a, str>,
    /// `error`: something does not work, or a secret is open; `warning`: it will not, unless somebody acts in time.
    #[cfg_attr(feature = "openapi", schema(example = "error"))]
    pub severity: Cow<'a, str>,
    /// What it is about: a file, a listener, a link, a webhook. It is `this server`, and the next ones say no more, where the
    /// key is not told (it lacks orgs:admin).
    #[cfg_attr(feature = "openapi", schema(example = "/var/lib/covey/pki/server.pem"))]
    pub about: Cow<'a, str>,
    /// What was seen.
    #[cfg_attr(feature = "openapi", schema(example = "it ends at 2026-12-08 11:00 UTC, in 7 days"))]
    pub seen: Cow<'a, str>,
    /// What to type or do.
    #[cfg_attr(feature = "openapi", schema(example = "restart the server, which makes itself a new one"))]
    pub remedy: Cow<'a, str>,
}
