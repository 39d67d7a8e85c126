//! What can go wrong before anything is sent.

use std::path::PathBuf;

/// Why webhooks cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The file with more CA certificates cannot be read.
    #[error("cannot read {path}: {source}; give a PEM file with --webhook-ca")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds none.
    #[error("{path} holds no certificate in PEM; give another with --webhook-ca")]
    NoCa {
        /// The file.
        path: PathBuf,
    },
    /// The client cannot be set up.
    #[error("the HTTP client of webhooks cannot be set up: {problem}")]
    Setup {
        /// Why.
        problem: String,
    },
}

impl WebhookError {
    pub(crate) fn setup(error: impl std::fmt::Display) -> Self {
        Self::Setup { problem: error.to_string() }
    }
}
