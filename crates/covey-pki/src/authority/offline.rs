//! A root whose key is on another machine, and an issuing CA that takes the place of another one: requests and certificates
//! are files that somebody carries.

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::former::{self, FORMER_MAX};
use super::{
    Authority, FORMER_CERTIFICATES, FORMER_KEYS, ISSUING_CERTIFICATE, ISSUING_KEY, NEXT_KEY, NEXT_REQUEST,
    ROOT_CERTIFICATE, ROOT_KEY, ca_set,
};
use crate::certificate::{self, hex, random_serial};
use crate::device::verified_public_key;
use crate::error::{PkiError, shortened};
use crate::folder::{Access, Folder, FolderLock, NewFile};
use crate::key::{PrivateKeyPem, key_from_pem};
use crate::lifetime::{CA_BACKDATE, CertificateLifetimes, Validity};

/// Characters of an issuing CA's name at most (RFC 5280 appendix A, ub-common-name).
const COMMON_NAME_CHARS_MAX: usize = 64;

impl Authority {
    /// Makes a root alone in `dir`, for a machine that signs issuing CAs and does nothing else.
    ///
    /// # Errors
    /// A CA that is there; a clock that cannot be right; a folder that cannot be written.
    pub fn create_root(
        dir: &Path,
        lifetimes: CertificateLifetimes,
        now: OffsetDateTime,
    ) -> Result<(), PkiError> {
        let folder = Folder::open(dir)?;
        let lock = folder.lock()?;
        folder.recover_set(&lock)?;
        if ca_set::is_there(&folder)? {
            return Err(PkiError::Present { dir: dir.to_owned() });
        }
        ca_set::create_root(&folder, &lock, lifetimes, now)
    }

    /// Makes a key for the issuing CA to come, and a request for its certificate; answers where the request is. What waits
    /// already goes on waiting.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn request_issuing(dir: &Path) -> Result<PathBuf, PkiError> {
        let folder = Folder::open(dir)?;
        let lock = folder.lock()?;
        folder.recover_set(&lock)?;
        forget_installed(&folder, &lock)?;
        if folder.has(NEXT_KEY)? && folder.has(NEXT_REQUEST)? {
            return Ok(folder.path(NEXT_REQUEST));
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let label = hex(&random_serial()?[1..5]);
        params.distinguished_name.push(DnType::CommonName, format!("Covey Issuing CA {label}"));
        let request = params.serialize_request(&key)?.pem()?;
        let key = PrivateKeyPem::of(&key);
        let file = |name, access, text| NewFile { name, access, text };
        folder.write(&lock, &file(NEXT_KEY, Access::Secret, key.expose()))?;
        folder.write(&lock, &file(NEXT_REQUEST, Access::Public, &request))?;
        Ok(folder.path(NEXT_REQUEST))
    }

    /// Signs such a request with the root in `dir`: the issuing CA's certificate and the root's, in PEM.
    ///
    /// # Errors
    /// A root without its key; a request that is none.
    pub fn sign_issuing(
        dir: &Path,
        request_pem: &str,
        lifetimes: CertificateLifetimes,
        now: OffsetDateTime,
    ) -> Result<String, PkiError> {
        let folder = Folder::at(dir);
        let (root, root_key) = ca_set::load_root(&folder, now)?;
        let root_key = root_key.ok_or(PkiError::Incomplete { dir: dir.to_owned(), missing: ROOT_KEY })?;
        let common_name = common_name(request_pem)?;
        let public_key = verified_public_key(&common_name, request_pem)?;
        let validity = root.validity.within(now, CA_BACKDATE, lifetimes.issuing);
        let mut params = ca_set::ca_params(&common_name, 0, validity)?;
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(&root.der, root_key)?;
        Ok(params.signed_by(&public_key, &issuer)?.pem() + &root.pem)
    }

