//! The store of a server, opened by a command: beside the server, or in its place.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use covey_core::port::{Clock, Event, Observer, Step, Store};
use covey_store::postgres::{self, Postgres};
use covey_store::sqlite::{self, Sqlite};

use crate::deployment::refuse_moved;
use crate::fault;
use crate::serve::parts::SystemClock;
use crate::settings::{SQLITE, Settings};

/// Under which name commands write into the audit log, where each server has a chain of its own.
const AUDIT_CHAIN: &str = "command";

/// Opens the store that the settings name.
///
/// # Errors
/// One line that says what to do: no database, a site that was moved, no answer.
pub async fn open(settings: &Settings) -> Result<Arc<dyn Store>> {
    let clock: Arc<dyn Clock> = SystemClock::start();
    let observer: Arc<dyn Observer> = Arc::new(Nobody);
    if settings.store.scheme() == SQLITE {
        let path = database(settings)?;
        // Its reserve is there for a key that is revoked on a full disk.
        let disk = sqlite::Disk::open(&settings.data, Some(0)).ok().map(Arc::new);
        let options = sqlite::Options { disk, ..sqlite::Options::new(path) };
        let open = move || Sqlite::open(&options, clock, observer);
        return Ok(Arc::new(tokio::task::spawn_blocking(open).await?.map_err(fault::setup)?));
    }
    let options = postgres_options(settings)?;
    let open = move || Postgres::open(&options, clock, observer);
    Ok(Arc::new(tokio::task::spawn_blocking(open).await?.map_err(fault::setup)?))
}

/// Refuses a PostgreSQL database on which servers run.
pub async fn refuse_servers(settings: &Settings) -> Result<()> {
    let options = postgres_options(settings)?;
    let refuse = move || postgres::refuse_servers(&options);
    tokio::task::spawn_blocking(refuse).await?.map_err(fault::setup)
}

fn postgres_options(settings: &Settings) -> Result<postgres::Options> {
    // A name of its own: that of the server is taken.
    let name = format!("{}.command.{}", settings.server_name, std::process::id());
    let mut options = postgres::Options::new(settings.store.exposed(), &name).map_err(fault::setup)?;
    // One for all commands: there would be as many chains as commands were run.
    options.audit_chain = AUDIT_CHAIN.to_owned();
    Ok(options)
}

/// The file of a SQLite database that is there and in use.
fn database(settings: &Settings) -> Result<PathBuf> {
    let path = sqlite::file_in(&settings.data);
    if !path.exists() {
        let shown = path.display();
        return Err(fault::setup(format!(
            "there is no database {shown}; give the server's --data or --store"
        )));
    }
    refuse_moved(&path)?;
    Ok(path)
}

/// A command counts nothing.
struct Nobody;

impl Observer for Nobody {
    fn took(&self, _: Step, _: u64) {}
    fn happened(&self, _: Event) {}
}
