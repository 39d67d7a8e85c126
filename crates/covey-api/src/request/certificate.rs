//! A certificate to be revoked.

use serde::{Deserialize, Serialize};

/// Why a certificate is to be revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevocationNew {
    /// The reason; `unspecified` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::RevocationReasonName>))]
    pub reason: Option<String>,
}
