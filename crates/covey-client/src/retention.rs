//! For how long things are kept.

use covey_api::{Retention, RetentionChange, RetentionRun};
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;

const RETENTION: [&str; 3] = ["api", "v1", "retention"];

impl Client {
    /// For how long things are kept.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn retention_get(&self) -> Result<Retention> {
        self.request(Method::GET, &RETENTION).send().await?.json()
    }

    /// Sets for how many days things are kept: 0 for ever, none for as long as the operator says.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn retention_put(&self, change: &RetentionChange) -> Result<Retention> {
        self.request(Method::PUT, &RETENTION).json(change).send().await?.json()
    }

    /// Forgets what is too old now; a bounded amount.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn retention_run(&self) -> Result<RetentionRun> {
        self.request(Method::POST, &["api", "v1", "retention", "run"]).send().await?.json()
    }
}
