//! What a server does unasked.

use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use covey_core::id::DeviceKey;
use covey_store::postgres::Heard;
use tokio::sync::mpsc;
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

/// How often a server looks whether it missed that a task became final which
/// someone waits for.
const CATCH_UP_INTERVAL: Duration = Duration::from_secs(1);
/// How often every device that listens is looked at for tasks that were never
/// announced.
const LOOK_AGAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Takes in what other servers tell, until stopped.
pub async fn hear(engine: Arc<Engine>, mut heard: mpsc::Receiver<Heard>, stop: CancellationToken) {
    let work = async {
        while let Some(heard) = heard.recv().await {
            let outcome = match heard {
                Heard::News(news) => engine.heard(news).await,
                Heard::Gap => engine.task_catch_up().await,
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "what another server told could not be looked up; looking again soon");
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Looks for ends of tasks that were not heard of, until stopped.
pub async fn catch_up(engine: Arc<Engine>, stop: CancellationToken) {
    let work = async {
        loop {
            tokio::time::sleep(CATCH_UP_INTERVAL).await;
            if let Err(error) = engine.task_catch_up().await {
                tracing::warn!(%error, "the ends of tasks could not be looked up; trying again");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Looks for tasks that were never announced, until stopped: their server may
/// have died between storing and announcing them.
pub async fn look_again(engine: Arc<Engine>, stop: CancellationToken) {
    let work = async {
        let mut after = DeviceKey(0);
        loop {
            match engine.task_look_again(after).await {
                Ok(Some(next)) => after = next,
                Ok(None) => {
                    after = DeviceKey(0);
                    tokio::time::sleep(LOOK_AGAIN_INTERVAL).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "devices could not be looked at; trying again");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// How often old tasks are forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(600);
/// The pause between two bounded amounts, in which others can write.
const FORGET_PAUSE: Duration = Duration::from_millis(200);

/// Forgets final tasks after their time, until stopped.
pub async fn forget(engine: Arc<Engine>, retention: Duration, stop: CancellationToken) {
    let age_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let work = async {
        loop {
            let pause = match engine.task_prune(age_ms).await {
                Ok(pruned) => {
                    if pruned.tasks > 0 {
                        tracing::info!(tasks = pruned.tasks, "old tasks were forgotten");
                    }
                    if pruned.is_more { FORGET_PAUSE } else { FORGET_INTERVAL }
                }
                Err(error) => {
                    tracing::warn!(%error, "old tasks could not be forgotten; trying again");
                    FORGET_INTERVAL
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    stop.run_until_cancelled(work).await;
}
