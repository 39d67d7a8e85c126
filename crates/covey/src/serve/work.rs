//! What a server does unasked.

use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use tokio_util::sync::CancellationToken;

/// How often time is looked at: how late an expiry may be told.
const SWEEP_INTERVAL: Duration = Duration::from_millis(200);
/// How long to wait after the store has failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Stores what time has done, until stopped.
pub async fn sweep(engine: Arc<Engine>, stop: CancellationToken) {
    let work = async {
        loop {
            let pause = match engine.task_sweep().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => SWEEP_INTERVAL,
                Err(error) => {
                    tracing::warn!(%error, "expired tasks could not be stored; trying again");
                    RETRY_INTERVAL
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Announces tasks to devices that have room for them, until stopped.
pub async fn announce(engine: Arc<Engine>, stop: CancellationToken) {
    let work = async {
        loop {
            if let Err(error) = engine.task_announce().await {
                tracing::warn!(%error, "tasks could not be announced; trying again");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    };
    stop.run_until_cancelled(work).await;
}
