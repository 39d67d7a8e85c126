//! What a server does unasked.

use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use covey_core::id::DeviceKey;
use covey_store::postgres::FromPeers;
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
            let pause = match engine.server().task_sweep().await {
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
            if let Err(error) = engine.server().task_announce().await {
                tracing::warn!(%error, "tasks could not be announced; trying again");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// How often it is looked whether something of a device's presence is to be told.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(1);

/// Tells of devices that came and went too often to be told of at once, until stopped.
pub async fn presence(engine: Arc<Engine>, stop: CancellationToken) {
    let work = async {
        loop {
            let pause = match engine.server().presence_sweep().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => PRESENCE_INTERVAL,
                Err(error) => {
                    tracing::warn!(%error, "the presence of devices could not be told; trying again");
                    RETRY_INTERVAL
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Hands records to those who follow them, until stopped.
pub async fn feed(engine: Arc<Engine>, stop: CancellationToken) {
    let work = async {
        loop {
            if let Err(error) = engine.server().feed_next().await {
                tracing::warn!(%error, "changes could not be read; trying again");
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
pub async fn hear(engine: Arc<Engine>, mut heard: mpsc::Receiver<FromPeers>, stop: CancellationToken) {
    let work = async {
        while let Some(heard) = heard.recv().await {
            let outcome = match heard {
                FromPeers::Messages(news) => engine.server().receive(news).await,
                FromPeers::Gap => {
                    engine.server().feed_wake();
                    engine.server().task_catch_up().await
                }
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
            engine.server().feed_wake();
            if let Err(error) = engine.server().task_catch_up().await {
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
            match engine.server().task_look_again(after).await {
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

/// How often what is too old is forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(600);
/// The pause between two bounded amounts, in which others can write.
const FORGET_PAUSE: Duration = Duration::from_millis(200);

/// Forgets what is too old, until stopped.
pub async fn forget(engine: Arc<Engine>, stop: CancellationToken) {
    let work = async {
        loop {
            let pause = match engine.server().prune().await {
                Ok((counts, is_more)) => {
                    for (kept, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                        tracing::info!(what = kept.name(), count, "forgotten because of its age");
                    }
                    if is_more { FORGET_PAUSE } else { FORGET_INTERVAL }
                }
                Err(error) => {
                    tracing::warn!(%error, "what is too old could not be forgotten; trying again");
                    FORGET_INTERVAL
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    stop.run_until_cancelled(work).await;
}
