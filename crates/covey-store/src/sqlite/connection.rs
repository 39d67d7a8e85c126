//! How connections to the database are set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;

/// How many prepared statements a connection keeps.
const STATEMENTS_KEPT: usize = 128;
/// How long a connection waits for another one's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How many KiB of pages a connection keeps in memory.
const WRITER_CACHE_KIB: i64 = 32 * 1024;
/// The same for a connection that reads.
const READER_CACHE_KIB: i64 = 8 * 1024;

/// The connection that writes. The file is made, readable by its owner alone.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, StoreError> {
    let set_up = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
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
    };
    set_up().map_err(|source| StoreError::Open { path: path.to_owned(), source })
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
