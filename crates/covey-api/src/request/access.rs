//! An API key to be made.

use serde::{Deserialize, Serialize};

use crate::{Grant, Time, grant};

/// An API key to be made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKeyNew {
    /// Its organisation, by name; made if there is none. The caller's own if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 128, pattern = r"^[^\x00-\x1F\x7F-\x9F]+$")
    )]
    pub org: Option<String>,
    /// What its owner calls it.
    #[cfg_attr(
        feature = "openapi",
        schema(
            min_length = 1,
            max_length = 128,
            pattern = r"^[^\x00-\x1F\x7F-\x9F]+$",
            example = "dashboard"
        )
    )]
    pub name: String,
    /// What it may do in the whole organisation: no more than the caller may.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::RightName>))]
    pub rights: Vec<String>,
    /// Rights that go together, beside `rights`: a viewer looks on, an integrator also calls devices and has webhooks, an
    /// operator calls and manages devices and units, an admin may do everything in the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::RoleName>))]
    pub role: Option<String>,
    /// What it may do with some devices, methods or kinds of data alone: no more than the caller may. They come to at most
    /// 10,000 pairs of a tag with a method or a type of events.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "grant::strictly")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub grants: Vec<Grant>,
    /// A client certificate in PEM that is to stand for this key: whoever shows it over TLS, and holds its
    /// private key, is let in. No key is made then. Any issuer will do, also the certificate itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 16384))]
    pub certificate_pem: Option<String>,
    /// From when on it is not valid; it does not expire if left out. Not later than the caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The addresses from which it is valid: ranges such as 10.1.0.0/16, or single ones; from anywhere if left out. Among
    /// the caller's own. Behind a proxy that the server trusts it is the proxy that says where a request comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 16, example = json!(["10.1.0.0/16"])))]
    pub addresses: Vec<String>,
}
