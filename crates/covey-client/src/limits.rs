//! Limits of organisations and keys.

use covey_api::{KeyLimits, KeyLimitsReport, OrgLimits, OrgLimitsReport};
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;

impl Client {
    /// The limits of an organisation.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn org_limits(&self, id: i64) -> Result<OrgLimitsReport> {
        let id = id.to_string();
        self.request(Method::GET, &["api", "v1", "orgs", &id, "limits"]).send().await?.json()
    }

    /// Sets all limits of an organisation.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn org_limits_put(&self, id: i64, limits: &OrgLimits) -> Result<OrgLimitsReport> {
        let id = id.to_string();
        self.request(Method::PUT, &["api", "v1", "orgs", &id, "limits"]).json(limits).send().await?.json()
    }

    /// The limits of an API key.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn api_key_limits(&self, id: i64) -> Result<KeyLimitsReport> {
        let id = id.to_string();
        self.request(Method::GET, &["api", "v1", "api-keys", &id, "limits"]).send().await?.json()
    }

    /// Sets all limits of an API key.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn api_key_limits_put(&self, id: i64, limits: &KeyLimits) -> Result<KeyLimitsReport> {
        let id = id.to_string();
        self.request(Method::PUT, &["api", "v1", "api-keys", &id, "limits"]).json(limits).send().await?.json()
    }
}
