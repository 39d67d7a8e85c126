//! What keeps a listener from being set up.

use std::net::SocketAddr;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The address is taken or may not be used.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A text does not hold what it must, in PEM.
    #[error("must hold {must} in PEM: {problem}")]
    Pem {
        /// What it must hold.
        must: &'static str,
        /// What was wrong.
        problem: String,
    },
    /// The certificates that clients' must lead to cannot be used.
    #[error("cannot verify clients by these certificates: {0}")]
    Trusted(String),
    /// A certificate or the key cannot be used, or they do not go together.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}
