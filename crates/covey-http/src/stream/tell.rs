//! What a stream says next, in whichever form.

use std::sync::Arc;
use std::time::Duration;

use covey_core::feed::{Followed, Follower, LostTrack};
use covey_core::id::RecordNumber;
use covey_core::record::Record;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::stream::Place;
use crate::stream::message::End;

/// What a stream says next.
pub(super) enum Told {
    /// Changes.
    Records(Vec<Arc<Record>>),
    /// That nothing happened up to here.
    Nothing(RecordNumber),
    /// That it ends.
    End(End<'static>),
}

/// Waits for what is to be said next, for as long as a stream may be silent.
pub(super) async fn tell(
    follower: &mut Follower,
    place: &mut Place,
    silence_max: Duration,
    shutdown: &CancellationToken,
) -> Told {
    let end =
        |follower: &Follower, reason, detail| Told::End(End { reason, detail, cursor: follower.cursor().0 });
    if !place.is_admitted().await {
        return end(follower, "unauthorized", "the credential was revoked; connect again with a valid one");
    }
    // A child, because all that wait on one token share one lock.
    let shutdown = shutdown.child_token();
    let next = shutdown.run_until_cancelled(timeout(silence_max, follower.next())).await;
    match next {
        Some(Ok(Ok(Followed { records, .. }))) => Told::Records(records),
        Some(Ok(Err(LostTrack::TooSlow))) => end(
            follower,
            "too_slow",
            "more came than was read; go on with this cursor, and read faster or want less",
        ),
        Some(Ok(Err(LostTrack::Store(error)))) => {
            tracing::warn!(%error, "a stream ended");
            end(follower, "unavailable", "the store does not answer; go on with this cursor in a moment")
        }
        Some(Err(_)) => Told::Nothing(follower.cursor()),
        None => end(follower, "shutdown", "the server stops; go on with this cursor"),
    }
}
