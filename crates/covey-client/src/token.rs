//! Tokens, and whom a credential stands for.

use covey_api::TokenNew;
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;

/// Whom a credential stands for.
pub type Whoami = covey_api::Whoami<'static>;
/// A token that was just made.
pub type MadeToken = covey_api::TokenMade;

impl Client {
    /// Makes a token from the API key of this client.
    ///
    /// # Errors
    /// A refusal (such as a right that the key lacks), or the transport's.
    pub async fn token_make(&self, request: &TokenNew<'_>) -> Result<MadeToken> {
        self.request(Method::POST, &["api", "v1", "auth", "token"]).json(request).send().await?.json()
    }

    /// Whom the credential of this client stands for.
    ///
    /// # Errors
    /// A refusal (401 if it is not valid), or the transport's.
    pub async fn whoami(&self) -> Result<Whoami> {
        self.request(Method::GET, &["api", "v1", "whoami"]).send().await?.json()
    }
}
