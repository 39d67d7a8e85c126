//! Whether the files of a CA are all there, seen from outside: nothing is made, moved or closed to others.

use std::path::{Path, PathBuf};

use super::{ISSUING_CERTIFICATE, ISSUING_KEY, NEXT_KEY, NEXT_REQUEST, ROOT_CERTIFICATE, ROOT_KEY};
use crate::error::PkiError;
use crate::folder::Folder;

/// Without one of these no server starts, once there is another, or the root's key.
const NEEDED: [&str; 3] = [ROOT_CERTIFICATE, ISSUING_CERTIFICATE, ISSUING_KEY];

/// What of a CA is in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaFiles {
    /// All that a server needs.
    Complete,
    /// Some; these are missing.
    Missing(Vec<PathBuf>),
    /// None, and no CA waits to be there.
    None,
    /// None but the key of an issuing CA that waits for its certificate, which is no CA. This is its request.
    Waiting(PathBuf),
}

impl CaFiles {
    /// Looks into the folder of a CA. What a start that was cut off has written and a next one moves into its place is there.
    ///
    /// # Errors
    /// A folder that cannot be looked into.
    pub fn in_folder(dir: &Path) -> Result<Self, PkiError> {
        let folder = Folder::at(dir);
        let missing = NEEDED.into_iter().map(|name| Ok((name, folder.will_have(name)?)));
        let looked = missing.collect::<Result<Vec<_>, PkiError>>()?;
        let missing: Vec<_> =
            looked.iter().filter(|(_, is_there)| !is_there).map(|(name, _)| *name).collect();
        Ok(match missing.len() {
            0 => Self::Complete,
            all if all < NEEDED.len() || folder.will_have(ROOT_KEY)? => {
                Self::Missing(missing.into_iter().map(|name| folder.path(name)).collect())
            }
            _ if folder.has(NEXT_KEY)? => Self::Waiting(folder.path(NEXT_REQUEST)),
            _ => Self::None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use time::OffsetDateTime;

    use super::*;
    use crate::{Authority, CertificateLifetimes};

    #[test]
    fn what_a_start_would_refuse_as_incomplete_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(CaFiles::in_folder(&dir.path().join("none")).unwrap(), CaFiles::None);
        let open = || {
            let now = OffsetDateTime::now_utc();
            Authority::open_or_create(dir.path(), CertificateLifetimes::default(), now).map(|_| ())
        };
        open().unwrap();
        let names = [ROOT_CERTIFICATE, ROOT_KEY, ISSUING_CERTIFICATE, ISSUING_KEY];
        let away = tempfile::tempdir().unwrap();
        for set in 1..1_u32 << names.len() {
            let gone: Vec<_> = names
                .iter()
                .enumerate()
                .filter(|(bit, _)| set & (1 << bit) != 0)
                .map(|(_, name)| name)
                .collect();
            for name in &gone {
                fs::rename(dir.path().join(name), away.path().join(name)).unwrap();
            }
            // What is not a CA at all is a first start, which makes one.
            if gone.len() < names.len() {
                let is_refused = matches!(open(), Err(PkiError::Incomplete { .. }));
                let is_missing = matches!(CaFiles::in_folder(dir.path()).unwrap(), CaFiles::Missing(_));
                assert_eq!(is_missing, is_refused, "{gone:?}");
            } else {
                assert_eq!(CaFiles::in_folder(dir.path()).unwrap(), CaFiles::None);
                fs::write(dir.path().join(NEXT_KEY), "").unwrap();
                let request = dir.path().join(NEXT_REQUEST);
                assert_eq!(CaFiles::in_folder(dir.path()).unwrap(), CaFiles::Waiting(request));
                assert!(matches!(open(), Err(PkiError::Waiting { .. })));
            }
            for name in &gone {
                fs::rename(away.path().join(name), dir.path().join(name)).unwrap();
            }
        }
    }
}
