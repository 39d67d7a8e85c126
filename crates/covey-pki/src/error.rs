//! What can go wrong, said so that the reader knows what to do next.

use std::io;
use std::path::PathBuf;

use time::OffsetDateTime;

/// Errors of the certification authority.
///
/// Those for which [`PkiError::is_request_fault`] holds are the caller's to mend (HTTP 422); all
/// others are the operator's.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}. Check that it exists and that this user may read it", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },

    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}. Check free space, and that this user may write there", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },

    /// A private key is open to other users and cannot be closed to them.
    #[error(
        "{} is open to other users (mode {mode:04o}) and its mode cannot be changed: {source}. \
         Give the file to the user that runs Covey and run chmod 600 on it", path.display()
    )]
    KeyPermissions {
        /// The private key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },

    /// Some files of the CA set are there and others are not.
    #[error(
        "the CA in {} is incomplete: {missing} is missing. Restore it from a backup. \
         (Only if no device uses this CA: move the folder away, and a new CA is made)", dir.display()
    )]
    Incomplete {
        /// The CA's folder.
        dir: PathBuf,
        /// Name of the first file that is missing.
        missing: &'static str,
    },

    /// An unfinished CA set and another file of the same name lie side by side.
    #[error(
        "{} and {} differ. Keep the one that devices use, move the other away, and start again",
        unfinished.display(), existing.display()
    )]
    Mixed {
        /// The file of the unfinished set.
        unfinished: PathBuf,
        /// The file that was put in its place meanwhile.
        existing: PathBuf,
    },

    /// A file does not hold what its name says.
    #[error("{} holds no readable {expected}. Restore it from a backup", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },

    /// A private key belongs to another certificate.
    #[error(
        "{} is not the key of {}. Restore both from the same backup", key.display(), certificate.display()
    )]
    KeyMismatch {
        /// The private key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },

    /// A CA certificate may not sign certificates, or was not signed by the root.
    #[error(
        "{} is not a CA certificate signed by the root in {}. Restore both from the same backup",
        path.display(), root.display()
    )]
    NotOurAuthority {
        /// The CA certificate's file.
        path: PathBuf,
        /// The root certificate's file.
        root: PathBuf,
    },

    /// A CA certificate is past its end.
    #[error(
        "the CA certificate {} ended on {}. If the system clock is right, move the folder away so \
         that a new CA is made, and register the devices again", path.display(), not_after.date()
    )]
    Expired {
        /// The CA certificate's file.
        path: PathBuf,
        /// Its end.
        not_after: OffsetDateTime,
    },

    /// The clock is before a CA certificate's start.
    #[error(
        "the system clock says {}, but the CA certificate {} starts on {}. Set the clock",
        now.date(), path.display(), not_before.date()
    )]
    NotYetValid {
        /// The CA certificate's file.
        path: PathBuf,
        /// Its start.
        not_before: OffsetDateTime,
        /// What the caller said the time is.
        now: OffsetDateTime,
    },

    /// The clock was never set, so a CA made now would be past its end once it is.
    #[error("the system clock says {}, which cannot be. Set it before the first start", now.date())]
    ClockUnset {
        /// What the caller said the time is.
        now: OffsetDateTime,
    },

    /// A device's SN is outside `[A-Za-z0-9_-]{1,64}`.
    #[error("the SN {sn:?} is not valid: use 1 to 64 of the characters A-Z a-z 0-9 _ -")]
    DeviceSn {
        /// The SN, shortened.
        sn: String,
    },

    /// A signing request is too large.
    #[error("the signing request has {bytes} bytes, the limit is {bytes_max}")]
    RequestTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },

    /// A signing request is no PKCS #10 request in PEM.
    #[error(
        "the signing request cannot be read: send one PKCS #10 request in PEM \
         (-----BEGIN CERTIFICATE REQUEST-----)"
    )]
    RequestUnreadable,

    /// A signing request's own signature is wrong: its sender does not hold the key.
    #[error("the signing request's signature does not fit its public key: make a new request")]
    RequestSignature,

    /// A signing request is signed in a way that is not accepted.
    #[error(
        "the signing request's signature algorithm is not accepted: sign it with SHA-256 or \
         SHA-384 (RSA, ECDSA) or Ed25519"
    )]
    RequestSignatureAlgorithm,

    /// A signing request's RSA key is too short or too long.
    #[error("the signing request's RSA key has {bits} bits: use 2048 to 8192")]
    RequestKeySize {
        /// Bits of the modulus.
        bits: usize,
    },

    /// A signing request's key is of a kind that is not accepted.
    #[error(
        "the signing request's key is not accepted: use ECDSA P-256 or P-384 (uncompressed \
         point), Ed25519, or RSA of at least 2048 bits"
    )]
    RequestKeyUnsupported,

    /// A signing request names another device.
    #[error(
        "the signing request's CommonName is {common_name:?}, the device's SN is {sn:?}: make the \
         request with the SN as CommonName, or without one"
    )]
    RequestNameMismatch {
        /// The request's CommonName, shortened.
        common_name: String,
        /// The SN that was asked for.
        sn: String,
    },

    /// The password of a bundle cannot be one.
    #[error("the password of a bundle must be 1 to 128 visible ASCII characters or blanks")]
    BundlePassword,

    /// What should be a certificate or a key cannot be put into another form.
    #[error("a certificate or key cannot be put into another form. Report it")]
    Form,

    /// No name at all was given for the server certificate.
    #[error(
        "the name {name:?} is not valid: use letters, digits, _ - and at least one dot, such as covey.server"
    )]
    ServiceName {
        /// The name, shortened.
        name: String,
    },

    /// The folder holds another CA than the one that is to be used.
    #[error(
        "{} holds another CA than {}: all servers of a deployment share one. Give an empty data directory",
        present.display(),
        given.display()
    )]
    OtherAuthority {
        /// The folder with the other CA.
        present: PathBuf,
        /// The folder of the CA to be used.
        given: PathBuf,
    },

    /// The name of a CA of others cannot be one.
    #[error("the name {name:?} is not valid: use 1 to 32 small letters, digits and -")]
    CaName {
        /// The name, shortened.
        name: String,
    },

    /// The folder holds a CA already.
    #[error("{} holds a CA already; name another folder", dir.display())]
    Present {
        /// The folder.
        dir: PathBuf,
    },

    /// There is no CA yet, and the issuing CA waits for its certificate.
    #[error(
        "the issuing CA waits for its certificate: sign {} with the root (covey ca sign), and bring back what comes of it \
         (covey ca install)", request.display()
    )]
    Waiting {
        /// The request.
        request: PathBuf,
    },

    /// A certificate that was brought cannot be used.
    #[error("the certificate {0}")]
    Given(&'static str),

    /// No name at all was given for the server certificate.
    #[error("the server certificate needs at least one DNS name or IP address")]
    ServerNamesEmpty,

    /// A name cannot stand in the server certificate.
    #[error(
        "{name:?} cannot be a DNS name of the server: use letters, digits, '-' and '.' \
         (xn-- form for others), at most 253 characters, and no IP address"
    )]
    ServerName {
        /// The name, shortened.
        name: String,
    },

    /// The crypto library could not make or use a key or certificate.
    #[error("the crypto library failed: {source}. Try again; if it stays, report it")]
    Crypto {
        /// The library's answer.
        #[source]
        source: rcgen::Error,
    },

    /// The TLS library refused a certificate or configuration.
    #[error("the TLS library refused the server certificate: {source}")]
    Tls {
        /// The library's answer.
        #[source]
        source: rustls::Error,
    },

    /// The operating system gave no random numbers.
    #[error("the operating system gives no random numbers: {source}. Try again")]
    Random {
        /// The operating system's answer.
        #[source]
        source: getrandom::Error,
    },
}

impl PkiError {
    /// Whether what was asked for is at fault (answer 422), not this server or its files.
    pub fn is_request_fault(&self) -> bool {
        matches!(
            self,
            Self::DeviceSn { .. }
                | Self::RequestTooLarge { .. }
                | Self::RequestUnreadable
                | Self::RequestSignature
                | Self::RequestSignatureAlgorithm
                | Self::RequestKeySize { .. }
                | Self::RequestKeyUnsupported
                | Self::RequestNameMismatch { .. }
                | Self::BundlePassword
        )
    }
}

impl From<rcgen::Error> for PkiError {
    fn from(source: rcgen::Error) -> Self {
        Self::Crypto { source }
    }
}

impl From<rustls::Error> for PkiError {
    fn from(source: rustls::Error) -> Self {
        Self::Tls { source }
    }
}

/// The first 64 characters of what a caller sent: enough to recognise it in an error, too little
/// to fill a log.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
