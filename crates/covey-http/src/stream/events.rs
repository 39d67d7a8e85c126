//! The stream as server-sent events.

use std::convert::Infallible;
use std::future::ready;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::stream::open_stream::{Next, OpenStream};

/// Tells nginx not to buffer the stream.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How long a browser waits before it connects again, in milliseconds.
const RETRY_MS: u32 = 1_000;

/// Answers with the stream.
pub(super) fn answer(open: OpenStream) -> Response {
    // With the cursor, so that a reader can come back even if it saw nothing.
    let first = Bytes::from(format!("retry: {RETRY_MS}\nid: {}\n\n", open.cursor().0));
    let rest = stream::unfold(Some(open), |open| async {
        let mut open = open?;
        let (bytes, is_last) = next(&mut open).await;
        Some((bytes, (!is_last).then_some(open)))
    });
    let frames = stream::once(ready(first)).chain(rest).map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// The next bytes of a stream, and whether they are the last.
async fn next(open: &mut OpenStream) -> (Bytes, bool) {
    match open.next().await {
        Next::Records(records) => {
            let frames = &open.streams.frames;
            let bytes = match records.as_slice() {
                [record] => frames.of(record).event,
                records => {
                    let frames = records.iter().map(|record| frames.of(record).event);
                    Bytes::from(frames.collect::<Vec<_>>().concat())
                }
            };
            (bytes, false)
        }
        Next::Heartbeat(cursor) => (Bytes::from(format!("id: {}\n\n", cursor.0)), false),
        Next::End(end) => (Bytes::from(format!("event: end\ndata: {}\n\n", end.to_json())), true),
    }
}
