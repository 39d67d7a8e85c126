//! A private server for a benchmark: this same program, in a temporary folder,
//! on ports of its own; gone when the benchmark is over.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use covey_client::{Client, LocalServer};

use crate::error::{Error, Result};

/// How long it may take to get ready.
const READY_WAIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
/// How much of its log is told if it does not get ready, in characters.
const LOG_CHARS: usize = 500;

/// A server that ends with this.
#[derive(Debug)]
pub struct OwnServer {
    child: Child,
    dir: tempfile::TempDir,
}

impl OwnServer {
    /// Starts `program up` with these arguments besides its folder and its
    /// listeners, and waits until it is ready.
    ///
    /// # Errors
    /// [`Error::OwnServerStart`], [`Error::OwnServerKey`], and [`Error::OwnServerEnded`] with what it said.
    pub async fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        let start = |source| Error::OwnServerStart { source };
        let dir = tempfile::Builder::new().prefix("covey-bench-").tempdir().map_err(start)?;
        let log = File::create(dir.path().join("log")).map_err(start)?;
        let mut command = Command::new(program);
        command.arg("up").arg("--data").arg(dir.path().join("data"));
        for listener in ["--http", "--https", "--mqtts"] {
            command.arg(listener).arg("127.0.0.1:0");
        }
        command.arg("--log").arg("warn").args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().map_err(start)?;
        let mut server = Self { child, dir };
        server.until_ready().await?;
        Ok(server)
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A folder for the identities of its devices, which end with it.
    #[must_use]
    pub fn identities_dir(&self) -> PathBuf {
        self.dir.path().join("identities")
    }

    async fn until_ready(&mut self) -> Result<()> {
        let until = Instant::now() + READY_WAIT;
        loop {
            if let Ok(found) = LocalServer::find(self.data_dir()) {
                // The key is written before the addresses.
                let Ok(key) = found.admin_key() else { return Err(Error::OwnServerKey) };
                if let Ok(client) = Client::of_local(&found, &key)
                    && client.ready().await.is_ok()
                {
                    return Ok(());
                }
            }
            let has_ended = matches!(self.child.try_wait(), Ok(Some(_)) | Err(_));
            if has_ended || Instant::now() >= until {
                return Err(Error::OwnServerEnded { log: self.last_words() });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let skipped = log.chars().count().saturating_sub(LOG_CHARS);
        log.chars().skip(skipped).collect::<String>().trim().to_owned()
    }
}

impl Drop for OwnServer {
    /// It holds nothing that anybody wants again, so it gets no time to finish.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
