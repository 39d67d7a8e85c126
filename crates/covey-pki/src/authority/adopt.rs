//! Taking over the CA of a deployment: every server of it signs with the same one.

use std::path::Path;

use time::OffsetDateTime;

use super::{Authority, ISSUING_CERTIFICATE, ISSUING_KEY, ROOT_CERTIFICATE, ca_set};
use crate::error::PkiError;
use crate::folder::{Access, Folder, NewFile};

impl Authority {
    /// Copies the CA in `from` to `dir`, unless it is there already. The root's key is left where
    /// it is: no server needs it.
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
            let present = ca_set::load(&folder, now)?;
            return if present.root.der == given.root.der && present.issuing.der == given.issuing.der {
                Ok(())
            } else {
                Err(PkiError::OtherAuthority { present: dir.to_owned(), given: from.to_owned() })
            };
        }
        let issuing_key = source.read_key(ISSUING_KEY)?.map(|key| key.text).unwrap_or_default();
        let issuing_key = String::from_utf8(issuing_key).map_err(|_| PkiError::Corrupt {
            path: source.path(ISSUING_KEY),
            expected: "private key in PEM",
        })?;
        let file = |name, access, text| NewFile { name, access, text };
        folder.write_set(
            &lock,
            &[
                file(ROOT_CERTIFICATE, Access::Public, &given.root.pem),
                file(ISSUING_KEY, Access::Secret, &issuing_key),
                file(ISSUING_CERTIFICATE, Access::Public, &given.issuing.pem),
            ],
        )
    }
}
