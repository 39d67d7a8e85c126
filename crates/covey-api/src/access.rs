//! API keys, and whom a credential stands for.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{DeviceTag, Grant, Time};

/// An API key, without its clear text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKey<'a> {
    /// Its number.
    pub id: i64,
    /// Its organisation, by name.
    pub org: Cow<'a, str>,
    /// What its owner calls it.
    pub name: Cow<'a, str>,
    /// What it may do in the whole organisation.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::RightName>))]
    pub rights: Vec<Cow<'static, str>>,
    /// When it was made.
    pub created_at: Time,
    /// When it last let somebody in; a use within a minute of the last one known is not
    /// noted. None if it never did.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub last_used_at: Option<Time>,
    /// From when on it is not valid. None if it does not expire.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub expires_at: Option<Time>,
    /// The addresses from which it is valid, as ranges; from anywhere if there are none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true, example = json!(["10.1.0.0/16"])))]
    pub addresses: Vec<String>,
    /// What it may do with some devices, methods or kinds of data alone.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub grants: Vec<Grant>,
}

/// An API key that was just made.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKeyMade<'a> {
    /// Its number.
    pub id: i64,
    /// Its organisation, by name.
    pub org: Cow<'a, str>,
    /// What its owner calls it.
    pub name: Cow<'a, str>,
    /// What it may do in the whole organisation.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::RightName>))]
    pub rights: Vec<Cow<'static, str>>,
    /// When it was made.
    pub created_at: Time,
    /// From when on it is not valid. None if it does not expire.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub expires_at: Option<Time>,
    /// The addresses from which it is valid, as ranges; from anywhere if there are none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true, example = json!(["10.1.0.0/16"])))]
    pub addresses: Vec<String>,
    /// What it may do with some devices, methods or kinds of data alone.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub grants: Vec<Grant>,
    /// The key itself. Shown once and never again. Not there for a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub key: Option<Cow<'a, str>>,
    /// SHA-256 of the certificate that stands for this key, in lowercase hex. Not there for a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub certificate_sha256: Option<Cow<'a, str>>,
}

/// An API key that was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKeyRevoked {
    /// Its number.
    pub id: i64,
}

/// The organisation of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Account {
    /// The organisation's number.
    pub org_id: i64,
}

/// Whom a credential stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Whoami<'a> {
    /// The organisation's number.
    pub org_id: i64,
    /// The organisation's name.
    #[cfg_attr(feature = "openapi", schema(example = "acme"))]
    pub org: Cow<'a, str>,
    /// What the owner of the key or certificate calls it, or whoever has issued the token its bearer; the name of a person.
    #[cfg_attr(feature = "openapi", schema(example = "dashboard"))]
    pub name: Cow<'a, str>,
    /// What kind of credential it is.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::CallerKindName, required = true))]
    pub kind: Cow<'a, str>,
    /// What it may do in the whole organisation.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::RightName>))]
    pub rights: Vec<Cow<'static, str>>,
    /// From when on the key, token, session or certificate is not valid here. None if it does not expire.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub expires_at: Option<Time>,
    /// The addresses from which it is valid, as ranges; from anywhere if there are none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true, example = json!(["10.1.0.0/16"])))]
    pub addresses: Vec<String>,
    /// What it may do with some devices, methods or kinds of data alone.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub grants: Vec<Grant>,
    /// Of a token: who has issued it (`iss`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub issuer: Option<Cow<'a, str>>,
    /// Of a token: whom its issuer means (`sub`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub subject: Option<Cow<'a, str>>,
    /// Of a person, and of a token that it has made: the person's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub user_id: Option<i64>,
    /// Of a person, and of a token that it has made: the number of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub session_id: Option<i64>,
}

/// What came of a right that an operation takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccessReason<'a> {
    /// The right.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RightName))]
    pub right: Cow<'a, str>,
    /// Whether the key has it here.
    pub has: bool,
    /// Why, in words.
    pub why: Cow<'a, str>,
    /// The grant that gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub grant: Option<Grant>,
}

/// Why a key may do something, or may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccessExplanation<'a> {
    /// Whether it may. Of a list or a stream, whether it is answered; what is not granted is left out there.
    pub allowed: bool,
    /// The operation.
    #[cfg_attr(feature = "openapi", schema(example = "POST /api/v1/device-tasks"))]
    pub operation: Cow<'a, str>,
    /// The number of the key, or of the caller by another credential.
    pub key_id: i64,
    /// What its owner calls it.
    pub key: Cow<'a, str>,
    /// Whether the key has expired.
    pub expired: bool,
    /// The addresses from which it is valid; from anywhere if there are none.
    pub addresses: Vec<String>,
    /// The tags of the device that was asked about.
    pub tags: Vec<DeviceTag<'static>>,
    /// What came of each right that the operation takes.
    pub rights: Vec<AccessReason<'a>>,
}
