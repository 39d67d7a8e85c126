//! Runs migrations, each in a transaction of its own; of several servers one does.

use tokio_postgres::Client;

use crate::error::StoreError;
use crate::migrations::of_postgres;
use crate::postgres::connection::asked;
use crate::postgres::locks::LockClass;

/// The newest version.
fn newest() -> i32 {
    of_postgres().last().map_or(0, |(version, _)| version)
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
    for (version, migration) in of_postgres().skip_while(|(version, _)| *version <= found) {
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
        if found > 0 {
            tracing::info!(version, "database schema migrated");
        }
    }
    if found == 0 {
        tracing::info!(version = newest(), "database made");
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
