//! API keys: making, listing and revoking them.

use reqwest::Method;
use serde::Serialize;

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
pub type ApiKey = covey_api::ApiKey<'static>;
/// An API key that was just made.
pub type MadeApiKey = covey_api::ApiKeyMade<'static>;

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
