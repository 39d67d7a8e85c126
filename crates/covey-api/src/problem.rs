//! What is refused (RFC 9457).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::ServerPart;

/// An RFC 9457 problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem<'a> {
    /// The kind of the problem, as a URI that stays the same.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(format = "uri", example = "urn:covey:problem:invalid"))]
    pub problem_type: Cow<'a, str>,
    /// The kind of the problem, in words.
    #[cfg_attr(feature = "openapi", schema(example = "A value is out of its range or form"))]
    pub title: Cow<'a, str>,
    /// The HTTP status.
    #[cfg_attr(feature = "openapi", schema(minimum = 400, maximum = 599, example = 422))]
    pub status: u16,
    /// What is wrong with this request, and what to do about it.
    #[cfg_attr(feature = "openapi", schema(example = "priority: must be 0 to 9"))]
    pub detail: Cow<'a, str>,
    /// The field or parameter that is wrong, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, example = "priority"))]
    pub field: Option<Cow<'a, str>>,
    /// The id of the request, as in `x-request-id` and in the server's log.
    #[cfg_attr(feature = "openapi", schema(example = "9f86d081884c7d65-2a"))]
    pub request_id: Cow<'a, str>,
    /// How the parts of the server are, where `/readyz` says that it cannot do its work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub parts: Vec<ServerPart>,
}
