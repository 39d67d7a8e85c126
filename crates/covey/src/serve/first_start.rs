//! The first start of a server on SQLite, and what looks like one and is none: keys
//! whose database is gone. Going on with an empty one would refuse every device and
//! every API key of the deployment, and say nothing; so would a new CA beside a database every device.

use std::path::{Path, PathBuf};

use anyhow::Result;
use covey_store::sqlite;

use crate::command::connection::shell_word;
use crate::deployment::refuse_moved;
use crate::fault;
use crate::serve::data_dir::{ADMIN_KEY, DataDir, PKI};

/// Makes the database if this is the first start. It is made before any key, so that keys without a database are
/// never what a first start has left that was cut off.
pub fn ensure_database(data: &DataDir, begins_anew: bool) -> Result<()> {
    let file = sqlite::file_in(data.path());
    refuse_moved(&file)?;
    if !sqlite::is_missing(&file).map_err(fault::setup)? {
        return Ok(());
    }
    let keys = keys(data.path());
    if keys.is_empty() || begins_anew {
        if !keys.is_empty() {
            tracing::warn!(file = %file.display(), "the database is empty; its operator insists on a new one");
        }
        return sqlite::make(&file).map_err(fault::setup);
    }
    let how = if file.exists() { "empty" } else { "missing" };
    let keys: Vec<_> = keys.iter().map(|path| path.to_string_lossy()).collect();
    Err(fault::setup(format!(
        "the database {} is {how}, and there are keys of a deployment that had one ({}): its devices, tasks and API keys \
         were in it. Put the file back, or restore a backup into a new folder: covey restore --from BACKUP --data \
         NEW_DIR. To begin without them, with the CA that is here: covey up --data {} --new",
        file.display(),
        keys.join(", "),
        shell_word(&data.path().to_string_lossy()),
    )))
}

/// Refuses to go on to where a CA is made, beside a database that was used: the certificates of all its
/// devices, and what its clients trust, are of the CA that is gone.
pub fn ensure_authority(data: &DataDir, begins_anew: bool) -> Result<()> {
    let file = sqlite::file_in(data.path());
    if begins_anew || ca_files(data.path()).iter().any(|path| path.exists()) {
        return Ok(());
    }
    if !sqlite::has_keys(&file).map_err(fault::setup)? {
        return Ok(());
    }
    let pki = data.pki_path();
    Err(fault::setup(format!(
        "there is no CA in {}, and the database {} had one: its devices have certificates of that one. Put the folder \
         back, or restore a backup into a new folder: covey restore --from BACKUP --data NEW_DIR. To make another, which \
         admits none of these devices: covey up --data {} --new",
        pki.display(),
        file.display(),
        shell_word(&data.path().to_string_lossy()),
    )))
}

/// The keys that a first start makes, as far as they are there.
pub fn keys(data: &Path) -> Vec<PathBuf> {
    let made = ca_files(data).into_iter().chain([data.join(ADMIN_KEY)]);
    made.filter(|path| path.exists()).collect()
}

/// Files that every CA has.
fn ca_files(data: &Path) -> [PathBuf; 2] {
    let pki = data.join(PKI);
    [pki.join("ca.pem"), pki.join("issuing.key")]
}
