//! The callers that something stands for which lasts, such as an app or a WebSocket: it belongs to an API key, and may what that
//! may as long as that is valid.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use covey_core::access::Caller;
use covey_core::id::UnixMs;
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

impl Known {
    /// The caller of a key, if that is valid now.
    fn of(&self, api_key: i64, now: UnixMs) -> Result<Option<Caller>, NotKnown> {
        let callers = self.callers.as_ref().ok_or(NotKnown)?;
        // Its end is known, however long ago the keys were read.
        Ok(callers.get(&api_key).filter(|caller| !caller.bounds.is_over_at(now)).cloned())
    }
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

    /// Waits until the key of a caller is not valid any more.
    pub async fn until_revoked(&self, caller: &Caller) {
        // Who has no key has a token, which nothing ends before its time.
        let is_revoked = async || caller.id.is_of_key() && self.of(caller.id.0).await == Ok(None);
        while !caller.bounds.is_over_at(self.engine.now()) && !is_revoked().await {
            tokio::time::sleep(KNOWN_FOR).await;
        }
    }

    /// The caller that the key with this number stands for, if it is valid. While the store does not answer, keys that
    /// have not expired stay as they were.
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
        known.as_ref().ok_or(NotKnown)?.of(api_key, self.engine.now())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::access::{KeyBounds, Rights};
    use covey_core::id::{CallerId, OrgId};

    use super::*;

    #[test]
    fn a_key_that_was_read_before_it_expired_stands_for_nobody_after() {
        let caller = Caller {
            id: CallerId(7),
            bounds: KeyBounds { expires_at: Some(UnixMs(1_000)), ..KeyBounds::default() },
            ..Caller::server(OrgId(1), "page", Rights::ALL)
        };
        let lasting = Caller { id: CallerId(8), bounds: KeyBounds::default(), ..caller.clone() };
        let callers = [caller.clone(), lasting.clone()].into_iter().map(|one| (one.id.0, one)).collect();
        let known = Known { since: Instant::now(), callers: Some(callers) };
        assert_eq!(known.of(7, UnixMs(999)), Ok(Some(caller)));
        assert_eq!(known.of(7, UnixMs(1_000)), Ok(None));
        assert_eq!(known.of(8, UnixMs(1_000)), Ok(Some(lasting)));
        assert_eq!(Known { callers: None, ..known }.of(8, UnixMs(0)), Err(NotKnown));
    }
}
