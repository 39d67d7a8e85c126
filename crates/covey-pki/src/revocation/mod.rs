//! What the issuing CA says of certificates that it has signed: a list of those that were revoked (RFC 5280), and answers
//! to who asks about some (RFC 6960). Which were revoked, others know.

mod crl;
mod ocsp;
mod signer;
mod urls;

pub use crl::{CrlSpan, RevokedEntry, crl_to_pem};
pub use ocsp::{
    OCSP_CERTIFICATES_MAX, OCSP_NONCE_BYTES_MAX, OCSP_REQUEST_BYTES_MAX, OcspRefusal, OcspSpan, OcspStatus,
};
pub use urls::RevocationUrls;

/// Why a list or an answer could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// A serial number is not 1 to 20 bytes in hexadecimal digits.
    #[error("{serial:?} is no serial number of a certificate")]
    Serial {
        /// What was given in its place.
        serial: String,
    },
    /// An instant cannot be written in a certificate's form of times.
    #[error("an instant is out of range")]
    Instant,
    /// A reason that RFC 5280 does not know, or that can be taken back.
    #[error("{number} is no reason of a revocation")]
    Reason {
        /// What was given in its place.
        number: u8,
    },
    /// The key of the issuing CA is of a kind that signs no answers.
    #[error("the key of the issuing CA is of a kind that cannot sign answers about certificates")]
    Key,
    /// The crypto library could not sign.
    #[error("the crypto library failed: {0}")]
    Crypto(#[from] rcgen::Error),
    /// What was made could not be written down.
    #[error("an answer could not be encoded: {0}")]
    Encoding(#[from] der::Error),
}
