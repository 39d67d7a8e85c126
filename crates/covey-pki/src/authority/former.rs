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
    /// Its name and key; none where the key was destroyed, which ends what it says of its certificates.
    pub(crate) issuer: Option<Issuer<'static, KeyPair>>,
}

/// The certificates of those in a folder, whatever their dates.
pub(super) fn certificates(folder: &Folder) -> Result<Vec<(CertificateDer<'static>, Validity)>, PkiError> {
    let Some(text) = folder.read(FORMER_CERTIFICATES)? else { return Ok(Vec::new()) };
    let read = |der: CertificateDer<'static>| {
        let validity = certificate::validity(&certificate::parse(&der)?)?;
        Some((der, validity))
    };
    let found = certificate::chain_from_pem(&text);
    let found = found.and_then(|all| all.into_iter().take(FORMER_MAX).map(read).collect::<Option<Vec<_>>>());
    let path = folder.path(FORMER_CERTIFICATES);
    found.ok_or(PkiError::Corrupt { path, expected: "certificates in PEM" })
}

/// Their keys, out of the text of the file.
pub(super) fn keys(folder: &Folder, text: &[u8]) -> Result<Vec<PrivateKeyDer<'static>>, PkiError> {
    let found = PrivateKeyDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let path = folder.path(FORMER_KEYS);
    found.map_err(|_| PkiError::Corrupt { path, expected: "private keys in PEM" })
}

/// The key among these that a certificate is for.
pub(super) fn key_of(der: &CertificateDer<'_>, keys: &[PrivateKeyDer<'_>]) -> Option<KeyPair> {
    let parsed = certificate::parse(der)?;
    keys.iter()
        .filter_map(|key| KeyPair::try_from(key).ok())
        .find(|key| parsed.public_key().raw == key.subject_public_key_info())
}

/// Those in a folder that are not past their end.
pub(super) fn load(
    folder: &Folder,
    root: &CertificateDer<'static>,
    now: OffsetDateTime,
) -> Result<Vec<FormerIssuer>, PkiError> {
    let certificates = certificates(folder)?;
    if certificates.is_empty() {
        return Ok(Vec::new());
    }
    let keys = keys(folder, &folder.read_key(FORMER_KEYS)?.map(|file| file.text).unwrap_or_default())?;
    let mut found = Vec::new();
    for (der, validity) in certificates {
        if !ca_set::is_signed_by(root, &der) {
            return Err(PkiError::NotOurAuthority {
                path: folder.path(FORMER_CERTIFICATES),
                root: folder.path(super::ROOT_CERTIFICATE),
            });
        }
        if validity.not_after < now {
            continue;
        }
        let issuer = key_of(&der, &keys).map(|key| Issuer::from_ca_cert_der(&der, key)).transpose()?;
        found.push(FormerIssuer { der, issuer });
    }
    Ok(found)
}
