//! CAs of others, trusted for the devices that were registered under them and for nobody else: a fleet that has
//! certificates keeps them while it moves.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;

use super::{Authority, FORMER_CERTIFICATES, ISSUING_CERTIFICATE, ROOT_CERTIFICATE, ca_set};
use crate::certificate::{self, fingerprint_sha256, to_pem};
use crate::error::{PkiError, shortened};
use crate::folder::{Access, Folder, NewFile};
use crate::lifetime::Validity;

/// How many there may be.
/// Limit for each CA: no other is imported.
const IMPORTED_MAX: usize = 16;
/// Characters of the name of one.
/// Limit for each name: it is refused.
const NAME_CHARS_MAX: usize = 32;
/// Characters of the text of a device's certificate with those that lead to its CA.
/// Limit for each certificate: it is refused.
const CHAIN_CHARS_MAX: usize = 32 * 1024;
/// Hexadecimal digits of a CA's fingerprint by which its certificates are told from those of others.
const ID_DIGITS: usize = 32;
/// Stands between that and what tells a certificate from others of the CA.
const ID_END: char = '~';

const FILE_PREFIX: &str = "imported-";
const FILE_SUFFIX: &str = ".pem";

/// A CA of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedCa {
    /// What the operator calls it.
    pub name: String,
    /// What tells its certificates from those of others: the beginning of its fingerprint.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
    /// Its subject.
    pub subject: String,
    pub(super) validity: Validity,
    der: CertificateDer<'static>,
}

impl ImportedCa {
    /// Its last moment.
    pub fn not_after(&self) -> OffsetDateTime {
        self.validity.not_after
    }

    /// Its certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }
}

/// A certificate of a device that such a CA has issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedDevice {
    /// Its CommonName.
    pub common_name: String,
    /// Under what it is registered: [`imported_serial`].
    pub serial: String,
    /// Its last second, Unix time.
    pub not_after_s: i64,
}

/// Under what a certificate is registered that a CA of others has issued, in the place of its serial number, which such a CA
/// may give twice: its SHA-256, in lowercase hex. No serial number looks like this.
pub fn imported_serial(id: &str, sha256_hex: &str) -> String {
    format!("{id}{ID_END}{sha256_hex}")
}

/// Those in a folder, in the order of their names.
pub(super) fn load(folder: &Folder) -> Result<Vec<ImportedCa>, PkiError> {
    names(folder)?.iter().map(|name| one(folder, name)).collect()
}

