//! The backend on SQLite: a file in a temporary folder.

use std::path::PathBuf;
use std::sync::Arc;

use covey_core::port::{Clock, Observer, Store};
use covey_store::sqlite::{Options, Sqlite};
use tempfile::TempDir;

use super::Backend;

pub struct SqliteBackend {
    pub options: Options,
    /// Removed with the backend.
    folder: Option<TempDir>,
}

impl SqliteBackend {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(folder.path().join("covey.db"));
        Self { options, folder: Some(folder) }
    }

    /// On a file that is someone else's to remove.
    pub fn at(options: Options) -> Self {
        Self { options, folder: None }
    }

    pub fn path(&self) -> PathBuf {
        self.options.path.clone()
    }
}

impl Backend for SqliteBackend {
    fn open(&self, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<dyn Store> {
        Arc::new(Sqlite::open(&self.options, clock, observer).unwrap())
    }
}
