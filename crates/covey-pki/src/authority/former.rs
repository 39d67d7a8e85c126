//! Issuing CAs that another one has taken the place of. Until their end, devices are let in by what they issued, and they
//! say which of that was revoked.

use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use super::{FORMER_CERTIFICATES, FORMER_KEYS, ca_set};
use crate::certificate;
use crate::error::PkiError;
use crate::folder::Folder;
use crate::lifetime::Validity;

/// How many there may be beside the present one.
/// Limit for each CA: none takes the place of another.
pub(crate) const FORMER_MAX: usize = 8;

/// An issuing CA of before.
pub(crate) struct FormerIssuer {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) validity: Validity,
    /// Its name and key; none where the key was destroyed, which ends what it says of its certificates.
    pub(crate) issuer: Option<Issuer<'static, KeyPair>>,
}

/// Those in a folder that are not past their end.
pub(super) fn load(
    folder: &Folder,
    root: &CertificateDer<'static>,
    now: OffsetDateTime,
) -> Result<Vec<FormerIssuer>, PkiError> {
    let Some(certificates) = folder.read(FORMER_CERTIFICATES)? else { return Ok(Vec::new()) };
    let corrupt = |name, expected| PkiError::Corrupt { path: folder.path(name), expected };
    let certificates = certificate::chain_from_pem(&certificates)
        .ok_or_else(|| corrupt(FORMER_CERTIFICATES, "certificates in PEM"))?;
    let keys = folder.read_key(FORMER_KEYS)?.map(|file| file.text).unwrap_or_default();
    let keys = PrivateKeyDer::pem_slice_iter(&keys).collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|_| corrupt(FORMER_KEYS, "private keys in PEM"))?;
    let mut found = Vec::new();
    for der in certificates.into_iter().take(FORMER_MAX) {
        if !ca_set::is_signed_by(root, &der) {
            return Err(PkiError::NotOurAuthority {
                path: folder.path(FORMER_CERTIFICATES),
                root: folder.path(super::ROOT_CERTIFICATE),
            });
        }
        let parsed = certificate::parse(&der);
        let validity = parsed.as_ref().and_then(certificate::validity);
        let validity = validity.ok_or_else(|| corrupt(FORMER_CERTIFICATES, "certificates in PEM"))?;
        if validity.not_after < now {
            continue;
        }
        let own = keys.iter().filter_map(|key| KeyPair::try_from(key).ok()).find(|key| {
            parsed.as_ref().is_some_and(|parsed| parsed.public_key().raw == key.subject_public_key_info())
        });
        let issuer = own.map(|key| Issuer::from_ca_cert_der(&der, key)).transpose()?;
        found.push(FormerIssuer { der, validity, issuer });
    }
    Ok(found)
}
