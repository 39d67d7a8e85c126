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
    #[error("the database {path} is damaged: {problem}; restore an older backup")]
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
}
