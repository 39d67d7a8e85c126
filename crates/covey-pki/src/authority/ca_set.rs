//! The four files that are the CA: made once, all together, and loaded with every check that can
//! be made without the network.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use time::macros::datetime;
use x509_parser::certificate::X509Certificate;

use super::{ISSUING_CERTIFICATE, ISSUING_KEY, Notice, ROOT_CERTIFICATE, ROOT_KEY};
use crate::certificate::{self, hex, random_serial, serial_number};
use crate::error::PkiError;
use crate::folder::{Access, Folder, FolderLock, NewFile};
use crate::key::{PrivateKeyPem, key_from_pem};
use crate::lifetime::{CA_BACKDATE, CertificateLifetimes, Validity};

/// A clock before this was never set (a board without battery starts in 1970).
const CLOCK_FLOOR: OffsetDateTime = datetime!(2024-01-01 0:00 UTC);

/// A CA certificate as loaded.
pub(super) struct CaCertificate {
    pub(super) der: CertificateDer<'static>,
    pub(super) pem: String,
    pub(super) validity: Validity,
}

/// The CA as loaded.
pub(super) struct CaSet {
    pub(super) root: CaCertificate,
    pub(super) issuing: CaCertificate,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) notices: Vec<Notice>,
}

/// Whether any file of a CA is there. Then it is loaded or refused, never replaced.
pub(super) fn is_there(folder: &Folder) -> Result<bool, PkiError> {
    for name in [ROOT_CERTIFICATE, ROOT_KEY, ISSUING_CERTIFICATE, ISSUING_KEY] {
        if folder.has(name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes root and issuing CA and writes both, all or nothing.
pub(super) fn create(
    folder: &Folder,
    lock: &FolderLock,
    lifetimes: CertificateLifetimes,
    now: OffsetDateTime,
) -> Result<(), PkiError> {
    if now < CLOCK_FLOOR {
        return Err(PkiError::ClockUnset { now });
    }
    // Tells two Coveys apart in a certificate viewer or a browser's list.
    let label = hex(&random_serial()?[1..5]);
    let (root, root_key, root_pem) = new_root(&label, lifetimes, now)?;
    let root_validity = Validity { not_before: root.not_before, not_after: root.not_after };

    let issuing_key = KeyPair::generate()?;
    let issuing_validity = root_validity.within(now, CA_BACKDATE, lifetimes.issuing);
    let mut issuing = ca_params(&format!("Covey Issuing CA {label}"), 0, issuing_validity)?;
    issuing.use_authority_key_identifier_extension = true;
    let issuing_pem = issuing.signed_by(&issuing_key, &Issuer::from_params(&root, &root_key))?.pem();

    let file = |name, access, text| NewFile { name, access, text };
    folder.write_set(
        lock,
        &[
            file(ROOT_KEY, Access::Secret, PrivateKeyPem::of(&root_key).expose()),
            file(ROOT_CERTIFICATE, Access::Public, &root_pem),
            file(ISSUING_KEY, Access::Secret, PrivateKeyPem::of(&issuing_key).expose()),
            file(ISSUING_CERTIFICATE, Access::Public, &issuing_pem),
        ],
    )
}

/// Makes a root alone and writes it, all or nothing.
pub(super) fn create_root(
    folder: &Folder,
    lock: &FolderLock,
    lifetimes: CertificateLifetimes,
    now: OffsetDateTime,
) -> Result<(), PkiError> {
    if now < CLOCK_FLOOR {
        return Err(PkiError::ClockUnset { now });
    }
    let (_, root_key, root_pem) = new_root(&hex(&random_serial()?[1..5]), lifetimes, now)?;
    let file = |name, access, text| NewFile { name, access, text };
    let key = PrivateKeyPem::of(&root_key);
    folder.write_set(
        lock,
        &[file(ROOT_KEY, Access::Secret, key.expose()), file(ROOT_CERTIFICATE, Access::Public, &root_pem)],
    )
}

/// A root: its content, its key, and its certificate in PEM.
fn new_root(
    label: &str,
    lifetimes: CertificateLifetimes,
    now: OffsetDateTime,
) -> Result<(CertificateParams, KeyPair, String), PkiError> {
    let key = KeyPair::generate()?;
    let validity = Validity::unbounded().within(now, CA_BACKDATE, lifetimes.root);
    let root = ca_params(&format!("Covey Root CA {label}"), 1, validity)?;
    let pem = root.self_signed(&key)?.pem();
    Ok((root, key, pem))
}

/// Loads and checks the root, with its key if that is there.
pub(super) fn load_root(
    folder: &Folder,
    now: OffsetDateTime,
) -> Result<(CaCertificate, Option<KeyPair>), PkiError> {
    let root = load_certificate(folder, ROOT_CERTIFICATE)?;
    let key = load_key(folder, ROOT_KEY, ROOT_CERTIFICATE, &root.der, &mut Vec::new())?;
    if !is_signed_by(&root.der, &root.der) {
        let path = folder.path(ROOT_CERTIFICATE);
        return Err(PkiError::NotOurAuthority { root: path.clone(), path });
    }
    root.check_dates(folder.path(ROOT_CERTIFICATE), now)?;
    Ok((root, key))
}

/// Whether one is a CA that may sign certificates, signed by another one of that kind, or by itself.
pub(super) fn is_signed_by(issuer: &CertificateDer<'_>, signed: &CertificateDer<'_>) -> bool {
    let (Some(issuer), Some(signed)) = (certificate::parse(issuer), certificate::parse(signed)) else {
        return false;
    };
    let is_named = signed.issuer() == issuer.subject();
    is_named
        && may_sign_certificates(&issuer)
        && may_sign_certificates(&signed)
        && signed.verify_signature(Some(issuer.public_key())).is_ok()
}

/// A CA certificate's content (RFC 5280 sections 4.2.1.3 and 4.2.1.9).
pub(super) fn ca_params(
    common_name: &str,
    path_len: u8,
    validity: Validity,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params.serial_number = Some(serial_number(random_serial()?));
    Ok(params)
}

/// Loads and checks the CA.
pub(super) fn load(folder: &Folder, now: OffsetDateTime) -> Result<CaSet, PkiError> {
    let set = load_whatever_its_dates(folder)?;
    set.root.check_dates(folder.path(ROOT_CERTIFICATE), now)?;
    set.issuing.check_dates(folder.path(ISSUING_CERTIFICATE), now)?;
    Ok(set)
}

/// The same of one that may be past its end.
pub(super) fn load_whatever_its_dates(folder: &Folder) -> Result<CaSet, PkiError> {
    let mut notices = Vec::new();
    let root = load_certificate(folder, ROOT_CERTIFICATE)?;
    let issuing = load_certificate(folder, ISSUING_CERTIFICATE)?;
    match load_key(folder, ROOT_KEY, ROOT_CERTIFICATE, &root.der, &mut notices)? {
        // Checked, and then dropped: nothing here signs with the root again.
        Some(_root_key) => {}
        None => notices.push(Notice::RootKeyAbsent { path: folder.path(ROOT_KEY) }),
    }
    let issuing_key = load_key(folder, ISSUING_KEY, ISSUING_CERTIFICATE, &issuing.der, &mut notices)?
        .ok_or_else(|| incomplete(folder, ISSUING_KEY))?;

    check_signatures(folder, &root, &issuing)?;
    let issuer = Issuer::from_ca_cert_der(&issuing.der, issuing_key)?;
    Ok(CaSet { root, issuing, issuer, notices })
}

impl CaCertificate {
    /// Whether the CA may sign at `now`.
    pub(super) fn check_dates(&self, path: PathBuf, now: OffsetDateTime) -> Result<(), PkiError> {
        let Validity { not_before, not_after } = self.validity;
        if now < not_before {
            return Err(PkiError::NotYetValid { path, not_before, now });
        }
        if now >= not_after {
            return Err(PkiError::Expired { path, not_after });
        }
        Ok(())
    }
}

fn incomplete(folder: &Folder, missing: &'static str) -> PkiError {
    PkiError::Incomplete { dir: folder.dir().to_owned(), missing }
}

pub(super) fn load_certificate(folder: &Folder, name: &'static str) -> Result<CaCertificate, PkiError> {
    let text = folder.read(name)?.ok_or_else(|| incomplete(folder, name))?;
    let loaded =
        std::str::from_utf8(&text).ok().and_then(certificate::first_from_pem).and_then(|(der, pem)| {
            let validity = certificate::validity(&certificate::parse(&der)?)?;
            Some(CaCertificate { der, pem, validity })
        });
    loaded.ok_or_else(|| PkiError::Corrupt { path: folder.path(name), expected: "certificate in PEM" })
}

/// Loads a private key and checks that it is the certificate's; `None` if there is no file.
fn load_key(
    folder: &Folder,
    name: &'static str,
    certificate_name: &'static str,
    certificate_der: &CertificateDer<'static>,
    notices: &mut Vec<Notice>,
) -> Result<Option<KeyPair>, PkiError> {
    let Some(file) = folder.read_key(name)? else {
        return Ok(None);
    };
    if let Some(mode) = file.narrowed_from {
        notices.push(Notice::KeyPermissionsNarrowed { path: folder.path(name), mode });
    }
    let key = key_from_pem(&file.text).ok_or_else(|| PkiError::Corrupt {
        path: folder.path(name),
        expected: "private key in PKCS #8 PEM",
    })?;
    let fits = certificate::parse(certificate_der)
        .is_some_and(|parsed| parsed.public_key().raw == key.subject_public_key_info());
    if !fits {
        return Err(PkiError::KeyMismatch {
            key: folder.path(name),
            certificate: folder.path(certificate_name),
        });
    }
    Ok(Some(key))
}

/// The root signs itself and the issuing CA, and both may sign certificates.
fn check_signatures(folder: &Folder, root: &CaCertificate, issuing: &CaCertificate) -> Result<(), PkiError> {
    let refuse =
        |name| PkiError::NotOurAuthority { path: folder.path(name), root: folder.path(ROOT_CERTIFICATE) };
    let root = certificate::parse(&root.der).ok_or_else(|| refuse(ROOT_CERTIFICATE))?;
    let issuing = certificate::parse(&issuing.der).ok_or_else(|| refuse(ISSUING_CERTIFICATE))?;
    if !may_sign_certificates(&root) || root.verify_signature(None).is_err() {
        return Err(refuse(ROOT_CERTIFICATE));
    }
    let signed_by_root =
        issuing.issuer() == root.subject() && issuing.verify_signature(Some(root.public_key())).is_ok();
    if !may_sign_certificates(&issuing) || !signed_by_root {
        return Err(refuse(ISSUING_CERTIFICATE));
    }
    Ok(())
}

pub(super) fn may_sign_certificates(certificate: &X509Certificate<'_>) -> bool {
    let key_usage = match certificate.key_usage() {
        // Without the extension every use is allowed (RFC 5280 section 4.2.1.3).
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    certificate.is_ca() && key_usage
}
