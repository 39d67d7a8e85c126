//! What can go wrong before a device runs, or end it. Each variant tells what to do next.

use std::path::PathBuf;

use crate::refusal::Refusal;

/// Why a device could not be built, or why [`Device::run`](crate::Device::run) ended.
///
/// Everything except [`Error::Refused`] comes from the builder: put the named thing right and
/// build again. A lost connection is never an error: the device reconnects by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server's address is missing or not of the form `mqtts://host:port`.
    #[error("the server address {given:?} is not usable: write mqtts://HOST:PORT (default port 8883)")]
    ServerAddress {
        /// The address as it was given.
        given: String,
    },
    /// No server was found on the local network, or several.
    #[cfg(feature = "discover")]
    #[error("{why}")]
    NotChosen {
        /// Which there are.
        why: covey_discovery::NotChosen,
    },
    /// Multicast DNS cannot be used here: give the server's address.
    #[cfg(feature = "discover")]
    #[error("{source}: give the server's address")]
    Discovery {
        /// What is wrong.
        #[source]
        source: covey_discovery::DiscoveryError,
    },
    /// The address for renewals is not of the form `https://host:port`.
    #[cfg(feature = "renew")]
    #[error("the address for renewals {given:?} is not usable: write https://HOST:PORT (default port 443)")]
    RenewalAddress {
        /// The address as it was given.
        given: String,
    },
    /// A certificate is renewed where it can be stored: give the identity as a folder.
    #[cfg(feature = "renew")]
    #[error("renew_from() needs identity_dir(DIR): a renewed certificate is stored there")]
    RenewalFolder,
    /// Neither a folder nor an [`Identity`](crate::Identity) was given.
    #[error(
        "the device has no identity: call identity_dir(DIR) with a folder written by `covey device add SN --out DIR`"
    )]
    IdentityMissing,
    /// A file of the identity folder cannot be read.
    #[error(
        "cannot read {}: {source}; the folder must hold ca.pem, cert.pem and key.pem, as `covey device add SN --out DIR` writes them",
        path.display()
    )]
    IdentityFile {
        /// The file that was tried.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Bytes that should be PEM hold no certificate, or no private key.
    #[error("{what} is not usable PEM: expected {expected}")]
    NotPem {
        /// Which of `ca.pem`, `cert.pem`, `key.pem`.
        what: &'static str,
        /// What should be in it.
        expected: &'static str,
    },
    /// The certificate cannot be read, or its subject has no CommonName.
    #[error("cert.pem has no readable subject CommonName: ask for a new certificate of this device")]
    CertificateUnreadable,
    /// The certificate's CommonName is not an SN.
    #[error("the CommonName {sn:?} of cert.pem is not a device SN: 1 to 64 characters of A-Z a-z 0-9 _ -")]
    SerialNumber {
        /// The CommonName as found.
        sn: String,
    },
    /// The private key does not belong to the certificate.
    #[error("key.pem does not belong to cert.pem: copy both from the same folder")]
    KeyMismatch,
    /// The TLS library does not take the certificates or the key.
    #[error("the certificates or the key cannot be used for TLS: {source}")]
    Tls {
        /// What the TLS library said.
        #[source]
        source: rustls::Error,
    },
    /// The journal's folder or file cannot be used.
    #[error("the journal {} cannot be used: {source}; check the folder's rights and free space", path.display())]
    Journal {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another process has the journal of this SN open.
    #[error(
        "the journal {} is in use by another process: stop it first, one SN runs once",
        path.display()
    )]
    JournalInUse {
        /// The file.
        path: PathBuf,
    },
    /// The server refused the device and
    /// [`stop_when_refused`](crate::DeviceBuilder::stop_when_refused) is on.
    #[error("{0}")]
    Refused(Refusal),
}
