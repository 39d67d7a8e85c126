//! What a server does unasked, on this process's runtime: the core says what and
//! when, this spawns it, and ends it with the server.

use std::sync::Arc;
use std::time::Duration;

use covey_core::background::{self, Timer, Work};
use covey_core::port::{BoxFuture, FromPeers};
use covey_core::retention::RetentionClass;
use covey_core::{Engine, Error};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pauses from tokio, and words in the log.
struct TokioTimer;

impl Timer for TokioTimer {
    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(ms)))
    }

    fn failed(&self, work: Work, error: &Error) {
        tracing::warn!(work = work.name(), %error, "background work failed; trying again");
    }

    fn forgotten(&self, kept: RetentionClass, count: u64) {
        tracing::info!(what = kept.name(), count, "expired data deleted");
    }
}

/// Spawns all work, until stopped. With peers the server takes in what they
/// tell, and looks for what it may have missed.
pub fn spawn(
    running: &TaskTracker,
    engine: &Arc<Engine>,
    peers: Option<mpsc::Receiver<FromPeers>>,
    stop: &CancellationToken,
) {
    let timer: Arc<dyn Timer> = Arc::new(TokioTimer);
    let with_peers = peers.is_some().then_some(Work::WITH_PEERS);
    for work in Work::ALONE.into_iter().chain(with_peers.into_iter().flatten()) {
        let doing = background::run(work, Arc::clone(engine), Arc::clone(&timer));
        running.spawn(stop.clone().run_until_cancelled_owned(doing));
    }
    if let Some(peers) = peers {
        running.spawn(stop.clone().run_until_cancelled_owned(receive(Arc::clone(engine), peers)));
    }
}

/// Takes in what other servers tell.
async fn receive(engine: Arc<Engine>, mut peers: mpsc::Receiver<FromPeers>) {
    while let Some(message) = peers.recv().await {
        if let Err(error) = engine.server().receive(message).await {
            tracing::warn!(%error, "message of another server not processed; retrying");
        }
    }
}
