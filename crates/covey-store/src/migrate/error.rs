//! Why a site could not be moved. Each says what to do.

use std::path::PathBuf;

use crate::error::StoreError;

/// Why a site could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// One of the two databases cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source cannot be read.
    #[error("cannot read the database {path}: {source}; check the file with covey backup")]
    Source {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The source was written by an older version.
    #[error(
        "the database {path} is of an older version; start the server of this version on it once, \
         stop it, and try again"
    )]
    OldSource {
        /// The file.
        path: PathBuf,
    },
    /// A row holds what the target cannot.
    #[error("{table} {key} cannot be moved: its {column} {problem}; correct that row and begin again")]
    BadRow {
        /// The table.
        table: &'static str,
        /// Which row: its key, or how many rows come before it.
        key: String,
        /// The column.
        column: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Fewer or more rows were read than there are.
    #[error(
        "{read} of {there} rows of {table} could be read; the database is damaged: restore a backup and move that"
    )]
    Incomplete {
        /// The table.
        table: &'static str,
        /// How many rows were read.
        read: u64,
        /// How many there are.
        there: u64,
    },
    /// PostgreSQL refused, or went away.
    #[error(
        "the migration stopped: PostgreSQL could not {what}: {problem}; give the same command again to go on"
    )]
    Target {
        /// What was asked for.
        what: &'static str,
        /// What was said.
        problem: String,
    },
    /// Another migration is under way.
    #[error("another migration into {place} is under way; wait until it ends")]
    Busy {
        /// Host and database.
        place: String,
    },
    /// Servers run on the target.
    #[error("servers run on {place}; stop them and try again")]
    ServersRun {
        /// Host and database.
        place: String,
    },
    /// The target holds something.
    #[error("the database {place} is in use already; give an empty one, made with CREATE DATABASE")]
    InUse {
        /// Host and database.
        place: String,
    },
    /// The target holds an unfinished migration of something else.
    #[error(
        "the database {place} holds an unfinished migration of another site, or of this one before it \
         changed; give an empty database, and begin again"
    )]
    OtherSource {
        /// Host and database.
        place: String,
    },
    /// The target holds this source already.
    #[error("this site was moved to {place} before; start servers on it with covey up --store")]
    Finished {
        /// Host and database.
        place: String,
    },
    /// There is nothing to verify.
    #[error("no site was moved to {place}; leave --verify-only away to do so")]
    NotMoved {
        /// Host and database.
        place: String,
    },
    /// What the target says of the migration cannot be understood.
    #[error("what {place} says of the migration is damaged; give an empty database, and begin again")]
    DamagedMark {
        /// Host and database.
        place: String,
    },
    /// The two sides differ.
    #[error(
        "the two databases differ in {table}, first at {key}: {problem}; give an empty database and begin \
         again (after servers have run on it, a difference is what they did)"
    )]
    Differs {
        /// The table.
        table: &'static str,
        /// The first key at which they do.
        key: String,
        /// In what way.
        problem: String,
    },
    /// A sequence of the target would give a number twice.
    #[error(
        "the sequence {sequence} would give {next}, but {highest} was given already; report this as a fault"
    )]
    Sequence {
        /// The sequence.
        sequence: &'static str,
        /// What it would give.
        next: i64,
        /// The highest number in use.
        highest: i64,
    },
    /// A thread or a runtime could not be started.
    #[error("cannot start a thread: {source}")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
}
