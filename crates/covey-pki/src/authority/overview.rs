//! The CAs in a folder, as an operator sees them. Looking changes nothing, and waits for nobody.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{
    Authority, FORMER_KEYS, ISSUING_CERTIFICATE, ISSUING_KEY, ROOT_CERTIFICATE, ROOT_KEY, ca_set, former,
    imported,
};
use crate::certificate::{self, fingerprint_sha256};
use crate::error::PkiError;
use crate::folder::Folder;

/// A CA, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaOverview {
    /// `root`, `issuing`, `former` or `imported`.
    pub role: &'static str,
    /// Its subject.
    pub name: String,
    /// SHA-256 of its certificate, in lowercase hex.
    pub fingerprint_sha256: String,
    /// Its certificate's last moment.
    pub not_after: OffsetDateTime,
    /// Whether its key is here.
    pub has_key: bool,
}

impl CaOverview {
    fn of(role: &'static str, der: &CertificateDer<'_>, not_after: OffsetDateTime, has_key: bool) -> Self {
        let subject = certificate::parse(der).map(|parsed| parsed.subject().to_string());
        let (name, fingerprint_sha256) = (subject.unwrap_or_default(), fingerprint_sha256(der));
        Self { role, name, fingerprint_sha256, not_after, has_key }
    }
}

impl Authority {
    /// What an operator wants to know of each CA in a folder. The root first, then the issuing CA, then those of before
    /// that are not past their end at `now`, then those of others.
    ///
    /// # Errors
    /// Files that cannot be read or understood.
    pub fn overview(dir: &Path, now: OffsetDateTime) -> Result<Vec<CaOverview>, PkiError> {
        let folder = Folder::at(dir);
        let root = ca_set::load_certificate(&folder, ROOT_CERTIFICATE)?;
        let mut all = vec![CaOverview::of("root", &root.der, root.validity.not_after, folder.has(ROOT_KEY)?)];
        // Where the root is kept there is no other.
        if folder.has(ISSUING_CERTIFICATE)? {
            let issuing = ca_set::load_certificate(&folder, ISSUING_CERTIFICATE)?;
            let has_key = folder.has(ISSUING_KEY)?;
            all.push(CaOverview::of("issuing", &issuing.der, issuing.validity.not_after, has_key));
        }
        let former = former::certificates(&folder)?;
        let keys = if former.is_empty() { None } else { folder.read(FORMER_KEYS)? };
        let keys = former::keys(&folder, &keys.unwrap_or_default())?;
        for (der, validity) in former.iter().filter(|(_, validity)| validity.not_after >= now) {
            let has_key = former::key_of(der, &keys).is_some();
            all.push(CaOverview::of("former", der, validity.not_after, has_key));
        }
        for ca in imported::load(&folder)? {
            let told = CaOverview::of("imported", ca.der(), ca.not_after(), false);
            all.push(CaOverview { name: format!("{}: {}", ca.name, told.name), ..told });
        }
        Ok(all)
    }
}
