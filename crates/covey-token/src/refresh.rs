//! Keeping the keys of an issuer fresh.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::issuer::{AGAIN_AFTER, Issuer};
use crate::source::Fetch;

/// How often keys may be read again for their age at most, in seconds.
pub const REFRESH_SECONDS_MIN: u32 = 5;
/// How old keys may become at most, in seconds.
/// Limit for each issuer, set by `refresh_seconds`: the server does not start.
pub const REFRESH_SECONDS_MAX: u32 = 86_400;

/// Reads the keys of an issuer now, when they are old, and when a token names one that is not known; not more often than each five
/// seconds. While they cannot be read, it tries again soon.
pub async fn keep_fresh(issuer: Arc<Issuer>, fetch: Arc<dyn Fetch>, stop: CancellationToken) {
    let age = Duration::from_secs(issuer.config.refresh_seconds.into());
    let mut pause = AGAIN_AFTER;
    loop {
        let wait = match issuer.refresh(&*fetch).await {
            Ok(()) => {
                pause = AGAIN_AFTER;
                age.max(AGAIN_AFTER)
            }
            Err(_) => {
                let wait = pause.min(age.max(AGAIN_AFTER));
                pause = pause.saturating_mul(2);
                wait
            }
        };
        let waiting = async {
            sleep(AGAIN_AFTER).await;
            // Whoever asked before was told that it is too soon.
            let _ = timeout(wait.saturating_sub(AGAIN_AFTER), issuer.wanted.notified()).await;
        };
        if stop.run_until_cancelled(waiting).await.is_none() {
            return;
        }
    }
}