/// The names of those in a folder, in their order.
fn names(folder: &Folder) -> Result<Vec<String>, PkiError> {
    let dir = folder.dir().to_owned();
    let read = |source| PkiError::Read { path: dir.clone(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(read)? {
        let file_name = entry.map_err(read)?.file_name();
        let name =
            file_name.to_str().and_then(|name| name.strip_prefix(FILE_PREFIX)?.strip_suffix(FILE_SUFFIX));
        found.extend(name.filter(|name| is_name(name)).map(str::to_owned));
    }
    found.sort();
    found.truncate(IMPORTED_MAX);
    Ok(found)
}

/// The files of those in a folder, in the order of their names; they are not read.
///
/// # Errors
/// A folder that cannot be looked into.
pub fn imported_ca_files(dir: &std::path::Path) -> Result<Vec<PathBuf>, PkiError> {
    let folder = Folder::at(dir);
    Ok(names(&folder)?.iter().map(|name| folder.path(file_of(name))).collect())
}

fn one(folder: &Folder, name: &str) -> Result<ImportedCa, PkiError> {
    let file = file_of(name);
    let text = folder.read(&file)?.unwrap_or_default();
    let corrupt = || PkiError::Corrupt { path: folder.path(&file), expected: "certificate of a CA in PEM" };
    read(folder, name, &text).ok_or_else(corrupt)
}

fn read(folder: &Folder, name: &str, text: &[u8]) -> Option<ImportedCa> {
    let [der] = <[_; 1]>::try_from(certificate::chain_from_pem(text)?).ok()?;
    let parsed = certificate::parse(&der)?;
    if !ca_set::may_sign_certificates(&parsed) {
        return None;
    }
    let (subject, validity) = (parsed.subject().to_string(), certificate::validity(&parsed)?);
    let id = fingerprint_sha256(&der).get(..ID_DIGITS)?.to_owned();
    let path = folder.path(file_of(name));
    Some(ImportedCa { name: name.to_owned(), id, path, subject, validity, der: der.into_owned() })
}

fn public_key(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    certificate::parse(der).map(|parsed| parsed.public_key().raw.to_vec())
}

fn file_of(name: &str) -> String {
    format!("{FILE_PREFIX}{name}{FILE_SUFFIX}")
}

fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

impl Authority {
    /// Takes a CA of others into the folder of the CA, from the next start on.
    ///
    /// # Errors
    /// A name that is none or taken; a certificate that is no CA's, past its end, or the deployment's own.
    pub fn import_ca(
        dir: &std::path::Path,
        name: &str,
        pem: &str,
        now: OffsetDateTime,
    ) -> Result<ImportedCa, PkiError> {
        let folder = Folder::open(dir)?;
        let lock = folder.lock()?;
        let given = PkiError::Given;
        if !is_name(name) {
            return Err(PkiError::CaName { name: shortened(name) });
        }
        let there = load(&folder)?;
        if there.iter().any(|other| other.name == name) || there.len() >= IMPORTED_MAX {
            return Err(given("cannot be taken: a CA of this name is there, or as many as there may be"));
        }
        let imported = read(&folder, name, pem.as_bytes())
            .ok_or(given("must be one in PEM, of a CA that may sign certificates"))?;
        if imported.not_after() < now {
            return Err(given("is past its end"));
        }
        let mut trusted: Vec<_> = there.into_iter().map(|other| other.der).collect();
        for own in [ROOT_CERTIFICATE, ISSUING_CERTIFICATE, FORMER_CERTIFICATES] {
            let text = folder.read(own)?.unwrap_or_default();
            trusted.extend(certificate::chain_from_pem(&text).unwrap_or_default());
        }
        for other in &trusted {
            if public_key(other) == public_key(&imported.der) {
                return Err(given("has the key of a CA that is trusted here already"));
            }
            // Else it depended on who looks which of them a certificate is of.
            if ca_set::is_signed_by(other, &imported.der) || ca_set::is_signed_by(&imported.der, other) {
                return Err(given("leads to a CA that is trusted here already, or that one to it"));
            }
        }
        let (name, text) = (file_of(name), to_pem(&imported.der));
        folder.write(&lock, &NewFile { name: &name, access: Access::Public, text: &text })?;
        Ok(imported)
    }

    /// Trusts a CA of others no more, from the next start on; answers whether it was there.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn remove_ca(dir: &std::path::Path, name: &str) -> Result<bool, PkiError> {
        let folder = Folder::at(dir);
        let is_there = is_name(name) && folder.has(&file_of(name))?;
        if is_there {
            let _lock = folder.lock()?;
            folder.remove(&file_of(name))?;
        }
        Ok(is_there)
    }

    /// The CAs of others as they were when the CA was opened.
    pub fn imported(&self) -> &[ImportedCa] {
        &self.imported
    }

    /// Reads a certificate of a device that the CA of this name has issued, with those between the two behind it.
    ///
    /// # Errors
    /// [`PkiError::Given`]: there is no such CA, or the certificate does not lead to it, or is not good now.
    pub fn imported_device(
        &self,
        ca: &str,
        pem: &str,
        now: OffsetDateTime,
    ) -> Result<ImportedDevice, PkiError> {
        let given = PkiError::Given;
        let ca = self.imported.iter().find(|one| one.name == ca);
        let ca = ca.ok_or(given("cannot be looked at: no CA of this name is imported here"))?;
        if !ca.validity.contains(now) {
            return Err(given("cannot be taken: its CA is past its end, or not valid yet"));
        }
        let chain = Some(pem).filter(|pem| pem.len() <= CHAIN_CHARS_MAX);
        let chain = chain.and_then(|pem| certificate::chain_from_pem(pem.as_bytes())).unwrap_or_default();
        let (leaf, between) = chain.split_first().ok_or(given("must be one in PEM"))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.der.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|_| given("cannot be looked at: its CA is of no use"))?;
        let now = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        verifier.verify_client_cert(leaf, between, now).map_err(|_| {
            given("does not lead to that CA, is not in its time, or is not for clients of TLS")
        })?;
        let parsed = certificate::parse(leaf).ok_or(given("cannot be read"))?;
        let mut names = parsed.subject().iter_common_name().map(|name| name.as_str());
        let (Some(Ok(common_name)), None) = (names.next(), names.next()) else {
            return Err(given("must have one CommonName: the serial number of the device"));
        };
        Ok(ImportedDevice {
            common_name: common_name.to_owned(),
            serial: imported_serial(&ca.id, &fingerprint_sha256(leaf)),
            not_after_s: parsed.validity().not_after.timestamp(),
        })
    }
}
