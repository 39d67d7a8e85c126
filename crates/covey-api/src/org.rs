//! Organisations.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Time;

/// An organisation: what belongs to one does not exist for the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Org<'a> {
    /// Its number.
    pub id: i64,
    /// Its name, which no other has.
    #[cfg_attr(feature = "openapi", schema(example = "acme"))]
    pub name: Cow<'a, str>,
    /// When it was made.
    pub created_at: Time,
    /// How many devices are registered in it.
    pub devices: u64,
    /// How many API keys it has that were not revoked.
    pub keys: u64,
}

/// A page of organisations.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrgPage<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub items: Vec<Org<'a>>,
    /// How many there are.
    pub total: u64,
    /// The number of this page.
    pub page: u32,
    /// How many a page has.
    pub size: u32,
    /// How many pages there are.
    pub pages: u64,
}

/// The name of an organisation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrgNamed {
    /// The name, which no other may have.
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 128, pattern = r"^[^\x00-\x1F\x7F-\x9F]+$", example = "acme")
    )]
    pub name: String,
}
