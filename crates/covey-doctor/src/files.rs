//! Secrets and folders that are open to other users of the machine.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use covey_core::finding::{Code, Finding};

use crate::words;

/// How many files of the folder of keys are looked at.
/// Limit for each look: further ones are not looked at.
const KEYS_MAX: usize = 100;

/// What is wrong with a configuration file in which a password is. One of root's may be open to the group of the server.
#[must_use]
pub fn of_configuration(file: &Path) -> Option<Finding> {
    match mode(file) {
        Ok(mode) if mode & 0o027 != 0 => {
            let seen = format!(
                "a URL in it has a password, and it has the mode {mode:04o}: other users can read or change it"
            );
            let remedy = format!(
                "chmod 600 {}, or 640 if it is root's and the server reads it by its group; if others may have read it, change \
                 the password",
                words::path(file)
            );
            Some(Finding::error(Code::FileMode, file.display(), seen, remedy))
        }
        Ok(_) => None,
        Err(error) => Some(unreadable(file, &error)),
    }
}

/// What is missing of a CA without which no server starts.
#[must_use]
pub fn keys_missing(pki: &Path, missing: &[PathBuf]) -> Finding {
    let names: Vec<_> =
        missing.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy()).collect();
    let seen = match names.as_slice() {
        [] => "the keys of the CA are gone, and the database has API keys".to_owned(),
        names => format!("the CA is incomplete: {} missing; no server starts without", names.join(", ")),
    };
    let remedy = format!(
        "put it back into {} from a backup, or restore the backup into a new folder: covey restore --from DIR --data NEW_DIR; \
         a server that runs needs it at its next start",
        words::path(pki)
    );
    Finding::error(Code::KeysMissing, pki.display(), seen, remedy)
}

/// The issuing CA has not got its certificate yet.
#[must_use]
pub fn keys_waiting(pki: &Path, request: &Path) -> Finding {
    let request = words::path(request);
    let seen =
        format!("there is no CA yet: the issuing CA waits for its certificate, its request is {request}");
    let remedy = format!(
        "where the root is: covey ca sign {request} --root ROOT --out issuing.pem; back here: covey ca install issuing.pem --pki {}",
        words::path(pki)
    );
    Finding::error(Code::KeysMissing, pki.display(), seen, remedy)
}

/// There is no data directory, or nothing of a server is in it.
#[must_use]
pub fn no_data(data: &Path, is_there: bool) -> Finding {
    let seen = match is_there {
        true => "nothing of a server is in the data directory",
        false => "the data directory does not exist",
    };
    let shown = words::path(data);
    let remedy = format!(
        "if a server was started on this machine, name its folder with --data, or its settings with --config; if none was: covey \
         up --data {shown}"
    );
    Finding::warning(Code::DataMissing, data.display(), seen, remedy)
}

/// What is wrong with the data directory, with the secrets in it, and with others that the settings name.
#[must_use]
pub fn findings(data: &Path, others: &[PathBuf]) -> Vec<Finding> {
    let mut found = Vec::new();
    match mode(data) {
        Ok(mode) if mode & 0o077 != 0 => {
            let seen = format!("the data directory has the mode {mode:04o}: other users can enter it");
            found.push(Finding::warning(
                Code::FileMode,
                data.display(),
                seen,
                format!("chmod 700 {}", words::path(data)),
            ));
        }
        Ok(_) => {}
        Err(error) => return vec![unreadable(data, &error)],
    }
    let in_data =
        ["admin.key", "covey.db", "covey.db-wal", "covey.db-shm", "backup.json"].map(|name| data.join(name));
    let secrets =
        in_data.into_iter().chain(keys_in(&data.join("pki"), &mut found)).chain(others.iter().cloned());
    for secret in secrets {
        match mode(&secret) {
            Ok(mode) if mode & 0o077 != 0 => found.push(open(&secret, mode)),
            // What is not there is nobody's to read; whoever needs it says so.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.push(unreadable(&secret, &error)),
        }
    }
    found
}

fn open(secret: &Path, mode: u32) -> Finding {
    let seen = format!("it is a secret and has the mode {mode:04o}: other users can read it");
    let remedy =
        format!("chmod 600 {}; if others may have read it, replace what is in it", words::path(secret));
    Finding::error(Code::FileMode, secret.display(), seen, remedy)
}

fn unreadable(path: &Path, error: &io::Error) -> Finding {
    let remedy = "run this as the user of the server; see who owns it: ls -ld ";
    Finding::warning(
        Code::FileUnreadable,
        path.display(),
        format!("it cannot be looked at: {error}"),
        format!("{remedy}{}", words::path(path)),
    )
}

/// The private keys in a folder.
fn keys_in(folder: &Path, found: &mut Vec<Finding>) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            found.push(unreadable(folder, &error));
            return Vec::new();
        }
    };
    let paths = entries.take(KEYS_MAX).filter_map(|entry| Some(entry.ok()?.path()));
    let mut keys: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "key")).collect();
    keys.sort();
    keys
}

fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::finding::Severity;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_or_folder_that_others_can_open_is_named_with_what_closes_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("pki")).unwrap();
        let other = dir.path().join("its keys");
        let secrets = [data.join("admin.key"), data.join("pki/issuing.key"), other.clone()];
        for path in secrets.iter().chain([&data.join("pki/ca.pem")]) {
            fs::write(path, "x").unwrap();
            chmod(path, 0o600);
        }
        chmod(&data, 0o700);
        chmod(&data.join("pki/ca.pem"), 0o644);
        assert_eq!(findings(&data, std::slice::from_ref(&other)), []);
        for secret in &secrets {
            for mode in [0o640, 0o604, 0o620] {
                chmod(secret, mode);
                let found = findings(&data, std::slice::from_ref(&other));
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!((found[0].code, found[0].severity), (Code::FileMode, Severity::Error));
                assert!(found[0].seen.contains(&format!("{mode:04o}")), "{found:?}");
                assert!(
                    found[0].remedy.starts_with(&format!("chmod 600 {}", words::path(secret))),
                    "{found:?}"
                );
            }
            chmod(secret, 0o600);
        }
        chmod(&data, 0o750);
        let found = findings(&data, &[]);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Warning));
    }

    #[test]
    fn a_folder_that_is_not_there_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let found = findings(&dir.path().join("none"), &[]);
        assert_eq!((found.len(), found[0].code), (1, Code::FileUnreadable));
    }
}
