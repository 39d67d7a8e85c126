//! A look at a database before a server is: whether it answers, may be written, gives the rights that a server needs,
//! and what time it has.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Builder;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::error::StoreError;
use crate::postgres::connection::{Connector, asked};
use crate::postgres::options::{Options, said};

/// How long the whole look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(8);

/// What is asked in one trip. A table that is not there yet is made at the first start.
const LOOK: &str = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', \
     has_schema_privilege('public', 'CREATE'), \
     ARRAY(SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace \
         AND c.relkind IN ('r', 'p') AND NOT (has_table_privilege(c.oid, 'SELECT') \
         AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') \
         AND has_table_privilege(c.oid, 'DELETE')) ORDER BY 1 LIMIT 5), \
     (extract(epoch FROM clock_timestamp()) * 1000)::int8";

/// What a look at a database saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether it may only be read.
    pub is_read_only: bool,
    /// Whether its user may make tables in the schema `public`.
    pub may_create: bool,
    /// Tables that its user may not read and write, at most five.
    pub closed_tables: Vec<String>,
    /// How many milliseconds its clock is ahead of that of this machine.
    pub ahead_ms: i64,
    /// How exactly that is known.
    pub error_ms: i64,
}

/// Looks once, and changes nothing. Blocks, for eight seconds at most.
///
/// # Errors
/// A database that cannot be reached or asked.
pub fn look(options: &Options) -> Result<Look, StoreError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| StoreError::Thread { source })?.block_on(async {
        let unreachable = |problem| StoreError::Unreachable { place: options.place(), problem };
        let connector = Connector::new(options)?;
        let looked = async {
            let client = connector.connect().await.map_err(|error| unreachable(said(&error)))?;
            ask(&client).await.map_err(|error| asked("tell what it lets its user do", &error))
        };
        timeout(LOOK_TIMEOUT, looked).await.map_err(|_| unreachable("it does not answer".to_owned()))?
    })
}

async fn ask(client: &Client) -> Result<Look, tokio_postgres::Error> {
    let statement = client.prepare(LOOK).await?;
    let began = Instant::now();
    let row = client.query_one(&statement, &[]).await?;
    let trip_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    // The database read its clock somewhere on the trip.
    let error_ms = trip_ms / 2 + 1;
    let middle_ms = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(error_ms);
    let told_ms: i64 = row.try_get(3)?;
    Ok(Look {
        is_read_only: row.try_get(0)?,
        may_create: row.try_get(1)?,
        closed_tables: row.try_get(2)?,
        ahead_ms: told_ms.saturating_sub(middle_ms),
        error_ms,
    })
}
