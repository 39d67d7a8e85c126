//! From when to when a certificate in a file is valid, whoever issued it.

use std::path::Path;

use time::OffsetDateTime;

use crate::certificate;
use crate::error::PkiError;
use crate::folder::Folder;

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateDates {
    /// Its first moment.
    pub not_before: OffsetDateTime,
    /// Its last moment.
    pub not_after: OffsetDateTime,
}

/// The dates of the first certificate in a PEM file; none if there is no such file.
///
/// # Errors
/// A file that cannot be read, or holds no certificate.
pub fn certificate_dates(path: &Path) -> Result<Option<CertificateDates>, PkiError> {
    let (folder, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
    let Some(text) = Folder::at(folder).read(name)? else { return Ok(None) };
    let dates = std::str::from_utf8(&text).ok().and_then(certificate::first_from_pem).and_then(|(der, _)| {
        let validity = certificate::validity(&certificate::parse(&der)?)?;
        Some(CertificateDates { not_before: validity.not_before, not_after: validity.not_after })
    });
    let corrupt = || PkiError::Corrupt { path: path.to_owned(), expected: "certificate in PEM" };
    dates.ok_or_else(corrupt).map(Some)
}
