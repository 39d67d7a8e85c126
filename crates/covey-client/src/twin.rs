//! Twins: what devices say their values are, and what is wanted.

use covey_api::TwinPatch;
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;

/// A device's twin.
pub type Twin = covey_api::Twin<'static>;

impl Client {
    /// A device's twin.
    ///
    /// # Errors
    /// A refusal (404 if there is no such device), or the transport's.
    pub async fn twin_get(&self, device_id: i64) -> Result<Twin> {
        self.request(Method::GET, &path(&device_id.to_string())).send().await?.json()
    }

    /// Changes a twin; with `if_match`, such as `"r3-d1"` or `"d1"`, only if it has that version.
    ///
    /// # Errors
    /// A refusal (404 if there is no such device, 412 if it has another version), or the transport's.
    pub async fn twin_patch(
        &self,
        device_id: i64,
        patch: &TwinPatch<'_>,
        if_match: Option<&str>,
    ) -> Result<Twin> {
        let request = self.request(Method::PATCH, &path(&device_id.to_string()));
        request.if_match(if_match).json(patch).send().await?.json()
    }
}

fn path(id: &str) -> [&str; 5] {
    ["api", "v1", "devices", id, "twin"]
}
