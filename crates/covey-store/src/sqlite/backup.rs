//! Copies of a database that is in use (SQLite "Online Backup API").

use std::path::Path;

use rusqlite::Connection;

use crate::error::StoreError;
use crate::sqlite::{connection, migrations};

/// Copies the database at `from` to a new file at `to`, as of one moment. Those
/// who write to it are not held up, and may be other processes.
///
/// # Errors
/// A file that cannot be read or written, or a copy that fails its check.
pub fn backup(from: &Path, to: &Path) -> Result<(), StoreError> {
    let source = connection::open_for_reading(from)?;
    migrations::check(&source, from)?;
    let copy = |to: &Path| {
        let mut target = Connection::open(to)?;
        // All pages in one step: under WAL this is one read transaction.
        rusqlite::backup::Backup::new(&source, &mut target)?.step(-1)?;
        target.pragma_update(None, "journal_mode", "DELETE")?;
        target.close().map_err(|(_, error)| error)
    };
    copy(to).map_err(|source| StoreError::Copy { path: to.to_owned(), source })?;
    verify(to)
}

/// Checks that a database is whole and one that this program can use.
///
/// # Errors
/// A file that is not ours, is newer than this program, or is damaged.
pub fn verify(path: &Path) -> Result<(), StoreError> {
    let connection = connection::open_for_reading(path)?;
    migrations::check(&connection, path)?;
    let open = |source| StoreError::Open { path: path.to_owned(), source };
    let problem: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(open)?;
    if problem == "ok" { Ok(()) } else { Err(StoreError::Damaged { path: path.to_owned(), problem }) }
}
