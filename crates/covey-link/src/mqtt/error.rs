//! What can go wrong before the link to an MQTT broker runs.

use crate::tls::TlsError;

/// Why the link to an MQTT broker cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// The address cannot be used; nothing of it is repeated here, it may hold a password.
    #[error("the link's address cannot be used: {problem}; give mqtts://HOST or mqtts://HOST:PORT")]
    Address {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// `mqtts://` without the files that this server shows itself with.
    #[error(
        "an mqtts:// link needs a client certificate: give its CA, certificate and key (`covey pki client` makes them)"
    )]
    CertificateMissing,
    /// The server's name cannot be part of a client id.
    #[error("the server's name cannot be used as part of an MQTT client id: {problem}; give another name")]
    Name {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A limit that is out of range.
    #[error("{limit} must be at least 1")]
    Limit {
        /// Its name.
        limit: &'static str,
    },
    /// The certificate files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The MQTT client does not take these options.
    #[error("the MQTT client does not take these options: {problem}")]
    Client {
        /// What it said.
        problem: String,
    },
    /// A link runs at most once.
    #[error("this link was started before; make a new one")]
    AlreadyStarted,
}
