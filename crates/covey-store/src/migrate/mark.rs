//! What the target says of a migration, as rows of `deployment`: that one is
//! unfinished and of which source, how far it is, and in the end what was moved.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::migrate::error::MigrateError;
use crate::migrate::source::{Outbox, Position};
use crate::migrate::tables::Table;
use crate::migrate::tuple::{Checksum, Key};
use crate::postgres::numbers::{FORGOTTEN, HEAD};
use crate::postgres::said;
use crate::postgres::unfinished_move::UNFINISHED;

/// Is there when one was finished; its value tells the source.
const FINISHED: &str = "migration_finished";
/// Begins the names under which the progress of each table is kept.
const PROGRESS: &str = "migration_progress_";

/// What a target says.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) unfinished: Option<String>,
    pub(super) finished: Option<String>,
    pub(super) has_progress: bool,
}

pub(super) async fn read(client: &Client) -> Result<Marks, tokio_postgres::Error> {
    let sql = "SELECT (SELECT value FROM deployment WHERE key = $1), (SELECT value FROM deployment WHERE key = $2), \
         EXISTS (SELECT 1 FROM deployment WHERE starts_with(key, $3))";
    let row = client.query_one(sql, &[&UNFINISHED, &FINISHED, &PROGRESS]).await?;
    Ok(Marks { unfinished: row.try_get(0)?, finished: row.try_get(1)?, has_progress: row.try_get(2)? })
}

pub(super) async fn begin(client: &Client, identity: &str) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO deployment (key, value) VALUES ($1, $2)";
    client.execute(sql, &[&UNFINISHED, &identity]).await.map(drop)
}

/// Takes back what [`begin`] did, on a target that turned out to be in use.
pub(super) async fn withdraw(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.execute("DELETE FROM deployment WHERE key = $1", &[&UNFINISHED]).await.map(drop)
}

/// Turns an unfinished migration into a finished one, with facts about the
/// deployment. Servers may start from then on.
pub(super) async fn finish(
    client: &mut Client,
    identity: &str,
    facts: &[(String, String)],
    outbox: Outbox,
) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    // The connections of a server that runs no more are found by its name.
    let servers = "INSERT INTO servers (name) SELECT DISTINCT server FROM connections \
         WHERE online AND server <> '' ON CONFLICT (name) DO NOTHING";
    transaction.execute(servers, &[]).await?;
    let sql = "INSERT INTO deployment (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
    for (key, value) in facts {
        transaction.execute(sql, &[key, value]).await?;
    }
    transaction.execute(sql, &[&FINISHED, &identity]).await?;
    // The first server that starts gives numbers above these.
    let sql = "INSERT INTO deployment AS d (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE \
         SET value = greatest(d.value::int8, excluded.value::int8)::text";
    for (key, number) in [(HEAD, outbox.head), (FORGOTTEN, outbox.forgotten)] {
        transaction.execute(sql, &[&key, &number.to_string()]).await?;
    }
    let sql = "DELETE FROM deployment WHERE key = $1 OR starts_with(key, $2)";
    transaction.execute(sql, &[&UNFINISHED, &PROGRESS]).await?;
    transaction.commit().await
}

/// How far a table is.
pub(super) async fn position(client: &Client, table: &Table, place: &str) -> Result<Position, MigrateError> {
    let sql = "SELECT value FROM deployment WHERE key = $1";
    let failed = |error: tokio_postgres::Error| MigrateError::Target {
        what: "tell how far the migration is",
        problem: said(&error),
    };
    let key = format!("{PROGRESS}{}", table.name);
    let Some(row) = client.query_opt(sql, &[&key]).await.map_err(failed)? else {
        return Ok(Position::default());
    };
    let text: &str = row.try_get(0).map_err(failed)?;
    parsed(table, text).ok_or_else(|| MigrateError::DamagedMark { place: place.to_owned() })
}

fn parsed(table: &Table, text: &str) -> Option<Position> {
    let value: Value = serde_json::from_str(text).ok()?;
    Some(Position {
        after: Some(Key::from_stored(table, value.get("after")?.as_str()?)?),
        rows: value.get("rows")?.as_u64()?,
        checksum: Checksum::from_stored(value.get("checksum")?.as_str()?)?,
    })
}

/// Notes how far a table is; part of the transaction that brings it there.
pub(super) async fn note(
    client: &Client,
    table: &Table,
    position: &Position,
) -> Result<(), tokio_postgres::Error> {
    let after = position.after.as_ref().map(Key::stored);
    let value =
        json!({ "after": after, "rows": position.rows, "checksum": position.checksum.stored() }).to_string();
    let sql = "INSERT INTO deployment (key, value) VALUES ($1, $2) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    client.execute(sql, &[&format!("{PROGRESS}{}", table.name), &value]).await.map(drop)
}
