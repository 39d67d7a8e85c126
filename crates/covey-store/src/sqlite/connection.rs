//! How connections to the database are set up.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;
use crate::sqlite::migrations;

/// How many prepared statements a connection keeps.
const STATEMENTS_KEPT: usize = 128;
/// How long a connection waits for another one's lock.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How many KiB of pages a connection keeps in memory.
const WRITER_CACHE_KIB: i64 = 32 * 1024;
/// The same for a connection that reads.
const READER_CACHE_KIB: i64 = 8 * 1024;

/// Makes a file that its owner alone may read and write. SQLite gives the log
/// beside a database the rights of the database.
pub(super) fn make_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.write(true).open(path)
}

/// The connection that writes. The file is made if it is missing. One that is
/// not ours is refused before anything is written to it.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        let made = make_private(OpenOptions::new().create(true).truncate(false), path);
        made.map_err(|source| StoreError::Make { path: path.to_owned(), source })?;
    }
    let open = |source| StoreError::Open { path: path.to_owned(), source };
    let connection = Connection::open(path).map_err(open)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(open)?;
    migrations::check(&connection, path)?;
    // SQLite falls back to reading when it may not write.
    if connection.is_readonly("main").map_err(open)? {
        return Err(StoreError::ReadOnly { path: path.to_owned() });
    }
    set_up_to_write(connection).map_err(open)
}

/// A database that is in memory, and ends with its connection.
pub(super) fn open_in_memory() -> rusqlite::Result<Connection> {
    set_up_to_write(Connection::open_in_memory()?)
}

fn set_up_to_write(connection: Connection) -> rusqlite::Result<Connection> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // The commit returns after the fsync of the log (SQLite "PRAGMA synchronous").
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    // Checkpoints are made beside the writer, see `checkpoint`.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(connection)
}

/// Bounds the database (SQLite "PRAGMA max_page_count"). The bound is the
/// connection's and not the file's, so the next start may give another.
pub(super) fn limit_pages(connection: &Connection, pages_max: u32) -> rusqlite::Result<()> {
    connection.pragma_update(None, "max_page_count", pages_max)
}

/// A connection that cannot write.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, StoreError> {
    let set_up = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        Ok(connection)
    };
    set_up().map_err(|source| StoreError::Open { path: path.to_owned(), source })
}

/// A connection to a file that nobody writes. Without a log beside it SQLite is told so, and makes none (SQLite "URI
/// Filenames", immutable).
pub(super) fn open_to_look(path: &Path) -> Result<Connection, StoreError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let has_log = std::fs::metadata(log).is_ok_and(|log| log.len() > 0);
    let (Some(text), false) = (path.to_str(), has_log) else { return open_for_reading(path) };
    let name = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)
        .map_err(|source| StoreError::Open { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sqlite_is_compiled_as_the_workspace_asks_for() {
        let connection = Connection::open_in_memory().unwrap();
        let mut statement = connection.prepare("PRAGMA compile_options").unwrap();
        let options = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let options: Vec<String> = options.collect::<Result<_, _>>().unwrap();
        for asked in ["DEFAULT_MEMSTATUS=0", "OMIT_LOAD_EXTENSION", "OMIT_SHARED_CACHE"] {
            assert!(options.iter().any(|option| option == asked), "{asked} is not among {options:?}");
        }
        for unused in ["ENABLE_API_ARMOR", "ENABLE_FTS5", "ENABLE_RTREE", "ENABLE_STAT4"] {
            assert!(!options.iter().any(|option| option == unused), "{unused} is among {options:?}");
        }
    }
}
