//! API keys: making, listing and revoking them.

use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::Result;

/// An API key that is wanted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ApiKeyRequest {
    /// What its owner calls it.
    pub name: String,
    /// The organisation it speaks for; the caller's own if none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// What it may do, by the names of the rights: no more than the caller may.
    pub rights: Vec<String>,
    /// A client certificate in PEM that is to stand for the key. No key is made then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_pem: Option<String>,
}

/// An API key as the server keeps it: without its clear text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its number.
    pub id: i64,
    /// The organisation it speaks for.
    #[serde(default)]
    pub org: String,
    /// What its owner calls it.
    #[serde(default)]
    pub name: String,
    /// What it may do.
    #[serde(default)]
    pub rights: Vec<String>,
    /// When it was made, in RFC 3339.
    #[serde(default)]
    pub created_at: Option<String>,
    /// When it last let somebody in, in RFC 3339, as of about a minute ago; none if it never did.
    #[serde(default)]
    pub last_used_at: Option<String>,
}

/// An API key that was just made.
#[derive(Clone, Serialize, Deserialize)]
pub struct MadeApiKey {
    /// What the server keeps of it.
    #[serde(flatten)]
    pub api_key: ApiKey,
    /// Its clear text, shown once and never again; none if a certificate stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The SHA-256 of the certificate that stands for it, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<String>,
}

impl Client {
    /// Makes an API key.
    ///
    /// # Errors
    /// A refusal (such as a right that is missing), or the transport's.
    pub async fn api_key_add(&self, request: &ApiKeyRequest) -> Result<MadeApiKey> {
        self.request(Method::POST, &["api", "v1", "api-keys"]).json(request).send().await?.json()
    }

    /// All API keys.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn api_key_list(&self) -> Result<Vec<ApiKey>> {
        self.request(Method::GET, &["api", "v1", "api-keys"]).send().await?.json()
    }

    /// Revokes an API key: the server refuses it from now on.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn api_key_revoke(&self, id: i64) -> Result<()> {
        let id = id.to_string();
        self.request(Method::DELETE, &["api", "v1", "api-keys", &id]).send().await.map(|_| ())
    }
}
