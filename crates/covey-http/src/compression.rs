//! Which answers are compressed (gzip) for clients that take it: those whose
//! size is known and worth it. Streams have none, so they go out at once.

use axum::body::HttpBody;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::response::Response;
use tower_http::CompressionLevel;
use tower_http::compression::{CompressionLayer, Predicate};

/// Smallest answer that is compressed, in bytes. A smaller one fits in a packet anyway.
const BYTES_MIN: u64 = 1_024;

/// The layer.
pub(crate) fn compression() -> CompressionLayer<WorthIt> {
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(WorthIt)
}

/// Whether an answer is worth it, and may be changed on its way.
#[derive(Clone, Copy)]
pub(crate) struct WorthIt;

impl Predicate for WorthIt {
    fn should_compress<B: HttpBody>(&self, response: &Response<B>) -> bool {
        let headers = response.headers();
        let is = |name, value: &str| headers.get(name).is_some_and(|found| found == value);
        let is_image = headers.get(CONTENT_TYPE).is_some_and(|found| found.as_bytes().starts_with(b"image/"));
        response.body().size_hint().exact().is_some_and(|bytes| bytes >= BYTES_MIN)
            && !is_image
            // A strong entity tag is of these very bytes (RFC 9110 §8.8.1).
            && !headers.contains_key(ETAG)
            // Answers that hold a secret are marked so; their length stays its own.
            && !is(CACHE_CONTROL, "no-store")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    #[test]
    fn only_answers_that_are_whole_large_and_without_secrets_are_compressed() {
        let large = || Body::from(vec![b'x'; 1_024]);
        let answer = |headers: &[(&str, &str)], body: Body| {
            let head = Response::builder();
            let head = headers.iter().fold(head, |head, (name, value)| head.header(*name, *value));
            WorthIt.should_compress(&head.body(body).unwrap())
        };
        assert!(answer(&[("content-type", "application/json")], large()));
        assert!(!answer(&[("content-type", "application/json")], Body::from(vec![b'x'; 1_023])));
        assert!(!answer(&[("content-type", "image/png")], large()));
        assert!(!answer(&[("etag", "\"r1-d1\"")], large()));
        assert!(!answer(&[("cache-control", "no-store")], large()));
        let frames = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 4_096]))]);
        assert!(!answer(&[("content-type", "text/event-stream")], Body::from_stream(frames)));
    }
}
