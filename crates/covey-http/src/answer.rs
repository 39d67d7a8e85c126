//! An answer on its way to its client: what of it lies in the server, and since when the client took nothing.
//!
//! The HTTP library asks a body for its next piece without regard to whether the client takes any, keeps
//! that piece, and asks for the one after it when there is a byte of room. So a body hands out small
//! pieces, and each piece tells when its bytes leave: that is where the clock of a stall runs, and from
//! where what lies in the server is counted.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::http::Response;
use axum::http::header::CONTENT_ENCODING;
use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connection::{Connection, Open, STALL_MS_MAX};

/// Largest piece that is handed to the HTTP library, in bytes.
/// Limit for each answer: it is handed on piece by piece.
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// Up to this size an answer ends with its last piece, in bytes. A larger one ends when the client has
/// taken all of it: until then its stream can be ended. So does a small one where so much waits already that
/// its client may not be able to take it.
/// Limit for each answer: its stream can be ended as long as it is not taken.
const ENDS_AT_ONCE_BYTES_MAX: u64 = 16 * 1024;
/// How much must wait for that, in bytes: half of what a client takes unless it says otherwise (RFC 9113
/// §6.9.2).
const BEHIND_BYTES: usize = 32 * 1024;
/// Up to this size an answer over HTTP/1.1, where a connection has one at a time, is not counted, in bytes.
/// Limit for each answer: it counts.
const UNCOUNTED_BYTES_MAX: u64 = 4 * 1024;
/// What an open request over HTTP/2 takes beside the bytes of its answer, in bytes.
const REQUEST_BYTES: usize = 1024;

/// What a compressor takes beside what it compresses, in bytes.
const COMPRESSOR_BYTES: usize = 256 * 1024;

/// In the extensions of an answer: what it is made from, in bytes, should it be compressed bit by bit as it
/// is taken.
#[derive(Clone, Copy)]
pub(crate) struct MadeFrom(usize);

impl MadeFrom {
    /// Of this body, if it is worth counting.
    pub(crate) fn body(body: &Body) -> Option<Self> {
        let bytes = body.size_hint().exact().filter(|bytes| *bytes > ENDS_AT_ONCE_BYTES_MAX)?;
        Some(Self(usize::try_from(bytes).unwrap_or(usize::MAX)))
    }

    /// What an answer takes beside what is sent of it, in bytes.
    pub(crate) fn bytes<B>(answer: &mut Response<B>) -> usize {
        let source = answer.extensions_mut().remove::<Self>().map_or(0, |Self(bytes)| bytes);
        let is_compressed = answer.headers().contains_key(CONTENT_ENCODING);
        if is_compressed { source + COMPRESSOR_BYTES } else { 0 }
    }
}

/// What of an answer lies in the server.
pub(crate) struct Answer {
    connection: Arc<Connection>,
    /// What is counted for it, in bytes.
    charged: AtomicUsize,
    /// What of it the HTTP library has and the client did not take, in bytes.
    handed: AtomicUsize,
    /// When the client took some of that, or when there was the first of it, in milliseconds.
    moved_ms: AtomicU64,
    /// Woken when the library has no more of it.
    drained: AtomicWaker,
}

impl Answer {
    /// One of which there is nothing yet.
    pub(crate) fn new(connection: &Arc<Connection>) -> Arc<Self> {
        let answer = Self {
            connection: Arc::clone(connection),
            charged: AtomicUsize::new(0),
            handed: AtomicUsize::new(0),
            moved_ms: AtomicU64::new(0),
            drained: AtomicWaker::new(),
        };
        if connection.is_http2() {
            answer.charge(REQUEST_BYTES);
        }
        Arc::new(answer)
    }

    fn charge(&self, bytes: usize) {
        self.charged.fetch_add(bytes, Ordering::Relaxed);
        self.connection.charge(bytes);
    }

    fn release(&self, bytes: usize) {
        self.charged.fetch_sub(bytes, Ordering::Relaxed);
        self.connection.release(bytes);
    }

    fn hand(&self, bytes: usize) {
        if !self.is_waiting() {
            self.moved_ms.store(self.connection.now_ms(), Ordering::Relaxed);
        }
        self.handed.fetch_add(bytes, Ordering::AcqRel);
    }

    /// The library has so much less of it: the client took it, or nobody will.
    fn gone(&self, bytes: usize) {
        self.moved_ms.store(self.connection.now_ms(), Ordering::Relaxed);
        let is_drained = self.handed.fetch_sub(bytes, Ordering::AcqRel) == bytes;
        self.release(bytes);
        if is_drained {
            self.drained.wake();
        }
    }

    /// Whether the library has something of it that the client did not take.
    pub(crate) fn is_waiting(&self) -> bool {
        self.handed.load(Ordering::Acquire) > 0
    }

    /// When the client took the last of it, in milliseconds of the connection.
    pub(crate) fn moved_ms(&self) -> u64 {
        self.moved_ms.load(Ordering::Relaxed)
    }

