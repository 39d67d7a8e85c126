//! The first start: whether there is a database, and keys in it, and making one.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::StoreError;
use crate::rows;
use crate::sqlite::{connection, migrations};

/// Where the header of a database has its version, and how long that is, in bytes
/// (SQLite "Database File Format" §1.3: the user version).
const VERSION_AT: usize = 60;
const VERSION_END: usize = VERSION_AT + 4;

/// Whether there is no database: no file, or one into which nothing was ever put.
/// Nothing is changed.
///
/// # Errors
/// A file that cannot be opened, or is not ours.
pub fn is_missing(path: &Path) -> Result<bool, StoreError> {
    match header(path) {
        Ok(header) if header.is_empty() => return Ok(true),
        Ok(header) if header.get(VERSION_AT..VERSION_END).is_some_and(|version| version != [0; 4]) => {
            return Ok(false);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        // What it is may still be in the log beside it; and what cannot be read is SQLite's to say.
        _ => {}
    }
    let connection = connection::open_for_writing(path)?;
    Ok(migrations::check(&connection, path)? == 0)
}

/// Makes a database in which nothing is, unless there is one.
///
/// # Errors
/// A file that cannot be made or opened, or is not ours.
pub fn make(path: &Path) -> Result<(), StoreError> {
    let mut connection = connection::open_for_writing(path)?;
    migrations::run(&mut connection, path)
}

/// Whether there is or was an API key in a database that is there.
///
/// # Errors
/// A file that cannot be opened, or is not ours.
pub fn has_keys(path: &Path) -> Result<bool, StoreError> {
    let connection = connection::open_for_writing(path)?;
    if migrations::check(&connection, path)? == 0 {
        return Ok(false);
    }
    let found = connection.prepare(rows::API_KEY_EXISTS).and_then(|mut found| found.exists([]));
    found.map_err(|source| StoreError::Open { path: path.to_owned(), source })
}

fn header(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut header = Vec::with_capacity(VERSION_END);
    File::open(path)?.take(VERSION_END as u64).read_to_end(&mut header)?;
    Ok(header)
}
