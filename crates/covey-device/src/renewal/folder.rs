//! Where a renewed certificate lies: one file with the key and the chain, put in its place as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustls::pki_types::CertificateDer;

use crate::renewal::{RenewalError, span};

/// The file, beside `cert.pem` and `key.pem`, which stay as they were.
pub(crate) const RENEWED_FILE: &str = "renewed.pem";
const UNFINISHED_FILE: &str = ".renewed.pem.unfinished";

/// Stores key and chain.
pub(super) fn store(dir: &Path, pem: &str) -> Result<(), RenewalError> {
    let (unfinished, path) = (dir.join(UNFINISHED_FILE), dir.join(RENEWED_FILE));
    let written = (|| {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
        file.write_all(pem.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(dir)?.sync_all()
    })();
    written.map_err(|source| RenewalError::Store { path, source })
}

/// Whether the first certificate was issued after the other, or with it.
pub(crate) fn is_newer(one: &CertificateDer<'_>, other: &CertificateDer<'_>) -> bool {
    span(one).zip(span(other)).is_some_and(|((one, _), (other, _))| one >= other)
}
