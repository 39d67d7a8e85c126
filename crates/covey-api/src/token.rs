//! Tokens that a server issues.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{Time, Whole};

/// A token to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenNew<'a> {
    /// What it shall do: some of what the API key may; what that may with some devices alone, the token may with those alone. Without
    /// it: all that the key may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::schema::RightName>>))]
    pub rights: Option<Vec<Cow<'a, str>>>,
    /// For how many seconds it is valid; 900 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u32>, minimum = 10, maximum = 86400))]
    pub expires_in: Option<Whole>,
}

/// A token that was made (RFC 6749 §5.1).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenMade {
    /// The token: a JWT, signed with ES256.
    pub access_token: String,
    /// Always `Bearer`.
    #[cfg_attr(feature = "openapi", schema(example = "Bearer"))]
    pub token_type: Cow<'static, str>,
    /// For how many seconds it is valid from now on.
    pub expires_in: i64,
    /// From when on it is not valid.
    pub expires_at: Time,
    /// What it may do.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::RightName>))]
    pub rights: Vec<Cow<'static, str>>,
}

/// The keys with which tokens are signed: a JWK set (RFC 7517 §5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenKeys<'a> {
    /// The keys.
    pub keys: Vec<TokenKey<'a>>,
}

/// A public key: a JWK (RFC 7517 §4), of ES256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenKey<'a> {
    /// Its name, as in a token's header.
    pub kid: Cow<'a, str>,
    /// Always `EC`.
    #[cfg_attr(feature = "openapi", schema(example = "EC"))]
    pub kty: Cow<'a, str>,
    /// Always `P-256`.
    #[cfg_attr(feature = "openapi", schema(example = "P-256"))]
    pub crv: Cow<'a, str>,
    /// Always `ES256`.
    #[cfg_attr(feature = "openapi", schema(example = "ES256"))]
    pub alg: Cow<'a, str>,
    /// Always `sig`.
    #[serde(rename = "use")]
    #[cfg_attr(feature = "openapi", schema(example = "sig"))]
    pub used_for: Cow<'a, str>,
    /// The point, in base64url.
    pub x: Cow<'a, str>,
    /// The point, in base64url.
    pub y: Cow<'a, str>,
}
