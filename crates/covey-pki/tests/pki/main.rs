//! The authority as its users see it: files in a folder, certificates that TLS and openssl
//! accept, requests that others made.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod authority;
mod client;
mod device;
mod kill;
mod offline;
mod openssl;
mod request;
mod revocation;
mod server;
mod tls;

use covey_pki::{Authority, CertificateLifetimes};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tempfile::TempDir;
use time::OffsetDateTime;
use time::macros::datetime;

/// The moment at which all these tests play.
const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

/// A new authority in a folder of its own.
fn new_authority() -> (TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(&dir, NOW);
    (dir, authority)
}

fn open(dir: &TempDir, now: OffsetDateTime) -> Authority {
    Authority::open_or_create(&dir.path().join("pki"), CertificateLifetimes::default(), now).unwrap()
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}
