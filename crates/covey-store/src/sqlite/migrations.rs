//! Runs migrations, each in a transaction of its own. The version is SQLite's `user_version`.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::ffi::ErrorCode;

use crate::error::StoreError;
use crate::migrations::of_sqlite;

/// "Covy" in ASCII: marks a database file as ours (SQLite `application_id`).
const APPLICATION_ID: i64 = 0x436f_7679;

/// The newest version.
pub(super) fn newest() -> i64 {
    of_sqlite().last().map_or(0, |(version, _)| version)
}

/// Refuses a database that is not ours or is newer than this program; answers
/// its version, which is 0 for one that is empty.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let open = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::Foreign { path: path.to_owned() },
        Some(ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { path: path.to_owned(), problem: source.to_string() }
        }
        _ => StoreError::Open { path: path.to_owned(), source },
    };
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let found = pragma("user_version").map_err(open)?;
    let application = pragma("application_id").map_err(open)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(open)?;
    if application != APPLICATION_ID && (application != 0 || tables > 0) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if found > newest() {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: newest() });
    }
    Ok(found)
}

/// Brings the database to the newest version.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found = check(connection, path)?;
    for (version, sql) in of_sqlite().skip_while(|(version, _)| *version <= found) {
        let step = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()
        };
        step(connection).map_err(|source| StoreError::Migration { version, source })?;
        if found > 0 {
            tracing::info!(version, "database schema migrated");
        }
    }
    if found == 0 {
        tracing::info!(version = newest(), "database made");
    }
    Ok(())
}