    /// Takes the certificate that came back, with the root's: from the next start on the server signs with it. What the
    /// issuing CA of before has signed stays good until that one's end.
    ///
    /// # Errors
    /// A certificate for another key than the one that waits, of another root, or past its end.
    pub fn install_issuing(dir: &Path, chain_pem: &str, now: OffsetDateTime) -> Result<(), PkiError> {
        let folder = Folder::open(dir)?;
        let lock = folder.lock()?;
        folder.recover_set(&lock)?;
        let given = PkiError::Given;
        let chain =
            certificate::chain_from_pem(chain_pem.as_bytes()).filter(|chain| chain.len() == 2).ok_or(
                given("must be what covey ca sign has written: the issuing CA's certificate and the root's"),
            )?;
        let [issuing, root] = [&chain[0], &chain[1]];
        if !ca_set::is_signed_by(root, root) || !ca_set::is_signed_by(root, issuing) {
            return Err(given("does not hold an issuing CA and the root that has signed it"));
        }
        let validity = certificate::parse(issuing).as_ref().and_then(certificate::validity);
        if !validity.is_some_and(|validity: Validity| validity.contains(now)) {
            return Err(given("holds an issuing CA that is past its end, or not valid yet"));
        }
        let key = folder.read_key(NEXT_KEY)?.map(|file| file.text).unwrap_or_default();
        let fits = key_from_pem(&key).zip(certificate::parse(issuing));
        if fits.is_none_or(|(key, parsed)| parsed.public_key().raw != key.subject_public_key_info()) {
            return Err(given(
                "is not for the key that waits here (covey ca init makes one, and a request for it)",
            ));
        }
        let key =
            String::from_utf8(key).map_err(|_| given("cannot be used: the key that waits is no PEM"))?;
        let pem = |der: &rustls_pki_types::CertificateDer<'_>| certificate::to_pem(der);
        let (mut former_pem, mut former_keys) = (String::new(), String::new());
        if ca_set::is_there(&folder)? {
            let present = ca_set::load_root(&folder, now)?.0;
            if present.der != *root {
                return Err(given("is signed by another root than the one that is here"));
            }
            let former = former::load(&folder, root, now)?;
            if former.len() >= FORMER_MAX {
                return Err(given("cannot be used: there are as many issuing CAs as there may be"));
            }
            let replaced = ca_set::load_whatever_its_dates(&folder)?;
            // The one that is replaced now comes first. Of those that are past their end nothing stays.
            former_pem = replaced.issuing.pem;
            former_pem.extend(former.iter().map(|one| pem(&one.der)));
            let keys = former.iter().filter_map(|one| one.issuer.as_ref());
            let keys = std::iter::once(&replaced.issuer).chain(keys);
            former_keys = keys.map(|issuer| PrivateKeyPem::of(issuer.key()).into_exposed()).collect();
        }
        let file = |name, access, text| NewFile { name, access, text };
        let (issuing_pem, root_pem) = (pem(issuing), pem(root));
        let mut files = vec![
            file(ROOT_CERTIFICATE, Access::Public, root_pem.as_str()),
            file(ISSUING_KEY, Access::Secret, &key),
            file(ISSUING_CERTIFICATE, Access::Public, &issuing_pem),
        ];
        if !former_pem.is_empty() {
            files.push(file(FORMER_KEYS, Access::Secret, &former_keys));
            files.push(file(FORMER_CERTIFICATES, Access::Public, &former_pem));
        }
        folder.replace_set(&lock, &files)?;
        folder.remove(NEXT_REQUEST)?;
        folder.remove(NEXT_KEY)
    }
}

/// Removes the key that waits, and its request, where they were installed and a kill came before they were removed: else
/// the same key would get another certificate.
pub(super) fn forget_installed(folder: &Folder, _lock: &FolderLock) -> Result<(), PkiError> {
    if !folder.has(NEXT_KEY)? {
        return Ok(());
    }
    let key = |name| {
        let file = folder.read_key(name)?;
        Ok::<_, PkiError>(file.and_then(|file| key_from_pem(&file.text)))
    };
    let both = key(NEXT_KEY)?.zip(key(ISSUING_KEY)?);
    if both.is_some_and(|(one, other)| one.subject_public_key_info() == other.subject_public_key_info()) {
        folder.remove(NEXT_REQUEST)?;
        folder.remove(NEXT_KEY)?;
    }
    Ok(())
}

/// The name that a request asks for.
fn common_name(request_pem: &str) -> Result<String, PkiError> {
    let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(request_pem.as_bytes());
    let der = der.map_err(|_| PkiError::RequestUnreadable)?;
    let Ok((_, request)) = X509CertificationRequest::from_der(&der) else {
        return Err(PkiError::RequestUnreadable);
    };
    let mut names = request.certification_request_info.subject.iter_common_name();
    let name = match (names.next().map(|name| name.as_str()), names.next()) {
        (Some(Ok(name)), None) => name,
        _ => return Err(PkiError::RequestUnreadable),
    };
    let is_plain = name.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if !is_plain || name.len() > COMMON_NAME_CHARS_MAX {
        return Err(PkiError::ServiceName { name: shortened(name) });
    }
    Ok(name.to_owned())
}
