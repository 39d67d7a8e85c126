//! Whether those who opened a stream may still hear it: a credential can be
//! revoked at any server.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use covey_core::Engine;
use covey_core::id::CallerId;
use tokio::sync::Mutex;

/// For how long it is taken for true which credentials are valid.
const KNOWN_FOR: Duration = Duration::from_secs(5);

/// The callers whose credentials are valid, as all streams of a server know it.
#[derive(Default)]
pub(super) struct Valid(Mutex<Option<(Instant, HashSet<CallerId>)>>);

impl Valid {
    /// Whether a caller's credential is valid. As long as the store does not
    /// say, it is.
    pub(super) async fn contains(&self, engine: &Engine, caller: CallerId) -> bool {
        let mut known = self.0.lock().await;
        if known.as_ref().is_none_or(|(since, _)| since.elapsed() >= KNOWN_FOR) {
            match engine.callers_valid().await {
                Ok(callers) => *known = Some((Instant::now(), callers)),
                Err(error) => {
                    tracing::debug!(%error, "it is not known which credentials are valid");
                    return true;
                }
            }
        }
        known.as_ref().is_none_or(|(_, callers)| callers.contains(&caller))
    }
}
