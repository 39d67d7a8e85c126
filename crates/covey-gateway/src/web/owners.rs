//! The callers that something stands for which lasts, such as an app or a WebSocket: it belongs to an API key, and may what that
//! may as long as that is valid.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use covey_core::access::Caller;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long the keys are used before they are read again: a revoked one is dead after that.
pub const KNOWN_FOR: Duration = Duration::from_secs(2);

/// The callers by the numbers of their keys.
pub struct Owners {
    engine: Arc<Engine>,
    known: Mutex<Option<Known>>,
}

struct Known {
    since: Instant,
    /// None if they could not be read yet.
    callers: Option<HashMap<i64, Caller>>,
}

/// It could not be read yet which keys are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotKnown;

impl Owners {
    /// Those of this engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, known: Mutex::default() }
    }

    /// Waits until a key is not valid any more.
    pub async fn until_revoked(&self, api_key: i64) {
        while self.of(api_key).await != Ok(None) {
            tokio::time::sleep(KNOWN_FOR).await;
        }
    }

    /// The caller that the key with this number stands for, if it is valid. While the store does not answer, keys stay as
    /// they were.
    ///
    /// # Errors
    /// [`NotKnown`].
    pub async fn of(&self, api_key: i64) -> Result<Option<Caller>, NotKnown> {
        let mut known = self.known.lock().await;
        if known.as_ref().is_none_or(|known| known.since.elapsed() >= KNOWN_FOR) {
            let callers = match self.engine.server().callers().await {
                Ok(callers) => Some(callers.into_iter().map(|caller| (caller.id.0, caller)).collect()),
                Err(error) => {
                    tracing::warn!(%error, "it cannot be read which API keys are valid");
                    known.take().and_then(|known| known.callers)
                }
            };
            *known = Some(Known { since: Instant::now(), callers });
        }
        let callers = known.as_ref().and_then(|known| known.callers.as_ref()).ok_or(NotKnown)?;
        Ok(callers.get(&api_key).cloned())
    }
}
