//! The stream as server-sent events.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::response::Response;
use bytes::Bytes;
use covey_core::feed::Follower;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use crate::app::Api;
use crate::stream::tell::{Told, tell};
use crate::stream::{HEARTBEAT, Place};

/// Tells nginx not to gather what is to go out at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// After how many milliseconds a browser is to connect again.
const RETRY_MS: u32 = 1_000;

struct Open {
    follower: Follower,
    shutdown: CancellationToken,
    is_new: bool,
    place: Place,
}

/// Answers with the stream.
pub(super) fn answer(api: &Api, follower: Follower, place: Place) -> Response {
    let open = Open { follower, shutdown: api.shutdown.clone(), is_new: true, place };
    let frames = stream::unfold(Some(open), |open| async {
        let (bytes, open) = next(open?).await;
        Some((Ok::<_, std::convert::Infallible>(bytes), open))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// The next bytes, and what is left of the stream.
async fn next(mut open: Open) -> (Bytes, Option<Open>) {
    if std::mem::take(&mut open.is_new) {
        // With the cursor, so that a reader can come back even if it saw nothing.
        let first = format!("retry: {RETRY_MS}\nid: {}\n\n", open.follower.cursor().0);
        return (Bytes::from(first), Some(open));
    }
    match tell(&mut open.follower, &mut open.place, HEARTBEAT, &open.shutdown).await {
        Told::Records(records) => {
            let frames = &open.place.streams.frames;
            let bytes = match records.as_slice() {
                [record] => frames.of(record).event,
                records => {
                    let frames = records.iter().map(|record| frames.of(record).event);
                    Bytes::from(frames.collect::<Vec<_>>().concat())
                }
            };
            (bytes, Some(open))
        }
        Told::Nothing(cursor) => (Bytes::from(format!("id: {}\n\n", cursor.0)), Some(open)),
        Told::End(end) => (Bytes::from(format!("event: end\ndata: {}\n\n", end.json())), None),
    }
}
