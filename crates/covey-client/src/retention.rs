//! For how long things are kept.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::Result;

const RETENTION: [&str; 3] = ["api", "v1", "retention"];

/// For how many days things are kept, by their names; 0 means for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Retention {
    /// What is in force.
    pub in_force: BTreeMap<String, u32>,
    /// What the operator has set for all organisations.
    pub default: BTreeMap<String, u32>,
    /// What this organisation has set for itself.
    pub own: BTreeMap<String, u32>,
}

/// What was forgotten.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Forgotten {
    /// How much, by what it is.
    pub forgotten: BTreeMap<String, u64>,
    /// Whether there is more that can be forgotten now.
    pub is_more: bool,
}

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
    pub async fn retention_put(&self, days: &BTreeMap<String, Option<u32>>) -> Result<Retention> {
        self.request(Method::PUT, &RETENTION).json(days).send().await?.json()
    }

    /// Forgets what is too old now; a bounded amount.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn retention_run(&self) -> Result<Forgotten> {
        self.request(Method::POST, &["api", "v1", "retention", "run"]).send().await?.json()
    }
}
