//! The identities of simulated devices, kept for the next run: one file, one
//! line of JSON for each device, for its owner's eyes alone.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use covey_client::Registered;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The file in the folder.
const FILE_NAME: &str = "identities.jsonl";

/// A device's certificate and key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredIdentity {
    pub(crate) sn: String,
    pub(crate) device_id: i64,
    pub(crate) ca_pem: String,
    pub(crate) certificate_pem: String,
    pub(crate) private_key_pem: String,
}

impl StoredIdentity {
    pub(crate) fn of(registered: Registered) -> Result<Self> {
        let Registered { device, certificate_pem, ca_pem, private_key_pem, .. } = registered;
        let (Some(ca_pem), Some(certificate_pem), Some(private_key_pem)) =
            (ca_pem, certificate_pem, private_key_pem)
        else {
            return Err(Error::KeyMissing { sn: device.sn.into_owned() });
        };
        Ok(Self {
            sn: device.sn.into_owned(),
            device_id: device.device_id,
            ca_pem: ca_pem.into_owned(),
            certificate_pem: certificate_pem.into_owned(),
            private_key_pem: private_key_pem.into_owned(),
        })
    }
}

/// The file, open and locked.
pub(crate) struct Identities {
    path: PathBuf,
    file: File,
    known: HashMap<String, StoredIdentity>,
}

impl Identities {
    /// Opens the file in a folder, both made if missing.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        let cannot = |source| Error::Identities { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(cannot)?;
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(cannot)?;
        if file.try_lock().is_err() {
            return Err(Error::IdentitiesInUse { path });
        }
        file.set_permissions(Permissions::from_mode(0o600)).map_err(cannot)?;
        let known = read(&file).map_err(cannot)?;
        Ok(Self { path, file, known })
    }

    pub(crate) fn take(&mut self, sn: &str) -> Option<StoredIdentity> {
        self.known.remove(sn)
    }

    /// Writes one more, so that a registration that is cut off loses none.
    pub(crate) fn add(&mut self, identity: &StoredIdentity) -> Result<()> {
        let written = serde_json::to_vec(identity).map_err(io::Error::other).and_then(|mut line| {
            line.push(b'\n');
            self.file.write_all(&line)
        });
        written.map_err(|source| Error::Identities { path: self.path.clone(), source })
    }
}

/// A later line of a device replaces an earlier one. A line that was cut off
/// is a device that will be told to be taken.
fn read(mut file: &File) -> io::Result<HashMap<String, StoredIdentity>> {
    let mut known = HashMap::new();
    file.rewind()?;
    let mut is_whole = true;
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        match serde_json::from_slice::<StoredIdentity>(&line) {
            Ok(identity) => {
                known.insert(identity.sn.clone(), identity);
                is_whole = true;
            }
            Err(error) => {
                is_whole = line.is_empty();
                tracing::warn!(%error, "a line of the identities cannot be read and is skipped");
            }
        }
    }
    if !is_whole {
        // The next line must not become part of the broken one.
        file.write_all(b"\n")?;
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn identity(sn: &str, device_id: i64) -> StoredIdentity {
        let pem = || "-----BEGIN\n-----END\n".to_owned();
        StoredIdentity {
            sn: sn.to_owned(),
            device_id,
            ca_pem: pem(),
            certificate_pem: pem(),
            private_key_pem: pem(),
        }
    }

    #[test]
    fn identities_are_there_again_for_their_owner_alone_and_one_program_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new").join("folder");
        let mut identities = Identities::open(&folder).unwrap();
        identities.add(&identity("sim-00001", 1)).unwrap();
        identities.add(&identity("sim-00002", 2)).unwrap();
        identities.add(&identity("sim-00001", 3)).unwrap();
        assert!(matches!(Identities::open(&folder), Err(Error::IdentitiesInUse { .. })));
        drop(identities);
        let mode = folder.join(FILE_NAME).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut identities = Identities::open(&folder).unwrap();
        assert_eq!(identities.take("sim-00001").unwrap().device_id, 3);
        assert_eq!(identities.take("sim-00002").unwrap().device_id, 2);
        assert!(identities.take("sim-00003").is_none());
    }

    #[test]
    fn a_line_that_was_cut_off_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut identities = Identities::open(dir.path()).unwrap();
        identities.add(&identity("sim-00001", 1)).unwrap();
        identities.file.write_all(b"{\"sn\":\"sim-00").unwrap();
        drop(identities);
        let mut identities = Identities::open(dir.path()).unwrap();
        identities.add(&identity("sim-00003", 3)).unwrap();
        drop(identities);
        let mut identities = Identities::open(dir.path()).unwrap();
        assert!(identities.take("sim-00001").is_some() && identities.take("sim-00003").is_some());
    }
}
