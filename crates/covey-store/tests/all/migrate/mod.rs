//! Moving a site from SQLite to PostgreSQL: all that could be seen before can be
//! seen after, whatever happens in between.

mod fill;
mod hooks;
mod kills;
mod mass;
mod moved;
mod random;
mod refusals;
mod seen;

use std::path::Path;

use covey_core::id::UnixMs;
use covey_store::migrate::{MigrateError, Options, Report, run, verify};
use covey_store::postgres;

use crate::world::SERVER;
use crate::world::parts::BEGIN;

/// How to move a file to a database, in chunks that are small enough for there
/// to be many.
fn options(from: &Path, url: &str) -> Options {
    let to = postgres::Options::new(url, SERVER).unwrap();
    let now = UnixMs(BEGIN.0 + 365 * 86_400_000);
    Options { chunk_rows_max: 50, ..Options::new(from, to, now) }
}

fn migrate(from: &Path, url: &str) -> Result<Report, MigrateError> {
    run(&options(from, url), &|_| {})
}

fn check(from: &Path, url: &str) -> Result<Report, MigrateError> {
    verify(&options(from, url), &|_| {})
}
