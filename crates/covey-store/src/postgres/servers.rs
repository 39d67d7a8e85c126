//! Looking after the servers on the database. Every server does so every
//! second, and none leads: each step is one that may be done twice.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use covey_core::id::UnixMs;
use tokio_postgres::{Client, Error};

use crate::postgres::locks::LockClass;
use crate::postgres::numbers;
use crate::postgres::partitions;

/// How long a server's name must be free before its connections count as
/// gone: a server that lost its connection to the database still has its devices.
const SERVER_GONE: Duration = Duration::from_secs(10);
/// The same for a writer's mark, which must outlive any question about it.
const WRITER_GONE: Duration = Duration::from_secs(3_600);
/// How often partitions are made ahead.
const PARTITIONS_PAUSE: Duration = Duration::from_secs(600);

/// The locks of one class that are held, as `SELECT`.
const HELD: &str = "SELECT l.objid::int8 FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted \
     AND l.objsubid = 2 AND l.classid = $1::int8::oid \
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Whether servers run: each holds the locks of its name and of its writer.
const SERVED: &str = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND classid IN ($1::int8::oid, $2::int8::oid) AND objsubid = 2)";
/// How long the connections of a server that was stopped just now may last.
const STOPPED_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two looks for them.
const STOPPED_PAUSE: Duration = Duration::from_millis(50);

/// Whether servers run on the database, and go on running.
pub(crate) async fn is_served(client: &Client) -> Result<bool, Error> {
    let classes = [LockClass::Writer, LockClass::Server].map(|class| i64::from(class.number()));
    let begun = Instant::now();
    loop {
        let is_served: bool = client.query_one(SERVED, &[&classes[0], &classes[1]]).await?.try_get(0)?;
        if !is_served || begun.elapsed() > STOPPED_TIMEOUT {
            return Ok(is_served);
        }
        tokio::time::sleep(STOPPED_PAUSE).await;
    }
}

/// A server's own numbers.
#[derive(Clone, Copy)]
pub(super) struct Own {
    pub(super) server: i32,
    pub(super) writer: i32,
}

/// What one server knows of the others from looking at them.
#[derive(Default)]
pub(super) struct Housekeeping {
    last: Option<Instant>,
    partitions_made: Option<Instant>,
    servers_free: HashMap<i32, Instant>,
    writers_free: HashMap<i32, Instant>,
}

impl Housekeeping {
    pub(super) fn is_due(&self, pause: Duration) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= pause)
    }

    /// Looks once; answers whether another server is there, or at least its
    /// writer: the two have connections of their own.
    pub(super) async fn run(&mut self, client: &Client, own: Own, now: UnixMs) -> Result<bool, Error> {
        self.last = Some(Instant::now());
        let (servers_free, has_servers) = free(client, LockClass::Server, "servers", own.server).await?;
        for server in gone(&mut self.servers_free, &servers_free, SERVER_GONE) {
            forget_server(client, server, now).await?;
        }
        let (writers_free, has_writers) = free(client, LockClass::Writer, "writers", own.writer).await?;
        for writer in gone(&mut self.writers_free, &writers_free, WRITER_GONE) {
            client.execute("DELETE FROM writers WHERE id = $1", &[&writer]).await?;
        }
        if self.partitions_made.is_none_or(|made| made.elapsed() >= PARTITIONS_PAUSE) {
            self.partitions_made = Some(Instant::now());
            partitions::make_ahead(client, now).await?;
            numbers::note_head(client).await?;
        }
        Ok(has_servers || has_writers)
    }
}

/// The numbers in a table whose locks are free, and whether any other is held.
async fn free(client: &Client, class: LockClass, table: &str, own: i32) -> Result<(Vec<i32>, bool), Error> {
    let sql = format!("SELECT t.id, t.id::int8 IN ({HELD}) FROM {table} t");
    let rows = client.query(&sql, &[&i64::from(class.number())]).await?;
    let (mut free, mut has_company) = (Vec::new(), false);
    for row in rows {
        let (number, is_held): (i32, bool) = (row.try_get(0)?, row.try_get(1)?);
        match is_held {
            false => free.push(number),
            true => has_company |= number != own,
        }
    }
    Ok((free, has_company))
}

/// Those that were free whenever one looked, for this long.
fn gone(since: &mut HashMap<i32, Instant>, free: &[i32], after: Duration) -> Vec<i32> {
    since.retain(|number, _| free.contains(number));
    let now = Instant::now();
    free.iter().copied().filter(|number| since.entry(*number).or_insert(now).elapsed() >= after).collect()
}

/// Marks the connections of a server as ended, and forgets its name, unless it
/// has come back just now.
async fn forget_server(client: &Client, server: i32, now: UnixMs) -> Result<(), Error> {
    // Held until the end of the statement: a server that starts waits, and
    // then finds its name gone, which it makes anew with its next attempt.
    let sql = "WITH gone AS (DELETE FROM servers WHERE id = $1 AND pg_try_advisory_xact_lock($2, $1) \
             RETURNING name) \
         UPDATE connections c SET online = false, checked_at = $3 FROM gone \
         WHERE c.online AND c.server = gone.name";
    let ended = client.execute(sql, &[&server, &LockClass::Server.number(), &now.0]).await?;
    tracing::info!(server, connections = ended, "server gone; its device connections marked as ended");
    Ok(())
}