    /// Waits until there has been something for the client for too long of which it took nothing. To be
    /// polled in the task of the stream, after the stream: what that hands over is seen then.
    pub(crate) async fn until_stalled(&self) {
        let mut clock: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|context| {
            loop {
                if !self.is_waiting() {
                    return Poll::Pending;
                }
                let due = self.connection.at_ms(self.moved_ms() + STALL_MS_MAX);
                let clock = clock.get_or_insert_with(|| Box::pin(sleep_until(due)));
                ready!(clock.as_mut().poll(context));
                if Instant::now() >= due {
                    return Poll::Ready(());
                }
                // It was set for bytes that have been taken since.
                clock.as_mut().reset(due);
            }
        })
        .await;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.release(*self.charged.get_mut());
    }
}

/// Whether much waits of what the client of a connection was answered, beside what each request takes.
fn is_behind(connection: &Connection) -> bool {
    connection.unsent_bytes() > connection.open_count() * REQUEST_BYTES + BEHIND_BYTES
}

/// The body of an answer, in pieces whose way is followed.
pub(crate) struct Sent {
    body: Body,
    answer: Option<Arc<Answer>>,
    /// What the body gave and was not handed out yet.
    rest: Bytes,
    /// Whether all of it was counted when it began.
    is_counted: bool,
    /// Whether it ends when the client has taken all of it.
    ends_last: bool,
    _open: Open,
}

impl Sent {
    /// The answer to an open request, with what is known of it so far, if it is counted in any case, and what
    /// it takes beside what is sent of it, in bytes.
    pub(crate) fn new(body: Body, open: Open, answer: Option<Arc<Answer>>, made_from: usize) -> Self {
        let exact = body.size_hint().exact();
        let answer = match answer {
            Some(answer) => Some(answer),
            None if exact.is_some_and(|bytes| bytes <= UNCOUNTED_BYTES_MAX) => None,
            None => Some(Answer::new(open.connection())),
        };
        if let Some(answer) = &answer {
            let counted = exact.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
            answer.charge(counted.unwrap_or(made_from));
        }
        let ends_last = open.connection().is_http2()
            && (exact.is_none_or(|bytes| bytes > ENDS_AT_ONCE_BYTES_MAX) || is_behind(open.connection()));
        Self { body, answer, rest: Bytes::new(), is_counted: exact.is_some(), ends_last, _open: open }
    }

    fn piece(&mut self) -> Piece {
        let bytes = self.rest.split_to(self.rest.len().min(PIECE_BYTES_MAX));
        if let Some(answer) = &self.answer {
            answer.hand(bytes.len());
        }
        Piece { bytes, answer: self.answer.clone() }
    }
}

impl HttpBody for Sent {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        let this = &mut *self;
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(this.piece()))));
        }
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return this.poll_end(context),
        };
        let trailers = match frame.into_data() {
            Ok(bytes) => {
                if let (Some(answer), false) = (&this.answer, this.is_counted) {
                    answer.charge(bytes.len());
                }
                this.rest = bytes;
                return Poll::Ready(Some(Ok(Frame::data(this.piece()))));
            }
            Err(other) => other.into_trailers().unwrap_or_default(),
        };
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        !self.ends_last && self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole.set_lower(hint.lower() + rest);
        whole
    }
}

impl Sent {
    /// The end, as soon as the client has taken all that was handed out.
    fn poll_end<T>(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(answer) = self.answer.as_ref().filter(|answer| self.ends_last && answer.is_waiting()) else {
            return Poll::Ready(None);
        };
        answer.drained.register(context.waker());
        // It may have been taken before anybody knew whom to wake.
        if answer.is_waiting() { Poll::Pending } else { Poll::Ready(None) }
    }
}

