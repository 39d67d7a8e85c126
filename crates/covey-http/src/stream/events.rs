//! The stream as server-sent events.
//!
//! A connection asks for the next bytes when it has room for them, and is given
//! about [`CHUNK_BYTES`]. So a reader that takes nothing holds no more than that
//! here: what else is for it lies with the feed, which bounds it.

use std::future::ready;
use std::io;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use covey_core::id::RecordNumber;
use futures_util::{StreamExt, stream};

use crate::stream::open_stream::{CHUNK_BYTES, Next, OpenStream};

/// Tells nginx not to buffer the stream.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How long a browser waits before it connects again, in milliseconds.
const RETRY_MS: u32 = 1_000;

/// Answers with the stream.
pub(super) fn answer(open: OpenStream) -> Response {
    // With the cursor, so that a reader can come back even if it saw nothing.
    let first = Bytes::from(format!("retry: {RETRY_MS}\nid: {}\n\n", open.cursor().0));
    let rest = stream::unfold(Some(Sending { open, part: None }), |sending| async {
        let mut sending = sending?;
        let (bytes, is_last) = match sending.next().await {
            Ok(next) => (Ok(next.bytes), next.is_last),
            Err(error) => (Err(error), true),
        };
        Some((bytes, (!is_last).then_some(sending)))
    });
    let frames = stream::once(ready(Ok(first))).chain(rest);
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// A stream, and how much of the present change was sent.
struct Sending {
    open: OpenStream,
    part: Option<Part>,
}

/// A change that is sent in parts.
#[derive(Clone, Copy)]
struct Part {
    number: RecordNumber,
    sent: usize,
    bytes: usize,
}

struct Chunk {
    bytes: Bytes,
    is_last: bool,
}

impl Sending {
    /// The next bytes.
    async fn next(&mut self) -> io::Result<Chunk> {
        if let Some(part) = self.part {
            return self.rest_of(part).await;
        }
        let (bytes, is_last) = match self.open.next().await {
            Next::Records(batch) => {
                let frames = &self.open.streams.frames;
                let bytes = match batch.records.as_slice() {
                    [record] => {
                        let frame = frames.of(record).await.event;
                        if frame.len() > CHUNK_BYTES {
                            let part = Part { number: record.number, sent: 0, bytes: frame.len() };
                            return Ok(self.part_of(part, &frame));
                        }
                        frame
                    }
                    records => {
                        let mut bytes = BytesMut::new();
                        for record in records {
                            bytes.extend_from_slice(&frames.of(record).await.event);
                        }
                        bytes.freeze()
                    }
                };
                self.open.take(batch.cursor);
                (bytes, false)
            }
            Next::Heartbeat(cursor) => (Bytes::from(format!("id: {}\n\n", cursor.0)), false),
            Next::End(end) => (Bytes::from(format!("event: end\ndata: {}\n\n", end.to_json())), true),
        };
        Ok(Chunk { bytes, is_last })
    }

    /// More of a change of which a part was sent. Nothing else can come before its end.
    async fn rest_of(&mut self, part: Part) -> io::Result<Chunk> {
        let gone = || io::Error::other("the change that was being sent is not kept any more");
        let record = self.open.again(part.number).await.ok_or_else(gone)?;
        let frame = self.open.streams.frames.of(&record).await.event;
        if frame.len() != part.bytes {
            return Err(gone());
        }
        Ok(self.part_of(part, &frame))
    }

    /// The next part, as a copy: the connection must not keep the whole.
    fn part_of(&mut self, part: Part, frame: &Bytes) -> Chunk {
        let end = frame.len().min(part.sent + CHUNK_BYTES);
        let bytes = Bytes::copy_from_slice(&frame[part.sent..end]);
        if end == frame.len() {
            self.open.take(part.number);
            self.part = None;
        } else {
            self.part = Some(Part { sent: end, ..part });
        }
        Chunk { bytes, is_last: false }
    }
}
