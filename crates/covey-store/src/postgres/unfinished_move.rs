//! A server starts on no database that a site is still being moved into
//! (`crate::migrate`).

use tokio_postgres::Client;

use crate::error::StoreError;
use crate::postgres::options::said;

/// The key in `deployment` that is there as long as a move is unfinished; its value tells the source.
pub(crate) const UNFINISHED: &str = "migration_unfinished";

/// Refuses a database with an unfinished migration. To be called after taking
/// the lock by which a migration sees that a server runs, so that of the two
/// one always sees the other.
///
/// # Errors
/// [`StoreError::Unsuitable`], saying how to finish it.
pub(crate) async fn refuse_unfinished(client: &Client, place: &str) -> Result<(), StoreError> {
    let failed = |error: tokio_postgres::Error| StoreError::Postgres {
        what: "tell whether a migration is unfinished",
        problem: said(&error),
    };
    let sql = "SELECT count(*) > 0 FROM deployment WHERE key = $1";
    let row = client.query_one(sql, &[&UNFINISHED]).await.map_err(failed)?;
    if row.try_get(0).map_err(failed)? {
        let problem = "a site is being moved into it; finish that with covey migrate-store, given as before";
        return Err(StoreError::Unsuitable { place: place.to_owned(), problem: problem.to_owned() });
    }
    Ok(())
}
