//! API keys: making, listing and revoking them.

use covey_api::ApiKeyNew;
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;

/// An API key as the server keeps it: without its clear text.
pub type ApiKey = covey_api::ApiKey<'static>;
/// An API key that was just made.
pub type MadeApiKey = covey_api::ApiKeyMade<'static>;

impl Client {
    /// Makes an API key.
    ///
    /// # Errors
    /// A refusal (such as a right that is missing), or the transport's.
    pub async fn api_key_add(&self, request: &ApiKeyNew) -> Result<MadeApiKey> {
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
