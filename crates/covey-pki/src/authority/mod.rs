//! The authority itself: opening its folder, and what others need from it (the root that devices
//! trust, the paths of the files).

mod adopt;
mod ca_set;
mod complete;
mod former;
mod imported;
mod notice;
mod offline;
mod overview;

use std::fmt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

pub use complete::CaFiles;
pub use imported::{ImportedCa, ImportedDevice, imported_ca_files, imported_serial};
pub use notice::Notice;
pub use overview::CaOverview;

use crate::error::PkiError;
use crate::folder::Folder;
use crate::lifetime::{CertificateLifetimes, LEAF_BACKDATE, Validity};
use crate::revocation::RevocationUrls;
use ca_set::{CaCertificate, CaSet};
pub(crate) use former::FormerIssuer;

pub(crate) const ROOT_CERTIFICATE: &str = "ca.pem";
pub(crate) const ROOT_KEY: &str = "ca.key";
pub(crate) const ISSUING_CERTIFICATE: &str = "issuing.pem";
pub(crate) const ISSUING_KEY: &str = "issuing.key";
/// Those of before, one after the other, and their keys.
pub(crate) const FORMER_CERTIFICATES: &str = "former.pem";
pub(crate) const FORMER_KEYS: &str = "former.key";
/// Of the issuing CA to come: its key, and the request that goes to the root.
pub(crate) const NEXT_KEY: &str = "issuing-next.key";
pub(crate) const NEXT_REQUEST: &str = "issuing-next.csr";
pub(crate) const SERVER_CERTIFICATE: &str = "server.pem";
pub(crate) const SERVER_KEY: &str = "server.key";

/// Covey's CA. Share it by reference: issuing takes `&self` and no lock.
pub struct Authority {
    folder: Folder,
    lifetimes: CertificateLifetimes,
    root: CaCertificate,
    issuing: CaCertificate,
    /// The issuing CA's name and key, parsed once.
    issuer: Issuer<'static, KeyPair>,
    former: Vec<FormerIssuer>,
    imported: Vec<ImportedCa>,
    revocation_urls: RevocationUrls,
    opening_notices: Vec<Notice>,
}

impl Authority {
    /// Opens the CA in `dir`, or makes one there (and `dir` itself, mode 0700) on the first start.
    ///
    /// An existing CA is checked: keys fit certificates, the issuing CA is signed by the root,
    /// both are valid at `now`. Private keys open to other users are closed to them (mode 0600),
    /// and a [`Notice`] says so. `ca.key` may be absent, since an operator may keep it offline: it
    /// is needed by nothing after the first start, and is not kept in memory.
    ///
    /// Safe against kills at any instant, and against other processes doing the same.
    ///
    /// # Errors
    /// Files that cannot be read, written or understood, that are missing or do not belong
    /// together; a CA past its end; a clock that cannot be right. A CA is never replaced.
    pub fn open_or_create(
        dir: &Path,
        lifetimes: CertificateLifetimes,
        now: OffsetDateTime,
    ) -> Result<Self, PkiError> {
        let folder = Folder::open(dir)?;
        let lock = folder.lock()?;
        folder.recover_set(&lock)?;
        offline::forget_installed(&folder, &lock)?;
        let created = !ca_set::is_there(&folder)?;
        if created && folder.has(NEXT_KEY)? {
            return Err(PkiError::Waiting { request: folder.path(NEXT_REQUEST) });
        }
        if created {
            ca_set::create(&folder, &lock, lifetimes, now)?;
        }
        let CaSet { root, issuing, issuer, mut notices } = ca_set::load(&folder, now)?;
        if created {
            notices.insert(0, Notice::Created { dir: dir.to_owned() });
        }
        let mut former = former::load(&folder, &root.der, now)?;
        former.retain(|one| one.der != issuing.der);
        let (imported, revocation_urls) = (imported::load(&folder)?, RevocationUrls::default());
        Ok(Self {
            folder,
            lifetimes,
            root,
            issuing,
            issuer,
            former,
            imported,
            revocation_urls,
            opening_notices: notices,
        })
    }

    /// Writes these addresses into the certificates of devices from now on.
    #[must_use]
    pub fn with_revocation_urls(mut self, urls: RevocationUrls) -> Self {
        self.revocation_urls = urls;
        self
    }

    /// What an operator should be told: what opening found, and CA certificates with less than a
    /// tenth of their life left at `now`. Ask again once a day.
    pub fn notices(&self, now: OffsetDateTime) -> Vec<Notice> {
        let near_end = [(ROOT_CERTIFICATE, &self.root), (ISSUING_CERTIFICATE, &self.issuing)]
            .into_iter()
            .filter(|(_, ca)| ca.validity.is_near_end(now))
            .map(|(name, ca)| Notice::NearEnd {
                path: self.folder.path(name),
                not_after: ca.validity.not_after,
            });
        let imported_near_end = self.imported.iter().filter(|ca| ca.validity.is_near_end(now)).map(|ca| {
            Notice::ImportedNearEnd {
                name: ca.name.clone(),
                not_after: ca.not_after(),
                is_over: !ca.validity.contains(now),
            }
        });
        self.opening_notices.iter().cloned().chain(near_end).chain(imported_near_end).collect()
    }

