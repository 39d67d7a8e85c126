//! Claims: what a whole production enrols its devices with.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Time;

/// A claim: its certificate may enrol devices, and do nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Claim<'a> {
    /// Its number.
    pub id: i64,
    /// What its owner calls it.
    #[cfg_attr(feature = "openapi", schema(example = "line 4"))]
    pub name: Cow<'a, str>,
    /// The serial number of its certificate in hexadecimal digits.
    pub certificate_serial: Cow<'a, str>,
    /// Which serial numbers may enrol beside those that are listed; null if none may.
    #[cfg_attr(feature = "openapi", schema(required = true, example = "LAMP-*"))]
    pub pattern: Option<Cow<'a, str>>,
    /// How many devices it is for.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub limit: u32,
    /// How many devices have enrolled, those aside whose serial numbers were released.
    pub used: u32,
    /// When it was made.
    pub created_at: Time,
    /// When its certificate ends.
    pub expires_at: Time,
    /// When it was revoked; null if it was not.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub revoked_at: Option<Time>,
}

/// A page of claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimPage<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub items: Vec<Claim<'a>>,
    /// How many claims there are on all pages.
    pub total: u64,
    /// The number of this page.
    pub page: u32,
    /// How many claims a page has.
    pub size: u32,
    /// How many pages there are.
    pub pages: u64,
}

/// A claim with its certificate and its key.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimMade<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub claim: Claim<'a>,
    /// The claim's certificate, then that of the CA that issued it, in PEM.
    pub certificate_pem: Cow<'a, str>,
    /// The certificate of the root CA, in PEM.
    pub ca_pem: Cow<'a, str>,
    /// The claim's private key in PEM. Shown once and never again.
    pub private_key_pem: Cow<'a, str>,
}

/// Never shows the key.
impl fmt::Debug for ClaimMade<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimMade").field("claim", &self.claim).finish_non_exhaustive()
    }
}

/// A serial number of a claim: one that is listed, or has enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimSerial<'a> {
    /// The serial number.
    #[cfg_attr(feature = "openapi", schema(example = "LAMP-0001"))]
    pub sn: Cow<'a, str>,
    /// The number of the device that has enrolled last; null if none has.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub device_id: Option<i64>,
    /// When it enrolled.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub used_at: Option<Time>,
    /// When the serial number was released, if none has enrolled since.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub released_at: Option<Time>,
}

/// A page of serial numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimSerialPage<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub items: Vec<ClaimSerial<'a>>,
    /// How many serial numbers there are on all pages.
    pub total: u64,
    /// The number of this page.
    pub page: u32,
    /// How many serial numbers a page has.
    pub size: u32,
    /// How many pages there are.
    pub pages: u64,
}

/// Serial numbers that were listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimSerialsAdded {
    /// How many of them were not listed before.
    pub added: u32,
}

/// A serial number that was released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimSerialReleased<'a> {
    /// The serial number.
    pub sn: Cow<'a, str>,
}
