//! Microcontrollers: what a client of their listener (`covey up --mcu-http`) asks, without an API key.

use std::fmt;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::client::Client;
use crate::error::Result;

/// What a microcontroller connects with, each in PEM.
#[derive(Clone, Deserialize)]
pub struct MicrocontrollerKeys {
    /// Its certificate.
    pub cert: String,
    /// Its private key.
    pub pkey: String,
    /// The CA that it trusts.
    pub ca: String,
}

/// The key is never printed.
impl fmt::Debug for MicrocontrollerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MicrocontrollerKeys").finish_non_exhaustive()
    }
}

impl Client {
    /// Registers a microcontroller, or gives one that is registered another certificate. This client must be one of the
    /// listener of microcontrollers, not of the REST API.
    ///
    /// # Errors
    /// A refusal (409 if another device has the name, 429 after too many in a minute), or the transport's.
    pub async fn microcontroller_register(&self, name: &str) -> Result<MicrocontrollerKeys> {
        let body = json!({ "device_name": name });
        self.request(Method::POST, &["register_device"]).json(&body).send().await?.json()
    }
}
