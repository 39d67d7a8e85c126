//! What can go wrong.

/// Why the local network cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// Multicast DNS cannot be used on this machine.
    #[error("multicast DNS cannot be used here")]
    Multicast {
        /// What the library says.
        #[source]
        source: mdns_sd::Error,
    },
    /// What was to be announced cannot be.
    #[error("{name} cannot be announced as {kind}")]
    Announcement {
        /// Under which name.
        name: String,
        /// As what.
        kind: &'static str,
        /// What the library says.
        #[source]
        source: mdns_sd::Error,
    },
    /// A text is no certificate.
    #[error("there is no certificate in PEM")]
    NoCertificate,
}

impl From<mdns_sd::Error> for DiscoveryError {
    fn from(source: mdns_sd::Error) -> Self {
        Self::Multicast { source }
    }
}
