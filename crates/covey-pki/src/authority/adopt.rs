//! Taking over the CA of a deployment: every server of it signs with the same one.

use std::path::Path;

use time::OffsetDateTime;

use super::ca_set::CaCertificate;
use super::{
    Authority, FORMER_CERTIFICATES, FORMER_KEYS, ISSUING_CERTIFICATE, ISSUING_KEY, ROOT_CERTIFICATE, ca_set,
    former,
};
use crate::error::PkiError;
use crate::folder::{Access, Folder, NewFile};

impl Authority {
    /// Copies the CA in `from` to `dir`, unless it is there already, or one that has taken its place; one whose place it has
    /// taken it replaces. The root's key is left where it is: no server needs it.
    ///
    /// # Errors
    /// Files of `from` that are missing or damaged; another CA in `dir`, which is never replaced.
    pub fn adopt(from: &Path, dir: &Path, now: OffsetDateTime) -> Result<(), PkiError> {
        let source = Folder::at(from);
        let given = ca_set::load(&source, now)?;
        let folder = Folder::open(dir)?;
        let lock = folder.lock()?;
        folder.recover_set(&lock)?;
        if ca_set::is_there(&folder)? {
            // One that is past its end is replaced all the more.
            let present = ca_set::load_whatever_its_dates(&folder)?;
            let is_former = |folder: &Folder, one: &CaCertificate| {
                let former = former::certificates(folder)?;
                Ok::<_, PkiError>(former.iter().any(|(der, _)| *der == one.der))
            };
            // Of those before, the folder that is given forgets the ones that are past their end.
            let has_ended = present.issuing.validity.not_after < now;
            let other = PkiError::OtherAuthority { present: dir.to_owned(), given: from.to_owned() };
            if present.root.der != given.root.der {
                return Err(other);
            }
            // The same, or one whose place the present one has taken.
            if present.issuing.der == given.issuing.der || is_former(&folder, &given.issuing)? {
                return Ok(());
            }
            if !has_ended && !is_former(&source, &present.issuing)? {
                return Err(other);
            }
        }
        let issuing_key = source.read_key(ISSUING_KEY)?.map(|key| key.text).unwrap_or_default();
        let issuing_key = String::from_utf8(issuing_key).map_err(|_| PkiError::Corrupt {
            path: source.path(ISSUING_KEY),
            expected: "private key in PEM",
        })?;
        let text = |name| -> Result<String, PkiError> {
            let text = source.read(name)?.unwrap_or_default();
            String::from_utf8(text)
                .map_err(|_| PkiError::Corrupt { path: source.path(name), expected: "text in PEM" })
        };
        let (former, former_keys) = (text(FORMER_CERTIFICATES)?, text(FORMER_KEYS)?);
        let file = |name, access, text| NewFile { name, access, text };
        let mut files = vec![
            file(ROOT_CERTIFICATE, Access::Public, given.root.pem.as_str()),
            file(ISSUING_KEY, Access::Secret, &issuing_key),
            file(ISSUING_CERTIFICATE, Access::Public, &given.issuing.pem),
        ];
        if !former.is_empty() {
            files.push(file(FORMER_CERTIFICATES, Access::Public, &former));
            files.push(file(FORMER_KEYS, Access::Secret, &former_keys));
        }
        folder.replace_set(&lock, &files)
    }
}
