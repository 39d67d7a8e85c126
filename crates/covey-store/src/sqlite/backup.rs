//! Copies of a database that is in use (SQLite "Online Backup API").

use std::fs::OpenOptions;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ffi};

use crate::error::StoreError;
use crate::rows;
use crate::sqlite::{connection, migrations};

/// Copies the database at `from` to a new file at `to`, as of one moment. Those
/// who write to it are not held up, and may be other processes.
///
/// # Errors
/// A file that cannot be read or written, a target that is there already, or a
/// copy that fails its check.
pub fn backup(from: &Path, to: &Path) -> Result<(), StoreError> {
    let source = connection::open_for_reading(from)?;
    check_ours(&source, from)?;
    // It holds what the database holds, so it is as private.
    connection::make_private(OpenOptions::new().create_new(true), to)
        .map_err(|source| StoreError::Make { path: to.to_owned(), source })?;
    let copy = |to: &Path| {
        let mut target = Connection::open(to)?;
        // All pages in one step: under WAL this is one read transaction.
        match Backup::new(&source, &mut target)?.step(-1)? {
            StepResult::Done => {}
            _ => return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)),
        }
        target.pragma_update(None, "journal_mode", "DELETE")?;
        target.close().map_err(|(_, error)| error)
    };
    copy(to).map_err(|source| StoreError::Copy { path: to.to_owned(), source })?;
    verify(to)
}

/// What a look at a database saw that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether nothing was ever put into it.
    pub is_empty: bool,
    /// Whether there is or was an API key in it.
    pub has_keys: bool,
}

/// Checks that a database can be opened and is one that this program can use; what is in it is not looked through. Nobody
/// may be writing to it. Nothing is made beside it, unless a log is there that belongs to it.
///
/// # Errors
/// A file that cannot be read, is not ours, or is newer than this program.
pub fn look(path: &Path) -> Result<Look, StoreError> {
    let connection = connection::open_to_look(path)?;
    if migrations::check(&connection, path)? == 0 {
        return Ok(Look { is_empty: true, has_keys: false });
    }
    let found = connection.prepare(rows::API_KEY_EXISTS).and_then(|mut found| found.exists([]));
    let has_keys = found.map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    Ok(Look { is_empty: false, has_keys })
}

/// Checks that a database is whole and one that this program can use.
///
/// # Errors
/// A file that is not ours, is newer than this program, or is damaged.
pub fn verify(path: &Path) -> Result<(), StoreError> {
    let connection = connection::open_for_reading(path)?;
    check_ours(&connection, path)?;
    let open = |source| StoreError::Open { path: path.to_owned(), source };
    let problem: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(open)?;
    if problem == "ok" { Ok(()) } else { Err(StoreError::Damaged { path: path.to_owned(), problem }) }
}

/// An empty file is good enough to begin with, but is a copy of nothing.
fn check_ours(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    match migrations::check(connection, path)? {
        0 => Err(StoreError::Foreign { path: path.to_owned() }),
        _ => Ok(()),
    }
}
