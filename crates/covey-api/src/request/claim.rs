//! What is sent about claims.

use serde::{Deserialize, Serialize};

use crate::{Time, Whole};

/// A claim to be made. `serials`, `pattern` or both say who may enrol.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimNew {
    /// What its owner calls it.
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 128, pattern = r"^[^\x00-\x1F\x7F-\x9F]+$", example = "line 4")
    )]
    pub name: String,
    /// Serial numbers that may enrol. More can be added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::SerialNumber>, max_items = 5000, example = json!(["LAMP-0001"])))]
    pub serials: Vec<String>,
    /// Which serial numbers may enrol beside those: `*` stands for any number of characters, `?` for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_*?-]{1,64}$", example = "LAMP-*"))]
    pub pattern: Option<String>,
    /// How many devices it is for; as many as are listed if left out, which is not allowed beside a pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 1_000_000))]
    pub limit: Option<Whole>,
    /// When its certificate is to end.
    pub expires_at: Time,
}

/// Serial numbers to be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimSerialsNew {
    /// The serial numbers.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::SerialNumber>, max_items = 5000, example = json!(["LAMP-0002"])))]
    pub serials: Vec<String>,
}

/// A serial number to be released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimRelease {
    /// The serial number.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_-]{1,64}$", example = "LAMP-0001"))]
    pub sn: String,
}
