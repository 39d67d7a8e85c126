//! The traits through which the world comes in.

mod lane;
mod link;
mod list;
mod observer;
mod peers;
mod read_set;
mod room;
mod store;
mod transaction;
mod turn;

pub use lane::{Lane, READ_MS_MAX, ReadKind};
pub use link::{Announcement, Link, LinkState, LinkStatus, Reach};
pub use list::{Entries, Filling, LIST_BYTES_MAX, Page, PageRequest, WHOLE_LIST_BYTES_MAX};
pub use observer::{Event, Observer, Refusal, Step};
pub use peers::{FromPeers, NoPeers, PeerMessage, Peers};
pub use read_set::ReadSet;
pub use room::{Need, Room};
pub use store::{Job, Reader, Store};
pub use transaction::{Transaction, TxResult};
pub use turn::Turn;

use std::future::Future;
use std::pin::Pin;

use crate::device::{CertificateRecord, IssuedCertificate};
use crate::error::Result;
use crate::id::{Sn, TaskId, UnixMs};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a store has found, or has done beside its jobs.
pub type Found<'a, T> = BoxFuture<'a, Result<T>>;

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> UnixMs;
    /// Microseconds since some fixed instant; never runs backwards.
    fn monotonic_us(&self) -> u64;
}

/// Where identifiers that nobody can guess come from.
pub trait Ids: Send + Sync + 'static {
    /// A new task id. Ids made later sort later (RFC 9562 §5.7).
    fn task_id(&self) -> TaskId;
    /// A new serial number for a device that came without one.
    fn sn(&self) -> Sn;
    /// A new API key, in clear text.
    fn api_key(&self) -> String;
    /// A new secret of 256 bits for a link or a session, in letters and digits.
    fn secret(&self) -> String {
        self.api_key()
    }
}

/// The key of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateKey<'a> {
    /// One that is made: ECDSA P-256.
    P256,
    /// One that is made: RSA with 2048 bits, which takes a tenth of a second, or several.
    Rsa2048,
    /// That of a certificate signing request in PEM.
    OfRequest(&'a str),
}

/// Who signs the certificates of devices.
pub trait CertificateIssuer: Send + Sync + 'static {
    /// Makes a certificate for `sn`, with this key.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] naming `csr` for a request that cannot be signed.
    fn issue(&self, sn: &Sn, key: CertificateKey<'_>, now: UnixMs) -> Result<IssuedCertificate>;

    /// Reads a certificate that a CA of others has issued: whose it is, and what is kept of it.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] naming `ca` or `certificate_pem`: no such CA is trusted, or the certificate is not good.
    fn imported(&self, _ca: &str, _pem: &str, _now: UnixMs) -> Result<(Sn, CertificateRecord)> {
        Err(crate::Error::invalid("ca", "is not a CA that was imported here"))
    }

    /// Makes the certificate of a claim, which ends at `not_after` or before, with its key.
    ///
    /// # Errors
    /// What keeps the authority from issuing any.
    fn issue_claim(&self, not_after: UnixMs, now: UnixMs) -> Result<IssuedCertificate>;
}

/// How an API key is turned into the digest under which it is kept.
pub type KeyHasher = fn(&str) -> crate::access::KeyDigest;
