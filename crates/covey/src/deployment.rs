//! What must hold for all servers of a deployment, and over the years.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::fault;
use crate::settings::ServiceUrl;

/// Under which name the database keeps the fingerprint of the deployment's CA.
pub const CA_FACT: &str = "ca_sha256";

/// Leaves word beside a SQLite database that its site lives elsewhere now.
pub fn leave_moved(database: &Path, to: &ServiceUrl) -> Result<()> {
    let path = moved_path(database);
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        writeln!(file, "{to}")?;
        file.sync_all()?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error: std::io::Error| fault::setup(format!("cannot write {}: {error}", path.display())))
}

/// Refuses a SQLite database whose site was moved: whoever went on with it would
/// know the devices and the keys of then, and act upon them.
pub fn refuse_moved(database: &Path) -> Result<()> {
    let path = moved_path(database);
    match fs::read_to_string(&path) {
        Ok(to) => Err(fault::setup(format!(
            "this site was moved to {}: give its address with --store or COVEY_STORE; or, to go back to what it was \
             before that, delete {}",
            to.trim(),
            path.display()
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(fault::setup(format!("cannot read {}: {error}", path.display()))),
    }
}

fn moved_path(database: &Path) -> PathBuf {
    database.with_added_extension("moved")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_database_whose_site_was_moved_is_refused_until_its_owner_says_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("covey.db");
        refuse_moved(&database).unwrap();
        leave_moved(&database, &"postgres://covey:secret@db/covey".parse().unwrap()).unwrap();
        let refused = refuse_moved(&database).unwrap_err().to_string();
        assert!(refused.contains("postgres://covey:***@db/covey"), "{refused}");
        fs::remove_file(dir.path().join("covey.db.moved")).unwrap();
        refuse_moved(&database).unwrap();
    }
}