    /// The root certificate, PEM: what devices and other clients trust.
    pub fn root_pem(&self) -> &str {
        &self.root.pem
    }

    /// The root certificate, DER.
    pub fn root_der(&self) -> &CertificateDer<'static> {
        &self.root.der
    }

    /// The issuing CA's certificate, PEM: sent by servers and devices after their own.
    pub fn issuing_pem(&self) -> &str {
        &self.issuing.pem
    }

    /// The issuing CA's certificate, DER.
    pub fn issuing_der(&self) -> &CertificateDer<'static> {
        &self.issuing.der
    }

    /// The issuing CA, then those of before whose certificates are still good, DER.
    pub(crate) fn issuing_ders(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.issuing.der).chain(self.former.iter().map(|one| &one.der))
    }

    /// The last moment of any certificate issued by this CA.
    pub fn issuing_not_after(&self) -> OffsetDateTime {
        self.issuing.validity.not_after
    }

    /// SHA-256 of the issuing CA's certificate, in lowercase hex: tells one deployment's CA from
    /// another's.
    pub fn fingerprint_sha256(&self) -> String {
        crate::certificate::fingerprint_sha256(&self.issuing.der)
    }

    /// Path of the root certificate, for a TLS listener that reads files.
    pub fn root_path(&self) -> PathBuf {
        self.folder.path(ROOT_CERTIFICATE)
    }

    /// Path of the issuing CA's certificate, for a TLS listener that reads files.
    pub fn issuing_path(&self) -> PathBuf {
        self.folder.path(ISSUING_CERTIFICATE)
    }

    /// The fingerprints of the issuing CAs of before whose certificates are still good.
    pub fn former_fingerprints_sha256(&self) -> Vec<String> {
        self.former.iter().map(|one| crate::certificate::fingerprint_sha256(&one.der)).collect()
    }

    /// Path of the certificates of the issuing CAs of before, if there are any, for a TLS listener that reads files.
    pub fn former_path(&self) -> Option<PathBuf> {
        (!self.former.is_empty()).then(|| self.folder.path(FORMER_CERTIFICATES))
    }

    /// Path of the server's chain (leaf, then issuing CA). The file is there once
    /// [`Authority::server_certificate`] has been called.
    pub fn server_certificate_path(&self) -> PathBuf {
        self.folder.path(SERVER_CERTIFICATE)
    }

    /// Path of the server's private key. The file is there once
    /// [`Authority::server_certificate`] has been called.
    pub fn server_key_path(&self) -> PathBuf {
        self.folder.path(SERVER_KEY)
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn lifetimes(&self) -> CertificateLifetimes {
        self.lifetimes
    }

    pub(crate) fn issuing_validity(&self) -> Validity {
        self.issuing.validity
    }

    /// Writes into a device's certificate where to ask whether it was revoked, where the operator says so.
    pub(crate) fn add_revocation_urls(&self, params: &mut CertificateParams) -> Result<(), PkiError> {
        let issuer = self.crl_issuers().into_iter().next().unwrap_or_default();
        self.revocation_urls
            .add_to(params, &issuer)
            .map_err(|_| PkiError::Given("cannot have such an address"))
    }

    /// A leaf's span from `now`, within that of the issuing CA.
    pub(crate) fn leaf_validity(
        &self,
        lifetime: std::time::Duration,
        now: OffsetDateTime,
    ) -> Result<Validity, PkiError> {
        self.issuing.check_dates(self.folder.path(ISSUING_CERTIFICATE), now)?;
        Ok(self.issuing.validity.within(now, LEAF_BACKDATE, lifetime))
    }

    /// Those who say which certificates were revoked: the issuing CA, then those of before whose keys are there.
    pub(crate) fn issuers(
        &self,
    ) -> impl Iterator<Item = (&CertificateDer<'static>, &Issuer<'static, KeyPair>)> {
        let former = self.former.iter().filter_map(|one| Some((&one.der, one.issuer.as_ref()?)));
        std::iter::once((&self.issuing.der, &self.issuer)).chain(former)
    }

    /// Signs a leaf for `public_key`.
    pub(crate) fn sign(
        &self,
        params: &CertificateParams,
        public_key: &impl PublicKeyData,
    ) -> Result<rcgen::Certificate, PkiError> {
        Ok(params.signed_by(public_key, &self.issuer)?)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("dir", &self.folder.dir())
            .field("issuing", &self.issuing.validity)
            .finish_non_exhaustive()
    }
}
