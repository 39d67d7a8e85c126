//! What an operator should know although nothing has failed.

use std::fmt;
use std::path::PathBuf;

use time::OffsetDateTime;

/// Something to tell the operator; `Display` is the text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A new CA was made.
    Created {
        /// Its folder.
        dir: PathBuf,
    },
    /// A private key was open to other users; it is closed now.
    KeyPermissionsNarrowed {
        /// The key's file.
        path: PathBuf,
        /// The permission bits it had.
        mode: u32,
    },
    /// The root's key is not on this machine. Nothing needs it here.
    RootKeyAbsent {
        /// Where it would be.
        path: PathBuf,
    },
    /// A CA certificate has less than a tenth of its life left.
    NearEnd {
        /// The certificate's file.
        path: PathBuf,
        /// Its last moment.
        not_after: OffsetDateTime,
    },
    /// A CA of others has less than a tenth of its life left, or none.
    ImportedNearEnd {
        /// What the operator calls it.
        name: String,
        /// Its last moment.
        not_after: OffsetDateTime,
        /// Whether that is past.
        is_over: bool,
    },
}

impl Notice {
    /// Whether the operator has to act (log as a warning), or only to know.
    pub fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::KeyPermissionsNarrowed { .. } | Self::NearEnd { .. } | Self::ImportedNearEnd { .. }
        )
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { dir } => {
                write!(f, "a new CA was made in {}; include the folder in the backup", dir.display())
            }
            Self::KeyPermissionsNarrowed { path, mode } => write!(
                f,
                "{} was open to other users (mode {mode:04o}) and has been set to 0600; if \
                 others may have read it, replace the CA",
                path.display()
            ),
            Self::RootKeyAbsent { path } => {
                write!(f, "{} is kept elsewhere, which is fine", path.display())
            }
            Self::NearEnd { path, not_after } => write!(
                f,
                "the CA certificate {} ends on {}, and no certificate outlives it; plan a new CA \
                 and the registration of the devices with it",
                path.display(),
                not_after.date()
            ),
            Self::ImportedNearEnd { name, not_after, is_over: false } => write!(
                f,
                "the CA {name} of others ends on {}: none of its devices is let in after that; give them \
                 certificates of this deployment",
                not_after.date()
            ),
            Self::ImportedNearEnd { name, not_after, is_over: true } => write!(
                f,
                "the CA {name} of others ended on {}: none of its devices is let in; covey ca remove \
                 forgets it",
                not_after.date()
            ),
        }
    }
}
