//! Versioned migrations: each brings the database from one version to the
//! next, in a transaction of its own. The version is SQLite's `user_version`.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::ffi::ErrorCode;

use crate::error::StoreError;

/// "Covy" in ASCII: marks a database file as ours (SQLite `application_id`).
const APPLICATION_ID: i64 = 0x436f_7679;

/// The migrations, oldest first; the version they lead to is their place, from 1.
const MIGRATIONS: [&str; 5] = [
    include_str!("../migrations/sqlite_0001_first.sql"),
    include_str!("../migrations/sqlite_0002_sessions.sql"),
    include_str!("../migrations/sqlite_0003_events.sql"),
    include_str!("../migrations/sqlite_0004_webhooks.sql"),
    include_str!("../migrations/sqlite_0005_forgotten.sql"),
];

/// The newest version.
pub(super) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Refuses a database that is not ours or is newer than this program; answers
/// its version, which is 0 for one that is empty.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let open = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::Foreign { path: path.to_owned() },
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
    for (version, sql) in (1_i64..).zip(MIGRATIONS).skip_while(|(version, _)| *version <= found) {
        let step = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()
        };
        step(connection).map_err(|source| StoreError::Migration { version, source })?;
        tracing::info!(version, "the database was brought to a new version");
    }
    Ok(())
}
