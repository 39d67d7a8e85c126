//! Versioned migrations: each brings the database from one version to the
//! next, in a transaction of its own.
//!
//! A migration says which version a program must know to go on working with
//! the database that it leaves behind. So a new server can migrate while old
//! ones run: first add what the new program needs, and take away what the old
//! one needed only with a later migration.

use tokio_postgres::Client;

use crate::error::StoreError;
use crate::postgres::connection::asked;
use crate::postgres::locks::LockClass;

/// A step to the next version.
struct Migration {
    sql: &'static str,
    /// The version that a program must know to work with the outcome.
    requires: i32,
}

/// The migrations, oldest first; the version they lead to is their place, from 1.
const MIGRATIONS: [Migration; 4] = [
    Migration { sql: include_str!("../migrations/postgres_0001_first.sql"), requires: 1 },
    // A program that writes no records would leave changes untold.
    Migration { sql: include_str!("../migrations/postgres_0002_events.sql"), requires: 2 },
    Migration { sql: include_str!("../migrations/postgres_0003_webhooks.sql"), requires: 2 },
    Migration { sql: include_str!("../migrations/postgres_0004_forgotten.sql"), requires: 2 },
];

/// The newest version.
fn newest() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// Brings the database to the newest version. Of servers that start together
/// one does it, and the others wait.
pub(super) async fn run(client: &Client, place: &str) -> Result<(), StoreError> {
    let report = |error: tokio_postgres::Error| asked("migrate", &error);
    // No matter how long another server's migration takes.
    client.batch_execute("SET lock_timeout = 0; SET statement_timeout = 0").await.map_err(report)?;
    let class = LockClass::Migrations.number();
    client.execute("SELECT pg_advisory_lock($1, 0)", &[&class]).await.map_err(report)?;
    let outcome = migrate(client, place).await;
    let sql = "SELECT pg_advisory_unlock($1, 0)";
    client.execute(sql, &[&class]).await.map_err(report)?;
    client.batch_execute("SET lock_timeout = '5s'; SET statement_timeout = '30s'").await.map_err(report)?;
    outcome
}

async fn migrate(client: &Client, place: &str) -> Result<(), StoreError> {
    let report = |error: tokio_postgres::Error| asked("migrate", &error);
    let sql = "SELECT to_regclass('public.covey_schema') IS NOT NULL, \
         EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p'))";
    let row = client.query_one(sql, &[]).await.map_err(report)?;
    let (is_ours, has_tables): (bool, bool) =
        (row.try_get(0).map_err(report)?, row.try_get(1).map_err(report)?);
    if !is_ours && has_tables {
        let problem = "its schema \"public\" holds tables of something else; create a database of its own";
        return Err(StoreError::Unsuitable { place: place.to_owned(), problem: problem.to_owned() });
    }
    let found: i32 = if is_ours { check(client).await? } else { 0 };
    for (version, migration) in (1_i32..).zip(&MIGRATIONS).skip_while(|(version, _)| *version <= found) {
        let sql = format!(
            "BEGIN; CREATE TABLE IF NOT EXISTS covey_schema (version INTEGER PRIMARY KEY, \
             requires INTEGER NOT NULL, at TIMESTAMPTZ NOT NULL DEFAULT now()); {} \
             ;INSERT INTO covey_schema (version, requires) VALUES ({version}, {}); COMMIT",
            migration.sql, migration.requires
        );
        if let Err(error) = client.batch_execute(&sql).await {
            // What was begun is undone; should even that fail, the connection is of no use to anyone.
            let _ = client.batch_execute("ROLLBACK").await;
            return Err(report(error));
        }
        tracing::info!(version, "the database was brought to a new version");
    }
    Ok(())
}

/// The database's version, unless it is one that this program must not write to.
async fn check(client: &Client) -> Result<i32, StoreError> {
    let report = |error: tokio_postgres::Error| asked("tell its version", &error);
    let sql = "SELECT coalesce(max(version), 0), coalesce(max(requires), 0) FROM covey_schema";
    let row = client.query_one(sql, &[]).await.map_err(report)?;
    let (found, requires): (i32, i32) = (row.try_get(0).map_err(report)?, row.try_get(1).map_err(report)?);
    if requires > newest() {
        return Err(StoreError::TooOld { found, requires, known: newest() });
    }
    Ok(found)
}
