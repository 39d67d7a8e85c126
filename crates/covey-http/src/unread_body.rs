//! What a handler leaves of a request's body. A refusal often needs no body,
//! which may still be on its way; a client that is not told otherwise sends
//! its next request behind it. So the rest is read and dropped before the
//! answer, as far as that takes little, and else the connection ends with the
//! answer, which says so (RFC 9112 §9.3, §9.6).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::Version;
use axum::http::header::EXPECT;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::timeout;

/// Largest rest of a body that nobody needs, and that is read so that the connection can go on, in bytes.
/// Limit for each request: the connection is closed.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How long such a rest may take to come, in milliseconds.
/// Limit for each request: the connection is closed.
const MS_MAX: u64 = 10_000;

/// The body of a request that runs, should its handler leave some of it.
pub(crate) struct Unread {
    rest: oneshot::Receiver<Body>,
    /// The client sends no body before it is asked for it (RFC 9110 §10.1.1).
    is_held_back: bool,
}

/// Lends the body of a request to its handler. None if there is no body, and
/// over HTTP/2, where a body ends without its connection.
pub(crate) fn lend(request: Request) -> (Request, Option<Unread>) {
    if request.version() >= Version::HTTP_2 || request.body().is_end_stream() {
        return (request, None);
    }
    let is_held_back = request.headers().contains_key(EXPECT);
    let (back, rest) = oneshot::channel();
    let request = request.map(|body| Body::new(Lent { body: Some(body), back: Some(back) }));
    (request, Some(Unread { rest, is_held_back }))
}

impl Unread {
    /// Reads what was left. Whether the connection can go on.
    pub(crate) async fn drain(mut self) -> bool {
        let rest = match self.rest.try_recv() {
            Ok(rest) => rest,
            Err(TryRecvError::Closed) => return true,
            // Somebody reads it still.
            Err(TryRecvError::Empty) => return false,
        };
        if self.is_held_back || rest.size_hint().lower() > BYTES_MAX {
            return false;
        }
        timeout(Duration::from_millis(MS_MAX), read_to_end(rest)).await.unwrap_or(false)
    }
}

async fn read_to_end(rest: Body) -> bool {
    let mut chunks = rest.into_data_stream();
    let mut total = 0;
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else { return false };
        total += chunk.len() as u64;
        if total > BYTES_MAX {
            return false;
        }
    }
    true
}

/// A body that comes back when it is dropped before its end.
struct Lent {
    body: Option<Body>,
    back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if frame.is_none() {
            self.body = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let left = self.body.take().filter(|body| !body.is_end_stream());
        if let (Some(body), Some(back)) = (left, self.back.take()) {
            // Nobody may want it any more.
            drop(back.send(body));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;

    use axum::body::to_bytes;
    use futures_util::stream::{self, pending};

    use super::*;

    fn request(body: Body) -> Request {
        Request::new(body)
    }

    fn pieces(count: usize) -> Body {
        Body::from_stream(stream::iter((0..count).map(|_| Ok::<_, io::Error>(Bytes::from(vec![b'x'; 1024])))))
    }

    #[tokio::test]
    async fn a_connection_goes_on_behind_a_short_body_whoever_reads_it() {
        assert!(lend(request(Body::empty())).1.is_none());
        for left in [true, false] {
            let (request, unread) = lend(request(pieces(64)));
            if left {
                drop(request);
            } else {
                assert_eq!(to_bytes(request.into_body(), 1 << 20).await.unwrap().len(), 64 * 1024);
            }
            assert!(unread.unwrap().drain().await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_before_a_rest_that_is_long_broken_slow_or_held_back() {
        let broken = Body::from_stream(stream::iter([Err::<Bytes, _>(io::Error::other("reset"))]));
        let slow = Body::from_stream(pending::<io::Result<Bytes>>());
        for body in [pieces(4 * 1024 + 1), Body::from(vec![0; 4 * 1024 * 1024 + 1]), broken, slow] {
            let (request, unread) = lend(request(body));
            drop(request);
            assert!(!unread.unwrap().drain().await);
        }
        let mut held_back = request(pieces(1));
        held_back.headers_mut().insert(EXPECT, "100-continue".parse().unwrap());
        let (request, unread) = lend(held_back);
        drop(request);
        assert!(!unread.unwrap().drain().await);
    }
}
