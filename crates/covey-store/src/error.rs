//! Why a store could not be opened, backed up or restored.

use std::path::PathBuf;

/// A fault that a person has to look at. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("cannot open the database {path}: {source}; check that the folder exists and may be written")]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file cannot be made, or is there already.
    #[error("cannot make the file {path}: {source}; give a new name in a folder that may be written")]
    Make {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file may only be read.
    #[error("the database {path} may only be read; give this user the right to write it")]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The database was written by a newer version.
    #[error(
        "the database {path} has version {found}, this program knows up to {known}; \
         start the newer program, or restore a backup made by this one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The file belongs to another program.
    #[error("{path} is no database of Covey; give another folder")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A migration failed; the database is as it was before it.
    #[error("cannot bring the database to version {version}: {source}")]
    Migration {
        /// The version that was to be reached.
        version: i64,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A copy could not be made.
    #[error("cannot copy the database to {path}: {source}")]
    Copy {
        /// Where to.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A copy is damaged.
    #[error("the database {path} is damaged: {problem}; restore a backup that is whole")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the check found.
        problem: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread of the store: {source}")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
    /// The address of the database cannot be read.
    #[error(
        "the address of the database cannot be used: {problem}; \
         write postgres://user:password@host:port/database?sslmode=verify-full"
    )]
    Address {
        /// What is wrong, without the address itself: it may hold a password.
        problem: String,
    },
    /// A file for TLS to the database cannot be used.
    #[error("cannot use {path} for TLS to the database: {problem}; give a readable PEM file")]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The database cannot be reached.
    #[error(
        "cannot reach the database at {place}: {problem}; check that PostgreSQL runs there and admits this \
         user, and for TLS with a CA of your own that sslrootcert names its certificate"
    )]
    Unreachable {
        /// Host and database.
        place: String,
        /// What was said last.
        problem: String,
    },
    /// PostgreSQL answered with an error.
    #[error(
        "the database refused to {what}: {problem}; check the rights of this user and the log of PostgreSQL"
    )]
    Postgres {
        /// What was asked for.
        what: &'static str,
        /// What PostgreSQL said.
        problem: String,
    },
    /// Servers run on the database.
    #[error("servers run on {place}; stop them and try again")]
    Served {
        /// Host and database.
        place: String,
    },
    /// The server or the database is not of a kind that can be used.
    #[error("the database at {place} cannot be used: {problem}")]
    Unsuitable {
        /// Host and database.
        place: String,
        /// Why, and what to do.
        problem: String,
    },
    /// A newer program has brought the database to a version that this one must not write to.
    #[error(
        "the database has version {found}, which demands a program that knows version {requires}; \
         this one knows up to {known}: start the newer program"
    )]
    TooOld {
        /// The database's version.
        found: i32,
        /// The version that a program must know.
        requires: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// Another server of this name is running.
    #[error(
        "a server named {name} runs on this database already; stop it, or give this one another --server-name"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
}