/// A piece of an answer, in the hands of the HTTP library.
pub(crate) struct Piece {
    bytes: Bytes,
    answer: Option<Arc<Answer>>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let (Some(answer), 1..) = (&self.answer, count) {
            answer.gone(count);
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let (Some(answer), left @ 1..) = (&self.answer, self.bytes.len()) {
            answer.gone(left);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;
    use std::time::Duration;

    use futures_util::stream;
    use tokio::time::{sleep, timeout};

    use super::*;

    fn connection(is_http2: bool) -> Arc<Connection> {
        Connection::new(true, is_http2, None, Arc::default())
    }

    fn sent(connection: &Arc<Connection>, body: Body) -> Sent {
        let answer = connection.is_http2().then(|| Answer::new(connection));
        Sent::new(body, connection.open(), answer, 0)
    }

    async fn next(sent: &mut Sent) -> Option<Piece> {
        let frame = poll_fn(|context| Pin::new(&mut *sent).poll_frame(context)).await;
        frame.map(|frame| frame.unwrap().into_data().ok().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_counted_until_it_is_taken_and_ends_last() {
        let connection = connection(true);
        let mut sent = sent(&connection, Body::from(vec![7; 40_000]));
        assert_eq!(connection.unsent_bytes(), REQUEST_BYTES + 40_000);
        assert_eq!(sent.size_hint().exact(), Some(40_000));
        let mut pieces = Vec::new();
        for expected in [PIECE_BYTES_MAX, PIECE_BYTES_MAX, 40_000 - 2 * PIECE_BYTES_MAX] {
            let piece = next(&mut sent).await.unwrap();
            assert_eq!(piece.remaining(), expected);
            assert!(!sent.is_end_stream());
            pieces.push(piece);
        }
        assert_eq!(connection.unsent_bytes(), REQUEST_BYTES + 40_000);
        assert!(timeout(Duration::from_secs(9), next(&mut sent)).await.is_err(), "nothing was taken");
        pieces[0].advance(100);
        assert_eq!(connection.unsent_bytes(), REQUEST_BYTES + 39_900);
        // Dropped as they are when the client resets the stream.
        let taken = async {
            sleep(Duration::from_secs(1)).await;
            pieces.clear();
        };
        let (end, ()) = tokio::join!(next(&mut sent), taken);
        assert!(end.is_none());
        assert_eq!(connection.unsent_bytes(), REQUEST_BYTES);
        drop(sent);
        assert_eq!((connection.unsent_bytes(), connection.open_count()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_answer_ends_at_once_and_a_stream_is_counted_as_it_comes() {
        let connection = connection(true);
        let mut small = sent(&connection, Body::from("small"));
        let piece = next(&mut small).await.unwrap();
        assert!(small.is_end_stream());
        drop(small);
        // Its stream is over, and its bytes are still there.
        assert_eq!(connection.unsent_bytes(), REQUEST_BYTES + 5);
        drop(piece);
        assert_eq!(connection.unsent_bytes(), 0);

        // Where much waits it ends when it was taken: its stream alone can be ended if it is not.
        let large = sent(&connection, Body::from(vec![0; BEHIND_BYTES + 1]));
        let mut small = sent(&connection, Body::from("small"));
        let piece = next(&mut small).await.unwrap();
        assert!(!small.is_end_stream());
        drop((large, small, piece));

        let frames = stream::iter([Ok::<_, Infallible>("one"), Ok("three")]);
        let mut streamed = sent(&connection, Body::from_stream(frames));
        assert_eq!(connection.unsent_bytes(), REQUEST_BYTES);
        let one = next(&mut streamed).await.unwrap();
        assert_eq!(connection.unsent_bytes(), REQUEST_BYTES + 3);
        drop(one);
        let three = next(&mut streamed).await.unwrap();
        assert_eq!(connection.unsent_bytes(), REQUEST_BYTES + 5);
        drop((streamed, three));
        assert_eq!(connection.unsent_bytes(), 0);
    }

    #[tokio::test]
    async fn one_answer_at_a_time_is_counted_if_it_is_large_or_made_from_what_is() {
        let connection = connection(false);
        let small = sent(&connection, Body::from(vec![0; 4 * 1024]));
        assert_eq!(connection.unsent_bytes(), 0);
        let large = sent(&connection, Body::from(vec![0; 4 * 1024 + 1]));
        assert_eq!(connection.unsent_bytes(), 4 * 1024 + 1);
        drop((small, large));
        let mut compressed = Response::new(());
        compressed.extensions_mut().insert(MadeFrom::body(&Body::from(vec![0; 100_000])).unwrap());
        compressed.headers_mut().insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        let made_from = MadeFrom::bytes(&mut compressed);
        let body = Body::from_stream(stream::iter([Ok::<_, Infallible>("short")]));
        let sent = Sent::new(body, connection.open(), None, made_from);
        assert_eq!(connection.unsent_bytes(), 100_000 + COMPRESSOR_BYTES);
        drop(sent);
        assert_eq!(connection.unsent_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_stalls_when_nothing_is_taken_and_not_while_little_is_or_nothing_is_there() {
        let connection = connection(true);
        let answer = Answer::new(&connection);
        let hour = Duration::from_secs(3_600);
        assert!(timeout(hour, answer.until_stalled()).await.is_err(), "nothing is there");
        let body = Body::from(vec![0; 1_000]);
        let mut sent = Sent::new(body, connection.open(), Some(Arc::clone(&answer)), 0);
        let mut piece = next(&mut sent).await.unwrap();
        let slowly = async {
            for _ in 0..10 {
                sleep(Duration::from_secs(29)).await;
                piece.advance(1);
            }
            Instant::now()
        };
        let stalled = async {
            answer.until_stalled().await;
            Instant::now()
        };
        let (last_taken, stalled) = tokio::join!(slowly, stalled);
        let after = stalled - last_taken;
        assert!((29_990..=30_010).contains(&after.as_millis()), "{after:?}");
    }
}
