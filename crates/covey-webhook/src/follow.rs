//! Reads on ahead of the one who sends, in a task of its own: what is being
//! read is not begun anew each time a message has been delivered.

use std::time::Duration;

use covey_core::Error;
use covey_core::feed::{Batch, FollowError, Follower, PAST_BYTES_MAX};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// How many looks may wait for the one who sends.
/// Limit for each webhook: the next look waits.
const LOOKS_MAX: usize = 1;
/// After how long without records it is told how far there are none.
const QUIET_INTERVAL: Duration = Duration::from_secs(2);
/// The longest pause between two looks at the changes for a webhook, where nothing happens or a read takes long.
/// Limit for each webhook: it is looked again no later.
const QUIET_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// The pause after the store did not answer.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Follows in a task that ends when nobody wants to hear any more.
pub(crate) fn follow(follower: Follower) -> mpsc::Receiver<Result<Batch, Error>> {
    let (tell, told) = mpsc::channel(LOOKS_MAX);
    tokio::spawn(async move {
        let until_unwanted = tell.clone();
        tokio::select! {
            () = until_unwanted.closed() => {}
            () = run(follower, tell) => {}
        }
    });
    told
}

async fn run(mut follower: Follower, tell: mpsc::Sender<Result<Batch, Error>>) {
    let mut pause = QUIET_INTERVAL;
    let mut cursor = follower.cursor();
    loop {
        // Nothing is read before there is room for it.
        let Ok(room) = tell.reserve().await else { return };
        let followed = match timeout(pause, follower.peek(PAST_BYTES_MAX)).await {
            Ok(Ok(followed)) => {
                follower.take(followed.cursor);
                Ok(followed)
            }
            // It reads the store from its cursor on.
            Ok(Err(FollowError::TooSlow)) => continue,
            Ok(Err(FollowError::Store(error))) => Err(error),
            Err(_) if follower.cursor() == cursor => {
                // A read that was given up would never end if it were always given up.
                pause = (pause * 2).min(QUIET_INTERVAL_MAX);
                continue;
            }
            Err(_) => Ok(Batch { records: Vec::new(), cursor: follower.cursor() }),
        };
        pause = QUIET_INTERVAL;
        cursor = follower.cursor();
        let is_failed = followed.is_err();
        room.send(followed);
        if is_failed {
            sleep(STORE_PAUSE).await;
        }
    }
}
