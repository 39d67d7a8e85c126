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

/// The file in which a renewal is written before it is put in its place. It is there before a certificate is asked for, which
/// would be for nothing where none can be stored.
pub(super) struct Unfinished<'a> {
    dir: &'a Path,
    file: File,
}

impl<'a> Unfinished<'a> {
    /// Makes it, or empties the one that was left.
    pub(super) fn create(dir: &'a Path) -> Result<Self, RenewalError> {
        let path = dir.join(UNFINISHED_FILE);
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
        let file = file.map_err(|source| RenewalError::Store { path, source })?;
        Ok(Self { dir, file })
    }

    /// Stores key and chain.
    pub(super) fn store(mut self, pem: &str) -> Result<(), RenewalError> {
        let path = self.dir.join(RENEWED_FILE);
        let written = (|| {
            self.file.write_all(pem.as_bytes())?;
            self.file.sync_all()?;
            fs::rename(self.dir.join(UNFINISHED_FILE), &path)?;
            File::open(self.dir)?.sync_all()
        })();
        written.map_err(|source| RenewalError::Store { path, source })
    }
}

/// Whether the first certificate was issued after the other, or with it.
pub(crate) fn is_newer(one: &CertificateDer<'_>, other: &CertificateDer<'_>) -> bool {
    span(one).zip(span(other)).is_some_and(|((one, _), (other, _))| one >= other)
}
