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
    /// The names that are not known, where that is why `Prefer: handling=strict` was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub errors: Vec<UnknownName<'a>>,
    /// The names that are not known and were passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub warnings: Vec<UnknownName<'a>>,
}

/// A name in a request that nobody knows: it may be misspelt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UnknownName<'a> {
    /// `unknown-member` of the body, `unknown-parameter` of the query, or `more`: names beyond those that are listed.
    #[cfg_attr(feature = "openapi", schema(example = "unknown-member"))]
    pub kind: Cow<'a, str>,
    /// The same in words.
    #[cfg_attr(feature = "openapi", schema(example = "this member is not known"))]
    pub detail: Cow<'a, str>,
    /// Where the member is: a JSON pointer as the fragment of a URI (RFC 6901 §6). A long one is cut and ends
    /// with `...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, example = "#/payloda"))]
    pub pointer: Option<Cow<'a, str>>,
    /// The parameter, with percent escapes. A long one is cut and ends with `...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, example = "siez"))]
    pub parameter: Option<Cow<'a, str>>,
    /// How many names there are beyond those that are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub count: Option<u32>,
}

impl UnknownName<'static> {
    /// A member of a body.
    #[must_use]
    pub fn member(pointer: String) -> Self {
        let of = Self::of("unknown-member", "this member is not known");
        Self { pointer: Some(Cow::Owned(pointer)), ..of }
    }

    /// A parameter of a query.
    #[must_use]
    pub fn parameter(parameter: String) -> Self {
        let of = Self::of("unknown-parameter", "this parameter is not known");
        Self { parameter: Some(Cow::Owned(parameter)), ..of }
    }

    /// Names beyond those that are listed.
    #[must_use]
    pub fn more(count: u32) -> Self {
        Self { count: Some(count), ..Self::of("more", "more names are not known") }
    }

    const fn of(kind: &'static str, detail: &'static str) -> Self {
        let (kind, detail) = (Cow::Borrowed(kind), Cow::Borrowed(detail));
        Self { kind, detail, pointer: None, parameter: None, count: None }
    }
}
